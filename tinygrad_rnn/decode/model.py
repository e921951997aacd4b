"""A step function with its state: the rows of hypotheses go through it, and come back as log probabilities."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from tinygrad_rnn.autograd import arrays, nest
from tinygrad_rnn.autograd.tensor import Tensor
from tinygrad_rnn.decode.checks import check_finite, require
from tinygrad_rnn.decode.tokens import on_host

Step = Callable[[np.ndarray, Any], tuple[Tensor, Any]]


class Model:
    """A step function and its state, with `copies` rows for each sequence, along an axis of the state's tensors.

    needed: the highest id that there must be a logit for
    """

    def __init__(self, who: str, step: Step, state: Any, axis: int = 0, copies: int = 1, *, needed: int):
        self.who, self.step, self.axis, self.needed = who, step, axis, needed
        require(who, axis in (0, 1), "batch_axis must be 0 or 1", axis)
        self.constant: list[Any] = []  # leaves that are equal for all rows of a sequence, as long as they are these
        sequences = np.arange(self._size(state))
        self.rows = len(sequences) * copies
        self.state = self._gathered(state, np.repeat(sequences, copies))
        self.constant = nest.leaves(self.state)
        layers = axis == 0 and all(len(leaf.shape) > 2 for leaf in self.constant)
        self.hint = "; for a state (layers, N, H) pass batch_axis=1" if layers else ""
        self.checked = not layers or self.rows < 2  # nothing can be mistaken

    def feed(self, ids: np.ndarray, parents: np.ndarray, ignored: np.ndarray) -> np.ndarray:
        """One step of each row from the state of its parent. ids, parents: (N,)  ignored: (N,) bool, rows that may hold
        anything  returns: log P of each possible next token, (N, V) float64
        """
        before = self._gathered(self.state, parents)
        try:
            logits, self.state = self.step(ids, before)
        except ValueError as error:
            if self.checked or not self.hint:
                raise
            raise ValueError(f"{error}{self.hint}") from error
        size = self._size(self.state)
        require(self.who, size == self.rows, f"the new state must have {self.rows} rows", f"{size}{self.hint}")
        values = np.array(on_host(logits), np.float64)
        fits = values.ndim == 2 and len(values) == self.rows and values.shape[1] > self.needed
        what = f"logits must be ({self.rows}, V) with V greater than {self.needed}"
        require(self.who, fits, what, f"{values.shape}{self.hint}")
        self._check_rows(ids, before, values)
        values[ignored] = 0.0
        check_finite(self.who, values)
        return _log_softmax(values)

    def _check_rows(self, ids: np.ndarray, state: Any, values: np.ndarray) -> None:
        """Is a row a sequence? The layers of one sequence, (L, 1, H), can be mistaken for L sequences: the step then
        spreads the 1 to L, and does not work on the first row alone. Asked at the first step, where it looks so."""
        pairs = zip(nest.leaves(state), nest.leaves(self.state), strict=False)
        if not self.checked and any(a.shape[1:2] == (1,) and b.shape[1:2] == (self.rows,) for a, b in pairs):
            what = "each row of the state must be one sequence's, which the step can go on with alone"
            require(self.who, self._alone(ids, state, values), what, f"{nest.describe(state)}{self.hint}")
        self.checked = True

    def _alone(self, ids: np.ndarray, state: Any, values: np.ndarray) -> bool:
        """Has the first row the same logits without the others?"""
        try:
            logits, _ = self.step(ids[:1], nest.map_leaves(lambda leaf: leaf[:1], state))
        except Exception:  # whatever a step does that gets what is not meant for it
            return False
        alone = np.array(on_host(logits), np.float64)
        return alone.shape == values[:1].shape and np.allclose(alone, values[:1], 1e-3, 1e-3, equal_nan=True)

    def _gathered(self, state: Any, rows: np.ndarray) -> Any:
        """The state whose row i is row rows[i] of the given one; the leaves in `constant` as they are."""
        if np.array_equal(rows, np.arange(len(rows))):
            return state
        same = {id(leaf) for leaf in self.constant}
        moved: dict[str, Any] = {"cpu": rows}  # once, not for each leaf

        def taken(leaf: Any) -> Any:
            if id(leaf) in same:
                return leaf
            device = leaf.device if isinstance(leaf, Tensor) else "cpu"
            if device not in moved:
                moved[device] = Tensor(arrays.move(rows, device))
            return leaf[(slice(None),) * self.axis + (moved[device],)]

        return nest.map_leaves(taken, state)

    def _size(self, state: Any) -> int:
        """N, if all leaves of the state have N rows along the axis."""
        sizes = {tuple(getattr(leaf, "shape", ())[self.axis : self.axis + 1]) for leaf in nest.leaves(state)}
        one = len(sizes) == 1 and () not in sizes
        what = "(L, N, …)" if self.axis else "(N, ...)"
        require(self.who, one, f"the state must hold tensors {what}, all of one N", nest.describe(state))
        return sizes.pop()[0]


def _log_softmax(logits: np.ndarray) -> np.ndarray:
    with np.errstate(over="ignore"):  # -1e308 - 1e308: a probability of 0
        shifted = logits - logits.max(axis=1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
