"""Operands of generated calls: names for views of the buffers, made before the first step."""

from __future__ import annotations

import functools

from collections.abc import Callable
from typing import Any

import numpy as np

from tinygrad_rnn.compiler.ir.infer import stand_in
from tinygrad_rnn.compiler.ir.value import Value
from tinygrad_rnn.compiler.numpy.function import Function
from tinygrad_rnn.compiler.runtime.buffers import Buffers, looked
from tinygrad_rnn.compiler.runtime.steps import Steps
from tinygrad_rnn.compiler.schedule.order import Stage
from tinygrad_rnn.compiler.schedule.places import Place

Shape = Callable[[np.ndarray, int], np.ndarray]  # shape(array, 1 if it has time): the array in another shape
EVERY_STEP = "every step"  # how an operand that does not move is looked at beside ones that do


def as_it_is(a: np.ndarray, lead: int) -> np.ndarray:
    """No other shape."""
    return a


class Operands:
    """The names of operands in a function under construction."""

    def __init__(self, function: Function, buffers: Buffers):
        self.function, self.buffers, self.s = function, buffers, buffers.s

    def operand(self, v: Any, loop: Stage | None, shape: Shape = as_it_is, tag: Any = "") -> str:
        """An array, or inside a loop the array of this step. shape reshapes it; tag: what that does, "" for nothing"""
        function, arrays = self.function, self.buffers.arrays
        if not isinstance(v, Value):
            return function.name((type(v), repr(v)), np.asarray(v) if isinstance(v, np.generic) else v)
        if v.op == "zeros":
            return function.sized((v, tag), lambda: shape(stand_in(v.shape, v.dtype), 0), depends=tag == EVERY_STEP)
        p = self.s.where(v)
        steps = loop is not None and p.buffer.time
        key = (v, id(loop) if steps else p.buffer.time and loop is None, tag)
        if key not in function.names:
            if tag and not p.buffer.bound and not self._is_view(p, shape):  # a copy, made anew whenever it is read
                copied = functools.partial(_in_shape, shape, int(p.buffer.time and loop is None))
                return f"{function.name(('copied', v, tag, loop is None), copied, 'f')}({self.operand(v, loop)})"
            make = _maker(p, loop if steps else None, loop is None, shape, self.buffers.steps)
            if p.buffer.bound:  # given at each call
                function.bound(key, p.buffer, make)
            elif steps:
                self._name_steps(key, make(arrays[p.buffer]), loop)
            else:
                depends = tag == EVERY_STEP or (p.buffer.time and loop is None)
                function.sized(key, functools.partial(make, arrays[p.buffer]), depends=depends)
        return function.each(function.names[key]) if steps else function.names[key]

    def like(self, a: Any, v: Value, loop: Stage | None, times: int = 0) -> str:
        """An operand that broadcasts with v: axes are added behind time where it has fewer. times: the parts in which
        its columns are looked at, if they are"""
        rank = len(v.shape)

        def shape(x: np.ndarray, lead: int) -> np.ndarray:
            if x.ndim - lead < rank and (lead or set(v.shape[: rank - x.ndim]) == {1}):  # NumPy is fast at equal shapes
                x = x.reshape(*x.shape[:lead], *(1,) * (rank + lead - x.ndim), *x.shape[lead:])
            if times and x.ndim > lead:
                x = x[..., None] if x.shape[-1] == 1 else x.reshape(*x.shape[:-1], times, x.shape[-1] // times)
            return x

        fewer = isinstance(a, Value) and len(a.shape) < rank
        return self.operand(a, loop, shape, (rank, times) if fewer or times else "")

    def _name_steps(self, key: Any, views: list[np.ndarray], loop: Any) -> None:
        """A list of views, one for each step that there are buffers for: of T steps the first ones, or the last ones
        of a loop that begins with the last step."""
        steps, capacity = self.buffers.steps, self.buffers.capacity
        first = lambda: capacity - steps.T if loop.backward else 0
        self.function.sized(key, lambda: views[first() : first() + steps.T])

    def _is_view(self, p: Place, shape: Shape) -> bool:
        """Can it be looked at in this shape without a copy?"""
        a = self.buffers.arrays[p.buffer]
        whole = looked(a, p, "all" if p.buffer.time else None, self.buffers.steps.T)
        return np.may_share_memory(a, shape(whole, int(p.buffer.time)))


def _in_shape(shape: Shape, lead: int, a: np.ndarray) -> np.ndarray:
    return shape(a, lead)


def _maker(p: Place, loop: Stage | None, batch: bool, shape: Shape, steps: Steps) -> Callable[[np.ndarray], Any]:
    """A function of the buffer's array that makes what the operand is."""
    if loop is not None:
        way = -1 if loop.backward else 1
        return lambda a: [shape(looked(a, p, t, steps.T), 0) for t in range(steps.T)[::way]]
    if batch and p.buffer.time:
        return lambda a: shape(looked(a, p, "all", steps.T), 1)
    return lambda a: shape(looked(a, p, None, steps.T), 0)
