"""What a backend is: how a circuit becomes programs. A new one is a folder that offers a `Backend`, and a line in
engines.py.

    backend = Backend("numpy", "cpu", PASSES, Code)
    run(backend.passes, circuit, …)        rewritten in place
    code = backend.code(circuit, batch)    what programs for any number of steps, and any batch, share
    program = code.program(T, batch, arena)
    ys, state = program.forward([x, *captured, *draws, *alive], state)
    gradients = program.backward(dys, dstate)
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from tinygrad_rnn.autograd.arrays import Array
from tinygrad_rnn.compiler.ir.circuit import Circuit
from tinygrad_rnn.compiler.passes.pipeline import Pass
from tinygrad_rnn.compiler.runtime.memory import Arena
from tinygrad_rnn.compiler.schedule.schedule import Schedule

Told = str | Callable[[], str]


class Program(Protocol):
    """A schedule made runnable for a batch of one size. It has buffers of its own, so that it runs one call at a time:
    a forward, and the backward of that forward.

    T         the steps that it runs
    capacity  the steps that it has buffers for
    batch     the sequences that it runs
    arena     the memory that its buffers are in, which programs share that are never in use together
    s         its schedule, and
    nbytes    the bytes that its buffers take for T steps: what `plan` tells of it
    source    what makes the text of what was generated, which says what of a user's code each part comes from
    told      by direction, "forward" and "backward", what `plan` tells besides: lines, or functions that make them for
              so many steps as are run
    """

    told: Mapping[str, Sequence[Told]]
    capacity: int
    batch: int
    arena: Arena
    s: Schedule

    @property
    def T(self) -> int: ...

    @property
    def nbytes(self) -> int: ...

    @property
    def source(self) -> Callable[[], str]: ...

    def aim(self, T: int) -> None:
        """Run so many steps from now on, at most `capacity`. What the buffers hold is lost."""

    def forward(self, inputs: Sequence[Array], state: Sequence[Array]) -> tuple[list[Array], list[Array]]:
        """The outputs of all steps and the new state, as arrays that are the caller's.

        inputs: x (T, B, I), the captured tensors, draws and alive, as in the circuit
        """

    def backward(self, dys: Sequence[Array], dstate: Sequence[Array]) -> dict[str, list[Array | None]]:
        """The gradients by name, dx, dstate, dcaptured and dwatched: None where none was asked for. After `forward`,
        whose inputs must be as they were."""

    def let_go(self) -> None:
        """Forget what was given: nobody needs the program's call any more."""


class Code(Protocol):
    """A circuit from which programs are made: what they share is worked out once.

    c  the circuit, prepared
    """

    c: Circuit

    def program(self, steps: int, batch: int, arena: Arena) -> Program:
        """A program for so many steps, or fewer. NotFusable if the circuit has no form in this backend: another one
        is tried then."""


@dataclass(frozen=True)
class Backend:
    """How one engine makes programs.

    name     of the engine
    device   where its arrays are: the inputs of its programs must be there, and their results are
    passes   what brings a circuit into the form that the backend runs fastest. NotFusable if it has none there
    code     code(circuit, batch) of a prepared circuit. batch: the size in it that stands for the size of any batch;
             0: none does, and programs are for the batch that it was recorded for
    """

    name: str
    device: str
    passes: Sequence[Pass]
    code: Callable[[Circuit, int], Code]
