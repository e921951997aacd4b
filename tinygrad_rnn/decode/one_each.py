"""One sequence for each row of the state: the likeliest token at each step, a sampled one, or a given one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from tinygrad_rnn.autograd.gradients import no_grad
from tinygrad_rnn.decode.checks import check_ids, check_sampling, require
from tinygrad_rnn.decode.found import Found, Hypothesis
from tinygrad_rnn.decode.model import Model, Step
from tinygrad_rnn.decode.search import Choice, Search, Weights
from tinygrad_rnn.decode.tokens import likeliest, sampled


def greedy(
    step: Step,
    state: Any,
    *,
    start: int,
    end: int,
    max_length: int,
    weights: Weights | None = None,
    batch_axis: int = 0,
) -> list[Hypothesis]:
    """The likeliest token at each step: a hypothesis for each row of the state.

    start, end: the token fed first; the one that ends a sequence
    max_length: at most that many tokens, the end token counted
    weights: weights(state) -> (N, …, S), e.g. the attention weights of the step that made the state, or None
    batch_axis: the axis of the state's tensors along which the sequences lie: 1 for the state of nn.LSTM, (L, N, H)
    """
    return _one_each(Search("greedy", step, state, start, end, max_length, weights, batch_axis), likeliest)


def sample(
    step: Step,
    state: Any,
    *,
    start: int,
    end: int,
    max_length: int,
    weights: Weights | None = None,
    batch_axis: int = 0,
    temperature: float = 1.0,
    top_k: int = 0,
    top_p: float = 1.0,
    rng: np.random.Generator,
) -> list[Hypothesis]:
    """Tokens as `sample_tokens` gives: a hypothesis for each row of the state. Other options are those of `greedy`.

    Its log_prob is the model's own, whatever temperature, top_k and top_p are.
    """
    check_sampling("sample", temperature, top_k, top_p)

    def pick(log_p: np.ndarray) -> np.ndarray:
        return sampled(log_p, temperature, top_k, top_p, rng)

    return _one_each(Search("sample", step, state, start, end, max_length, weights, batch_axis), pick)


def _one_each(search: Search, pick: Callable[[np.ndarray], np.ndarray]) -> list[Hypothesis]:
    """One hypothesis for each row; pick(log P (N, V)) -> tokens (N,)."""

    def choose(found: Found, log_p: np.ndarray) -> Choice:
        rows, tokens = np.arange(len(log_p)), pick(log_p)
        return rows, tokens, found.log_prob + np.where(found.finished, 0.0, log_p[rows, tokens])

    found = search.run(choose)
    return found.hypotheses(np.arange(len(found.last)), 1.0)


def score(
    step: Step, state: Any, targets: Sequence[Sequence[int]], *, start: int, end: int, batch_axis: int = 0
) -> np.ndarray:
    """log P in nats of given token lists and the end token after each: the chain rule, every token fed as it is given.

    targets: B lists of any lengths, without start and end  batch_axis: as for `greedy`  returns: (B,) float64
    """
    with no_grad():
        padded, lengths = _padded(targets, start, end)
        model = Model("score", step, state, batch_axis, needed=int(padded.max(initial=end)))
        require("score", len(targets) == model.rows, f"there must be {model.rows} targets", len(targets))
        total, last, rows = np.zeros(model.rows), np.full(model.rows, start, np.int64), np.arange(model.rows)
        for t in range(padded.shape[1]):
            ended = t >= lengths
            log_p, last = model.feed(last, rows, ended), padded[:, t]
            total += np.where(ended, 0.0, log_p[rows, last])
        return total


def _padded(targets: Sequence[Sequence[int]], start: int, end: int) -> tuple[np.ndarray, np.ndarray]:
    """The targets in one array, filled up with end tokens, and their lengths, one end token included."""
    check_ids("score", start=start, end=end)
    lengths = np.array([len(tokens) + 1 for tokens in targets], np.int64)
    padded = np.full((len(targets), lengths.max(initial=0)), end, np.int64)
    for row, tokens in zip(padded, targets, strict=True):
        check_ids("score", **{f"token {i}": token for i, token in enumerate(tokens)})
        row[: len(tokens)] = tokens
    return padded, lengths
