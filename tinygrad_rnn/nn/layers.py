"""Layers with no notion of time."""

from __future__ import annotations

import math

from typing import Any

import numpy as np

from tinygrad_rnn import ops
from tinygrad_rnn.autograd.tensor import Parameter, Tensor, tensor
from tinygrad_rnn.nn import init
from tinygrad_rnn.nn.module import Module
from tinygrad_rnn.ops.kernels import fused


def check_whole(who: str, **sizes: Any) -> None:
    """TypeError unless all sizes are integers."""
    for name, size in sizes.items():
        if isinstance(size, bool) or not hasattr(size, "__index__"):
            raise TypeError(f"{who}: {name} must be an integer, got {size!r}")


def _check(who: str, **sizes: int) -> None:
    """TypeError or ValueError unless all sizes are integers that are not negative."""
    check_whole(who, **sizes)
    for name, size in sizes.items():
        if size < 0:
            raise ValueError(f"{who}: {name} must be at least 0, got {size}")


def _check_features(who: str, x: Any, size: int) -> None:
    """TypeError or ValueError unless x is a tensor (..., size)."""
    if not hasattr(x, "shape"):
        raise TypeError(f"{who}: x must be a tensor, got {type(x).__name__}; make it one by tensor(…)")
    if x.shape[-1:] != (size,):
        raise ValueError(f"{who}: x must have {size} features in its last axis, got shape {x.shape}")


class Linear(Module):
    """y = x W + b.   W: (I, O)  b: (O,)  x: (..., I)  returns: (..., O)"""

    def __init__(self, in_features: int, out_features: int, bias: bool = True):
        _check("Linear", in_features=in_features, out_features=out_features)
        bound = 1 / math.sqrt(max(in_features, 1))
        self.W = Parameter(init.uniform((in_features, out_features), bound))
        self.b = Parameter(init.zeros((out_features,))) if bias else None

    def forward(self, x: Tensor) -> Tensor:
        try:
            y = x @ self.W
        except (ValueError, TypeError):
            _check_features("Linear", x, self.W.shape[0])
            raise
        return y if self.b is None else y + self.b


class Embedding(Module):
    """A learned vector for each of V ids.   E: (V, D)  ids: (...) integers  returns: (..., D)

    padding_idx: an id whose vector is 0 at first, and is not learned: no gradient comes to it; None for none. From the
    end if negative, as in PyTorch
    IndexError for an id that is not from 0 to V-1; of ids on a GPU with the next value that is read from it.
    """

    def __init__(self, num_embeddings: int, embedding_dim: int, padding_idx: int | None = None):
        _check("Embedding", num_embeddings=num_embeddings, embedding_dim=embedding_dim)
        if padding_idx is not None and not -num_embeddings <= padding_idx < num_embeddings:
            raise ValueError(f"Embedding: padding_idx must be an id below {num_embeddings}, got {padding_idx}")
        self.padding_idx = padding_idx if padding_idx is None else padding_idx % num_embeddings
        vectors = init.normal((num_embeddings, embedding_dim))
        if padding_idx is not None:
            row = tensor(np.arange(num_embeddings)[:, None] == self.padding_idx, device=vectors.device)
            vectors = ops.where(row, 0.0, vectors)
        self.E = Parameter(vectors)

    def forward(self, ids: Any) -> Tensor:
        found = ops.embedding(ids, self.E)
        if self.padding_idx is None:
            return found
        given = ids if isinstance(ids, Tensor) else tensor(ids, device=found.device)
        return ops.where((given == self.padding_idx)[..., None], found.detach(), found)


class LayerNorm(Module):
    """y = (x - mean) / √(var + eps) * gain + b, over the last axis. Ba et al. (2016), arXiv:1607.06450.

    gain, b: (D,)  x: (..., D)  returns: (..., D)
    """

    def __init__(self, size: int, eps: float = 1e-5):
        _check("LayerNorm", size=size)
        self.eps = eps
        self.gain = Parameter(init.ones((size,)))
        self.b = Parameter(init.zeros((size,)))

    def forward(self, x: Tensor) -> Tensor:
        _check_features("LayerNorm", x, self.gain.shape[0])
        return layer_norm(x, self.gain, self.b, eps=self.eps)


@fused
def layer_norm(x: Tensor, gain: Tensor, b: Tensor, *, eps: float) -> Tensor:
    """(x - mean) / √(var + eps) * gain + b, over the last axis."""
    d = x - x.mean(-1, keepdims=True)
    variance = (d * d).mean(-1, keepdims=True)
    return d / ops.sqrt(variance + eps) * gain + b


class Dropout(Module):
    """While training, zero with probability p and the rest scaled by 1 / (1 - p); else x. Srivastava et al. (2014).

    rng: where the masks come from; by default the library's generator
    """

    def __init__(self, p: float = 0.5, rng: np.random.Generator | None = None):
        if not isinstance(p, (int, float, np.number)):
            raise TypeError(f"Dropout: p must be a number, got {p!r}")
        if not 0 <= p < 1:
            raise ValueError(f"Dropout: p must be from 0 to less than 1, got {p}")
        self.p, self.rng = p, rng

    def forward(self, x: Tensor) -> Tensor:
        return ops.dropout(x, self.p, self.training, self.rng)
