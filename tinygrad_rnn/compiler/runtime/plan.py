"""What a person is told about a plan."""

from __future__ import annotations

import math

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from tinygrad_rnn.compiler.ir.circuit import Circuit
from tinygrad_rnn.compiler.ir.value import OVER_TIME, Value
from tinygrad_rnn.compiler.schedule.order import Stage
from tinygrad_rnn.compiler.schedule.schedule import Schedule


@dataclass(repr=False)
class Plan:
    """How a Recurrent runs a sequence; print it to read it.

    engine   "eager", "numpy", "llvm" or "cuda"
    nbytes   of the buffers for this number of steps
    circuit  one step as it was recorded, forward and backward; None if it runs eagerly
    source   the Python, LLVM or CUDA text that was generated for it, with the lines of the cell that it comes from; ""
             if it runs eagerly
    """

    engine: str
    nbytes: int
    circuit: Circuit | None
    text: str
    write: Callable[[], str] = str

    @property
    def source(self) -> str:  # made only if somebody asks
        return self.write()

    def __str__(self) -> str:
        return self.text

    __repr__ = __str__


def report(program: Any) -> Iterator[str]:
    """What a program does at each step, what for all steps at once, and what it keeps."""
    s: Schedule = program.s
    for title, stages in (("forward", s.stages[: s.first_backward]), ("backward", s.stages[s.first_backward :])):
        if stages:
            yield title
            yield from _phase(s, stages)
            yield from (f"  {line if isinstance(line, str) else line()}" for line in program.told.get(title, ()))
    buffers = {p.buffer for p in s.place.values() if not p.buffer.bound}
    if buffers:
        b = max(buffers, key=lambda b: b.nbytes(program.T))
        yield f"buffers: {size(program.nbytes)} for {len(buffers)} arrays, the largest {b.whole(program.T)} {b.dtype}"


def _phase(s: Schedule, stages: Sequence[Stage]) -> Iterator[str]:
    loops = [stage.values for stage in stages if stage.loop]
    for n, values in enumerate(loops, 1):
        yield _line("at each step" + (f", loop {n}" if len(loops) > 1 else ""), _with_products(s, values))
    single = _with_products(s, [stage.values[0] for stage in stages if not stage.loop])
    over_time = [v for v in single if s.flow.moves(v) or v.op in OVER_TIME]
    for title, values in (("for all steps at once", over_time), ("once", [v for v in single if v not in over_time])):
        if values:
            yield _line(title, values)


def _with_products(s: Schedule, values: Sequence[Value]) -> list[Value]:
    """The values, and the products that are computed on top of them."""
    return [u for v in values for u in ([s.flow.accumulated[v][0], v] if v in s.flow.accumulated else [v])]


def _line(title: str, values: Sequence[Value]) -> str:
    counts = Counter(v.op for v in values)
    names = ", ".join(f"{n} {op}" if n > 1 else op for op, n in counts.most_common())
    return f"  {title}: {len(values)} operation{'s' * (len(values) > 1)} ({names})"


def size(nbytes: int) -> str:
    """A number of bytes for people."""
    power = min(int(math.log10(max(nbytes, 1))) // 3, 3)
    return f"{nbytes / 1000**power:.3g} {('bytes', 'kB', 'MB', 'GB')[power]}"
