"""The processes of this run: found out once, when somebody asks."""

from __future__ import annotations

import functools

from tinygrad_rnn.parallel.launcher import mpi
from tinygrad_rnn.parallel.world import World


@functools.cache
def world() -> World:
    """The processes that a launcher of MPI started with this one, or this one alone; the same object at each call.

    With several it takes care that their threads do not take the processors from one another, and that an error that
    nobody catches in one ends all. RuntimeError if there is a launcher, and MPI is missing or another one than its own.
    """
    found = mpi()
    if found is None:
        return World()
    from tinygrad_rnn.parallel.processes import Processes  # noqa: PLC0415 (one alone needs none of it)

    return Processes(found)
