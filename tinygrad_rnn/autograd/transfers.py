"""Between the host and a GPU without waiting: values are read once they have come, arrays come beside what is computed.

What is asked of an array's values costs nothing on the CPU. On a GPU it makes the host wait for all that was begun, and
then the GPU for the host. So a value that is wanted a little later is copied by itself (`Reading`), and what must hold
of values is looked at when others are read (`check_later`).
"""

from __future__ import annotations

import threading

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from tinygrad_rnn.autograd.arrays import Array, xp
from tinygrad_rnn.autograd.devices import device_number, load_cupy

MOST_WAITING = 256  # checks that wait: each holds a little memory of the host

Check = Callable[[np.ndarray], None]


class Reading:
    """The values of an array, on their way to the host from now on; `get` waits for them, not for what is begun later.

    What was given to `check_later` before it is looked at with it.
    """

    def __init__(self, array: Array):
        self._copy = _Copy(array)
        self._checks = [] if self.at_hand else _waiting.taken()

    @property
    def at_hand(self) -> bool:
        """Is there nothing to wait for? So it is on the CPU."""
        return self._copy.event is None

    def get(self) -> np.ndarray:
        """The values; or the error of what was to be checked before."""
        checks, self._checks = self._checks, []
        for copy, check in checks:
            check(copy.get())
        return self._copy.get()


def check_later(array: Array, check: Check) -> None:
    """Have the values of a GPU's array checked when others are next read from it by this thread: `check` may raise.

    With a later `Reading`, a value of a tensor (`item`, `numpy`, …), or when too many others wait.
    """
    _waiting.checks.append((_Copy(array), check))
    if len(_waiting.checks) > MOST_WAITING:
        copy, check = _waiting.checks.pop(0)
        check(copy.get())


def settled(array: Array, value: Any) -> Any:
    """What was just read of an array; of a GPU's, after a look at what was to be checked there: it has come too."""
    if type(array) is not np.ndarray:
        for copy, check in _waiting.taken():
            check(copy.get())
    return value


class Uploads:
    """Copies to a GPU on a stream of their own: what is computed goes on meanwhile."""

    def __init__(self, device: str):
        self.device = device
        self._on_the_way: list[tuple[Any, list[np.ndarray]]] = []  # what is copied from, until it has been
        with load_cupy().cuda.Device(device_number(device)):
            self._stream = load_cupy().cuda.Stream(non_blocking=True)

    def begin(self, arrays: Sequence[np.ndarray]) -> tuple[list[Array], Callable[[], None]]:
        """Arrays on the device that are still being copied, and the function that has what is computed after its call
        wait for them."""
        cupy = load_cupy()
        with cupy.cuda.Device(device_number(self.device)):
            found = [cupy.empty(a.shape, a.dtype) for a in arrays]
            # Their memory may be that of earlier ones, which what was begun so far still reads.
            self._stream.wait_event(cupy.cuda.get_current_stream().record())
            sources = [_pinned(cupy, a) for a in arrays]
            for array, source, new in zip(arrays, sources, found, strict=True):
                np.copyto(source, array)
                new.set(source, self._stream)
            come = self._stream.record()
        self._on_the_way = [(come, sources), *((e, kept) for e, kept in self._on_the_way if not e.done)]
        return found, lambda: cupy.cuda.get_current_stream().wait_event(come)


class _Copy:
    """A copy in the host's memory. event: what to wait for; None if it is there"""

    __slots__ = ("event", "host")

    def __init__(self, array: Array):
        self.host, self.event = array, None
        lib = xp(array)
        if lib is np:
            return
        with array.device:
            self.host = _pinned(lib, array)
            array.get(out=self.host, blocking=False)
            self.event = lib.cuda.get_current_stream().record()

    def get(self) -> np.ndarray:
        if self.event is not None:
            if not self.event.done:
                self.event.synchronize()
            self.event = None
        return self.host


def _pinned(cupy: Any, like: Any) -> np.ndarray:
    """A new array of the host that a GPU reads and writes by itself, as large as another one."""
    memory = cupy.cuda.alloc_pinned_memory(max(like.nbytes, 1))
    return np.frombuffer(memory, like.dtype, like.size).reshape(like.shape)


class _Waiting(threading.local):
    """Checks of this thread that wait for a reading."""

    def __init__(self) -> None:
        self.checks: list[tuple[_Copy, Check]] = []

    def taken(self) -> list[tuple[_Copy, Check]]:
        checks, self.checks = self.checks, []
        return checks


_waiting = _Waiting()
