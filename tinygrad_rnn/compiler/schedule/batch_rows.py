"""Can the rows of a batch be shared out, because each is computed from the same row of all that moves?"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from tinygrad_rnn.compiler.ir.value import Value
from tinygrad_rnn.compiler.schedule.dataflow import Dataflow
from tinygrad_rnn.compiler.schedule.schedule import Schedule
from tinygrad_rnn.compiler.schedule.views import is_view


def by_rows(s: Schedule) -> bool:
    """Is each row of the batch computed from the same row of what moves?"""
    flow, values = s.flow, list(s.lifetimes.position)
    B = flow.circuit.x.shape[0]
    computed = [v for v in values if flow.moves(v)]
    read = [a for v in computed for a in flow.reads(v) if flow.moves(a) and a not in flow.accumulating]
    views = [a for v in read for a in _looked_through(v)]
    summed = [a for v in values if v.op == "tsum" for a in _summed(v.args[0], flow)]
    moving = (*computed, *views, *flow.accumulating)
    return all(v.shape[:1] == (B,) and _keeps_rows(v, flow, B) for v in moving) and all(
        _has_rows(v, flow, B) for v in summed
    )


def _looked_through(a: Value) -> Iterator[Value]:
    """A value; of a view, also what it looks at, to the value that is no view."""
    yield a
    while is_view(a):
        a = a.args[0]
        yield a


def _summed(g: Value, flow: Dataflow) -> list[Value]:
    """What a sum over time adds up the products of, or adds up."""
    if not flow.contracted(g) or g.op == "sum":
        return [g.args[0] if flow.contracted(g) else g]
    a, b = g.args
    if g.op == "correlate":
        return [a, b]
    return [a.args[0] if len(g.shape) == 2 else a, b]


def _has_rows(v: Value, flow: Dataflow, B: int) -> bool:
    """Are its rows those of the batch, or as many for each of these, one after the other?"""
    if not flow.moves(v):
        return False
    if v.op == "reshape" and v.shape[:1] != (B,):
        source = v.args[0]
        return bool(v.shape) and v.shape[0] % B == 0 and source.shape[:1] == (B,) and _has_rows(source, flow, B)
    return v.shape[:1] == (B,) and (not is_view(v) or (_keeps_rows(v, flow, B) and _has_rows(v.args[0], flow, B)))


def _keeps_rows(v: Value, flow: Dataflow, B: int) -> bool:
    if v.op in ("input", "zeros"):
        return True
    if v.pointwise or v.op in ("carry", "pack", "copy"):
        return all(len(a.shape) == len(v.shape) and a.shape[0] == B for a in v.values if flow.moves(a))
    if v.op == "matmul":
        return _product_keeps_rows(v, flow)
    return v.op in RULES and RULES[v.op](v)


def _product_keeps_rows(v: Value, flow: Dataflow) -> bool:
    if len(v.values) < 2 or len(v.args[0].shape) != len(v.shape):
        return False
    a, b = v.args
    if len(b.shape) == len(v.shape) > 2:
        return a.shape[0] == b.shape[0] == v.shape[0]
    return flow.moves(a) and len(b.shape) == 2 and not flow.moves(b)


def _key_keeps_rows(v: Value) -> bool:
    key = v.static["key"]
    first = key[0] if isinstance(key, tuple) else key
    return isinstance(first, slice) and first == slice(None)


RULES: dict[str, Callable[[Value], bool]] = {
    "sum": lambda v: 0 not in v.static["axis"],
    "max": lambda v: 0 not in v.static["axis"],
    "min": lambda v: 0 not in v.static["axis"],
    "stack": lambda v: v.static["axis"] != 0,
    "concat": lambda v: v.static["axis"] != 0,
    "part": lambda v: v.static["axis"] == -1 and len(v.shape) > 1,
    "permute": lambda v: v.static["axes"][0] == 0,
    "getitem": _key_keeps_rows,
    "scatter": _key_keeps_rows,
    "convolve": lambda v: not v.args[1].moves,
    "deconvolve": lambda v: not v.args[1].moves,
    "reshape": lambda v: v.args[0].shape[:1] == v.shape[:1],
    "broadcast_to": lambda v: v.args[0].shape[:1] == v.shape[:1] and len(v.args[0].shape) == len(v.shape),
}
