"""Long sequences: forward and backward of an LSTM layer, time by step and memory, with and without checkpoints.

python benchmarks/long.py

Each length runs in a process of its own; memory is the most that it held, beyond what it held before the first step.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import time

import numpy as np
import timing

import tinygrad_rnn as tg

from tinygrad_rnn import nn

B, H = 8, 64


def measure(steps: int, every: int) -> dict[str, float]:
    xs = tg.tensor(np.random.default_rng(0).random((steps, B, H), np.float32))
    layer = nn.Recurrent(nn.LSTMCell(H, H), checkpoint_every=every or None)
    short = layer(xs[:8])[0].sum()
    short.backward()  # whatever is made once
    before, seconds = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, []
    for _ in range(5):
        start = time.perf_counter()
        layer(xs)[0].sum().backward()
        seconds.append(time.perf_counter() - start)
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {"us": 1e6 * float(np.median(seconds[1:])) / steps, "MB": (after - before) / 1000}


def main() -> None:
    timing.print_header()
    print(f"{'steps':>8}{'kept':>16}{'µs a step':>12}{'MB more':>10}")
    for every in 0, 100:
        for steps in 100, 1_000, 10_000, 50_000:
            command = [sys.executable, __file__, str(steps), str(every)]
            found = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
            kept = f"every {every}th" if every else "all"
            print(f"{steps:>8,}{kept:>16}{found['us']:>12.1f}{found['MB']:>10.1f}")


if __name__ == "__main__":
    if sys.argv[1:]:
        print(json.dumps(measure(*map(int, sys.argv[1:]))))
    else:
        main()
