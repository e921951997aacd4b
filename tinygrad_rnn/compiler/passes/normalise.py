"""Normal form: one GEMM per gate, no slices.

A slice of columns is pushed up to the weights, (x U + h W + b)[:, lo:hi] = x U[:, lo:hi] + h W[:, lo:hi] + b[lo:hi],
as far as nobody reads the whole. Columns side by side (`pack`) are pushed down: op(pack(p, q)) = pack(op(p), op(q)),
pack(p, q) @ W = p @ W₁ + q @ W₂, a @ pack(p, q) = pack(a @ p, a @ q). After this, cells that compute all gates in one
product and cells written gate by gate are the same circuit, and what follows needs no rule twice.
"""

from __future__ import annotations

import itertools

from collections.abc import Callable
from typing import Any

import numpy as np

from tinygrad_rnn.compiler.ir.circuit import Circuit
from tinygrad_rnn.compiler.ir.columns import columns, is_columns, is_transpose, pack, part, permute, spans, transpose
from tinygrad_rnn.compiler.ir.value import Value
from tinygrad_rnn.compiler.passes.spell_einsum import spelled_out


def normalise(c: Circuit) -> None:
    """Bring a circuit into normal form."""
    while True:
        before = c.wanted
        sliced = {v for v, readers in c.users().items() if readers and all(is_columns(u) for u in readers)}

        def visit(v: Value, new: Callable, sliced: set[Value] = sliced) -> Value:
            return _visit(c, v, tuple(map(new, v.args)), bool(v.args) and v.args[0] in sliced)

        c.rebuild(visit)
        if c.wanted == before:
            break


def _visit(c: Circuit, v: Value, args: tuple, sliced: bool) -> Value:
    if v.op in OF_ZEROS and _is_zeros(args[0]):
        like = c.remake(v, args)
        return c.zeros(like.shape, like.dtype)
    rule = RULES.get(v.op)
    made = rule(c, v, args, sliced) if rule else None
    if made is None and v.pointwise:
        made = _pointwise(c, v, args)
    if made is None:
        made = c.remake(v, args)
    return made


# What is 0 where its first argument is.
OF_ZEROS = {
    "neg", "div", "abs", "sign", "sqrt", "tanh", "relu", "erf", "sin", "expm1", "log1p", "floor", "round", "cast",
    "detach", "sum", "max", "min", "cumsum", "reshape", "permute", "broadcast_to", "flip", "getitem", "scatter",
    "gather", "put", "tsum",
}  # fmt: skip

# ---- the rules: what becomes of an operation on new arguments; None: nothing special --------------------------------

Rule = Callable[[Circuit, Value, tuple, bool], "Value | None"]


def _getitem(c: Circuit, v: Value, args: tuple, sliced: bool) -> Value | None:
    cut = columns(v.static["key"], args[0].shape)
    return cut and _cut(c, args[0], *cut, sliced)


def _part(c: Circuit, v: Value, args: tuple, sliced: bool) -> Value:
    if v.static["axis"] != -1:
        return part(c, args[0], **{k: v.static[k] for k in ("lo", "hi", "axis")})
    return _cut(c, args[0], v.static["lo"], v.static["hi"], sliced)


def _cut(c: Circuit, x: Value, lo: int, hi: int, sliced: bool) -> Value:
    """x[..., lo:hi], computed as a slice if nobody reads the whole."""
    if not sliced or (lo, hi) == (0, x.shape[-1]):
        return part(c, x, lo, hi)
    if x.pointwise:
        return c.make(x.op, *(_columns_of(c, a, lo, hi) for a in x.args), primitive=x.primitive, **x.static)
    if x.op == "matmul" and len(x.args[1].shape) == 2:
        return c.make("matmul", x.args[0], part(c, x.args[1], lo, hi))
    return part(c, x, lo, hi)


def _columns_of(c: Circuit, a: Any, lo: int, hi: int) -> Any:
    """The columns of an operand that broadcasts."""
    return a if not isinstance(a, Value) or a.shape[-1:] in ((), (1,)) else part(c, a, lo, hi)


def _scatter(c: Circuit, v: Value, args: tuple, _: bool) -> Value | None:
    cut = columns(v.static["key"], v.shape)
    if cut is None:
        return None
    margin = lambda n: [c.zeros((*v.shape[:-1], n), v.dtype)] if n else []
    return pack(c, [*margin(cut[0]), args[0], *margin(v.shape[-1] - cut[1])])


def _concat(c: Circuit, v: Value, args: tuple, _: bool) -> Value | None:
    if v.static["axis"] != len(v.shape) - 1 or not all(isinstance(a, Value) and a.dtype == v.dtype for a in args):
        return None
    return pack(c, list(args))


def _pointwise(c: Circuit, v: Value, args: tuple) -> Value | None:
    """op(pack(p, q), r) = pack(op(p, r₁), op(q, r₂))"""
    if not any(isinstance(a, Value) and a.op == "pack" and a.shape == v.shape for a in args):
        return None
    cuts = {0, v.shape[-1]}
    for a in args:
        if isinstance(a, Value) and a.op == "pack":
            cuts |= {b for _, _, b in spans(a)}
    pieces = []
    for lo, hi in itertools.pairwise(sorted(cuts)):
        pieces.append(_visit(c, v, tuple([_columns_of(c, a, lo, hi) for a in args]), False))
    return pack(c, pieces)


def _add(c: Circuit, v: Value, args: tuple, _: bool) -> Value | None:
    a, b = args
    if _is_zeros(a) and _is_result(b, v, args):
        return b
    return a if _is_zeros(b) and _is_result(a, v, args) else None


def _sub(c: Circuit, v: Value, args: tuple, _: bool) -> Value | None:
    a, b = args
    if _is_zeros(a) and _is_result(b, v, args):
        return c.make("neg", b)
    return a if _is_zeros(b) and _is_result(a, v, args) else None


def _mul(c: Circuit, v: Value, args: tuple, _: bool) -> Value | None:
    if not any(map(_is_zeros, args)):
        return None
    return c.zeros(np.broadcast_shapes(*map(_shape, args)), v.dtype)


def _shape(a: Any) -> tuple[int, ...]:
    return a.shape if isinstance(a, Value) else ()


def _where(c: Circuit, v: Value, args: tuple, _: bool) -> Value | None:
    zero = lambda a: _is_zeros(a) or repr(a) == "0"
    if not zero(args[1]) or not zero(args[2]):
        return None
    return c.zeros(np.broadcast_shapes(*map(_shape, args)), v.dtype)


def _is_zeros(a: Any) -> bool:
    return isinstance(a, Value) and a.op == "zeros"


def _is_result(a: Any, v: Value, args: tuple) -> bool:
    """Has an argument the shape and dtype of the operation's result? (These arguments may be columns of v's own.)"""
    return isinstance(a, Value) and a.dtype == v.dtype and a.shape == np.broadcast_shapes(*map(_shape, args))


def _matmul(c: Circuit, v: Value, args: tuple, _: bool) -> Value | None:
    a, b = args
    if not (isinstance(a, Value) and isinstance(b, Value)):
        return None
    if "zeros" in (a.op, b.op):
        return c.zeros(v.shape, v.dtype)
    if len(b.shape) != 2:
        return None
    if a.op == "pack":
        terms = [_product(c, p, part(c, b, lo, hi, -2)) for p, lo, hi in spans(a) if p.op != "zeros"]
        total = terms[0] if terms else c.zeros(v.shape, v.dtype)
        for t in terms[1:]:
            total = _sum_of(c, total, t)
        return total
    if b.op == "pack":
        return pack(c, [_product(c, a, p) for p, _, _ in spans(b)])
    if is_transpose(a) and a.args[0].op == "pack" and any(p.op == "zeros" for p in a.args[0].args):  # [p 0]ᵀ g
        g = transpose(c, b)
        return transpose(c, pack(c, [_product(c, g, p) for p, _, _ in spans(a.args[0])]))
    return None


def _product(c: Circuit, a: Value, b: Value) -> Value:
    v = c.make("matmul", a, b)
    return _matmul(c, v, (a, b), False) or v


def _sum_of(c: Circuit, a: Value, b: Value) -> Value:
    v = c.make("add", a, b)
    return _add(c, v, (a, b), False) or _pointwise(c, v, (a, b)) or v


def _sum(c: Circuit, v: Value, args: tuple, _: bool) -> Value | None:
    x, axis = args[0], v.static["axis"]
    if not axis:
        return _reshaped(c, x, v.shape)
    if x.op == "pack" and len(x.shape) - 1 not in axis:
        return pack(c, [c.make("sum", p, **v.static) for p, _, _ in spans(x)])
    return None


def _reshape(c: Circuit, v: Value, args: tuple, _: bool) -> Value:
    return _reshaped(c, args[0], v.shape)


def _reshaped(c: Circuit, x: Value, shape: tuple[int, ...]) -> Value:
    if x.shape == shape:
        return x
    if x.op == "reshape":
        return _reshaped(c, x.args[0], shape)
    if x.op == "zeros":
        return c.zeros(shape, x.dtype)
    if x.op == "pack" and shape and shape[-1] == x.shape[-1]:
        return pack(c, [_reshaped(c, p, (*shape[:-1], p.shape[-1])) for p, _, _ in spans(x)])
    if x.op == "sum" and x.static["keepdims"]:
        axes = x.static["axis"]
        if shape == tuple(n for k, n in enumerate(x.shape) if k not in axes):
            return c.make("sum", *x.args, axis=axes, keepdims=False)
    return c.make("reshape", x, shape=shape)


def _einsum(c: Circuit, v: Value, args: tuple) -> Value | None:
    """Sums of real numbers spelled out; those of integers and booleans have rules of their own."""
    if v.dtype.kind != "f":
        return None
    args = tuple(a if a.dtype == v.dtype else c.make("cast", a, dtype=v.dtype) for a in args)
    return spelled_out(c, args, v.static["spec"])


def _same(c: Circuit, v: Value, args: tuple, _: bool) -> Value | None:
    return args[0] if args[0].dtype == v.dtype else None


RULES: dict[str, Rule] = {
    "getitem": _getitem, "part": _part, "scatter": _scatter, "concat": _concat, "add": _add, "mul": _mul, "sub": _sub,
    "matmul": _matmul, "sum": _sum, "reshape": _reshape, "permute": permute, "detach": _same, "cast": _same,
    "einsum": lambda c, v, args, _: _einsum(c, v, args), "where": _where,
    "pack": lambda c, v, args, _: pack(c, list(args)),
    "zeros": lambda c, v, args, _: v,
}  # fmt: skip


# ---- sums over time -------------------------------------------------------------------------------------------------

# Linear in their only moving argument, and no larger after the sum than before it.
LINEAR = {"permute", "reshape", "neg", "scatter", "broadcast_to", "cast", "flip", "mul", "div", "matmul", "put"}


def over_time(c: Circuit, g: Value) -> Value:
    """Σ over the steps of g. What is linear in its only moving argument is computed after the sum, once."""
    outer: list[tuple[Value, Value]] = []
    while (inner := _moving_alone(g)) is not None:
        outer.append((g, inner))
        g = inner
    if g.op == "zeros":
        total = g
    elif g.op == "pack" or (g.op in ("add", "sub") and _is_sum(g)):
        total = _visit(c, g, tuple(over_time(c, a) for a in g.args), False)
    elif (outer_product := _outer(c, g)) is not None:
        total = c.make("tsum", outer_product)
    elif g.op == "put" and len(g.static["key"]) == 1 and all(a.moves for a in g.values):
        total = c.make("put_all", *g.args, primitive=g.primitive, **g.static)  # at the positions of all steps
    else:
        total = c.make("tsum", g)
    for v, inner in reversed(outer):
        total = _visit(c, v, tuple(total if a is inner else a for a in v.args), False)
    return total


def _moving_alone(g: Value) -> Value | None:
    """The one moving argument of a linear operation."""
    moving = [a for a in g.values if a.moves]
    if g.op not in LINEAR or len(moving) != 1 or (g.op in ("div", "put") and moving[0] is not g.args[0]):
        return None
    a, b = moving[0].dtype, g.dtype  # what is promoted is so before the sum; what is rounded, after it
    rounds = g.op == "cast" and a.kind == b.kind == "f" and a.itemsize > b.itemsize
    return moving[0] if a == b or rounds else None


def _outer(c: Circuit, g: Value) -> Value | None:
    """a bᵀ, written as an elementwise product of columns and rows, as a matrix product: its sum is a contraction."""
    if g.op != "mul" or len(g.shape) < 2 or len(g.values) < 2:
        return None
    for pair in (g.args, g.args[::-1]):
        a, b = (p.args[0] if p.op == "broadcast_to" else p for p in pair)
        column, row = (*g.shape[:-1], 1), (*g.shape[:-2], 1, g.shape[-1])
        if a.moves and b.moves and a.dtype == b.dtype == g.dtype and (a.shape, b.shape) == (column, row):
            return c.make("matmul", a, b)
    return None


def _is_sum(g: Value) -> bool:
    """Is it a sum of products, which are better summed over the steps one by one?"""
    alike = lambda a: isinstance(a, Value) and a.moves and (a.shape, a.dtype) == (g.shape, g.dtype)
    return all(map(alike, g.args)) and all(_is_sum(a) if a.op in ("add", "sub") else not a.pointwise for a in g.values)


RULES["tsum"] = lambda c, v, args, _: over_time(c, args[0])
