"""What a worker runs: machine code that waits for a job, does its part of it, and says so; no Python in between."""

from __future__ import annotations

import functools

from typing import Any

import numpy as np

from tinygrad_rnn.compiler.llvm.assembly import I32, I64, VOID, Module, function
from tinygrad_rnn.compiler.llvm.builder import Code
from tinygrad_rnn.compiler.llvm.host import YIELD

MOMENT = 4000  # looks without a break: 100 to 200 microseconds
PATIENCE = MOMENT + 10_000  # looks before a worker goes to sleep: some milliseconds, as between the calls of a batch
# The numbers that two threads share, each in a cache line of its own; the last ones are written and read together
TICKET, DONE, AWAKE, HELD, FUNCTION = range(0, 40, 8)
TABLE, FIRST, LAST, NUMBER = range(FUNCTION + 1, FUNCTION + 5)


# ---- machine code ---------------------------------------------------------------------------------------------------


@functools.cache
def source() -> str:
    """The LLVM module of all that workers run."""
    module = Module("workers")
    for write in (_write_publish, _write_wait, _write_settle, _write_lead, _write_do, _write_serve):
        write(module)
    return str(module)


def _write_publish(module: Module) -> None:
    """publish(numbers, phase, number): give a worker its part of a phase"""
    code = Code(module, "publish", 3, np.float32)
    where, phase, number = code.arguments
    part = code.add(phase, code.mul(number, 16))
    job = *(code.load_integer(phase, i) for i in (0, 1)), *(code.load_integer(part, i) for i in (2, 3)), number
    for at, value in zip((FUNCTION, TABLE, FIRST, LAST, NUMBER), job, strict=True):
        _put(code, where, at, value)
    _put(code, where, TICKET, code.b.add(_get(code, where, TICKET), code.integer(1)))
    code.finish()


def _write_wait(module: Module) -> None:
    """wait(numbers): until the last job is done"""
    code = Code(module, "wait", 1, np.float32)
    (where,) = code.arguments
    b = code.b
    looks = code.top.alloca(I64)
    look, end = code.function.block("look"), code.function.block("end")
    b.store(code.integer(0), looks)
    b.branch(look)
    b.block = look
    _pause(code)
    more = b.add(b.load(looks), code.integer(1))
    b.store(more, looks)
    with b.if_then(
        b.icmp_signed(">", more, code.integer(MOMENT))
    ):  # on a busy machine, let the worker have the processor
        b.call(code.external(YIELD, I32, []), [])
    b.cbranch(b.icmp_signed("==", _get(code, where, DONE), _get(code, where, TICKET)), end, look)
    b.block = end
    code.finish()


def _write_settle(module: Module) -> None:
    """settle(job, workers): wait until all have done their parts, and let them sleep when they like"""
    code = Code(module, "settle", 2, np.float32)
    job, workers = code.arguments
    with code.loop(1, code.load_integer(job, 1)) as i:
        where = _worker(code, workers, i)
        _call(code, "wait", where)
        _put(code, where, HELD, code.integer(0))
    code.finish()


def _write_lead(module: Module) -> None:
    """lead(job, workers): the caller's part of a job whose first phase has started; see `Job`"""
    code = Code(module, "lead", 2, np.float32)
    job, workers = code.arguments
    parts = code.load_integer(job, 1)
    kind = function(VOID, [I64] * 4)
    with code.loop(0, code.load_integer(job)) as k:
        phase = code.add(job, 16, code.mul(k, code.add(16, code.mul(parts, 16))))
        with code.b.if_then(code.b.icmp_signed(">", k, code.integer(0))):
            with code.loop(1, parts) as i:
                _call(code, "wait", _worker(code, workers, i))
            with code.loop(1, parts) as i:
                _call(code, "publish", _worker(code, workers, i), phase, i)
        own = [code.load_integer(phase, 1), code.load_integer(phase, 2), code.load_integer(phase, 3), code.integer(0)]
        code.b.call(code.b.inttoptr(code.load_integer(phase), kind), own)
    code.finish()


def _write_do(module: Module) -> None:
    """do(job, workers): start a job; if all workers are awake, do it, else say so in the first of the workers' numbers

    From its start to `settle` a worker does not fall asleep: nobody could wake it between two phases.
    """
    code = Code(module, "do", 2, np.float32)
    job, workers = code.arguments
    b, one, zero = code.b, code.integer(1), code.integer(0)
    sleepers = b.inttoptr(workers, f"{I64}*")
    b.store(zero, sleepers)
    with code.loop(1, code.load_integer(job, 1)) as i:
        where = _worker(code, workers, i)
        _put(code, where, HELD, one)
        _call(code, "publish", where, code.add(job, 16), i)
        with b.if_then(b.icmp_signed("==", _get(code, where, AWAKE), zero)):
            b.store(one, sleepers)
    with b.if_then(b.icmp_signed("==", b.load(sleepers), zero)):
        _call(code, "lead", job, workers)
        _call(code, "settle", job, workers)
    code.finish()


def _write_serve(module: Module) -> None:
    """serve(numbers): do jobs, until none has come for a while"""
    code = Code(module, "serve", 1, np.float32)
    (where,) = code.arguments
    b = code.b
    looks = code.top.alloca(I64)
    awake, look, idle, work, leave, end = (
        code.function.block(n) for n in ("awake", "look", "idle", "work", "leave", "end")
    )
    b.branch(awake)
    b.block = awake
    _put(code, where, AWAKE, code.integer(1))
    b.store(code.integer(0), looks)
    b.branch(look)
    b.block = look
    idling = b.icmp_signed("==", _get(code, where, TICKET), _get(code, where, DONE))
    b.cbranch(idling, idle, work)
    b.block = work
    ticket = _get(code, where, TICKET)
    kind = function(VOID, [I64] * 4)
    b.call(
        b.inttoptr(_get(code, where, FUNCTION), kind), [_get(code, where, at) for at in (TABLE, FIRST, LAST, NUMBER)]
    )
    _put(code, where, DONE, ticket)
    b.store(code.integer(0), looks)
    b.branch(look)
    b.block = idle
    _pause(code)
    more = b.add(b.load(looks), code.integer(1))
    b.store(more, looks)
    with b.if_then(b.icmp_signed(">", more, code.integer(MOMENT))):
        b.call(code.external(YIELD, I32, []), [])
    stays = b.or_(
        b.icmp_signed("<", more, code.integer(PATIENCE)), b.icmp_signed("!=", _get(code, where, HELD), code.integer(0))
    )
    b.cbranch(stays, look, leave)
    b.block = leave  # say so first, and look once more: a job given meanwhile would wait for ever
    _put(code, where, AWAKE, code.integer(0))
    b.cbranch(b.icmp_signed("==", _get(code, where, TICKET), _get(code, where, DONE)), end, awake)
    b.block = end
    code.finish()


def _call(code: Code, name: str, *arguments: Any) -> None:
    code.b.call(code.module.functions[name], arguments)


def _worker(code: Code, workers: Any, i: Any) -> Any:
    """Where the numbers of worker i are."""
    return code.load_integer(code.add(workers, code.mul(i, 8)))


def _get(code: Code, where: Any, at: int) -> Any:
    pointer = code.b.inttoptr(code.add(where, 8 * at), f"{I64}*")
    return code.b.load_atomic(pointer, "seq_cst", 8)


def _put(code: Code, where: Any, at: int, value: Any) -> None:
    pointer = code.b.inttoptr(code.add(where, 8 * at), f"{I64}*")
    code.b.store_atomic(value, pointer, "seq_cst", 8)


def _pause(code: Code) -> None:
    """Tell the processor that we only wait."""
    if code.lanes * code.item > 16:  # x86
        code.b.call(code.intrinsic("x86.sse2.pause", VOID, []), [])
