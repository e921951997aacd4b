"""Matrix products beside compiled layers.

BLAS has threads of its own, which after each product go on looking for work for tens of milliseconds, and so take the
processors from those that run a compiled layer: training was up to four times slower. Once such layers run, BLAS gets
one thread, and large products go to the workers of the layers. Who sets the number of BLAS's threads
(OPENBLAS_NUM_THREADS, …) has the last word.
"""

from __future__ import annotations

import os

from collections.abc import Callable
from typing import Any

import numpy as np

LARGE = 1 << 21  # multiplications from which on a product is worth sharing out
SETTINGS = ("OPENBLAS_NUM_THREADS", "GOTO_NUM_THREADS", "MKL_NUM_THREADS", "BLIS_NUM_THREADS")
FLOATS = (np.dtype(np.float32), np.dtype(np.float64))  # of which machine code knows


class Shared:
    """The function that computes products of large matrices on several threads, once there is one.

    multiply  of two matrices of one dtype; None from it, or in its place, leaves the product to BLAS
    """

    multiply: Callable[[np.ndarray, np.ndarray], np.ndarray | None] | None = None


def share_products(multiply: Callable[[np.ndarray, np.ndarray], np.ndarray | None]) -> None:
    """Give BLAS one thread, and large products to a function; not where the user has set BLAS's threads."""
    if Shared.multiply is not None or any(name in os.environ for name in SETTINGS):
        return
    try:
        from threadpoolctl import threadpool_limits  # noqa: PLC0415 (only where layers are compiled)
    except ImportError:
        return
    threadpool_limits(1, user_api="blas")
    Shared.multiply = multiply


def matmul(a: Any, b: Any) -> Any:
    """a @ b; large matrices by the threads of compiled layers, once those run."""
    if Shared.multiply is not None and a.ndim == b.ndim == 2 and _is_large(a, b):
        found = Shared.multiply(a, b)
        if found is not None:
            return found
    return a @ b


def _is_large(a: Any, b: Any) -> bool:
    """Is it a product of matrices of one dtype that is worth sharing out?"""
    large = a.shape[0] * a.shape[1] * b.shape[1] >= LARGE and a.shape[1] == b.shape[0]
    return large and type(a) is type(b) is np.ndarray and a.dtype == b.dtype and a.dtype in FLOATS


def _forget() -> None:
    """A forked process has none of the threads of its parent."""
    Shared.multiply = None


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)
