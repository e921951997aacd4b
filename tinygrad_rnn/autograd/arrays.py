"""NumPy or CuPy: the only file that knows that there is more than one array library.

An array says by its type which library it belongs to.
"""

from __future__ import annotations

import sys

from collections.abc import Sequence
from types import ModuleType
from typing import Any

import numpy as np

from tinygrad_rnn.autograd.devices import default_device, device_number, load_cupy, parse_device

Array = Any  # numpy.ndarray or cupy.ndarray

SMALL_TABLE = 64  # rows of a table up to which rows are added to it by a product with zeros and ones,
SMALL_PRODUCT = 1 << 20  # if these are not more than this


def xp(array: Array) -> ModuleType:
    """The library an array belongs to: cupy for a cupy array, numpy for anything else."""
    if type(array) is np.ndarray:
        return np
    cupy = sys.modules.get("cupy")  # not loaded by anyone: no array can be a cupy array
    return cupy if cupy is not None and isinstance(array, cupy.ndarray) else np


def is_array(value: object) -> bool:
    """True for numpy and cupy arrays and numpy scalars, False for Python numbers and lists."""
    return isinstance(value, (np.ndarray, np.generic)) or xp(value) is not np


def device_of(array: Array) -> str:
    """Where an array lives: "cpu" or "gpu:N"."""
    return "cpu" if type(array) is np.ndarray or xp(array) is np else f"gpu:{array.device.id}"


def move(array: Array, device: str) -> Array:
    """The array on `device`: itself when it is there already, else a copy."""
    if device == "cpu" and type(array) is np.ndarray:
        return array
    device = parse_device(device)
    if device_of(array) == device:
        return array
    if device == "cpu":
        return array.get()
    cupy = load_cupy()
    with cupy.cuda.Device(device_number(device)):
        return cupy.asarray(array)


def to_numpy(array: Array) -> np.ndarray:
    """The array in host memory; no copy if it is there already."""
    return np.asarray(array) if xp(array) is np else array.get()


def empty(shape: tuple[int, ...], dtype: Any, device: str) -> Array:
    """An array on a device that nothing was written into yet."""
    if device == "cpu":
        return np.empty(shape, dtype)
    cupy = load_cupy()
    with cupy.cuda.Device(device_number(device)):
        return cupy.empty(shape, dtype)


def from_numpy(array: np.ndarray, device: str | None = None) -> Array:
    """A host array on `device`, by default on the default device."""
    return move(array, device or default_device())


def full(shape: Any, value: float, dtype: Any, device: str | None = None) -> Array:
    """An array of one value, made where it is: on `device`, by default on the default device."""
    device = parse_device(device or default_device())
    if device == "cpu":
        return np.full(shape, value, dtype)
    cupy = load_cupy()
    with cupy.cuda.Device(device_number(device)):
        return cupy.full(shape, value, dtype)


def add_at(out: Array, key: Any, values: Array) -> None:
    """out[key] += values, where places that `key` names twice get both (in place)."""
    if _names_elements(out, key):
        at = np.ravel_multi_index(tuple([k % n for k, n in zip(key, out.shape, strict=True)]), out.shape)
        np.add.at(
            out.reshape(-1), at.ravel(), np.broadcast_to(values, at.shape).ravel()
        )  # ten times as fast as out[key]
        return
    if xp(out) is not np or not isinstance(key, np.ndarray) or key.dtype == bool or out.ndim < 2:
        xp(out).add.at(out, key, values)
        return
    # Whole rows by one integer array: the gradient of an embedding
    if not key.size or not out.size:
        return
    index = key.astype(np.intp, copy=False).ravel() % len(out)
    shape = key.shape + out.shape[1:]
    rows = (values if values.shape == shape else np.broadcast_to(values, shape)).reshape(-1, *out.shape[1:])
    few = len(out) <= SMALL_TABLE and len(out) * len(rows) <= SMALL_PRODUCT
    if few and out.ndim == 2 and out.dtype.kind == "f":
        chosen = np.zeros((len(out), len(rows)), out.dtype)  # as a product with rows of zeros and ones
        chosen[index, np.arange(len(rows))] = 1
        with np.errstate(invalid="ignore", over="ignore"):
            total = chosen @ rows
        if np.isfinite(total).all():  # else 0 times an infinity may have spoiled the other sums
            out += total
            return
    # Sort, then one segmented sum: ten times np.add.at
    order = np.argsort(index, kind="stable")
    index = index[order]
    starts = np.flatnonzero(np.r_[True, index[1:] != index[:-1]])
    out[index[starts]] += np.add.reduceat(rows[order], starts, axis=0)


def _names_elements(out: Array, key: Any) -> bool:
    """Does the key name single elements of a contiguous array of NumPy's, by an integer array for each axis?"""
    if type(out) is not np.ndarray or not isinstance(key, tuple) or not len(key) == out.ndim > 1 or not out.size:
        return False
    whole = all(isinstance(k, np.ndarray) and k.dtype.kind in "iu" for k in key)
    return whole and out.flags.c_contiguous


def same_device(arrays: Sequence[Array]) -> list[str]:
    """The devices that the arrays are on, each named once."""
    return list(dict.fromkeys(device_of(a) for a in arrays if is_array(a) and not isinstance(a, np.generic)))
