"""Workers: threads that share out the rows of a batch.

A sleeping thread takes 50 microseconds to wake, as long as a whole layer of a small network, and it may wake on the
very processor of the one that gave it work. So a worker that has done its job looks out for the next one for a while
before it goes to sleep, in machine code and without Python's lock; after a moment, it lets others have the processor
between two looks.
"""

from __future__ import annotations

import functools
import os
import threading

from collections.abc import Callable
from queue import SimpleQueue
from typing import Any

import numpy as np

from llvmlite import ir

from tinygrad_rnn.compiler.llvm import I32, I64, VOID, YIELD, Code, Machine

ROWS = 8  # of the batch, for each worker at least: as many as a tile of a product is high
MOMENT = 4000  # looks without a break: 100 to 200 microseconds
PATIENCE = MOMENT + 10_000  # looks before a worker goes to sleep: some milliseconds, as between the calls of a batch

when_started: list[Callable[[], None]] = []  # what to do once there are workers

# The numbers that two threads share, each in a cache line of its own
TICKET, DONE, AWAKE, FUNCTION, TABLE, FIRST, LAST, NUMBER = range(0, 64, 8)


def count(B: int) -> int:
    """How many share a batch: at most one for each processor that we may use, or for what OMP_NUM_THREADS says."""
    limit = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0]
    here = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(int(limit) if limit.isdecimal() and int(limit) else here, here, B // ROWS))


def all_of_them() -> int:
    """How many share a job that is not of rows: the workers, and the caller; one, if none has started."""
    return 1 + len(_team().workers) if started() else 1


def started() -> bool:
    """Are there workers, because a compiled layer has run?"""
    return _Process.team is not None


def run(function: Any, address: int, table: int, rows: list[tuple[int, int]]) -> None:
    """function(table, first row, last row, number) for each range of rows, side by side."""
    team = _team() if len(rows) > 1 else None
    if team is None or len(team.workers) < len(rows) - 1 or not team.lock.acquire(blocking=False):  # they are busy
        for i, (first, last) in enumerate(rows):
            function(table, first, last, i)
        return
    busy: list[Worker] = []
    try:
        for i, worker in enumerate(team.workers[: len(rows) - 1], 1):
            busy.append(worker)
            worker.give(address, table, *rows[i], i)
        function(table, *rows[0], 0)
    finally:  # also when somebody interrupts us: they write into memory that will be somebody else's
        try:
            for worker in busy:
                team.wait(worker.where)
        finally:
            team.lock.release()


class Worker:
    """A thread, and the numbers through which it is given jobs."""

    def __init__(self, code: Any, number: int):
        self.shared = np.zeros(64 + 8, np.int64)
        at = -self.shared.ctypes.data % 64 // 8  # whole cache lines
        self.numbers = self.shared[at : at + 64]
        self.where = self.numbers.ctypes.data
        self.code = code  # must outlive the thread that runs it
        self.publish, self.serve = code.function("publish", 6), code.function("serve", 1)
        self.bell: SimpleQueue[None] = SimpleQueue()
        threading.Thread(target=self._work, name=f"tinygrad_rnn-{number}", daemon=True).start()

    def give(self, function: int, table: int, first: int, last: int, number: int) -> None:
        """Start a job, and wake the thread if it sleeps."""
        self.publish(self.where, function, table, first, last, number)
        if not self.numbers[AWAKE]:
            self.bell.put(None)

    def _work(self) -> None:
        while True:
            self.bell.get()
            self.serve(self.where)


class Team:
    """The workers of a process."""

    def __init__(self) -> None:
        self.code = code = Machine(_source())
        self.lock = threading.Lock()
        self.wait = code.function("wait", 1)
        self.workers = [Worker(code, i) for i in range(1, count(1 << 30))]
        for function in when_started if self.workers else ():
            function()


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


# ---- machine code ---------------------------------------------------------------------------------------------------


@functools.cache
def _source() -> str:
    module = ir.Module("workers")
    _write_publish(module)
    _write_serve(module)
    _write_wait(module)
    return str(module)


def _write_publish(module: ir.Module) -> None:
    """publish(numbers, function, table, first, last, number)"""
    code = Code(module, "publish", 6, np.float32)
    where, *job = code.arguments
    for at, value in zip((FUNCTION, TABLE, FIRST, LAST, NUMBER), job, strict=True):
        _put(code, where, at, value)
    _put(code, where, TICKET, code.b.add(_get(code, where, TICKET), code.integer(1)))
    code.finish()


def _write_wait(module: ir.Module) -> None:
    """wait(numbers): until the last job is done"""
    code = Code(module, "wait", 1, np.float32)
    (where,) = code.arguments
    b = code.b
    looks = code.top.alloca(I64)
    look, end = code.function.append_basic_block("look"), code.function.append_basic_block("end")
    b.store(code.integer(0), looks)
    b.branch(look)
    b.position_at_end(look)
    _pause(code)
    more = b.add(b.load(looks), code.integer(1))
    b.store(more, looks)
    with b.if_then(
        b.icmp_signed(">", more, code.integer(MOMENT))
    ):  # on a busy machine, let the worker have the processor
        b.call(code.external(YIELD, I32, []), [])
    b.cbranch(b.icmp_signed("==", _get(code, where, DONE), _get(code, where, TICKET)), end, look)
    b.position_at_end(end)
    code.finish()


def _write_serve(module: ir.Module) -> None:
    """serve(numbers): do jobs, until none has come for a while"""
    code = Code(module, "serve", 1, np.float32)
    (where,) = code.arguments
    b = code.b
    looks = code.top.alloca(I64)
    awake, look, idle, work, leave, end = (
        code.function.append_basic_block(n) for n in ("awake", "look", "idle", "work", "leave", "end")
    )
    b.branch(awake)
    b.position_at_end(awake)
    _put(code, where, AWAKE, code.integer(1))
    b.store(code.integer(0), looks)
    b.branch(look)
    b.position_at_end(look)
    idling = b.icmp_signed("==", _get(code, where, TICKET), _get(code, where, DONE))
    b.cbranch(idling, idle, work)
    b.position_at_end(work)
    ticket = _get(code, where, TICKET)
    kind = ir.FunctionType(VOID, [I64] * 4).as_pointer()
    b.call(
        b.inttoptr(_get(code, where, FUNCTION), kind), [_get(code, where, at) for at in (TABLE, FIRST, LAST, NUMBER)]
    )
    _put(code, where, DONE, ticket)
    b.store(code.integer(0), looks)
    b.branch(look)
    b.position_at_end(idle)
    _pause(code)
    more = b.add(b.load(looks), code.integer(1))
    b.store(more, looks)
    with b.if_then(b.icmp_signed(">", more, code.integer(MOMENT))):
        b.call(code.external(YIELD, I32, []), [])
    b.cbranch(b.icmp_signed("<", more, code.integer(PATIENCE)), look, leave)
    b.position_at_end(leave)  # say so first, and look once more: a job given meanwhile would wait for ever
    _put(code, where, AWAKE, code.integer(0))
    b.cbranch(b.icmp_signed("==", _get(code, where, TICKET), _get(code, where, DONE)), end, awake)
    b.position_at_end(end)
    code.finish()


def _get(code: Code, where: Any, at: int) -> Any:
    pointer = code.b.inttoptr(code.add(where, 8 * at), I64.as_pointer())
    return code.b.load_atomic(pointer, "seq_cst", 8)


def _put(code: Code, where: Any, at: int, value: Any) -> None:
    pointer = code.b.inttoptr(code.add(where, 8 * at), I64.as_pointer())
    code.b.store_atomic(value, pointer, "seq_cst", 8)


def _pause(code: Code) -> None:
    """Tell the processor that we only wait."""
    if code.lanes * code.item > 16:  # x86
        code.b.call(code.intrinsic("x86.sse2.pause", VOID, []), [])
