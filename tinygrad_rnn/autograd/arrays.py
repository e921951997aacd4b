"""NumPy or CuPy: the only file that knows that there is more than one array library.

An array says by its type which library it belongs to; a *device* is a string, "cpu", "gpu:0", "gpu:1" …
CuPy is imported when somebody first asks for a GPU, and never before.
"""

from __future__ import annotations

import functools
import os
import sys
import threading

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import ModuleType
from typing import Any

import numpy as np

Array = Any  # numpy.ndarray or cupy.ndarray

FEW, LITTLE = 64, 1 << 20  # rows that are added up as a product, and its zeros and ones
_INSTALL = 'pip install "tinygrad-rnn[cuda13]" (or [cuda12], for a driver of CUDA 12)'


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
    return "cpu" if xp(array) is np else f"gpu:{array.device.id}"


def move(array: Array, device: str) -> Array:
    """The array on `device`: itself when it is there already, else a copy."""
    device = parse_device(device)
    if device_of(array) == device:
        return array
    if device == "cpu":
        return array.get()
    cupy = load_cupy()
    with cupy.cuda.Device(_number(device)):
        return cupy.asarray(array)


def to_numpy(array: Array) -> np.ndarray:
    """The array in host memory; no copy if it is there already."""
    return np.asarray(array) if xp(array) is np else array.get()


def from_numpy(array: np.ndarray, device: str | None = None) -> Array:
    """A host array on `device`, by default on the default device."""
    return move(array, device or default_device())


def add_at(out: Array, key: Any, values: Array) -> None:
    """out[key] += values, where places that `key` names twice get both (in place)."""
    if xp(out) is not np or not isinstance(key, np.ndarray) or key.dtype == bool or out.ndim < 2:
        xp(out).add.at(out, key, values)
        return
    # Whole rows by one integer array: the gradient of an embedding
    if not key.size or not out.size:
        return
    index = key.astype(np.intp, copy=False).ravel() % len(out)
    shape = key.shape + out.shape[1:]
    rows = (values if values.shape == shape else np.broadcast_to(values, shape)).reshape(-1, *out.shape[1:])
    few = len(out) <= FEW and len(out) * len(rows) <= LITTLE
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


# ---- dtypes -----------------------------------------------------------------------------------------------------

FLOAT = np.dtype(np.float32)  # of what is computed from integers, or from numbers alone
_RANK = {"b": 0, "u": 1, "i": 1, "f": 2}
_NUMBERS = {bool: np.dtype(bool), int: np.dtype(np.int64), float: FLOAT}

Operand = tuple[np.dtype, bool] | type  # an array's dtype, and has it axes? or the type of a Python number


def is_real(dtype: np.dtype) -> bool:
    """Is it a dtype of floats, integers or booleans?"""
    return dtype.kind in _RANK


def real_dtype(dtype: Any, who: str) -> np.dtype:
    """A dtype that tensors can have; TypeError in the name of `who` for any other."""
    try:
        found = np.dtype(dtype) if dtype is not None else None  # NumPy's default is none of ours
    except TypeError:
        found = None
    if found is None or not is_real(found):
        raise TypeError(f'{who}: the dtype must be of floats, integers or booleans, as "float32", got {dtype!r}')
    return found


@functools.lru_cache(1 << 12)
def common_dtype(operands: tuple[Operand, ...], floats: bool = False) -> np.dtype:
    """The dtype that operands are brought to, by PyTorch's rule: what has axes decides.

    What has none, and a number still less, counts only where it is of a higher kind (booleans < integers < floats).
    floats: does the operation make floats of integers?
    """
    arrays = [o for o in operands if isinstance(o, tuple)]
    groups = [
        [dtype for dtype, axes in arrays if axes],
        [dtype for dtype, axes in arrays if not axes],
        [_NUMBERS[o] for o in operands if not isinstance(o, tuple)],
    ]
    found: np.dtype | None = None
    for group in filter(None, groups):
        rank = max(_RANK[dtype.kind] for dtype in group)
        if found is None or rank > _RANK[found.kind]:
            found = np.result_type(*[dtype for dtype in group if _RANK[dtype.kind] == rank])
    assert found is not None
    return FLOAT if floats and found.kind != "f" else found


@functools.lru_cache(1 << 12)
def casts(operands: tuple[Operand, ...], floats: bool, compares: bool) -> tuple[np.dtype | None, ...] | None:
    """For each operand the dtype to cast it to first, or None; None for all where the libraries do by themselves.

    floats    as in common_dtype
    compares  does it compare? then integers stay as they are, which is exact
    """
    dtypes = [o[0] if isinstance(o, tuple) else None for o in operands]
    if compares and any(_RANK[dtype.kind] < 2 for dtype in dtypes if dtype is not None):
        return None
    wanted = common_dtype(operands, floats)
    numbers = [o(1) for o in operands if not isinstance(o, tuple)]
    own = np.result_type(*[dtype for dtype in dtypes if dtype is not None], *numbers)
    if own == wanted and (not floats or own.kind == "f"):
        return None
    return tuple(None if dtype is None or dtype == wanted else wanted for dtype in dtypes)


# ---- devices ----------------------------------------------------------------------------------------------------


class _Default(threading.local):
    device: str | None = None


_default = _Default()
_process_default: str | None = None


def parse_device(device: str) -> str:
    """ "cpu", "gpu", "gpu:1" and their PyTorch names "cuda", "cuda:1" in one spelling; ValueError for anything else."""
    name, _, number = str(device).partition(":")
    name = "gpu" if name == "cuda" else name
    if name == "cpu" and not number:
        return "cpu"
    if name == "gpu" and (not number or number.isdecimal()):
        return f"gpu:{number or 0}"
    raise ValueError(f'device: must be "cpu", "gpu" or "gpu:N", got {device!r}')


def default_device() -> str:
    """Where new tensors go: the innermost `device` block, else `set_default_device`, else TINYGRAD_RNN_DEVICE."""
    if _default.device is not None:
        return _default.device
    if _process_default is None:
        set_default_device(os.environ.get("TINYGRAD_RNN_DEVICE") or "cpu")
    assert _process_default is not None
    return _process_default


def set_default_device(device: str) -> None:
    """Create new tensors on `device` ("cpu", "gpu" or "gpu:N") from now on. RuntimeError if it is not there."""
    global _process_default
    device = check_device(device)
    if device != "cpu":
        load_cupy().cuda.Device(_number(device)).use()
    _process_default = device


@contextmanager
def use_device(device: str) -> Iterator[None]:
    """Create new tensors on `device` inside the block (this thread only). RuntimeError if it is not there."""
    device, outer = check_device(device), _default.device
    _default.device = device
    try:
        if device == "cpu":
            yield
        else:
            with load_cupy().cuda.Device(_number(device)):
                yield
    finally:
        _default.device = outer


def check_device(device: str) -> str:
    """The device in one spelling, after making sure that it can be used."""
    device = parse_device(device)
    if device != "cpu":
        count = load_cupy().cuda.runtime.getDeviceCount()
        if _number(device) >= count:
            raise RuntimeError(f'device "{device}": this machine has {count} GPU(s), numbered from 0')
    return device


def _number(device: str) -> int:
    return int(device.partition(":")[2])


def load_cupy() -> ModuleType:
    """The module cupy, ready to compute; RuntimeError that says what is missing and what to do about it."""
    try:
        import cupy  # noqa: PLC0415
    except ImportError as error:
        if isinstance(error, ModuleNotFoundError) and error.name == "cupy":
            raise RuntimeError(f'device "gpu": CuPy is not installed; {_INSTALL}') from None
        raise RuntimeError(f'device "gpu": CUDA libraries are missing ({error}); {_INSTALL}') from error
    if not getattr(cupy, "_tinygrad_rnn_works", False):
        _try_cupy(cupy)
        cupy._tinygrad_rnn_works = True
    return cupy


def _try_cupy(cupy: ModuleType) -> None:
    """Compute something small, and tell the ways in which that fails apart."""
    runtime = cupy.cuda.runtime
    if not cupy.cuda.is_available():
        driver = _ask(runtime.driverGetVersion)
        needed = _ask(runtime.runtimeGetVersion)
        if driver and driver < needed:
            raise RuntimeError(
                f'device "gpu": the NVIDIA driver is too old (it serves CUDA {_version(driver)}, CuPy needs '
                f"{_version(needed)}); update the driver, or install the extra for its CUDA version"
            )
        raise RuntimeError(
            'device "gpu": no NVIDIA driver or no GPU on this machine; install the driver, or use device "cpu"'
        )
    try:
        a = cupy.ones((2, 2), np.float32)
        (a @ a + 1).sum().item()
    except Exception as error:  # whatever CuPy makes of a missing cuBLAS or NVRTC
        raise RuntimeError(
            f'device "gpu": CUDA libraries are missing or do not fit ({_first_line(error)}); {_INSTALL}'
        ) from error


def _ask(version: Any) -> int:
    try:
        return int(version())
    except Exception:  # no driver at all: CuPy raises an error class of its own
        return 0


def _version(number: int) -> str:
    return f"{number // 1000}.{number % 1000 // 10}"


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def same_device(arrays: Sequence[Array]) -> list[str]:
    """The devices that the arrays are on, each named once."""
    return list(dict.fromkeys(device_of(a) for a in arrays if is_array(a) and not isinstance(a, np.generic)))
