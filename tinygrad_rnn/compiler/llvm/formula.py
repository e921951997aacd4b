"""Lines of maths on arrays of one size, such as an optimiser's, as machine code: one pass over memory for them all."""

from __future__ import annotations

import ctypes
import functools

from collections.abc import Mapping, Sequence
from itertools import chain
from typing import Any

import numpy as np

from tinygrad_rnn.compiler.ir.formula import Lines
from tinygrad_rnn.compiler.llvm import workers
from tinygrad_rnn.compiler.llvm.assembly import DOUBLE, Module
from tinygrad_rnn.compiler.llvm.builder import Code
from tinygrad_rnn.compiler.llvm.elements import Elements
from tinygrad_rnn.compiler.llvm.machine import compiled
from tinygrad_rnn.compiler.runtime.memory import address

SMALL = 1 << 14  # elements up to which one thread does it all
HEAD = 2  # numbers in front of the table: the jobs, the parts of each


class Formula:
    """Lines such as "m = a * m + (1 - a) * g", for each element of arrays.

    reads, writes  the names of the arrays that it reads, and of those that it writes; all others are numbers
    """

    def __init__(self, lines: str, reads: Sequence[str], writes: Sequence[str], dtype: Any):
        self.reads, self.writes, self.dtype = reads, writes, np.dtype(dtype)
        self.lines = Lines(lines, reads)
        self.names = self.lines.names
        machine = compiled(self._source())
        self.function, self.at = machine.function("formula", 4), machine.address("formula")

    def __call__(self, jobs: Sequence[Sequence[np.ndarray]], values: Mapping[str, float]) -> None:
        """Once for each job: the arrays that it reads, and those that it writes, contiguous. values: numbers by name"""
        self.run([(job[0].size, *map(address, job)) for job in jobs], values)

    def run(self, jobs: Sequence[Sequence[int]], values: Mapping[str, float]) -> None:
        """The same, given for each job the size and the addresses of its arrays."""
        parts = workers.all_of_them() if sum([job[0] for job in jobs]) > SMALL else 1
        entries = self.table(parts, jobs)
        table = (ctypes.c_int64 * len(entries))(*entries)
        numbers = (ctypes.c_double * len(self.names)).from_buffer(table, 8 * HEAD)
        numbers[:] = [*self.lines.numbers(values)]
        workers.run(workers.Job(self.phase(ctypes.addressof(table), parts)))

    def table(self, parts: int, jobs: Sequence[Sequence[int]]) -> list[int]:
        """What the machine code reads, with no numbers yet. jobs: the size of each, and the addresses of its arrays"""
        return [len(jobs), parts, *[0] * len(self.names), *chain(*jobs)]

    def phase(self, table: int, parts: int) -> tuple:
        """The work on a table, shared out; a phase of a `workers.Job`."""
        return self.function, self.at, table, [(i, i + 1) for i in range(parts)]

    # ---- machine code -----------------------------------------------------------------------------------------------

    def _source(self) -> str:
        """formula(table, part, next part, worker): that part of each job"""
        module = Module("formula")
        code = Code(module, "formula", 4, self.dtype)
        table, part, after, _ = code.arguments
        b, head, width = code.b, HEAD + len(self.names), 1 + len(self.reads) + len(self.writes)
        numbers = {name: self._number(code, code.add(table, 8 * i)) for i, name in enumerate(self.names, HEAD)}
        count, parts = code.load_integer(table), code.load_integer(table, 1)
        with code.loop(0, count) as i:
            job = code.add(table, 8 * head, code.mul(i, 8 * width))
            n, *arrays = [code.load_integer(job, k) for k in range(width)]
            sources = dict(zip(self.reads, arrays, strict=False))
            targets = dict(zip(self.writes, arrays[len(self.reads) :], strict=True))
            vectors = functools.partial(self._vectors, code, numbers, sources, targets)
            code.over(b.sdiv(b.mul(n, part), parts), b.sdiv(b.mul(n, after), parts), vectors)
        code.finish()
        return str(module)

    def _number(self, code: Code, where: Any) -> Any:
        found = code.b.load(code.b.inttoptr(where, f"{DOUBLE}*"))
        return code.spread(found if code.item == 8 else code.b.fptrunc(found, code.real))

    def _vectors(self, code: Code, numbers: dict, sources: dict, targets: dict, j: Any, mask: Any) -> None:
        offset, elements = code.mul(j, code.item), Elements(code)
        names = {**numbers, **{name: code.load(code.add(a, offset), mask) for name, a in sources.items()}}
        for name, tree in self.lines.assigned:
            names[name] = elements.formula(tree, names)
        for name, a in targets.items():
            code.store(names[name], code.add(a, offset), mask)


@functools.lru_cache(64)
def formula(lines: str, reads: tuple[str, ...], writes: tuple[str, ...], dtype: np.dtype) -> Formula:
    """The machine code of lines; the same ones are compiled once."""
    return Formula(lines, reads, writes, dtype)
