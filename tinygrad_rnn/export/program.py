"""The program of a step, as every writer reads it: few operations, each on arrays whose shapes are known."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from tinygrad_rnn.compiler.ir.circuit import place_of
from tinygrad_rnn.compiler.ir.value import POINTWISE, Value

Shape = tuple[Any, ...]  # of sizes: numbers, or the letters of those that a call may choose
VIEWS = {"reshape", "permute", "broadcast", "slice"}
SUMS = {"sum", "max", "min", "argmax"}
# All that there is beside VIEWS and SUMS. join: side by side along an axis  take: x[…, index, …] along an axis
# pick: the same for each place by itself, as take_along_axis  filled: of one number  running: sums so far
OTHERS = {"matmul", "join", "take", "pick", "filled", "running"}
ELEMENTWISE = POINTWISE - {"detach"}


class Array(NamedTuple):
    """Something that a program is given, or a line of it computes."""

    name: str
    shape: Shape
    dtype: np.dtype


class Line(NamedTuple):
    """One statement.

    to      what it computes
    op      an elementwise operation by the name that ops has for it, or one of VIEWS, SUMS and OTHERS
    args    arrays, and numbers of Python's
    options the keyword arguments: axis, axes, keepdims, shape, keys, dtype, min, max, value
    within  the dtype that an elementwise operation brings its operands to
    value   where it comes from in the circuit, for its formula and its place in the user's code
    """

    to: Array
    op: str
    args: tuple[Any, ...]
    options: Mapping[str, Any]
    within: np.dtype
    value: Value

    @property
    def arrays(self) -> list[Array]:
        """Those of its arguments that are arrays."""
        return [a for a in self.args if isinstance(a, Array)]

    @property
    def elementwise(self) -> bool:
        """Is it one of the library's elementwise operations, or a formula of the user's?"""
        return self.op in ELEMENTWISE or self.op.startswith("user.")

    @property
    def place(self) -> str:
        """The code that it comes from: "f * c + i * g, LSTMCell.forward:155"; nothing if none is known."""
        return str(self.value.origin or "")

    def same(self) -> tuple:
        """What two lines share that say the same."""
        return (self.to, self.op, tuple(map(repr, self.args)), repr(dict(self.options)), self.within)


@dataclass(frozen=True)
class Program:
    """A step: y, state = step(x, state).

    x        the input of the step
    states   the leaves of the state that a step changes, and `new`, what they become
    given    the leaves that no step changes: a memory, a context
    weights  what it knows: parameters, and what is computed from parameters alone
    outputs  the leaves of y
    """

    x: Array
    states: list[Array]
    given: list[Array]
    weights: dict[Array, np.ndarray]
    lines: list[Line]
    outputs: list[Array]
    new: list[Array]

    @property
    def known(self) -> Iterator[Array]:
        """All that is there before the first line."""
        yield from (self.x, *self.states, *self.given, *self.weights)

    def readers(self) -> dict[Array, list[Line | None]]:
        """The lines that read each array, once for each time; None: it is a result."""
        found: dict[Array, list[Line | None]] = {a: [] for a in (*self.known, *(line.to for line in self.lines))}
        for line in self.lines:
            for a in line.arrays:
                found[a].append(line)
        for a in (*self.outputs, *self.new):
            found[a].append(None)
        return found

    def same(self) -> tuple:
        """What two recordings of one step share, of batches of any size."""
        results = self.x, self.states, self.given, self.outputs, self.new, list(self.weights)
        numbers = [numbers.tobytes() for numbers in self.weights.values()]
        return (*map(repr, results), numbers, [line.same() for line in self.lines])


class Refused(ValueError):
    """What cannot be exported: the operation, and where it is in the user's code."""

    def __init__(self, v: Value, what: str = ""):
        place = place_of(v)
        super().__init__(f"export: {v.op}{f' at {place}' if place else ''} {what or 'has no form in an exported file'}")
