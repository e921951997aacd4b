"""The eager engine against its peers: an LSTM written as a loop, the cost of an import, the cost of a node.

python benchmarks/eager.py [--only import | graph | loop] [--rounds 15] [--slice 0.2]
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time

from collections.abc import Callable

import numpy as np
import peers
import timing

OURS = "tinygrad_rnn"
# (T, B, I, H); False: four gates from two products, True: gate by gate, eight products
ROWS = [
    ((100, 1, 32, 32), False), ((50, 4, 16, 16), False), ((100, 32, 128, 128), False),
    ((100, 1, 32, 32), True), ((50, 4, 16, 16), True), ((100, 32, 128, 128), True),
]  # fmt: skip


# ---- an LSTM in a loop ----------------------------------------------------------------------------------------------


def competitors(shape: tuple[int, int, int, int], by_gates: bool) -> dict[str, peers.Step]:
    xs, weights = peers.problem(*shape)
    if by_gates:
        weights = peers.gate_by_gate(weights)
    return {
        OURS: peers.tinygrad_rnn(xs, weights),
        "PyTorch": peers.torch(xs, weights),
        "PyTorch, 1 thread": peers.torch(xs, weights, threads=1),
        "MyGrad": peers.mygrad(xs, weights),
        "autograd": peers.autograd(xs, weights),
    }


def check_equal_work(steps: dict[str, peers.Step]) -> None:
    """Every library must return our loss and our weight gradients to 1e-4 of the largest element."""
    expected_loss, expected = steps[OURS]()
    for name, step in steps.items():
        loss, gradients = step()
        np.testing.assert_allclose(loss, expected_loss, rtol=1e-4, err_msg=name)
        for g, e in zip(gradients, expected, strict=True):
            assert g.shape == e.shape, f"{name}: a gradient is {g.shape}, must be {e.shape}"
            np.testing.assert_allclose(g, e, rtol=1e-4, atol=1e-4 * np.abs(e).max(), err_msg=name)


def measure_loop(rounds: int, slice_s: float) -> None:
    for shape, by_gates in ROWS:
        steps = competitors(shape, by_gates)
        check_equal_work(steps)
        times = timing.interleaved(steps, rounds=rounds, slice_s=slice_s)
        T, B, I, H = shape
        what = "gate by gate" if by_gates else "four gates from two products"
        timing.print_times(f"LSTM, {what}, forward + backward: T={T} B={B} I={I} H={H}, float32", times, OURS)
        better = timing.best(times, ["PyTorch", "PyTorch, 1 thread"])
        print(f"  {OURS} / the better PyTorch: {timing.ratio_text(timing.ratios(times[OURS], times[better]))}")


# ---- import ---------------------------------------------------------------------------------------------------------


def import_seconds(module: str, bytecode: str) -> float:
    """The time of `import module` in a fresh interpreter, by its own clock. bytecode: where compiled modules lie."""
    code = f"import time; start = time.perf_counter(); import {module}; print(time.perf_counter() - start)"
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "", "PYTHONPYCACHEPREFIX": bytecode}
    command = [sys.executable, "-c", code]
    return float(subprocess.run(command, check=True, capture_output=True, text=True, env=environment).stdout)


def measure_import(runs: int = 21) -> None:
    """What importing the library costs over importing NumPy, which it needs; the two take turns, compiled before."""
    with tempfile.TemporaryDirectory() as bytecode:
        for module in ("numpy", "tinygrad_rnn"):
            import_seconds(module, bytecode)
        pairs = [(import_seconds("numpy", bytecode), import_seconds("tinygrad_rnn", bytecode)) for _ in range(runs)]
    numpy_ms, ours_ms = (1e3 * statistics.median(column) for column in zip(*pairs, strict=True))
    over = [1e3 * (ours - base) for base, ours in pairs]
    low, high = timing.quartiles(over)
    print(f"\nimport numpy: {numpy_ms:.1f} ms; import tinygrad_rnn: {ours_ms:.1f} ms, medians of {runs}")
    print(f"  tinygrad_rnn over numpy: {statistics.median(over):.1f} ms ({low:.1f}–{high:.1f})")


# ---- graphs ---------------------------------------------------------------------------------------------------------


def deep(n: int) -> None:
    """n operations, each on the result of the one before."""
    import tinygrad_rnn as tg

    x = y = tg.tensor(np.ones(4, np.float32), requires_grad=True)
    for _ in range(n):
        y = y * 1.0
    y.sum().backward()
    assert x.grad.tolist() == [1.0] * 4


def wide(n: int) -> None:
    """n operations on one tensor, stacked."""
    import tinygrad_rnn as tg

    x = tg.tensor(np.ones(4, np.float32), requires_grad=True)
    tg.ops.stack([x * 1.0 for _ in range(n)]).sum().backward()
    assert x.grad.tolist() == [float(n)] * 4


def seconds(function: Callable[[int], None], n: int) -> float:
    start = time.perf_counter()
    function(n)
    return time.perf_counter() - start


def measure_graph(repeats: int = 5) -> None:
    """Microseconds for one operation, forward and backward: constant, if the time is linear in the size."""
    print("\none operation of a graph of n, forward + backward, µs (least)")
    sizes = (1_000, 10_000, 100_000)
    print(f"  {'':<8}" + "".join(f"{f'n={n:,}':>14}" for n in sizes))
    for name, function in {"deep": deep, "wide": wide}.items():
        function(1_000)
        each = [min(seconds(function, n) for _ in range(repeats)) / n for n in sizes]
        print(f"  {name:<8}" + "".join(f"{1e6 * s:>14.2f}" for s in each))


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--only", choices=["import", "graph", "loop"], help="by default all three")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--slice", type=float, default=0.2, help="seconds for each competitor in each round")
    options = parser.parse_args()
    timing.print_header()
    if options.only in (None, "import"):
        measure_import()
    if options.only in (None, "graph"):
        measure_graph()
    if options.only in (None, "loop"):
        measure_loop(options.rounds, options.slice)


if __name__ == "__main__":
    main()
