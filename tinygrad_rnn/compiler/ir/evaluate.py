"""The numbers of a circuit, computed value by value with NumPy: what a rewriting must not change."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from tinygrad_rnn.compiler.ir.circuit import Circuit
from tinygrad_rnn.compiler.ir.value import OVER_TIME, Value

STEPS = 2  # enough to tell a sum over the steps from one step, and what moves from what does not


class Numbers:
    """The numbers of values at each of a few steps, whose inputs have nothing to do with each other: the states too.

    What was computed once is known for later circuits of the same inputs, whose equal values are the same.
    """

    def __init__(self, known: dict[Value, list[Any]] | None = None, steps: int = STEPS):
        """known: the numbers of inputs at each step; those of others are random, from a fixed seed"""
        self.known, self.steps = dict(known or {}), steps
        self.rng = np.random.default_rng(0)

    def __call__(self, c: Circuit) -> dict[str, list[Any]]:
        """The roots of a circuit by name, each a list of its arrays at the steps, or None."""
        inputs = [c.x, *c.states, *c.captured, *c.draws, *([c.alive] if c.alive is not None else []), *c.seeds]
        for v in inputs:
            if v not in self.known:
                self.known[v] = self._random(v)
        order = c.order()
        with np.errstate(all="ignore"):
            for v in order:
                if v not in self.known:
                    self.known[v] = self._computed(v)
        self.known = {v: self.known[v] for v in dict.fromkeys([*inputs, *order])}
        return {name: [v and self.known[v] for v in vs] for name, vs in c.roots.items()}

    def _computed(self, v: Value) -> list[Any]:
        operands = lambda t: [self.known[a][t] if isinstance(a, Value) else a for a in v.args]
        if not v.moves and v.op not in OVER_TIME:
            return [compute(v, operands(0))] * self.steps
        found = [compute(v, operands(t)) for t in range(self.steps)]
        return [np.sum(found, axis=0, dtype=v.dtype)] * self.steps if v.op in OVER_TIME else found

    def _random(self, v: Value) -> list[Any]:
        """What is the same at every step is positive, and what moves at the first step, so that roots and logarithms
        are numbers; later it has both signs."""
        if not v.moves:
            return [self._positive(v)] * self.steps
        sign = lambda t: self.rng.choice([-1, 1], v.shape) if t and v.dtype.kind == "f" else 1
        return [(self._positive(v) * sign(t)).astype(v.dtype) for t in range(self.steps)]

    def _positive(self, v: Value) -> Any:
        if v.dtype.kind == "f":
            return self.rng.uniform(0.1, 0.9, v.shape).astype(v.dtype)
        return self.rng.integers(0, 2, v.shape).astype(v.dtype)  # as indices they are small enough


def compute(v: Value, args: list[Any]) -> Any:
    """The operation of v on arrays of one step."""
    if v.op in INNER:
        return INNER[v.op](v.static, *args)
    assert v.primitive is not None, v
    return v.primitive.forward(*args, **v.static)


def _part(static: dict[str, Any], x: Any) -> Any:
    columns = slice(static["lo"], static["hi"])
    return x[..., columns] if static["axis"] == -1 else x[..., columns, :]


def _in_parts(static: dict[str, Any], x: Any) -> Any:
    return x.reshape(*x.shape[:-1], static["parts"], -1).sum(-1)


# The compiler's own operations, as ir.value names them.
INNER: dict[str, Callable[..., Any]] = {
    "part": _part,
    "pack": lambda static, *xs: np.concatenate(xs, -1),
    "zeros": lambda static: np.zeros(static["shape"], static["dtype"]),
    "copy": lambda static, x: x,
    "tsum": lambda static, x: x,
    "pick": lambda static, xs: xs[static["index"]],
    "splat": lambda static, x: np.concatenate([x] * static["times"], -1),
    "spread": lambda static, x: np.repeat(x, static["times"], -1),
    "sums": lambda static, x: static["scale"] * _in_parts(static, x),
    "dots": lambda static, x, y: _in_parts(static, x * y),
}  # fmt: skip
