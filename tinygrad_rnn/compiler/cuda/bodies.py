"""What kernels compute: nests of elementwise values, copies, products and reductions, an element at a time.

A body says what is done for each element of a shape; which thread does it is for others to say (see threads.py).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import numpy as np

from tinygrad_rnn.compiler.cuda import functions
from tinygrad_rnn.compiler.cuda.elements import common_dtype, computed, constant
from tinygrad_rnn.compiler.cuda.kernel import Kernel, broadcast
from tinygrad_rnn.compiler.cuda.types import c_type
from tinygrad_rnn.compiler.ir.value import Value
from tinygrad_rnn.compiler.schedule.copies import copies
from tinygrad_rnn.compiler.schedule.schedule import Schedule

NEUTRAL = {"sum": 0.0, "max": -np.inf, "min": np.inf}
JOINED = {"max": "larger", "min": "smaller"}  # by which function of functions.PRELUDE; a sum by +


@dataclass(frozen=True)
class Body:
    """Something that is done for each element of a shape.

    over     a value of that shape
    write    writes what is done for the element at some indices
    writes   what is written, at those indices
    reads    what is read at those indices too
    strays   what is read elsewhere: it broadcasts, or is summed up
    reduces  the reduction that it is, in which threads may help each other; else None
    single   is it a nest, or a reduction to, a single element of each row?
    """

    over: Value
    write: Callable[[Kernel, Sequence[str]], None]
    writes: Sequence[Value]
    reads: Sequence[Value] = ()
    strays: Sequence[Value] = ()
    reduces: Value | None = None
    single: bool = False


def nest(s: Schedule, group: Sequence[Value]) -> Body:
    """All values of a nest. All operands are read before results are written, which may be where operands were."""
    stored = [u for u in group if u not in s.fusion.in_registers]

    def write(k: Kernel, index: Sequence[str]) -> None:
        names = computed_together(k, group, index, {})
        for u in stored:
            k.store(u, index, names[u])

    read = [a for a in dict.fromkeys(a for u in group for a in u.values) if a not in group and a.op != "zeros"]
    shape = group[0].shape
    same, others = [a for a in read if a.shape == shape], [a for a in read if a.shape != shape]
    return Body(group[0], write, stored, same, others, single=_is_single(shape))


def _is_single(shape: Sequence[int]) -> bool:
    return len(shape) > 0 and all(n == 1 for n in shape[1:])


def computed_together(k: Kernel, group: Sequence[Value], index: Sequence[str], names: dict[Value, str]) -> dict:
    """The names of elementwise values and of all that they read, computed one after the other.

    names: of what is in a register already
    """
    for u in group:
        xs = [operand(k, a, u, index, names) for a in u.args]
        names[u] = k.new(c_type(u.dtype), computed(u, xs), u.origin)
    return names


def operand(k: Kernel, a: Any, u: Value, index: Sequence[str], names: dict[Value, str]) -> str:
    """The name, or the number, of what u reads."""
    if not isinstance(a, Value):
        return constant(a, common_dtype(u))
    if a not in names:
        names[a] = k.new(c_type(a.dtype), k.read(a, broadcast(a.shape, u.shape, index)))
    return names[a]


def pieces(s: Schedule, v: Value) -> Iterator[Body]:
    """The copies that put a value together."""
    for piece, there in copies(s, v):
        yield _copy(v, piece, there)


def _copy(v: Value, piece: Any, there: Value) -> Body:
    def write(k: Kernel, index: Sequence[str]) -> None:
        kind = c_type(v.dtype)
        x = k.read(piece, broadcast(piece.shape, there.shape, index)) if isinstance(piece, Value) else repr(piece)
        k.say(f"{k.element(there, index)} = {kind}({x});", v.origin)

    read = [piece] if isinstance(piece, Value) and piece.op != "zeros" else []
    same = bool(read) and piece.shape == there.shape
    return Body(there, write, [there], read if same else [], [] if same else read)


def product(v: Value) -> Body:
    """Matrices times matrices: a sum for each element of v = a @ b, whose leading axes broadcast."""
    a, b = v.args

    def write(k: Kernel, index: Sequence[str]) -> None:
        *lead, row, column = index
        left = [*broadcast(a.shape[:-2], v.shape[:-2], lead), row, "m"]
        right = [*broadcast(b.shape[:-2], v.shape[:-2], lead), "m", column]
        kind = functions.real(v.dtype)
        k.say(f"{kind} total = 0;")
        with k.block(f"for (i64 m = 0; m < {k.size(a, len(a.shape) - 1)}; m++)"):
            k.say(f"total += {kind}({k.read(a, left)}) * {kind}({k.read(b, right)});", v.origin)
        k.say(f"{k.element(v, index)} = {c_type(v.dtype)}(total);")

    return Body(v, write, [v], [], [a, b])


# ---- reductions -----------------------------------------------------------------------------------------------------


def reduction(v: Value) -> Body:
    """A sum, a maximum or a minimum over some axes."""

    def write(k: Kernel, kept: Sequence[str]) -> None:
        kind, x = functions.real(v.dtype), v.args[0]
        k.say(f"{kind} total = {start(v)};")
        with ExitStack() as loops:
            for axis in v.static["axis"]:
                loops.enter_context(k.block(f"for (i64 r{axis} = 0; r{axis} < {k.size(x, axis)}; r{axis}++)"))
            one_more(k, v, kept)
        finish(k, v, kept)

    over = result_of(v)
    return Body(over, write, [v], [], [v.args[0]], v, _is_single(over.shape))


def one_more(k: Kernel, v: Value, kept: Sequence[str], total: str = "total") -> None:
    """Let a total be that with one more element: at r0, r1 … along the axes that are summed up, kept otherwise."""
    x, rest = v.args[0], iter(kept)
    index = [f"r{axis}" if axis in v.static["axis"] else next(rest) for axis in range(len(x.shape))]
    k.say(f"{total} = {joined(v, total, f'{functions.real(v.dtype)}({k.read(x, index)})')};", v.origin)


def finish(k: Kernel, v: Value, kept: Sequence[str], total: str = "total") -> None:
    """Write a total where the result is."""
    rest = iter(kept)
    index = list(kept)
    if v.static["keepdims"]:
        index = ["0" if axis in v.static["axis"] else next(rest) for axis in range(len(v.args[0].shape))]
    k.store(
        v, index, k.new(c_type(v.dtype), f"{c_type(v.dtype)}({total})") if k.alone else f"{c_type(v.dtype)}({total})"
    )


def result_of(v: Value) -> Value:
    """The result of a reduction, without the axes of one element that it may keep."""
    if not v.static["keepdims"]:
        return v
    shape = tuple(n for axis, n in enumerate(v.args[0].shape) if axis not in v.static["axis"])
    return Value("reshape", (v,), {"shape": shape}, shape, v.dtype, v.moves)


def start(v: Value) -> str:
    """A C expression of what nothing at all is reduced to."""
    kind = v.args[0].dtype.kind
    if v.op == "sum" or kind == "f":
        return functions.number(NEUTRAL[v.op], v.dtype)
    least, most = (0, 1) if kind == "b" else (np.iinfo(v.dtype).min, np.iinfo(v.dtype).max)
    return functions.number(least if v.op == "max" else most, v.dtype)


def joined(v: Value, total: str, x: str) -> str:
    """A C expression of a total with one more element, or of two totals together."""
    return f"{total} + {x}" if v.op == "sum" else f"{JOINED[v.op]}({total}, {x})"
