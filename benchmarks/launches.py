"""Launches a time step on a GPU, forward and backward, step by step and compiled: counted without one.

python benchmarks/launches.py

On the tests' stand-in for CuPy, which counts as CuPy launches; kernels run through g++. Behind +, what a call launches
whatever the number of its steps. The host waits for nothing and copies nothing: both are counted too.
"""

from __future__ import annotations

import sys

from collections.abc import Callable
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

import strict_cupy

sys.modules.update(strict_cupy.modules())

import tinygrad_rnn as tg  # noqa: E402

from tinygrad_rnn import nn  # noqa: E402
from tinygrad_rnn.compiler.cuda import graphs  # noqa: E402

graphs.KEPT = 0  # each launch by itself: as a CUDA graph they are one a direction
B, I, H = 4, 8, 16
FEW, MANY = 8, 16  # steps
CELLS: dict[str, Callable[[], nn.Cell]] = {
    "RNN": lambda: nn.RNNCell(I, H),
    "LSTM": lambda: nn.LSTMCell(I, H),
    "GRU, reset before": lambda: nn.GRUCell(I, H),
    "GRU, reset after": lambda: nn.GRUCell(I, H, reset="after"),
    "minimal gated unit": lambda: nn.MGUCell(I, H),
    "peephole LSTM": lambda: nn.PeepholeLSTMCell(I, H),
    "layer-norm LSTM": lambda: nn.LayerNormLSTMCell(I, H),
    "IndRNN": lambda: nn.IndRNNCell(I, H),
}


def launches(rnn: nn.Recurrent, steps: int) -> np.ndarray:
    """Of a second call, forward and backward."""
    xs = tg.tensor(np.zeros((steps, B, I), np.float32), requires_grad=True)
    for _ in range(2):
        with strict_cupy.counted() as forward:
            ys, _ = rnn(xs)
        dys = tg.ones(*ys.shape)
        with strict_cupy.counted() as backward:
            ys.backward(dys)
    waits = [counts.syncs + counts.copies for counts in (forward, backward)]
    assert waits == [0, 0], (forward, backward)
    return np.array([forward.launches, backward.launches])


def said(cell: nn.Cell, engine: str) -> str:
    few, many = (launches(nn.Recurrent(cell, engine=engine), steps) for steps in (FEW, MANY))
    each = (many - few) / (MANY - FEW)
    once = few - FEW * each
    return " | ".join(f"{e:.3g} (+{o:.0f})" for e, o in zip(each, once, strict=True))


def main() -> None:
    print("| a step | eager, forward | backward | cuda, forward | backward |\n|---|---|---|---|---|")
    with tg.device("gpu"):
        for name, make in CELLS.items():
            print(f"| {name} | {said(make(), 'eager')} | {said(make(), 'cuda')} |")


if __name__ == "__main__":
    main()
