"""Copies of transposed weights, for a backend whose products are BLAS's: it reads rows faster than columns."""

from __future__ import annotations

from typing import Any

from tinygrad_rnn.compiler.ir.circuit import Circuit
from tinygrad_rnn.compiler.ir.columns import remake
from tinygrad_rnn.compiler.ir.value import Value


def copy_transposed(c: Circuit) -> None:
    """A transposed weight that a loop reads at each step is copied into the order of the product, once a call."""

    def visit(v: Value, new: Any) -> Value:
        args = tuple(map(new, v.args))
        if v.op == "matmul" and v.moves and len(v.values) == 2 and v.args[1].op == "permute" and not v.args[1].moves:
            args = (args[0], c.make("copy", args[1]))
        return remake(c, v, args)

    c.rebuild(visit)
