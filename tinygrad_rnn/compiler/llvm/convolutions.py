"""Convolutions in fused loops, and the gradients of their weights."""

from __future__ import annotations

from typing import Any

from tinygrad_rnn.compiler.ir.value import Value
from tinygrad_rnn.compiler.llvm import windows
from tinygrad_rnn.compiler.llvm.operands import Operands


class Convolutions:
    """Writes convolutions.

    values  those that were written: each worker needs memory for the images of one
    """

    def __init__(self, operands: Operands):
        self.o, self.code = operands, operands.code
        self.values: dict[Value, None] = {}

    def _scratch(self, v: Value) -> Any:
        """The memory of this worker."""
        self.values[v] = None
        return self.code.add(self.o.read("scratch"), self.code.mul(self.o.who, self.o.read("room")))

    def at_a_step(self, v: Value) -> None:
        """v = x convolved with W at the current step, for this worker's images."""
        x, W = v.args
        first, last = self.o.bounds(v, 0)
        where = [self.o.at(a, []) for a in (x, W, self.o.in_rows(v))]
        windows.call(self.code, "convolve", [self.o.read("windows", v), first, last, *where, self._scratch(v)])

    def add_up(self, v: Value, g: Value, out: Any, start: Any, end: Any, add: Any) -> None:
        """v (+)= Σ g over the steps from start to end, g a correlation. out: where this worker's v is  add: 1 if (+)"""
        x, y = g.args
        code, o = self.code, self.o
        first, last = o.bounds(y, 0)
        row = o.read("stride", v, 0)
        with code.b.if_then(code.b.icmp_signed("==", add, code.integer(0))), code.loop(0, o.size(v, 0)) as i:
            to = code.add(out, code.mul(i, row))
            clear = lambda j, mask: code.store(code.constant(0.0), code.add(to, code.mul(j, code.item)), mask)
            code.over(0, o.size(v, 1), clear)
        job, scratch = o.read("windows", g), self._scratch(g)
        with o.steps(start, end):
            windows.call(code, "correlate", [job, first, last, o.at(x, []), o.at(y, []), out, row, scratch])
