"""Matrix products beside compiled layers.

BLAS has threads of its own, which after each product go on looking for work for tens of milliseconds, and so take the
processors from those that run a compiled layer: training was up to four times slower. Once such layers run, BLAS gets
one thread, and large products are shared out here. Who sets the number of BLAS's threads (OPENBLAS_NUM_THREADS, …) has
the last word.
"""

from __future__ import annotations

import os

from typing import Any

import numpy as np

LARGE = 1 << 24  # multiplications from which on a product is worth sharing out
SETTINGS = ("OPENBLAS_NUM_THREADS", "GOTO_NUM_THREADS", "MKL_NUM_THREADS", "BLIS_NUM_THREADS")


class Share:
    """Between how many threads products are shared out, and the others among these."""

    parts = 1
    others: Any = None


def share(parts: int) -> None:
    """From now on BLAS has one thread, and large products are computed in so many parts."""
    if parts < 2 or Share.others is not None or any(name in os.environ for name in SETTINGS):
        return
    try:
        from threadpoolctl import threadpool_limits  # noqa: PLC0415 (only where layers are compiled)
    except ImportError:
        return
    from concurrent.futures import ThreadPoolExecutor  # noqa: PLC0415

    threadpool_limits(1, user_api="blas")
    Share.parts, Share.others = parts, ThreadPoolExecutor(parts - 1, "tinygrad_rnn-product")


def product(a: Any, b: Any) -> Any:
    """a @ b."""
    if Share.others is None or a.ndim != 2 or b.ndim != 2 or not _is_large(a, b):
        return a @ b
    out = np.empty((a.shape[0], b.shape[1]), np.result_type(a, b))
    rows = a.shape[0] >= b.shape[1]
    cuts = [len(out if rows else out.T) * i // Share.parts for i in range(Share.parts + 1)]

    def part(i: int) -> None:
        piece = slice(cuts[i], cuts[i + 1])
        if rows:
            np.matmul(a[piece], b, out=out[piece])
        else:
            np.matmul(a, b[:, piece], out=out[:, piece])

    others = [Share.others.submit(part, i) for i in range(1, Share.parts)]
    part(0)
    for other in others:
        other.result()
    return out


def _is_large(a: Any, b: Any) -> bool:
    large = a.shape[0] * a.shape[1] * b.shape[-1] >= LARGE
    return large and type(a) is type(b) is np.ndarray and a.dtype.kind == b.dtype.kind == "f"


def _forget() -> None:
    """A forked process has none of the threads of its parent."""
    Share.others = None


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)
