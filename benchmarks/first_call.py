"""The first call of a new layer, forward and backward: milliseconds of CPU time, with its machine code in the cache.

python benchmarks/first_call.py

Everything is imported, and the cell was compiled before, in another Recurrent: what is left is to record the step, to
rewrite its circuit, to plan, and to write the code by whose text machine code is found. The median of seven.
"""

from __future__ import annotations

import statistics
import time

from collections.abc import Callable

import numpy as np
import timing

import tinygrad_rnn as tg

from tinygrad_rnn import nn

T, B, I, H = 20, 8, 32, 64
CELLS: dict[str, Callable[[], nn.Cell]] = {
    "LSTM": lambda: nn.LSTMCell(I, H),
    "GRU": lambda: nn.GRUCell(I, H),
    "layer-norm LSTM": lambda: nn.LayerNormLSTMCell(I, H),
}


def first_call(make: Callable[[], nn.Cell], engine: str) -> float:
    xs = tg.tensor(np.zeros((T, B, I), np.float32), requires_grad=True)
    start = time.process_time()
    ys, _ = nn.Recurrent(make(), engine=engine)(xs)
    ys.sum().backward()
    return 1000 * (time.process_time() - start)


def main() -> None:
    timing.print_header()
    for engine in ("llvm", "numpy"):
        for name, make in CELLS.items():
            first_call(make, engine)
            print(f"{engine:6} {name:16} {statistics.median(first_call(make, engine) for _ in range(7)):6.1f} ms")


if __name__ == "__main__":
    main()
