"""Sums over a batch and over time as sums of the rows of a matrix, for a backend that has a form for these."""

from __future__ import annotations

import math

from typing import Any

from tinygrad_rnn.compiler.ir.circuit import Circuit
from tinygrad_rnn.compiler.ir.columns import remake
from tinygrad_rnn.compiler.ir.value import Value


def sum_rows(c: Circuit) -> None:
    """Σₜ Σ over the batch, and perhaps other axes, of an x with more axes than two: over those others at each step,
    then over the rows of all steps. The gradient of a bias of channels is one."""
    users = c.users()

    def visit(v: Value, new: Any) -> Value:
        args = tuple(map(new, v.args))
        if v.op == "tsum" and v.args[0].op == "sum" and len(users[v.args[0]]) == 1 and args[0].op == "sum":
            inner = args[0]
            x, axes = inner.args[0], inner.static["axis"]
            if 0 in axes and x.moves and len(x.shape) > 2:
                return c.make("reshape", c.make("tsum", _summed(c, x, axes)), shape=inner.shape)
        return remake(c, v, args)

    c.rebuild(visit)


def _summed(c: Circuit, x: Value, axes: tuple[int, ...]) -> Value:
    """The sum over these axes, the first among them, as one of the rows of a matrix."""
    others = tuple(k for k in axes if k)
    if others:
        x = c.make("sum", x, axis=others, keepdims=False)
    if len(x.shape) != 2:
        x = c.make("reshape", x, shape=(x.shape[0], math.prod(x.shape[1:])))
    return c.make("sum", x, axis=(0,), keepdims=False)
