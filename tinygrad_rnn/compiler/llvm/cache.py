"""Files of machine code, which later processes find again, in a folder that does not grow for ever."""

from __future__ import annotations

import contextlib
import itertools
import os
import sys
import time

from collections.abc import Iterator
from pathlib import Path

from tinygrad_rnn.files import write_atomically

LARGEST = 256 * 2**20  # bytes: some twenty thousand modules
OFTEN = 256  # files are written by a process between two looks at how large the folder is; it looks at its first, too
FORGOTTEN = 3600  # seconds after which a file that is still being written belongs to a process that was killed
_writes = itertools.count()


def folder() -> Path:
    """Where machine code is kept: TINYGRAD_RNN_CACHE, else a folder where the system expects a user's caches."""
    asked = os.environ.get("TINYGRAD_RNN_CACHE")
    return Path(asked) if asked else _of_the_user() / "tinygrad_rnn"


def _of_the_user() -> Path:
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")


def read(key: str) -> bytes | None:
    """The code that was written under this key, which is marked as used now; None if there is none."""
    path = folder() / f"{key}.o"
    try:
        code = path.read_bytes()
    except OSError:
        return None
    with contextlib.suppress(OSError):  # a folder that may only be read
        os.utime(path)
    return code


def write(key: str, code: bytes) -> None:
    """Keep code for later processes, if the folder can be written to, and prune the folder now and then."""
    path = folder() / f"{key}.o"
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, code)
        if next(_writes) % OFTEN == 0:
            prune(path.parent, LARGEST)


def prune(where: Path, largest: int) -> None:
    """If there are more bytes of code than this, remove what was used least recently, until three quarters are left.

    Other processes may read, write and prune meanwhile: what is gone already, or cannot be removed while it is read, is
    passed over; and whoever misses a file compiles again.
    """
    files = sorted(_files(where))
    surplus = sum(size for _, size, _ in files) - largest
    surplus += largest // 4 if surplus > 0 else 0
    for used, size, path in files:
        forgotten = path.name.startswith(".") and used < time.time() - FORGOTTEN
        if surplus > 0 or forgotten:
            with contextlib.suppress(OSError):
                path.unlink()
        surplus -= size


def _files(where: Path) -> Iterator[tuple[float, int, Path]]:
    """When each was last used, its size and its name. Files that were not written here are not looked at."""
    for entry in os.scandir(where):
        with contextlib.suppress(OSError):
            if entry.name.endswith(".o"):
                found = entry.stat()
                yield found.st_mtime, found.st_size, where / entry.name
