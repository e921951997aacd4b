"""The search that all decoding shares: step, choose, until nothing is open."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from tinygrad_rnn.autograd.gradients import no_grad
from tinygrad_rnn.decode.checks import check_ids, require
from tinygrad_rnn.decode.found import Found
from tinygrad_rnn.decode.model import Model, Step
from tinygrad_rnn.decode.tokens import on_host

Weights = Callable[[Any], Any]
Choice = tuple[np.ndarray, np.ndarray, np.ndarray]  # each new row's parent, last token and log P, (N,) each


@dataclass(frozen=True)
class Search:
    """What every search is told; the options are those of `greedy`.  who: the public function, for errors"""

    who: str
    step: Step
    state: Any
    start: int
    end: int
    max_length: int
    weights: Weights | None
    batch_axis: int

    def run(self, choose: Callable[[Found, np.ndarray], Choice], width: int = 1) -> Found:
        """Step until nothing is open, with `width` rows for each sequence.

        choose(found, log P (N, V)) says how the rows go on
        """
        check_ids(self.who, start=self.start, end=self.end)
        require(self.who, self.max_length >= 0, "max_length must be at least 0", self.max_length)
        with no_grad():
            model = Model(self.who, self.step, self.state, self.batch_axis, width, needed=self.end)
            found = Found(model.rows, width, self.start, self.end)
            while len(found.trail) < self.max_length and not found.closed.all():
                log_p = model.feed(found.last, found.parents, found.closed)
                seen = self._seen(model)
                parents, tokens, log_prob = choose(found, log_p)
                found.extend(parents, tokens, log_prob, seen)
        return found

    def _seen(self, model: Model) -> np.ndarray | None:
        """The weights of the step that was made, (N, …, S)."""
        weights = self.weights(model.state) if self.weights else None
        if weights is None:
            return None
        seen = np.array(on_host(weights))
        fits = seen.ndim > 1 and len(seen) == model.rows
        require(self.who, fits, f"weights must be ({model.rows}, …, S)", seen.shape)
        return seen
