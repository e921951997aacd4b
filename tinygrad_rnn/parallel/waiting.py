"""Waiting for the other processes: without taking a processor from them for long, and with a word about who is missing.

An MPI that waits looks out for messages without a pause. Where processes share processors, that takes them from the one
that is waited for.
"""

from __future__ import annotations

import os
import sys
import time

from collections.abc import Callable
from typing import Any

EAGER = 0.01  # seconds: so long it looks again and again; then it sleeps between two looks
NAP = 1e-4
PATIENCE = 60.0  # seconds after which it says who is missing, and again after as long
LOOK = 0.5  # seconds between two looks at what the others say about themselves
yield_processor = getattr(os, "sched_yield", lambda: time.sleep(0))


def _to_standard_error(line: str) -> None:
    sys.stderr.write(f"tinygrad-rnn: {line}\n")
    sys.stderr.flush()


class Waiting:
    """Waits of this process for sums that all come to, in the same order.

    comm: a communicator for this alone. Who has waited for long sends every other process the number of its wait, and
    so does who is asked while it waits for the same: those that do not answer are missing.
    """

    def __init__(self, mpi: Any, comm: Any, say: Callable[[str], None] = _to_standard_error):
        self.mpi, self.comm, self.say = mpi, comm, say
        self.names = comm.allgather(mpi.Get_processor_name())
        self.count = 0

    def wait(self, request: Any) -> None:
        """Until a request of MPI is complete."""
        self.count += 1
        if request.Test():
            return
        start = time.monotonic()
        while not request.Test():
            if time.monotonic() - start > EAGER:
                self._wait_long(request, start)
                return
            yield_processor()

    def _wait_long(self, request: Any, start: float) -> None:
        roll = RollCall(self.mpi, self.comm, self.count)
        looked = asked = start
        while not request.Test():
            time.sleep(NAP)
            now = time.monotonic()
            if now - looked > LOOK:
                looked = now
                roll.answer()
            if now - asked > PATIENCE:
                asked = now
                roll.ask()
            if roll.asked and now - asked > 4 * LOOK:
                self._name_missing(roll.missing(), now - start)

    def _name_missing(self, missing: list[int], seconds: float) -> None:
        """Said by the first one of those that wait."""
        size = self.comm.size
        here = [rank for rank in range(size) if rank not in missing]
        if not missing or here[0] != self.comm.rank:
            return
        names = ", ".join(f"{rank} ({self.names[rank]})" for rank in missing[:8]) + (", …" if len(missing) > 8 else "")
        others = "1 other waits" if len(here) == 1 else f"{len(here)} others wait"
        self.say(f"rank {names} of {size} has not come to a sum for {seconds:.0f} s; {others}")


class RollCall:
    """Which processes are at the wait of a certain number."""

    def __init__(self, mpi: Any, comm: Any, number: int):
        self.mpi, self.comm, self.tag = mpi, comm, number % 32768  # the least that MPI lets a tag go up to
        self.here, self.told, self.asked = {comm.rank}, {comm.rank}, False

    def ask(self) -> None:
        """Tell all others that this process waits."""
        self.answer()
        self.asked = True
        self._tell(set(range(self.comm.size)))

    def answer(self) -> None:
        """Take note of who else waits for the same, and tell them that this process does too."""
        status = self.mpi.Status()
        while self.comm.Iprobe(self.mpi.ANY_SOURCE, self.mpi.ANY_TAG, status):
            source, tag = status.source, status.tag
            self.comm.Recv(bytearray(0), source, tag)
            if tag == self.tag:  # others are of waits that are over
                self.here.add(source)
        self._tell(self.here)

    def missing(self) -> list[int]:
        """Who has not answered so far."""
        self.answer()
        self.asked = False
        return sorted(set(range(self.comm.size)) - self.here)

    def _tell(self, ranks: set[int]) -> None:
        for rank in sorted(ranks - self.told):
            self.comm.Isend(bytearray(0), rank, self.tag).Free()
            self.told.add(rank)
