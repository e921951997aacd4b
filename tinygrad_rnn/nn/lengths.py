"""The lengths of sequences that stand side by side, padded to one length: checked, and as a mask."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from tinygrad_rnn.autograd import arrays
from tinygrad_rnn.autograd.arrays import Array, xp
from tinygrad_rnn.autograd.tensor import Tensor


class Lengths(NamedTuple):
    """Lengths that have come to a GPU with their sequences: as the host knows them, and there. (B,) each

    Wherever lengths are asked for; the masks are then made on the GPU, and not copied for each layer.
    """

    host: np.ndarray
    there: Array


def checked_lengths(lengths: Any, most: int, B: int, who: str, letter: str = "T") -> np.ndarray:
    """Lengths as a host array (B,). ValueError unless they are B integers from 0 to `most`, which is called letter."""
    if isinstance(lengths, Lengths):
        lengths = lengths.host
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


def mask_there(lengths: Any, T: int) -> Array | None:
    """The mask (T, B) on the GPU to which the lengths have come; None for lengths that are known to the host alone."""
    if not isinstance(lengths, Lengths) or xp(lengths.there) is np:
        return None
    return xp(lengths.there).arange(T)[:, None] < lengths.there
