"""Writing the loops of a schedule in LLVM: elementwise values in fused nests, products, reductions, sums over time.

The code knows no sizes: addresses, strides and sizes come from a table that is filled for each program, so cells of
any size share the machine code of their structure.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import Any

import numpy as np

from tinygrad_rnn.compiler.ir.columns import spans
from tinygrad_rnn.compiler.ir.value import Value
from tinygrad_rnn.compiler.llvm import kernels
from tinygrad_rnn.compiler.llvm.builder import Code
from tinygrad_rnn.compiler.llvm.elements import Elements
from tinygrad_rnn.compiler.llvm.products import Sums
from tinygrad_rnn.compiler.schedule.nests import fusable, grouped
from tinygrad_rnn.compiler.schedule.order import Stage
from tinygrad_rnn.compiler.schedule.schedule import NotFusable, about
from tinygrad_rnn.compiler.schedule.views import is_view


class Writer(Sums):
    """Writes the stages of a schedule as one function."""

    def write(self, stages: Sequence[Stage]) -> None:
        sums = [stage.values[0] for stage in stages if stage.values[0].op == "tsum"]
        zero = Code.integer(0)
        kernels.call(self.code, "pack", [self.read("jobs"), zero, self.read("alone"), zero])
        for stage in stages:
            if stage.values[0].op == "tsum":
                continue
            if not stage.loop and self._batched_product(stage.values[0]):
                continue
            with self.code.loop(0, self.read("T"), down=stage.backward) as t:
                self.t = t
                for group in grouped(self.s.flow, stage.values):
                    with about(group[0]):
                        self._group(group)
        if sums:
            self._sums(sums)
        self.code.finish()

    def _group(self, group: list[Value]) -> None:
        v = group[0]
        if v.op == "pack":
            self._pack(v)
        elif fusable(self.s.flow, v):
            self._nest(group)
        elif self.s.flow.is_computed_as_product(v):
            self._product(v)
        elif v.op == "matmul":
            self._matmul(v)
        elif v.op in ("sum", "max", "min"):
            self._reduction(v)
        elif v.op in ("stack", "concat") or (
            v.op == "scatter" and is_view(Value("getitem", (v,), v.static, (), v.dtype, True))
        ):
            self._joined(v)
        else:
            raise NotFusable(f"{v.op} has no form in machine code")

    def _nest(self, group: list[Value]) -> None:
        """All values of a group, element by element; what only the group reads stays in registers."""
        v, ready = group[0], self._ready(group)
        with self._rows(v) as lead:

            def body(j: Any, mask: Any) -> None:
                made: dict[Any, Any] = {}
                for u, results in zip(group, ready, strict=True):
                    xs = [self._element(a, u, lead, j, mask, made) for a in u.args]
                    made[u] = Elements(self.code).compute(u, xs)
                    for result in results:
                        self._put(result, made[result], lead, j, mask)

            if v.shape:
                self.code.over(*self.bounds(v, len(v.shape) - 1), body)
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

    def _pack(self, v: Value) -> None:
        """Copy the pieces that are not computed in their columns."""
        for p, lo, hi in spans(v):
            if p.op == "zeros" or self.s.where(p) != self.s.place[v].viewed("part", -1, lo, hi):
                self._copy(p, self._view(v, "part", p.shape, axis=-1, lo=lo, hi=hi))

    def _joined(self, v: Value) -> None:
        """Put the pieces of a stack or a concatenation, or a scattered value, in their places."""
        axis = v.static.get("axis", 0)
        lead = (slice(None),) * axis
        at = 0
        if v.op == "scatter":
            self._copy(0.0, v)
            self._copy(v.args[0], self._view(v, "getitem", v.args[0].shape, key=v.static["key"]))
            return
        for p in v.args:
            if not isinstance(p, Value):
                raise NotFusable(f"{v.op} of a constant array has no form in machine code")
            n = 1 if v.op == "stack" else p.shape[axis]
            key = (*lead, at if v.op == "stack" else slice(at, at + n))
            self._copy(p, self._view(v, "getitem", p.shape, key=key))
            at += n

    def _reduction(self, v: Value) -> None:
        x, axes = v.args[0], v.static["axis"]
        code, rank = self.code, len(x.shape)
        if not rank or (self.rows and 0 in axes):
            raise NotFusable(f"{v.op} over the batch has no form in machine code")
        combine = {"sum": code.b.fadd, "max": lambda a, b: code.binary("maximum", a, b),
                   "min": lambda a, b: code.binary("minimum", a, b)}[v.op]  # fmt: skip
        neutral = code.constant({"sum": 0.0, "max": -np.inf, "min": np.inf}[v.op])
        kept = [k for k in range(rank) if k not in axes]
        place = {k: (k if v.static["keepdims"] else i) for i, k in enumerate(kept)}  # axis of x -> axis of v
        total = code.top.alloca(code.vector)
        across = rank - 1 not in axes

        def gather(index: dict[int, Any], j: Any, mask: Any) -> None:
            found = self._element(x, x, [index[k] for k in range(rank - 1)], j, mask, {})
            found = Elements(code).number(found)
            if mask is not None and v.op != "sum":
                found = code.b.select(mask, found, neutral)
            code.b.store(combine(code.b.load(total), found), total)

        def inner(index: dict[int, Any], then: Callable[[dict[int, Any]], None]) -> None:
            code.b.store(neutral, total)
            rest = [k for k in axes if k != rank - 1]
            with ExitStack() as stack:
                for k in rest:
                    index = {**index, k: stack.enter_context(code.loop(*self.bounds(x, k)))}
                then(index)

        outer = [k for k in kept if k != rank - 1]
        with ExitStack() as stack:
            index = {k: stack.enter_context(code.loop(*self.bounds(x, k))) for k in outer}
            target = self.at(v, [(place[k], i) for k, i in index.items()])
            if across:

                def columns(j: Any, mask: Any) -> None:
                    inner(index, lambda all_of: gather(all_of, j, mask))
                    code.store(code.b.load(total), code.add(target, code.mul(j, code.item)), mask)

                code.over(*self.bounds(x, rank - 1), columns)
            else:
                inner(
                    index, lambda all_of: code.over(*self.bounds(x, rank - 1), lambda j, mask: gather(all_of, j, mask))
                )
                found = code.b.load(total)
                code.store_one(code.total(found) if v.op == "sum" else code.extreme(found, v.op + "imum"), target)
