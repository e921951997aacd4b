"""Can the rows of a batch be shared out, because each is computed from the same row of all that moves?"""

from __future__ import annotations

from collections.abc import Callable

from tinygrad_rnn.compiler.ir.circuit import Circuit
from tinygrad_rnn.compiler.ir.value import Value
from tinygrad_rnn.compiler.schedule.schedule import Schedule, is_view


def by_rows(c: Circuit, s: Schedule) -> bool:
    """Is each row of the batch computed from the same row of what moves?"""
    B = c.x.shape[0]
    computed = [v for v in s.position if s.moves(v) and v.op != "tsum"]
    views = [a for v in computed for a in s.reads(v) if s.moves(a) and a not in s.absorbed]
    summed = [a for v in s.position if v.op == "tsum" for a in _summed(v.args[0], s)]
    return all(v.shape[:1] == (B,) and _keeps_rows(v, s, B) for v in (*computed, *views, *s.absorbed)) and all(
        _has_rows(v, s, B) for v in summed
    )


def _summed(g: Value, s: Schedule) -> list[Value]:
    """What a sum over time adds up the products of, or adds up."""
    if not s.contracted(g) or g.op == "sum":
        return [g.args[0] if s.contracted(g) else g]
    a, b = g.args
    return [a.args[0] if len(g.shape) == 2 else a, b]


def _has_rows(v: Value, s: Schedule, B: int) -> bool:
    """Are its rows those of the batch, or as many for each of these, one after the other?"""
    if not s.moves(v):
        return False
    if v.op == "reshape" and v.shape[:1] != (B,):
        source = v.args[0]
        return bool(v.shape) and v.shape[0] % B == 0 and source.shape[:1] == (B,) and _has_rows(source, s, B)
    return v.shape[:1] == (B,) and (not is_view(v) or (_keeps_rows(v, s, B) and _has_rows(v.args[0], s, B)))


def _keeps_rows(v: Value, s: Schedule, B: int) -> bool:
    if v.op in ("input", "zeros"):
        return True
    if v.pointwise or v.op in ("carry", "pack", "copy"):
        return all(len(a.shape) == len(v.shape) and a.shape[0] == B for a in v.values if s.moves(a))
    if v.op == "matmul":
        return _product_keeps_rows(v, s)
    return v.op in RULES and RULES[v.op](v)


def _product_keeps_rows(v: Value, s: Schedule) -> bool:
    if len(v.values) < 2 or len(v.args[0].shape) != len(v.shape):
        return False
    a, b = v.args
    if len(b.shape) == len(v.shape) > 2:
        return a.shape[0] == b.shape[0] == v.shape[0]
    return s.moves(a) and len(b.shape) == 2 and not s.moves(b)


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
    "reshape": lambda v: v.args[0].shape[:1] == v.shape[:1],
    "broadcast_to": lambda v: v.args[0].shape[:1] == v.shape[:1] and len(v.args[0].shape) == len(v.shape),
}
