"""Random numbers."""

from __future__ import annotations

from typing import Any

import numpy as np

from tinygrad_rnn import backend, random
from tinygrad_rnn.graph import state
from tinygrad_rnn.ops.shape import _sizes
from tinygrad_rnn.tensor import Tensor


def uniform(shape: Any, rng: np.random.Generator | None = None, *, device: str | None = None) -> Tensor:
    """float32 numbers from 0 to less than 1, from `rng` or the library's generator, drawn in host memory.

    In a cell: fresh ones at each step, in every engine the same.
    """
    shape = _sizes(shape, "uniform")
    if state.trace is not None:
        return state.trace.draw(shape, np.dtype(np.float32), rng)
    return Tensor(backend.from_numpy(random.uniform(shape, rng), device))
