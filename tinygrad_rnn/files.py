"""Files that are replaced in one step: whoever reads one, or kills us, finds the old content or the new, whole. And
files that say who writes here, so that nobody else does."""

from __future__ import annotations

import contextlib
import os
import secrets
import sys
import time

from collections.abc import Callable, Iterator
from io import FileIO
from pathlib import Path

if sys.platform == "win32":
    import msvcrt
elif sys.platform != "emscripten":  # Python in a browser's page, where no other process is
    import fcntl

WAITS = [0.01 * 2**k for k in range(8)]  # seconds
TEMPORARY = r"\..*-[0-9a-f]{8}(\.\w*)?"  # the names of files that are being written


def write_atomically(path: Path, content: bytes | str) -> None:
    """Replace the content of a file in one step."""
    raw = content.encode() if isinstance(content, str) else content

    def write(temporary: Path) -> None:
        with temporary.open("wb") as file:
            file.write(raw)
            file.flush()
            os.fsync(file.fileno())

    replace_atomically(path, write)


def replace_atomically(path: Path, write: Callable[[Path], None]) -> None:
    """The same for a file that `write(temporary path)` makes; the temporary one has the same suffix.

    An OSError names the file that was to be written.
    """
    if not path.parent.is_dir():
        raise FileNotFoundError(f"{str(path)!r} cannot be written: there is no folder {str(path.parent)!r}")
    temporary = path.with_name(f".{path.stem}-{secrets.token_hex(4)}{path.suffix}")
    try:
        write(temporary)
        _replace(temporary, path)
    except BaseException as error:
        with contextlib.suppress(OSError):  # of the two errors the first counts
            temporary.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.errno and str(error.filename) in ("None", str(temporary)):
            error.filename = str(path)
        raise


def _replace(new: Path, old: Path) -> None:
    """Windows replaces no file that is open; a virus scanner or an indexer has it so for a moment, so wait for that."""
    for seconds in WAITS if sys.platform == "win32" else ():
        try:
            new.replace(old)
            return
        except PermissionError:
            time.sleep(seconds)
    new.replace(old)


@contextlib.contextmanager
def locked(path: Path, what: str) -> Iterator[None]:
    """Hold a file that says which process writes here; RuntimeError that names the one that does so already.

    The system lets go of it when a process ends, whichever way: what a killed one leaves behind holds nobody up. On
    file systems that have no locks it only says who writes.

    what: is written by the process, for the error
    """
    file = _held(path, what)
    try:
        with contextlib.suppress(OSError):  # a full disk: then the lock has no name
            file.truncate(0)
            file.write(str(os.getpid()).encode())
        yield
    finally:
        if sys.platform == "win32":  # where an open file cannot be removed
            file.close()
        with contextlib.suppress(OSError):
            path.unlink(missing_ok=True)
        file.close()


def _held(path: Path, what: str) -> FileIO:
    """The file, open and locked; RuntimeError if another process holds it."""
    while True:
        file = path.open("a+b", buffering=0)
        if not _lock(file):
            file.seek(0)
            pid = file.read().decode(errors="replace").strip()
            file.close()
            raise RuntimeError(
                f"{what} is written by {f'process {pid}' if pid else 'another process'}; wait for its end"
            )
        with contextlib.suppress(FileNotFoundError):
            if os.path.samestat(path.stat(), os.fstat(file.fileno())):
                return file
        file.close()  # whoever held it has removed it in between


def _lock(file: FileIO) -> bool:
    """Lock a file without waiting; False if another process has locked it."""
    try:
        if sys.platform == "win32":
            file.seek(1 << 20)  # behind all content, which others may read
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        elif sys.platform != "emscripten":
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        return False
    except OSError:  # no locks on this file system
        return True
    return True
