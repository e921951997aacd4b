"""Gradients summed while the backward pass goes on: each bucket as soon as all of its gradients are complete."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from tinygrad_rnn.autograd.arrays import Array
from tinygrad_rnn.autograd.tensor import Tensor
from tinygrad_rnn.parallel.buckets import AnyBucket


class Overlap:
    """The sums of one backward pass.

    Buckets are begun in their order, the same one in all processes: one that is full early waits for those before it.
    """

    def __init__(self, buckets: Sequence[AnyBucket], begin: Callable[[Array], Any]):
        self.buckets, self.begin = buckets, begin
        self.next = 0
        self.missing = [set(range(len(b.parameters))) for b in buckets]
        self.removes: list[Callable[[], None]] = []

    def watch(self) -> None:
        """Take each gradient when it is complete, from now on."""
        for number, bucket in enumerate(self.buckets):
            for i, p in enumerate(bucket.parameters):
                if p.requires_grad:
                    self.removes.append(p.register_hook(self._taker(number, i)))
                else:
                    self._put(number, i, None)

    def _taker(self, number: int, i: int) -> Callable[[Tensor], None]:
        def take(g: Tensor) -> None:
            if i not in self.missing[number]:
                raise RuntimeError(
                    "overlapping: only the last backward pass before all_reduce may stand in the block, got a second "
                    "one; run those before it outside"
                )
            before = self.buckets[number].parameters[i].grad  # of the passes before, if there were any
            self._put(number, i, g.array if before is None else before.array + g.array)
            self._begin_full()

        return take

    def _put(self, number: int, i: int, g: Array | None) -> None:
        self.buckets[number].put(i, g)
        self.missing[number].discard(i)

    def _begin_full(self) -> None:
        while self.next < len(self.buckets) and not self.missing[self.next]:
            self.begin(self.buckets[self.next].buffer)
            self.next += 1

    def finish(self, failed: bool) -> None:
        """No gradient comes any more: begin what is left, with zeros where this process has nothing to add."""
        for remove in self.removes:
            remove()
        for number, bucket in enumerate(self.buckets):
            for i in sorted(self.missing[number]):
                g = bucket.parameters[i].grad
                self._put(number, i, None if failed or g is None else g.array)
        self._begin_full()
