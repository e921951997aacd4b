"""What other operations make up: derivatives of any order are those of the parts, and a compiled loop fuses it."""

from __future__ import annotations

import math

from collections.abc import Sequence
from typing import Any

import numpy as np

from tinygrad_rnn.autograd.arrays import Array, xp
from tinygrad_rnn.autograd.primitive import primitive
from tinygrad_rnn.ops.elementwise import abs as absolute
from tinygrad_rnn.ops.elementwise import (
    equal,
    expm1,
    fmod,
    logical_and,
    maximum,
    mul,
    not_equal,
    sigmoid,
    softplus,
    sqrt,
    where,
)
from tinygrad_rnn.ops.index import getitem, take_along_axis
from tinygrad_rnn.ops.reduce import _sorted, max, sum, var
from tinygrad_rnn.ops.shape import _array, _axis, broadcast_to, concat, expand_dims, no_such, reshape

Axis = int | tuple[int, ...] | None

# ---- activations -----------------------------------------------------------------------------------------------------


def silu(x: Any) -> Any:
    """x σ(x), also called swish. Elfwing et al. (2018), arXiv:1702.03118."""
    return x * sigmoid(x)


def elu(x: Any, alpha: float = 1.0) -> Any:
    """x where it is positive, else α (exp(x) - 1). Clevert et al. (2016), arXiv:1511.07289."""
    return where(x > 0, x, alpha * expm1(where(x > 0, 0, x)))


def leaky_relu(x: Any, negative_slope: float = 0.01) -> Any:
    """x where it is positive, else negative_slope x. Maas et al. (2013)."""
    return where(x > 0, x, negative_slope * x)


def log_sigmoid(x: Any) -> Any:
    """log σ(x), exact in both tails."""
    return -softplus(-x)


def logaddexp(a: Any, b: Any) -> Any:
    """log(exp(a) + exp(b)), without overflow."""
    one = equal(a, b)  # where both are one infinity their difference is NaN
    d = where(one, 0, a) - where(one, 0, b)
    return maximum(a, b) + softplus(-absolute(d))


def mod(a: Any, b: Any) -> Any:
    """What is left of a once b has been taken away whole times, with the sign of b, as Python's a % b. fmod has a's."""
    y = fmod(a, b)
    return where(logical_and(not_equal(y, 0), not_equal(y < 0, b < 0)), y + b, y)


# ---- along an axis ---------------------------------------------------------------------------------------------------


def std(x: Any, axis: Axis = None, keepdims: bool = False, *, correction: float = 1, **named: Any) -> Any:
    """The square root of `var`; its derivative is 0 where that is 0."""
    if named:
        no_such("std", named)
    return _root(var(x, axis, keepdims, correction=correction))


def norm(x: Any, p: float = 2, axis: Axis = None, keepdims: bool = False, **named: Any) -> Any:
    """(Σ |x|ᵖ)^(1/p) over `axis` (all, if None); p = math.inf: the largest |x|, p = 0: how many are not 0.

    Its derivative is 0 where all of x is 0.
    """
    if named:
        no_such("norm", named)
    axes = _sorted(x, axis, "norm")
    if p == 2:
        return _root(sum(x * x, axes, keepdims))
    size = absolute(x)
    if p == math.inf:
        return max(size, axes, keepdims)
    if p == 0:
        return sum(where(equal(x, 0), 0 * size, 1), axes, keepdims)
    total = sum(size if p == 1 else where(equal(size, 0), size, where(equal(size, 0), 1, size) ** p), axes, keepdims)
    return total if p == 1 else where(equal(total, 0), 0, where(equal(total, 0), 1, total) ** (1 / p))


def _root(x: Any) -> Any:
    zero = equal(x, 0)
    return where(zero, x, sqrt(where(zero, 1, x)))


def prod(x: Any, axis: int | None = None, keepdims: bool = False, **named: Any) -> Any:
    """The product along an axis (of all, if None), half by half: its derivatives bear zeros."""
    if named:
        no_such("prod", named)
    x, shape = _array(x, "prod"), x.shape
    if axis is None:
        y = prod(reshape(x, (-1,)), 0)
        return reshape(y, (1,) * len(shape)) if keepdims else y
    axis = _axis(x, axis, "prod")
    at = lambda i, j: getitem(x, (*(slice(None),) * axis, slice(i, j)))
    if not shape[axis]:
        x = concat([x, broadcast_to(_one(x), (*shape[:axis], 1, *shape[axis + 1 :]))], axis)
    while (n := x.shape[axis]) > 1:
        both = mul(at(0, n // 2), at(n // 2, n // 2 * 2))
        x = concat([both, at(n // 2 * 2, n)], axis) if n % 2 else both
    return x if keepdims else getitem(x, (*(slice(None),) * axis, 0))


def _one(x: Any) -> Array:
    """1 as an array beside x."""
    array = getattr(x, "array", x)
    return xp(array).ones((), x.dtype)


def cumprod(x: Any, axis: int, **named: Any) -> Any:
    """Partial products along an axis, in log₂ n passes: its derivatives bear zeros."""
    if named:
        no_such("cumprod", named)
    x, axis, step = _array(x, "cumprod"), _axis(x, axis, "cumprod"), 1
    n = x.shape[axis]
    at = lambda i, j: getitem(x, (*(slice(None),) * axis, slice(i, j)))
    while step < n:
        x = concat([at(0, step), mul(at(step, n), at(0, n - step))], axis)
        step *= 2
    return x


def roll(x: Any, shift: int, axis: int | None = None, **named: Any) -> Any:
    """Moved by `shift` places along an axis, or as one row if None; what leaves at one end comes in at the other."""
    if named:
        no_such("roll", named)
    x = _array(x, "roll")
    if axis is None:
        return reshape(roll(reshape(x, (-1,)), shift, 0), x.shape)
    axis = _axis(x, axis, "roll")
    n = x.shape[axis]
    first = -shift % n if n else 0
    at = lambda i, j: getitem(x, (*(slice(None),) * axis, slice(i, j)))
    return concat([at(first, n), at(0, first)], axis) if first else x


def tile(x: Any, repeats: int | Sequence[int]) -> Any:
    """Copies of x side by side: so many along each axis, the last ones if there are fewer numbers than axes."""
    x = _array(x, "tile")
    times = (repeats,) if isinstance(repeats, (int, np.integer)) else tuple(repeats)
    x = reshape(x, (1,) * (len(times) - len(x.shape)) + tuple(x.shape))
    times = (1,) * (len(x.shape) - len(times)) + times
    if any(n < 0 for n in times):
        raise ValueError(f"tile: repeats must not be negative, got {repeats}")
    for axis, n in enumerate(times):
        x = x if n == 1 else concat([x] * n, axis) if n else getitem(x, (*(slice(None),) * axis, slice(0)))
    return x


def outer(a: Any, b: Any) -> Any:
    """a (N,) and b (M,): all products, (N, M)."""
    for x in (a, b):
        if len(_array(x, "outer").shape) != 1:
            raise ValueError(f"outer: both must have one axis, got {a.shape} and {b.shape}")
    return mul(expand_dims(a, 1), expand_dims(b, 0))


# ---- order -----------------------------------------------------------------------------------------------------------


@primitive
def _argsort(x: Array, *, axis: int, descending: bool) -> Array:
    """Where the elements are, in their order; of equals the first one first."""
    lib = xp(x)
    if not descending:
        return lib.argsort(x, axis=axis, kind="stable")
    backwards = lib.flip(lib.argsort(lib.flip(x, axis), axis=axis, kind="stable"), axis)
    return x.shape[axis] - 1 - backwards


_argsort.vjp()


def argsort(x: Any, axis: int = -1, descending: bool = False, **named: Any) -> Any:
    """The positions of the elements along an axis in ascending order, or from the largest on; of equals the first one
    first."""
    if named:
        no_such("argsort", named)
    x = _array(x, "argsort")
    return _argsort(x, axis=_axis(x, axis, "argsort"), descending=bool(descending))


def sort(x: Any, axis: int = -1, descending: bool = False, **named: Any) -> tuple[Any, Any]:
    """The elements along an axis in their order, and where each was. Gradients go to where it was."""
    at = argsort(x, axis, descending, **named)
    return take_along_axis(x, at, axis), at


def topk(x: Any, k: int, axis: int = -1, largest: bool = True, **named: Any) -> tuple[Any, Any]:
    """The k largest elements along an axis (or smallest), from the first on, and where each is."""
    if named:
        no_such("topk", named)
    axis, n = _axis(_array(x, "topk"), axis, "topk"), 0
    n = x.shape[axis]
    if not 0 <= k <= n:
        raise ValueError(f"topk: k must be from 0 to {n}, the size of axis {axis}, got {k}")
    at = getitem(argsort(x, axis, largest), (*(slice(None),) * axis, slice(0, k)))
    return take_along_axis(x, at, axis), at
