"""The machine code of a program, and the table that tells it where everything is.

The code knows no sizes: cells of any size, and programs for any batch and number of steps, share it. Each program has a
table of its own, of 64-bit integers:

    what the code reads at its start        addresses, strides and sizes; of what a call is given, filled in then
    the jobs of the kernel that packs       weights to copy into panels, as products read them
    the jobs of the formula that adds up    sums over time, if each worker has one of its own
"""

from __future__ import annotations

import ctypes
import math

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tinygrad_rnn.compiler.ir.value import Value
from tinygrad_rnn.compiler.llvm import kernels, panels, windows, workers
from tinygrad_rnn.compiler.llvm.formula import Formula, formula
from tinygrad_rnn.compiler.llvm.machine import Machine
from tinygrad_rnn.compiler.runtime.buffers import Buffers
from tinygrad_rnn.compiler.runtime.layouts import Layouts
from tinygrad_rnn.compiler.runtime.memory import LINE, Arena, address
from tinygrad_rnn.compiler.runtime.steps import Steps
from tinygrad_rnn.compiler.schedule.places import Buffer
from tinygrad_rnn.compiler.schedule.schedule import Schedule


@dataclass(frozen=True)
class Written:
    """What was written for one direction.

    dtype     of all its numbers
    code      its machine code
    slots     the entries of the table that it reads, by what they are
    products  the weights that it wants in panels
    convolutions  the convolutions in it
    rows      can the rows of the batch be shared out to workers?
    """

    dtype: np.dtype
    code: Machine
    slots: dict[Any, int]
    products: list[Value]
    convolutions: list[Value]
    rows: bool

    @property
    def least(self) -> int:
        """The rows of the batch for each worker: of images, each has products of its own."""
        return 1 if self.convolutions else workers.ROWS


class Shares:
    """How one direction is shared out to workers, and the memory that it needs while it runs.

    rows     of the batch, (first, last + 1) for each worker
    panels   for each weight of a product, memory for its panels
    partial  (workers, ...) for each sum over time to which all workers add
    total    the machine code that adds these up
    images   memory of each worker for the images of a convolution, in bytes
    """

    def __init__(self, written: Written, s: Schedule, sums: Sequence[Value], batch: int, arena: Arena):
        n = workers.count(batch, written.least) if written.rows else 1
        self.rows = [(batch * i // n, batch * (i + 1) // n) for i in range(n)]
        sums = [v for v in sums if _all_add(s, v.args[0])] if n > 1 else []
        packed = [(kernels.packed_shape(W.shape, written.dtype), written.dtype) for W in written.products]
        room = max(map(windows.room, written.convolutions), default=0)
        scratch = (n, -(-room // LINE) * LINE), np.dtype(np.uint8)
        arrays = arena.for_a_moment([*packed, *(((n, *v.shape), v.dtype) for v in sums), scratch])
        self.images = arrays.pop()
        self.panels = dict(zip(written.products, arrays, strict=False))
        self.partial = dict(zip(sums, arrays[len(packed) :], strict=True))
        names = tuple(f"p{i}" for i in range(n))
        line = f"total = {' + '.join(names)}"
        self.total: Formula | None = formula(line, names, ("total",), written.dtype) if sums else None

    def times(self, T: int) -> dict[str, int]:
        """What the table says of the number of steps."""
        block = max(1, kernels.BLOCK // max(1, self.rows[0][1] - self.rows[0][0]))  # steps, in a sum over time
        return {"T": T, "block": block, "blocks": -(-T // block)}


def _all_add(s: Schedule, g: Value) -> bool:
    """Do all workers add to the sum of g over time? Each then has one of its own, added up at the end."""
    return s.flow.contracted(g) and len(g.shape) == (1 if g.op == "sum" else 2)


class Table:
    """Integers in memory, some of which are addresses of what a call is given.

    where    its own address
    entries  as an array; numbers: the same memory as a ctypes array, which is faster to write into one by one
    given    by buffer: the entries that are its address, plus so many bytes
    held     what entries are addresses of, beside buffers
    """

    def __init__(self, size: int, layouts: Layouts):
        self.entries, self.layouts = np.zeros(size, np.int64), layouts
        self.where = address(self.entries)
        self.numbers = (ctypes.c_int64 * size).from_buffer(memoryview(self.entries))  # type: ignore[arg-type]
        self.given: dict[Buffer, list[tuple[int, int]]] = {}
        self.held: list[np.ndarray] = []

    def put_address(self, slot: int, v: Any, offset: int = 0) -> None:
        """The address of a value plus an offset: now, or at each call if it is of what the caller gives."""
        at, buffer = address(self.layouts.of(v)) + offset, self.layouts.buffer(v)
        if buffer is None or not buffer.bound:
            self.entries[slot] = at
        else:
            self.given.setdefault(buffer, []).append((slot, at - address(self.layouts.base(buffer))))


class MachineCode:
    """The machine code of one direction, as a function of the arrays that are bound at a call.

    parameters  the buffers of the captured tensors, which are seldom others, with the entries that are their addresses
    arguments   the same of all else that is bound
    known       the captured arrays whose addresses are in the table
    """

    def __init__(self, name: str, written: Written, table: Table, pack: tuple, sums: int, shares: Shares,
                 buffers: Buffers):  # fmt: skip
        """pack: what workers do before the first step  sums: where the sums of the workers are in the table"""
        self.buffers, self.table, self.shares = buffers, table, shares  # whose memory it works in
        captured = {buffers.s.place[v].buffer for v in buffers.s.c.captured}
        self.parameters = [(b, slots) for b, slots in table.given.items() if b in captured]
        self.arguments = [(b, slots) for b, slots in table.given.items() if b not in captured]
        self.known: dict[Buffer, np.ndarray] = {}
        self.function, self.rows = written.code.function(name, 4), shares.rows
        steps = self.function, written.code.address(name), table.where, shares.rows
        total = [shares.total.phase(sums, len(shares.rows))] if shares.total else []
        self.job = workers.Job(pack, steps, *total)

    def __call__(self, bound: dict[Buffer, np.ndarray]) -> None:
        numbers, addresses, known = self.table.numbers, self.buffers.addresses, self.known
        for buffer, slots in self.parameters:
            array = bound[buffer]
            if known.get(buffer) is not array:
                at, known[buffer] = address(array), array
                for slot, offset in slots:
                    numbers[slot] = at + offset
        for buffer, slots in self.arguments:
            if buffer not in addresses:
                addresses[buffer] = address(bound[buffer])
            at = addresses[buffer]
            for slot, offset in slots:
                numbers[slot] = at + offset
        if len(self.rows) == 1:
            self.function(self.table.where, *self.rows[0], 0)
            return
        workers.run(self.job)


def machine_code(
    name: str, written: Written, buffers: Buffers, shares: Shares, biases: Collection[Value]
) -> MachineCode:
    """What was written, with a table for a program's buffers. biases: rows to put together beside the weights"""
    layouts = Layouts(buffers.s, buffers.capacity, buffers.arrays)
    jobs = [job for W, to in shares.panels.items() for job in panels.of_weight(buffers.s, W, layouts.of, address(to))]
    jobs += [job for v in biases for job in panels.of_bias(v, layouts.of, address(layouts.of(v)))]
    first, width = len(written.slots), len(kernels.JOB)
    behind = first + len(jobs) * width
    sums = list(_sums(shares, layouts))
    numbers = shares.total.table(len(shares.rows), [row for row, _, _ in sums]) if shares.total else []
    table = Table(behind + len(numbers), layouts)
    table.entries[behind:] = numbers
    pack = *kernels.packer(written.dtype), table.where + 8 * first, _halves(jobs)
    _Entries(table, shares, len(jobs), table.where + 8 * first).fill(written.slots, buffers.steps)
    for slot, job in zip(range(first, behind, width), jobs, strict=True):
        table.entries[slot : slot + width] = job.row(0)
        table.put_address(slot + kernels.JOB.index("W"), job.source)
    for i, (row, v, offset) in enumerate(reversed(sums)):
        table.put_address(len(table.entries) - 1 - i * len(row), v, offset)
    return MachineCode(name, written, table, pack, table.where + 8 * behind, shares, buffers)


def _halves(jobs: Sequence[panels.Job]) -> list[tuple[int, int]]:
    """Jobs for two workers, about as much for each: (first, last + 1)"""
    ends = np.cumsum([0, *(math.prod(job.shape) for job in jobs)])
    half = int(np.searchsorted(ends, ends[-1] / 2))
    return [(0, half), (half, len(jobs))]


def _sums(shares: Shares, layouts: Layouts) -> Iterator[tuple[list[int], Value, int]]:
    """What the workers' sums over time are added up to, as rows for `Formula.table`, whose last number is still to
    come: the address of a value plus an offset."""
    for v, parts in shares.partial.items():
        total = layouts.of(v)
        if total.flags.c_contiguous:
            yield [total.size, *map(address, parts), 0], v, 0
        else:
            for i, rows in enumerate(zip(*parts, strict=True)):
                yield [total.shape[1], *map(address, rows), 0], v, i * total.strides[0]


class _Entries:
    """What the code reads at its start, by the keys that `Operands.read` was given.

    jobs, at  how many jobs of the kernel that packs weights there are, and where
    """

    def __init__(self, table: Table, shares: Shares, jobs: int, at: int):
        self.table, self.shares, self.layouts = table, shares, table.layouts
        self.batch = table.layouts.s.c.x.shape[0]
        alone = jobs if len(shares.rows) == 1 else 0  # how many jobs a lone worker does itself
        self.numbers: dict[str, Callable[..., Any]] = {
            "jobs": lambda: at,
            "alone": lambda: alone,
            "packed": lambda W: address(shares.panels[W]),
            "each": lambda v: v.shape[0] // self.batch,
            "size": lambda v, axis: v.shape[axis],
            "flat": self._flat,
            "worker": lambda v: shares.partial[v].strides[0] if v in shares.partial else 0,
            "time": lambda v: self._array(v).strides[0],
            "stride": self._stride,
            "scratch": lambda: address(shares.images),
            "room": lambda: shares.images.shape[1],
            "windows": self._windows,
        }

    def fill(self, slots: dict[Any, int], steps: Steps) -> None:
        """Write all of it; what depends on the number of steps is written again when that is another one."""
        timed = {kind: slots[kind,] for kind in self.shares.times(1) if (kind,) in slots}
        for (kind, *key), slot in slots.items():
            if kind in self.numbers:
                self.table.entries[slot] = self.numbers[kind](*key)
            elif kind == "address" and key[0] in self.shares.partial:
                self.table.entries[slot] = address(self.shares.partial[key[0]])
            elif kind == "address":
                self.table.put_address(slot, key[0])
        times, numbers = self.shares.times, self.table.numbers
        steps.depends(lambda: times(steps.T), lambda known: _rewrite(numbers, timed, known))

    def _flat(self, *values: Value) -> int:
        """Can the rows of all steps be seen as those of one matrix?"""
        arrays = [self.layouts.of(v) for v in values]
        even = all(a.ndim == 3 and a.strides[0] == a.shape[1] * a.strides[1] for a in arrays)
        return int(even and len(self.shares.rows) == 1 and arrays[0].shape[1] == self.batch)

    def _windows(self, v: Value) -> int:
        """Where the integers are that the kernels of a convolution read."""
        strides = lambda a: tuple([self._stride(a, k) for k in range(len(a.shape))])
        x, other = v.args
        if v.op == "correlate":
            job = windows.job(v, strides(x), strides(other), (0, 0))
        else:
            job = windows.job(v, strides(x), strides(v), strides(other))  # type: ignore[arg-type]
        self.table.held += job
        return address(job[0])

    def _array(self, v: Any) -> np.ndarray:
        """Of a sum that each worker has one of, the first."""
        return self.shares.partial[v][0] if v in self.shares.partial else self.layouts.of(v)

    def _stride(self, v: Any, axis: int) -> int:
        buffer = None if v in self.shares.partial else self.layouts.buffer(v)
        return self._array(v).strides[axis + (buffer is not None and buffer.time)]


def _rewrite(numbers: Any, slots: dict[str, int], known: dict[str, int]) -> None:
    for kind, slot in slots.items():
        numbers[slot] = known[kind]
