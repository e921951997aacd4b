"""Layouts: the shapes and strides of the values of a schedule, and how far from the start of a buffer each begins."""

from __future__ import annotations

from typing import Any

import numpy as np

from tinygrad_rnn.autograd.arrays import Array
from tinygrad_rnn.compiler.ir.value import Value
from tinygrad_rnn.compiler.runtime.buffers import looked
from tinygrad_rnn.compiler.schedule.places import Buffer
from tinygrad_rnn.compiler.schedule.schedule import Schedule


class Layouts:
    """Arrays with the shapes and strides of values (with time, if they have that), for a number of steps.

    arrays  those of buffers that there are already; for the others, arrays stand in that hold nothing
    """

    def __init__(self, s: Schedule, steps: int, arrays: dict[Buffer, Array]):
        self.s, self.steps, self.bases = s, steps, dict(arrays)

    def base(self, buffer: Buffer) -> Array:
        """The array of a whole buffer."""
        if buffer not in self.bases:
            self.bases[buffer] = hollow(buffer.whole(self.steps), buffer.dtype)
        return self.bases[buffer]

    def of(self, v: Any) -> Array:
        """An array like that of a value; that of a constant is the constant itself."""
        if not isinstance(v, Value):
            return getattr(v, "array", v)
        p = self.s.where(v)
        return looked(self.base(p.buffer), p, "all" if p.buffer.time else None, self.steps)

    def buffer(self, v: Any) -> Buffer | None:
        """The buffer that a value is in."""
        return self.s.where(v).buffer if isinstance(v, Value) else None


def hollow(shape: tuple[int, ...], dtype: Any) -> np.ndarray:
    """An array of which nothing but its shape and its strides may be asked: it has memory for one element."""
    strides = [np.dtype(dtype).itemsize]
    for n in reversed(shape[1:]):
        strides.insert(0, strides[0] * n)
    return np.lib.stride_tricks.as_strided(np.zeros(1, dtype), shape, strides[: len(shape)])
