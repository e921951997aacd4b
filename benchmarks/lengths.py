"""Sequences of many lengths beside sequences of one, and what a batch of a new size costs.

python benchmarks/lengths.py [ROUNDS]

Layers of 32 inputs and 64 units, forward and backward. Time per step, in rounds that take turns: one length, 35,
against a permutation of 60 lengths from 10 to 69, all of which have been met before. Then the first call with a batch
of a size that has not been met, beside the second one.
"""

from __future__ import annotations

import statistics
import sys
import time

from collections.abc import Sequence

import numpy as np
import timing

import tinygrad_rnn as tg

from tinygrad_rnn import nn

I, H, ONE, MANY = 32, 64, 35, range(10, 70)
LAYERS = {"LSTM": nn.LSTM, "GRU": nn.GRU}
ENGINES = ("auto", "numpy")


def seconds(layer: nn.Module, xs: tg.Tensor) -> float:
    start = time.perf_counter()
    layer(xs)[0].sum().backward()
    return time.perf_counter() - start


def zeros(T: int, B: int) -> tg.Tensor:
    return tg.tensor(np.zeros((T, B, I), np.float32))


def per_step(layer: nn.Module, sequences: Sequence[tg.Tensor]) -> float:
    """The median over some calls."""
    return statistics.median(seconds(layer, xs) / len(xs) for xs in sequences)


def lengths(layer: nn.Module, B: int, rounds: int) -> tuple[float, float, list[float]]:
    """Seconds per step for one length, and for many; their ratio, round by round."""
    rng = np.random.default_rng(0)
    one, many = [zeros(ONE, B) for _ in MANY], [zeros(T, B) for T in MANY]
    order = lambda: [many[i] for i in rng.permutation(len(many))]
    per_step(layer, one), per_step(layer, order())
    pairs = [(per_step(layer, one), per_step(layer, order())) for _ in range(rounds)]
    return *map(statistics.median, zip(*pairs, strict=True)), [b / a for a, b in pairs]


def batches(layer: nn.Module) -> tuple[float, float, float]:
    """Seconds of the very first call, of the first call with a batch of a new size, and of the second one."""
    first = seconds(layer, zeros(20, 4))
    pairs = [(seconds(layer, xs), seconds(layer, xs)) for xs in (zeros(20, B) for B in range(5, 25))]
    return first, *map(statistics.median, zip(*pairs, strict=True))


def main(rounds: int = 15) -> None:
    timing.print_header()
    print(f"\nµs per step of {I} inputs and {H} units: one length, {len(MANY)} lengths, their ratio (quartiles)")
    for engine in ENGINES:
        for name, layer in LAYERS.items():
            for B in (1, 32):
                one, many, found = lengths(layer(I, H, engine=engine), B, rounds)
                line = f"  {engine:<6} {name:<5} B = {B:<3} {1e6 * one:8.1f} {1e6 * many:8.1f}"
                print(f"{line}   {timing.ratio_text(found)}", flush=True)
    print("\nms of a call: the very first, the first with a batch of another size, the second with that batch")
    for engine in ENGINES:
        for name, layer in LAYERS.items():
            print(f"  {engine:<6} {name:<5}", "".join(f"{1e3 * t:9.1f}" for t in batches(layer(I, H, engine=engine))))


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
