"""Products in fused loops, and sums over time: the gradients of weights."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any

import numpy as np

from llvmlite import ir

from tinygrad_rnn.compiler.ir.value import Value
from tinygrad_rnn.compiler.llvm import kernels
from tinygrad_rnn.compiler.llvm.builder import Code
from tinygrad_rnn.compiler.llvm.elements import Elements
from tinygrad_rnn.compiler.llvm.operands import Constant, Operands
from tinygrad_rnn.compiler.schedule.schedule import NotFusable, about


class Products(Operands):
    """Matrix products."""

    def _terms(self, v: Value) -> tuple[Value, Value, Any]:
        """(a, W, start) of v = start + a @ W."""
        m, start = self.s.flow.accumulated.get(v, (v, None))
        a, W = m.args
        if not self.unit(a):
            raise NotFusable(f"a product with {a.op} across rows has no form in machine code", m)
        self.products[W] = None
        return a, W, start

    def _product(self, v: Value, last: Any = None) -> None:
        """v = start + a @ W at the current step, for this worker's rows (or up to the row `last`)."""
        a, W, start = self._terms(v)
        first, end = self.bounds(v, 0)
        last = end if last is None else last
        code = self.code
        begin, row = Code.integer(0), Code.integer(0)
        if start is not None:
            start = self._known(start)
            if not self.unit(start):
                raise NotFusable(f"a product plus {start.op} across rows has no form in machine code", v)
            two = len(self.look(start).shape) - self.moving_in_time(start) == 2
            row = self.read("stride", start, 0) if two else row
            begin = self.at(start, [(0, first)] if two and start.shape[0] != 1 else [])
            if two and start.shape[0] == 1 and not (v.shape[0] == 1 and self.moving_in_time(start)):
                row = Code.integer(0)  # the same row for all
        kernels.call(code, "product", [
            code.b.sub(last, first), self.size(v, 1), self.size(a, 1),
            self.at(a, [(0, first)]), self.read("stride", a, 0), self.read("packed", W),
            begin, row, self.at(v, [(0, first)]), self.read("stride", v, 0),
        ])  # fmt: skip

    def _batched_product(self, v: Value) -> bool:
        """A product for all steps: as one over the rows of all steps, if one worker has them all."""
        if not self.s.flow.is_computed_as_product(v):
            return False
        a, _, start = self._terms(v)
        row = isinstance(start, Value) and len(start.shape) == 2 and start.shape[0] != 1
        each = self.moving_in_time(start)  # at each step rows of its own: those of the batch, or it is no one product
        if not (self.moving_in_time(a) and self.moving_in_time(v)) or (each and start.shape != v.shape):
            return False
        moving = [a, v, start] if row or each else [a, v]
        code, T = self.code, self.read("T")
        flat = code.b.icmp_signed("==", self.read("flat", *moving), Code.integer(1))  # one worker, rows evenly spaced
        last = self.bounds(v, 0)[1]
        last = code.b.select(flat, code.mul(T, last), last)
        with code.loop(0, code.b.select(flat, Code.integer(1), T)) as t:
            self.t = t
            self._product(v, last)
        return True

    def _matmul(self, v: Value) -> None:
        """A product of values that move, or of more than two axes."""
        a, b = v.args
        if len(v.shape) < 2 or not all(isinstance(x, Value) for x in v.args):
            raise NotFusable("a product with a constant array has no form in machine code", v)
        code, last = self.code, len(v.shape) - 1
        rank = len(v.shape)
        with self._rows(v) as lead:
            outer, m = lead[:-1], lead[-1]
            left = self.at(a, [*self._outer(a, rank, outer), *([(len(a.shape) - 2, m)] if a.shape[-2] != 1 else [])])
            right = self._outer(b, rank, outer)
            K, step, row = self.size(a, len(a.shape) - 1), self.read("stride", a, len(a.shape) - 1), len(b.shape) - 2
            if self.unit(b):

                def columns(j: Any, mask: Any) -> None:
                    total = code.top.alloca(code.vector)
                    code.b.store(code.constant(0.0), total)
                    with code.loop(0, K) as k:
                        x = code.spread(code.load_one(code.add(left, code.mul(k, step))))
                        y = code.load(code.add(self.at(b, [*right, (row, k)]), code.mul(j, code.item)), mask)
                        code.b.store(code.fma(x, y, code.b.load(total)), total)
                    self._put(v, code.b.load(total), lead, j, mask)

                code.over(*self.bounds(v, last), columns)
            elif self.unit(b, -2) and self.unit(a):
                with code.loop(*self.bounds(v, last)) as j:
                    other = self.at(b, [*right, (row + 1, j)])
                    total = self._dot(left, other, K)
                    code.store_one(
                        total, code.add(self.at(v, list(enumerate(lead))), code.mul(j, self.read("stride", v, last)))
                    )
            else:
                raise NotFusable("a product of two values across rows has no form in machine code", v)

    def _outer(self, a: Value, rank: int, outer: list[Any]) -> list[tuple[int, Any]]:
        skipped = rank - len(a.shape)
        return [(k - skipped, i) for k, i in enumerate(outer) if k >= skipped and a.shape[k - skipped] != 1]

    def _dot(self, left: Any, right: Any, K: Any) -> Any:
        code = self.code
        total = code.top.alloca(code.vector)
        code.b.store(code.constant(0.0), total)

        def body(k: Any, mask: Any) -> None:
            at = code.mul(k, code.item)
            x, y = code.load(code.add(left, at), mask), code.load(code.add(right, at), mask)
            code.b.store(code.fma(x, y, code.b.load(total)), total)

        code.over(0, K, body)
        return code.total(code.b.load(total))


class Sums(Products):
    """Sums over time."""

    def _sums(self, sums: list[Value]) -> None:
        """Σ over the steps, and this worker's rows, for all gradients of captured tensors: block by block of steps."""
        code, T, block = self.code, self.read("T"), self.read("block")
        with code.loop(0, self.read("blocks")) as i:
            start = code.mul(i, block)
            end = code.add(start, block)
            end = code.b.select(code.b.icmp_signed("<", end, T), end, T)
            self.add = code.b.zext(code.b.icmp_signed("!=", i, Code.integer(0)), ir.IntType(64))  # 0: the first block
            for v in sums:
                with about(v):
                    self._sum_over(v, start, end)

    def _sum_over(self, v: Value, start: Any, end: Any) -> None:
        g = v.args[0]
        code = self.code
        out = code.add(self.read("address", v), code.mul(self.who, self.read("worker", v)))
        self.t = start
        steps = code.b.sub(end, start)
        if self.s.flow.contracted(g) and g.op == "matmul" and len(g.shape) == 2:
            a = g.args[0].args[0]
            self._contract(a, g.args[1], v, out, steps)
        elif self.s.flow.contracted(g) and g.op == "sum":
            self._contract(Constant.of(np.ones(1, code.dtype), self.table, "one"), g.args[0], v, out, steps)
        elif self.s.flow.contracted(g):
            self._contract_each(v, g, steps)
        else:
            self._add_up(v, g, start, end)

    def _contract(self, a: Any, g: Value, v: Value, out: Any, steps: Any) -> None:
        code = self.code
        first, last = self.bounds(g, 0)
        if self.rows:  # of the batch; g may have several for each of them
            each = self.read("each", g)
            first, last = code.mul(first, each), code.mul(last, each)
        ones = isinstance(a, Constant)
        if not (self.unit(g) and (ones or self.unit(a))):
            raise NotFusable("its gradient, a sum of products across rows, has no form in machine code", v)
        zero = Code.integer(0)
        kernels.call(code, "contraction", [
            Code.integer(1) if ones else self.size(a, 1), self.size(g, 1), steps,
            self.at(a, [] if ones else [(0, first)]), zero if ones else self._time(a),
            self.at(g, [(0, first)]), self._time(g),
            code.b.sub(last, first), zero if ones else self.read("stride", a, 0), self.read("stride", g, 0),
            out, zero if ones else self.read("stride", v, 0), self.add,
        ])  # fmt: skip

    def _contract_each(self, v: Value, g: Value, steps: Any) -> None:
        """Σₜ a[t] @ b[t] for each of the leading axes: a (…, M, 1) and b (…, 1, N)."""
        a, b = g.args
        code = self.code
        rank = len(v.shape)
        if a.shape[-1] != 1 or not self.unit(b) or not self.unit(a, -2) or not self.rows:
            raise NotFusable("its gradient, a sum over time of products of matrices, has no form in machine code", v)
        with ExitStack() as stack:
            lead = [stack.enter_context(code.loop(*(self.bounds(g, k)))) for k in range(rank - 2)]
            index = list(enumerate(lead))
            zero = Code.integer(0)
            where = code.add(self.read("address", v), *(code.mul(i, self.read("stride", v, k)) for k, i in index))
            kernels.call(code, "contraction", [
                self.size(a, rank - 2), self.size(b, rank - 1), steps, self.at(a, index), self._time(a),
                self.at(b, index), self._time(b), Code.integer(1), zero, zero,
                where, self.read("stride", v, rank - 2), self.add,
            ])  # fmt: skip

    def _add_up(self, v: Value, g: Value, start: Any, end: Any) -> None:
        """out += g, element by element."""
        code = self.code
        if not g.shape:
            raise NotFusable("its gradient, a sum over time of single numbers, has no form in machine code", v)
        with code.loop(start, end) as t:
            self.t = t
            with self._rows(g) as lead:
                row = code.add(
                    self.read("address", v), *(code.mul(i, self.read("stride", v, k)) for k, i in enumerate(lead))
                )

                def body(j: Any, mask: Any) -> None:
                    at = code.add(row, code.mul(j, code.item))
                    more = Elements(code).number(self._element(g, g, lead, j, mask, {}))
                    total = code.b.fadd(code.load(at, mask), more)
                    code.store(code.b.select(code.b.icmp_signed("==", t, Code.integer(0)), more, total), at, mask)

                code.over(*self.bounds(g, len(g.shape) - 1), body)
