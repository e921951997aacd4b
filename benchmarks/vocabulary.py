"""nn.linear_cross_entropy beside PyTorch's nn.Linear and cross_entropy: time and memory, forward and backward.

python benchmarks/vocabulary.py [ROUNDS]

4,096 positions (T·B), H = 256, float32; the memory is what the process grows by at most in one such step, each in a
process of its own. Losses and gradients are compared before anything is timed.
"""

from __future__ import annotations

import subprocess
import sys

from collections.abc import Callable
from pathlib import Path

import numpy as np
import timing
import torch

import tinygrad_rnn as tg

from tinygrad_rnn import nn

POSITIONS, H, SIZES = 4096, 256, (10_000, 50_000)


def problem(V: int) -> tuple[list[np.ndarray], np.ndarray]:
    rng = np.random.default_rng(0)
    arrays = [(0.05 * rng.normal(size=s)).astype("f") for s in ((POSITIONS, H), (H, V), (V,))]
    return arrays, rng.integers(0, V, POSITIONS)


def ours(V: int) -> Callable[[], list]:
    arrays, targets = problem(V)
    tensors = [tg.tensor(a, requires_grad=True) for a in arrays]

    def step() -> list:
        for t in tensors:
            t.grad = None
        loss = nn.linear_cross_entropy(*tensors, targets)
        loss.backward()
        return [loss.item(), *(t.grad.numpy() for t in tensors)]

    return step


def pytorch(V: int) -> Callable[[], list]:
    (ys, W, b), targets = problem(V)
    linear, given, ids = torch.nn.Linear(H, V), torch.tensor(ys, requires_grad=True), torch.tensor(targets)
    linear.weight.data, linear.bias.data = torch.tensor(W.T.copy()), torch.tensor(b)

    def step() -> list:
        given.grad = None
        linear.zero_grad()
        loss = torch.nn.functional.cross_entropy(linear(given), ids)
        loss.backward()
        return [loss.item(), given.grad.numpy(), linear.weight.grad.numpy().T, linear.bias.grad.numpy()]

    return step


WAYS = {"tinygrad_rnn": ours, "PyTorch": pytorch}


def growth(name: str, V: int) -> int:
    """Bytes by which this process grows at most in a step. Linux only."""
    step = WAYS[name](V)
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins here
    before = peak()
    step()
    return peak() - before


def peak() -> int:
    """The most memory that this process has had, in bytes."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) * 1024


def main(rounds: int = 15) -> None:
    timing.print_header()
    for V in SIZES:
        steps = {name: way(V) for name, way in WAYS.items()}
        for a, b in zip(*[step() for step in steps.values()], strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4 * np.abs(b).max())
        times = timing.interleaved(steps, rounds=rounds, slice_s=0.5)
        timing.print_times(f"{V:,} words", times, "tinygrad_rnn")
        print(f"  {timing.ratio_text(timing.ratios(times['PyTorch'], times['tinygrad_rnn']))} times PyTorch's speed")
        ask = lambda name: int(subprocess.check_output([sys.executable, __file__, "--growth", name, str(V)]))  # noqa: B023
        grown = {name: ask(name) for name in WAYS}
        print(f"  memory: {', '.join(f'{name} {n / 1e6:,.0f} MB' for name, n in grown.items())}: "
              f"{grown['tinygrad_rnn'] / grown['PyTorch']:.2f} of PyTorch's")  # fmt: skip


if __name__ == "__main__":
    if sys.argv[1:2] == ["--growth"]:
        print(growth(sys.argv[2], int(sys.argv[3])))
    else:
        main(*map(int, sys.argv[1:]))
