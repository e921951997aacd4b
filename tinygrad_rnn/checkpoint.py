"""Files that are either the old ones or the new ones, whole: atomic writing, and checkpoints in safetensors."""

from __future__ import annotations

import json
import os
import tempfile

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

FORMAT = "tinygrad_rnn checkpoint, version 1"


def write_atomically(path: Path, content: bytes | str) -> None:
    """Replace a file in one step: whoever reads it, or kills us, finds the old content or the new."""
    raw = content.encode() if isinstance(content, str) else content

    def write(temporary: Path) -> None:
        with temporary.open("wb") as file:
            file.write(raw)
            file.flush()
            os.fsync(file.fileno())

    replace_atomically(path, write)


def replace_atomically(path: Path, write: Callable[[Path], None]) -> None:
    """The same for a file that `write(temporary path)` makes; the temporary one has the same suffix."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.stem}-", suffix=path.suffix)
    os.close(handle)
    try:
        write(Path(name))
        Path(name).chmod(0o666 & ~_umask())
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def save_checkpoint(path: Path, arrays: Mapping[str, np.ndarray], progress: Mapping[str, Any]) -> None:
    """Write arrays by name, and `progress` (anything JSON can hold), atomically."""
    metadata = {"format": FORMAT, "progress": json.dumps(progress)}
    write_atomically(path, save({k: np.asarray(a, order="C") for k, a in arrays.items()}, metadata))


def load_checkpoint(path: Path) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """The arrays and the progress in a file; ValueError if it is missing, damaged or foreign."""
    if not path.is_file():
        raise ValueError(f"checkpoint: there is no file {str(path)!r}")
    try:
        with safe_open(path, framework="numpy") as file:
            metadata = file.metadata() or {}
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
    except (SafetensorError, OSError, ValueError) as error:
        raise ValueError(f"checkpoint: {str(path)!r} is damaged, or no safetensors file ({error})") from None
    if metadata.get("format") != FORMAT:
        found = metadata.get("format", "another safetensors file")
        raise ValueError(f"checkpoint: {str(path)!r} must be a {FORMAT!r}, got {found!r}")
    return arrays, json.loads(metadata["progress"])


def prefixed(prefix: str, arrays: Mapping[str, Any]) -> dict[str, Any]:
    """{"a": …} as {"prefix.a": …}"""
    return {f"{prefix}.{name}": array for name, array in arrays.items()}


def without_prefix(prefix: str, arrays: Mapping[str, Any]) -> dict[str, Any]:
    """The arrays under "prefix.", without it."""
    return {name.removeprefix(f"{prefix}."): a for name, a in arrays.items() if name.startswith(f"{prefix}.")}
