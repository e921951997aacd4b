"""What a search has found so far, and what it returns: hypotheses."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np


class Hypothesis(NamedTuple):
    """A sequence that was decoded.

    tokens: what was produced, without the start token that was fed and without the end token
    log_prob: log P of them in nats under the model, the end token's included if there is one
    score: log P / n^length_penalty, what beam search ranks by (greedy and sample: log P / n)
    finished: it has an end token; False if it was cut at max_length
    weights: (n, …, S) what `weights` gave after each step; None if it gave nothing, and where max_length is 0
    """

    tokens: list[int]
    log_prob: float
    score: float
    finished: bool
    weights: np.ndarray | None = None


class Found:
    """What was found so far: N rows of hypotheses, `width` for each sequence, and how each came about.

    last: (N,) the token to feed  parents: (N,) the row that each went on from at the last step
    log_prob: (N,) -inf where a row holds nothing  length: (N,) n  finished: (N,) bool
    trail: for each step what it appended to each row, the parents, and the weights of the rows before they moved
    """

    def __init__(self, rows: int, width: int, start: int, end: int):
        self.end = end
        self.last, self.parents = np.full(rows, start, np.int64), np.arange(rows)
        self.log_prob = np.where(self.parents % width, -np.inf, 0.0)  # equal rows would find the same `width` times
        self.length, self.finished = np.zeros(rows, np.int64), np.zeros(rows, bool)
        self.trail: list[tuple[np.ndarray, np.ndarray, np.ndarray | None]] = []

    @property
    def closed(self) -> np.ndarray:
        """(N,) bool: nothing can come after the row."""
        return self.finished | np.isneginf(self.log_prob)

    def extend(self, parents: np.ndarray, tokens: np.ndarray, log_prob: np.ndarray, weights: np.ndarray | None) -> None:
        """Row i becomes the hypothesis of row parents[i] with tokens[i] after it, or stays that if it has ended."""
        ended = self.finished[parents]
        self.last = np.where(ended, self.end, tokens)
        self.length = self.length[parents] + ~ended
        self.finished = self.last == self.end
        self.parents, self.log_prob = parents, log_prob
        self.trail.append((self.last, parents, weights))

    def hypotheses(self, rows: np.ndarray, length_penalty: float) -> list[Hypothesis]:
        """The hypotheses in some rows, scored by log P / n^length_penalty."""
        scores = normalised(self.log_prob, self.length, length_penalty)
        tokens, weights = self._read_back(rows)
        made = []
        for i, row in enumerate(rows):
            n, finished = int(self.length[row]), bool(self.finished[row])
            ids = [int(column[i]) for column in tokens[: n - finished]]
            seen = np.array([part[i] for part in weights[:n]]) if weights else None
            made.append(Hypothesis(ids, float(self.log_prob[row]), float(scores[row]), finished, seen))
        return made

    def _read_back(self, rows: np.ndarray) -> tuple[list[np.ndarray], list[np.ndarray]]:
        """For each step, oldest first, the tokens that it appended to some rows, and its weights of them."""
        tokens: list[np.ndarray] = []
        weights: list[np.ndarray] = []
        for last, parents, seen in reversed(self.trail):
            tokens.append(last[rows])
            rows = parents[rows]
            if seen is not None:
                weights.append(seen[rows])
        return tokens[::-1], weights[::-1]


def normalised(log_prob: np.ndarray, length: np.ndarray, penalty: float) -> np.ndarray:
    """log P / n^penalty; a row that holds nothing stays at -inf."""
    with np.errstate(over="ignore"):
        divisor = np.maximum(length, 1.0) ** penalty
    return log_prob / np.minimum(divisor, np.finfo(np.float64).max)
