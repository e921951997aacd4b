"""Workers: threads that share out the rows of a batch.

A sleeping thread takes 50 microseconds to wake, as long as a whole layer of a small network, and it may wake on the
very processor of the one that gave it work. So a worker that has done its job looks out for the next one for a while
before it goes to sleep, in machine code and without Python's lock; after a moment, it lets others have the processor
between two looks.
"""

from __future__ import annotations

import ctypes
import os
import threading

from collections.abc import Callable, Sequence
from itertools import chain
from queue import SimpleQueue
from typing import Any

from tinygrad_rnn.compiler.llvm.machine import Machine
from tinygrad_rnn.compiler.llvm.workers_code import AWAKE, source

ROWS = 8  # of the batch, for each worker at least: as many as a tile of a product is high
when_started: list[Callable[[], None]] = []  # what to do once there are workers


def count(B: int, least: int = ROWS) -> int:
    """How many share a batch, each at least so many rows of it: at most one for each processor that we may use, or for
    what OMP_NUM_THREADS says.
    """
    limit = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0]
    here = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(int(limit) if limit.isdecimal() and int(limit) else here, here, B // least))


def all_of_them() -> int:
    """How many share a job that is not of rows: the workers, and the caller; one, if none has started."""
    return 1 + len(_team().workers) if started() else 1


def started() -> bool:
    """Are there workers, because a compiled layer has run?"""
    return _Process.team is not None


class Job:
    """Work in phases, each of which is shared out, and done by all before the next one begins.

    phases: for each the machine code of f(table, first, last, number), for Python and as an address, its table, and
    the (first, last) of each part; the first part is the caller's
    """

    def __init__(self, *phases: tuple[Callable[..., None], int, int, Sequence[tuple[int, int]]]):
        self.phases, self.parts = phases, max(len(ranges) for *_, ranges in phases)
        numbers = [len(phases), self.parts]
        for _, address, table, ranges in phases:
            numbers += [address, table, *chain(*ranges), *[0, 0] * (self.parts - len(ranges))]
        self.numbers = (ctypes.c_int64 * len(numbers))(*numbers)
        self.where = ctypes.addressof(self.numbers)

    def alone(self) -> None:
        """One after the other."""
        for function, _, table, ranges in self.phases:
            for i, (first, last) in enumerate(ranges):
                function(table, first, last, i)


def run(job: Job) -> None:
    """Do a job together."""
    team = _team() if job.parts > 1 else None
    if team is None or len(team.workers) < job.parts - 1 or not team.lock.acquire(blocking=False):  # they are busy
        job.alone()
        return
    done = False
    try:
        team.do(job.where, team.where)
        done = not team.numbers[0]
        if not done:
            team.wake(job)
            team.lead(job.where, team.where)
    finally:
        try:
            if not done:  # also when somebody interrupts us: they write into memory that will be somebody else's
                try:
                    team.wake(job)
                finally:
                    team.settle(job.where, team.where)
        finally:
            team.lock.release()


class Worker:
    """A thread, and the numbers through which it is given jobs."""

    def __init__(self, code: Any, number: int):
        self.shared = (ctypes.c_int64 * (64 + 8))()
        first = ctypes.addressof(self.shared)
        self.where = first + -first % 64  # whole cache lines
        self.awake = ctypes.c_int64.from_address(self.where + 8 * AWAKE)
        self.code = code  # must outlive the thread that runs it
        self.serve = code.function("serve", 1)
        self.bell: SimpleQueue[None] = SimpleQueue()
        threading.Thread(target=self._work, name=f"tinygrad_rnn-{number}", daemon=True).start()

    def _work(self) -> None:
        while True:
            self.bell.get()
            self.serve(self.where)


class Team:
    """The workers of a process.

    numbers  does one of them sleep that was given a job? and where the numbers of each are
    """

    def __init__(self) -> None:
        self.code = code = Machine(source())
        self.lock = threading.Lock()
        self.do, self.lead, self.settle = (code.function(name, 2) for name in ("do", "lead", "settle"))
        self.workers = [Worker(code, i) for i in range(1, count(1 << 30))]
        self.numbers = (ctypes.c_int64 * (1 + len(self.workers)))(0, *[w.where for w in self.workers])
        self.where = ctypes.addressof(self.numbers)
        for function in when_started if self.workers else ():
            function()

    def wake(self, job: Job) -> None:
        """Wake those who sleep and have a part of a job."""
        for worker in self.workers[: job.parts - 1]:
            if not worker.awake.value:
                worker.bell.put(None)


class _Process:
    """The team of this process, made by the first who needs it."""

    team: Team | None = None
    lock = threading.Lock()


def _team() -> Team:
    if _Process.team is None:
        with _Process.lock:
            if _Process.team is None:
                _Process.team = Team()
    return _Process.team


def _forget() -> None:
    """A forked process has none of the threads of its parent."""
    _Process.team, _Process.lock = None, threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)
