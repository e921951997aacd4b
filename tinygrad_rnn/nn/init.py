"""Initial values of parameters: float32 tensors, drawn from the library's generator or the one that is passed.

`fan_in` is the number of rows: weights stand as in x @ W.
"""

from __future__ import annotations

import math

import numpy as np

from tinygrad_rnn.autograd import arrays
from tinygrad_rnn.autograd.arrays import xp
from tinygrad_rnn.autograd.devices import default_device
from tinygrad_rnn.autograd.random import default_generator, drawn
from tinygrad_rnn.autograd.tensor import Tensor

__all__ = ["constant", "kaiming_uniform", "normal", "ones", "orthogonal", "uniform", "xavier_uniform", "zeros"]

Shape = tuple[int, ...]


def zeros(shape: Shape) -> Tensor:
    """A tensor of zeros."""
    return constant(shape, 0)


def ones(shape: Shape) -> Tensor:
    """A tensor of ones."""
    return constant(shape, 1)


def constant(shape: Shape, value: float) -> Tensor:
    """A tensor of `value` throughout."""
    return Tensor(arrays.full(shape, value, np.float32))


def uniform(shape: Shape, bound: float, rng: np.random.Generator | None = None) -> Tensor:
    """Numbers, uniform from -bound to bound."""
    numbers = drawn(shape, rng, default_device(), np.float64)
    return Tensor(xp(numbers).asarray(2 * bound * numbers - bound, np.float32))


def normal(shape: Shape, std: float = 1.0, rng: np.random.Generator | None = None) -> Tensor:
    """Numbers, normal with mean 0 and standard deviation std."""
    return _tensor((rng or default_generator()).normal(0.0, std, shape))


def xavier_uniform(shape: Shape, gain: float = 1.0, rng: np.random.Generator | None = None) -> Tensor:
    """Uniform with variance 2 gain² / (fan_in + fan_out). Glorot and Bengio (2010)."""
    fan_in, fan_out = _fans(shape)
    return uniform(shape, gain * math.sqrt(6 / (fan_in + fan_out)), rng)


def kaiming_uniform(shape: Shape, gain: float = math.sqrt(2), rng: np.random.Generator | None = None) -> Tensor:
    """Uniform with variance gain² / fan_in; the default gain is for relu. He et al. (2015), arXiv:1502.01852."""
    return uniform(shape, gain * math.sqrt(3 / _fans(shape)[0]), rng)


def orthogonal(shape: Shape, gain: float = 1.0, rng: np.random.Generator | None = None) -> Tensor:
    """Orthonormal rows or columns, whichever are fewer, drawn uniformly. shape: (rows, columns).

    Wider than high by a whole number (gates side by side): a square orthogonal block for each.
    Saxe et al. (2013), arXiv:1312.6120.
    """
    if len(shape) != 2:
        raise ValueError(f"orthogonal: shape must be (rows, columns), got {shape}")
    rows, columns = shape
    if columns > rows > 0 and columns % rows == 0:
        blocks = [_orthogonal(rows, rows, rng or default_generator()) for _ in range(columns // rows)]
        return _tensor(gain * np.concatenate(blocks, axis=1))
    return _tensor(gain * _orthogonal(rows, columns, rng or default_generator()))


def _orthogonal(rows: int, columns: int, rng: np.random.Generator) -> np.ndarray:
    q, r = np.linalg.qr(rng.standard_normal((max(rows, columns), min(rows, columns))))
    q = q * np.where(np.diag(r) < 0, -1, 1)  # makes the distribution uniform (Mezzadri, 2007)
    return q if rows >= columns else q.T


def _fans(shape: Shape) -> tuple[int, int]:
    if len(shape) < 2:
        raise ValueError(f"init: shape must have at least two axes for a fan, got {shape}")
    return math.prod(shape[:-1]), shape[-1]


def _tensor(values: np.ndarray) -> Tensor:
    return Tensor(arrays.from_numpy(values.astype(np.float32)))
