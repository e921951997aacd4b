"""What is copied to put a value together: the pieces of a pack, a stack, a concatenation, and a scattered value."""

from __future__ import annotations

import math

from collections.abc import Iterator
from typing import Any

from tinygrad_rnn.compiler.ir.columns import spans
from tinygrad_rnn.compiler.ir.value import Value
from tinygrad_rnn.compiler.schedule.schedule import NotFusable, Schedule
from tinygrad_rnn.compiler.schedule.views import is_view


def is_put_together(v: Value) -> bool:
    """Is it made of copies alone? A scattered value is if a slice says where it goes."""
    return v.op in ("pack", "stack", "concat") or (
        v.op == "scatter" and is_view(Value("getitem", (v,), v.static, (), v.dtype, True))
    )


def copies(s: Schedule, v: Value) -> Iterator[tuple[Any, Value]]:
    """(a value or a number, the view of v that it is copied to), in this order. A piece of a pack that is computed in
    its columns needs no copy."""
    if v.op == "pack":
        for p, lo, hi in spans(v):
            if p.op == "zeros" or s.where(p) != s.place[v].viewed("part", -1, lo, hi):
                yield p, _view(v, "part", p.shape, axis=-1, lo=lo, hi=hi)
        return
    if v.op == "scatter":
        if math.prod(v.args[0].shape) != math.prod(v.shape):
            yield 0.0, v
        yield v.args[0], _view(v, "getitem", v.args[0].shape, key=v.static["key"])
        return
    axis, at = v.static.get("axis", 0), 0
    for p in v.args:
        if not isinstance(p, Value):
            raise NotFusable(f"{v.op} of a constant array has no form in loops", v)
        n = 1 if v.op == "stack" else p.shape[axis]
        key = (*(slice(None),) * axis, at if v.op == "stack" else slice(at, at + n))
        yield p, _view(v, "getitem", p.shape, key=key)
        at += n


def _view(v: Value, op: str, shape: tuple[int, ...], **static: Any) -> Value:
    return Value(op, (v,), static, shape, v.dtype, v.moves)
