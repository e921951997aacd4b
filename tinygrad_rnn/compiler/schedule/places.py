"""Where each value lives: a place is a view of a buffer, (buffer, shift in time, view steps).

Places are given in reverse order of execution: a value that dies in an elementwise operation takes the place of the
result (computing in place), the pieces of a pack take their columns of it.
"""

from __future__ import annotations

import itertools
import math

from dataclasses import dataclass
from typing import Any

import numpy as np

from tinygrad_rnn.compiler.ir.columns import spans
from tinygrad_rnn.compiler.ir.value import Value

END = 1 << 30  # after everything
MASKS = {"where", "greater", "greater_equal", "less", "less_equal", "equal", "not_equal", "isnan", "logical_and",
         "logical_or", "logical_not", "clip", "cast", "pow", "erf"}  # fmt: skip


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

    def whole(self, T: int) -> tuple[int, ...]:
        """The shape of its array for T steps."""
        return (T + self.extra, *self.shape) if self.time else self.shape

    def nbytes(self, T: int) -> int:
        """Its size for T steps."""
        return math.prod(self.whole(T)) * self.dtype.itemsize


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

    def overlaps(self, other: Place) -> bool:
        """Can an element of one be an element of the other? Not if they are columns apart."""
        if self.buffer is not other.buffer:
            return False
        a, b = (p.steps[0] if p.steps and p.steps[0][:2] == ("part", -1) else None for p in (self, other))
        return a is None or b is None or (a[2] < b[3] and b[2] < a[3])


def is_view(v: Value) -> bool:
    """Does it only look at its argument in another way?"""
    if v.op == "getitem":
        key = v.static["key"]
        return not any(isinstance(k, (np.ndarray, list)) for k in (key if isinstance(key, tuple) else (key,)))
    if v.op == "reshape":  # of a whole buffer: of a part it would be a copy, but for axes of one element
        x = v.args[0]
        return x.op != "zeros" and (only_ones(v) or not (is_view(x) or x.op == "pack"))
    return v.op in ("part", "permute", "broadcast_to", "splat", "spread")


def only_ones(v: Value) -> bool:
    """Does a reshape put in or leave out axes of one element, and nothing else?"""
    return [n for n in v.shape if n != 1] == [n for n in v.args[0].shape if n != 1]


def base(v: Value) -> Value:
    """The value that a view looks at."""
    while is_view(v):
        v = v.args[0]
    return v


class Places:
    """The places of the values of a schedule whose order is known."""

    def __init__(self, s: Any):
        self.s, c = s, s.c
        self.place: dict[Value, Place] = {}
        self.until: dict[Value, int] = {}  # the position from which on another value is in a value's place
        inputs = [c.x, *c.captured, *c.draws, *c.given, *([c.alive] if c.alive is not None else [])]
        for v in inputs:
            self.place[v] = Place(Buffer(v.shape, v.dtype, v.moves, bound=True))
        for leaf, v, back in c.delays:
            self._carry(leaf, v, back)
        values = [v for v in s.position if not v.several]
        for v in reversed(values):
            self._place(v)
        for v in values:
            if v in self.place:
                self._extend(v)

    def _carry(self, leaf: Value, v: Value, back: bool) -> None:
        """A state and its new value share a buffer: one slot, or T + 1 steps if anybody looks at the old ones."""
        s, read = self.s, self.s.last.get(leaf, -1)
        kept = not s.item[v].loop or {leaf, v} & s.outside or read > s.position[v]
        if not kept and (leaf in s.level or not back):  # a loop that nobody reads the leaf in may run forward
            buffer = Buffer(leaf.shape, leaf.dtype, False, free_from=read)
            self.place[leaf] = self.place[v] = Place(buffer)
        else:
            buffer = Buffer(leaf.shape, leaf.dtype, True, extra=1)
            self.place[leaf], self.place[v] = Place(buffer, int(back)), Place(buffer, int(not back))
        buffer.span = (-1, END)

    def _place(self, v: Value) -> None:
        if v not in self.place:
            kept = v in self.s.outside or (v.op == "pack" and any(p in self.s.outside for p in v.args))
            time = self.s.moves(v) and (kept or not self.s.item[v].loop)
            free = v not in self.s.whole
            inside = self._inside(v, time) if free else None
            self.place[v] = inside or (free and self._run(v, time)) or Place(Buffer(v.shape, v.dtype, time))
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

    def _run(self, v: Value, time: bool) -> Place | None:
        """A pack whose pieces lie side by side already, in a longer pack: that run of columns."""
        found = [self.place.get(p) for p in v.args] if v.op == "pack" else [None]
        at = [p for p in found if p is not None and p.steps and p.steps[-1][:2] == ("part", -1)]
        if len(at) < len(found):
            return None
        first, cuts = at[0], [p.steps[-1][2:] for p in at]
        same = all((p.buffer, p.shift, p.steps[:-1]) == (first.buffer, first.shift, first.steps[:-1]) for p in at)
        apart = any(a[1] != b[0] for a, b in itertools.pairwise(cuts))
        if not same or apart or (time and not first.buffer.time):
            return None
        if any(self.until.get(p, END) <= self.s.last.get(v, -1) for p in v.args):
            return None
        return Place(first.buffer, first.shift, (*first.steps[:-1], ("part", -1, cuts[0][0], cuts[-1][1])))

    def _dies(self, a: Value, v: Value) -> bool:
        """Is v the last to read a, and the pieces of a if it is a pack?"""
        parts = [base(p) for p in a.values] if a.op == "pack" else []
        dead = all(self.s.last.get(b, -1) <= self.s.position[v] for b in (a, *parts))
        return dead and not any(b is not a and base(b) is a for b in v.values)

    def _share(self, a: Value, where: Place, v: Value) -> bool:
        """Let a be computed where v will be, if nothing else needs that place meanwhile."""
        if a in self.place or a not in self.s.position or self.s.moves(a) != self.s.moves(v) or a in self.s.whole:
            return False
        if not where.buffer.time and (self.s.item[a] is not self.s.item[v] or a in self.s.outside):
            return False
        if self.s.position[a] <= where.buffer.free_from or a.dtype != where.buffer.dtype:
            return False
        self.place[a] = where
        self.until[a] = self.until.get(v, END) if v.op == "pack" else self.s.position[v]
        return True

    def _inside(self, v: Value, time: bool) -> Place | None:
        """v = op(part of z), the last reader of that part: v takes the part's place, in a buffer made for z."""
        for a in v.values if v.pointwise and v.op not in MASKS else ():
            if a.op != "part" or a.shape != v.shape or a.args[0] not in self.s.position:
                continue
            z = a.args[0]
            if z.dtype != v.dtype or self.s.moves(z) != self.s.moves(v) or not self._taken_apart(z, v):
                continue
            if z not in self.place:
                apart = self.s.moves(z) and self.s.item[z] is not self.s.item[v]
                self.place[z] = Place(Buffer(z.shape, z.dtype, time or apart))
            if self.place[z].buffer.time or not time:
                return self.place[z].then("part", -1, a.static["lo"], a.static["hi"])
        return None

    def _taken_apart(self, z: Value, v: Value) -> bool:
        """Is z read as separate columns only, each once, in the item of v?"""
        readers = [u for u in self.s.users[z] if u is not None]
        if len(readers) != len(self.s.users[z]) or any(u.op != "part" or u.static["axis"] != -1 for u in readers):
            return False
        cuts = sorted((u.static["lo"], u.static["hi"]) for u in readers)
        if any(p[1] > q[0] for p, q in itertools.pairwise(cuts)):
            return False
        once = [self.s.users[u][0] for u in readers if len(self.s.users[u]) == 1]
        return len(once) == len(readers) and all(u is not None and self.s.item.get(u) is self.s.item[v] for u in once)

    def _extend(self, v: Value) -> None:
        """Widen the life of the buffer of v by v's own."""
        b = self.place[v].buffer
        ends = [self.s.position[v], self.s.last.get(v, self.s.position[v])]
        for lo, hi in self.s.bounds:  # what a loop shares with others is alive during the whole of it
            if b.time or not (lo <= ends[0] <= hi and lo <= ends[1] <= hi):
                ends = [lo if lo <= ends[0] <= hi else ends[0], hi if lo <= ends[1] <= hi else ends[1]]
        for g in self.s.groups:  # the values of a nest are computed side by side
            lo, hi = self.s.position[g[0]], self.s.position[g[-1]]
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
