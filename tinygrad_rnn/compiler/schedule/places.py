"""Where each value lives: a place is a view of a buffer, (buffer, shift in time, views one after the other).

Places are given in reverse order of execution: a value that dies in an elementwise operation takes the place of the
result (computing in place), the pieces of a pack take their columns of it.
"""

from __future__ import annotations

import itertools
import math

from dataclasses import dataclass
from typing import Any

from tinygrad_rnn.compiler.ir.columns import spans
from tinygrad_rnn.compiler.ir.value import Value
from tinygrad_rnn.compiler.schedule.dataflow import Dataflow
from tinygrad_rnn.compiler.schedule.lifetimes import FOREVER, Lifetimes
from tinygrad_rnn.compiler.schedule.nests import Fusion
from tinygrad_rnn.compiler.schedule.views import base, only_ones


@dataclass(eq=False)
class Buffer:
    """An array of the plan: `shape` for one step, with a leading axis of T + extra steps if `time`."""

    shape: tuple[int, ...]
    dtype: Any
    time: bool
    extra: int = 0
    bound: bool = False  # given by the caller at each call
    free_from: int = -1  # a carried gradient occupies it up to this position
    span: tuple[int, int] = (FOREVER, -1)  # positions of the first write and the last read
    memory: int = -1  # the number of its array: buffers of one size that are never alive together share one

    def whole(self, T: int) -> tuple[int, ...]:
        """The shape of its array for T steps."""
        return (T + self.extra, *self.shape) if self.time else self.shape

    def shares(self, other: Buffer) -> bool:
        """Are they one array, now or later?"""
        return self is other or self.memory == other.memory >= 0

    def nbytes(self, T: int) -> int:
        """Its size for T steps."""
        return math.prod(self.whole(T)) * self.dtype.itemsize


@dataclass(frozen=True)
class Place:
    """A view of a buffer: what of it, shifted in time by so many steps.

    views  one after the other, each as what it does and how: ("part", axis, first, last + 1), ("permute", axes),
           ("reshape", shape), ("getitem", key) or ("broadcast_to", shape)
    """

    buffer: Buffer
    shift: int = 0
    views: tuple[tuple, ...] = ()

    def viewed(self, *view: Any) -> Place:
        """A view of this view; columns of columns are columns."""
        if self.views and view[0] == "part" and self.views[-1][:2] == view[:2]:
            at = self.views[-1][2]
            return Place(self.buffer, self.shift, (*self.views[:-1], (*view[:2], at + view[2], at + view[3])))
        return Place(self.buffer, self.shift, (*self.views, view))

    @property
    def columns(self) -> tuple[int, int] | None:
        """(first, last + 1) of the columns that it is of `around`; None if it is none."""
        return self.views[-1][2:] if self.views and self.views[-1][:2] == ("part", -1) else None

    @property
    def around(self) -> Place:
        """What its last view looks at."""
        return Place(self.buffer, self.shift, self.views[:-1])

    def overlaps(self, other: Place) -> bool:
        """Can an element of one be an element of the other? Not if they are columns apart."""
        if self.buffer is not other.buffer:
            return False
        a, b = (p.views[0] if p.views and p.views[0][:2] == ("part", -1) else None for p in (self, other))
        return a is None or b is None or (a[2] < b[3] and b[2] < a[3])


class Places:
    """Gives each value that stages compute a place, in `place`.

    taken_from  the position from which on another value is in a value's place
    """

    def __init__(self, flow: Dataflow, life: Lifetimes, fusion: Fusion):
        self.flow, self.life, self.fusion = flow, life, fusion
        self.place: dict[Value, Place] = {}
        self.taken_from: dict[Value, int] = {}
        self.reshaped = {v.args[0] for v in flow.level if v.op == "reshape" and not only_ones(v)}  # not as a part
        c = flow.circuit
        for v in (c.x, *c.captured, *c.draws, *c.given, *([c.alive] if c.alive is not None else [])):
            self.place[v] = Place(Buffer(v.shape, v.dtype, v.moves, bound=True))
        for leaf, v, back in c.delays:
            self._carry(leaf, v, back)
        values = [v for v in life.position if not v.several]
        for v in reversed(values):
            self._place(v)
        for v in values:
            if v in self.place:
                self._extend(v)

    def _carry(self, leaf: Value, v: Value, back: bool) -> None:
        """A state and its new value share a buffer: one slot, or T + 1 steps if anybody looks at the old ones."""
        life, read = self.life, self.life.last.get(leaf, -1)
        kept = not life.stage_of[v].loop or {leaf, v} & life.kept_over_time or read > life.position[v]
        if not kept and (leaf in self.flow.level or not back):  # a loop that nobody reads the leaf in may run forward
            buffer = Buffer(leaf.shape, leaf.dtype, False, free_from=read)
            self.place[leaf] = self.place[v] = Place(buffer)
        else:
            buffer = Buffer(leaf.shape, leaf.dtype, True, extra=1)
            self.place[leaf], self.place[v] = Place(buffer, int(back)), Place(buffer, int(not back))
        buffer.span = (-1, FOREVER)

    def _place(self, v: Value) -> None:
        if v not in self.place:
            time, free = self._needs_time(v), v not in self.reshaped
            over = self._over_operand(v, time) if free else None
            if over is not None:  # what is in that place before v is the part that v reads
                self.place[v] = over
                return
            beside = self._adjacent(v, time) if free else None
            self.place[v] = beside or Place(Buffer(v.shape, v.dtype, time))
        self._share_with_operands(v)

    def _needs_time(self, v: Value) -> bool:
        """Has its buffer an axis of time? A pack's has one if a piece of it needs one."""
        kept = self.life.kept_over_time
        needed = v in kept or (v.op == "pack" and any(p in kept for p in v.args))
        return self.flow.moves(v) and (needed or not self.life.stage_of[v].loop)

    def _share_with_operands(self, v: Value) -> None:
        """Let the pieces of a pack be computed in its columns, and what dies in an operation where its result is."""
        where = self.place[v]
        if v.op == "pack":
            for p, lo, hi in spans(v):
                self._share(p, where.viewed("part", -1, lo, hi), v)
        if v.pointwise:
            for a in v.values:
                if a.shape == v.shape and a.dtype == v.dtype and self._dies(a, v) and self._share(a, where, v):
                    break

    def _adjacent(self, v: Value, time: bool) -> Place | None:
        """A pack whose pieces lie side by side already, in a longer pack: that run of columns."""
        found = [self.place.get(p) for p in v.args] if v.op == "pack" else []
        at = [(p.around, *p.columns) for p in found if p is not None and p.columns]
        if not at or len(at) < len(found) or (time and not at[0][0].buffer.time):
            return None
        if any(p != q or end != begin for (p, _, end), (q, begin, _) in itertools.pairwise(at)):
            return None
        if any(self.taken_from.get(p, FOREVER) <= self.life.last.get(v, -1) for p in v.args):
            return None
        return at[0][0].viewed("part", -1, at[0][1], at[-1][2])

    def _dies(self, a: Value, v: Value) -> bool:
        """Is v the last to read a, and the pieces of a if it is a pack?"""
        parts = [base(p) for p in a.values] if a.op == "pack" else []
        dead = all(self.life.last.get(b, -1) <= self.life.position[v] for b in (a, *parts))
        return dead and not any(b is not a and base(b) is a for b in v.values)

    def _share(self, a: Value, where: Place, v: Value) -> bool:
        """Let a be computed where v will be, if nothing else needs that place meanwhile."""
        life, moves = self.life, self.flow.moves
        if a in self.place or a not in life.position or moves(a) != moves(v) or a in self.reshaped:
            return False
        if not where.buffer.time and a in life.kept_over_time:
            return False
        if life.position[a] <= where.buffer.free_from or a.dtype != where.buffer.dtype:
            return False
        self.place[a] = where
        self.taken_from[a] = self.taken_from.get(v, FOREVER) if v.op == "pack" else life.position[v]
        return True

    def _over_operand(self, v: Value, time: bool) -> Place | None:
        """v = op(part of z), the last reader of that part: v takes the part's place, in a buffer made for z."""
        life, moves = self.life, self.flow.moves
        for a in v.values if v.pointwise else ():
            if a.op != "part" or a.shape != v.shape or a.args[0] not in life.position:
                continue
            z = a.args[0]
            if z.dtype != v.dtype or moves(z) != moves(v) or not self._taken_apart(z, v):
                continue
            if z not in self.place:
                apart = moves(z) and life.stage_of[z] is not life.stage_of[v]
                self.place[z] = Place(Buffer(z.shape, z.dtype, time or apart))
            if self.place[z].buffer.time or not time:
                return self.place[z].viewed("part", -1, a.static["lo"], a.static["hi"])
        return None

    def _taken_apart(self, z: Value, v: Value) -> bool:
        """Is z read as separate columns only, each once, in the stage of v?"""
        users, stage_of = self.flow.users, self.life.stage_of
        readers = columns_read(users, z)
        cuts = sorted((u.static["lo"], u.static["hi"]) for u in readers)
        if not readers or any(p[1] > q[0] for p, q in itertools.pairwise(cuts)):
            return False
        once = [users[u][0] for u in readers if len(users[u]) == 1]
        return len(once) == len(readers) and all(u is not None and stage_of.get(u) is stage_of[v] for u in once)

    def _extend(self, v: Value) -> None:
        """Widen the life of the buffer of v by v's own."""
        b, life = self.place[v].buffer, self.life
        ends = [life.position[v], life.last.get(v, life.position[v])]
        for lo, hi in life.loops:  # what a loop shares with others is alive during the whole of it
            if b.time or not (lo <= ends[0] <= hi and lo <= ends[1] <= hi):
                ends = _widened(ends, lo, hi)
        for g in self.fusion.together:  # the values of a nest are computed side by side
            ends = _widened(ends, life.position[g[0]], life.position[g[-1]])
        b.span = (min(b.span[0], ends[0]), max(b.span[1], ends[1]))


def share_memory(place: dict[Value, Place]) -> None:
    """Give each buffer that is not bound the number of its array."""
    arrays: dict[Any, list[list]] = {}  # for each size: until when an array is used, and its number
    buffers = dict.fromkeys(p.buffer for p in place.values() if not p.buffer.bound)
    count = itertools.count()
    for b in sorted(buffers, key=lambda b: b.span[0]):
        known = arrays.setdefault((b.time, b.extra, b.shape, b.dtype), [])
        free = next((e for e in known if e[0] < b.span[0]), None)
        if free is None:
            free = [0, next(count)]
            known.append(free)
        free[0], b.memory = b.span[1], free[1]


def columns_read(users: dict[Value, list[Value | None]], z: Value) -> list[Value]:
    """The columns that z is taken apart into; none if anybody reads it in another way."""
    parts = [u for u in users[z] if u is not None and u.op == "part" and u.static["axis"] == -1]
    return parts if len(parts) == len(users[z]) else []


def _widened(ends: list[int], lo: int, hi: int) -> list[int]:
    """A life that begins or ends in a range of positions lasts for all of the range."""
    return [lo if lo <= ends[0] <= hi else ends[0], hi if lo <= ends[1] <= hi else ends[1]]


def where(place: dict[Value, Place], v: Value) -> Place:
    """The place of a value, or of a view of one."""
    if v in place:
        return place[v]
    p = where(place, v.args[0])
    if v.op == "part":
        return p.viewed("part", v.static["axis"], v.static["lo"], v.static["hi"])
    if v.op == "permute":
        return p.viewed("permute", v.static["axes"])
    if v.op == "reshape":
        return p.viewed("reshape", v.shape)
    if v.op == "getitem":
        return p.viewed("getitem", v.static["key"])
    assert v.op == "broadcast_to", v
    return p.viewed("broadcast_to", v.shape)
