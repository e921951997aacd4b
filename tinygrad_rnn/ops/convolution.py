"""Convolutions: each is one product of matrices, of the weight with all windows of the input side by side (im2col).

Three operations are closed under differentiation: they are the derivatives of one number, Σ g conv(x, W),
which is linear in g (`convolve`), in x (`deconvolve`) and in W (`correlate`).
"""

from __future__ import annotations

import operator

from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np

from tinygrad_rnn.autograd import blas
from tinygrad_rnn.autograd.arrays import Array, xp
from tinygrad_rnn.autograd.primitive import primitive
from tinygrad_rnn.ops.elementwise import add
from tinygrad_rnn.ops.shape import _array, no_such, permute, reshape

Pair = tuple[int, int]
Margins = tuple[Pair, Pair]  # (above, below), (left, right)
AT_A_TIME = 1 << 24  # numbers of windows side by side, at most: those of so many images


@primitive
def _convolve(x: Array, W: Array, *, size: Pair, stride: Pair, padding: Margins, dilation: Pair) -> Array:
    """y[n, k, p] = Σ W[(c, i, j), k] x[n, c, s p + d (i, j)], x with margins of zeros.

    x: (N, C, H, W)  W: (C kh kw, K)  size: (kh, kw)  returns: (N, K, H', W')
    """
    high, wide = outputs(x.shape[2:], size, stride, padding, dilation)
    out = xp(x).empty((len(x), W.shape[1], high, wide), np.result_type(x.dtype, W.dtype))
    for some in _parts(len(x), len(W) * high * wide):
        y = blas.matmul(W.T, _windows(x[some], size, stride, padding, dilation))
        out[some] = y.reshape(W.shape[1], len(x[some]), high, wide).swapaxes(0, 1)
    return out


@primitive
def _deconvolve(
    g: Array, W: Array, *, shape: Pair, size: Pair, stride: Pair, padding: Margins, dilation: Pair
) -> Array:  # fmt: skip
    """∂L/∂x of y = convolve(x, W), given g = ∂L/∂y; shape: (H, W) of x.   returns: (N, C, H, W)"""
    channels = len(W) // (size[0] * size[1])
    out = xp(g).empty((len(g), channels, *shape), np.result_type(g.dtype, W.dtype))
    for some in _parts(len(g), len(W) * g.shape[2] * g.shape[3]):
        columns = blas.matmul(W, _turned(g[some])).reshape(channels, *size, len(g[some]), *g.shape[2:])
        out[some] = _added(columns, shape, stride, padding, dilation)
    return out


@primitive
def _correlate(x: Array, g: Array, *, size: Pair, stride: Pair, padding: Margins, dilation: Pair) -> Array:
    """∂L/∂W of y = convolve(x, W), given g = ∂L/∂y.   returns: (C kh kw, K)"""
    out = xp(x).zeros((x.shape[1] * size[0] * size[1], g.shape[1]), np.result_type(x.dtype, g.dtype))
    for some in _parts(len(x), len(out) * g.shape[2] * g.shape[3]):
        out += blas.matmul(_windows(x[some], size, stride, padding, dilation), _turned(g[some]).T)
    return out


# ---- windows --------------------------------------------------------------------------------------------------------


def outputs(shape: Any, size: Pair, stride: Pair, padding: Margins, dilation: Pair) -> Pair:
    """How many windows there are along both axes of an image (H, W)."""
    high, wide = (
        (n + sum(margin) - d * (k - 1) - 1) // s + 1
        for n, k, s, margin, d in zip(shape, size, stride, padding, dilation, strict=True)
    )
    return high, wide


def shape_of(op: str, shapes: list[tuple[int, ...]], static: dict[str, Any]) -> tuple[int, ...]:
    """The shape of what one of the three operations returns, from those of its arguments."""
    a, b = shapes
    kernel = static["size"][0] * static["size"][1]
    if op == "correlate":
        return (a[1] * kernel, b[1])
    if op == "deconvolve":
        return (a[0], b[0] // kernel, *static["shape"])
    where = (static[name] for name in ("size", "stride", "padding", "dilation"))
    return (a[0], b[1], *outputs(a[2:], *where))


def _parts(images: int, each: int) -> Iterator[slice]:
    """The images, as many at a time as have room, if the windows of one are so many numbers."""
    most = max(1, AT_A_TIME // max(each, 1))
    return (slice(i, i + most) for i in range(0, images, most))


def _along(first: int, count: int, step: int) -> slice:
    return slice(first, first + (count - 1) * step + 1, step)


def _places(outs: Pair, size: Pair, stride: Pair, dilation: Pair) -> Iterator[tuple[int, int, tuple[slice, slice]]]:
    """(i, j, where the element (i, j) of every window is in an image with its margins)."""
    for i in range(size[0]):
        for j in range(size[1]):
            yield i, j, (_along(i * dilation[0], outs[0], stride[0]), _along(j * dilation[1], outs[1], stride[1]))


def _windows(x: Array, size: Pair, stride: Pair, padding: Margins, dilation: Pair) -> Array:
    """All windows side by side: (C kh kw, N H' W')."""
    (N, C, H, W), (top, bottom), (left, right) = x.shape, *padding
    outs, lib = outputs((H, W), size, stride, padding, dilation), xp(x)
    x = x.swapaxes(0, 1)
    if top or bottom or left or right:
        padded = lib.zeros((C, N, H + top + bottom, W + left + right), x.dtype)
        padded[:, :, top : top + H, left : left + W] = x
        x = padded
    out = lib.empty((C, *size, N, *outs), x.dtype)
    for i, j, (rows, columns) in _places(outs, size, stride, dilation):
        out[:, i, j] = x[:, :, rows, columns]
    return out.reshape(C * size[0] * size[1], N * outs[0] * outs[1])


def _added(columns: Array, shape: Pair, stride: Pair, padding: Margins, dilation: Pair) -> Array:
    """Images (N, C, H, W) with each window added where it was taken: what `_windows` undoes.

    columns: (C, kh, kw, N, H', W')
    """
    (C, kh, kw, N, *outs), (top, bottom), (left, right) = columns.shape, *padding
    out = xp(columns).zeros((N, C, shape[0] + top + bottom, shape[1] + left + right), columns.dtype)
    for i, j, (rows, across) in _places((outs[0], outs[1]), (kh, kw), stride, dilation):
        out[:, :, rows, across] += columns[:, i, j].swapaxes(0, 1)
    return out[:, :, top : top + shape[0], left : left + shape[1]]


def _turned(g: Array) -> Array:
    """(N, K, H', W') as a matrix (K, N H' W')."""
    N, K, high, wide = g.shape
    return g.swapaxes(0, 1).reshape(K, N * high * wide)


# ---- derivatives -----------------------------------------------------------------------------------------------------

CONVOLUTIONS = ("convolve", "deconvolve", "correlate")
for _each in (_convolve, _deconvolve, _correlate):
    _each.op.mixes, _each.op.single = 0, False
    _each.op.shape = partial(shape_of, _each.op.name)

_convolve.vjp(
    x=lambda g, W, x_shape, size, stride, padding, dilation: _deconvolve(
        g, W, shape=x_shape[2:], size=size, stride=stride, padding=padding, dilation=dilation
    ),
    W=lambda g, x, size, stride, padding, dilation: _correlate(
        x, g, size=size, stride=stride, padding=padding, dilation=dilation
    ),
)
_deconvolve.vjp(
    g=lambda d, W, size, stride, padding, dilation: _convolve(
        d, W, size=size, stride=stride, padding=padding, dilation=dilation
    ),
    W=lambda d, g, size, stride, padding, dilation: _correlate(
        d, g, size=size, stride=stride, padding=padding, dilation=dilation
    ),
)
_correlate.vjp(
    x=lambda d, g, x_shape, size, stride, padding, dilation: _deconvolve(
        g, d, shape=x_shape[2:], size=size, stride=stride, padding=padding, dilation=dilation
    ),
    g=lambda d, x, size, stride, padding, dilation: _convolve(
        x, d, size=size, stride=stride, padding=padding, dilation=dilation
    ),
)


# ---- what is called -------------------------------------------------------------------------------------------------


def conv1d(
    input: Any, weight: Any, bias: Any = None, stride: Any = 1, padding: Any = 0, dilation: Any = 1, **named: Any
) -> Any:
    """y[n, k, l] = bias[k] + Σ weight[k, c, i] input[n, c, stride l + dilation i - padding], 0 beside the input.

    input: (N, C, L)  weight: (K, C, k)  bias: (K,) or None
    padding: a number of zeros at both ends, "same" (as long as the input, for a stride of 1) or "valid" (none)
    returns: (N, K, L'), L' = ⌊(L + 2 padding - dilation (k - 1) - 1) / stride⌋ + 1

        ops.conv1d(x, w, padding="same")  # x (N, C, L), w (K, C, 3): (N, K, L)
    """
    if named:
        no_such("conv1d", named)
    _check("conv1d", input, weight, bias, 1)
    image, kernel = (reshape(a, (*a.shape[:2], 1, a.shape[2])) for a in (input, weight))
    y = _convolution("conv1d", image, kernel, bias, stride, padding, dilation, 1)
    return reshape(y, (*y.shape[:2], y.shape[3]))


def conv2d(
    input: Any, weight: Any, bias: Any = None, stride: Any = 1, padding: Any = 0, dilation: Any = 1, **named: Any
) -> Any:
    """y[n, k, p] = bias[k] + Σ weight[k, c, q] input[n, c, stride p + dilation q - padding], p and q of two axes, 0
    beside the input.

    input: (N, C, H, W)  weight: (K, C, kh, kw)  bias: (K,) or None
    stride, padding, dilation: a number, or one for each of both axes; padding also "same" (as large as the input, for
    strides of 1) or "valid" (none)
    returns: (N, K, H', W'), H' = ⌊(H + 2 padding - dilation (kh - 1) - 1) / stride⌋ + 1, W' likewise

        ops.conv2d(x, w, b, padding=1)  # x (N, C, H, W), w (K, C, 3, 3), b (K,): (N, K, H, W)
    """
    if named:
        no_such("conv2d", named)
    _check("conv2d", input, weight, bias, 2)
    return _convolution("conv2d", input, weight, bias, stride, padding, dilation, 2)


def _convolution(
    who: str, x: Any, weight: Any, bias: Any, stride: Any, padding: Any, dilation: Any, axes: int
) -> Any:  # fmt: skip
    K, C, *sizes = weight.shape
    size, strides = (sizes[0], sizes[1]), _pair(who, "stride", stride, axes, 1)
    dilations = _pair(who, "dilation", dilation, axes, 1)
    margins = _margins(who, padding, size, strides, dilations, axes)
    if min(outputs(x.shape[2:], size, strides, margins, dilations)) < 1 or 0 in size:
        raise ValueError(
            f"{who}: weight, with its dilation, must have elements and fit into the padded input, got "
            f"input {_shown(x, axes)} and weight {_shown(weight, axes)}"
        )
    matrix = permute(reshape(weight, (K, C * size[0] * size[1])), (1, 0))
    y = _convolve(x, matrix, size=size, stride=strides, padding=margins, dilation=dilations)
    return y if bias is None else add(y, reshape(bias, (K, 1, 1)))


def _shown(x: Any, axes: int) -> tuple[int, ...]:
    """The shape that the caller gave."""
    return (*x.shape[:2], *x.shape[4 - axes :])


def _check(who: str, x: Any, weight: Any, bias: Any, axes: int) -> None:
    """ValueError unless the shapes fit."""
    kind, kernel = ("(N, C, L)", "(K, C, k)") if axes == 1 else ("(N, C, H, W)", "(K, C, kh, kw)")
    x, weight = _array(x, who), _array(weight, who)
    if len(x.shape) != axes + 2 or len(weight.shape) != axes + 2 or x.shape[1] != weight.shape[1]:
        raise ValueError(
            f"{who}: input must be {kind} and weight {kernel} with the same C, got {x.shape} and {weight.shape}"
        )
    if bias is not None and _array(bias, who).shape != weight.shape[:1]:
        raise ValueError(f"{who}: bias must be (K,) for the K = {weight.shape[0]} of weight, got {bias.shape}")


def _pair(who: str, name: str, value: Any, axes: int, least: int) -> Pair:
    """A number for each of both axes, of images that are one row for one axis."""
    several = value if isinstance(value, (tuple, list)) else (value,) * axes
    try:
        if len(several) != axes or any(isinstance(n, (bool, np.bool_)) for n in several):
            raise TypeError
        numbers = [operator.index(n) for n in several]
    except TypeError:
        kinds = "an integer or a tuple of one" if axes == 1 else "an integer or a pair of them"
        raise TypeError(f"{who}: {name} must be {kinds}, got {value!r}") from None
    if min(numbers) < least:
        raise ValueError(f"{who}: {name} must be at least {least}, got {value!r}")
    return (numbers[0], numbers[1]) if axes == 2 else (1 if least else 0, numbers[0])


def _margins(who: str, padding: Any, size: Pair, strides: Pair, dilations: Pair, axes: int) -> Margins:
    """The zeros before and behind each of both axes."""
    if isinstance(padding, str):
        if padding == "valid":
            return (0, 0), (0, 0)
        if padding != "same":
            raise ValueError(f'{who}: padding must be a number, "same" or "valid", got {padding!r}')
        if strides != (1, 1):
            raise ValueError(f'{who}: padding "same" must come with a stride of 1, got {strides[2 - axes :]}')
        (a, b), (c, d) = ((n // 2, n - n // 2) for n in (d * (k - 1) for d, k in zip(dilations, size, strict=True)))
        return (a, b), (c, d)
    high, wide = _pair(who, "padding", padding, axes, 0)
    return (high, high), (wide, wide)
