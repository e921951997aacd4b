"""A linear recurrence as a scan over time: the steps are cut into chunks, which are computed side by side.

A loop whose states are linear in the old ones makes of the state before a chunk, s, the one behind it, P s + q:

    1  each thread runs one chunk for one element from state 0, which ends in q; beside each value it computes how that
       hangs on the state before the chunk, which ends in P
    2  it applies the maps of the chunks before its own, which lie in shared memory, to the first state
    3  it runs its chunk again, from there, and writes what others read

T / C + C + T / C steps for C chunks instead of T, and twice the work: it pays for few elements and many steps. A tree
over the chunks would take log C rounds instead of C small products, but each with the threads waiting for each other.
"""

from __future__ import annotations

import math

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from tinygrad_rnn.compiler.cuda import functions
from tinygrad_rnn.compiler.cuda.bodies import computed_together, operand
from tinygrad_rnn.compiler.cuda.elements import common_dtype, computed
from tinygrad_rnn.compiler.cuda.kernel import Kernel
from tinygrad_rnn.compiler.cuda.threads import taken_apart
from tinygrad_rnn.compiler.cuda.types import c_type
from tinygrad_rnn.compiler.cuda.waits import steps_stay
from tinygrad_rnn.compiler.ir.value import Value
from tinygrad_rnn.compiler.schedule.linear import Recurrence
from tinygrad_rnn.compiler.schedule.schedule import Schedule

ACROSS = 16  # elements of a block, next to each other in memory
CHUNKS = 32  # of a block, at most
STATES = 2  # coupled ones, at most: their maps are in shared memory

# When it pays; not tuned on a GPU yet
THREADS = 1 << 17  # that keep a GPU busy: with as many elements there is nothing to gain
STEPS = 8  # of a chunk, at least
WORTH = 4  # chunks: each step is computed twice


@dataclass(frozen=True)
class Chunks:
    """How many blocks of how many threads: (elements, chunks of the steps).

    over  a value of the shape
    """

    over: Sequence[Value]

    def of(self, shapes: Sequence[tuple[int, ...]], T: int) -> tuple[tuple[int, ...], tuple[int, ...]] | None:
        """(blocks, threads of each) for values of these shapes; None if it does not pay."""
        elements = math.prod(shapes[0])
        chunks = min(CHUNKS, THREADS // max(elements, 1), T // STEPS)
        if chunks < WORTH:
            return None
        return (-(-elements // ACROSS),), (ACROSS, 1 << (chunks.bit_length() - 1))


def said(sizes: tuple | None) -> str:
    """How a loop is run that can be a scan, given what `Chunks.of` says."""
    if sizes is None:
        return "one step after the other, as it has too many elements, or too few steps, for a scan"
    return f"a scan over time, {sizes[1][1]} chunks of the steps side by side"


def can_scan(s: Schedule, loop: Recurrence) -> bool:
    """Can the chunks of a loop be computed side by side? Its states must be numbers that are not rounded to a half at
    each step, and no step may write where another one reads."""
    if len(loop.states) > STATES or any(v.dtype.itemsize < 4 for v in loop.linear):
        return False
    own = {*loop.values, *(state for state, _ in loop.states)}
    read = {a for v in loop.values for a in v.values if a not in own and a.op != "zeros"}
    return steps_stay(s, [*_each_step(s, loop), *_last_step(s, loop)], read)


def _each_step(s: Schedule, loop: Recurrence) -> list[Value]:
    """What is written at each step."""
    return [v for v in loop.values if v not in s.fusion.in_registers and s.where(v).buffer.time]


def _last_step(s: Schedule, loop: Recurrence) -> list[Value]:
    """The new states of which nobody reads any but the last."""
    new = {v for _, v, _ in s.c.delays}
    return [v for v in loop.values if v in new and not s.where(v).buffer.time]


def kernel(s: Schedule, name: str, loop: Recurrence, backward: bool) -> tuple[Kernel, Chunks]:
    """A kernel of a loop. backward: from the last step to the first"""
    scan = Scan(s, name, loop, backward)
    scan.begin()
    scan.run_from_zero()
    scan.apply_the_chunks_before()
    scan.run_again()
    return scan.k, Chunks([loop.values[0]])


class Scan:
    """A kernel under construction.

    kinds    the C types of the states; s0, s1, … are their names
    matrix   the names of what says how each state hangs on each state before the chunk
    """

    def __init__(self, s: Schedule, name: str, loop: Recurrence, backward: bool):
        self.s, self.loop, self.backward = s, loop, backward
        self.k = Kernel(s, name, one_step=False, most=ACROSS * CHUNKS)
        self.kinds = [c_type(v.dtype) for _, v in loop.states]
        self.each = range(len(self.kinds))
        self.matrix = [[f"d{i}{j}" for j in self.each] for i in self.each]
        self.index = [f"i{axis}" for axis in range(len(loop.values[0].shape))]

    def begin(self) -> None:
        """Which element, and which steps, are this thread's."""
        k, v, T = self.k, self.loop.values[0], self.k.field("T")
        sizes = [k.size(v, axis) for axis in range(len(v.shape))]
        for i, kind in enumerate(self.kinds):
            k.say(f"__shared__ {kind} {', '.join(f'{n}s[{CHUNKS}][{ACROSS}]' for n in (f'q{i}', *self.matrix[i]))};")
        k.say("const i64 element = blockIdx.x * (i64)blockDim.x + threadIdx.x;")
        k.say(f"const bool inside = element < {' * '.join(sizes) or '1'};")
        taken_apart(k, "element", self.index, sizes)
        k.say(f"const i64 length = ({T} + blockDim.y - 1) / blockDim.y, first = threadIdx.y * length;")
        k.say(f"const i64 end = first + length < {T} ? first + length : {T};")
        for i, kind in enumerate(self.kinds):
            k.say(
                f"{kind} s{i} = 0, first{i}, {', '.join(f'{d} = {int(i == j)}' for j, d in enumerate(self.matrix[i]))};"
            )

    def run_from_zero(self) -> None:
        """Let the map of the chunk be in shared memory."""
        k = self.k
        with k.block("if (inside)"):
            self._read_first_states()
            with self._steps():
                names = computed_together(k, self.loop.values, self.index, self._registers())
                slopes = [self._slopes(names, j) for j in self.each]
                for i, (_, v) in enumerate(self.loop.states):
                    changes = [f"{self.matrix[i][j]} = {slopes[j][v]};" for j in self.each]
                    k.say(" ".join([f"s{i} = {names[v]};", *changes]))
        for i in self.each:
            at = "[threadIdx.y][threadIdx.x]"
            k.say(" ".join([f"q{i}s{at} = s{i};", *(f"{d}s{at} = {d};" for d in self.matrix[i])]))

    def apply_the_chunks_before(self) -> None:
        """Let the states be those before the chunk. What is 0 stays out of it, however a factor has grown."""
        k = self.k
        k.say("__syncthreads();")
        k.say("if (!inside) return;")
        k.say(" ".join(f"s{i} = first{i};" for i in self.each))
        with k.block("for (int c = 0; c < threadIdx.y; c++)"):
            at = "[c][threadIdx.x]"
            for i, kind in enumerate(self.kinds):
                terms = [f"(s{j} != 0 ? {self.matrix[i][j]}s{at} * s{j} : 0)" for j in self.each]
                k.say(f"const {kind} n{i} = {' + '.join([*terms, f'q{i}s{at}'])};")
            k.say(" ".join(f"s{i} = n{i};" for i in self.each))

    def run_again(self) -> None:
        """What the loop does, from there."""
        k = self.k
        with self._steps():
            names = computed_together(k, self.loop.values, self.index, self._registers())
            for v in _each_step(self.s, self.loop):
                k.say(f"{k.element(v, self.index)} = {names[v]};")
            if last := _last_step(self.s, self.loop):
                with k.block(f"if (n == {k.field('T')} - 1)"):
                    for v in last:
                        k.say(f"{k.element(v, self.index)} = {names[v]};")
            k.say(" ".join(f"s{i} = {names[v]};" for i, (_, v) in enumerate(self.loop.states)))

    def _read_first_states(self) -> None:
        with self.k.at_step(f"({self.k.field('T')} - 1)" if self.backward else "0"):
            for i, (state, _) in enumerate(self.loop.states):
                self.k.say(f"first{i} = {self.k.element(state, self.index)};")

    def _registers(self) -> dict[Value, str]:
        return {state: f"s{i}" for i, (state, _) in enumerate(self.loop.states)}

    @contextmanager
    def _steps(self) -> Iterator[None]:
        """The steps of the chunk, one after the other."""
        with self.k.block("for (i64 n = first; n < end; n++)"):
            last = f"{self.k.field('T')} - 1"
            self.k.say(f"const i64 t = {f'{last} - n' if self.backward else 'n'};")
            yield

    def _slopes(self, names: dict[Value, str], j: int) -> dict[Value, str]:
        """How each linear value hangs on the j-th state before the chunk: its operation, of the slopes of what is
        linear, the factors as they are, and 0 for other terms."""
        found = {state: self.matrix[i][j] for i, (state, _) in enumerate(self.loop.states)}
        for v in self.loop.values:
            if v in self.loop.linear:
                xs = [self._slope(v, n, a, names, found) for n, a in enumerate(v.args)]
                found[v] = self.k.new(c_type(v.dtype), computed(v, xs))
        return found

    def _slope(self, v: Value, n: int, a: Any, names: dict[Value, str], slopes: dict[Value, str]) -> str:
        if isinstance(a, Value) and a in slopes:
            return slopes[a]
        if self.loop.factor(v, n):
            return operand(self.k, a, v, self.index, names)
        return functions.number(0, common_dtype(v)) if not isinstance(a, Value) else f"{c_type(a.dtype)}(0)"
