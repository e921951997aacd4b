"""Sums of arrays between GPUs, by NCCL, which CuPy brings the interface of."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from tinygrad_rnn.autograd.arrays import Array
from tinygrad_rnn.autograd.devices import load_cupy

INSTALL = "pip install nvidia-nccl-cu13 (or -cu12)"


class Nccl:
    """Sums between the GPUs of processes, one each. Nobody waits: they stand in line on a stream like any computation.

    first: tells all processes what a function returns in that of rank 0, as `World.first`
    """

    def __init__(self, rank: int, size: int, first: Callable[[Callable[[], Any]], Any]):
        load_cupy()
        try:
            from cupy.cuda import nccl  # noqa: PLC0415
        except ImportError as error:
            raise RuntimeError(f"parallel: sums between GPUs need NCCL ({error}); {INSTALL}") from None
        if not nccl.available:
            raise RuntimeError(f"parallel: sums between GPUs need NCCL, CuPy does not find it; {INSTALL}")
        self.nccl, self.communicator = nccl, nccl.NcclCommunicator(size, first(nccl.get_unique_id), rank)
        self.kinds = {np.dtype(np.float32): nccl.NCCL_FLOAT32, np.dtype(np.float64): nccl.NCCL_FLOAT64}

    def add_up(self, buffer: Array) -> None:
        """Σ over the processes, in place, on the current stream."""
        at = buffer.data.ptr
        self.communicator.allReduce(at, at, buffer.size, self.kinds[buffer.dtype], self.nccl.NCCL_SUM, _stream())

    def add_up_part(self, buffer: Array, part: Array) -> None:
        """Into `part` this process's part of the sum of a buffer."""
        kind = self.kinds[buffer.dtype]
        self.communicator.reduceScatter(
            buffer.data.ptr, part.data.ptr, part.size, kind, self.nccl.NCCL_SUM, _stream()
        )  # fmt: skip

    def gather(self, part: Array, whole: Array) -> None:
        """Into `whole` the parts of all processes, side by side."""
        self.communicator.allGather(part.data.ptr, whole.data.ptr, part.nbytes, self.nccl.NCCL_UINT8, _stream())

    def check(self) -> None:
        """RuntimeError if a sum has failed: errors come late."""
        error = self.communicator.check_async_error()
        if error:
            raise RuntimeError(f"parallel: NCCL failed in a sum between GPUs (error {error}); run with NCCL_DEBUG=INFO")


def _stream() -> int:
    return load_cupy().cuda.get_current_stream().ptr
