"""Launches as CUDA graphs: one by one each costs the host several microseconds, a graph costs as much in all.

A graph knows the addresses that its kernels read and write. So what a call is given must be where it was: `Steady`.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any, NamedTuple

from tinygrad_rnn.autograd.arrays import Array, empty
from tinygrad_rnn.autograd.devices import load_cupy
from tinygrad_rnn.compiler.runtime.memory import address
from tinygrad_rnn.compiler.schedule.places import Buffer

KEPT = 1 << 16  # launches in the graphs of one program and direction: about a kilobyte each
FEW = 2  # launches that are no cheaper as a graph


class Fixed(NamedTuple):
    """Something done at a step that does nothing but launch: it can be in a CUDA graph.

    run       does it at a step
    where     the addresses that it was given: where they are the same, so is what it launches
    launches  how often
    """

    run: Callable[[int], Any]
    where: tuple[int, ...] = ()
    launches: int = 1


class Replays:
    """Runs what launches something: as it is the first time, from the second time on as a graph.

    Whatever is not loaded before it first runs is there when the graph is made.
    graphs  by what makes two runs the same, the graph and how many launches it replaces; None of what has run once
    """

    def __init__(self) -> None:
        self.graphs: dict[Hashable, tuple[Any, int]] = {}

    def run(self, key: Hashable, launches: int, launch: Callable[[], None]) -> None:
        """launch(), or the graph of what it launched."""
        if not FEW < launches <= KEPT:
            launch()
            return
        seen = key in self.graphs
        graph, _ = self.graphs.pop(key, (None, 0))
        if seen and graph is None:
            graph = cuda_graph(launch)
        self.graphs[key] = graph, launches  # the last one is that which was used last
        self._limit()
        launch() if graph is None else graph.launch()

    def _limit(self) -> None:
        """Forget those that were not used for longest."""
        while sum(n for _, n in self.graphs.values()) > KEPT:
            self.graphs.pop(next(iter(self.graphs)))


def cuda_graph(launch: Callable[[], None]) -> Any:
    """What a function launches, as a graph; nothing of it runs."""
    stream = load_cupy().cuda.Stream(non_blocking=True)
    with stream:
        stream.begin_capture()
        try:
            launch()
        finally:
            graph = stream.end_capture()
    return graph


class Steady:
    """Keeps what calls are given at one address: where it was at first, or in a copy, once it has been elsewhere."""

    def __init__(self, device: str):
        self.device = device
        self.at: dict[Buffer, int] = {}
        self.copies: dict[Buffer, Array] = {}

    def __call__(self, buffer: Buffer, given: Array) -> Array:
        """The array, or a copy of it; its rows lie next to each other."""
        if buffer not in self.copies:
            at = address(given)
            if given.flags.c_contiguous and self.at.setdefault(buffer, at) == at:
                return given
            self.copies[buffer] = empty(given.shape, given.dtype, self.device)
        self.copies[buffer][...] = given
        return self.copies[buffer]
