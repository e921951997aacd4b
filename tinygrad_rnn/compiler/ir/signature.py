"""What two recordings of the same step share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tinygrad_rnn.autograd.arrays import is_array, to_numpy
from tinygrad_rnn.compiler.ir.circuit import Circuit
from tinygrad_rnn.compiler.ir.value import Value


def signature(c: Circuit, size: Callable[[Any], Any] = lambda x: x) -> tuple:
    """What recordings of the same step share. size: see `Renaming.size`"""
    order = c.order()
    number: dict[Any, int | None] = {v: i for i, v in enumerate(order)}

    def plain(a: Any) -> Any:
        if isinstance(a, Value):
            return number[a]
        if is_array(a):
            return (a.shape, to_numpy(a).tobytes())
        if isinstance(a, (tuple, list)):
            return tuple(map(plain, a))
        if type(a) is slice:
            return (slice, plain(a.start), plain(a.stop), plain(a.step))
        return a if type(a) is int else repr(a)

    known = lambda vs: tuple([number.get(v) for v in vs])
    given = lambda v: tuple([(k, plain(size(x))) for k, x in v.static.items()])
    return (
        tuple([(v.op, v.primitive, v.dtype, plain(v.args), given(v), size(v.shape)) for v in order]),
        tuple(map(known, ((c.x, c.alive), c.states, c.captured, c.draws, c.seeds))),
        tuple([(size(v.shape), v.dtype) for v in (c.x, *c.states, *c.captured, *c.draws, *c.seeds)]),
        tuple([(name, known(vs)) for name, vs in c.roots.items()]),
    )
