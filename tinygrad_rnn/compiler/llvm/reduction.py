"""Sums, maxima and minima over axes of a value, in fused loops."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any

import numpy as np

from tinygrad_rnn.compiler.ir.value import Value
from tinygrad_rnn.compiler.llvm.elements import Elements
from tinygrad_rnn.compiler.llvm.operands import Operands
from tinygrad_rnn.compiler.schedule.schedule import NotFusable

NEUTRAL = {"sum": 0.0, "max": -np.inf, "min": np.inf}
Index = dict[int, Any]  # by axis


class Reduction:
    """Writes v = sum, max or min of x over some axes. What makes one element of v is gathered in the lanes of a vector;
    across rows, each lane gathers an element of its own."""

    def __init__(self, operands: Operands, v: Value):
        self.o, self.code, self.v, self.x = operands, operands.code, v, v.args[0]
        self.axes, self.last = v.static["axis"], len(self.x.shape) - 1
        if not self.x.shape or (operands.by_rows and 0 in self.axes):
            raise NotFusable(f"{v.op} over the batch has no form in machine code")
        self.neutral = self.code.constant(NEUTRAL[v.op])
        self.gathered = self.code.top.alloca(self.code.vector)

    def write(self) -> None:
        """The loops over what is kept, and in them those over what is not."""
        kept = [k for k in range(self.last + 1) if k not in self.axes]
        place = {k: (k if self.v.static["keepdims"] else i) for i, k in enumerate(kept)}  # axis of x -> axis of v
        with ExitStack() as stack:
            index = {k: stack.enter_context(self._loop(k)) for k in kept if k != self.last}
            target = self.o.at(self.v, [(place[k], i) for k, i in index.items()])
            if self.last in self.axes:
                self._along_rows(index, target)
            else:
                self._across_rows(index, target)

    def _across_rows(self, index: Index, target: Any) -> None:
        code = self.code

        def columns(j: Any, mask: Any) -> None:
            with ExitStack() as stack:
                self._gather(self._inside(index, stack), j, mask)
            code.store(code.b.load(self.gathered), code.add(target, code.mul(j, code.item)), mask)

        code.over(*self.o.bounds(self.x, self.last), columns)

    def _along_rows(self, index: Index, target: Any) -> None:
        code, op = self.code, self.v.op
        with ExitStack() as stack:
            inside = self._inside(index, stack)
            code.over(*self.o.bounds(self.x, self.last), lambda j, mask: self._gather(inside, j, mask))
        found = code.b.load(self.gathered)
        code.store_one(code.total(found) if op == "sum" else code.extreme(found, op + "imum"), target)

    def _loop(self, axis: int) -> Any:
        return self.code.loop(*self.o.bounds(self.x, axis))

    def _inside(self, index: Index, stack: ExitStack) -> Index:
        """The index in the loops over the other axes, for a result that begins here."""
        self.code.b.store(self.neutral, self.gathered)
        return index | {k: stack.enter_context(self._loop(k)) for k in self.axes if k != self.last}

    def _gather(self, index: Index, j: Any, mask: Any) -> None:
        code, op = self.code, self.v.op
        lead = [index[k] for k in range(self.last)]
        found = Elements(code).number(self.o.element(self.x, self.x, lead, j, mask, {}))
        if mask is not None:  # what is spread over the lanes is in those that do not count too
            found = code.b.select(mask, found, self.neutral)
        before = code.b.load(self.gathered)
        together = code.b.fadd(before, found) if op == "sum" else code.binary(op + "imum", before, found)
        code.b.store(together, self.gathered)
