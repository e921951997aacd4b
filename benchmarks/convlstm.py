"""A convolutional LSTM beside loops in PyTorch, forward and backward with all gradients, float32.

python benchmarks/convlstm.py [ROUNDS [THREADS]]

T = 10 steps of B = 8 images of 16 × 16 or 32 × 32, a kernel of 3; C channels come in, H are kept. Two threads each.
The loops: two convolutions a step, one of x and one of h; one of both side by side; and that with channels last.
Values and gradients are compared before anything is timed.
"""

from __future__ import annotations

import os
import sys

from collections.abc import Callable
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", (*sys.argv[2:], "2")[0])

import numpy as np
import timing
import torch

from torch.nn.functional import conv2d

import tinygrad_rnn as tg

from tinygrad_rnn import nn, ops

SIZES = ((10, 8, 1, 16, 16), (10, 8, 1, 32, 16), (10, 8, 16, 32, 32))  # T, B, C, H, side
SLICE = 0.15  # seconds


class ConvLSTMCell(nn.Cell):
    """Shi et al. (2015), arXiv:1506.04214, without peepholes."""

    def __init__(self, W: np.ndarray, U: np.ndarray, b: np.ndarray, side: int):
        self.W, self.U, self.b, self.side = nn.Parameter(W), nn.Parameter(U), nn.Parameter(b), side

    def initial_state(self, batch_size: int) -> tuple:
        return (self.zeros(batch_size, len(self.b) // 4, self.side, self.side),) * 2

    def forward(self, x: Any, state: tuple) -> tuple:
        h, c = state
        a = ops.conv2d(x, self.W, self.b, padding=1) + ops.conv2d(h, self.U, padding=1)
        i, f, o, g = ops.chunk(a, 4, axis=1)
        c = ops.sigmoid(f) * c + ops.sigmoid(i) * ops.tanh(g)
        h = ops.sigmoid(o) * ops.tanh(c)
        return h, (h, c)


def problem(T: int, B: int, C: int, H: int, side: int) -> list[np.ndarray]:
    """xs, W, U and b."""
    rng = np.random.default_rng(0)
    shapes = (T, B, C, side, side), (4 * H, C, 3, 3), (4 * H, H, 3, 3), (4 * H,)
    return [rng.standard_normal(s).astype("f") / np.float32(1 if len(s) == 5 else 10) for s in shapes]


def ours(engine: str, xs: np.ndarray, *weights: np.ndarray) -> Callable[[], list]:
    layer, x = nn.Recurrent(ConvLSTMCell(*weights, xs.shape[-1]), engine=engine), tg.tensor(xs)

    def step() -> list:
        layer.zero_grad()
        ys, _ = layer(x)
        (ys * ys).sum().backward()
        return [ys.numpy(), *(p.grad.numpy() for p in layer.parameters())]

    return step


def loop(way: str, xs: np.ndarray, *weights: np.ndarray) -> Callable[[], list]:
    """The same in PyTorch."""
    form = torch.channels_last if way == "channels last" else torch.contiguous_format
    images = [torch.tensor(x).contiguous(memory_format=form) for x in xs]
    W, U, b = (torch.tensor(a, requires_grad=True) for a in weights)
    shape = xs.shape[1], len(b) // 4, *xs.shape[3:]

    def step() -> list:
        for p in (W, U, b):
            p.grad = None
        h = c = torch.zeros(shape).contiguous(memory_format=form)
        both, ys = torch.cat([W, U], 1).contiguous(memory_format=form), []
        for x in images:
            if way == "two convolutions":
                a = conv2d(x, W, b, padding=1) + conv2d(h, U, padding=1)
            else:
                a = conv2d(torch.cat([x, h], 1), both, b, padding=1)
            i, f, o, g = a.chunk(4, 1)
            c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
            h = torch.sigmoid(o) * torch.tanh(c)
            ys.append(h)
        y = torch.stack(ys)
        (y * y).sum().backward()
        return [y.detach().numpy(), *(p.grad.numpy() for p in (W, U, b))]

    return step


def main(rounds: int = 7) -> None:
    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    timing.print_header()
    for size in SIZES if rounds > 1 else SIZES[:1]:
        given = problem(*size)
        steps = {f"ours, {engine}": ours(engine, *given) for engine in ("llvm", "numpy", "eager")}
        loops = {f"PyTorch, {way}": loop(way, *given) for way in ("two convolutions", "side by side", "channels last")}
        expected = loop("two convolutions", *given)()
        for step in (*steps.values(), *loops.values()):
            for a, b in zip(step(), expected, strict=True):
                assert np.abs(a - b).max() <= 2e-4 * np.abs(b).max()
        times = timing.interleaved(steps | loops, rounds=rounds, slice_s=SLICE if rounds > 1 else 0.01)
        timing.print_times(f"(T, B, C, H, side) = {size}", times, "ours, llvm")
        best = timing.best(times, list(loops))
        print(f"  PyTorch's best time / ours: {times[best].median / times['ours, llvm'].median:.2f}")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:2]))
