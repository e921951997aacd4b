"""Products in fused loops, and sums over time: the gradients of weights."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any

import numpy as np

from tinygrad_rnn.compiler.ir.value import Value
from tinygrad_rnn.compiler.llvm import kernels
from tinygrad_rnn.compiler.llvm.assembly import I64
from tinygrad_rnn.compiler.llvm.builder import Code
from tinygrad_rnn.compiler.llvm.convolutions import Convolutions
from tinygrad_rnn.compiler.llvm.elements import Elements
from tinygrad_rnn.compiler.llvm.operands import Constant, Operands
from tinygrad_rnn.compiler.schedule.schedule import NotFusable, about


class Products:
    """Matrix products.

    weights  those that the products want in panels
    """

    def __init__(self, operands: Operands):
        self.o, self.code, self.s = operands, operands.code, operands.s
        self.weights: dict[Value, None] = {}

    def _terms(self, v: Value) -> tuple[Value, Value, Any]:
        """(a, W, start) of v = start + a @ W."""
        m, start = self.s.flow.accumulated.get(v, (v, None))
        a, W = m.args
        if not self.o.unit(a):
            raise NotFusable(f"a product with {a.op} across rows has no form in machine code", m)
        self.weights[W] = None
        return a, W, start

    def at_a_step(self, v: Value, last: Any = None) -> None:
        """v = start + a @ W at the current step, for this worker's rows (or up to the row `last`)."""
        a, W, start = self._terms(v)
        first, end = self.o.bounds(v, 0)
        last = end if last is None else last
        code = self.code
        begin, row = Code.integer(0), Code.integer(0)
        if start is not None:
            start = self.o.known(start)
            if not self.o.unit(start):
                raise NotFusable(f"a product plus {start.op} across rows has no form in machine code", v)
            two = len(self.o.look(start).shape) - self.o.moving_in_time(start) == 2
            row = self.o.read("stride", start, 0) if two else row
            begin = self.o.at(start, [(0, first)] if two and start.shape[0] != 1 else [])
            if two and start.shape[0] == 1 and not (v.shape[0] == 1 and self.o.moving_in_time(start)):
                row = Code.integer(0)  # the same row for all
        kernels.call(code, "product", [
            code.b.sub(last, first), self.o.size(v, 1), self.o.size(a, 1),
            self.o.at(a, [(0, first)]), self.o.read("stride", a, 0), self.o.read("packed", W),
            begin, row, self.o.at(v, [(0, first)]), self.o.read("stride", v, 0),
        ])  # fmt: skip

    def for_all_steps(self, v: Value) -> bool:
        """The same for all steps, as one over the rows of all steps if one worker has them all. False if v is none."""
        if not self.s.flow.is_computed_as_product(v):
            return False
        a, _, start = self._terms(v)
        row = isinstance(start, Value) and len(start.shape) == 2 and start.shape[0] != 1
        each = self.o.moving_in_time(start)  # at each step rows of its own: those of the batch, or it is no one product
        if not (self.o.moving_in_time(a) and self.o.moving_in_time(v)) or (each and start.shape != v.shape):
            return False
        moving = [a, v, start] if row or each else [a, v]
        code, T = self.code, self.o.read("T")
        flat = code.b.icmp_signed("==", self.o.read("flat", *moving), Code.integer(1))  # one worker, rows evenly spaced
        last = self.o.bounds(v, 0)[1]
        last = code.b.select(flat, code.mul(T, last), last)
        with self.o.steps(0, code.b.select(flat, Code.integer(1), T)):
            self.at_a_step(v, last)
        return True

    def of_values(self, v: Value) -> None:
        """A product of values that move, or of more than two axes."""
        a, b = v.args
        if len(v.shape) < 2 or not all(isinstance(x, Value) for x in v.args):
            raise NotFusable("a product with a constant array has no form in machine code", v)
        if not (self.o.unit(b) or (self.o.unit(b, -2) and self.o.unit(a))):
            raise NotFusable("a product of two values across rows has no form in machine code", v)
        rank = len(v.shape)
        with self.o.loops(v) as lead:
            row = [(len(a.shape) - 2, lead[-1])] if a.shape[-2] != 1 else []
            left = self.o.at(a, [*self._outer(a, rank, lead[:-1]), *row])
            right, K = self._outer(b, rank, lead[:-1]), self.o.size(a, len(a.shape) - 1)
            step = self.o.read("stride", a, len(a.shape) - 1)
            if self.o.unit(b):
                self._row_by_matrix(v, lead, (left, step), right, K)
            else:
                self._row_by_rows(v, lead, left, right, K)

    def _row_by_matrix(self, v: Value, lead: list[Any], left: tuple, right: list[Any], K: Any) -> None:
        """A row of v, a vector of its columns at a time. left: where the row of a is, how far its numbers are apart"""
        code, b = self.code, v.args[1]
        at, step = left

        def columns(j: Any, mask: Any) -> None:
            total = code.top.alloca(code.vector)
            code.b.store(code.constant(0.0), total)
            with code.loop(0, K) as k:
                x = code.spread(code.load_one(code.add(at, code.mul(k, step))))
                here = self.o.at(b, [*right, (len(b.shape) - 2, k)])
                y = code.load(code.add(here, code.mul(j, code.item)), mask)
                code.b.store(code.fma(x, y, code.b.load(total)), total)
            self.o.put(v, code.b.load(total), lead, j, mask)

        code.over(*self.o.bounds(v, len(v.shape) - 1), columns)

    def _row_by_rows(self, v: Value, lead: list[Any], left: Any, right: list[Any], K: Any) -> None:
        """A row of v, where the columns of b lie in memory as rows do: dot products."""
        code, b, last = self.code, v.args[1], len(v.shape) - 1
        with code.loop(*self.o.bounds(v, last)) as j:
            total = self._dot(left, self.o.at(b, [*right, (len(b.shape) - 1, j)]), K)
            row = self.o.at(v, list(enumerate(lead)))
            code.store_one(total, code.add(row, code.mul(j, self.o.read("stride", v, last))))

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


class Sums:
    """Sums over time: the gradients of weights."""

    def __init__(self, operands: Operands, convolutions: Convolutions):
        self.o, self.code, self.s, self.convolutions = operands, operands.code, operands.s, convolutions

    def write(self, sums: Sequence[Value]) -> None:
        """Σ over the steps, and this worker's rows, for all gradients of captured tensors: block by block of steps."""
        code, T, block = self.code, self.o.read("T"), self.o.read("block")
        with code.loop(0, self.o.read("blocks")) as i:
            start = code.mul(i, block)
            end = code.add(start, block)
            end = code.b.select(code.b.icmp_signed("<", end, T), end, T)
            add = code.b.zext(code.b.icmp_signed("!=", i, Code.integer(0)), I64)  # 0: the first block
            for v in sums:
                with about(v):
                    code.say(v.origin)
                    self._sum_over(v, start, end, add)

    def _sum_over(self, v: Value, start: Any, end: Any, add: Any) -> None:
        """Σ over the steps of a block. add: 1 if on top of the blocks before it, else 0"""
        g = v.args[0]
        code = self.code
        out = code.add(self.o.read("address", v), code.mul(self.o.who, self.o.read("worker", v)))
        self.o.t = start
        steps = code.b.sub(end, start)
        if self.s.flow.contracted(g) and g.op == "matmul" and len(g.shape) == 2:
            a = g.args[0].args[0]
            self._contract(a, g.args[1], v, out, steps, add)
        elif self.s.flow.contracted(g) and g.op == "sum":
            self._contract(self.o.slots.constant(np.ones(1, code.dtype), "one"), g.args[0], v, out, steps, add)
        elif self.s.flow.contracted(g) and g.op == "correlate":
            self.convolutions.add_up(v, g, out, start, end, add)
        elif self.s.flow.contracted(g):
            self._contract_each(v, g, steps, add)
        else:
            self._add_up(v, g, start, end)

    def _contract(self, a: Any, g: Value, v: Value, out: Any, steps: Any, add: Any) -> None:
        code = self.code
        first, last = self.o.bounds(g, 0)
        if self.o.by_rows:  # of the batch; g may have several for each of them
            each = self.o.read("each", g)
            first, last = code.mul(first, each), code.mul(last, each)
        ones = isinstance(a, Constant)
        if not (self.o.unit(g) and (ones or self.o.unit(a))):
            raise NotFusable("its gradient, a sum of products across rows, has no form in machine code", v)
        zero = Code.integer(0)
        kernels.call(code, "contraction", [
            Code.integer(1) if ones else self.o.size(a, 1), self.o.size(g, 1), steps,
            self.o.at(a, [] if ones else [(0, first)]), zero if ones else self.o.time(a),
            self.o.at(g, [(0, first)]), self.o.time(g),
            code.b.sub(last, first), zero if ones else self.o.read("stride", a, 0), self.o.read("stride", g, 0),
            out, zero if ones else self.o.read("stride", v, 0), add,
        ])  # fmt: skip

    def _contract_each(self, v: Value, g: Value, steps: Any, add: Any) -> None:
        """Σₜ a[t] @ b[t] for each of the leading axes: a (…, M, 1) and b (…, 1, N)."""
        a, b = g.args
        code = self.code
        rank = len(v.shape)
        if a.shape[-1] != 1 or not self.o.unit(b) or not self.o.unit(a, -2) or not self.o.by_rows:
            raise NotFusable("its gradient, a sum over time of products of matrices, has no form in machine code", v)
        with ExitStack() as stack:
            lead = [stack.enter_context(code.loop(*(self.o.bounds(g, k)))) for k in range(rank - 2)]
            index = list(enumerate(lead))
            zero = Code.integer(0)
            where = code.add(self.o.read("address", v), *(code.mul(i, self.o.read("stride", v, k)) for k, i in index))
            kernels.call(code, "contraction", [
                self.o.size(a, rank - 2), self.o.size(b, rank - 1), steps, self.o.at(a, index), self.o.time(a),
                self.o.at(b, index), self.o.time(b), Code.integer(1), zero, zero,
                where, self.o.read("stride", v, rank - 2), add,
            ])  # fmt: skip

    def _add_up(self, v: Value, g: Value, start: Any, end: Any) -> None:
        """out += g, element by element."""
        code = self.code
        if not g.shape:
            raise NotFusable("its gradient, a sum over time of single numbers, has no form in machine code", v)
        with self.o.steps(start, end) as t, self.o.loops(g) as lead:
            offsets = [code.mul(i, self.o.read("stride", v, k)) for k, i in enumerate(lead)]
            row = code.add(self.o.read("address", v), *offsets)

            def body(j: Any, mask: Any) -> None:
                at = code.add(row, code.mul(j, code.item))
                more = Elements(code).number(self.o.element(g, g, lead, j, mask, {}))
                total = code.b.fadd(code.load(at, mask), more)
                code.store(code.b.select(code.b.icmp_signed("==", t, Code.integer(0)), more, total), at, mask)

            code.over(*self.o.bounds(g, len(g.shape) - 1), body)
