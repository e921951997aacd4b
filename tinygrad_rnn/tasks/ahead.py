"""Batches on the device that they are wanted on, each on its way while the one before is computed with."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from tinygrad_rnn.autograd.tensor import Tensor
from tinygrad_rnn.autograd.transfers import Uploads

Made = tuple[Sequence[np.ndarray], Any]


class Ahead:
    """Batches by number: `get(i, device)` is what `make(i)` gives, its arrays on the device.

    make: from the number of a batch to arrays for the device, and what stays with the host
    On the CPU each is made when it is asked for, and its arrays are as they were made. On a GPU they are tensors, and
    batch i + 1 is made and begun to be copied when batch i is asked for.
    """

    def __init__(self, make: Callable[[int], Made], length: int):
        self._make, self._length = make, length
        self._uploads: Uploads | None = None
        self._next: tuple[int, list[Any], Any, Callable[[], None]] | None = None

    def get(self, i: int, device: str) -> tuple[Sequence[Any], Any]:
        """The arrays of batch i on a device, and the rest of it."""
        if device == "cpu":
            return self._make(i)
        if self._uploads is None or self._uploads.device != device:
            self._uploads, self._next = Uploads(device), None
        if self._next is None or self._next[0] != i:
            self._next = self._begun(i)
        _, arrays, rest, wait = self._next
        wait()
        self._next = self._begun(i + 1) if i + 1 < self._length else None
        return [Tensor(a) for a in arrays], rest

    def _begun(self, i: int) -> tuple[int, list[Any], Any, Callable[[], None]]:
        arrays, rest = self._make(i)
        assert self._uploads is not None
        found, wait = self._uploads.begin(arrays)
        return i, found, rest, wait
