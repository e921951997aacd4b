"""Files that are replaced in one step: whoever reads one, or kills us, finds the old content or the new, whole."""

from __future__ import annotations

import os
import secrets

from collections.abc import Callable
from pathlib import Path

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
    """The same for a file that `write(temporary path)` makes; the temporary one has the same suffix."""
    if not path.parent.is_dir():
        raise FileNotFoundError(f"{str(path)!r} cannot be written: there is no folder {str(path.parent)!r}")
    temporary = path.with_name(f".{path.stem}-{secrets.token_hex(4)}{path.suffix}")
    try:
        write(temporary)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
