"""The lengths of sequences that stand side by side, padded to one length: checked, and as a mask."""

from __future__ import annotations

from typing import Any

import numpy as np

from tinygrad_rnn.autograd import arrays
from tinygrad_rnn.autograd.tensor import Tensor


def checked_lengths(lengths: Any, most: int, B: int, who: str, letter: str = "T") -> np.ndarray:
    """Lengths as a host array (B,). ValueError unless they are B integers from 0 to `most`, which is called letter."""
    if isinstance(lengths, Tensor):
        lengths = lengths.numpy()
    host = arrays.to_numpy(lengths) if arrays.is_array(lengths) else np.asarray(lengths)
    if host.shape != (B,) or host.dtype.kind not in "iu":
        raise ValueError(f"{who}: lengths must be ({B},) integers, got {host.shape} of dtype {host.dtype}")
    if B and not 0 <= int(host.min()) <= int(host.max()) <= most:
        raise ValueError(
            f"{who}: lengths must be from 0 to {letter} = {most}, got {int(host.min())} to {int(host.max())}"
        )
    return host


def mask_of_lengths(lengths: Any, T: int, B: int, who: str) -> np.ndarray | None:
    """Which sequences go on at each step, (T, B) of bool; None where all always do, as without lengths."""
    if lengths is None:
        return None
    host = checked_lengths(lengths, T, B, who)
    return np.arange(T)[:, None] < host if B and host.min() < T else None
