"""Losses of each element: of numbers, of probabilities, of distributions. Called and computed as in PyTorch.

prediction and target have one shape; a target may be an array. `reduction` says "sum", "mean" (over all elements) or
"none" (one for each element).
"""

from __future__ import annotations

import math

from typing import Any

from tinygrad_rnn import ops
from tinygrad_rnn.autograd.tensor import Tensor, tensor
from tinygrad_rnn.nn.reduction import check_tensor, reduced


def mse_loss(prediction: Tensor, target: Any, *, reduction: str = "mean") -> Tensor:
    """(prediction - target)²"""
    d = _difference("mse_loss", prediction, target)
    return reduced(d * d, reduction, lambda: d.size, "mse_loss")


def l1_loss(prediction: Tensor, target: Any, *, reduction: str = "mean") -> Tensor:
    """|prediction - target|, whose derivative is 0 where they are equal."""
    d = _difference("l1_loss", prediction, target)
    return reduced(ops.abs(d), reduction, lambda: d.size, "l1_loss")


def smooth_l1_loss(prediction: Tensor, target: Any, *, beta: float = 1.0, reduction: str = "mean") -> Tensor:
    """d² / 2β where |d| < β, else |d| - β / 2; d = prediction - target. With β = 0 it is `l1_loss`. Girshick (2015),
    arXiv:1504.08083."""
    _check_at_least_zero("smooth_l1_loss: beta", beta)
    if not beta:
        return l1_loss(prediction, target, reduction=reduction)
    d = _difference("smooth_l1_loss", prediction, target)
    size = ops.abs(d)
    loss = ops.where(size < beta, d * d * (0.5 / beta), size - 0.5 * beta)
    return reduced(loss, reduction, lambda: d.size, "smooth_l1_loss")


def huber_loss(prediction: Tensor, target: Any, *, delta: float = 1.0, reduction: str = "mean") -> Tensor:
    """d² / 2 where |d| ≤ δ, else δ (|d| - δ / 2); d = prediction - target. Huber (1964)."""
    _check_at_least_zero("huber_loss: delta", delta, more=True)
    d = _difference("huber_loss", prediction, target)
    size = ops.abs(d)
    loss = ops.where(size <= delta, d * d * 0.5, (size - 0.5 * delta) * delta)
    return reduced(loss, reduction, lambda: d.size, "huber_loss")


def binary_cross_entropy_with_logits(
    logits: Tensor, target: Any, *, weight: Any = None, pos_weight: Any = None, reduction: str = "mean"
) -> Tensor:
    """-w (p y log σ(x) + (1 - y) log(1 - σ(x))), with no overflow and no log of 0.

    target: y, from 0 to 1  weight: w, and pos_weight: p, of any shape that broadcasts to the logits' x; 1 if None.
    "mean" divides by how many elements there are, whatever they weigh.
    """
    x, y = logits, _like("binary_cross_entropy_with_logits", logits, target)
    missed = ops.softplus(-x)  # -log σ(x)
    counts = 1 if pos_weight is None else 1 + (_tensor(pos_weight, x) - 1) * y
    loss = (1 - y) * x + counts * missed
    loss = loss if weight is None else loss * _tensor(weight, x)
    if loss.shape != x.shape:
        raise ValueError(
            f"binary_cross_entropy_with_logits: weights must broadcast to {x.shape}, got a loss {loss.shape}"
        )
    return reduced(loss, reduction, lambda: x.size, "binary_cross_entropy_with_logits")


def kl_div(log_probs: Tensor, target: Any, *, log_target: bool = False, reduction: str = "mean") -> Tensor:
    """q (log q - log p) of each element: KL(q ‖ p) once they are summed.

    log_probs: log p  target: q, or log q with log_target; where q is 0 nothing is lost
    reduction: also "batchmean", the sum divided by the first axis' size: the mean of KL over rows of (B, V); "mean" is
    over all elements
    """
    q = _like("kl_div", log_probs, target)
    if log_target:
        loss = ops.exp(q) * (q - log_probs)
    else:
        some = q > 0
        loss = ops.where(some, q * ops.log(ops.where(some, q, 1)), 0) - q * log_probs
    if reduction == "batchmean":
        return reduced(loss, "mean", lambda: loss.shape[0] if loss.ndim else 1, "kl_div")
    return reduced(loss, reduction, lambda: loss.size, "kl_div")


def _difference(who: str, prediction: Tensor, target: Any) -> Tensor:
    return prediction - _like(who, prediction, target)


def _like(who: str, prediction: Tensor, target: Any) -> Tensor:
    """The target as a tensor. TypeError and ValueError unless the two fit."""
    first = {"binary_cross_entropy_with_logits": "logits", "kl_div": "log_probs"}.get(who, "prediction")
    check_tensor(prediction, f"{who}: {first}")
    target = _tensor(target, prediction)
    if prediction.shape != target.shape:
        raise ValueError(f"{who}: {first} and target must have one shape, got {prediction.shape} and {target.shape}")
    return target


def _tensor(given: Any, like: Tensor) -> Tensor:
    return given if isinstance(given, Tensor) else tensor(given, like.dtype, like.device)


def _check_at_least_zero(what: str, value: float, more: bool = False) -> None:
    if not (value > 0 if more else value >= 0) or not value < math.inf:
        raise ValueError(f"{what} must be a finite number {'greater than' if more else 'of at least'} 0, got {value}")
