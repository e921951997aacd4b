"""Which values are computed when, and where each of them lives.

The order is a list of items: batched values (for all steps at once, or once for the call) and loops. A place is a
view of a buffer: (buffer, shift in time, view steps). Places are given in reverse order of execution: a value that dies
in an elementwise operation takes the place of the result (computing in place), the pieces of a pack take their columns
of it.
"""

from __future__ import annotations

import itertools

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from tinygrad_rnn.compiler.circuit import Circuit, Value
from tinygrad_rnn.compiler.distribute import PARALLEL, PER_CALL, levels
from tinygrad_rnn.compiler.normal import is_transpose, spans

END = 1 << 30  # after everything
LARGE = 1 << 22  # bytes of all steps that are not kept only to be summed
MASKS = {"where", "greater", "greater_equal", "less", "less_equal", "equal", "not_equal", "isnan", "logical_and",
         "logical_or", "logical_not", "clip", "cast", "pow", "erf"}  # fmt: skip


class NotFusable(Exception):
    """Why a circuit cannot run on an engine that fuses loops."""


@dataclass(eq=False)
class Buffer:
    """An array of the plan: `shape` for one step, with a leading axis of T + extra steps if `time`."""

    shape: tuple[int, ...]
    dtype: Any
    time: bool
    extra: int = 0
    bound: bool = False  # given by the caller at each call
    free_from: int = -1  # a carried gradient occupies it up to this position
    span: tuple[int, int] = (END, -1)  # positions of the first write and the last read

    def nbytes(self, T: int) -> int:
        """Its size for T steps."""
        return int(np.prod(self.shape, dtype=np.int64)) * self.dtype.itemsize * (T + self.extra if self.time else 1)


@dataclass(frozen=True)
class Place:
    """A view of a buffer: what of it, shifted in time by so many steps."""

    buffer: Buffer
    shift: int = 0
    steps: tuple[tuple, ...] = ()

    def then(self, *step: Any) -> Place:
        """A view of this view; columns of columns are columns."""
        if self.steps and step[0] == "part" and self.steps[-1][:2] == step[:2]:
            at = self.steps[-1][2]
            return Place(self.buffer, self.shift, (*self.steps[:-1], (*step[:2], at + step[2], at + step[3])))
        return Place(self.buffer, self.shift, (*self.steps, step))


@dataclass(eq=False)
class Item:
    """Values computed together: a loop over the steps, or one value for all of them."""

    values: list[Value]
    loop: bool = False
    backward: bool = False


def is_view(v: Value) -> bool:
    """Does it only look at its argument in another way?"""
    if v.op == "getitem":
        key = v.static["key"]
        return not any(isinstance(k, (np.ndarray, list)) for k in (key if isinstance(key, tuple) else (key,)))
    if v.op == "reshape":  # of a whole buffer: of a part it would be a copy
        return isinstance(v.args[0], Value) and not is_view(v.args[0]) and v.args[0].op not in ("pack", "zeros")
    return v.op in ("part", "permute", "broadcast_to", "splat")


def base(v: Value) -> Value:
    """The value that a view looks at."""
    while is_view(v):
        v = v.args[0]
    return v


class Schedule:
    """The order of a circuit's values over T steps, and their places."""

    def __init__(self, c: Circuit, steps: int, *, sink_bytes: int = 1 << 20, fuse: bool = False):
        self.c, self.T, self.fuse = c, steps, fuse
        self._own_states()
        self.level, self.users = levels(c), c.users()
        self.whole = {v.args[0] for v in self.level if v.op == "reshape"}
        self.sums = -1 if fuse else self._add_up()
        self._sink(sink_bytes)
        self.addend = self._addends() if fuse else {}
        self.absorbed = {m for m, _ in self.addend.values()}
        self.items: list[Item] = []
        self._order()
        self._analyse()
        self.place: dict[Value, Place] = {}
        self._places()

    def moves(self, v: Value) -> bool:
        """Does it differ from step to step?"""
        return self.level[v] != PER_CALL and v.op != "tsum"

    # ---- preparing ------------------------------------------------------------------------------------------------

    def _own_states(self) -> None:
        """Each new state, and each gradient of one, is a computed value of its own; else a copy is made."""
        c = self.c
        read = set(c.order())
        for name, leaves in (("state", c.states), ("dstate", c.seeds[1:])):
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
                elif g.op != "input" and self._bytes(v) > LARGE:
                    self.level[v] = n
        return n

    def _bytes(self, v: Value) -> int:
        """The size of all steps."""
        return self.T * int(np.prod(v.shape)) * v.dtype.itemsize

    def _sink(self, limit: int) -> None:
        """Cheap parallel values that only one loop reads are computed there, if all steps would not stay in cache."""
        for v in reversed(self.c.order()):
            if self.level[v] == PARALLEL and not v.several:
                homes = {self.level[u] if u else PARALLEL for u in self.users[v]}
                home = homes.pop() if len(homes) == 1 else PARALLEL
                if home >= 0 and self._bytes(v) > limit and self._cheap(v, home):
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
        self.split = 0
        for group in (forward, self.c.wanted):
            for root in group:
                self._visit(root, done, behind, later)
            self.split = self.split or len(self.items)
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
        return self._late(body) if self.fuse else self._deep(wanted, inside)

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
                        if rows and m.shape == v.shape and a.op != "zeros" and a is not m:
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
        for phase in (self.items[: self.split], self.items[self.split :]) if self.fuse else ():
            sums = [item.values[0] for item in phase if item.values[0].op == "tsum"]
            self.groups += [sums] if sums else []
        for v, item in self.item.items():
            for a in map(base, self.reads(v)):
                inside = item.loop and self.item.get(a) is item
                if not inside and (a.op != "input" or self.level[a] != self.level[v]):
                    self.outside.add(a)
        self.outside |= {base(v) for name in ("y", "dx") for v in self.c.roots.get(name, ()) if v is not None}
        for v in self.c.wanted:
            self.last[base(v)] = END

    def _grouped(self, item: Item) -> Iterator[list[Value]]:
        """The values of an item that are computed element by element in one nest, and each other one by itself."""
        group: list[Value] = []
        for v in item.values:
            alike = group and self.fusable(v) and v.shape == group[0].shape
            looked_at = any(is_view(a) and base(a) in group for a in v.values)
            if group and (not alike or looked_at or v.op == "pack"):
                yield group
                group = []
            if v.op == "pack" or not self.fusable(v):
                yield [v]
            else:
                group.append(v)
        if group:
            yield group

    # ---- places ---------------------------------------------------------------------------------------------------

    def _places(self) -> None:
        c = self.c
        self.until: dict[Value, int] = {}  # the position from which on another value is in a value's place
        inputs = [c.x, *c.captured, *c.draws, *c.seeds[:1], *([c.alive] if c.alive is not None else [])]
        for v in inputs:
            self.place[v] = Place(Buffer(v.shape, v.dtype, v.moves, bound=True))
        for s, v, back in c.delays:
            self._carry(s, v, back)
        for v in reversed(self.position):
            if not v.several:
                self._place(v)
        for v in self.position:
            if not v.several:
                self._extend(v)

    def _carry(self, s: Value, v: Value, back: bool) -> None:
        """A state and its new value share a buffer: one slot, or T + 1 steps if anybody looks at the old ones."""
        kept = not self.item[v].loop or {s, v} & self.outside or self.last.get(s, -1) > self.position[v]
        if not kept and (s in self.level or not back):  # a loop that nobody reads the leaf in may run forward
            buffer = Buffer(s.shape, s.dtype, False, free_from=self.last.get(s, -1))
            self.place[s] = self.place[v] = Place(buffer)
        else:
            buffer = Buffer(s.shape, s.dtype, True, extra=1)
            self.place[s], self.place[v] = Place(buffer, int(back)), Place(buffer, int(not back))
        buffer.span = (-1, END)

    def _place(self, v: Value) -> None:
        if v not in self.place:
            time = self.moves(v) and (v in self.outside or not self.item[v].loop)
            free = v not in self.whole
            inside = self._inside(v, time) if free else None
            self.place[v] = inside or (free and self._run(v)) or Place(Buffer(v.shape, v.dtype, time))
            if inside:  # what is in that place before v is the part that v reads
                return
        where = self.place[v]
        if v.op == "pack":
            for p, lo, hi in spans(v):
                self._share(p, where.then("part", -1, lo, hi), v)
        if v.pointwise and v.op not in MASKS:
            for a in v.values:
                if a.shape == v.shape and a.dtype == v.dtype and self._dies(a, v) and self._share(a, where, v):
                    break

    def _run(self, v: Value) -> Place | None:
        """A pack whose pieces lie side by side already, in a longer pack: that run of columns."""
        found = [self.place.get(p) for p in v.args] if v.op == "pack" else [None]
        at = [p for p in found if p is not None and p.steps and p.steps[-1][:2] == ("part", -1)]
        if len(at) < len(found):
            return None
        first, cuts = at[0], [p.steps[-1][2:] for p in at]
        same = all((p.buffer, p.shift, p.steps[:-1]) == (first.buffer, first.shift, first.steps[:-1]) for p in at)
        if not same or any(a[1] != b[0] for a, b in itertools.pairwise(cuts)):
            return None
        if any(self.until.get(p, END) <= self.last.get(v, -1) for p in v.args):
            return None
        return Place(first.buffer, first.shift, (*first.steps[:-1], ("part", -1, cuts[0][0], cuts[-1][1])))

    def _dies(self, a: Value, v: Value) -> bool:
        """Is v the last to read a, and the pieces of a if it is a pack?"""
        parts = [base(p) for p in a.values] if a.op == "pack" else []
        dead = all(self.last.get(b, -1) <= self.position[v] for b in (a, *parts))
        return dead and not any(b is not a and base(b) is a for b in v.values)

    def _share(self, a: Value, where: Place, v: Value) -> bool:
        """Let a be computed where v will be, if nothing else needs that place meanwhile."""
        if a in self.place or a not in self.position or self.moves(a) != self.moves(v) or a in self.whole:
            return False
        if not where.buffer.time and (self.item[a] is not self.item[v] or a in self.outside):
            return False
        if self.position[a] <= where.buffer.free_from or a.dtype != where.buffer.dtype:
            return False
        self.place[a] = where
        self.until[a] = self.until.get(v, END) if v.op == "pack" else self.position[v]
        return True

    def _inside(self, v: Value, time: bool) -> Place | None:
        """v = op(part of z), the last reader of that part: v takes the part's place, in a buffer made for z."""
        for a in v.values if v.pointwise and v.op not in MASKS else ():
            if a.op != "part" or a.shape != v.shape or a.args[0] not in self.position:
                continue
            z = a.args[0]
            if z.dtype != v.dtype or self.moves(z) != self.moves(v) or not self._taken_apart(z, v):
                continue
            if z not in self.place:
                apart = self.moves(z) and self.item[z] is not self.item[v]
                self.place[z] = Place(Buffer(z.shape, z.dtype, time or apart))
            if self.place[z].buffer.time or not time:
                return self.place[z].then("part", -1, a.static["lo"], a.static["hi"])
        return None

    def _taken_apart(self, z: Value, v: Value) -> bool:
        """Is z read as separate columns only, each once, in the item of v?"""
        readers = [u for u in self.users[z] if u is not None]
        if len(readers) != len(self.users[z]) or any(u.op != "part" or u.static["axis"] != -1 for u in readers):
            return False
        cuts = sorted((u.static["lo"], u.static["hi"]) for u in readers)
        if any(p[1] > q[0] for p, q in itertools.pairwise(cuts)):
            return False
        once = [self.users[u][0] for u in readers if len(self.users[u]) == 1]
        return len(once) == len(readers) and all(u is not None and self.item.get(u) is self.item[v] for u in once)

    def _extend(self, v: Value) -> None:
        """Widen the life of the buffer of v by v's own."""
        b = self.place[v].buffer
        ends = [self.position[v], self.last.get(v, self.position[v])]
        for lo, hi in self.bounds:  # what a loop shares with others is alive during the whole of it
            if b.time or not (lo <= ends[0] <= hi and lo <= ends[1] <= hi):
                ends = [lo if lo <= ends[0] <= hi else ends[0], hi if lo <= ends[1] <= hi else ends[1]]
        for g in self.groups:  # the values of a nest are computed side by side
            lo, hi = self.position[g[0]], self.position[g[-1]]
            ends = [lo if lo <= ends[0] <= hi else ends[0], hi if lo <= ends[1] <= hi else ends[1]]
        b.span = (min(b.span[0], ends[0]), max(b.span[1], ends[1]))

    def where(self, v: Value) -> Place:
        """The place of a value, or of a view of one."""
        if v in self.place:
            return self.place[v]
        p = self.where(v.args[0])
        if v.op == "part":
            return p.then("part", v.static["axis"], v.static["lo"], v.static["hi"])
        if v.op == "permute":
            return p.then("permute", v.static["axes"])
        if v.op == "reshape":
            return p.then("reshape", v.shape)
        if v.op == "getitem":
            return p.then("getitem", v.static["key"])
        assert v.op == "broadcast_to", v
        return p.then("broadcast_to", v.shape)
