"""Random numbers."""

from __future__ import annotations

from typing import Any

import numpy as np

from tinygrad_rnn.autograd import random
from tinygrad_rnn.autograd.devices import default_device, parse_device
from tinygrad_rnn.autograd.dtypes import FLOAT
from tinygrad_rnn.autograd.graph import context
from tinygrad_rnn.autograd.tensor import Tensor
from tinygrad_rnn.ops.elementwise import cast
from tinygrad_rnn.ops.shape import _sizes


def uniform(
    shape: Any, rng: np.random.Generator | None = None, *, like: Tensor | None = None, device: str | None = None
) -> Tensor:
    """Numbers from 0 to less than 1, from `rng` or the library's generator.

    like: a tensor on whose device they are, and in whose dtype if that is wider; else they are float32. They are those
    that float32 can tell apart in any case, and the same ones on every device.
    In a cell: fresh ones at each step, in every engine the same.
    """
    shape, dtype = _sizes(shape, "uniform"), np.dtype(np.float32)
    if like is not None:
        dtype, device = np.promote_types(like.dtype, dtype), like.device
    if context.trace is not None:
        return context.trace.draw(shape, dtype, rng)
    return Tensor(random.uniform(shape, rng, parse_device(device or default_device())).astype(dtype, copy=False))


def dropout(x: Any, p: float = 0.5, training: bool = True, rng: np.random.Generator | None = None) -> Any:
    """x with zeros in random places, each with probability p, and the rest times 1 / (1 - p); x itself unless training.

    rng: where the mask comes from; by default the library's generator. Srivastava et al. (2014).
    """
    if not isinstance(p, (int, float, np.number)) or not 0 <= p <= 1:
        raise ValueError(f"dropout: p must be a number from 0 to 1, got {p!r}")
    if not training or p == 0:
        return x
    if not isinstance(x, Tensor):
        raise TypeError(f"dropout: x must be a tensor, got {type(x).__name__}; make it one by tensor(…)")
    return x * 0.0 if p == 1 else x * dropout_mask(x.shape, p, rng, like=x)


def dropout_mask(shape: Any, p: float, rng: np.random.Generator | None = None, *, like: Tensor) -> Tensor:
    """What dropout multiplies by: 0 with probability p, else 1 / (1 - p); of the dtype of `like`, where that is."""
    if context.trace is not None:
        return cast(uniform(shape, rng, like=like) >= p, like.dtype) * (1 / (1 - p))
    dtype = like.dtype if like.dtype.kind == "f" else FLOAT
    return Tensor(random.mask(_sizes(shape, "dropout"), p, rng, dtype=dtype, device=like.device))
