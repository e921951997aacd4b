"""The programs of a recorded step: for any number of steps, and for batches of any size if it is the same for each."""

from __future__ import annotations

import dataclasses
import math

from collections.abc import Sequence
from operator import attrgetter
from typing import Any

from tinygrad_rnn.compiler.ir.circuit import Circuit, place_of
from tinygrad_rnn.compiler.ir.dump import Dump
from tinygrad_rnn.compiler.ir.signature import signature
from tinygrad_rnn.compiler.ir.value import Unsupported
from tinygrad_rnn.compiler.passes import pipeline
from tinygrad_rnn.compiler.runtime.memory import Arenas, NoRoom
from tinygrad_rnn.compiler.runtime.plan import size
from tinygrad_rnn.compiler.schedule.batch_sizes import Renaming, is_sound
from tinygrad_rnn.compiler.schedule.schedule import NotFusable


class NoEngine(Unsupported):
    """Why the only engine that may cannot run a step, which others can."""


class Programs:
    """How to run a step.

    circuit  the step as it was recorded
    batch    the size of the batch that it was recorded for, which stands for any; 0: it is for this one only
    engine   what runs it: the first of the engines that can
    slower   why the first one cannot, or nothing
    arenas   where programs have their buffers
    who      whose step it is, for a dump
    device   where it runs
    """

    def __init__(
        self, circuit: Circuit, batch: int, engines: Sequence[Any], arenas: Arenas, who: str, device: str = "cpu"
    ):  # fmt: skip
        self.circuit, self.batch, self.asked, self.arenas = circuit, batch, tuple(engines), arenas
        self.who, self.device, self.dump = who, device, Dump.asked()
        if "recorded" in self.dump:
            self.dump.write("recorded", who, f"as it was recorded, {len(circuit.order())} values", str(circuit))
        self.simple = _copied(circuit)
        pipeline.run(pipeline.COMMON, self.simple, who, self.dump)
        self.engines, self.slower = list(engines), ""
        self.free: list[Any] = []  # that nobody uses, the one used last comes last
        self.capacities: list[int] = []  # numbers of steps that programs were made for, each twice the one before
        self._choose()
        self.circuit.known = {}

    def _choose(self) -> None:
        """The next engine that can run the step."""
        while True:
            self.engine = self.engines.pop(0)
            prepared = _copied(self.simple)
            try:
                pipeline.run(self.engine.passes, prepared, f"{self.who}, {self.engine.name}", self.dump)
                break
            except NotFusable as reason:
                self._refused(reason)
        prepared.known = {}
        self.code = self.engine.code(prepared, self.batch)

    def _refused(self, reason: NotFusable) -> None:
        """The engine cannot run the step; NoEngine if there is no other."""
        place = place_of(reason.value)
        self.slower = f"{place}: {reason}" if place else str(reason)
        if not self.engines:
            raise NoEngine(self.slower)

    @property
    def sound(self) -> bool:
        """Can it run batches of other sizes than it was planned for?"""
        return bool(self.batch) and is_sound(self.code.c, self.batch)

    def fits(self, circuit: Circuit, engines: Sequence[Any], batch: int, device: str) -> bool:
        """Is this recording, for a batch of some size, one of the same step on the same device?"""
        if not self.batch or (self.asked, self.device) != (tuple(engines), device):
            return False
        if not _alike(self.circuit, circuit):
            return False
        return signature(self.circuit, Renaming(self.batch, batch).size) == signature(circuit)

    def acquire(self, T: int, batch: int, call: Any) -> Any:
        """A program for T steps whose buffers nobody uses: one that was made for as many steps or for more.

        call: what has it until it is released, or until that is thrown away
        """
        with self.arenas.lock:
            self.arenas.collect()
            free = [p for p in self.free if p.batch == batch and p.capacity >= T and not p.arena.busy]
            program = min(free, key=attrgetter("capacity")) if free else self._made(self._capacity(T), batch)
            if free:
                self.free.remove(program)
            program.arena.busy = True
            self.arenas.lend(call, program, self.free)
        if program.T != T:
            program.aim(T)
        return program

    def _capacity(self, T: int) -> int:
        """For how many steps to make a program: the first length as it is, later ones with room for longer ones."""
        enough = [n for n in self.capacities if n >= T]
        if not enough:
            enough = [max([T, *(2 * n for n in self.capacities)])]
            self.capacities += enough
        return enough[0]

    def _made(self, capacity: int, batch: int) -> Any:
        while True:
            try:
                program = self.code.program(capacity, batch, self.arenas.free(self.device))
                self._tell(program)
                return program
            except NotFusable as reason:
                self._refused(reason)
                self._choose()
            except NoRoom as error:
                raise MemoryError(self._too_large(capacity, batch, error.nbytes)) from error

    def _too_large(self, steps: int, batch: int, nbytes: int) -> str:
        what = f"{steps} steps of {self.who} for {batch} sequences need buffers of {size(nbytes)}"
        less = f"Recurrent(…, checkpoint_every={math.isqrt(steps)})" if steps > 3 else "fewer sequences at a time"
        return f"Recurrent: {what}, more than {self.device} has free; {less} needs less"

    def _tell(self, program: Any) -> None:
        """Dump what a program computes when, and the text of its code, if that is asked for."""
        who = f"{self.who}, {self.engine.name}"
        for_ = f"for up to {program.capacity} steps of {program.batch} sequences"
        if "schedule" in self.dump:
            self.dump.write("schedule", who, f"the schedule {for_}", str(program.s))
        if "source" in self.dump:
            self.dump.write("source", who, f"the code {for_}", program.source())


def _copied(c: Circuit) -> Circuit:
    return dataclasses.replace(c, roots={name: list(vs) for name, vs in c.roots.items()}, known=dict(c.known))


def _alike(a: Circuit, b: Circuit) -> bool:
    """Do they look alike at first glance?"""
    kinds = lambda c: [v.dtype for v in (c.x, *c.states, *c.captured, *c.draws)]
    return kinds(a) == kinds(b) and [*map(len, a.roots.values())] == [*map(len, b.roots.values())]
