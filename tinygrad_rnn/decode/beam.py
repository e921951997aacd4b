"""Beam search."""

from __future__ import annotations

import math

from typing import Any

import numpy as np

from tinygrad_rnn.decode.checks import require
from tinygrad_rnn.decode.found import Found, Hypothesis, normalised
from tinygrad_rnn.decode.model import Step
from tinygrad_rnn.decode.search import Choice, Search, Weights


def beam_search(
    step: Step,
    state: Any,
    *,
    start: int,
    end: int,
    max_length: int,
    width: int = 5,
    length_penalty: float = 1.0,
    n_best: int = 1,
    weights: Weights | None = None,
    batch_axis: int = 0,
) -> list[list[Hypothesis]]:
    """The likeliest sequences that a search over `width` hypotheses at a time finds: for each row of the state its
    `n_best` ones, best first; fewer where there are fewer.

    Each step goes on with the best `width` of: every hypothesis with every token after it, and those that have ended,
    as they are. Best is the greatest log P / n^length_penalty: 1 compares by the mean over the tokens (Cho et al. 2014,
    arXiv:1409.1259), 0 by log P itself, which favours short sequences. The search stops when all that it holds have
    ended, or at max_length. Width 1 is `greedy`. The other options are those of `greedy`.

    The step sees N = B · width rows, those of a sequence next to each other. Between steps its state's rows move with
    their hypotheses. A tensor of the state that every step hands on as the same object (the memory that attention
    reads) is not copied again: its rows are equal for all hypotheses of a sequence.
    """
    require("beam_search", width >= 1, "width must be at least 1", width)
    require("beam_search", 1 <= n_best <= width, f"n_best must be from 1 to the width, {width}", n_best)
    sane = 0 <= length_penalty < math.inf
    require("beam_search", sane, "length_penalty must be a finite number of at least 0", length_penalty)

    def choose(found: Found, log_p: np.ndarray) -> Choice:
        return _extensions(found, log_p, width, length_penalty)

    search = Search("beam_search", step, state, start, end, max_length, weights, batch_axis)
    found = search.run(choose, width)
    best = np.arange(len(found.last)).reshape(-1, width)[:, :n_best]
    return [found.hypotheses(rows[found.log_prob[rows] > -np.inf], length_penalty) for rows in best]


def _extensions(found: Found, log_p: np.ndarray, width: int, length_penalty: float) -> Choice:
    """The best `width` hypotheses of each sequence after one more step, best first; of equals the one found first.

    log_p: (N, V)  returns: for each the row it goes on from, its last token and its log P, (N,) each
    """
    k = min(width, log_p.shape[1])  # no row can give more than `width` of the best `width`
    tokens = _largest(log_p, k)
    log_prob = found.log_prob[:, None] + np.take_along_axis(log_p, tokens, axis=1)
    log_prob[found.finished] = -np.inf
    log_prob[found.finished, 0] = found.log_prob[found.finished]
    length = found.length + ~found.finished
    ranked = normalised(log_prob, length[:, None], length_penalty).reshape(-1, width * k)
    best = np.argsort(-ranked, axis=1, kind="stable")[:, :width]
    places = (best + width * k * np.arange(len(best))[:, None]).ravel()
    return places // k, tokens.ravel()[places], log_prob.ravel()[places]


def _largest(values: np.ndarray, k: int) -> np.ndarray:
    """Where the k largest values of each row are, from left to right; of equal ones the leftmost. (N, V) -> (N, k)"""
    kth = np.partition(values, -k, axis=1)[:, -k, None]
    taken = values >= kth
    if np.count_nonzero(taken) > k * len(values):  # more than one is as large as the kth
        equal = values == kth
        room = k - (taken & ~equal).sum(axis=1, keepdims=True)
        taken &= ~equal | (equal.cumsum(axis=1) <= room)
    return np.nonzero(taken)[1].reshape(-1, k)
