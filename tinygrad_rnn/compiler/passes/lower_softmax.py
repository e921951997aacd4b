"""Softmax and its likes in operations that each have a form in a loop, for a backend that writes loops."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from tinygrad_rnn.compiler.ir.circuit import Circuit
from tinygrad_rnn.compiler.ir.columns import remake
from tinygrad_rnn.compiler.ir.value import Value


def lower_softmax(c: Circuit) -> None:
    """softmax, log_softmax and logsumexp of what moves by exp, log, sums and choices."""

    def visit(v: Value, new: Callable) -> Value:
        args = tuple(map(new, v.args))
        if v.op in ("softmax", "log_softmax", "logsumexp") and v.moves:
            return _lowered(c, v, args[0])
        return remake(c, v, args)

    c.rebuild(visit)


def _lowered(c: Circuit, v: Value, x: Value) -> Value:
    """softmax(x) = e / Σe with e = exp(x - max x); where all of x is -inf, 0. As ops.reduce has it, infinities too."""
    axis = v.static["axis"]
    x = x if x.dtype == v.dtype else c.make("cast", x, dtype=v.dtype)
    top = c.make("max", x, axis=axis, keepdims=True)
    large = c.make("abs", top) if v.op == "logsumexp" else c.make("neg", top)
    top = c.make("where", c.make("equal", large, np.inf), 0.0, top)
    d = c.make("sub", x, top)
    e = c.make("exp", d)
    total = c.make("sum", e, axis=axis, keepdims=True)
    positive = c.make("where", c.make("equal", total, 0.0), 1.0, total)
    if v.op == "softmax":
        return c.make("div", e, positive)
    if v.op == "log_softmax":
        return c.make("sub", d, c.make("log", positive))
    y = c.make("add", c.make("log", positive), top)
    y = c.make("where", c.make("equal", total, 0.0), -np.inf, y)
    return y if v.static["keepdims"] else c.make("reshape", y, shape=v.shape)
