"""The NumPy engine: a schedule as two straight Python functions of calls with `out=`, forward and backward.

Every view of the plan's own buffers is made before the first step; inside a loop there is nothing but NumPy calls.
"""

from __future__ import annotations

from tinygrad_rnn.compiler.ir.circuit import Circuit
from tinygrad_rnn.compiler.numpy.emit import emitted
from tinygrad_rnn.compiler.numpy.pipeline import PASSES
from tinygrad_rnn.compiler.runtime.backend import Backend
from tinygrad_rnn.compiler.runtime.buffers import Buffers
from tinygrad_rnn.compiler.runtime.memory import Arena
from tinygrad_rnn.compiler.runtime.program import Program
from tinygrad_rnn.compiler.schedule.batch_sizes import Renaming
from tinygrad_rnn.compiler.schedule.policy import CallByCall
from tinygrad_rnn.compiler.schedule.schedule import schedule

NAME = "numpy"
SINK = 1 << 20  # bytes of all steps up to which cheap values are computed for all of them at once


class Code:
    """A circuit from which programs are made. batch: the size in it that stands for the size of any batch, or 0"""

    def __init__(self, c: Circuit, batch: int):
        self.c, self.batch = c, batch

    def program(self, steps: int, batch: int, arena: Arena) -> Program:
        """A program for so many steps or fewer, with all buffers its own: views are made once, results copied."""
        s = schedule(Renaming(self.batch, batch).circuit(self.c), CallByCall(SINK, steps))
        buffers = Buffers(s, steps, arena)
        directions = {"forward": s.stages[: s.first_backward], "backward": s.stages[s.first_backward :]}
        functions = {name: emitted(stages, buffers) for name, stages in directions.items()}
        run = {name: f.finished(name) for name, f in functions.items()}
        return Program(buffers, batch, arena, run, [f.source(name) for name, f in functions.items()])


backend = Backend(NAME, "cpu", PASSES, Code)
