"""Checkpoints: arrays by name and the progress of a run, in one safetensors file."""

from __future__ import annotations

import json

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from tinygrad_rnn.files import write_atomically

FORMAT = "tinygrad_rnn checkpoint, version 1"


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
