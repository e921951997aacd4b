"""Operands of fused loops: where each value is, and how an element of it is read and written."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import numpy as np

from tinygrad_rnn.compiler.ir.value import Value
from tinygrad_rnn.compiler.llvm.assembly import I64
from tinygrad_rnn.compiler.llvm.builder import Code
from tinygrad_rnn.compiler.llvm.elements import Elements
from tinygrad_rnn.compiler.schedule.schedule import NotFusable, Schedule
from tinygrad_rnn.compiler.schedule.views import is_view


class Constant:
    """A constant array as an operand."""

    def __init__(self, array: np.ndarray):
        self.array, self.shape, self.dtype = array, array.shape, array.dtype


class Slots:
    """What the code reads at its start: for each operand its address, stride in time, strides and sizes.

    numbers  by what it is, which entry of the table it is
    """

    def __init__(self) -> None:
        self.numbers: dict[tuple, int] = {}
        self.constants: dict[Any, Constant] = {}

    def number(self, key: tuple) -> int:
        """Which entry of the table something is."""
        return self.numbers.setdefault(key, len(self.numbers))

    def constant(self, array: np.ndarray, name: str = "") -> Constant:
        """An array as an operand: the same one for the same array, or name."""
        return self.constants.setdefault(name or id(array), Constant(np.ascontiguousarray(array)))


class Operands:
    """The operands of a function under construction, for rows n0 to n1 of the batch and worker number `who`.

    look     a function of a value that returns an array with its shape and strides (with time, if it has that)
    by_rows  can the rows of the batch be shared out to workers?
    cached   the entries of the table that were read
    t        the step that is being written
    """

    def __init__(self, code: Code, s: Schedule, slots: Slots, look: Callable[[Any], np.ndarray], by_rows: bool):
        self.code, self.s, self.slots, self.look, self.by_rows = code, s, slots, look, by_rows
        self.address, self.n0, self.n1, self.who = code.arguments
        self.cached: dict[int, Any] = {}
        self.t: Any = None

    def read(self, *key: Any) -> Any:
        """An entry of the table, read once at the start of the function."""
        slot = self.slots.number(key)
        if slot not in self.cached:
            top = self.code.top
            pointer = top.inttoptr(top.add(self.address, Code.integer(8 * slot)), f"{I64}*")
            self.cached[slot] = top.load(pointer)
        return self.cached[slot]

    @contextmanager
    def steps(self, start: Any, stop: Any, *, down: bool = False) -> Iterator[Any]:
        """A loop over steps: what is written in it reads and writes values of its step."""
        with self.code.loop(start, stop, down=down) as self.t:
            yield self.t

    def size(self, v: Value, axis: int) -> Any:
        """How many elements along an axis."""
        return self.read("size", v, axis)

    def bounds(self, v: Value, axis: int) -> tuple[Any, Any]:
        """The first and the last + 1 along an axis; along the batch this worker's."""
        if axis == 0 and self.by_rows and self.s.flow.moves(v):
            return self.n0, self.n1
        return Code.integer(0), self.size(v, axis)

    def at(self, v: Any, indices: list[tuple[int, Any]]) -> Any:
        """The address of an element of the current step; indices: (axis of v, index)"""
        code = self.code
        where = [self.read("address", v)]
        if self.moving_in_time(v):
            where.append(code.mul(self.t, self.read("time", v)))
        where += [code.mul(i, self.read("stride", v, axis)) for axis, i in indices]
        return code.add(*where)

    def moving_in_time(self, v: Any) -> bool:
        return isinstance(v, Value) and self.s.where(v).buffer.time

    def time(self, v: Value) -> Any:
        return self.read("time", v) if self.moving_in_time(v) else Code.integer(0)

    def unit(self, v: Any, axis: int = -1) -> bool:
        """Do its elements lie next to each other along an axis?"""
        array = self.look(v)
        return array.shape[axis] == 1 or array.strides[axis] == array.itemsize

    def known(self, a: Any) -> Any:
        return a if isinstance(a, Value) else self.slots.constant(a)

    @contextmanager
    def loops(self, v: Value, axes: list[int] | None = None) -> Iterator[list[Any]]:
        """Loops over the axes of v (all but the last); yields the index along each."""
        with ExitStack() as stack:
            axes = list(range(len(v.shape) - 1)) if axes is None else axes
            yield [stack.enter_context(self.code.loop(*self.bounds(v, k))) for k in axes]

    def indices(self, a: Any, rank: int, lead: list[Any]) -> list[tuple[int, Any]]:
        """The indices into an operand that broadcasts, all but the last, given those into the result."""
        shape = np.shape(a) if isinstance(a, np.ndarray) else a.shape
        skipped = rank - len(shape)
        return [(k - skipped, i) for k, i in enumerate(lead) if k >= skipped and shape[k - skipped] != 1]

    def element(self, a: Any, v: Value, lead: list[Any], j: Any, mask: Any, made: dict[Any, Any]) -> Any:
        """A vector of an operand of v at the current place."""
        code = self.code
        if isinstance(a, Value) and a in made:
            return made[a]
        if isinstance(a, Value) and a.op == "zeros":
            a = 0.0
        if not isinstance(a, (Value, np.ndarray)):
            return code.constant(float(a))
        key = ("load", a if isinstance(a, Value) else id(a))
        if key not in made:
            shape = np.shape(a) if isinstance(a, np.ndarray) else a.shape
            address = self.at(self.known(a), self.indices(a, len(v.shape), lead))
            flags = a.dtype == bool
            if not shape or (shape[-1] == 1 and v.shape[-1] != 1) or self.look(a).strides[-1] == 0:
                made[key] = code.flag(address) if flags else code.spread(code.load_one(address))
            elif not self.unit(a):
                raise NotFusable(f"{getattr(a, 'op', 'an array')} across rows has no form in machine code", v)
            else:
                address = code.add(address, code.mul(j, a.dtype.itemsize))
                made[key] = code.load_flags(address, mask) if flags else code.load(address, mask)
        return made[key]

    def put(self, v: Value, x: Any, lead: list[Any], j: Any, mask: Any) -> None:
        code = self.code
        address = code.add(self.at(v, list(enumerate(lead))), code.mul(j, v.dtype.itemsize))
        if v.dtype == bool:
            code.store_flags(Elements(code).truth(x), address, mask)
        else:
            code.store(Elements(code).number(x), address, mask)

    def in_rows(self, v: Value) -> Value:
        """A value, or a view of one, to write into: its elements must lie next to each other."""
        if not self.unit(v):
            raise NotFusable(f"{(v.args[0] if is_view(v) else v).op} across rows has no form in machine code", v)
        return v

    def copy(self, p: Any, out: Value) -> None:
        """Write a value into a view of the same shape."""
        with self.loops(out) as lead:
            write = lambda j, mask: self.put(out, self.element(p, out, lead, j, mask, {}), lead, j, mask)
            self.code.over(*self.bounds(out, len(out.shape) - 1), write)
