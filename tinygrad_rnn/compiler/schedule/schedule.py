"""Which values are computed when: a list of items, each a loop, or a value for all steps at once, or once a call."""

from __future__ import annotations

import itertools

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from tinygrad_rnn.compiler.ir.circuit import Circuit
from tinygrad_rnn.compiler.ir.columns import is_transpose
from tinygrad_rnn.compiler.ir.levels import PARALLEL, PER_CALL, levels
from tinygrad_rnn.compiler.ir.value import Value
from tinygrad_rnn.compiler.schedule.nest_places import NestPlaces
from tinygrad_rnn.compiler.schedule.places import END, Place, Places, base, is_view, only_ones

LARGE = 1 << 22  # bytes of all steps that are not kept only to be summed


class NotFusable(Exception):
    """Why a circuit cannot run on an engine that fuses loops, and the value that has no form there."""

    def __init__(self, reason: str, value: Value | None = None):
        super().__init__(reason)
        self.value = value


@contextmanager
def about(v: Value) -> Iterator[None]:
    """Let what is not fusable in the block be a reason to do with v."""
    try:
        yield
    except NotFusable as reason:
        reason.value = reason.value or v
        raise


@dataclass(eq=False)
class Item:
    """Values computed together: a loop over the steps, or one value for all of them."""

    values: list[Value]
    loop: bool = False
    backward: bool = False


class Schedule:
    """The order of a circuit's values over T steps, and their places."""

    def __init__(self, c: Circuit, steps: int, *, sink_bytes: int = 1 << 20, fuse: bool = False):
        self.c, self.T, self.fuse = c, steps, fuse
        self._own_states()
        self.level, self.users = levels(c), c.users()
        self.whole = {v.args[0] for v in self.level if v.op == "reshape" and not only_ones(v)}
        self.sums = -1 if fuse else self._add_up()
        self._sink(sink_bytes)
        self.addend = self._addends() if fuse else {}
        self.absorbed = {m for m, _ in self.addend.values()}
        self.items: list[Item] = []
        self._order()
        self._analyse()
        self.places = NestPlaces(self) if fuse else Places(self)
        self.place = self.places.place

    def moves(self, v: Value) -> bool:
        """Does it differ from step to step?"""
        return self.level[v] != PER_CALL and v.op != "tsum"

    # ---- preparing ------------------------------------------------------------------------------------------------

    def _own_states(self) -> None:
        """Each new state, and each gradient of one, is a computed value of its own; else a copy is made."""
        c = self.c
        read = set(c.order())
        for name, leaves in (("state", c.states), ("dstate", c.carried)):
            roots = c.roots.get(name, [])
            for k, (v, leaf) in enumerate(zip(roots, leaves, strict=False)):
                if v is None and name == "dstate" and leaf in read:
                    v = c.zeros(leaf.shape, leaf.dtype)
                if v is None:
                    continue
                if v in roots[:k] or is_view(v) or v.op in ("input", "zeros", "pack", "tsum") or not v.moves:
                    v = Value("carry", (v,), {}, v.shape, v.dtype, True)
                roots[k] = v

    def _add_up(self) -> int:
        """Sums over time that are added up step by step: of what a loop computes, there; of what is large for all steps
        and no contraction, in a loop for all such sums, whose number is returned."""
        n = max(self.level.values(), default=0) + 1
        for v in self.level:
            if v.op == "tsum" and self.moves(v.args[0]) and not self.contracted(v.args[0]):
                g = base(v.args[0])
                if self.level[g] >= 0:
                    self.level[v] = self.level[g]
                elif g.op != "input" and self.bytes(v) > LARGE:
                    self.level[v] = n
        return n

    def bytes(self, v: Value) -> int:
        """The size of all steps."""
        return self.T * int(np.prod(v.shape)) * v.dtype.itemsize

    def _sink(self, limit: int) -> None:
        """Cheap parallel values that only one loop reads are computed there, if all steps would not stay in cache."""
        for v in reversed(self.c.order()):
            if self.level[v] == PARALLEL and not v.several:
                homes = {self.level[u] if u else PARALLEL for u in self.users[v]}
                home = homes.pop() if len(homes) == 1 else PARALLEL
                if home >= 0 and self.bytes(v) > limit and self._cheap(v, home):
                    self.level[v] = home

    def _cheap(self, v: Value, home: int) -> bool:
        """Is it as well computed step by step?"""
        if home == self.sums:  # all but one product of the rows of all steps
            return v.op not in ("input", "carry") and not (v.op == "matmul" and not self.moves(v.args[1]))
        return (v.pointwise or is_view(v) or v.op == "pack") and v.op != "carry"

    # ---- the order ------------------------------------------------------------------------------------------------

    def _order(self) -> None:
        self.loops: dict[int, list[Value]] = {}
        for v in self.c.order():
            self.loops.setdefault(self.level[v], []).append(v)
        later = {self.level[s] for s, _, back in self.c.delays if back and s in self.level}
        behind = {s: v for s, v, _ in self.c.delays if s in self.level and self.level[s] < 0}  # a delay on no cycle
        done: set[Value] = set()
        forward = [v for name in ("y", "state") for v in self.c.roots[name] if v is not None]
        for root in forward:
            self._visit(root, done, behind, later)
        self.split = len(self.items)  # 0 if there is nothing to do forward
        for root in self.c.wanted:
            self._visit(root, done, behind, later)
        if self.fuse:
            self.items = [*self._staged(self.items[: self.split]), *self._staged(self.items[self.split :])]
        self.forward = set(self.c.order(forward))

    def _staged(self, items: list[Item]) -> list[Item]:
        """What is computed once, what moves, the sums over time, and what is computed once from these."""
        after: set[Value] = set()
        stages: dict[str, list[Item]] = {"once": [], "moving": [], "sums": [], "after": []}
        for item in items:
            v = item.values[0]
            if v.op == "tsum" or not after.isdisjoint(v.values):
                after |= {v, *self._views_of(v)}
            stage = "sums" if v.op == "tsum" else "moving" if self.moves(v) else "after" if v in after else "once"
            stages[stage].append(item)
        return [item for stage in stages.values() for item in stage]

    def _views_of(self, v: Value) -> Iterator[Value]:
        """The values that only look at v."""
        for u in self.users[v]:
            if u is not None and is_view(u):
                yield u
                yield from self._views_of(u)

    def _visit(self, root: Value, done: set[Value], behind: dict[Value, Value], later: set[int]) -> None:
        """Append what a root needs, and then itself."""
        stack: list[tuple[Value, bool]] = [(root, False)]
        entered: set[int | Value] = set()
        while stack:
            v, ready = stack.pop()
            n = self.level[v]
            unit = self.loops[n] if n >= 0 else [v]
            if v in done:
                continue
            if ready:
                done.update(unit)
                self._append(v, n, unit, n in later)
                done.update(u for u in self.users[v] if v.several and u is not None)
                continue
            key = n if n >= 0 else v
            if key in entered:
                continue
            entered.add(key)
            stack.append((v, True))
            for u in unit:
                before = [*u.values, *([behind[u]] if u in behind else [])]
                stack += [(a, False) for a in before if a not in done and (self.level[a] != n or n < 0)]

    def _append(self, v: Value, n: int, unit: list[Value], backward: bool) -> None:
        if n >= 0:
            self.items.append(Item(self._body(n, unit), loop=True, backward=backward))
        elif not self.skipped(v):
            self.items.append(Item([v]))
            if v.several:  # what they are picked from is kept nowhere
                self.items += [Item([u]) for u in self.users[v] if u is not None]

    def _body(self, n: int, unit: list[Value]) -> list[Value]:
        """The values of a loop in an order in which each comes after what it reads at the same step."""
        carried = {v for _, v, _ in self.c.delays}
        wanted = [u for u in unit if u in carried or any(w is None or self.level[w] != n for w in self.users[u])]
        inside = {v for v in self.c.order(wanted) if self.level[v] == n}
        body = [v for v in sorted(inside, key=lambda v: v.index) if not self.skipped(v)]
        return self._joined(self._late(body)) if self.fuse else self._deep(wanted, inside)

    def _deep(self, wanted: list[Value], inside: set[Value]) -> list[Value]:
        """Depth first: a value is used soon after it is made."""
        out: list[Value] = []
        seen: set[Value] = set()
        stack = [(v, False) for v in reversed(wanted)]
        while stack:
            v, ready = stack.pop()
            if ready:
                out.append(v)
            elif v not in seen and v in inside:
                seen.add(v)
                if not self.skipped(v):
                    stack.append((v, True))
                stack += [(a, False) for a in reversed(v.values)]
        return out

    def _late(self, body: list[Value]) -> list[Value]:
        """Elementwise values as late and as close together as they can be: fewest results between groups."""
        readers: dict[Value, set[Value]] = {v: set() for v in body}
        for v in body:
            for a in self.reads(v):
                if base(a) in readers:
                    readers[base(a)].add(v)
        out: list[Value] = []
        done: set[Value] = set()
        left = body[::-1]
        while left:
            for fusable in (True, False):
                while batch := [v for v in left if readers[v] <= done and self.fusable(v) == fusable]:
                    batch.sort(key=lambda v: v.op != "pack")  # not between the values of a nest
                    out += batch
                    done.update(batch)
                    left = [v for v in left if v not in done]
                    if not fusable:
                        break
        return out[::-1]

    def _joined(self, body: list[Value]) -> list[Value]:
        """Each elementwise value in the nest that makes what it reads, if it can be: it is in registers there."""
        leaf = {v: s for s, v, _ in self.c.delays}
        readers: dict[Value, list[Value]] = {}
        for v in body:
            for a in self.reads(v):
                readers.setdefault(base(a), []).append(v)
        nests: list[list[Value]] = []
        home: dict[Value, int] = {}
        alike = lambda v, k: 0 <= k < len(nests) and self._fits(v, nests[k])
        for v in body:
            k = len(nests) - 1
            if not alike(v, k):
                k = max((home.get(base(a), -1) for a in self.reads(v)), default=-1)
                # what it takes the place of is read before
                late = any(home.get(u, len(nests)) > k for u in readers.get(leaf.get(v, v), ()) if u is not v)
                if not alike(v, k) or (v in leaf and late):
                    nests.append([])
                    k = len(nests) - 1
            nests[k].append(v)
            home[v] = k
        return [v for nest in nests for v in nest]

    def _fits(self, v: Value, nest: list[Value]) -> bool:
        """Can v be computed element by element together with these?"""
        if v.op == "pack" or nest[0].op == "pack" or not (self.fusable(v) and self.fusable(nest[0])):
            return False
        return v.shape == nest[0].shape and not any(is_view(a) and base(a) in nest for a in v.values)

    def fusable(self, v: Value) -> bool:
        """Can it be computed element by element, together with others?"""
        return (v.pointwise and v not in self.addend) or v.op in ("pack", "carry")

    def skipped(self, v: Value) -> bool:
        """Is there nothing to do for it?"""
        return is_view(v) or v.op in ("input", "zeros") or v in self.absorbed or self.contracted(v)

    def _addends(self) -> dict[Value, tuple[Value, Any]]:
        """For each sum that a product is computed on top of: the product, and the other term."""
        found: dict[Value, tuple[Value, Any]] = {}
        for v in self.c.order():
            if v.op == "add" and self.level[v] != PER_CALL:
                for m, a in (v.args, v.args[::-1]):
                    if self._is_product(m) and self.users[m] == [v] and self.level[m] == self.level[v]:
                        rows = isinstance(a, Value) and a.shape in (v.shape, v.shape[-1:], (1, v.shape[-1]))
                        if rows and a.dtype == v.dtype and m.shape == v.shape and a.op != "zeros" and a is not m:
                            found[v] = (m, a)
                            break
        return found

    def _is_product(self, m: Any) -> bool:
        """A product of rows with weights?"""
        product = isinstance(m, Value) and m.op == "matmul" and len(m.values) == 2 and len(m.shape) == 2
        return product and self.moves(m.args[0]) and not self.moves(m.args[1]) and not self.contracted(m)

    def contracted(self, v: Value) -> bool:
        """Part of a contraction over time and batch: aᵀ g or Σ g, summed over the steps by the tsum that reads it."""
        if not all(u is not None and u.op == "tsum" for u in self.users[v]) or self.level[v] != PARALLEL:
            return False
        if v.op == "matmul" and len(v.values) == 2 and all(self.moves(a) for a in v.args):
            a, b = v.args
            return (is_transpose(a) and len(b.shape) == 2) or (len(a.shape) > 2 and a.shape[:-2] == b.shape[:-2])
        return v.op == "sum" and v.static["axis"] == (0,) and not v.static["keepdims"] and len(v.args[0].shape) == 2

    # ---- who reads what, when -------------------------------------------------------------------------------------

    def reads(self, v: Value) -> Iterator[Value]:
        """What is read when v is computed: contractions are computed by the sum that reads them."""
        for a in v.values:
            yield a
            if self.contracted(a) or a in self.absorbed:
                yield from a.values

    def _analyse(self) -> None:
        self.position: dict[Value, int] = {}
        self.last: dict[Value, int] = {}
        self.item: dict[Value, Item] = {}
        self.bounds: list[tuple[int, int]] = []
        self.outside: set[Value] = set()  # needed for all steps at once, or in another loop
        n = itertools.count()
        for item in self.items:
            first = END
            for v in item.values:
                self.position[v], self.item[v] = next(n), item
                first = min(first, self.position[v])
                for a in self.reads(v):
                    self.last[base(a)] = self.position[v]
            if item.loop:
                self.bounds.append((first, self.position[item.values[-1]]))
        self.groups = [g for item in self.items for g in self._grouped(item)] if self.fuse else []
        nests = [g for g in self.groups if g[0].op != "pack" and self.fusable(g[0])]
        self.nest = {v: g for g in nests for v in g}
        carried = {v for _, v, _ in self.c.delays}
        alone = lambda v: all(u is not None and self.nest.get(u) is self.nest[v] for u in self.users[v])
        self.registers = {v for g in nests for v in g if v not in carried and alone(v)}
        for phase in (self.items[: self.split], self.items[self.split :]) if self.fuse else ():
            sums = [item.values[0] for item in phase if item.values[0].op == "tsum"]
            self.groups += [sums] if sums else []
        for v, item in self.item.items():
            for a in map(base, self.reads(v)):
                inside = item.loop and self.item.get(a) is item
                if not inside and (a.op != "input" or self.level[a] != self.level[v] or self.level[a] < 0):
                    self.outside.add(a)
        self.outside |= {
            base(v) for name in ("y", "dx", "dwatched") for v in self.c.roots.get(name, ()) if v is not None
        }
        for v in self.c.wanted:
            self.last[base(v)] = END

    def _grouped(self, item: Item) -> Iterator[list[Value]]:
        """The values of an item that are computed element by element in one nest, and each other one by itself."""
        group: list[Value] = []
        for v in item.values:
            if group and not self._fits(v, group):
                yield group
                group = []
            group.append(v)
        yield group

    def where(self, v: Value) -> Place:
        """The place of a value, or of a view of one."""
        return self.places.where(v)
