"""A part of gpu.py: from which sizes on a linear recurrence is better run as a scan over time, in how many chunks."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from gpu_site import Site
from gpu_times import timed

import tinygrad_rnn as tg

from tinygrad_rnn import nn
from tinygrad_rnn.compiler.cuda import scan as scans

SIZES = ((1, 512), (16, 512), (32, 512), (64, 512), (64, 1024))  # B, H
STEPS = (64, 256, 1024, 4096)
IN_TURN = 0  # chunks: one step after the other


class Leak(nn.Cell):
    """h' = a h + x, and nothing else: both loops, and Σₜ of the gradient of a."""

    def __init__(self, H: int):
        super().__init__()
        self.input_size, self.a = H, nn.Parameter(np.random.default_rng(0).uniform(0.9, 1, H).astype(np.float32))

    def initial_state(self, batch_size: int) -> Any:
        return self.zeros(batch_size, self.input_size)

    def forward(self, x: Any, h: Any) -> Any:
        h = self.a * h + x
        return h, h


def scan(site: Site) -> None:
    """Microseconds of a call, forward and backward, in so many chunks."""
    for B, H in site.choose(SIZES, ((2, 8),)):
        for T in site.choose(STEPS, (16,)):
            site.attempt(f"{B}×{H}, {T} steps", scanned, site, B, H, T)


def scanned(site: Site, B: int, H: int, T: int) -> dict[str, Any]:
    """Times by chunks ("0": one step after the other), the best number of them, and the one that is taken."""
    competitors = {str(chunks): made(chunks, B, H, T) for chunks in (IN_TURN, 4, 8, 16, 32) if chunks <= T}
    times = timed(site, competitors)
    found = scans.Chunks([]).of([(B, H)], T)
    return {"both": times, "best": min(times, key=times.__getitem__), "present": str(found[1][1] if found else IN_TURN)}


def made(chunks: int, B: int, H: int, T: int) -> Callable[[], Any]:
    """A call, forward and backward, whose program was made for so many chunks."""
    xs = np.random.default_rng(0).standard_normal((T, B, H)).astype(np.float32)
    rnn, xs, gy = nn.Recurrent(Leak(H), engine="cuda"), tg.tensor(xs, requires_grad=True), tg.ones(T, B, H)

    def step() -> None:
        rnn.zero_grad()
        xs.grad = None
        rnn(xs)[0].backward(gy)

    with in_chunks(chunks, B * H):
        step()
    return step


@contextmanager
def in_chunks(chunks: int, elements: int) -> Iterator[None]:
    """Programs that are made within the block scan in so many chunks, whatever their sizes."""
    names = ("THREADS", "STEPS", "WORTH")
    before = {name: getattr(scans, name) for name in names}
    values = (1, 1, 2) if chunks == IN_TURN else (chunks * elements, 1, 1)
    for name, value in zip(names, values, strict=True):
        setattr(scans, name, value)
    try:
        yield
    finally:
        for name, value in before.items():
            setattr(scans, name, value)
