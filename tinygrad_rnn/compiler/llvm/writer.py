"""Writing the loops of a schedule in LLVM: elementwise values in fused nests, products, reductions, sums over time.

The code knows no sizes: addresses, strides and sizes come from a table that is filled for each program, so cells of
any size share the machine code of their structure.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tinygrad_rnn.compiler.ir.value import Value
from tinygrad_rnn.compiler.llvm import kernels
from tinygrad_rnn.compiler.llvm.builder import Code
from tinygrad_rnn.compiler.llvm.convolutions import Convolutions
from tinygrad_rnn.compiler.llvm.elements import Elements
from tinygrad_rnn.compiler.llvm.operands import Operands
from tinygrad_rnn.compiler.llvm.products import Products, Sums
from tinygrad_rnn.compiler.llvm.reduction import Reduction
from tinygrad_rnn.compiler.schedule.copies import copies, is_put_together
from tinygrad_rnn.compiler.schedule.nests import fusable, grouped
from tinygrad_rnn.compiler.schedule.order import Stage
from tinygrad_rnn.compiler.schedule.schedule import NotFusable, about


class Writer:
    """Writes the stages of a schedule as one function."""

    def __init__(self, operands: Operands):
        self.o, self.code, self.s = operands, operands.code, operands.s
        self.convolutions = Convolutions(operands)
        self.products, self.sums = Products(operands), Sums(operands, self.convolutions)

    def write(self, stages: Sequence[Stage]) -> None:
        sums = [stage.values[0] for stage in stages if stage.values[0].op == "tsum"]
        zero = Code.integer(0)
        kernels.call(self.code, "pack", [self.o.read("jobs"), zero, self.o.read("alone"), zero])
        for stage in stages:
            if stage.values[0].op == "tsum":
                continue
            if not stage.loop and self.products.for_all_steps(stage.values[0]):
                continue
            with self.o.steps(0, self.o.read("T"), down=stage.backward):
                for group in grouped(self.s.flow, stage.values):
                    with about(group[0]):
                        self._group(group)
        if sums:
            self.sums.write(sums)
        self.code.finish()

    def _group(self, group: list[Value]) -> None:
        v = group[0]
        self.code.say(None if fusable(self.s.flow, v) else v.origin)
        if is_put_together(v):
            for piece, there in copies(self.s, v):
                self.o.copy(piece, self.o.in_rows(there))
        elif fusable(self.s.flow, v):
            self._nest(group)
        elif self.s.flow.is_computed_as_product(v):
            self.products.at_a_step(v)
        elif v.op == "matmul":
            self.products.of_values(v)
        elif v.op in ("convolve", "deconvolve"):
            self.convolutions.at_a_step(v)
        elif v.op in ("sum", "max", "min"):
            Reduction(self.o, v).write()
        else:
            raise NotFusable(f"{v.op} has no form in machine code")

    def _nest(self, group: list[Value]) -> None:
        """All values of a group, element by element; what only the group reads stays in registers."""
        v, ready = group[0], self._ready(group)
        with self.o.loops(v) as lead:

            def body(j: Any, mask: Any) -> None:
                made: dict[Any, Any] = {}
                for u, results in zip(group, ready, strict=True):
                    self.code.say(u.origin)
                    xs = [self.o.element(a, u, lead, j, mask, made) for a in u.args]
                    made[u] = Elements(self.code).compute(u, xs)
                    for result in results:
                        self.o.put(result, made[result], lead, j, mask)

            if v.shape:
                self.code.over(*self.o.bounds(v, len(v.shape) - 1), body)
            else:
                body(Code.integer(0), self.code.first(Code.integer(1)))

    def _ready(self, group: list[Value]) -> list[list[Value]]:
        """For each value of a nest, the results that can be written once it is computed: a result may be where operands
        were, which are all read before."""
        first: dict[Value, int] = {}
        for k, u in enumerate(group):
            for a in u.values:
                if a not in group and a.op != "zeros":
                    first.setdefault(a, k)
        ready: list[list[Value]] = [[] for _ in group]
        for k, u in enumerate(group):
            if u not in self.s.fusion.in_registers:
                there = self.s.place[u]
                ready[max([k, *(i for a, i in first.items() if self.s.where(a).overlaps(there))])].append(u)
        return ready
