"""The processes that a launcher of MPI started, as one of them sees them."""

from __future__ import annotations

import zlib

from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from typing import Any

import numpy as np

from tinygrad_rnn.autograd.arrays import Array, move, to_numpy, xp
from tinygrad_rnn.autograd.devices import parse_device
from tinygrad_rnn.autograd.tensor import Parameter, Tensor
from tinygrad_rnn.parallel import processors
from tinygrad_rnn.parallel.buckets import Bucket
from tinygrad_rnn.parallel.failures import Failures
from tinygrad_rnn.parallel.gradients import GradientSums
from tinygrad_rnn.parallel.nccl import Nccl
from tinygrad_rnn.parallel.sums import Sums
from tinygrad_rnn.parallel.waiting import Waiting
from tinygrad_rnn.parallel.world import Failed, Rows, World


class Processes(World):
    """One of several. All communicators are its own: nothing that a user sends gets in between.

    mpi: the module mpi4py.MPI
    """

    def __init__(self, mpi: Any):
        self.mpi, self.comm = mpi, mpi.COMM_WORLD.Dup()
        node = mpi.COMM_WORLD.Split_type(mpi.COMM_TYPE_SHARED)
        self.rank, self.size, self.local_rank, self.local_size = self.comm.rank, self.comm.size, node.rank, node.size
        self.waiting, self.failures = Waiting(mpi, self.comm.Dup()), Failures(mpi, self.comm.Dup())
        self.gradients = GradientSums(self._summed, Sums(mpi, lambda: Nccl(self.rank, self.size, self.first)))
        processors.share(node)
        self.failures.watch()

    def first(self, function: Callable[[], Any]) -> Any:
        found, error = None, None
        if self.rank == 0:
            try:
                found = function()
            except Exception as caught:
                error = caught
        self._meet()
        found, failed = self.comm.bcast((found, error is not None))
        if error is not None:
            raise error
        if failed:
            raise Failed("parallel: the process of rank 0 failed")
        return found

    def total(self, *numbers: float) -> list[float]:
        return self._summed(np.array(numbers, np.float64)).tolist()

    def joined(self, arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
        self._meet()
        parts = self.comm.gather(list(arrays))
        return [np.concatenate(each) for each in zip(*parts, strict=True)] if self.rank == 0 else []

    def broadcast(self, tensors: Iterable[Tensor]) -> None:
        self._meet()
        for t in tensors:
            array = np.array(to_numpy(t.array), order="C")
            self.comm.Bcast(_bytes(array))
            t.array = move(array, t.device)

    def same(self, tensors: Iterable[Tensor]) -> bool:
        self.gradients.sums.check()
        digest = 0
        for t in tensors:
            digest = zlib.crc32(_bytes(np.ascontiguousarray(to_numpy(t.array))), digest)
        ends = np.array([digest, -digest], np.int64)
        self._meet()
        self.comm.Allreduce(self.mpi.IN_PLACE, ends, self.mpi.MAX)
        return bool(ends[0] == -ends[1])

    def all_reduce(
        self, parameters: Iterable[Parameter], *numbers: Any, rows: Rows | None = None,
        error: BaseException | None = None,
    ) -> list[Any]:  # fmt: skip
        return self.gradients.all_reduce(list(parameters), numbers, rows or {}, error)

    def overlapping(self, parameters: Iterable[Parameter], rows: Rows | None = None) -> AbstractContextManager[None]:
        return self.gradients.overlapping(list(parameters), rows or {})

    def reduce_scatter(
        self, shared: Sequence[Bucket], *numbers: Any, rows: Rows | None = None, error: BaseException | None = None
    ) -> tuple[list[Array], set[int], list[Any]]:
        return self.gradients.reduce_scatter(shared, numbers, rows or {}, error)

    def all_gather(self, part: Array) -> Array:
        whole = xp(part).empty(self.size * part.size, part.dtype)
        self.gradients.sums.gather(part.view(np.uint8), whole.view(np.uint8))
        return whole

    def device(self, name: str) -> str:
        if parse_device(name) == "cpu":
            return "cpu"
        if ":" not in name:
            return f"gpu:{self.local_rank}"
        if self.local_size > 1:
            raise ValueError(
                f'--device: {name!r} is one GPU for the {self.local_size} processes of this machine; "gpu" gives each '
                "its own"
            )
        return name

    def fails(self, error: BaseException, line: str, say: Callable[[str], None]) -> None:
        self.failures.tell(error, line, say)

    def _meet(self) -> None:
        """Until all have come here."""
        self.waiting.wait(self.comm.Ibarrier())

    def _summed(self, numbers: np.ndarray) -> np.ndarray:
        """Σ over the processes, in place, of a few numbers."""
        self.waiting.wait(self.comm.Iallreduce(self.mpi.IN_PLACE, numbers))
        return numbers


def _bytes(array: np.ndarray) -> Any:
    """The memory of a contiguous array: MPI knows not all of NumPy's dtypes."""
    return array.reshape(-1).view(np.uint8)
