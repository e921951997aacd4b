"""Memory that is kept for the next call: arenas for the buffers of programs, and arrays that were handed out."""

from __future__ import annotations

import ctypes
import functools
import math
import sys
import threading
import weakref

from collections import deque
from collections.abc import Sequence
from itertools import accumulate
from pathlib import Path
from sys import getrefcount
from typing import Any

import numpy as np

from numpy import ndarray

from tinygrad_rnn.autograd.arrays import Array, empty

ARRAYS, SHARE = 1 << 29, 4  # bytes of arrays, at most; more, up to one part in four, where there is so much memory
EACH = 16  # arrays of one size
SPARE = 64  # programs that a layer keeps, at most: several calls before a backward pass use one each, as do batches
FEW, STEPS = 4, 1 << 13  # more than a few only if all of them are for no more steps: some have views of each
LINE = 64  # bytes: where arrays start


class NoRoom(MemoryError):
    """So many bytes are not there."""

    def __init__(self, nbytes: int):
        super().__init__(nbytes)
        self.nbytes = nbytes


class Arena:
    """Memory on a device for the buffers of many programs, of which one is in use at a time."""

    def __init__(self, device: str = "cpu") -> None:
        self.device, self.busy = device, False
        self.block = empty((0,), np.uint8, device)
        self.scratch: Arena | None = None

    def for_a_moment(self, wanted: Sequence[tuple[tuple[int, ...], Any]]) -> list[np.ndarray]:
        """Arrays that a program needs while it runs forward, or backward, and not between: the same memory for all
        programs, which so stays in the caches."""
        if self.scratch is None:
            self.scratch = Arena(self.device)
        return self.scratch.arrays(wanted)

    def arrays(self, wanted: Sequence[tuple[tuple[int, ...], Any]]) -> list[np.ndarray]:
        """An array for each shape and dtype, next to each other. What was carved out before may be the same memory."""
        sizes = [math.prod(shape) * np.dtype(dtype).itemsize for shape, dtype in wanted]
        starts = [0, *accumulate(-(-n // LINE) * LINE for n in sizes)]
        if starts[-1] + LINE > len(self.block):  # the old block lives as long as the arrays in it
            self.block = self._block(max(starts[-1] + LINE, len(self.block) * 3 // 2))
        first = -address(self.block) % LINE
        pairs = zip(wanted, starts, strict=False)
        return [carved(self.block, first + start, shape, dtype) for (shape, dtype), start in pairs]

    def _block(self, nbytes: int) -> Array:
        try:
            return empty((nbytes,), np.uint8, self.device)
        except MemoryError as error:
            raise NoRoom(nbytes) from error


class Arenas:
    """The arenas of one Recurrent: as many as it has calls whose backward pass is still to come.

    lent   the program that each call has, and the list to which it goes back
    ended  references to calls that were thrown away with their programs, put there by machine code: a `__del__` would
           be a place where an error is printed, and Ctrl-C lost
    """

    def __init__(self) -> None:
        self.arenas: list[Arena] = []
        self.lock = threading.RLock()
        self.lent: dict[weakref.ref, tuple[Any, list[Any]]] = {}
        self.ended: deque[weakref.ref] = deque()

    def lend(self, call: Any, program: Any, programs: list[Any]) -> None:
        """A call has a program until it gives it back, or ends."""
        self.lent[weakref.ref(call, self.ended.append)] = program, programs

    def collect(self) -> None:
        """Take back the programs of calls that were thrown away."""
        while self.ended:
            self.take_back(self.ended.popleft())

    def take_back(self, reference: weakref.ref) -> None:
        """A call needs its program no more."""
        with self.lock:
            program, programs = self.lent.pop(reference, (None, []))
            if program is not None:
                program.let_go()
                program.arena.busy = False
                programs.append(program)
                while len(programs) > FEW and (len(programs) > SPARE or sum([p.capacity for p in programs]) > STEPS):
                    programs.pop(0)

    def free(self, device: str) -> Arena:
        """One on a device that nobody uses."""
        for arena in self.arenas:
            if not arena.busy and arena.device == device:
                return arena
        self.arenas.append(Arena(device))
        return self.arenas[-1]


def carved(block: Array, start: int, shape: tuple[int, ...], dtype: Any) -> Array:
    """An array in a block of bytes, from its byte number `start` on."""
    if type(block) is ndarray:
        return ndarray(shape, dtype, block, start)
    return block[start : start + math.prod(shape) * np.dtype(dtype).itemsize].view(dtype).reshape(shape)


def recycled(shape: tuple[int, ...], dtype: Any) -> tuple[np.ndarray, int]:
    """An array to write into, and its address: in memory that was handed out before and that nobody holds, or in new.

    Fresh memory is slow at the first touch: the system maps and clears it page by page. Arrays of about one size share
    it, so that what has just been read and let go is written next, while it is in the caches.
    """
    size = _rounded(shape, dtype)
    known = _handed_out.get(size, ())
    for block, start, at in known if _COUNTS else ():
        if getrefcount(block) == FREE:  # our name for it keeps other threads away
            return ndarray(shape, dtype, block, start), at
    block = np.empty(size + LINE, np.uint8)
    start = -address(block) % LINE
    at = address(block) + start
    if len(known) < EACH and size:
        _handed_out[size] = (*known, (block, start, at))
        _limit(len(block))
    return np.ndarray(shape, dtype, block, start), at


@functools.lru_cache(1 << 12)
def _rounded(shape: tuple[int, ...], dtype: Any) -> int:
    """The bytes of an array, rounded up: at most an eighth is wasted."""
    nbytes = math.prod(shape) * np.dtype(dtype).itemsize
    step = max(LINE, 1 << max(nbytes.bit_length() - 3, 0))
    return -(-nbytes // step) * step


def _limit(more: int) -> None:
    """Let go of the sizes that were first asked for longest ago."""
    with _lock:
        _size[0] += more
        if _size[0] <= max(ARRAYS, _most[0]):
            return
        _most[0] = max(ARRAYS, (_size[0] + available()) // SHARE)  # only now: it reads files of the system
        while _size[0] > _most[0] and len(_handed_out) > 1:
            oldest = _handed_out.pop(next(iter(list(_handed_out))), ())
            _size[0] -= sum(len(block) for block, _, _ in oldest)


def available() -> int:
    """The bytes that this process could still be given, about; 0 where the system does not say."""
    found = [_in_kilobytes("/proc/meminfo", "MemAvailable:")]
    limit, used = (_number(f"/sys/fs/cgroup/memory.{name}") for name in ("max", "current"))
    if limit is not None and used is not None:  # a container's own limit
        found.append(limit - used)
    return max(0, min(found))


def _in_kilobytes(path: str, name: str) -> int:
    try:
        lines = Path(path).read_text().splitlines()
    except OSError:
        return 0
    return next((1024 * int(line.split()[1]) for line in lines if line.startswith(name)), 0)


def _number(path: str) -> int | None:
    try:
        text = Path(path).read_text().strip()
    except OSError:
        return None
    return int(text) if text.isdecimal() else None


def address(array: Array) -> int:
    """Where the first element of an array is: in the host's memory, or in its device's."""
    return array.__array_interface__["data"][0] if type(array) is ndarray else array.data.ptr


def _quick_address(array: Array) -> int:
    """The same, read from NumPy's struct of an array, where it is the first field; six times as fast."""
    if type(array) is not ndarray:
        return array.data.ptr
    return ctypes.c_size_t.from_address(id(array) + object.__basicsize__).value


if sys.implementation.name == "cpython":
    _sample = np.empty(3)
    if _quick_address(_sample) == address(_sample) and _quick_address(_sample[1:]) == address(_sample[1:]):
        address = _quick_address


_handed_out: dict[int, tuple[tuple[np.ndarray, int, int], ...]] = {}  # by size: blocks, where arrays start, addresses
_size, _most = [0], [0]  # the bytes of all blocks; how many there may be, when it was last looked
_lock = threading.Lock()


def _count_when_free() -> int:
    """What getrefcount says in `recycled` of a block that nobody holds: the tuple, the name, perhaps the argument."""
    known = ((np.empty(0), 0, 0),)
    for block, _, _ in known:
        return getrefcount(block)
    return 0


FREE = _count_when_free()
_COUNTS = sys.implementation.name == "cpython" and getattr(sys, "_is_gil_enabled", lambda: True)()
