"""The processes of a run, as each of them sees them; here: one alone."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np

from tinygrad_rnn.autograd.arrays import Array
from tinygrad_rnn.autograd.tensor import Parameter, Tensor
from tinygrad_rnn.parallel.buckets import Bucket

Rows = Mapping[Parameter, np.ndarray]


class Failed(RuntimeError):
    """Another process failed, and says so itself."""


class World:
    """The processes of a run, of which this is one. This class: a process alone, which has nothing to add up.

    rank of size: this process, and how many there are; local_rank of local_size: of those on this machine
    Every method but `part`, `device` and `fails` must be called by all processes, in the same order.
    """

    rank, size, local_rank, local_size = 0, 1, 0, 1

    def part(self, n: int) -> slice:
        """This process's part of n things. Parts differ by one at most, and follow one another by rank.

        >>> World().part(10)
        slice(0, 10, None)
        """
        return slice(n * self.rank // self.size, n * (self.rank + 1) // self.size)

    def first(self, function: Callable[[], Any]) -> Any:
        """What a function returns in the process of rank 0, which alone calls it: for what reads or writes files.

        If it raises, that error is raised there, and `Failed` in all others.
        """
        return function()

    def total(self, *numbers: float) -> list[float]:
        """Each number, added up over all processes in float64."""
        return [float(n) for n in numbers]

    def joined(self, arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
        """At rank 0 each array with those of the other processes behind it, along the first axis; elsewhere []."""
        return list(arrays)

    def broadcast(self, tensors: Iterable[Tensor]) -> None:
        """Give tensors the values that they have at rank 0. Call it once the model is made."""

    def all_reduce(
        self, parameters: Iterable[Parameter], *numbers: Any, rows: Rows | None = None,
        error: BaseException | None = None,
    ) -> list[Any]:  # fmt: skip
        """Add up the gradients of parameters over all processes, in place; and numbers, which are returned.

        parameters: the same ones in each process, in the same order. One of which no process has a gradient keeps none
        numbers: floats, returned as floats; and tensors without axes, returned as such: on a GPU nobody waits for them
        rows: the rows of a parameter that can have a gradient in any of the processes, as sorted integers, the same in
        each: only these travel. {embedding.E: np.unique(ids)}, where ids are those of the whole batch
        error: why this process has nothing to add; raised again here, and told in the others, which raise `Failed`

        The gradients are views of memory that the next call uses again. What is summed has at least float32.
        """
        if error is not None:
            raise error
        return list(numbers)

    def overlapping(self, parameters: Iterable[Parameter], rows: Rows | None = None) -> AbstractContextManager[None]:
        """Begin to add up each gradient within the block as soon as it is complete; `all_reduce` then awaits the rest.

        In the block stands the last backward pass before `all_reduce`, which gets the same parameters and rows. Every
        process enters it, also one that has nothing to learn from. Worth it between machines, from some MB on.
        """
        return nullcontext()

    def reduce_scatter(
        self, shared: Sequence[Bucket], *numbers: Any, rows: Rows | None = None, error: BaseException | None = None
    ) -> tuple[list[Array], set[int], list[Any]]:
        """As `all_reduce`, but that each process gets the sums of its own part: see `optim.ZeroRedundancyOptimizer`.

        shared: buckets of gradients, of as many parts as there are processes
        returns: this process's part of the sum of each; the ids of the parameters that have a gradient; the numbers
        """
        if error is not None:
            raise error
        for bucket in shared:
            bucket.fill()
        parameters = [p for bucket in shared for p in bucket.parameters]
        return [b.buffer for b in shared], {id(p) for p in parameters if p.grad is not None}, list(numbers)

    def all_gather(self, part: Array) -> Array:
        """The arrays of all processes, of one size, one behind the other."""
        return part

    def same(self, tensors: Iterable[Tensor]) -> bool:
        """Are the values of these tensors, bit for bit, the same in all processes?"""
        return True

    def device(self, name: str) -> str:
        """The device of this process: "gpu" is another one for each process of a machine.

        ValueError for one that several processes would share ("gpu:0").
        """
        return name

    def fails(self, error: BaseException, line: str, say: Callable[[str], None]) -> None:
        """Say a line about an error: once, if all processes have failed. If not, end the others: they would wait."""
        say(line)
