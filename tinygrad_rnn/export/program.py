"""A program: one step of a model for one sequence, as loops over arrays of float; plain data, for a writer to spell.

Arrays are flat. A view says which of their elements are read, as NumPy's strides do; an expression is computed element
by element; a statement fills one array, which nothing fills again.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np


@dataclass(frozen=True, eq=False)
class Array:
    """So many numbers.

    name    what the program calls it
    role    "weight", "state", "input", "output" or "local"
    values  those of a weight; the first ones of a state
    """

    name: str
    size: int
    role: str = "local"
    values: np.ndarray | None = None


class View(NamedTuple):
    """Elements of an array: that at (i, j, …) is offset + i strides[0] + j strides[1] + … + id per_id, id what a
    model of ids reads."""

    array: Array
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    offset: int = 0
    per_id: int = 0

    @classmethod
    def whole(cls, array: Array, shape: tuple[int, ...]) -> View:
        """All of an array, row by row."""
        return cls(array, shape, tuple(int(np.prod(shape[i + 1 :])) for i in range(len(shape))))

    @property
    def positions(self) -> np.ndarray:
        """Where each element is, but for the id."""
        steps = zip(np.indices(self.shape, sparse=True), self.strides, strict=True)
        return np.broadcast_to(sum((i * s for i, s in steps), np.array(self.offset)), self.shape)

    def at(self, positions: np.ndarray) -> View | None:
        """The view whose elements are at these positions, if strides can say it."""
        if not positions.size:
            return None
        first = positions[(0,) * positions.ndim]
        ahead = [tuple(int(i == d) for i in range(positions.ndim)) for d in range(positions.ndim)]
        strides = tuple(int(positions[a] - first) if n > 1 else 0 for a, n in zip(ahead, positions.shape, strict=True))
        view = View(self.array, positions.shape, strides, int(first), self.per_id)
        return view if np.array_equal(view.positions, positions) else None

    def broadcast(self, shape: tuple[int, ...]) -> View:
        """The same elements, repeated as NumPy repeats them."""
        lead = len(shape) - len(self.shape)
        kept = tuple(s if n > 1 else 0 for n, s in zip(self.shape, self.strides, strict=True))
        return View(self.array, shape, (0,) * lead + kept, self.offset, self.per_id)

    @property
    def contiguous(self) -> bool:
        """Are the elements neighbours, in order?"""
        return not self.per_id and np.array_equal(self.positions.ravel(), self.offset + np.arange(self.positions.size))


class Apply(NamedTuple):
    """An operation on elements. static: its keyword arguments that say something of numbers"""

    op: str
    args: tuple[Expression, ...]
    formula: str | None
    static: dict[str, float | None]


Expression = View | Apply | float


class Compute(NamedTuple):
    """target[…] = value[…], for each element. note: the line that says so"""

    target: View
    value: Expression
    note: str


class Product(NamedTuple):
    """target (M, N) = a (M, K) b (K, N)"""

    target: View
    a: View
    b: View
    note: str


class Reduce(NamedTuple):
    """target = op (sum, max or min) of value over some axes of its shape, which target keeps as 1."""

    target: View
    op: str
    value: Expression
    shape: tuple[int, ...]
    note: str


class Alias(NamedTuple):
    """Another name for neighbouring elements."""

    array: Array
    of: View
    note: str


Statement = Compute | Product | Reduce | Alias


class Program(NamedTuple):
    """A step.

    x        its input, or None: a number from 0 to ids - 1
    y        its output
    weights, states, locals  the other arrays
    step     what is done
    """

    x: Array | None
    ids: int
    y: Array
    weights: list[Array]
    states: list[Array]
    locals: list[Array]
    step: list[Statement]
