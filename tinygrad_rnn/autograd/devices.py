"""Devices: a string each, "cpu", "gpu:0", "gpu:1" …; the default of a thread; and why a GPU cannot be used.

CuPy is imported when somebody first asks for a GPU, and never before.
"""

from __future__ import annotations

import os
import threading

from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

import numpy as np

_INSTALL = 'pip install "tinygrad-rnn[cuda13]" (or [cuda12], for a driver of CUDA 12)'


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
        load_cupy().cuda.Device(device_number(device)).use()
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
            with load_cupy().cuda.Device(device_number(device)):
                yield
    finally:
        _default.device = outer


def check_device(device: str) -> str:
    """The device in one spelling, after making sure that it can be used."""
    device = parse_device(device)
    if device != "cpu":
        count = load_cupy().cuda.runtime.getDeviceCount()
        if device_number(device) >= count:
            raise RuntimeError(f'device "{device}": this machine has {count} GPU(s), numbered from 0')
    return device


def device_number(device: str) -> int:
    """The N of "gpu:N", as an integer."""
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
