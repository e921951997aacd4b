"""What all losses do in the end: one number, or one for each target."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from tinygrad_rnn.autograd.arrays import xp
from tinygrad_rnn.autograd.tensor import Tensor


def check_tensor(x: Any, what: str) -> None:
    """TypeError unless it is a tensor."""
    if not isinstance(x, Tensor):
        raise TypeError(f"{what} must be a tensor, got {type(x).__name__}; make it one by tensor(…)")


def reduced(loss: Tensor, reduction: str, count: Callable[[], Any], who: str) -> Tensor:
    """Losses, or their sum, or that divided by `count`, which says how many there are."""
    if reduction == "none":
        return loss
    if reduction not in ("sum", "mean"):
        raise ValueError(f'{who}: reduction must be "sum", "mean" or "none", got {reduction!r}')
    if loss.dtype == np.float16 and reduction == "mean":  # the sum alone may be too large
        return reduced(loss.astype(np.float32), reduction, count, who).astype(np.float16)
    total = loss.sum() if loss.ndim else loss
    return total if reduction == "sum" else total / at_least_one(count(), total.dtype)


def at_least_one(count: Any, dtype: np.dtype) -> Any:
    """A number of positions, or 1 if there are none; one that was counted on a GPU stays there, nobody waits for it."""
    lib = xp(count)
    return max(int(count), 1) if lib is np else Tensor(lib.maximum(count, 1).astype(dtype))
