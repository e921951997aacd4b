"""Random numbers."""

from __future__ import annotations

from typing import Any

import numpy as np

from tinygrad_rnn.autograd import arrays, random
from tinygrad_rnn.autograd.graph import context
from tinygrad_rnn.autograd.tensor import Tensor
from tinygrad_rnn.ops.shape import _sizes


def uniform(
    shape: Any, rng: np.random.Generator | None = None, *, like: Tensor | None = None, device: str | None = None
) -> Tensor:
    """Numbers from 0 to less than 1, from `rng` or the library's generator, drawn in host memory.

    like: a tensor on whose device they are, and in whose dtype if that is wider; else they are float32. They are those
    that float32 can tell apart in any case, so that a seed means the same ones.
    In a cell: fresh ones at each step, in every engine the same.
    """
    shape, dtype = _sizes(shape, "uniform"), np.dtype(np.float32)
    if like is not None:
        dtype, device = np.promote_types(like.dtype, dtype), like.device
    if context.trace is not None:
        return context.trace.draw(shape, dtype, rng)
    return Tensor(arrays.from_numpy(random.uniform(shape, rng).astype(dtype, copy=False), device))
