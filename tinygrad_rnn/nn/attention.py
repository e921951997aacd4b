"""Attention: which vectors of a memory to look at, α = softmax(score(query, key)), and their mixture Σ α v.

Each kind reads a memory once, `memory = attention.remember(values)`, and is asked as often as needed, `context, weights
= attention(query, memory)`: what it does to the keys is done once for all queries. A sequence whose mask is False
throughout gives weights and a context of zero, and gradients of zero.
"""

from __future__ import annotations

import math

from typing import Any, NamedTuple

import numpy as np

from tinygrad_rnn.autograd.arrays import is_array, move
from tinygrad_rnn.autograd.tensor import Parameter, Tensor, tensor, zeros
from tinygrad_rnn.nn import init
from tinygrad_rnn.nn.layers import Linear, _check
from tinygrad_rnn.nn.lengths import checked_lengths, mask_there
from tinygrad_rnn.nn.module import Module
from tinygrad_rnn.ops import softmax, tanh, where


class Memory(NamedTuple):
    """What attention looks at. keys: (B, S, K)  values: (B, S, V)  mask: (B, S) of bool, True = attend; None for all"""

    keys: Tensor
    values: Tensor
    mask: Tensor | None


class Attention(Module):
    """What the kinds of attention share; each has its own score.

    query: (B, Q)  memory: of `remember`  returns: context (B, V), weights (B, S)
    """

    def remember(self, values: Tensor, *, lengths: Any = None, mask: Any = None) -> Memory:
        """The memory to ask. values: (S, B, V), such as the outputs of an encoder  lengths: (B,), or mask: (B, S) of
        bool, True = attend"""
        mask = _mask(values, lengths, mask, type(self).__name__)
        return Memory(self.keys(values).swapaxes(0, 1), values.swapaxes(0, 1), mask)

    def nothing(self, memory: Memory) -> tuple[Tensor, Tensor]:
        """A context and weights of zero, from before the first look."""
        B, S, V = memory.values.shape
        return _zeros(memory, B, V), _zeros(memory, B, S)

    def keys(self, values: Tensor) -> Tensor:
        """What queries are compared with. values: (S, B, V)  returns: (S, B, K)"""
        return values

    def scores(self, query: Tensor, keys: Tensor) -> Tensor:
        """How well each key fits the query, (B, S)."""
        return (keys @ query.unsqueeze(-1)).squeeze(-1)

    def forward(self, query: Tensor, memory: Memory) -> tuple[Tensor, Tensor]:
        scores = self.scores(query, memory.keys)
        if memory.mask is not None:
            scores = where(memory.mask, scores, -math.inf)
        weights = softmax(scores)
        return (weights.unsqueeze(1) @ memory.values).squeeze(1), weights


class DotAttention(Attention):
    """score_j = q · v_j.   Q = V. Luong et al. (2015), arXiv:1508.04025."""


class ScaledDotAttention(Attention):
    """score_j = q · v_j / √Q.   Q = V. Vaswani et al. (2017), arXiv:1706.03762."""

    def scores(self, query: Tensor, keys: Tensor) -> Tensor:
        return super().scores(query / math.sqrt(query.shape[-1]), keys)


class GeneralAttention(Attention):
    """score_j = q · (v_j W).   W: (V, Q). Luong et al. (2015), arXiv:1508.04025."""

    def __init__(self, query_size: int, value_size: int):
        _check("GeneralAttention", query_size=query_size, value_size=value_size)
        self.W = Parameter(init.xavier_uniform((value_size, query_size)))

    def keys(self, values: Tensor) -> Tensor:
        return values @ self.W


class AdditiveAttention(Attention):
    """score_j = tanh(q W + v_j U + b) · a.   W: (Q, A)  U: (V, A)  b, a: (A,). Bahdanau et al. (2014), arXiv:1409.0473.

    size: A, the units between; Q if it is not said
    """

    def __init__(self, query_size: int, value_size: int, size: int | None = None):
        size = query_size if size is None else size
        _check("AdditiveAttention", query_size=query_size, value_size=value_size, size=size)
        self.W = Parameter(init.xavier_uniform((query_size, size)))
        self.U = Parameter(init.xavier_uniform((value_size, size)))
        self.b = Parameter(init.zeros((size,)))
        self.a = Parameter(init.uniform((size,), 1 / math.sqrt(max(size, 1))))

    def keys(self, values: Tensor) -> Tensor:
        return values @ self.U + self.b

    def scores(self, query: Tensor, keys: Tensor) -> Tensor:
        return tanh((query @ self.W).unsqueeze(1) + keys) @ self.a


class MultiheadAttention(Attention):
    """Scaled dot products in N subspaces of size D = E / N, side by side. Vaswani et al. (2017), arXiv:1706.03762.

        α_n = softmax_j((q W_q)_n · (k_j W_k)_n / √D)     context = [Σ_j α_nj (v_j W_v)_n for each n] W_o

    each product with its bias; E = embed_dim, N = num_heads; kdim, vdim: the sizes of keys and values, E if not said
    query: (B, E), or (T, B, E) for T queries at once  mask: (T, S) of bool, True = attend, for these
    returns: context (B, E), weights (B, N, S); for T queries (T, B, E), (T, B, N, S)
    """

    def __init__(self, embed_dim: int, num_heads: int, *, kdim: int | None = None, vdim: int | None = None):
        _check("MultiheadAttention", embed_dim=embed_dim, num_heads=num_heads)
        if num_heads < 1 or embed_dim % num_heads:
            raise ValueError(
                f"MultiheadAttention: embed_dim must be a multiple of num_heads, got {embed_dim} and {num_heads}"
            )
        self.embed_dim, self.num_heads = embed_dim, num_heads
        self.q, self.k, self.v, self.out = (
            Linear(size or embed_dim, embed_dim) for size in (embed_dim, kdim, vdim, embed_dim)
        )

    def remember(self, values: Tensor, keys: Tensor | None = None, *, lengths: Any = None, mask: Any = None) -> Memory:
        """The memory to ask. values: (S, B, V)  keys: (S, B, K); the values themselves if not given"""
        mask = _mask(values, lengths, mask, "MultiheadAttention")
        return Memory(self._heads(self.k(values if keys is None else keys)), self._heads(self.v(values)), mask)

    def nothing(self, memory: Memory) -> tuple[Tensor, Tensor]:
        """A context and weights of zero, from before the first look."""
        B, N, S, _ = memory.values.shape
        return _zeros(memory, B, self.embed_dim), _zeros(memory, B, N, S)

    def _heads(self, x: Tensor) -> Tensor:
        """(B, E) -> (B, N, 1, D), (T, B, E) -> (B, N, T, D)"""
        parts = x.reshape((*x.shape[:-1], self.num_heads, self.embed_dim // self.num_heads))
        return parts.unsqueeze(-2) if x.ndim == 2 else parts.permute((1, 2, 0, 3))

    def forward(self, query: Tensor, memory: Memory, mask: Any = None) -> tuple[Tensor, Tensor]:
        q = self._heads(self.q(query))
        scores = q @ memory.keys.swapaxes(-1, -2) / math.sqrt(q.shape[-1])  # (B, N, T, S)
        weights = softmax(_attended(scores, memory.mask, mask))
        context = weights @ memory.values  # (B, N, T, D)
        if query.ndim == 2:
            context, weights = context.reshape(query.shape), weights.squeeze(2)
        else:
            context, weights = context.permute((2, 0, 1, 3)).reshape(query.shape), weights.permute((2, 0, 1, 3))
        context = self.out(context)
        if memory.mask is not None or mask is not None or not weights.shape[-1]:  # what saw nothing has no bias either
            context = where(weights.sum(-1)[..., :1] > 0, context, 0)
        return context, weights


def _attended(scores: Tensor, keys: Tensor | None, queries: Any) -> Tensor:
    """The scores (B, N, T, S), -inf where one of the masks is False. keys: (B, S)  queries: (T, S)"""
    if keys is not None:
        scores = where(keys.reshape((len(keys), 1, 1, -1)), scores, -math.inf)
    if is_array(queries):
        queries = move(queries, scores.device)
    return scores if queries is None else where(queries, scores, -math.inf)


ATTENTIONS = {  # by name: made with the sizes of query and value
    "dot": lambda query, value: DotAttention(),
    "scaled": lambda query, value: ScaledDotAttention(),
    "general": GeneralAttention,
    "additive": AdditiveAttention,
    "multihead": lambda query, value: MultiheadAttention(query, 4, kdim=value, vdim=value),
}


def _zeros(memory: Memory, *shape: int) -> Tensor:
    return zeros(shape, dtype=memory.values.dtype, device=memory.values.device)


def _mask(values: Tensor, lengths: Any, mask: Any, who: str) -> Tensor | None:
    """(B, S) of bool; None where everything may be looked at."""
    if not isinstance(values, Tensor):
        raise TypeError(f"{who}: values must be a tensor (S, B, V), got {type(values).__name__}")
    if values.ndim != 3:
        raise ValueError(f"{who}: values must be (S, B, V), got {values.shape}")
    S, B, _ = values.shape
    if lengths is None and mask is None:
        return None
    if lengths is not None:
        if mask is not None:
            raise ValueError(f"{who}: give lengths or a mask, not both")
        host, there = checked_lengths(lengths, S, B, who, "S"), mask_there(lengths, S)
        mask = np.arange(S) < host[:, None] if there is None else Tensor(there.T)
    mask = mask if isinstance(mask, Tensor) else tensor(mask, device=values.device)
    if mask.shape != (B, S) or mask.dtype != bool:
        raise ValueError(f"{who}: mask must be ({B}, {S}) of bool, got {mask.shape} of {mask.dtype}")
    return mask
