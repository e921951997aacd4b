"""Many elements to one, and back."""

from __future__ import annotations

import builtins
import math
import numbers

from typing import Any

import numpy as np

from tinygrad_rnn.autograd.arrays import Array, xp
from tinygrad_rnn.autograd.graph import Chosen, context
from tinygrad_rnn.autograd.operands import floating
from tinygrad_rnn.autograd.primitive import primitive
from tinygrad_rnn.autograd.tensor import Tensor
from tinygrad_rnn.ops.elementwise import cast, div, exp
from tinygrad_rnn.ops.kernels import on_gpu
from tinygrad_rnn.ops.shape import _array, _axes, _axis, broadcast_to, flip, no_such, reshape

Axis = int | tuple[int, ...] | None


def _sorted(x: Any, axis: Axis, who: str) -> tuple[int, ...]:
    """The axes as a sorted tuple of numbers from 0; all of them for None."""
    if type(axis) is int:
        return (_axis(x, axis, who),)
    return tuple(sorted(_axes(x, axis, who)))


def _kept(shape: tuple[int, ...], axis: tuple[int, ...]) -> tuple[int, ...]:
    """The shape with the reduced axes kept as ones."""
    return tuple(1 if i in axis else n for i, n in enumerate(shape))


def _spread(g: Any, shape: tuple[int, ...], axis: tuple[int, ...]) -> Any:
    """g copied along the axes that a reduction took away."""
    return broadcast_to(g.reshape(_kept(shape, axis)), shape)


HALF = np.float16
# As what others than NumPy would choose are added up, as in PyTorch: from a sum of unsigned ones more can be taken away
WIDE: dict[Any, Any] = {HALF: np.float32, **dict.fromkeys((np.uint8, np.uint16, np.uint32), np.int64)}


@primitive
def _sum(x: Array, *, axis: tuple[int, ...], keepdims: bool) -> Array:
    """Σ over the axes."""
    kind = x.dtype.type
    if kind in WIDE:
        y = x.sum(axis=axis, keepdims=keepdims, dtype=WIDE[kind])
        return y.astype(HALF) if kind is HALF else y
    return x.sum(axis=axis, keepdims=keepdims)


_sum.vjp(x=lambda g, x_shape, axis: _spread(g, x_shape, axis))


def sum(x: Any, axis: Axis = None, keepdims: bool = False, **named: Any) -> Any:
    """Σ x over `axis` (an axis, several, or all)."""
    if named:
        no_such("sum", named)
    return _sum(x, axis=_sorted(x, axis, "sum"), keepdims=keepdims)


def mean(x: Any, axis: Axis = None, keepdims: bool = False, **named: Any) -> Any:
    """Σ x / n over `axis` (an axis, several, or all)."""
    if named:
        no_such("mean", named)
    axes = _sorted(x, axis, "mean")
    if x.dtype.type is HALF:  # the sum alone may be too large
        return cast(mean(cast(x, np.float32), axes, keepdims), HALF)
    return div(_sum(x, axis=axes, keepdims=keepdims), math.prod(x.shape[a] for a in axes))


def var(x: Any, axis: Axis = None, keepdims: bool = False, *, correction: float = 1, **named: Any) -> Any:
    """Σ (x - mean)² / (n - correction) over `axis`; 1 estimates a population's variance (PyTorch's default), 0 is the
    variance of the values themselves (NumPy's). Where n - correction is not positive: Σ / 0, NaN or infinity."""
    if named:
        no_such("var", named)
    if not isinstance(correction, numbers.Real):
        raise TypeError(f"var: correction must be a number, got {correction!r}")
    axes = _sorted(x, axis, "var")
    if x.dtype.type is HALF:
        return cast(var(cast(x, np.float32), axes, keepdims, correction=correction), HALF)
    d = x - mean(x, axes, keepdims=True)
    n = math.prod(x.shape[a] for a in axes)
    return _sum(d * d, axis=axes, keepdims=keepdims) / builtins.max(n - float(correction), 0.0)


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


def max(x: Any, axis: Axis = None, keepdims: bool = False, **named: Any) -> Any:
    """The largest element over `axis` (an axis, several, or all); equal ones share the gradient evenly."""
    if named:
        no_such("max", named)
    return _max(x, axis=_sorted(x, axis, "max"), keepdims=keepdims)


def min(x: Any, axis: Axis = None, keepdims: bool = False, **named: Any) -> Any:
    """The smallest element over `axis` (an axis, several, or all); equal ones share the gradient evenly."""
    if named:
        no_such("min", named)
    return _min(x, axis=_sorted(x, axis, "min"), keepdims=keepdims)


def _shift(x: Array, axis: tuple[int, ...], infinite: bool = False) -> Array:
    """The largest element, 0 where that is -inf, and ∞ if `infinite`: what to subtract before exp."""
    lib = xp(x)
    if not x.size:
        return lib.zeros(_kept(x.shape, axis), x.dtype)
    m = x.max(axis=axis, keepdims=True)
    if lib is np and np.isfinite(m).all():  # on a GPU it would be slow to ask
        return m
    return lib.where(abs(m) == lib.inf if infinite else m == -lib.inf, lib.zeros_like(m), m)


@primitive
@on_gpu
def _logsumexp(x: Array, *, axis: tuple[int, ...], keepdims: bool) -> Array:
    """log Σ exp(x), without overflow."""
    lib, m = xp(x), _shift(x, axis, infinite=True)
    total = lib.exp(x - m).sum(axis=axis, keepdims=True)
    if lib is np and total.all():  # on a GPU it would be slow to ask
        y = np.log(total) + m
    else:
        y = lib.log(lib.where(total == 0, lib.ones_like(total), total)) + m
        y = lib.where(total == 0, -lib.inf * lib.ones_like(y), y)
    return y if keepdims else y.squeeze(axis)


# By softmax, not exp(x - y): where all of x is -inf, it gives 0, as for a masked row of softmax.
_logsumexp.vjp(x=lambda g, x, axis: g.reshape(_kept(x.shape, axis)) * _softmax(x, axis=axis))


def logsumexp(x: Any, axis: Axis = -1, keepdims: bool = False, **named: Any) -> Any:
    """log Σ exp(x) over `axis`, without overflow. Of a slice that is -inf throughout (fully masked) it is -inf, and
    its gradient 0, as that of softmax (PyTorch's and JAX's is NaN)."""
    if named:
        no_such("logsumexp", named)
    return _logsumexp(floating(x), axis=_sorted(x, axis, "logsumexp"), keepdims=keepdims)


@primitive
@on_gpu
def _softmax(x: Array, *, axis: tuple[int, ...]) -> Array:
    """exp(x) / Σ exp(x), without overflow; a slice that is -inf throughout (fully masked) gives zeros."""
    lib = xp(x)
    y = lib.exp(x - _shift(x, axis))
    total = y.sum(axis=axis, keepdims=True)
    return y / lib.where(total == 0, lib.ones_like(total), total)


@on_gpu
def _softmax_rule(g: Any, y: Any, axis: tuple[int, ...]) -> Any:
    return y * (g - (g * y).sum(axis=axis, keepdims=True))


_softmax.vjp(x=_softmax_rule)


def softmax(x: Any, axis: Axis = -1, **named: Any) -> Any:
    """exp(x) / Σ exp(x) along `axis`, without overflow; a slice that is -inf throughout (fully masked) gives zeros."""
    if named:
        no_such("softmax", named)
    return _softmax(floating(x), axis=_sorted(x, axis, "softmax"))


@primitive
@on_gpu
def _log_softmax(x: Array, *, axis: tuple[int, ...]) -> Array:
    """x - log Σ exp(x), without overflow."""
    lib = xp(x)
    d = x - _shift(x, axis)
    total = lib.exp(d).sum(axis=axis, keepdims=True)
    if lib is np and total.all():
        return d - np.log(total)
    return d - lib.log(lib.where(total == 0, lib.ones_like(total), total))


@on_gpu
def _log_softmax_rule(g: Any, y: Any, axis: tuple[int, ...]) -> Any:
    return g - exp(y) * g.sum(axis=axis, keepdims=True)


_log_softmax.vjp(x=_log_softmax_rule)


def log_softmax(x: Any, axis: Axis = -1, **named: Any) -> Any:
    """x - log Σ exp(x) along `axis`: the logarithm of softmax, without overflow."""
    if named:
        no_such("log_softmax", named)
    return _log_softmax(floating(x), axis=_sorted(x, axis, "log_softmax"))


@primitive
def _cumsum(x: Array, *, axis: int) -> Array:
    """Partial sums along an axis."""
    return x.cumsum(axis=axis, dtype=x.dtype if x.dtype.kind == "f" else WIDE.get(x.dtype.type))


_cumsum.vjp(x=lambda g, axis: flip(cumsum(flip(g, axis), axis), axis))


def cumsum(x: Any, axis: int | None = None, **named: Any) -> Any:
    """Partial sums along `axis`: yₜ = Σ_{s≤t} xₛ; for None those of all elements in a row, as in NumPy."""
    if named:
        no_such("cumsum", named)
    if axis is None:
        return _cumsum(reshape(x, -1), axis=0)
    return _cumsum(x, axis=_axis(x, axis, "cumsum"))


@primitive
def _argmax(x: Array, *, axis: int | None, keepdims: bool) -> Array:
    """The position of the largest element."""
    return xp(x).asarray(x.argmax(axis=axis, keepdims=keepdims))


_argmax.vjp()


def argmax(x: Any, axis: int | None = None, keepdims: bool = False, **named: Any) -> Tensor:
    """The position of the largest element along `axis` (of all, if None), as an integer tensor; the first of equals."""
    if named:
        no_such("argmax", named)
    y = _argmax(_array(x, "argmax"), axis=axis if axis is None else _axis(x, axis, "argmax"), keepdims=keepdims)
    if not isinstance(y, Tensor):
        return Tensor(y)
    source = x.node if isinstance(x, Tensor) and context.recording and context.trace is None else None
    if source is not None and source.tracked:
        y.node = Chosen(y.shape, y.dtype, source)
    return y
