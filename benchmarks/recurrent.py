"""Cells over time, forward and backward, against PyTorch and JAX.

python benchmarks/recurrent.py [--cells lstm,gru] [--sizes S1,S2] [--engines numpy,llvm] [--peers nn,loop,scan]
    [--compile] [--rounds 15] [--slice 0.2] [--attention-floor | --length]

The backward pass starts from a fixed gradient of ys and ends at those of xs (and memory) and of all weights. All
competitors must give the same ys and gradients before they are timed.
"""

from __future__ import annotations

import argparse
import sys
import tracemalloc

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import NamedTuple

import cells
import numpy as np
import timing

from timing import Times

SIZES = {
    "S1": cells.Size(100, 1, 32, 32),
    "S2": cells.Size(50, 16, 64, 64),
    "S3": cells.Size(100, 32, 128, 128),
    "S4": cells.Size(100, 64, 256, 256),
    "S5": cells.Size(50, 64, 512, 512),
}
ENGINES = ("auto", "eager", "compiled", "numpy", "llvm", "fast")  # "fast": the name that "llvm" had
PEERS = {"nn": "PyTorch nn", "loop": "PyTorch loop", "scan": "JAX scan", "compile": "PyTorch loop, compiled"}
LENGTHS = (10, 100, 1_000, 10_000)
TOLERANCE = 1e-3  # of the largest element


# ---- who takes part -------------------------------------------------------------------------------------------------


def engines(problem: cells.Problem, names: Sequence[str]) -> dict[str, cells.Competitor]:
    import cells_tg

    return {name: cells_tg.competitor(problem, name) for name in names}


def peers(problem: cells.Problem, names: Sequence[str]) -> dict[str, cells.Competitor]:
    """Those of the names that exist for this problem."""
    import cells_torch

    makers = {"nn": cells_torch.layer, "loop": cells_torch.loop, "compile": cells_torch.compiled}
    if "scan" in names:
        import cells_jax

        makers["scan"] = cells_jax.scan
    made = {name: makers[name](problem) for name in names}
    return {name: competitor for name, competitor in made.items() if competitor is not None}


# ---- they do the same work ------------------------------------------------------------------------------------------


def check(problem: cells.Problem, competitors: Mapping[str, cells.Competitor]) -> None:
    """Raise unless all give the ys and the gradients of the PyTorch loop, to 1e-3 of the largest element of each."""
    import cells_torch

    loop = competitors.get("loop") or cells_torch.loop(problem)
    expected = loop.read(loop.step())
    worst = 0.0
    for name, competitor in competitors.items():
        competitor.step()  # the second step is checked: it meets the memory that the first one used
        found = competitor.read(competitor.step())
        if not found:
            print(f"  {problem.cell}: {PEERS.get(name, name)} is as much work by other equations, and is not compared")
        elif found.keys() != expected.keys():
            raise AssertionError(f"{problem.cell}, {name}: must give {sorted(expected)}, gives {sorted(found)}")
        deviations = {of: deviation(found[of], expected[of]) for of in found}
        for of, value in deviations.items():
            if not value <= TOLERANCE:  # NaN is not either
                raise AssertionError(f"{problem.cell} {problem.size}, {name}: {of} is off by {value:.1e}")
        worst = max([worst, *deviations.values()])
    print(f"  {problem.cell}: outputs and gradients are equal to {worst:.0e} of the largest element of each")


def deviation(found: np.ndarray, expected: np.ndarray) -> float:
    """The largest difference, relative to the largest element; infinite between shapes that differ."""
    if found.shape != expected.shape:
        return np.inf
    return float(np.abs(found - expected).max() / np.abs(expected).max())


# ---- cells × sizes --------------------------------------------------------------------------------------------------


class Row(NamedTuple):
    """A cell of one size, all its competitors timed in turns."""

    problem: cells.Problem
    size: str
    times: dict[str, Times]


def measure(options: argparse.Namespace) -> None:
    peak = sgemm_peak()
    rows = []
    for cell in options.cells:
        for size in options.sizes:
            rows.append(measure_one(cell, size, options))
    print_table(rows, options.engines, options.peers, peak)


def measure_one(cell: str, size: str, options: argparse.Namespace) -> Row:
    problem = cells.problem(cell, SIZES[size])
    print(f"\n{cell}, {size}: {problem.size}, float32, forward + backward")
    competitors = {**engines(problem, options.engines), **peers(problem, options.peers)}
    check(problem, competitors)
    steps = {name: competitor.step for name, competitor in competitors.items()}
    times = timing.interleaved(steps, rounds=options.rounds, slice_s=options.slice)
    print_block(times, {name: competitor.first_s for name, competitor in competitors.items()}, options.engines[-1])
    return Row(problem, size, times)


def print_block(times: Mapping[str, Times], first_s: Mapping[str, float | None], ours: str) -> None:
    """A line for each competitor, as timing's, but with the ratio the other way round, as in the table."""
    print(f"  {'':<28}{'median ms':>10}{'quartiles':>18}{'least':>9}   this/{ours} (quartiles)")
    for name, t in times.items():
        low, high = (1e3 * q for q in t.quartiles)
        line = f"  {PEERS.get(name, name):<28}{1e3 * t.median:>10.3f}{f'{low:.3f}–{high:.3f}':>18}{1e3 * t.least:>9.3f}"
        over = "" if name == ours else f"   {ratio(t, to=times[ours])}"
        compiled = "" if first_s[name] is None else f"   first step, compiling: {first_s[name]:.1f} s"
        print(line + over + compiled)


def ratio(times: Times, to: Times) -> str:
    """The median of the rounds' ratios, and their quartiles."""
    return timing.ratio_text(timing.ratios(times, to))


def print_table(rows: Sequence[Row], engines: Sequence[str], peers: Sequence[str], peak: float) -> None:
    print("\ntheirs / ours: how many times faster we are (quartiles); of sgemm: the products' share of its peak")
    heads = "".join(f"  {PEERS[name]:<23}" for name in peers)
    print(f"  {'cell':<15}{'size':<5}{'engine':<9}{'ms':>10}{'GFLOP/s':>9}{'of sgemm':>9}{heads}".rstrip())
    for row in rows:
        for engine in engines:
            t = row.times[engine]
            rate = row.problem.flops / t.median / 1e9
            ratios = "".join(f"  {ratio(row.times[p], to=t) if p in row.times else '–':<23}" for p in peers)
            line = f"  {row.problem.cell:<15}{row.size:<5}{engine:<9}{1e3 * t.median:>10.3f}{rate:>9.1f}"
            print(f"{line}{rate / peak:>9.1%}{ratios}".rstrip())


def sgemm_peak(n: int = 2048) -> float:
    """GFLOP/s of a product of n × n matrices in float32, the better of NumPy's and PyTorch's."""
    import torch

    rng = np.random.default_rng(0)
    a, b, out = (rng.standard_normal((n, n)).astype(np.float32) for _ in range(3))
    ta, tb, tout = (torch.tensor(m) for m in (a, b, out))
    products = {"NumPy": lambda: np.matmul(a, b, out=out), "PyTorch": lambda: torch.mm(ta, tb, out=tout)}
    times = timing.interleaved(products, rounds=5)
    rates = {name: 2 * n**3 / t.least / 1e9 for name, t in times.items()}
    each = ", ".join(f"{rate:.0f} GFLOP/s by {name}" for name, rate in rates.items())
    print(f"\nsgemm, {n}³, least of 5 rounds: {each} ({torch.get_num_threads()} threads)")
    return max(rates.values())


# ---- what attention and normalisation cost over the plain lstm ------------------------------------------------------


def measure_floors(options: argparse.Namespace) -> None:
    """The extended cells against the plain lstm, of the same engine in the same run.

    The floor of attention-lstm is the plain lstm and the products that attention adds, by NumPy alone; what it adds
    by element, the softmax among it, is not in it.
    """
    for size in options.sizes:
        print(f"\n{size}: {SIZES[size]}, float32, forward + backward")
        steps: dict[str, Callable[[], object]] = {"products": attention_products(SIZES[size])}
        for cell in ("lstm", "layernorm-lstm", "attention-lstm"):
            problem = cells.problem(cell, SIZES[size])
            competitors = engines(problem, options.engines)
            check(problem, competitors)
            steps.update({f"{cell} {engine}": competitor.step for engine, competitor in competitors.items()})
        times = timing.interleaved(steps, rounds=options.rounds, slice_s=options.slice)
        print_block(times, dict.fromkeys(times), f"lstm {options.engines[-1]}")
        for engine in options.engines:
            print_floor(engine, times)


def print_floor(engine: str, times: Mapping[str, Times]) -> None:
    plain, products = times[f"lstm {engine}"], times["products"]
    floor = Times([a + b for a, b in zip(plain.rounds, products.rounds, strict=True)])
    print(f"  {engine}: the floor of attention-lstm is {1e3 * floor.median:.3f} ms, lstm and the products it adds")
    print(f"    attention-lstm / its floor: {ratio(times[f'attention-lstm {engine}'], to=floor)}")
    print(f"    layernorm-lstm / lstm: {ratio(times[f'layernorm-lstm {engine}'], to=plain)}")


def attention_products(size: cells.Size) -> Callable[[], None]:
    """The products that attention adds to an lstm, forward and backward, as NumPy multiplies arrays that are there.

    At each step: the query, scores and context, its part in the four gates, and the gradients of these four.
    Once, over all steps: the gradients of W_q, of the context's rows of U, and of the memory from its two products.
    """
    T, B, _, H = size
    S = cells.MEMORY_STEPS
    gates, by_query, by_context = ((B, H), (H, 4 * H)), ((B, H), (H, H)), ((B, 1, S), (B, S, H))
    forward = [by_query, ((B, S, H), (B, H, 1)), by_context, gates]
    backward = [((B, 4 * H), (4 * H, H)), ((B, S, H), (B, H, 1)), by_context, by_query]
    weights = [((H, T * B), (T * B, H)), ((H, T * B), (T * B, 4 * H))]
    memory = [((B, S, T), (B, T, H))] * 2
    each_step = [_product(*shapes) for shapes in forward + backward]
    once = [_product(*shapes) for shapes in weights + memory]

    def run() -> None:
        for _ in range(T):
            for product in each_step:
                product()
        for product in once:
            product()

    return run


def _product(left: tuple[int, ...], right: tuple[int, ...]) -> Callable[[], np.ndarray]:
    rng = np.random.default_rng(0)
    a, b = (rng.standard_normal(shape).astype(np.float32) for shape in (left, right))
    return partial(np.matmul, a, b, out=a @ b)


# ---- time and memory against the length -----------------------------------------------------------------------------


def measure_lengths(options: argparse.Namespace) -> None:
    """An lstm over ever more steps: what a step costs must not grow."""
    print(f"\nlstm, B=4 I=H=32, float32, forward + backward, rounds: {options.rounds}")
    heads = f"{'ms':>12}{'µs/step':>10}{'plan MB':>10}{'KB/step':>10}{'peak MB':>10}{'KB/step':>10}"
    print(f"  {'engine':<9}{'T':>7}{heads}   plan: rnn.plan(xs).nbytes; peak: all that NumPy and Python allocate")
    for T in LENGTHS:
        problem = cells.problem("lstm", cells.Size(T, 4, 32, 32))
        memory = {engine: (planned_bytes(problem, engine), peak_bytes(problem, engine)) for engine in options.engines}
        steps = {engine: competitor.step for engine, competitor in engines(problem, options.engines).items()}
        times = timing.interleaved(steps, rounds=options.rounds, slice_s=options.slice)
        for engine, t in times.items():
            bytes_text = "".join(_memory_text(n, T) for n in memory[engine])
            print(f"  {engine:<9}{T:>7}{1e3 * t.median:>12.3f}{1e6 * t.median / T:>10.2f}{bytes_text}")


def _memory_text(n: int | None, T: int) -> str:
    return f"{'–':>10}{'–':>10}" if n is None else f"{n / 1e6:>10.2f}{n / 1e3 / T:>10.2f}"


def planned_bytes(problem: cells.Problem, engine: str) -> int | None:
    """The workspace that the compiler plans; the eager engine has none."""
    import cells_tg

    if engine == "eager":
        return None
    rnn, leaves = cells_tg.recurrent(problem, engine)
    return rnn.plan(leaves["xs"]).nbytes


def peak_bytes(problem: cells.Problem, engine: str) -> int:
    """What one forward and backward pass holds at most, as Python's and NumPy's allocators see it."""
    tracemalloc.start()
    try:
        competitor = engines(problem, [engine])[engine]
        competitor.step()
        tracemalloc.reset_peak()
        competitor.step()
        _, peak = tracemalloc.get_traced_memory()
        return peak
    finally:
        tracemalloc.stop()


# ---- the command line -----------------------------------------------------------------------------------------------


def main() -> None:
    options = parsed()
    sys.stdout.reconfigure(line_buffering=True)  # a run takes long, and is often read from a file
    timing.print_header()
    if options.length:
        measure_lengths(options)
        return
    import torch

    torch.set_num_threads(options.threads)
    if options.attention_floor:
        measure_floors(options)
    else:
        measure(options)


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    add = parser.add_argument
    add("--cells", type=some_of(cells.CELLS), default=list(cells.CELLS), help=",".join(cells.CELLS))
    add("--sizes", type=some_of(SIZES), default=list(SIZES), help=", ".join(f"{n}: {s}" for n, s in SIZES.items()))
    add("--engines", type=some_of(ENGINES), default=["numpy", "llvm"], help=f"of {','.join(ENGINES)}; the last is ours")
    add("--peers", type=some_of(PEERS), default=["nn", "loop", "scan"], help="of nn,loop,scan; '' for none")
    add("--compile", action="store_true", help="torch.compile of the loop too, up to T=50: minutes")
    add("--rounds", type=int, default=15)
    add("--slice", type=float, default=0.2, help="seconds for each competitor in each round")
    add("--threads", type=int, default=2, help="PyTorch's; NumPy's and JAX's are one for each core")
    only = parser.add_mutually_exclusive_group()
    only.add_argument("--attention-floor", action="store_true", help="only the extended cells against the plain lstm")
    only.add_argument("--length", action="store_true", help="only time and memory against the number of steps")
    options = parser.parse_args()
    if not options.engines:
        parser.error("--engines: name at least one")
    if options.compile and "compile" not in options.peers:
        options.peers.append("compile")
    return options


def some_of(known: Sequence[str] | Mapping[str, object]) -> Callable[[str], list[str]]:
    """How to read names that commas part."""

    def names(text: str) -> list[str]:
        found = [name.strip() for name in text.split(",") if name.strip()]
        unknown = [name for name in found if name not in known]
        if unknown:
            raise argparse.ArgumentTypeError(f"{', '.join(unknown)}: not among {', '.join(known)}")
        return list(dict.fromkeys(found))

    return names


if __name__ == "__main__":
    main()
