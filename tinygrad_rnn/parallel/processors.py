"""A share of a machine's processors for each of its processes.

Compiled layers and BLAS have threads, which wait for work by looking out for it. More of them than processors made a
step six times as long; and so did a BLAS that kept two threads in a process of one processor.
"""

from __future__ import annotations

import os

from typing import Any

from tinygrad_rnn.autograd import blas


def share(node: Any) -> None:
    """Give this process its share of the processors that it may run on. node: the communicator of its machine

    A process that its launcher has bound to some keeps these. OMP_NUM_THREADS, and what sets BLAS's threads, go before.
    """
    mine = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set(range(os.cpu_count() or 1))
    crowd = sum(other == mine for other in node.allgather(mine))
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, len(mine) // crowd)))
    limit = os.environ["OMP_NUM_THREADS"].partition(",")[0]
    if not limit.isdecimal() or any(name in os.environ for name in blas.SETTINGS):
        return
    try:
        from threadpoolctl import threadpool_limits  # noqa: PLC0415 (only for several processes)
    except ImportError:
        return
    threadpool_limits(max(1, int(limit)), user_api="blas")
