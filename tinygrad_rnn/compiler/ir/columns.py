"""Columns: the vocabulary of parts and packs, in which slices and joins along the last axis are said."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from tinygrad_rnn.compiler.ir.circuit import Circuit
from tinygrad_rnn.compiler.ir.value import Value


def remake(c: Circuit, v: Value, args: tuple) -> Value:
    """The operation of v on other arguments. Parts, packs and transposes are said as simply as can be; no split."""
    x: Any = args[0] if args else None
    if v.op == "part":
        return part(c, x, **v.static)
    if v.op == "pack":
        return pack(c, list(args))
    if v.op == "permute":
        return permute(c, v, args, False)
    if v.op == "tsum" and x.op == "part" and x.static["axis"] == -1:
        return part(c, c.make("tsum", x.args[0]), **x.static)
    return v if v.op == "zeros" else c.remake(v, args)


# ---- columns --------------------------------------------------------------------------------------------------------


def spans(v: Value) -> Iterator[tuple[Value, int, int]]:
    """(piece, first column, last column + 1) for the pieces of a pack, or for the one that a value is."""
    at = 0
    for p in v.args if v.op == "pack" else (v,):
        yield p, at, at + p.shape[-1]
        at += p.shape[-1]


def part(c: Circuit, x: Value, lo: int, hi: int, axis: int = -1) -> Value:
    """x[..., lo:hi] (axis -1: columns; -2: rows), not of a pack, a transpose or a part if it can be said without."""
    if (lo, hi) == (0, x.shape[axis]):
        return x
    if x.op == "part" and x.static["axis"] == axis:
        return part(c, x.args[0], x.static["lo"] + lo, x.static["lo"] + hi, axis)
    if x.op == "part" and axis == -2:  # columns of the rows, so that `pack` sees columns that are neighbours
        return part(c, part(c, x.args[0], lo, hi, -2), x.static["lo"], x.static["hi"])
    if is_transpose(x):
        return transpose(c, part(c, x.args[0], lo, hi, -3 - axis))
    if x.op == "zeros":
        shape = list(x.shape)
        shape[axis] = hi - lo
        return c.zeros(tuple(shape), x.dtype)
    if x.op == "pack" and axis == -1:
        pieces = [(p, max(lo, a), min(hi, b), a) for p, a, b in spans(x) if max(lo, a) < min(hi, b)]
        return pack(c, [part(c, p, a - at, b - at) for p, a, b, at in pieces])
    return c.make("part", x, lo=lo, hi=hi, axis=axis)


def pack(c: Circuit, pieces: list[Value]) -> Value:
    """The pieces side by side along the last axis."""
    out: list[Value] = []
    for p in (q for piece in pieces for q in (piece.args if piece.op == "pack" else (piece,))):
        joined = _join(c, out[-1], p) if out else None
        if joined is not None:
            out[-1] = joined
        elif p.shape[-1] or len(pieces) == 1:
            out.append(p)
    if not out:  # no columns at all
        return pieces[0]
    return out[0] if len(out) == 1 else c.make("pack", *out)


def _join(c: Circuit, a: Value, b: Value) -> Value | None:
    """Two neighbours as one value, if they are neighbours in another one too."""
    if a.op == b.op == "zeros":
        return c.zeros((*a.shape[:-1], a.shape[-1] + b.shape[-1]), a.dtype)
    parts = a.op == b.op == "part" and a.args == b.args and a.static["axis"] == b.static["axis"] == -1
    if parts and a.static["hi"] == b.static["lo"]:
        return part(c, a.args[0], a.static["lo"], b.static["hi"])
    return None


def is_transpose(v: Any) -> bool:
    """Is it the transpose of a matrix?"""
    return isinstance(v, Value) and v.op == "permute" and v.static["axes"] == (1, 0)


def transpose(c: Circuit, x: Value) -> Value:
    """xᵀ of a matrix."""
    return x.args[0] if is_transpose(x) else c.make("permute", x, axes=(1, 0))


def columns(key: Any, shape: tuple[int, ...]) -> tuple[int, int] | None:
    """(lo, hi) if the key means x[..., lo:hi], else None."""
    key = key if isinstance(key, tuple) else (key,)
    if Ellipsis in [k for k in key if k is Ellipsis]:
        at = next(i for i, k in enumerate(key) if k is Ellipsis)
        key = (*key[:at], *(slice(None),) * (len(shape) - len(key) + 1), *key[at + 1 :])
    if len(key) != len(shape) or not all(isinstance(k, slice) and k == slice(None) for k in key[:-1]):
        return None
    last = key[-1]
    if not isinstance(last, slice) or last.step not in (None, 1):
        return None
    lo, hi, _ = last.indices(shape[-1])
    return (lo, hi) if lo < hi else None


def is_columns(u: Value | None) -> bool:
    """Does it take columns of its operand?"""
    return u is not None and (
        (u.op == "part" and u.static["axis"] == -1)
        or (u.op == "getitem" and columns(u.static["key"], u.args[0].shape) is not None)
    )


def permute(c: Circuit, v: Value, args: tuple, _: bool) -> Value:
    """Axes in another order, said as simply as can be: nothing, one permutation, or zeros."""
    x, axes = args[0], v.static["axes"]
    if x.op == "permute":
        x, axes = x.args[0], tuple(x.static["axes"][k] for k in axes)
    if x.op == "zeros":
        return c.zeros(v.shape, v.dtype)
    return x if axes == tuple(range(len(axes))) else c.make("permute", x, axes=axes)
