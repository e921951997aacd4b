"""Memory that is kept for the next call: arenas for the buffers of programs, and arrays that were handed out."""

from __future__ import annotations

import ctypes
import math
import sys
import threading

from collections.abc import Sequence
from itertools import accumulate
from typing import Any

import numpy as np

ARRAYS = 1 << 29  # bytes of arrays, at most
EACH = 8  # arrays of one shape
LINE = 64  # bytes: where arrays start


class Arena:
    """Memory for the buffers of many programs, of which one is in use at a time."""

    def __init__(self) -> None:
        self.block = np.empty(0, np.uint8)
        self.busy = False

    def arrays(self, wanted: Sequence[tuple[tuple[int, ...], Any]]) -> list[np.ndarray]:
        """An array for each shape and dtype, next to each other. What was carved out before may be the same memory."""
        sizes = [math.prod(shape) * np.dtype(dtype).itemsize for shape, dtype in wanted]
        starts = [0, *accumulate(-(-n // LINE) * LINE for n in sizes)]
        if starts[-1] + LINE > len(self.block):  # the old block lives as long as the arrays in it
            self.block = np.empty(max(starts[-1] + LINE, len(self.block) * 3 // 2), np.uint8)
        first = -address(self.block) % LINE
        pairs = zip(wanted, starts, strict=False)
        return [np.ndarray(shape, dtype, self.block, first + start) for (shape, dtype), start in pairs]


class Arenas:
    """The arenas of one Recurrent: as many as it has calls whose backward pass is still to come."""

    def __init__(self) -> None:
        self.arenas: list[Arena] = []
        self.lock = threading.RLock()

    def free(self) -> Arena:
        """One that nobody uses."""
        for arena in self.arenas:
            if not arena.busy:
                return arena
        self.arenas.append(Arena())
        return self.arenas[-1]


def recycled(shape: tuple[int, ...], dtype: Any) -> tuple[np.ndarray, int]:
    """An array to write into, and its address: one that was handed out before and that nobody holds, or a new one.

    Fresh memory is slow at the first touch: the system maps and clears it page by page.
    """
    known = _handed_out.get((shape, dtype), ())
    for array, at in known if _COUNTS else ():
        if sys.getrefcount(array) == 3:  # the pair, our name, the argument; the name keeps other threads away from it
            return array, at
    array = np.empty(shape, dtype)
    at = address(array)
    if len(known) < EACH and array.nbytes:
        _handed_out[shape, dtype] = (*known, (array, at))
        _limit(array.nbytes)
    return array, at


def _limit(more: int) -> None:
    """Let go of the shapes that were first asked for longest ago."""
    _size[0] += more
    while _size[0] > ARRAYS and len(_handed_out) > 1:
        oldest = _handed_out.pop(next(iter(_handed_out)), ())
        _size[0] -= sum(array.nbytes for array, _ in oldest)


def address(array: np.ndarray) -> int:
    """Where the first element of an array is."""
    return array.__array_interface__["data"][0]


def _quick_address(array: np.ndarray) -> int:
    """The same, read from NumPy's struct of an array, where it is the first field; six times as fast."""
    return ctypes.c_size_t.from_address(id(array) + object.__basicsize__).value


if sys.implementation.name == "cpython":
    _sample = np.empty(3)
    if _quick_address(_sample) == address(_sample) and _quick_address(_sample[1:]) == address(_sample[1:]):
        address = _quick_address


_handed_out: dict[Any, tuple[tuple[np.ndarray, int], ...]] = {}
_size = [0]
_COUNTS = sys.implementation.name == "cpython" and getattr(sys, "_is_gil_enabled", lambda: True)()
