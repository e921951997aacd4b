"""Losses of classes, in nats (natural logarithm). `reduction` says "sum", "mean" or "none" (one for each target)."""

from __future__ import annotations

from typing import Any

import numpy as np

from tinygrad_rnn import ops
from tinygrad_rnn.autograd import arrays
from tinygrad_rnn.autograd.graph import context
from tinygrad_rnn.autograd.tensor import Tensor, tensor
from tinygrad_rnn.nn.linear_loss import Pass, linear_nll
from tinygrad_rnn.nn.reduction import check_tensor, reduced
from tinygrad_rnn.ops.index import counted, nll, target_places
from tinygrad_rnn.ops.kernels import fused

SMALL = 1 << 20  # multiplications of a product below which a pass over blocks is not worth its start


def cross_entropy(
    logits: Tensor, targets: Any, *, weight: Any = None, reduction: str = "mean", ignore_index: int = -100,
    label_smoothing: float = 0.0,
) -> Tensor:  # fmt: skip
    """-log P(target), P = softmax(logits).

    With label_smoothing ε the target distribution is 1 - ε on the target plus ε / V on each of the V classes.
    logits: (..., V)  targets: (...) integers; positions that hold `ignore_index` (dummies, padding) count for nothing
    weight: (V,), what a target of each class counts for; 1 if None
    returns: in nats; "mean" is over the positions that count, each for its target's weight, and 0 if there are none
    IndexError for a target that is not from 0 to V-1; of targets on a GPU it comes with the next value that is read.
    """
    check_tensor(logits, "cross_entropy: logits")
    given = _targets(targets, logits, "cross_entropy", "logits")
    if weight is not None:
        options: Any = {"reduction": reduction, "ignore_index": ignore_index}
        return _weighted(ops.log_softmax(logits, axis=-1), given, weight, label_smoothing, "cross_entropy", **options)
    counts, ids = counted(given, ignore_index, logits.shape[-1], "cross_entropy", logits.device)
    at = target_places(ids, logits.shape[-1])
    if not label_smoothing:
        loss = nll_of_logits(logits, at=at, counts=counts, total=reduction in ("sum", "mean"))
    else:
        logp = ops.log_softmax(logits, axis=-1)
        loss = nll(logp, at=at, counts=counts, total=False)
        loss = (1 - label_smoothing) * loss - label_smoothing * ops.where(counts, logp.mean(-1), 0)
    return reduced(loss, reduction, lambda: counts.sum(), "cross_entropy")


def nll_loss(
    log_probs: Tensor, targets: Any, *, weight: Any = None, reduction: str = "mean", ignore_index: int = -100
) -> Tensor:
    """-log P(target) of log probabilities (..., V), such as log_softmax gives them; the rest as in cross_entropy."""
    check_tensor(log_probs, "nll_loss: log_probs")
    given = _targets(targets, log_probs, "nll_loss", "log_probs")
    if weight is not None:
        return _weighted(log_probs, given, weight, 0.0, "nll_loss", reduction=reduction, ignore_index=ignore_index)
    counts, ids = counted(given, ignore_index, log_probs.shape[-1], "nll_loss", log_probs.device)
    loss = nll(log_probs, at=target_places(ids, log_probs.shape[-1]), counts=counts, total=False)
    return reduced(loss, reduction, lambda: counts.sum(), "nll_loss")


def _weighted(
    logp: Tensor, targets: Any, weight: Any, smoothing: float, who: str, *, reduction: str, ignore_index: int
) -> Tensor:
    """-((1 - ε) w(target) log P(target) + ε / V Σᵥ w(v) log P(v)); the mean is the sum over Σ w(target)."""
    V = logp.shape[-1]
    w = weight if isinstance(weight, Tensor) else tensor(weight, logp.dtype, logp.device)
    if w.shape != (V,):
        raise ValueError(f"{who}: weight must be ({V},), a number for each class, got {w.shape}")
    counts, ids = counted(targets, ignore_index, V, who, logp.device)
    of_target = ops.where(counts, ops.take(w, ids), 0)
    loss = nll(logp, at=target_places(ids, V), counts=counts, total=False) * of_target
    if smoothing:
        loss = (1 - smoothing) * loss - smoothing / V * ops.where(counts, (logp * w).sum(-1), 0)
    if reduction != "mean":
        return reduced(loss, reduction, lambda: 1, who)
    total = of_target.sum()
    return loss.sum() / ops.where(total == 0, 1, total)


@fused
def nll_of_logits(logits: Tensor, *, at: Any, counts: Any, total: bool) -> Tensor:
    """-log P(target) of each row of logits, 0 where it does not count; or their sum. at: see target_places"""
    return nll(ops.log_softmax(logits, axis=-1), at=at, counts=counts, total=total)


def linear_cross_entropy(
    ys: Tensor, W: Tensor, b: Tensor | None, targets: Any, *, reduction: str = "mean", ignore_index: int = -100,
    label_smoothing: float = 0.0,
) -> Tensor:  # fmt: skip
    """cross_entropy(ys @ W + b, targets) without ever holding the logits of all positions.

    The value and all gradients are found in one pass over blocks of rows: for large vocabularies less than a quarter of
    the memory, and faster. Derivatives of derivatives take the plain way, with all logits; so do few and small ones,
    and reduction="none".

    ys: (..., H)  W: (H, V)  b: (V,) or None  targets: (...) integers; the rest as in cross_entropy
    returns: in nats
    """
    check_tensor(ys, "linear_cross_entropy: ys")
    check_tensor(W, "linear_cross_entropy: W")
    _check_weights(ys, W, b)
    ids = _targets(targets, ys, "linear_cross_entropy", "ys")
    options: Any = {"ignore_index": ignore_index, "label_smoothing": label_smoothing}
    small = ys.size * W.shape[-1] < SMALL
    if small or reduction not in ("sum", "mean") or context.trace is not None:
        return cross_entropy(_linear(ys, W, b), ids, reduction=reduction, **options)
    wanted = [context.recording and x is not None and x.requires_grad for x in (ys, W, b)]
    counts, at = counted(ids.reshape(-1), ignore_index, W.shape[-1], "linear_cross_entropy", ys.device)
    plain = lambda ys, W, b: cross_entropy(_linear(ys, W, b), ids.reshape(-1), reduction="sum", **options)
    loss = linear_nll(ys.reshape(-1, ys.shape[-1]), W, b, call=Pass(plain, wanted, at, counts, label_smoothing))
    return reduced(loss, reduction, lambda: counts.sum(), "linear_cross_entropy")


def _linear(ys: Tensor, W: Tensor, b: Tensor | None) -> Tensor:
    return ys @ W if b is None else ys @ W + b


def _check_weights(ys: Tensor, W: Tensor, b: Tensor | None) -> None:
    fits = W.ndim == 2 and W.shape[:1] == ys.shape[-1:]
    if not fits or (b is not None and b.shape != W.shape[1:]):
        got = " and ".join(str(x.shape) for x in (W, b) if x is not None)
        raise ValueError(f"linear_cross_entropy: W must be (H, V) and b (V,) for ys (…, H) {ys.shape}, got {got}")


def _targets(targets: Any, like: Tensor, who: str, what: str) -> Any:
    """The targets as an array, where they are; ValueError unless there is one for each vector of `like`."""
    ids = targets.data if isinstance(targets, Tensor) else targets if arrays.is_array(targets) else np.asarray(targets)
    if not like.ndim:
        raise ValueError(f"{who}: {what} must have at least one axis, got {like.shape}")
    if ids.shape != like.shape[:-1]:
        raise ValueError(f"{who}: targets must be {like.shape[:-1]} for {what} {like.shape}, got {ids.shape}")
    return ids
