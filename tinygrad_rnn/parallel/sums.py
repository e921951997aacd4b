"""Sums of arrays over the processes: at once, or in the background while a process computes on."""

from __future__ import annotations

import queue
import threading

from collections.abc import Callable
from functools import cached_property
from typing import Any, Protocol

import numpy as np

from tinygrad_rnn.autograd.arrays import Array
from tinygrad_rnn.autograd.devices import load_cupy
from tinygrad_rnn.parallel.nccl import Nccl


class Background(Protocol):
    """Sums that go on beside what a process computes, in the order in which they are begun: the same one everywhere."""

    def begin(self, buffer: Array) -> None:
        """Add up an array in place; nobody may write it, or read anything from it, before `wait`."""

    def wait(self) -> None:
        """All that were begun are done for whoever goes on after this."""


class Sums:
    """Σ over the processes: by MPI of arrays of NumPy, by NCCL of those on GPUs.

    connect: makes the connection between the GPUs; all processes must call it
    """

    def __init__(self, mpi: Any, connect: Callable[[], Nccl]):
        self.mpi, self.connect = mpi, connect
        self.comm = mpi.COMM_WORLD.Dup()
        self.rank, self.size = self.comm.rank, self.comm.size

    def add_up(self, buffer: Array) -> None:
        """In place."""
        if type(buffer) is np.ndarray:
            self.comm.Allreduce(self.mpi.IN_PLACE, buffer)
        else:
            self.nccl.add_up(buffer)

    def add_up_part(self, buffer: Array, part: Array) -> None:
        """Into `part` this process's part of the sum of a buffer, one of as many as there are processes."""
        if type(buffer) is np.ndarray:
            self.comm.Reduce_scatter_block(buffer, part)
        else:
            self.nccl.add_up_part(buffer, part)

    def gather(self, part: Array, whole: Array) -> None:
        """Into `whole` the parts of all processes, side by side. Both are of bytes."""
        if type(part) is np.ndarray:
            self.comm.Allgather(part, whole)
        else:
            self.nccl.gather(part, whole)

    @cached_property
    def nccl(self) -> Nccl:
        """The connection between GPUs."""
        return self.connect()

    def check(self) -> None:
        """RuntimeError if a sum between GPUs has failed: they say so late."""
        if "nccl" in vars(self):
            self.nccl.check()

    def background(self, device: str) -> Background | None:
        """For arrays on a device; None where an MPI does not let a second thread in."""
        if device != "cpu":
            return self._on_stream
        return self._in_thread if self.mpi.Query_thread() == self.mpi.THREAD_MULTIPLE else None

    @cached_property
    def _in_thread(self) -> Background:
        return InThread(Sums(self.mpi, self.connect).add_up)

    @cached_property
    def _on_stream(self) -> Background:
        return OnStream(self.nccl.add_up)


class InThread:
    """Sums of arrays of NumPy in a thread: an Allreduce lets Python go on meanwhile."""

    def __init__(self, add_up: Callable[[Array], None]):
        self.add_up, self.count = add_up, 0
        self.begun, self.done = queue.SimpleQueue[Any](), queue.SimpleQueue[Any]()
        threading.Thread(target=self._work, name="sums of gradients", daemon=True).start()

    def begin(self, buffer: Array) -> None:
        self.count += 1
        self.begun.put(buffer)

    def wait(self) -> None:
        errors = [self.done.get() for _ in range(self.count)]
        self.count = 0
        for error in errors:
            if error is not None:
                raise error

    def _work(self) -> None:
        while True:
            buffer = self.begun.get()
            try:
                self.add_up(buffer)
                self.done.put(None)
            except Exception as error:
                self.done.put(error)


class OnStream:
    """Sums of a GPU's arrays on a stream of their own: the host waits for nothing."""

    def __init__(self, add_up: Callable[[Array], None]):
        self.add_up, self.cuda = add_up, load_cupy().cuda
        self.stream = self.cuda.Stream(non_blocking=True)

    def begin(self, buffer: Array) -> None:
        self.stream.wait_event(self.cuda.get_current_stream().record())
        with self.stream:
            self.add_up(buffer)

    def wait(self) -> None:
        self.cuda.get_current_stream().wait_event(self.stream.record())
