"""Where the threads of a block must wait for each other: `__syncthreads()`, there and nowhere else."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import Any

from tinygrad_rnn.compiler.cuda.bodies import Body
from tinygrad_rnn.compiler.ir.value import Value
from tinygrad_rnn.compiler.runtime.layouts import Layouts
from tinygrad_rnn.compiler.runtime.memory import address
from tinygrad_rnn.compiler.schedule.schedule import Schedule
from tinygrad_rnn.compiler.schedule.views import base

Access = tuple[tuple[bool, Any], Sequence[Value]]  # ((is it written?, by which threads), what)
ANY, FIRST = "any", "the first"  # by threads that are not those of the elements; by the first thread alone


class Waits:
    """What was read and written since the threads last waited, while a kernel is written body by body.

    They must wait before something is read, or overwritten, that another thread may have written, and before something
    is overwritten that another may still read. The thread that computes an element of a shape is the same in all bodies
    over that shape; a single element of a row is computed by all of them, and stored by the first.

    written, read  values, and the shape whose threads wrote or read each element of them at its own indices, or FIRST
                   or ANY
    done           the accesses of each body, and do threads wait inside of it?
    """

    def __init__(self, s: Schedule):
        self.s, self.layouts = s, Layouts(s, 1, {})
        self.written: list[tuple[Value, Any]] = []
        self.read: list[tuple[Value, Any]] = []
        self.done: list[tuple[list[Access], bool]] = []

    def before(self, body: Body, other_step: bool = False, known: Collection[Value] = ()) -> bool:
        """Must they wait before this body? It is done then.

        other_step: of another step than what was done before  known: what each thread has in a variable
        """
        accesses, inside = _accesses(body, known), body.reduces is not None
        wait = self._clashes(accesses, inside, other_step)
        if wait or inside:  # to put together what each has
            self.written, self.read = [], []
        for (writes, who), values in accesses:
            if writes or not inside:
                (self.written if writes else self.read).extend((v, who) for v in values)
        self.done.append((accesses, inside))
        return wait

    def before_again(self) -> bool:
        """Must they wait before all that was done is done for another step?"""
        for accesses, inside in self.done:
            if self._clashes(accesses, inside, other_step=True):
                return True
            if inside:
                return False
        return False

    def in_place(self, body: Body, known: Collection[Value]) -> bool:
        """Does it write where it reads from memory?"""
        read = [v for (writes, _), values in _accesses(body, known) if not writes for v in values]
        return any(self.meet(u, v, False) for u in body.writes for v in read)

    def _clashes(self, accesses: Sequence[Access], inside: bool, other_step: bool) -> bool:
        for (writes, who), values in accesses:
            if writes and inside:
                continue
            others = [*self.written, *self.read] if writes else self.written
            pairs = [(u, v, by) for v in values for u, by in others]
            alone = lambda u, v, by, who=who: who == by and (who == FIRST or (who != ANY and self.same(u, v)))
            if any(self.meet(u, v, other_step) and not alone(u, v, by) for u, v, by in pairs):
                return True
        return False

    def meet(self, u: Value, v: Value, other_step: bool) -> bool:
        """Can they share an element?"""
        p, q = self.s.where(u), self.s.where(v)
        if p.buffer is not q.buffer:
            return p.buffer.shares(q.buffer)
        if p.buffer.time and p.shift != q.shift and not other_step:
            return False
        return p.overlaps(q)

    def same(self, u: Value, v: Value) -> bool:
        """Are they the same elements of their array, at the same indices?"""
        return self._lies(u) == self._lies(v)

    def _lies(self, v: Value) -> tuple:
        """Where the elements of a value are in its buffer, at a step."""
        like, p = self.layouts.of(v), self.s.where(v)
        start = address(like) - address(self.layouts.base(p.buffer))
        if p.buffer.time:
            start -= p.shift * like.strides[0]
            like = like[0]
        return start, [(n, stride) for n, stride in zip(like.shape, like.strides, strict=True) if n != 1]


def steps_stay(s: Schedule, written: Sequence[Value], read: Iterable[Value]) -> bool:
    """Does each thread write its own element of each step only, and nobody else read that, if steps run in no order?
    What is read that is written at the same step is read first."""
    waits, where = Waits(s), s.where
    pairs = [(u, v) for u in written for v in (*written, *read) if u is not v and waits.meet(u, v, other_step=True)]
    return all(where(u).shift == where(v).shift and waits.same(u, v) for u, v in pairs)


def _accesses(body: Body, known: Collection[Value]) -> list[Access]:
    """What it writes and reads in memory."""
    own = _threads(body.over)
    reads, strays = ([v for v in values if base(v) not in known] for values in (body.reads, body.strays))
    if body.reduces is not None:
        return [((True, FIRST), body.writes), ((False, _gathering(body.reduces)), strays)]
    return [((True, own), body.writes), ((False, ANY if body.single else own), reads), ((False, ANY), strays)]


def _gathering(v: Value) -> Any:
    """Which threads read the elements of a row for the first of its results: they wait before they read for others. If
    the last axes are summed up, those that have these elements."""
    x = v.args[0]
    last = tuple(range(len(x.shape) - len(v.static["axis"]), len(x.shape)))
    return _threads(x) if tuple(sorted(v.static["axis"])) == last else ANY


def _threads(v: Value) -> Any:
    """Which threads have the elements of a row of a value."""
    return tuple(n for n in v.shape[1:] if n != 1) or FIRST
