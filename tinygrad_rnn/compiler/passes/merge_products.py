"""Merging: k values of the same operation become one value, of which they are parts.

Gates lie side by side on the last axis; `part` and `pack` are views, so nothing is copied to bring them together.
"""

from __future__ import annotations

from collections import defaultdict
from typing import Any

from tinygrad_rnn.compiler.ir.circuit import Circuit
from tinygrad_rnn.compiler.ir.columns import is_transpose, pack, part, remake, transpose
from tinygrad_rnn.compiler.ir.levels import PARALLEL, PER_CALL, levels
from tinygrad_rnn.compiler.ir.value import Value
from tinygrad_rnn.compiler.passes.reassociate import chain

Users = dict[Value, list["Value | None"]]


def merge_products(c: Circuit, *, by_activation: bool) -> None:
    """Products that share an operand become one:

    a @ W₁, a @ W₂ → parts of a @ [W₁ W₂]       d₁ @ W₁ᵀ + d₂ @ W₂ᵀ → [d₁ d₂] @ [W₁ W₂]ᵀ
    aᵀ @ d₁, aᵀ @ d₂ → parts of aᵀ @ [d₁ d₂]     and the sums of d₁, d₂ over the batch → parts of the sum of [d₁ d₂]

    by_activation: gates with the same activation side by side, for an engine that pays by the call; else, where all
    are cut from one weight, in its order: then neither the weight nor its gradient is put together anew
    """
    ProductMerger(c, by_activation).merge()


class ProductMerger:
    """The products of a circuit, and which of them go together."""

    def __init__(self, c: Circuit, by_activation: bool):
        self.c, self.level, self.users = c, levels(c), c.users()
        self.by_activation = by_activation
        self.all = [v for v in c.order() if v.op == "matmul" and len(v.values) == 2 and len(v.args[1].shape) == 2]
        self.rank: dict[Value, int] = {}  # the place of a weight, or of a gate's gradient, beside its likes
        self.group: dict[Value, list[Value]] = {}
        self.sums: dict[Value, tuple[list[Value], list[Any]]] = {}
        self.open_sums: set[Value] = set()  # sums whose products are being made
        self._forward()
        self._backward()
        self._gradients()
        packs = sorted(([t.args[0] for t in mine] for mine, _ in self.sums.values()), key=len)
        self.longest_pack = {d: tuple(p) for p in packs for d in p}  # the longest pack that a value belongs to

    def _forward(self) -> None:
        """The same left operand, weights on the right."""
        groups: dict[tuple, list[Value]] = defaultdict(list)
        for v in self.all:
            a, W = v.args
            if self.level[W] == PER_CALL and not is_transpose(W) and self.level[v] != PER_CALL:
                groups[a, self.level[v], W.dtype].append(v)
        for group in groups.values():
            cut = all(v.args[1].op == "part" for v in group) and len({v.args[1].args[0] for v in group}) == 1
            if cut and not self.by_activation:
                group.sort(key=lambda v: v.args[1].static["lo"])
            else:
                group.sort(key=self._activation)
            self.rank |= {v.args[1]: i for i, v in enumerate(group)}
            self.group |= dict.fromkeys(group, group)

    def _activation(self, v: Value) -> str:
        """The name of the first operation but + that reads a product."""
        while len(self.users[v]) == 1 and (user := self.users[v][0]) is not None:
            if user.op != "add":
                return user.op
            v = user
        return ""

    def _backward(self) -> None:
        """The terms d @ Wᵀ of one sum."""
        for v in self.c.order():
            readers = self.users[v]
            if v.op != "add" or (len(readers) == 1 and readers[0] is not None and readers[0].op == "add"):
                continue
            terms = chain(v, self.users)
            mine = [t for t in terms if t in set(self.all) and self._mergeable(t, v)]
            if len(mine) > 1:
                mine.sort(key=lambda t: self.rank.get(t.args[1].args[0], 0))
                self.sums[v] = mine, [t for t in terms if t not in mine]
                self.rank |= {t.args[0]: i for i, t in enumerate(mine)}

    def _mergeable(self, t: Value, v: Value) -> bool:
        alone = len(self.users[t]) == 1 and self.level[t] == self.level[v]
        of_one = t.shape == v.shape and all(a.dtype == v.dtype for a in (t, *t.values))  # no column for all of v
        return (
            alone
            and of_one
            and is_transpose(t.args[1])
            and self.level[t.args[1]] == PER_CALL
            and t.args[0].op != "input"
        )

    def _gradients(self) -> None:
        """The same aᵀ, moving operands on the right."""
        groups: dict[tuple, list[Value]] = defaultdict(list)
        for v in self.all:
            if self.level[v.args[1]] != PER_CALL and self.level[v] == PARALLEL:
                groups[v.args[0], v.args[1].dtype].append(v)
        for group in groups.values():
            group.sort(key=lambda v: self.rank.get(v.args[1], 0))
            self.group |= dict.fromkeys(group, group)

    def merge(self) -> None:
        """Rebuild the circuit with each group as one product."""
        self.c.rebuild(self._visit)

    def _visit(self, v: Value, new: Any) -> Value:
        c = self.c
        if v in self.sums:
            mine, rest = self.sums[v]
            weights = pack(c, [new(t.args[1].args[0]) for t in mine])
            self.open_sums.add(v)
            total = c.make("matmul", self._packed([t.args[0] for t in mine], new), transpose(c, weights))
            self.open_sums.remove(v)
            for t in rest:
                total = remake(c, c.make("add", new(t), total), (new(t), total))
            return total
        group = self.group.get(v, [v])
        if len(group) > 1:
            product = c.make("matmul", new(v.args[0]), self._packed([g.args[1] for g in group], new))
            lo = sum(g.shape[-1] for g in group[: group.index(v)])
            return part(c, product, lo, lo + v.shape[-1])
        if v.op == "sum" and v.args[0] in self.longest_pack and v.static["axis"] == (0,) and not v.static["keepdims"]:
            whole = self.longest_pack[v.args[0]]
            lo = sum(p.shape[-1] for p in whole[: whole.index(v.args[0])])
            return part(c, c.make("sum", self._packed(list(whole), new), **v.static), lo, lo + v.shape[-1])
        return remake(c, v, tuple(map(new, v.args)))

    def _packed(self, values: list[Value], new: Any) -> Value:
        """The values side by side: as a run of columns of a longer pack, if they are one, and if that does not depend
        on a sum that waits for it."""
        whole = self.longest_pack.get(values[0], ())
        at = next((i for i in range(len(whole)) if whole[i : i + len(values)] == tuple(values)), None)
        if at is None or len(whole) == len(values) or not self.open_sums.isdisjoint(self.c.order(whole)):
            return pack(self.c, [new(v) for v in values])
        lo = sum(v.shape[-1] for v in whole[:at])
        return part(self.c, pack(self.c, [new(v) for v in whole]), lo, lo + sum(v.shape[-1] for v in values))
