"""Arrays of what users write down: numbers, nested lists, arrays of either library."""

from __future__ import annotations

from typing import Any

import numpy as np

from tinygrad_rnn.autograd import arrays
from tinygrad_rnn.autograd.arrays import Array, xp
from tinygrad_rnn.autograd.devices import check_device, default_device
from tinygrad_rnn.autograd.dtypes import is_real


def array_of(values: Any, dtype: Any, device: str | None) -> Array:
    """A new array of values, as `tensor` documents it. TypeError unless they are real numbers."""
    array = _of_array(values, dtype, device) if arrays.is_array(values) else _of_numbers(values, dtype, device)
    if not array.dtype.isnative:  # no library computes with bytes in another order
        array = array.astype(array.dtype.newbyteorder("="))
    if array.dtype.kind not in "fiub":
        raise TypeError(f"tensor: values must be floats, integers or booleans, got dtype {array.dtype}")
    return array


def _of_array(values: Array, dtype: Any, device: str | None) -> Array:
    """A copy of an array, where it is or on a device."""
    if not is_real(values.dtype):  # of complex ones a cast would keep a part
        raise TypeError(f"tensor: values must be floats, integers or booleans, got dtype {values.dtype}")
    lib = xp(values)
    array = lib.array(values, dtype)
    if device is None and lib is not np:
        return array
    return arrays.move(array, check_device(device) if device else default_device())


def _of_numbers(values: Any, dtype: Any, device: str | None) -> Array:
    """An array of numbers or of lists."""
    host = np.array(values, dtype)
    if dtype is None and host.dtype == np.float64 and not _holds_arrays(values):
        host = host.astype(np.float32)
    if host.dtype == object:
        raise TypeError(f"tensor: values must be numbers, got {type(values).__name__} of {_kinds(values)}")
    return arrays.from_numpy(host, check_device(device) if device else None)


def _holds_arrays(values: Any) -> bool:
    """Are these lists of NumPy values, or of tensors? They keep their dtype, as an array would."""
    while isinstance(values, (list, tuple)) and values:
        values = values[0]
    return isinstance(values, (np.ndarray, np.generic)) or hasattr(values, "array")


def _kinds(values: Any) -> str:
    items = values if isinstance(values, (list, tuple)) else [values]
    return ", ".join(sorted({type(v).__name__ for v in items}))
