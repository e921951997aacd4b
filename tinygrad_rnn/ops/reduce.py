"""Many elements to one, and back."""

from __future__ import annotations

import math

from typing import Any

import numpy as np

from tinygrad_rnn.backend import Array, xp
from tinygrad_rnn.ops.elementwise import exp
from tinygrad_rnn.ops.shape import broadcast_to, flip
from tinygrad_rnn.primitive import primitive
from tinygrad_rnn.tensor import Tensor

Axis = int | tuple[int, ...] | None


def _axes(x: Any, axis: Axis, who: str) -> tuple[int, ...]:
    """The axes as a sorted tuple of numbers from 0; all of them for None."""
    ndim = len(x.shape)
    axes = tuple(range(ndim)) if axis is None else (axis,) if isinstance(axis, int) else tuple(axis)
    if not all(-ndim <= a < ndim for a in axes):
        raise ValueError(f"{who}: axis must be one of the {ndim} axes of shape {x.shape}, got {axis}")
    return tuple(sorted({a % ndim for a in axes}))


def _kept(shape: tuple[int, ...], axis: tuple[int, ...]) -> tuple[int, ...]:
    """The shape with the reduced axes kept as ones."""
    return tuple(1 if i in axis else n for i, n in enumerate(shape))


def _spread(g: Any, shape: tuple[int, ...], axis: tuple[int, ...]) -> Any:
    """g copied along the axes that a reduction took away."""
    return broadcast_to(g.reshape(_kept(shape, axis)), shape)


@primitive
def _sum(x: Array, *, axis: tuple[int, ...], keepdims: bool) -> Array:
    """Σ over the axes."""
    return x.sum(axis=axis, keepdims=keepdims, dtype=x.dtype if x.dtype.kind == "f" else None)


_sum.vjp(x=lambda g, x_shape, axis: _spread(g, x_shape, axis))


def sum(x: Any, axis: Axis = None, keepdims: bool = False) -> Any:
    """Σ x over `axis` (an axis, several, or all)."""
    return _sum(x, axis=_axes(x, axis, "sum"), keepdims=keepdims)


def mean(x: Any, axis: Axis = None, keepdims: bool = False) -> Any:
    """Σ x / n over `axis` (an axis, several, or all)."""
    axes = _axes(x, axis, "mean")
    return _sum(x, axis=axes, keepdims=keepdims) / math.prod(x.shape[a] for a in axes)


def var(x: Any, axis: Axis = None, keepdims: bool = False, *, correction: int = 1) -> Any:
    """Σ (x - mean)² / (n - correction) over `axis`; 1 estimates a population's variance (PyTorch's default), 0 is the
    variance of the values themselves (NumPy's)."""
    axes = _axes(x, axis, "var")
    d = x - mean(x, axes, keepdims=True)
    return _sum(d * d, axis=axes, keepdims=keepdims) / (math.prod(x.shape[a] for a in axes) - correction)


@primitive
def _max(x: Array, *, axis: tuple[int, ...], keepdims: bool) -> Array:
    """The largest element; equal ones share the gradient evenly."""
    return x.max(axis=axis, keepdims=keepdims)


def _max_rule(g: Any, x: Any, y: Any, axis: tuple[int, ...]) -> Any:
    kept = _kept(x.shape, axis)
    best = (x == y.reshape(kept)).astype(g.dtype)
    return g.reshape(kept) * best / best.sum(axis=axis, keepdims=True)


_max.vjp(x=_max_rule)


@primitive
def _min(x: Array, *, axis: tuple[int, ...], keepdims: bool) -> Array:
    """The smallest element; equal ones share the gradient evenly."""
    return x.min(axis=axis, keepdims=keepdims)


_min.vjp(x=_max_rule)


def max(x: Any, axis: Axis = None, keepdims: bool = False) -> Any:
    """The largest element over `axis` (an axis, several, or all); equal ones share the gradient evenly."""
    return _max(x, axis=_axes(x, axis, "max"), keepdims=keepdims)


def min(x: Any, axis: Axis = None, keepdims: bool = False) -> Any:
    """The smallest element over `axis` (an axis, several, or all); equal ones share the gradient evenly."""
    return _min(x, axis=_axes(x, axis, "min"), keepdims=keepdims)


def _shift(x: Array, axis: tuple[int, ...]) -> Array:
    """The largest element, 0 where that is infinite: what to subtract before exp."""
    lib = xp(x)
    if not x.size:
        return lib.zeros(_kept(x.shape, axis), x.dtype)
    m = x.max(axis=axis, keepdims=True)
    if lib is np and np.isfinite(m).all():  # on a GPU it would be slow to ask
        return m
    return lib.where(lib.isfinite(m), m, lib.zeros_like(m))


@primitive
def _logsumexp(x: Array, *, axis: tuple[int, ...], keepdims: bool) -> Array:
    """log Σ exp(x), without overflow."""
    lib, m = xp(x), _shift(x, axis)
    total = lib.exp(x - m).sum(axis=axis, keepdims=True)
    y = lib.log(lib.where(total == 0, lib.ones_like(total), total)) + m
    y = lib.where(total == 0, y - lib.inf, y)
    return y if keepdims else y.squeeze(axis)


# By softmax, not exp(x - y): where all of x is -inf, it gives 0.
_logsumexp.vjp(x=lambda g, x, axis: g.reshape(_kept(x.shape, axis)) * _softmax(x, axis=axis))


def logsumexp(x: Any, axis: Axis = -1, keepdims: bool = False) -> Any:
    """log Σ exp(x) over `axis`, without overflow."""
    return _logsumexp(x, axis=_axes(x, axis, "logsumexp"), keepdims=keepdims)


@primitive
def _softmax(x: Array, *, axis: tuple[int, ...]) -> Array:
    """exp(x) / Σ exp(x), without overflow; a slice that is -inf throughout (fully masked) gives zeros."""
    lib = xp(x)
    y = lib.exp(x - _shift(x, axis))
    total = y.sum(axis=axis, keepdims=True)
    return y / lib.where(total == 0, lib.ones_like(total), total)


_softmax.vjp(x=lambda g, y, axis: y * (g - (g * y).sum(axis=axis, keepdims=True)))


def softmax(x: Any, axis: int = -1) -> Any:
    """exp(x) / Σ exp(x) along `axis`, without overflow; a slice that is -inf throughout (fully masked) gives zeros."""
    return _softmax(x, axis=_axes(x, axis, "softmax"))


@primitive
def _log_softmax(x: Array, *, axis: tuple[int, ...]) -> Array:
    """x - log Σ exp(x), without overflow."""
    lib = xp(x)
    d = x - _shift(x, axis)
    total = lib.exp(d).sum(axis=axis, keepdims=True)
    if lib is np and total.all():
        return d - np.log(total)
    return d - lib.log(lib.where(total == 0, lib.ones_like(total), total))


_log_softmax.vjp(x=lambda g, y, axis: g - exp(y) * g.sum(axis=axis, keepdims=True))


def log_softmax(x: Any, axis: int = -1) -> Any:
    """x - log Σ exp(x) along `axis`: the logarithm of softmax, without overflow."""
    return _log_softmax(x, axis=_axes(x, axis, "log_softmax"))


@primitive
def _cumsum(x: Array, *, axis: int) -> Array:
    """Partial sums along an axis."""
    return x.cumsum(axis=axis, dtype=x.dtype if x.dtype.kind == "f" else None)


_cumsum.vjp(x=lambda g, axis: flip(cumsum(flip(g, axis), axis), axis))


def cumsum(x: Any, axis: int) -> Any:
    """Partial sums along `axis`: yₜ = Σ_{s≤t} xₛ."""
    return _cumsum(x, axis=_axes(x, axis, "cumsum")[0])


@primitive
def _argmax(x: Array, *, axis: int | None, keepdims: bool) -> Array:
    """The position of the largest element."""
    return xp(x).asarray(x.argmax(axis=axis, keepdims=keepdims))


_argmax.vjp()


def argmax(x: Any, axis: int | None = None, keepdims: bool = False) -> Tensor:
    """The position of the largest element along `axis` (of all, if None), as an integer tensor; the first of equals."""
    y = _argmax(x, axis=axis if axis is None else _axes(x, axis, "argmax")[0], keepdims=keepdims)
    return y if isinstance(y, Tensor) else Tensor(y)
