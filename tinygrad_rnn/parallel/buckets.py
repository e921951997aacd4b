"""Gradients in a few arrays, of a size that is worth a sum each: what travels between the processes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from tinygrad_rnn.autograd.arrays import Array, full, xp
from tinygrad_rnn.autograd.tensor import Parameter, Tensor

LARGE, SMALL = 1 << 24, 1 << 20  # bytes: a bucket is full; so few are not worth a sum of their own


class Bucket:
    """The gradients of parameters of one dtype, on one device, one behind the other in one array.

    The same buckets are filled in each step; the gradients that come out are views of them.
    """

    def __init__(self, parameters: Sequence[Parameter]):
        self.parameters = list(parameters)
        first = self.parameters[0]
        sizes = [p.size for p in self.parameters]
        ends = np.cumsum(sizes)
        self.buffer = full((int(ends[-1]),), 0, _dtype(first), first.device)
        self.views = [
            self.buffer[end - n : end].reshape(p.shape)
            for p, n, end in zip(self.parameters, sizes, ends.tolist(), strict=True)
        ]

    def put(self, i: int, g: Array | None) -> None:
        """What this process has to add to the gradient of parameter i: None for nothing."""
        self.views[i][...] = 0 if g is None else g

    def gradient(self, i: int) -> Tensor:
        """The gradient of parameter i, once the buffer is summed."""
        return Tensor(self.views[i].astype(self.parameters[i].dtype, copy=False))


class RowsBucket:
    """Some rows of the gradient of a parameter: all others are 0 in every process."""

    def __init__(self, parameter: Parameter, rows: np.ndarray):
        self.parameters = [parameter]
        lib = xp(parameter.array)
        self.rows = lib.asarray(rows)
        self.buffer = lib.empty((len(rows), *parameter.shape[1:]), _dtype(parameter))

    def put(self, i: int, g: Array | None) -> None:
        """As in `Bucket`."""
        self.buffer[...] = 0 if g is None else g[self.rows]

    def gradient(self, i: int) -> Tensor:
        """As in `Bucket`: the gradient of before, its rows replaced, as far as it can be written into."""
        (p,) = self.parameters
        g = None if p.grad is None else p.grad.array
        if g is None:
            g = full(p.shape, 0, p.dtype, p.device)
        elif not (type(g) is not np.ndarray or g.flags.writeable):
            g = g.copy()
        g[self.rows] = self.buffer
        return Tensor(g)


AnyBucket = Bucket | RowsBucket


class Buckets:
    """The gradients of parameters in buckets, the same ones in all processes: the last parameter first, whose gradient
    is usually complete first."""

    def __init__(self, parameters: Sequence[Parameter]):
        self.described = [_described(p) for p in parameters]
        self.buckets = [Bucket(part) for part in _parts(list(reversed(parameters)))]

    def fit(self, parameters: Sequence[Parameter]) -> bool:
        """Are they for these parameters, as they are now?"""
        now = map(_described, parameters)
        return len(parameters) == len(self.described) and all(a == b for a, b in zip(now, self.described, strict=True))


def _described(p: Parameter) -> tuple:
    return id(p), p.shape, p.dtype, p.device


def _parts(parameters: Iterable[Parameter]) -> list[list[Parameter]]:
    """Parameters in order, cut so that each part has about LARGE bytes."""
    found: list[list[Parameter]] = []
    size, last = 0, None
    for p in parameters:
        nbytes, kind = p.size * _dtype(p).itemsize, (p.dtype, p.device)
        full_up = size >= LARGE or (size >= SMALL and size + nbytes > LARGE)
        if not found or full_up or kind != last:
            found.append([])
            size = 0
        found[-1].append(p)
        size, last = size + nbytes, kind
    return found


def _dtype(p: Parameter) -> np.dtype:
    """What its gradients are summed in."""
    return np.promote_types(p.dtype, np.float32)
