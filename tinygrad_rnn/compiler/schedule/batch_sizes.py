"""One plan for batches of every size: a step is recorded for a batch of a size that nothing else in it has.

That number stands for the size of the batch wherever it or a multiple of it is found. What was planned for it is then
renamed for each batch that comes: no decision of the plan can rest on a batch that is by chance as large as a layer.
"""

from __future__ import annotations

import dataclasses

from collections.abc import Iterable, Iterator
from typing import Any

from tinygrad_rnn.compiler.ir.circuit import Circuit
from tinygrad_rnn.compiler.ir.infer import infer
from tinygrad_rnn.compiler.ir.value import Value
from tinygrad_rnn.compiler.schedule.dataflow import Dataflow
from tinygrad_rnn.compiler.schedule.lifetimes import Lifetimes
from tinygrad_rnn.compiler.schedule.nests import Fusion
from tinygrad_rnn.compiler.schedule.order import Stage
from tinygrad_rnn.compiler.schedule.places import Buffer, Place
from tinygrad_rnn.compiler.schedule.schedule import Schedule

PRIMES = (101, 103, 107, 109, 113, 127, 131, 137, 139, 149, 151, 157)
COLUMNS = {"part", "pack", "splat", "spread", "sums", "dots"}  # operations on columns, which a batch must not lie along


class Renaming:
    """Circuits and schedules for a batch of another size.

    old, new  the sizes of the batch; 0 for old: there is none, and a copy is made
    """

    def __init__(self, old: int, new: int):
        self.old, self.new = old, new
        self.made: dict[Value, Value] = {}
        self.buffers: dict[Buffer, Buffer] = {}

    def size(self, x: Any) -> Any:
        """A size, a shape, or whatever holds some, as it is for the new batch."""
        if type(x) is int:
            return x // self.old * self.new if self.old and x % self.old == 0 else x
        if type(x) in (tuple, list):
            return type(x)(map(self.size, x))
        if type(x) is slice:
            return slice(*map(self.size, (x.start, x.stop, x.step)))
        return x

    def value(self, v: Value) -> Value:
        """What a value is for the new batch: itself, if nothing about it depends on that."""
        found = self.made.get(v)
        if found is None:
            args = tuple(map(self.any, v.args))
            static = v.static if v.op in COLUMNS else {k: self.size(x) for k, x in v.static.items()}
            shape = self.size(v.shape)
            if shape == v.shape and static == v.static and all(map(_is, args, v.args)):
                found = v
            else:
                found = dataclasses.replace(v, args=args, static=static, shape=shape)
            self.made[v] = found
        return found

    def any(self, x: Any) -> Any:
        """The same for values, and for tuples of some; all else stays."""
        if isinstance(x, tuple):
            return tuple(map(self.any, x))
        return self.value(x) if isinstance(x, Value) else x

    def values(self, vs: Iterable[Any]) -> list[Any]:
        """The same for several values, or None in their stead."""
        return [v and self.value(v) for v in vs]

    def circuit(self, c: Circuit) -> Circuit:
        """A circuit of its own, whose roots can be changed."""
        for v in c.order():  # oldest first: a long step needs no deep recursion
            self.value(v)
        several, alive = self.values, c.alive and self.value(c.alive)
        roots = {name: several(vs) for name, vs in c.roots.items()}
        return Circuit(
            self.value(c.x), several(c.states), several(c.captured), several(c.draws), alive, several(c.seeds), roots
        )

    def schedule(self, s: Schedule) -> Schedule:
        """A schedule whose buffers are its own."""
        stages = {stage: Stage(self.values(stage.values), stage.loop, stage.backward) for stage in s.stages}
        place = {self.value(v): self.place(v, p) for v, p in s.place.items()}
        life, fusion = self.lifetimes(s.lifetimes, stages), self.fusion(s.fusion)
        return Schedule(self.flow(s.flow), list(stages.values()), s.first_backward, life, fusion, place)

    def flow(self, flow: Dataflow) -> Dataflow:
        """What is known of the renamed values."""
        level = {self.value(v): n for v, n in flow.level.items()}
        users = {self.value(v): self.values(us) for v, us in flow.users.items()}
        accumulated = {self.value(v): self.any(terms) for v, terms in flow.accumulated.items()}
        return Dataflow(self.circuit(flow.circuit), level, users, accumulated)

    def lifetimes(self, life: Lifetimes, stages: dict[Stage, Stage]) -> Lifetimes:
        """The lifetimes of the renamed values. stages: the renamed ones"""
        renamed = lambda numbers: {self.value(v): n for v, n in numbers.items()}
        stage_of = {self.value(v): stages[stage] for v, stage in life.stage_of.items()}
        kept = set(self.values(life.kept_over_time))
        return Lifetimes(renamed(life.position), renamed(life.last), stage_of, life.loops, kept)

    def fusion(self, fusion: Fusion) -> Fusion:
        """The nests of the renamed values."""
        together = [self.values(g) for g in fusion.together]
        nest_of = {self.value(v): self.values(g) for v, g in fusion.nest_of.items()}
        return Fusion(together, nest_of, set(self.values(fusion.in_registers)))

    def place(self, v: Value, p: Place) -> Place:
        """A place in a renamed buffer."""
        views = tuple(view if view[0] == "part" else self.size(view) for view in p.views)
        return Place(self.buffer(p.buffer), p.shift, views)

    def buffer(self, b: Buffer) -> Buffer:
        if b not in self.buffers:
            self.buffers[b] = dataclasses.replace(b, shape=self.size(b.shape))
        return self.buffers[b]


def _is(a: Any, b: Any) -> bool:
    return a is b


def beside(c: Circuit) -> int:
    """A number that no size in a circuit is a multiple of; 0 if we know none."""
    found = set(_numbers([(v.shape, list(v.static.values())) for v in (*c.order(), *c.captured)]))
    return next((p for p in PRIMES if all(n == 0 or n % p for n in found)), 0)


def _numbers(x: Any) -> Iterator[int]:
    if type(x) is int:
        yield x
    elif isinstance(x, (tuple, list)):
        for each in x:
            yield from _numbers(each)
    elif isinstance(x, slice):
        yield from _numbers((x.start, x.stop, x.step))


def is_sound(c: Circuit, old: int) -> bool:
    """Do the shapes of a planned circuit for a batch of this size follow from those of its inputs for others too?

    Not if a width is a multiple of this size by chance, or if the batch lies along columns that are taken apart.
    """
    renaming = Renaming(old, old + 1)
    renamed = renaming.circuit(c)
    for v in c.order():
        axis = v.static.get("axis", -1) if v.op == "part" else -1
        if v.op in COLUMNS and any(a.shape[axis] % old == 0 for a in (v, *v.values)):
            return False
    return all(infer(v.op, v.primitive, v.args, v.static) == (v.shape, v.dtype) for v in renamed.order() if v.args)
