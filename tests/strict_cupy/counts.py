"""What the stand-in counts, as CuPy 14.2 would do it: kernels that are launched, times that the host waits for the
device, and copies from the host to the device.

    with strict_cupy.counted() as counts:
        step()
    assert counts.syncs == 0, counts.places("sync")
"""

import sys

from collections import Counter
from contextlib import contextmanager
from pathlib import Path

_HERE = str(Path(__file__).parent)
_open = []


class Counts:
    """`launches`, `syncs` and `copies`; `places(kind)` says which of them were where in the library, and how often."""

    def __init__(self):
        self._found = Counter()

    launches = property(lambda self: self._of("launch"))
    syncs = property(lambda self: self._of("sync"))
    copies = property(lambda self: self._of("copy"))

    def _of(self, kind):
        return sum(n for (k, _), n in self._found.items() if k == kind)

    def places(self, kind):
        return {place: n for (k, place), n in self._found.most_common() if k == kind}

    def __repr__(self):
        told = [f"launches={self.launches}"]
        for kind in "sync", "copy":
            told.append(f"{kind}: {self.places(kind)}")
        return ", ".join(told)


@contextmanager
def counted():
    """Counts of the block, of all threads; blocks may stand inside each other."""
    counts = Counts()
    _open.append(counts)
    try:
        yield counts
    finally:
        _open.remove(counts)


def launch(name, n=1):
    _count("launch", name, n)


def sync(name):
    _count("sync", name, 1)


def copy(name):
    _count("copy", name, 1)


def _count(kind, name, n):
    if _open and n:
        place = f"{name} at {_caller()}"
        for counts in _open:
            counts._found[kind, place] += n


def _caller():
    """The line outside the stand-in that a call came from."""
    frame = sys._getframe(3)
    while frame is not None and frame.f_code.co_filename.startswith(_HERE):
        frame = frame.f_back
    return f"{Path(frame.f_code.co_filename).name}:{frame.f_lineno}" if frame is not None else "?"
