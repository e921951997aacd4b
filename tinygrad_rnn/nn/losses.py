"""Losses, in nats (natural logarithm). `reduction` says "sum", "mean" or "none" (one for each target)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from tinygrad_rnn import backend, ops
from tinygrad_rnn.ops.lookup import nll
from tinygrad_rnn.tensor import Tensor, tensor


def cross_entropy(
    logits: Tensor, targets: Any, *, reduction: str = "mean", ignore_index: int = -100, label_smoothing: float = 0.0
) -> Tensor:
    """-log P(target), P = softmax(logits).

    With label_smoothing ε the target distribution is 1 - ε on the target plus ε / V on each of the V classes.
    logits: (..., V)  targets: (...) integers; positions that hold `ignore_index` (dummies, padding) count for nothing
    returns: in nats; "mean" is over the positions that count, and 0 if there are none
    IndexError for a target that is not from 0 to V-1.
    """
    ids = targets.data if isinstance(targets, Tensor) else targets if backend.is_array(targets) else np.asarray(targets)
    if ids.shape != logits.shape[:-1]:
        raise ValueError(
            f"cross_entropy: targets must be {logits.shape[:-1]} for logits {logits.shape}, got {ids.shape}"
        )
    ids = backend.move(ids, logits.device)
    counts = ids != ignore_index
    logp = ops.log_softmax(logits, axis=-1)
    whole = reduction in ("sum", "mean") and not label_smoothing
    loss = nll(logp, ids, counts, total=whole)
    if label_smoothing:
        loss = (1 - label_smoothing) * loss - label_smoothing * ops.where(counts, logp.mean(-1), 0)
    return _reduced(loss, reduction, lambda: int(counts.sum()), "cross_entropy")


def mse_loss(prediction: Tensor, target: Any, *, reduction: str = "mean") -> Tensor:
    """(prediction - target)², of one shape; "mean" is over all elements."""
    target = target if isinstance(target, Tensor) else tensor(target, prediction.dtype, prediction.device)
    if prediction.shape != target.shape:
        raise ValueError(
            f"mse_loss: prediction and target must have one shape, got {prediction.shape} and {target.shape}"
        )
    d = prediction - target
    return _reduced(d * d, reduction, lambda: d.size, "mse_loss")


def _reduced(loss: Tensor, reduction: str, count: Callable[[], int], who: str) -> Tensor:
    if reduction == "none":
        return loss
    if reduction not in ("sum", "mean"):
        raise ValueError(f'{who}: reduction must be "sum", "mean" or "none", got {reduction!r}')
    total = loss.sum() if loss.ndim else loss
    return total if reduction == "sum" else total / max(count(), 1)
