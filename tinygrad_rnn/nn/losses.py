"""Losses, in nats (natural logarithm). `reduction` says "sum", "mean" or "none" (one for each target)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from tinygrad_rnn import ops
from tinygrad_rnn.autograd import arrays
from tinygrad_rnn.autograd.arrays import xp
from tinygrad_rnn.autograd.graph import context
from tinygrad_rnn.autograd.tensor import Tensor, tensor
from tinygrad_rnn.nn.linear_loss import Pass, linear_nll
from tinygrad_rnn.ops.index import counted, nll, target_places
from tinygrad_rnn.ops.kernels import fused

SMALL = 1 << 20  # multiplications of a product below which a pass over blocks is not worth its start


def cross_entropy(
    logits: Tensor, targets: Any, *, reduction: str = "mean", ignore_index: int = -100, label_smoothing: float = 0.0
) -> Tensor:
    """-log P(target), P = softmax(logits).

    With label_smoothing ε the target distribution is 1 - ε on the target plus ε / V on each of the V classes.
    logits: (..., V)  targets: (...) integers; positions that hold `ignore_index` (dummies, padding) count for nothing
    returns: in nats; "mean" is over the positions that count, and 0 if there are none
    IndexError for a target that is not from 0 to V-1; of targets on a GPU it comes with the next value that is read.
    """
    _check_tensor(logits, "cross_entropy: logits")
    given = _targets(targets, logits, "cross_entropy", "logits")
    counts, ids = counted(given, ignore_index, logits.shape[-1], "cross_entropy", logits.device)
    at = target_places(ids, logits.shape[-1])
    if not label_smoothing:
        loss = nll_of_logits(logits, at=at, counts=counts, total=reduction in ("sum", "mean"))
    else:
        logp = ops.log_softmax(logits, axis=-1)
        loss = nll(logp, at=at, counts=counts, total=False)
        loss = (1 - label_smoothing) * loss - label_smoothing * ops.where(counts, logp.mean(-1), 0)
    return _reduced(loss, reduction, lambda: counts.sum(), "cross_entropy")


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
    _check_tensor(ys, "linear_cross_entropy: ys")
    _check_tensor(W, "linear_cross_entropy: W")
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
    return _reduced(loss, reduction, lambda: counts.sum(), "linear_cross_entropy")


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


def mse_loss(prediction: Tensor, target: Any, *, reduction: str = "mean") -> Tensor:
    """(prediction - target)², of one shape; "mean" is over all elements."""
    _check_tensor(prediction, "mse_loss: prediction")
    target = target if isinstance(target, Tensor) else tensor(target, prediction.dtype, prediction.device)
    if prediction.shape != target.shape:
        raise ValueError(
            f"mse_loss: prediction and target must have one shape, got {prediction.shape} and {target.shape}"
        )
    d = prediction - target
    return _reduced(d * d, reduction, lambda: d.size, "mse_loss")


def _check_tensor(x: Any, what: str) -> None:
    if not isinstance(x, Tensor):
        raise TypeError(f"{what} must be a tensor, got {type(x).__name__}; make it one by tensor(…)")


def _reduced(loss: Tensor, reduction: str, count: Callable[[], Any], who: str) -> Tensor:
    if reduction == "none":
        return loss
    if reduction not in ("sum", "mean"):
        raise ValueError(f'{who}: reduction must be "sum", "mean" or "none", got {reduction!r}')
    if loss.dtype == np.float16 and reduction == "mean":  # the sum alone may be too large
        return _reduced(loss.astype(np.float32), reduction, count, who).astype(np.float16)
    total = loss.sum() if loss.ndim else loss
    return total if reduction == "sum" else total / _at_least_one(count(), total.dtype)


def _at_least_one(count: Any, dtype: np.dtype) -> Any:
    """A number of positions, or 1 if there are none; one that was counted on a GPU stays there, nobody waits for it."""
    lib = xp(count)
    return max(int(count), 1) if lib is np else Tensor(lib.maximum(count, 1).astype(dtype))
