"""An optimiser whose work and memory several processes share."""

from __future__ import annotations

import copy
import math

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from tinygrad_rnn import parallel
from tinygrad_rnn.autograd.arrays import Array, full, to_numpy
from tinygrad_rnn.autograd.tensor import Parameter, Tensor
from tinygrad_rnn.optim.clip import clip_grad_norm_
from tinygrad_rnn.optim.optimizers import Optimizer
from tinygrad_rnn.parallel.buckets import Buckets
from tinygrad_rnn.parallel.world import Rows, World


class Segment(NamedTuple):
    """The elements of a parameter, from `first` to before `last`, that a process updates.

    number, whole: the parameter, and its number in the optimiser  parameter: its elements, as one of their own
    bucket, at: which bucket they are in, and where in this process's part of it
    """

    number: int
    whole: Parameter
    first: int
    last: int
    parameter: Parameter
    bucket: int
    at: int


class ZeroRedundancyOptimizer:
    """Each of n processes updates an n-th of all parameters, and keeps the optimiser's arrays of that n-th alone.

    Gradients are summed so that each process gets its own part (reduce-scatter), which it updates; then all get the new
    values (all-gather): as many bytes as one sum for all. Rajbhandari et al. (2020), arXiv:1910.02054, stage 1; the
    name is PyTorch's. It does what `optimizer` does, to rounding. One process alone does all of it.

        optimizer = optim.ZeroRedundancyOptimizer(optim.Adam(model.parameters(), 1e-3))
        (loss / n).backward()
        (nats,) = optimizer.all_reduce(loss.item())      # in place of world.all_reduce(parameters, …)
        optimizer.clip_grad_norm_(1.0)                   # in place of optim.clip_grad_norm_
        optimizer.step()
        optimizer.zero_grad()

    optimizer: a new one, elementwise as all of `tinygrad_rnn.optim` are; it is used no more
    All processes call `all_reduce`, `clip_grad_norm_`, `step`, `state_dict` and `load_state_dict`.
    """

    def __init__(self, optimizer: Optimizer, world: World | None = None):
        if optimizer.steps or not optimizer.formula or type(optimizer).update is not Optimizer.update:
            raise ValueError(
                "ZeroRedundancyOptimizer: must get a new optimizer that has a formula, elementwise as those of optim, "
                f"got {type(optimizer).__name__} of {optimizer.steps} steps"
            )
        self.world = world or parallel.world()
        self.parameters, self.counts = optimizer.parameters, optimizer.counts
        self.buckets = Buckets(self.parameters, self.world.size).buckets
        self.segments = self._segments()
        self.inner = copy.copy(optimizer)
        self.inner.parameters = [s.parameter for s in self.segments]
        self.inner.counts, self.inner.states = [0] * len(self.segments), [{} for _ in self.segments]
        self.inner.group_of = [optimizer.group_of[s.number] for s in self.segments]
        self.memories = [optimizer.in_group(group).memory for group in optimizer.group_of]
        self.has: set[int] = set()
        self.values: dict[int, Array] = {}  # of each parameter, by its id, as they were last set here

    def _segments(self) -> list[Segment]:
        """What this process updates: its part of each bucket."""
        numbers = {id(p): i for i, p in enumerate(self.parameters)}
        found = []
        for i, bucket in enumerate(self.buckets):
            mine = self.world.part(len(bucket.buffer))
            for p, start in zip(bucket.parameters, bucket.starts, strict=True):
                first, last = max(mine.start - start, 0), min(mine.stop - start, p.size)
                if first < last:
                    own = Parameter(Tensor(p.array.reshape(-1)[first:last]))
                    found.append(Segment(numbers[id(p)], p, first, last, own, i, start + first - mine.start))
        return found

    @property
    def lr(self) -> float:
        """As in `Optimizer`."""
        return self.inner.lr

    @property
    def steps(self) -> int:
        """As in `Optimizer`."""
        return self.inner.steps

    def all_reduce(self, *numbers: Any, rows: Rows | None = None, error: BaseException | None = None) -> list[Any]:
        """As `World.all_reduce` of all parameters. Their `grad` is not the sum afterwards: nobody has all of it."""
        parts, self.has, found = self.world.reduce_scatter(self.buckets, *numbers, rows=rows, error=error)
        for s in self.segments:
            g = parts[s.bucket][s.at : s.at + s.last - s.first].astype(s.whole.dtype, copy=False)
            s.parameter.grad = Tensor(g) if id(s.whole) in self.has else None
        return found

    def clip_grad_norm_(self, max_norm: float) -> float:
        """As `optim.clip_grad_norm_` of all parameters; returns their norm before. On a GPU the host waits for it."""
        mine = [s.parameter for s in self.segments if s.parameter.grad is not None]
        norm = math.sqrt(self.world.total(clip_grad_norm_(mine, math.inf).item() ** 2)[0])
        factor = max_norm / (norm + 1e-6)
        for p in mine if not factor >= 1 else ():
            p.grad = Tensor(p.grad.array * p.dtype.type(factor))  # type: ignore[union-attr]
        return norm

    def step(self) -> None:
        """Update every parameter that has a gradient; call it after `all_reduce`, and `zero_grad` after it."""
        for s in self.segments:
            if self.values.get(id(s.whole)) is not s.whole.array:
                s.parameter.array = s.whole.array.reshape(-1)[s.first : s.last]
        self.counts = [n + (id(p) in self.has) for n, p in zip(self.counts, self.parameters, strict=True)]
        self.inner.step()
        for i, bucket in enumerate(self.buckets):
            new = self.world.all_gather(self._new_values(i))
            for p, start in zip(bucket.parameters, bucket.starts, strict=True):
                if id(p) in self.has:
                    p.array = self.values[id(p)] = new[start : start + p.size].reshape(p.shape)

    def _new_values(self, i: int) -> Array:
        """This process's part of the new values of a bucket's parameters."""
        bucket = self.buckets[i]
        first = bucket.parameters[0]
        new = full((len(bucket.buffer) // self.world.size,), 0, first.dtype, first.device)
        for s in self.segments:
            if s.bucket == i:
                new[s.at : s.at + s.last - s.first] = s.parameter.array
        return new

    def zero_grad(self) -> None:
        """As in `Optimizer`."""
        for p in (*self.parameters, *self.inner.parameters):
            p.grad = None

    def state_dict(self) -> dict[str, np.ndarray]:
        """At rank 0 that of the optimiser itself, from which it, or any number of processes, can go on."""
        states = {s.number: state for s, state in zip(self.segments, self.inner.states, strict=True)}
        names = [(i, k) for i, memory in enumerate(self.memories) for k in memory]
        empty = [np.empty(0, p.dtype) for p in self.parameters]
        whole = self.world.joined([to_numpy(states.get(i, {}).get(k, empty[i])) for i, k in names])
        found = {"steps": np.array(self.steps), "counts": np.array(self.counts, np.int64)}
        pairs = zip(names, whole, strict=True) if whole else ()
        return {**found, **{f"{i}.{k}": a.reshape(self.parameters[i].shape) for (i, k), a in pairs if self.counts[i]}}

    def load_state_dict(self, values: Mapping[str, np.ndarray]) -> None:
        """As in `Optimizer`: what `state_dict` returned at rank 0, in every process."""
        mine = {k: v for k, v in values.items() if "." not in k}
        if "counts" in mine:
            self.counts = [int(n) for n in mine["counts"]]
            mine["counts"] = np.array([self.counts[s.number] for s in self.segments], np.int64)
        for j, s in enumerate(self.segments):
            for k in self.memories[s.number]:
                if f"{s.number}.{k}" in values:
                    mine[f"{j}.{k}"] = values[f"{s.number}.{k}"].reshape(-1)[s.first : s.last]
        self.inner.load_state_dict(mine)
