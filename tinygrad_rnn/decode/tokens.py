"""One token for each row of log probabilities: the likeliest, or one that is sampled."""

from __future__ import annotations

from typing import Any

import numpy as np

from tinygrad_rnn.autograd import arrays
from tinygrad_rnn.autograd.tensor import Tensor
from tinygrad_rnn.decode.checks import check_finite, check_sampling, require


def sample_tokens(
    logits: np.ndarray, *, temperature: float = 1.0, top_k: int = 0, top_p: float = 1.0, rng: np.random.Generator
) -> np.ndarray:
    """One token for each row of (unnormalised) log probabilities, sampled. logits: (N, V)  returns: (N,) int64

    temperature: P(w)^(1/temperature), normalised; 0 takes the likeliest token
    top_k: of these only the k likeliest, and those as likely as the kth (Fan et al. 2018, arXiv:1805.04833); 0 for all
    top_p: of what is left, normalised, only the smallest set of likeliest tokens whose probability reaches top_p: the
    nucleus (Holtzman et al. 2020, arXiv:1904.09751); 1 for all

    >>> logits = np.log([[0.5, 0.3, 0.15, 0.05]])
    >>> sorted({int(sample_tokens(logits, top_p=0.8, rng=np.random.default_rng(seed))[0]) for seed in range(50)})
    [0, 1]
    """
    check_sampling("sample_tokens", temperature, top_k, top_p)
    values = np.array(on_host(logits), np.float64)
    fits = values.ndim == 2 and values.shape[1] > 0
    require("sample_tokens", fits, "logits must be (N, V) with V at least 1", values.shape)
    check_finite("sample_tokens", values)
    return sampled(values, temperature, top_k, top_p, rng)


def sampled(logits: np.ndarray, temperature: float, top_k: int, top_p: float, rng: np.random.Generator) -> np.ndarray:
    """The same, of float64 logits and options that have been checked."""
    if temperature == 0:
        return likeliest(logits)
    with np.errstate(over="ignore"):
        scaled = (logits - logits.max(axis=1, keepdims=True)) / temperature
    if 0 < top_k < scaled.shape[1]:
        scaled[scaled < np.partition(scaled, -top_k, axis=1)[:, -top_k, None]] = -np.inf
    p = np.exp(scaled)
    if top_p < 1:
        p[~_nucleus(p / p.sum(axis=1, keepdims=True), top_p)] = 0.0
    return np.array([rng.choice(len(row), p=row / row.sum()) for row in p], np.int64)


def _nucleus(p: np.ndarray, top_p: float) -> np.ndarray:
    """Which tokens are in the smallest set of likeliest ones that reaches top_p? (N, V) -> (N, V) bool"""
    order = np.argsort(-p, axis=1, kind="stable")
    before = np.cumsum(np.take_along_axis(p, order, axis=1), axis=1)[:, :-1]
    ranked = np.ones(p.shape, bool)
    ranked[:, 1:] = before < top_p * (1 - 1e-12)  # eight times 0.1 is a little less than 0.8, and reaches it
    kept = np.empty(p.shape, bool)
    np.put_along_axis(kept, order, ranked, axis=1)
    return kept


def likeliest(log_p: np.ndarray) -> np.ndarray:
    """The likeliest token of each row, of equals the first. log_p: (N, V)  returns: (N,)"""
    return log_p.argmax(axis=1)


def on_host(values: Any) -> np.ndarray:
    """The numbers of a tensor, or of an array of any device, in host memory."""
    return arrays.to_numpy(values) if not isinstance(values, Tensor) else values.numpy()
