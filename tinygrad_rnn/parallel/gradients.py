"""What the processes tell one another in each step of training: their gradients, and a few numbers."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from tinygrad_rnn.autograd.arrays import Array, xp
from tinygrad_rnn.autograd.graph import context
from tinygrad_rnn.autograd.tensor import Parameter, Tensor
from tinygrad_rnn.parallel.buckets import AnyBucket, Bucket, Buckets, RowsBucket
from tinygrad_rnn.parallel.overlap import Overlap
from tinygrad_rnn.parallel.sums import Background, Sums
from tinygrad_rnn.parallel.world import Failed, Rows


class GradientSums:
    """The sums of a step: first of a few numbers of the host, which all come to; then of the gradients.

    tell: adds up numbers of the host over all processes, in place, and waits for them
    """

    def __init__(self, tell: Callable[[np.ndarray], np.ndarray], sums: Sums):
        self.tell, self.sums = tell, sums
        self.buckets: Buckets | None = None
        self.begun: tuple[Overlap, Background] | None = None

    def all_reduce(
        self, parameters: Sequence[Parameter], numbers: Sequence[Any], rows: Rows, error: BaseException | None
    ) -> list[Any]:
        """See `World.all_reduce`."""
        begun, self.begun = self.begun, None
        buckets: Sequence[AnyBucket] = []
        has, summed = self._told(parameters, numbers, error)
        if begun is None:
            if summed is not None:
                buckets = self._in_buckets(parameters, rows)
                for bucket in buckets:
                    bucket.fill()
                    self.sums.add_up(bucket.buffer)
        else:  # also after a failure: the others have begun as many
            buckets = begun[0].buckets
            begun[1].wait()
        if error is not None:
            raise error
        if summed is None:
            raise Failed("parallel: another process failed")
        _hand_out(buckets, has)
        return self._with_tensors(numbers, summed)

    def reduce_scatter(
        self, shared: Sequence[Bucket], numbers: Sequence[Any], rows: Rows, error: BaseException | None
    ) -> tuple[list[Array], set[int], list[Any]]:
        """The same, but that each process gets the sums of its own part of each bucket.

        shared: buckets of as many parts as there are processes
        returns: the part of each; the ids of the parameters that have a gradient; and the sums of the numbers
        """
        has, summed = self._told([p for bucket in shared for p in bucket.parameters], numbers, error)
        if error is not None:
            raise error
        if summed is None:
            raise Failed("parallel: another process failed")
        by_rows = {id(p): ids for p, ids in rows.items()}
        return [self._part(bucket, by_rows, has) for bucket in shared], has, self._with_tensors(numbers, summed)

    def _part(self, bucket: Bucket, by_rows: dict[int, np.ndarray], has: set[int]) -> Array:
        """This process's part of the sum of a bucket. The rows of an embedding, which is alone in one, go to all."""
        (first, *more), rank, n = bucket.parameters, self.sums.rank, len(bucket.buffer) // self.sums.size
        if not more and id(first) in by_rows:
            rows = RowsBucket(first, by_rows[id(first)])
            rows.fill()
            self.sums.add_up(rows.buffer)
            _hand_out([rows], has)
            bucket.fill()
            return bucket.buffer[rank * n : (rank + 1) * n]
        bucket.fill()
        part = xp(bucket.buffer).empty(n, bucket.buffer.dtype)
        self.sums.add_up_part(bucket.buffer, part)
        return part

    @contextmanager
    def overlapping(self, parameters: Sequence[Parameter], rows: Rows) -> Iterator[None]:
        """See `World.overlapping`."""
        background = self.sums.background(parameters[0].device)
        if background is None:
            yield
            return
        overlap = Overlap(self._in_buckets(parameters, rows), background.begin)
        self.begun = overlap, background
        failed, context.early = True, True
        overlap.watch()
        try:
            yield
            failed = False
        finally:
            context.early = False
            overlap.finish(failed)

    def _told(
        self, parameters: Sequence[Parameter], numbers: Sequence[Any], error: BaseException | None
    ) -> tuple[set[int], list[float] | None]:
        """Of which parameters there is a gradient, by their ids; the sums of numbers, or None where somebody failed."""
        n = len(parameters)
        told = np.zeros(n + len(numbers) + 1)
        if error is None:
            told[:n] = [p.grad is not None for p in parameters]
            told[n:-1] = [0.0 if _on_gpu(x) else float(x) for x in numbers]
        else:
            told[-1] = 1
        *counts, failed = self.tell(told).tolist()
        has = {id(p) for p, count in zip(parameters, counts[:n], strict=True) if count}
        return has, None if failed else counts[n:]

    def _with_tensors(self, numbers: Sequence[Any], summed: list[float]) -> list[Any]:
        """The sums as what the numbers were. Those of a GPU are only added up now, there, and nobody waits for them."""
        found: list[Any] = [
            Tensor(np.array(s, x.dtype)) if isinstance(x, Tensor) else s for x, s in zip(numbers, summed, strict=True)
        ]
        there = [i for i, x in enumerate(numbers) if _on_gpu(x)]
        if there:
            arrays = [numbers[i].array.astype(np.float64) for i in there]
            together = xp(arrays[0]).stack(arrays)
            self.sums.add_up(together)
            for i, s in zip(there, together, strict=True):
                found[i] = Tensor(s.astype(numbers[i].dtype))
        return found

    def _in_buckets(self, parameters: Sequence[Parameter], rows: Rows) -> list[AnyBucket]:
        """All gradients in buckets; those of which only rows travel come last, as do those of embeddings."""
        by_rows = {id(p): ids for p, ids in rows.items()}
        whole = [p for p in parameters if id(p) not in by_rows]
        if self.buckets is None or not self.buckets.fit(whole):
            self.buckets = Buckets(whole)
        return [*self.buckets.buckets, *(RowsBucket(p, by_rows[id(p)]) for p in parameters if id(p) in by_rows)]


def _hand_out(buckets: Sequence[AnyBucket], has: set[int]) -> None:
    """The sums as gradients of the parameters, of those that have one."""
    for bucket in buckets:
        for i, p in enumerate(bucket.parameters):
            p.grad = bucket.gradient(i) if id(p) in has else None


def _on_gpu(number: Any) -> bool:
    return isinstance(number, Tensor) and number.device != "cpu"
