"""The LLVM engine: the moving part of a schedule as machine code, one function forward and one backward.

What is computed once a call (weights put together, gradients taken apart) stays with NumPy. The batch is shared out to
workers, each of which runs the whole function for its rows: they meet only at the end.
"""

from __future__ import annotations

import ctypes
import functools
import math

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from llvmlite import ir

from tinygrad_rnn.autograd import blas
from tinygrad_rnn.compiler.ir.circuit import Circuit
from tinygrad_rnn.compiler.ir.columns import remake
from tinygrad_rnn.compiler.ir.value import Value
from tinygrad_rnn.compiler.llvm import kernels, panels, shared_products, workers
from tinygrad_rnn.compiler.llvm.elements import dtype_of, of_one_dtype
from tinygrad_rnn.compiler.llvm.formula import formula
from tinygrad_rnn.compiler.llvm.machine import compiled
from tinygrad_rnn.compiler.llvm.operands import Constant, Table
from tinygrad_rnn.compiler.llvm.writer import Writer
from tinygrad_rnn.compiler.numpy import program as run_numpy
from tinygrad_rnn.compiler.passes.merge_products import merge_gemms
from tinygrad_rnn.compiler.runtime.memory import address, recycled
from tinygrad_rnn.compiler.schedule.batch_rows import by_rows
from tinygrad_rnn.compiler.schedule.batch_sizes import Renaming
from tinygrad_rnn.compiler.schedule.order import Stage
from tinygrad_rnn.compiler.schedule.policy import Nests
from tinygrad_rnn.compiler.schedule.schedule import Schedule, schedule

NAME = "llvm"
workers.when_started.append(lambda: blas.share_products(shared_products.product))


def prepare(c: Circuit) -> None:
    """Say softmax and its likes in operations that have a form in a loop, let all be of one dtype, merge products."""

    def visit(v: Value, new: Callable) -> Value:
        args = tuple(map(new, v.args))
        if v.op in ("softmax", "log_softmax", "logsumexp") and v.moves:
            return _lowered(c, v, args[0])
        return remake(c, v, args)

    c.rebuild(visit)
    of_one_dtype(c)
    merge_gemms(c, by_activation=False)


def _lowered(c: Circuit, v: Value, x: Value) -> Value:
    """softmax(x) = e / Σe with e = exp(x - max x); where all of x is -inf, 0. As ops.reduce has it, infinities too."""
    axis = v.static["axis"]
    x = x if x.dtype == v.dtype else c.make("cast", x, dtype=v.dtype)
    top = c.make("max", x, axis=axis, keepdims=True)
    large = c.make("abs", top) if v.op == "logsumexp" else c.make("neg", top)
    top = c.make("where", c.make("equal", large, np.inf), 0.0, top)
    d = c.make("sub", x, top)
    e = c.make("exp", d)
    total = c.make("sum", e, axis=axis, keepdims=True)
    positive = c.make("where", c.make("equal", total, 0.0), 1.0, total)
    if v.op == "softmax":
        return c.make("div", e, positive)
    if v.op == "log_softmax":
        return c.make("sub", d, c.make("log", positive))
    y = c.make("add", c.make("log", positive), top)
    y = c.make("where", c.make("equal", total, 0.0), -np.inf, y)
    return y if v.static["keepdims"] else c.make("reshape", y, shape=v.shape)


class Code(run_numpy.Code):
    """A circuit from which programs are made, which share a schedule and its machine code: that knows no sizes."""

    def __init__(self, c: Circuit, batch: int):
        super().__init__(c, batch)
        self.written: dict[str, Written] = {}

    @functools.cached_property
    def s(self) -> Schedule:
        """The schedule for a batch of the size that stands for any."""
        return schedule(self.c, Nests())

    def schedule(self, renaming: Renaming, steps: int) -> Schedule:
        return renaming.schedule(self.s)

    def machine(self, name: str) -> Written:
        """The machine code of one direction."""
        if name not in self.written:
            split = slice(self.s.first_backward) if name == "forward" else slice(self.s.first_backward, None)
            self.written[name] = Written(name, self.s, _moving(self.s, self.s.stages[split]))
        return self.written[name]


def _moving(s: Schedule, stages: Sequence[Stage]) -> list[Stage]:
    """What is machine code: what is computed once a call stays with NumPy."""
    return [stage for stage in stages if s.flow.moves(stage.values[0]) or stage.values[0].op == "tsum"]


class Written:
    """The machine code of one direction, and what it reads where in its table.

    table     the table's entries, by what they are
    products  the weights that it wants in panels
    rows      can the rows of the batch be shared out to workers?
    """

    def __init__(self, name: str, s: Schedule, stages: list[Stage]):
        self.s = s
        self.bases: dict[Any, np.ndarray] = {}
        self.dtype = dtype_of(s.c)
        self.rows, self.table = by_rows(s), Table()
        module = ir.Module(name)
        writer = Writer(module, name, s, self.table, self.dtype, self.look, self.rows)
        writer.write(stages)
        self.products = list(writer.products)
        self.code = compiled(str(module)) if stages else None

    def look(self, v: Any) -> np.ndarray:
        """An array with the strides of a value (with time, if it has that)."""
        if isinstance(v, (Constant, np.ndarray)):
            return v.array if isinstance(v, Constant) else v
        p = self.s.where(v)
        base = self.bases.setdefault(p.buffer, np.empty(p.buffer.whole(1), p.buffer.dtype))
        return run_numpy.looked(base, p, "all" if p.buffer.time else None, 1)


class Program(run_numpy.Program):
    """A schedule whose moving part is machine code."""

    engine = NAME
    code: Code
    addresses: dict[Any, int]  # of the buffers that are given at each call, as far as they are known
    machines: Sequence[Native] = ()  # of both directions

    def _choose_fresh(self) -> None:
        """What is returned is written into new arrays: an address in a table costs nothing to change."""
        s, roots = self.s, self.c.roots
        early = {s.place[v].buffer for v in s.lifetimes.position if v in s.forward and v in s.place}
        for name, time in (("y", True), ("dx", True), ("dwatched", True), ("dcaptured", False)):
            for v in roots.get(name, ()):
                buffer = s.where(v).buffer if v is not None and v.op != "zeros" else None
                if buffer is not None and not buffer.bound and buffer.time == time:
                    buffer.bound = True
                    self.fresh["forward" if buffer in early else "backward"].append(buffer)

    def forward(
        self, inputs: Sequence[np.ndarray], state: Sequence[np.ndarray]
    ) -> tuple[list[np.ndarray], list[np.ndarray]]:
        self.addresses = {}
        return super().forward([a if a.flags.c_contiguous else a.copy() for a in inputs], state)

    def _refresh(self, phase: str) -> None:
        bound, addresses = self.bound, self.addresses
        for b, shape, dtype in self.wanted[phase]:
            bound[b], addresses[b] = recycled(shape, dtype)

    def backward(self, dys: Sequence[np.ndarray], dstate: Sequence[np.ndarray]) -> dict[str, list[np.ndarray | None]]:
        for buffer in self.seeds:
            self.addresses.pop(buffer, None)
        return super().backward(dys, dstate)

    def aim(self, T: int) -> None:
        super().aim(T)
        for machine in self.machines:
            machine.aim(T)

    def _compile(self, name: str, stages: list[Stage]) -> Callable:
        s = self.s
        code = _moving(s, stages)
        fixed = [stage for stage in stages if stage not in code]
        packs = [stage.values[0] for stage in fixed if panels.side_by_side(s, stage.values[0])]
        fixed = [stage for stage in fixed if stage.values[0] not in packs]
        after = self._after([stage.values[0] for stage in code if stage.values[0].op == "tsum"])
        before = super()._compile(name, [stage for stage in fixed if stage.values[0] not in after])
        machine = Native(self, name, code, [v for v in packs if len(v.shape) == 1])
        self.machines = [*self.machines, machine]
        then = super()._compile(name, [stage for stage in fixed if stage.values[0] in after])

        def run(bound: dict) -> None:
            before(bound)
            machine(bound)
            then(bound)

        return run

    def _after(self, sums: list[Value]) -> set[Value]:
        """What is computed from sums over time."""
        found = set(sums)
        for v in self.c.order():
            if not found.isdisjoint(v.values):
                found.add(v)
        return found


class Native:
    """The machine code of one direction, and the table that tells it where everything is."""

    def __init__(self, program: Program, name: str, stages: list[Stage], biases: list[Value]):
        self.p, self.s, self.c, self.capacity = program, program.s, program.c, program.capacity
        written, rename = program.code.machine(name), program.renaming.any
        self.dtype, code = written.dtype, written.code
        self.slots = {rename(key if isinstance(key, tuple) else (key,)): i for key, i in written.table.names.items()}
        products = [rename(W) for W in written.products]
        self.templates: dict[Any, np.ndarray] = {}
        B = program.batch
        self.workers = workers.count(B) if written.rows else 1
        self.rows = [(B * i // self.workers, B * (i + 1) // self.workers) for i in range(self.workers)]
        sums = [stage.values[0] for stage in stages if stage.values[0].op == "tsum"] if self.workers > 1 else []
        sums = [v for v in sums if self._shared(v.args[0])]
        packed = [(kernels.packed_shape(W.shape, self.dtype), self.dtype) for W in products]
        self.kept = program.arena.for_a_moment([*packed, *(((self.workers, *v.shape), v.dtype) for v in sums)])
        self.panels = {W: address(kept) for W, kept in zip(products, self.kept, strict=False)}
        self.partial = dict(zip(sums, self.kept[len(packed) :], strict=True))
        names = tuple(f"p{i}" for i in range(self.workers))
        self.total = formula(f"total = {' + '.join(names)}", names, ("total",), self.dtype) if sums else None
        self._fill_table(biases)
        self.function = None
        if code is not None:
            self.function = code.function(name, 4)
            pack = *kernels.packer(self.dtype), *self.jobs
            steps = self.function, code.address(name), self.where, self.rows
            self.job = workers.Job(pack, steps, *([self.total.phase(self.sums, self.workers)] if self.total else []))

    def __call__(self, bound: dict) -> None:
        if self.function is None:
            return
        entries, addresses, known = self.table_of, self.p.addresses, self.known
        for buffer, slots in self.lasting:
            array = bound[buffer]
            if known.get(buffer) is not array:
                at, known[buffer] = address(array), array
                for slot, offset in slots:
                    entries[slot] = at + offset
        for buffer, slots in self.passing:
            if buffer not in addresses:
                addresses[buffer] = address(bound[buffer])
            at = addresses[buffer]
            for slot, offset in slots:
                entries[slot] = at + offset
        if self.workers == 1:
            self.function(self.where, *self.rows[0], 0)
            return
        workers.run(self.job)

    def _shared(self, g: Value) -> bool:
        """Do all workers add to the sum of g over time? Each then has one of its own, added up at the end."""
        return self.s.flow.contracted(g) and len(g.shape) == (1 if g.op == "sum" else 2)

    # ---- the table ------------------------------------------------------------------------------------------------

    def _fill_table(self, biases: list[Value]) -> None:
        """What the code reads, and behind it the jobs of the kernel that packs weights."""
        jobs = [job for W, at in self.panels.items() for job in panels.of_weight(self.s, W, self.look, at)]
        jobs += [job for v in biases for job in panels.of_bias(v, self.look, address(self.look(v)))]
        first, size = len(self.slots), len(kernels.JOB)
        behind = first + len(jobs) * size
        sums = list(self._sums())
        table = self.total.table(self.workers, [row for row, _, _ in sums]) if self.total else []
        self.entries = np.array([*[0] * behind, *table], np.int64)
        self.where = address(self.entries)
        ends = np.cumsum([0, *(math.prod(job.shape) for job in jobs)])
        half = int(np.searchsorted(ends, ends[-1] / 2))
        self.jobs = self.where + 8 * first, [(0, half), (half, len(jobs))]  # for two workers, about as much for each
        self.given: dict[Any, list[tuple[int, int]]] = {}  # for each array that is given: (slot, offset)
        for key, slot in self.slots.items():
            self._fill(slot, *key)
        for i, job in enumerate(jobs):
            slot = first + i * size
            self.entries[slot : slot + size] = job.row(0)
            self._put(slot + kernels.JOB.index("W"), job.source)
        self.sums = self.where + 8 * behind
        for i, (row, v, offset) in enumerate(reversed(sums)):
            self._put_final(len(self.entries) - 1 - i * len(row), v, offset)
        captured = {self.s.place[v].buffer for v in self.c.captured}
        self.lasting = [(b, slots) for b, slots in self.given.items() if b in captured]
        self.passing = [(b, slots) for b, slots in self.given.items() if b not in captured]
        self.known: dict[Any, np.ndarray] = {}  # the captured arrays whose addresses are in the table
        # The same memory as a ctypes array, which is faster to write into one by one.
        self.table_of = (ctypes.c_int64 * len(self.entries)).from_buffer(memoryview(self.entries))  # type: ignore[arg-type]

    def _sums(self) -> Iterator[tuple[list[int], Value, int]]:
        """What the workers' sums over time are added up to, as rows for `Formula.table`, whose last number is still to
        come: the address of a value plus an offset."""
        for v, parts in self.partial.items():
            total = self.look(v)
            if total.flags.c_contiguous:
                yield [total.size, *map(address, parts), 0], v, 0
            else:
                for i, rows in enumerate(zip(*parts, strict=True)):
                    yield [total.shape[1], *map(address, rows), 0], v, i * total.strides[0]

    def _times(self, T: int) -> dict[str, int]:
        """What the table says of the number of steps."""
        block = max(1, kernels.BLOCK // max(1, self.rows[0][1] - self.rows[0][0]))  # steps, in a sum over time
        return {"T": T, "block": block, "blocks": -(-T // block)}

    def aim(self, T: int) -> None:
        """Run so many steps from now on: the code reads it from the table."""
        for name, number in self._times(T).items():
            slot = self.slots.get((name,))
            if slot is not None:
                self.table_of[slot] = number

    def look(self, v: Any) -> np.ndarray:
        """An array with the shape and strides of a value (with time, if it has that)."""
        if isinstance(v, (Constant, np.ndarray)):
            return v.array if isinstance(v, Constant) else v
        p = self.s.where(v)
        base = self._template(p.buffer)
        return run_numpy.looked(base, p, "all" if p.buffer.time else None, self.capacity)

    def _template(self, buffer: Any) -> np.ndarray:
        if not buffer.bound:
            return self.p.arrays[buffer]
        if buffer not in self.templates:
            self.templates[buffer] = np.empty(buffer.whole(self.capacity), buffer.dtype)
        return self.templates[buffer]

    def _fill(self, slot: int, kind: str, *key: Any) -> None:
        put = self.entries.__setitem__
        alone = self.jobs[1][-1][1] if self.workers == 1 else 0  # how many jobs a lone worker does itself
        known = {**self._times(self.capacity), "jobs": self.jobs[0], "alone": alone}
        if kind in known:
            put(slot, known[kind])
        elif kind == "packed":
            put(slot, self.panels[key[0]])
        elif kind == "each":
            put(slot, key[0].shape[0] // self.c.x.shape[0])
        elif kind == "size":
            put(slot, key[0].shape[key[1]])
        elif kind == "flat":
            arrays = [self.look(v) for v in key]
            B = self.c.x.shape[0]
            even = all(a.ndim == 3 and a.strides[0] == a.shape[1] * a.strides[1] for a in arrays)
            put(slot, int(even and self.workers == 1 and arrays[0].shape[1] == B))
        elif kind == "worker":
            put(slot, self.partial[key[0]].strides[0] if key[0] in self.partial else 0)
        else:
            self._fill_operand(slot, kind, *key)

    def _fill_operand(self, slot: int, kind: str, v: Any, axis: int = 0) -> None:
        array = self.partial[v][0] if isinstance(v, Value) and v in self.partial else self.look(v)
        time = isinstance(v, Value) and v not in self.partial and self.s.where(v).buffer.time
        if kind == "time":
            self.entries[slot] = array.strides[0]
        elif kind == "stride":
            self.entries[slot] = array.strides[axis + time]
        else:
            self._put(slot, v)

    def _put(self, slot: int, v: Any) -> None:
        """The address of a value, now or (of what the caller gives) at each call."""
        if isinstance(v, Value) and v in self.partial:
            self.entries[slot] = address(self.partial[v])
        else:
            self._put_final(slot, v)

    def _put_final(self, slot: int, v: Any, offset: int = 0) -> None:
        """The same plus an offset, of a sum over time the address of the sum of all workers."""
        at = address(self.look(v)) + offset
        buffer = self.s.where(v).buffer if isinstance(v, Value) else None
        if buffer is None or not buffer.bound:
            self.entries[slot] = at
        else:
            self.given.setdefault(buffer, []).append((slot, at - address(self._template(buffer))))
