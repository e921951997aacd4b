"""nn.ctc_loss beside PyTorch's ctc_loss, forward and backward with log_softmax, float32, one core.

python benchmarks/ctc.py [ROUNDS]

T = 60 steps, B = 16, V = 27, targets of 3 to 14 labels, 35 to 60 steps of each; and (200, 32, 80) with 10 to 40 labels.
Losses and gradients are compared before anything is timed.
"""

from __future__ import annotations

import os
import sys

from collections.abc import Callable
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import timing
import torch

import tinygrad_rnn as tg

from tinygrad_rnn import nn, ops

SIZES = ((60, 16, 27, 3, 15), (200, 32, 80, 10, 41))


def problem(T: int, B: int, V: int, few: int, many: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Logits, targets one behind the other, the steps and the labels of each."""
    rng = np.random.default_rng(0)
    labels = rng.integers(few, many, B)
    return (
        rng.standard_normal((T, B, V)).astype("f"),
        rng.integers(1, V, labels.sum()),
        rng.integers(T * 3 // 5, T + 1, B),
        labels,
    )


def ours(logits: np.ndarray, *given: Any) -> Callable[[], tuple]:
    def step() -> tuple:
        x = tg.tensor(logits, requires_grad=True)
        loss = nn.ctc_loss(ops.log_softmax(x), *given)
        loss.backward()
        return loss.item(), x.grad.numpy()

    return step


def pytorch(logits: np.ndarray, *given: Any) -> Callable[[], tuple]:
    tensors = [torch.tensor(a) for a in given]

    def step() -> tuple:
        x = torch.tensor(logits, requires_grad=True)
        loss = torch.nn.functional.ctc_loss(x.log_softmax(-1), *tensors)
        loss.backward()
        return loss.item(), x.grad.numpy()

    return step


def main(rounds: int = 15) -> None:
    torch.set_num_threads(1)
    print(timing.cpu_model())
    for size in SIZES:
        given = problem(*size)
        steps = {"ours": ours(*given), "PyTorch": pytorch(*given)}
        (a, da), (b, db) = (step() for step in steps.values())
        assert abs(a / b - 1) < 1e-5 and np.abs(da - db).max() < 1e-5
        times = timing.interleaved(steps, rounds=rounds, slice_s=0.1)
        print(f"{size[:3]}: PyTorch's time / ours {times['PyTorch'].median / times['ours'].median:.2f}")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
