"""Views and moves: no arithmetic."""

from __future__ import annotations

import functools

from collections.abc import Sequence
from itertools import accumulate
from typing import Any

from tinygrad_rnn.backend import Array, xp
from tinygrad_rnn.backward import sum_to
from tinygrad_rnn.primitive import primitive


@primitive
def _reshape(x: Array, *, shape: tuple[int, ...]) -> Array:
    """The same elements in another shape."""
    return x.reshape(shape)


_reshape.vjp(x=lambda g, x_shape: g.reshape(x_shape))


def reshape(x: Any, shape: int | Sequence[int]) -> Any:
    """The same elements in another shape; one size may be -1 (what is left)."""
    return _reshape(x, shape=(shape,) if isinstance(shape, int) else tuple(shape))


@primitive
def _permute(x: Array, *, axes: tuple[int, ...]) -> Array:
    """Axis i of the result is axis axes[i] of x."""
    return x.transpose(axes)


_permute.vjp(x=lambda g, axes: permute(g, sorted(range(len(axes)), key=axes.__getitem__)))


def permute(x: Any, axes: Sequence[int]) -> Any:
    """The axes in another order: axis i of the result is axis axes[i] of x."""
    return _permute(x, axes=tuple(_axis(x, a, "permute") for a in axes))


def swapaxes(x: Any, axis0: int, axis1: int) -> Any:
    """Two axes exchanged."""
    axes = list(range(len(x.shape)))
    i, j = _axis(x, axis0, "transpose"), _axis(x, axis1, "transpose")
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
    lead = len(shape) - len(x.shape)
    return _broadcast_to(x, shape=tuple(x.shape[i - lead] if n == -1 else n for i, n in enumerate(shape)))


def unsqueeze(x: Any, axis: int) -> Any:
    """A new axis of size 1 at `axis`."""
    ndim = len(x.shape) + 1
    if not -ndim <= axis < ndim:
        raise ValueError(f"unsqueeze: axis must be from {-ndim} to {ndim - 1} for shape {x.shape}, got {axis}")
    at = axis % ndim
    return reshape(x, (*x.shape[:at], 1, *x.shape[at:]))


expand_dims = unsqueeze  # NumPy's name


def squeeze(x: Any, axis: int | Sequence[int] | None = None) -> Any:
    """Without the axes of size 1, or without those in `axis`, which must have size 1."""
    wanted = range(len(x.shape)) if axis is None else (axis,) if isinstance(axis, int) else axis
    axes = {_axis(x, a, "squeeze") for a in wanted}
    if axis is not None and any(x.shape[a] != 1 for a in axes):
        raise ValueError(f"squeeze: axis {axis} must have size 1, got shape {x.shape}")
    return reshape(x, tuple(n for i, n in enumerate(x.shape) if i not in axes or n != 1))


@primitive
def _concat(*xs: Array, axis: int) -> Array:
    """One after the other along an axis that they have."""
    return xp(xs[0]).concatenate(xs, axis=axis)


@_concat.vjp
def _concat_rule(g: Any, xs_shape: tuple[tuple[int, ...], ...], axis: int) -> tuple:
    return split(g, [shape[axis] for shape in xs_shape], axis)


def concat(xs: Sequence[Any], axis: int = 0) -> Any:
    """The tensors one after the other along `axis`, which may differ in size; the other axes are the same."""
    xs = _some(xs, "concat")
    return _concat(*xs, axis=_axis(xs[0], axis, "concat"))


@primitive
def _stack(*xs: Array, axis: int) -> Array:
    """Side by side along a new axis."""
    return xp(xs[0]).stack(xs, axis=axis)


@_stack.vjp
def _stack_rule(g: Any, axis: int) -> tuple:
    return unbind(g, axis)


def stack(xs: Sequence[Any], axis: int = 0) -> Any:
    """The tensors, all of one shape, side by side along a new axis; one node for all: T steps cost O(T)."""
    xs = _some(xs, "stack")
    ndim = len(xs[0].shape) + 1
    if not -ndim <= axis < ndim:
        raise ValueError(f"stack: axis must be from {-ndim} to {ndim - 1} for shape {xs[0].shape}, got {axis}")
    return _stack(*xs, axis=axis % ndim)


@primitive
def _unbind(x: Array, *, axis: int) -> tuple[Array, ...]:
    """The slices along an axis."""
    lead = (slice(None),) * axis
    return tuple([x[(*lead, i)] for i in range(x.shape[axis])])


_unbind.vjp(x=lambda g, axis: stack(g, axis))


def unbind(x: Any, axis: int = 0) -> tuple:
    """The slices along `axis`, each without it. One node for all of them: T steps cost O(T), forward and backward."""
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


def split(x: Any, sizes: int | Sequence[int], axis: int = 0) -> tuple:
    """Pieces along `axis`: of the given sizes, or each of size `sizes` (the last may be smaller), as in PyTorch."""
    axis = _axis(x, axis, "split")
    n = x.shape[axis]
    if isinstance(sizes, int):
        if sizes < 1:
            raise ValueError(f"split: the size of a piece must be positive, got {sizes}")
        sizes = [sizes] * (n // sizes) + [n % sizes] * (n % sizes > 0) or [0]
    if sum(sizes) != n:
        raise ValueError(f"split: sizes must add up to the {n} of axis {axis}, got {list(sizes)}")
    return _split(x, sizes=tuple(sizes), axis=axis)


def chunk(x: Any, chunks: int, axis: int = 0) -> tuple:
    """`chunks` pieces of equal size along `axis` (the last may be smaller), as in PyTorch."""
    axis = _axis(x, axis, "chunk")
    n = x.shape[axis]
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
    if len(widths) != len(x.shape):
        raise ValueError(f"pad: widths must hold (before, after) for each axis of shape {x.shape}, got {widths}")
    return _pad(x, widths=tuple((int(a), int(b)) for a, b in widths), value=value)


@primitive
def _flip(x: Array, *, axis: tuple[int, ...]) -> Array:
    """The order reversed along axes."""
    return xp(x).flip(x, axis)


_flip.vjp(x=lambda g, axis: flip(g, axis))


def flip(x: Any, axis: int | Sequence[int]) -> Any:
    """The order reversed along `axis` (one axis or several)."""
    axes = (axis,) if isinstance(axis, int) else axis
    return _flip(x, axis=tuple(_axis(x, a, "flip") for a in axes))


def _axis(x: Any, axis: int, who: str) -> int:
    """The axis as a number from 0."""
    ndim = len(x.shape)
    if not -ndim <= axis < ndim:
        raise ValueError(f"{who}: axis must be one of the {ndim} axes of shape {x.shape}, got {axis}")
    return axis % ndim


def _some(xs: Sequence[Any], who: str) -> Sequence[Any]:
    if not len(xs):
        raise ValueError(f"{who}: there must be at least one tensor, got none")
    return xs
