"""A compiled layer: a recorded step, its programs, and the one node that a call of it is in the graph."""

from __future__ import annotations

import weakref

from collections.abc import Sequence
from itertools import accumulate
from typing import Any

import numpy as np

from tinygrad_rnn.autograd import random
from tinygrad_rnn.autograd.arrays import Array, xp
from tinygrad_rnn.autograd.tensor import Tensor
from tinygrad_rnn.compiler.ir.infer import stand_in
from tinygrad_rnn.compiler.ir.value import Unsupported, Value
from tinygrad_rnn.compiler.runtime.memory import Arenas
from tinygrad_rnn.compiler.runtime.programs import Programs
from tinygrad_rnn.compiler.runtime.settle import Step, programs_of, record_until_stable

KNOWN = 16  # steps whose programs are looked at when another batch comes


class CompiledStep:
    """A step recorded for one set of shapes, and the programs that run it.

    circuit   the step as it was recorded
    captured  the tensors and arrays that it reads besides its inputs, in the circuit's order
    states    the tensors of its state, in the shapes and dtypes that it keeps
    constant  the states that no step changes: they are captured
    programs  those of a step that differs by the size of its batch at most, or its own
    xp        the library of its arrays, NumPy or CuPy, and
    device    where they are
    """

    def __init__(
        self, step: Step, x: Tensor, states: Sequence[Tensor], engines: Sequence[Any], arenas: Arenas,
        known: list[Programs], **options: Any,
    ):  # fmt: skip
        """known: programs of other recordings of the same cell, to which its own are added"""
        self.batch, self.xp, self.device = len(x), xp(x.array), x.device
        try:
            self.circuit, self.captured, kept, self.constant = found = record_until_stable(step, x, states, options)
            self.states = [Tensor(stand_in(s.shape, s.dtype)) for s in kept]
            fitting = [p for p in known if p.fits(self.circuit, engines, self.batch, x.device)]
            self.programs = fitting[0] if fitting else programs_of(step, x, found, engines, arenas, options)
        except RecursionError:
            raise Unsupported("its step is too long") from None
        self.circuit.known = {}
        known[:] = [self.programs, *(p for p in known[: KNOWN - 1] if p is not self.programs)]

    @property
    def engine(self) -> Any:
        """What runs it."""
        return self.programs.engine

    @property
    def slower(self) -> str:
        """Why no faster engine does, or nothing."""
        return self.programs.slower

    def acquire(self, T: int, call: Any) -> Any:
        """A program for T steps whose buffers nobody uses.

        call: what has it until it is released, or until that is thrown away
        """
        return self.programs.acquire(T, self.batch, call)

    def release(self, call: Any) -> None:
        """Give back the program that a call has."""
        self.programs.arenas.take_back(weakref.ref(call))

    def draw(self, T: int) -> list[Array]:
        """The random numbers of T steps, in the order in which the eager engine draws them."""
        drawn: dict[Value, Array] = {}
        by_generator: dict[int, list[Value]] = {}
        for v in self.circuit.draws:
            by_generator.setdefault(id(v.static["rng"]), []).append(v)
        for values in by_generator.values():
            sizes = [int(np.prod(v.shape)) for v in values]
            numbers = random.drawn((T, sum(sizes)), values[0].static["rng"], self.device)
            for v, end, n in zip(values, accumulate(sizes), sizes, strict=True):
                drawn[v] = self.xp.ascontiguousarray(numbers[:, end - n : end]).reshape(T, *v.shape).astype(v.dtype)
        return [drawn[v] for v in self.circuit.draws]
