"""Gradients in a few arrays, of a size that is worth a sum each: what travels between the processes."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from typing import Any

import numpy as np

from tinygrad_rnn.autograd.arrays import Array, full, xp
from tinygrad_rnn.autograd.tensor import Parameter, Tensor

LARGE, SMALL = 1 << 24, 1 << 21  # bytes of a bucket, at most and at least, if there are so many
FEW = 1 << 22  # bytes that make one bucket


class _Fills:
    """What all buckets do alike."""

    parameters: Sequence[Parameter]

    def put(self, i: int, g: Array | None) -> None:
        """What this process has to add to the gradient of parameter i: None for nothing."""
        raise NotImplementedError

    def fill(self) -> None:
        """What this process has to add to all of them."""
        for i, p in enumerate(self.parameters):
            self.put(i, None if p.grad is None else p.grad.array)


class Bucket(_Fills):
    """The gradients of parameters of one dtype, on one device, one behind the other in one array.

    The same buckets are filled in each step; the gradients that come out are views of them.

    parts: the array can be cut into so many parts of one size; there may be zeros at its end
    starts: where the gradient of each parameter begins
    """

    def __init__(self, parameters: Sequence[Parameter], parts: int = 1):
        self.parameters = list(parameters)
        first = self.parameters[0]
        *self.starts, end = accumulate((p.size for p in self.parameters), initial=0)
        self.buffer = full((-(-end // parts) * parts,), 0, _dtype(first), first.device)
        self.views = self._views()

    def _views(self) -> list[Array]:
        """The buffer as the gradient of each parameter."""
        places = zip(self.parameters, self.starts, strict=True)
        return [self.buffer[start : start + p.size].reshape(p.shape) for p, start in places]

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self.views = self._views()  # copies of the old ones would be arrays of their own

    def put(self, i: int, g: Array | None) -> None:
        self.views[i][...] = 0 if g is None else g

    def gradient(self, i: int) -> Tensor:
        """The gradient of parameter i, once the buffer is summed."""
        return Tensor(self.views[i].astype(self.parameters[i].dtype, copy=False))


class RowsBucket(_Fills):
    """Some rows of the gradient of a parameter: all others are 0 in every process."""

    def __init__(self, parameter: Parameter, rows: np.ndarray):
        self.parameters = [parameter]
        lib = xp(parameter.array)
        self.rows = lib.asarray(rows)
        self.buffer = lib.empty((len(rows), *parameter.shape[1:]), _dtype(parameter))

    def put(self, i: int, g: Array | None) -> None:
        self.buffer[...] = 0 if g is None else g[self.rows]

    def gradient(self, i: int) -> Tensor:
        """As in `Bucket`: the gradient of before, its rows replaced, as far as it can be written into."""
        (p,) = self.parameters
        g = None if p.grad is None else p.grad.array
        if g is None:
            g = full(p.shape, 0, p.dtype, p.device)
        elif type(g) is np.ndarray and not g.flags.writeable:
            g = g.copy()
        g[self.rows] = self.buffer
        return Tensor(g)


AnyBucket = Bucket | RowsBucket


class Buckets:
    """The gradients of parameters in buckets, the same ones in all processes: the last parameter first, whose gradient
    is usually complete first. parts: see `Bucket`"""

    def __init__(self, parameters: Sequence[Parameter], parts: int = 1):
        self.described = [_described(p) for p in parameters]
        self.buckets = [Bucket(several, parts) for several in _together(list(reversed(parameters)))]

    def fit(self, parameters: Sequence[Parameter]) -> bool:
        """Are they for these parameters, as they are now?"""
        now = map(_described, parameters)
        return len(parameters) == len(self.described) and all(a == b for a, b in zip(now, self.described, strict=True))


def _described(p: Parameter) -> tuple:
    return id(p), p.shape, p.dtype, p.device


def _together(parameters: Sequence[Parameter]) -> list[list[Parameter]]:
    """Parameters in order, those that make a bucket together: some buckets, and a very large parameter has its own."""
    total = sum(p.size * _dtype(p).itemsize for p in parameters)
    most = total if total < FEW else max(SMALL, min(LARGE, total // 4))
    found: list[list[Parameter]] = []
    size, last = 0, None
    for p in parameters:
        nbytes, kind = p.size * _dtype(p).itemsize, (p.dtype, p.device)
        if not found or kind != last or size + nbytes > most:
            found.append([])
            size = 0
        found[-1].append(p)
        size, last = size + nbytes, kind
    return found


def _dtype(p: Parameter) -> np.dtype:
    """What its gradients are summed in."""
    return np.promote_types(p.dtype, np.float32)
