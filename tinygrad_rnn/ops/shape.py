"""Views and moves: no arithmetic."""

from __future__ import annotations

import functools
import operator

from collections.abc import Sequence
from itertools import accumulate
from typing import Any, Never

import numpy as np

from tinygrad_rnn.autograd.arrays import Array, xp
from tinygrad_rnn.autograd.backward import sum_to
from tinygrad_rnn.autograd.primitive import primitive


@primitive
def _reshape(x: Array, *, shape: tuple[int, ...]) -> Array:
    """The same elements in another shape."""
    return x.reshape(shape)


_reshape.vjp(x=lambda g, x_shape: g.reshape(x_shape))


def reshape(x: Any, shape: int | Sequence[int]) -> Any:
    """The same elements in another shape; one size may be -1 (what is left)."""
    return _reshape(_array(x, "reshape"), shape=(shape,) if type(shape) is int else _sizes(shape, "reshape"))


@primitive
def _permute(x: Array, *, axes: tuple[int, ...]) -> Array:
    """Axis i of the result is axis axes[i] of x."""
    return x.transpose(axes)


_permute.vjp(x=lambda g, axes: permute(g, sorted(range(len(axes)), key=axes.__getitem__)))


def permute(x: Any, axes: Sequence[int] = (), **named: Any) -> Any:
    """The axes in another order: axis i of the result is axis axes[i] of x."""
    if named:
        no_such("permute", named)
    try:
        known = type(axes) is tuple and sorted(axes) == [*range(len(x.shape))]
    except (AttributeError, TypeError):
        known = False
    return _permute(x, axes=axes if known else _order(x, axes))


def _order(x: Any, axes: Any) -> tuple[int, ...]:
    """All axes as numbers from 0, in the order in which they are named."""
    found = _axes(x, axes, "permute")
    if len(found) != len(x.shape):
        raise ValueError(f"permute: axes must name each of the {len(x.shape)} axes of shape {x.shape}, got {axes}")
    return found


def swapaxes(x: Any, axis0: Any = None, axis1: Any = None, **named: Any) -> Any:
    """x with two axes exchanged: (A, B, C) with 0 and 2 gives (C, B, A)."""
    if named:
        no_such("transpose", named)
    i, j = _axis(x, axis0, "transpose"), _axis(x, axis1, "transpose")
    axes = list(range(len(x.shape)))
    axes[i], axes[j] = axes[j], axes[i]
    return _permute(x, axes=tuple(axes))


transpose = swapaxes  # PyTorch's name


@primitive
def _broadcast_to(x: Array, *, shape: tuple[int, ...]) -> Array:
    """x repeated along axes of size 1 and along new leading axes."""
    return xp(x).broadcast_to(x, shape)


_broadcast_to.vjp(x=lambda g, x_shape: sum_to(g, x_shape))


def broadcast_to(x: Any, shape: Sequence[int]) -> Any:
    """x repeated along axes of size 1 and along new leading axes; -1 keeps a size."""
    sizes = _sizes(shape, "broadcast_to")
    lead = len(sizes) - len(_array(x, "broadcast_to").shape)
    if -1 in sizes[: max(lead, 0)] or lead < 0:
        raise ValueError(f"broadcast_to: shape {x.shape} must fit the last axes of the new one, got {sizes}")
    return _broadcast_to(x, shape=tuple([x.shape[i - lead] if n == -1 else n for i, n in enumerate(sizes)]))


def unsqueeze(x: Any, axis: Any = None, **named: Any) -> Any:
    """x with a new axis of size 1 at `axis` of the result: (A, B) with 1 gives (A, 1, B)."""
    if named:
        no_such("unsqueeze", named)
    at = _axis(x, axis, "unsqueeze", new=1)
    return reshape(x, (*x.shape[:at], 1, *x.shape[at:]))


expand_dims = unsqueeze  # NumPy's name


def squeeze(x: Any, axis: int | Sequence[int] | None = None, **named: Any) -> Any:
    """Without the axes of size 1, or without those in `axis`, which must have size 1."""
    if named:
        no_such("squeeze", named)
    axes = _axes(x, axis, "squeeze")
    if axis is not None and any(x.shape[a] != 1 for a in axes):
        raise ValueError(f"squeeze: axis {axis} must have size 1, got shape {x.shape}")
    return reshape(x, tuple(n for i, n in enumerate(x.shape) if i not in axes or n != 1))


@primitive
def _concat(*xs: Array, axis: int) -> Array:
    """One after the other along an axis that they have."""
    return xp(xs[0]).concatenate(xs, axis=axis)


_concat.op.mixes = 0


@_concat.vjp
def _concat_rule(g: Any, xs_shape: tuple[tuple[int, ...], ...], axis: int) -> tuple:
    return split(g, [shape[axis] for shape in xs_shape], axis)


def concat(xs: Sequence[Any], axis: int = 0, **named: Any) -> Any:
    """The tensors one after the other along `axis`, which may differ in size; the other axes are the same."""
    if named:
        no_such("concat", named)
    xs = _nonempty(xs, "concat")
    return _concat(*xs, axis=_axis(xs[0], axis, "concat"))


@primitive
def _stack(*xs: Array, axis: int) -> Array:
    """Side by side along a new axis."""
    return xp(xs[0]).stack(xs, axis=axis)


_stack.op.mixes = 0


@_stack.vjp
def _stack_rule(g: Any, axis: int) -> tuple:
    return unbind(g, axis)


def stack(xs: Sequence[Any], axis: int = 0, **named: Any) -> Any:
    """The tensors, all of one shape, side by side along a new axis; one node for all: T steps cost O(T)."""
    if named:
        no_such("stack", named)
    xs = _nonempty(xs, "stack")
    return _stack(*xs, axis=_axis(xs[0], axis, "stack", new=1))


@primitive
def _unbind(x: Array, *, axis: int) -> tuple[Array, ...]:
    """The slices along an axis."""
    lead = (slice(None),) * axis
    return tuple([x[(*lead, i)] for i in range(x.shape[axis])])


_unbind.vjp(x=lambda g, axis: stack(g, axis))


def unbind(x: Any, axis: int = 0, **named: Any) -> tuple:
    """The slices along `axis`, each without it. One node for all of them: T steps cost O(T), forward and backward."""
    if named:
        no_such("unbind", named)
    return _unbind(x, axis=_axis(x, axis, "unbind"))


@primitive
def _split(x: Array, *, sizes: tuple[int, ...], axis: int) -> tuple[Array, ...]:
    """Pieces of the given sizes along an axis."""
    return tuple([x[key] for key in _keys(sizes, axis)])


@functools.lru_cache(1024)
def _keys(sizes: tuple[int, ...], axis: int) -> list[tuple[slice, ...]]:
    """How to index the pieces: the same at each time step."""
    lead = (slice(None),) * axis
    return [(*lead, slice(end - n, end)) for n, end in zip(sizes, accumulate(sizes), strict=True)]


_split.vjp(x=lambda g, axis: concat(g, axis))


def split(x: Any, sizes: int | Sequence[int], axis: int = 0, **named: Any) -> tuple:
    """Pieces along `axis`: of the given sizes, or each of size `sizes` (the last may be smaller), as in PyTorch."""
    if named:
        no_such("split", named)
    axis = _axis(x, axis, "split")
    n = x.shape[axis]
    if not isinstance(sizes, (tuple, list)):
        size = _integer(sizes, "split: the size of a piece")
        if size < 1:
            raise ValueError(f"split: the size of a piece must be positive, got {sizes}")
        sizes = [size] * (n // size) + [n % size] * (n % size > 0) or [0]
    if sum(sizes) != n or min(sizes, default=0) < 0:
        raise ValueError(f"split: sizes must add up to the {n} of axis {axis}, got {list(sizes)}")
    return _split(x, sizes=tuple(sizes), axis=axis)


def chunk(x: Any, chunks: int, axis: int = 0, **named: Any) -> tuple:
    """`chunks` pieces of equal size along `axis` (the last may be smaller), as in PyTorch."""
    if named:
        no_such("chunk", named)
    axis = _axis(x, axis, "chunk")
    n = x.shape[axis]
    if type(chunks) is not int or chunks < 1:
        chunks = _at_least_one(chunks, "chunk: the number of chunks")
    size = -(-n // chunks)
    if n == size * chunks:
        return _split(x, sizes=(size,) * chunks, axis=axis)
    return split(x, size, axis)


@primitive
def _pad(x: Array, *, widths: tuple[tuple[int, int], ...], value: float) -> Array:
    """x with a margin of `value`."""
    return xp(x).pad(x, widths, constant_values=value)


def _pad_rule(g: Any, x_shape: tuple[int, ...], widths: tuple[tuple[int, int], ...]) -> Any:
    return g[tuple(slice(before, before + n) for (before, _), n in zip(widths, x_shape, strict=True))]


_pad.vjp(x=_pad_rule)


def pad(x: Any, widths: Sequence[tuple[int, int]], value: float = 0.0) -> Any:
    """x with a margin of `value`: widths holds (before, after) for each axis, as in NumPy."""
    wrong = f"pad: widths must hold (before, after) for each axis of shape {_array(x, 'pad').shape}, got {widths!r}"
    try:
        pairs = tuple([(operator.index(before), operator.index(after)) for before, after in widths])
    except (TypeError, ValueError):
        raise TypeError(wrong) from None
    if len(pairs) != len(x.shape) or any(width < 0 for pair in pairs for width in pair):
        raise ValueError(wrong)
    return _pad(x, widths=pairs, value=value)


@primitive
def _flip(x: Array, *, axis: tuple[int, ...]) -> Array:
    """The order reversed along axes."""
    return xp(x).flip(x, axis)


_flip.vjp(x=lambda g, axis: flip(g, axis))


def flip(x: Any, axis: int | Sequence[int] | None = None, **named: Any) -> Any:
    """The order reversed along `axis` (one axis, several, or all)."""
    if named:
        no_such("flip", named)
    return _flip(x, axis=_axes(x, axis, "flip"))


# ---- what stands at the door ----------------------------------------------------------------------------------------

# PyTorch's names, and ours
HERE = {
    "dim": "axis", "dims": "axis", "keepdim": "keepdims", "dim0": "axis0", "dim1": "axis1", "unbiased": "correction",
}  # fmt: skip


def no_such(who: str, named: dict[str, Any]) -> Never:
    """TypeError for arguments that there are not; those of PyTorch have NumPy's names here."""
    name = next(iter(named))
    ours = "axes" if who == "permute" else HERE.get(name)
    here = f"; it is called {ours!r} here" if name in HERE else ""
    raise TypeError(f"{who}: there is no argument {name!r}{here}")


def _array(x: Any, who: str) -> Any:
    """x, which must have a shape."""
    if not hasattr(x, "shape"):
        raise TypeError(f"{who}: it must get a tensor or an array, got {type(x).__name__}; make it one by tensor(…)")
    return x


def _integer(value: Any, what: str) -> int:
    """A whole number: an int, one of NumPy's, or a tensor of one."""
    try:
        if isinstance(value, (bool, np.bool_)):
            raise TypeError
        return operator.index(value)
    except TypeError:
        raise TypeError(f"{what} must be an integer, got {value!r}") from None


def _at_least_one(value: Any, what: str) -> int:
    number = _integer(value, what)
    if number < 1:
        raise ValueError(f"{what} must be at least 1, got {number}")
    return number


def _sizes(shape: Any, who: str) -> tuple[int, ...]:
    """Sizes as a tuple, also of one alone."""
    try:
        return tuple(map(operator.index, shape if hasattr(shape, "__len__") and not _bare(shape) else (shape,)))
    except TypeError:
        raise TypeError(f"{who}: sizes must be integers, got {shape!r}") from None


def _bare(value: Any) -> bool:
    """Is it an array or a tensor without axes, which has no length?"""
    return getattr(value, "ndim", None) == 0


def _axis(x: Any, axis: int, who: str, new: int = 0) -> int:
    """The axis as a number from 0. new: 1 for one that x gets, which may stand behind all others"""
    try:
        ndim = len(x.shape) + new
    except AttributeError:
        _array(x, who)
        raise
    if type(axis) is not int:
        axis = _integer(axis, f"{who}: axis")
    if not -ndim <= axis < ndim:
        those = f"from {-ndim} to {ndim - 1} for" if new else f"one of the {ndim} axes of"
        raise ValueError(f"{who}: axis must be {those} shape {x.shape}, got {axis}")
    return axis % ndim


def _axes(x: Any, axis: Any, who: str) -> tuple[int, ...]:
    """The axes as numbers from 0, in the order in which they are named; all of them for None."""
    if type(axis) is int:
        return (_axis(x, axis, who),)
    if axis is None:
        return tuple(range(len(_array(x, who).shape)))
    several = axis if type(axis) is tuple or isinstance(axis, (list, range)) or np.ndim(axis) == 1 else (axis,)
    axes = tuple([_axis(x, a, who) for a in several])
    if len(set(axes)) < len(axes):
        raise ValueError(f"{who}: axis must name each axis once, got {axis}")
    return axes


def _nonempty(xs: Any, who: str) -> Any:
    """A list of tensors, which must not be empty."""
    try:
        some = len(xs)
    except TypeError:
        raise TypeError(f"{who}: it must get a list of tensors, got {type(xs).__name__}") from None
    if not some:
        raise ValueError(f"{who}: there must be at least one tensor, got none")
    return xs
