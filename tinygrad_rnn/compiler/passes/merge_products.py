"""Merging: k values of the same operation become one value, of which they are parts.

Gates lie side by side on the last axis; `part` and `pack` are views, so nothing is copied to bring them together.
"""

from __future__ import annotations

from collections import defaultdict
from typing import Any

from tinygrad_rnn.compiler.ir.circuit import Circuit, Value
from tinygrad_rnn.compiler.passes.normalise import is_transpose, pack, part, remake, transpose
from tinygrad_rnn.compiler.passes.reassociate import PARALLEL, PER_CALL, Levels, chain, levels

Users = dict[Value, list["Value | None"]]


def merge_gemms(c: Circuit, *, by_activation: bool) -> None:
    """Products that share an operand become one:

    a @ W₁, a @ W₂ → parts of a @ [W₁ W₂]       d₁ @ W₁ᵀ + d₂ @ W₂ᵀ → [d₁ d₂] @ [W₁ W₂]ᵀ
    aᵀ @ d₁, aᵀ @ d₂ → parts of aᵀ @ [d₁ d₂]     and the sums of d₁, d₂ over the batch → parts of the sum of [d₁ d₂]

    by_activation: gates with the same activation side by side, for an engine that pays by the call; else, where all
    are cut from one weight, in its order: then neither the weight nor its gradient is put together anew
    """
    Gemms(c, by_activation).merge()


class Gemms:
    """The products of a circuit, and which of them go together."""

    def __init__(self, c: Circuit, by_activation: bool):
        self.c, self.level, self.users = c, levels(c), c.users()
        self.by_activation = by_activation
        self.all = [v for v in c.order() if v.op == "matmul" and len(v.values) == 2 and len(v.args[1].shape) == 2]
        self.rank: dict[Value, int] = {}  # the place of a weight, or of a gate's gradient, beside its likes
        self.group: dict[Value, list[Value]] = {}
        self.sums: dict[Value, tuple[list[Value], list[Any]]] = {}
        self.waiting: set[Value] = set()  # sums whose products are being made
        self._forward()
        self._backward()
        self._gradients()
        packs = sorted(([t.args[0] for t in mine] for mine, _ in self.sums.values()), key=len)
        self.home = {d: tuple(p) for p in packs for d in p}  # the longest pack that a value belongs to

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
            self.waiting.add(v)
            total = c.make("matmul", self._packed([t.args[0] for t in mine], new), transpose(c, weights))
            self.waiting.remove(v)
            for t in rest:
                total = remake(c, c.make("add", new(t), total), (new(t), total))
            return total
        group = self.group.get(v, [v])
        if len(group) > 1:
            product = c.make("matmul", new(v.args[0]), self._packed([g.args[1] for g in group], new))
            lo = sum(g.shape[-1] for g in group[: group.index(v)])
            return part(c, product, lo, lo + v.shape[-1])
        if v.op == "sum" and v.args[0] in self.home and v.static["axis"] == (0,) and not v.static["keepdims"]:
            whole = self.home[v.args[0]]
            lo = sum(p.shape[-1] for p in whole[: whole.index(v.args[0])])
            return part(c, c.make("sum", self._packed(list(whole), new), **v.static), lo, lo + v.shape[-1])
        return remake(c, v, tuple(map(new, v.args)))

    def _packed(self, values: list[Value], new: Any) -> Value:
        """The values side by side: as a run of columns of a longer pack, if they are one, and if that does not depend
        on a sum that waits for it."""
        whole = self.home.get(values[0], ())
        at = next((i for i in range(len(whole)) if whole[i : i + len(values)] == tuple(values)), None)
        if at is None or len(whole) == len(values) or not self.waiting.isdisjoint(self.c.order(whole)):
            return pack(self.c, [new(v) for v in values])
        lo = sum(v.shape[-1] for v in whole[:at])
        return part(self.c, pack(self.c, [new(v) for v in whole]), lo, lo + sum(v.shape[-1] for v in values))


# ---- elementwise siblings, for an engine that pays by the call ------------------------------------------------------


def merge_siblings(c: Circuit) -> None:
    """op(part of S), op(next part of S) → parts of op(S); pack(op(p), op(q)) → op(pack(p, q)); to the end."""
    while _merge_parts(c) or _merge_packs(c):
        pass


def _moving_part(a: Any, level: Levels) -> bool:
    return isinstance(a, Value) and a.op == "part" and a.static["axis"] == -1 and level[a] != PER_CALL


def _merge_parts(c: Circuit) -> bool:
    """One round upwards from parts; True if it changed anything."""
    level = levels(c)
    groups: dict[tuple, list[Value]] = defaultdict(list)
    for v in c.order():
        if v.pointwise and level[v] != PER_CALL and not v.static:
            parts = [a for a in v.args if _moving_part(a, level)]
            fixed = [a for a in v.values if a not in parts]
            alike = all(a.shape == v.shape for a in parts)
            if parts and alike and all(level[a] == PER_CALL and a.shape[-1:] == v.shape[-1:] for a in fixed):
                shapes = tuple((a.shape[:-1], a.dtype) for a in fixed)
                key = [a.args[0] if a in parts else "fixed" if a in fixed else repr(a) for a in v.args]
                groups[v.op, level[v], shapes, tuple(key)].append(v)
    merged: dict[Value, list[Value]] = {}
    for group in groups.values():
        for run in _runs(group, level):
            merged |= dict.fromkeys(run, run)

    def visit(v: Value, new: Any) -> Value:
        if v not in merged:
            return remake(c, v, tuple(map(new, v.args)))
        run = merged[v]
        same = zip(*(r.args for r in run), strict=True)
        args = [pack(c, [new(a) for a in column]) if isinstance(column[0], Value) else column[0] for column in same]
        lo = sum(r.shape[-1] for r in run[: run.index(v)])
        return part(c, c.make(v.op, *args, primitive=v.primitive), lo, lo + v.shape[-1])

    if merged:
        c.rebuild(visit)
    return bool(merged)


def _runs(group: list[Value], level: Levels) -> list[list[Value]]:
    """Runs of two or more values whose parts are neighbours."""
    first = lambda v: next(a.static["lo"] for a in v.args if _moving_part(a, level))
    runs: list[list[Value]] = []
    for v in sorted(group, key=first):
        last = runs[-1][-1] if runs else None
        neighbours = last is not None and all(
            not _moving_part(a, level) or a.static["hi"] == b.static["lo"]
            for a, b in zip(last.args, v.args, strict=True)
        )
        if neighbours:
            runs[-1].append(v)
        else:
            runs.append([v])
    return [run for run in runs if len(run) > 1]


def _merge_packs(c: Circuit) -> bool:
    """One round downwards from packs, where a pack of arguments is one thing already; True if it changed anything."""
    level, users = levels(c), c.users()
    changed: list[Value] = []

    def visit(v: Value, new: Any) -> Value:
        if v.op != "pack" or level[v] == PER_CALL:
            return remake(c, v, tuple(map(new, v.args)))
        pieces, out = list(v.args), []
        while pieces:
            tries = ((n, _lifted(c, pieces[:n], new, level, users)) for n in range(len(pieces), 1, -1))
            n, made = next(((n, m) for n, m in tries if m is not None), (1, None))
            out.append(new(pieces[0]) if made is None else made)
            pieces = pieces[n:]
        if len(out) < len(v.args):
            changed.append(v)
        return pack(c, out)

    c.rebuild(visit)
    return bool(changed)


def _lifted(c: Circuit, values: list[Any], new: Any, level: Levels, users: Users) -> Value | None:
    """pack(op(p₁, q₁), op(p₂, q₂)) as op(pack(p₁, p₂), pack(q₁, q₂)), if that costs no copy."""
    first = values[0]
    if not all(
        v.op == first.op and v.pointwise and not v.static and len(users[v]) == 1 and level[v] == level[first]
        for v in values
    ):
        return None
    if any(a.shape != v.shape or a.dtype != v.dtype for v in values for a in v.values):
        return None
    columns = list(zip(*(v.args for v in values), strict=True))
    together = [_together(c, column, new, level, users) for column in columns]
    if not any(isinstance(t, Value) for t in together):
        return None
    pairs = list(zip(together, columns, strict=True))
    if any(t is None and not all(_writes(a, users) for a in column) for t, column in pairs):
        return None
    args = [pack(c, [new(a) for a in column]) if t is None else t for t, column in pairs]
    return c.make(first.op, *args, primitive=first.primitive)


def _together(c: Circuit, values: tuple, new: Any, level: Levels, users: Users) -> Any:
    """The values as one thing that costs no copy, or None."""
    first = values[0]
    if not all(isinstance(v, Value) and v.shape == first.shape for v in values):
        plain = not any(isinstance(v, Value) for v in values)
        return first if plain and all(repr(v) == repr(first) for v in values) else None
    if all(v is first for v in values):
        return c.make("splat", new(first), times=len(values))
    joined = pack(c, [new(v) for v in values])
    return joined if joined.op != "pack" else _lifted(c, list(values), new, level, users)


def _writes(v: Any, users: Users) -> bool:
    """Can it write its result straight into a pack?"""
    return isinstance(v, Value) and (v.pointwise or v.op == "matmul") and len(users[v]) == 1
