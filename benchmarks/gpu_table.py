"""The results of gpu.py as tables in Markdown."""

from __future__ import annotations

import json

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

Row = dict[str, Any]
Times = dict[str, float]
Results = dict[str, dict[str, Row]]  # by part, by name


def read(path: Path) -> Results:
    """The last result of each name, in the order in which names came first."""
    found: Results = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        found.setdefault(row["part"], {})[row["name"]] = row
    return found


def table(results: Results) -> str:
    """All of them as text for RESULTS.md."""
    return "\n\n".join(part for write in SECTIONS if (part := "\n".join(write(results))))


def measured(results: Results, part: str) -> list[Row]:
    """The rows of a part that are neither errors nor skipped."""
    return [row for row in results.get(part, {}).values() if not {"error", "skipped"} & row.keys()]


def markdown(heads: Sequence[str], rows: Sequence[Sequence[Any]]) -> Iterator[str]:
    """A table; nothing without rows."""
    if rows:
        yield from ("| " + " | ".join(heads) + " |", "|" + "---|" * len(heads))
        yield from ("| " + " | ".join(map(str, row)) + " |" for row in rows)


# ---- sections -------------------------------------------------------------------------------------------------------


def heading(results: Results) -> Iterator[str]:
    begins, env = results["run"].get("begins", {}), results.get("env", {})
    ours, theirs, versions = (env.get(name, {}) for name in ("CuPy", "PyTorch", "versions"))
    cupy = next((versions[name] for name in versions if name.startswith("cupy")), "–")
    yield f"## On a GPU, {begins.get('date', '')}"
    if begins.get("dry"):
        yield "\n**A dry run without a GPU: these numbers mean nothing.**"
    said = env.get("nvidia-smi", {}).get("said", "nothing said by nvidia-smi")
    machine = f"{ours.get('card', 'no GPU')} ({said}), {env.get('processor', {}).get('model', '')}"
    cuda = f"CUDA {ours.get('runtime', '–')}, driver {ours.get('driver', '–')}, CuPy {cupy}"
    peer = f"PyTorch {theirs.get('version', '–')} with cuDNN {theirs.get('cudnn', '–')}"
    first = f"A first kernel takes {ours.get('first_kernel_s', '–')} s."
    yield f"\n{machine}; {cuda}; {peer}; commit {begins.get('commit', '')}. {first}"


def is_it_right(results: Results) -> Iterator[str]:
    rows = [*_tested(results), *_trained(results), *_compared(results), *_sanitized(results)]
    yield from markdown(["what must hold", "found"], rows)


def _tested(results: Results) -> Iterator[Sequence[Any]]:
    row = results.get("tests", {}).get("all")
    if row:
        told = ", ".join(f"{n} {outcome}" for outcome, n in row["count"].items()) + f", in {row['seconds']:.0f} s"
        yield f"`pytest -m gpu`, {row['collected']} tests (ended by {row['ended']})", told


def _trained(results: Results) -> Iterator[Sequence[Any]]:
    for row in measured(results, "train"):
        told = f"{row['apart']:.1e} apart after {row['steps']} steps, {row['apart_moved']:.1e} after the move"
        yield f"training of {row['name']}: the losses of the CPU, float64; a checkpoint goes on there", _mark(row, told)


def _compared(results: Results) -> Iterator[Sequence[Any]]:
    rows = measured(results, "compiled")
    if rows:
        worst = max(rows, key=lambda row: row["apart"] * (1 if "float64" in row["name"] else 1e-6))
        told = f"{sum(row['ok'] for row in rows)} of {len(rows)}; the worst: {worst['name']}, {worst['apart']:.1e}"
        yield 'the engine "cuda" equals the eager one: cells × settings', told


def _sanitized(results: Results) -> Iterator[Sequence[Any]]:
    for row in measured(results, "sanitizer"):
        yield f"compute-sanitizer, {row['name']}", _mark(row, "")


def _mark(row: Row, told: str) -> str:
    return f"{'right' if row['ok'] else '**wrong**'}{told and ': '}{told}"


STEPS = ("eager", "cuda", "loop", "compile", "nn")


def steps(results: Results) -> Iterator[str]:
    rows = measured(results, "steps")
    if not rows:
        return
    compiled = {(row["cell"], row["H"]): row for row in measured(results, "compile")}
    unrolled = next(iter(compiled.values()), {}).get("T", "–")
    yield (
        "Microseconds a time step, forward and backward (forward alone in brackets), float32 without TF32, "
        f"T={rows[0]['T']}, B={rows[0]['B']}; under torch.compile the loop has {unrolled} steps. "
        'nn.GRU resets after the product. "host": until the host has launched all of it, with "cuda".\n'
    )
    lines = [line for row in rows for line in _step_lines(row, compiled.get((row["cell"], row["H"])))]
    heads = ["cell", "H", "eager", '"cuda"', "host", "PyTorch loop", "torch.compile", "nn (cuDNN)"]
    ratios = ["eager / loop", 'loop / "cuda"', 'torch.compile / "cuda"', 'nn / "cuda"', "apart"]
    yield from markdown(heads + ratios, lines)


def _step_lines(row: Row, compiled: Row | None) -> Iterator[list[str]]:
    """A line; and one of the GRU that cuDNN's layer is, beside that."""
    both, forward = row["both"] | ({"compile": compiled["both"]} if compiled else {}), row["forward"]
    worst = f"{max(row['apart'].values()):.0e}"
    yield _step_line([row["cell"], row["H"]], both, forward, f"{row['host']:.1f}", worst)
    after = "cuda, reset after"
    if after in both:
        both, forward = ({"cuda": t[after], **({"nn": t["nn"]} if "nn" in t else {})} for t in (both, forward))
        yield _step_line([f"{row['cell']}, reset after", row["H"]], both, forward, "–", "–")


def _step_line(name: list[Any], both: Times, forward: Times, host: str, worst: str) -> list[str]:
    times = [_time(both.get(name), forward.get(name)) for name in STEPS]
    times.insert(2, host)
    over = (("eager", "loop"), ("loop", "cuda"), ("compile", "cuda"), ("nn", "cuda"))
    ratios = [f"{both[a] / both[b]:.2f}" if a in both and b in both else "–" for a, b in over]
    return [*map(str, name), *times, *ratios, worst]


def _time(both: float | None, forward: float | None) -> str:
    if both is None:
        return "–"
    return f"{both:.1f}" if forward is None else f"{both:.1f} ({forward:.1f})"


def whole(results: Results) -> Iterator[str]:
    lines = [_whole_line(row) for row in measured(results, "lm")]
    heads = ["training step of a language model", "ours, ms", "host, ms", "PyTorch, ms", "PyTorch / ours", "tokens/s"]
    yield from markdown(heads, lines)


def _whole_line(row: Row) -> list[str]:
    step, what = row["step"], f"V={row['V']}, E={row['E']}, H={row['H']}, T={row['T']}, B={row['B']}"
    peer = step.get("PyTorch")
    theirs = ["–", "–"] if peer is None else [f"{peer / 1e3:.2f}", f"{peer / step['cuda']:.2f}"]
    return [
        what,
        f"{step['cuda'] / 1e3:.2f}",
        f"{row['host'] / 1e3:.2f}",
        *theirs,
        f"{1e6 * row['T'] * row['B'] / step['cuda']:,.0f}",
    ]


def constants(results: Results) -> Iterator[str]:
    rows = measured(results, "sweep")
    lines = [[row["name"], row["cell"], row["present"], row["best"], _values(row)] for row in rows]
    yield from markdown(["constant, H", "cell", "is", "best", "µs a step"], lines)


def _values(row: Row) -> str:
    return ", ".join([_times(row["both"]), *(f"{value}: {said}" for value, said in row["refused"].items())])


def _times(times: dict[str, float]) -> str:
    return ", ".join(f"{value}: {time:.1f}" for value, time in times.items())


def scans(results: Results) -> Iterator[str]:
    rows = measured(results, "scan")
    lines = [[row["name"], row["present"], row["best"], _times(row["both"])] for row in rows]
    yield from markdown(["a scan of so many elements", "chunks now", "best", "µs a call, by chunks; 0: in turn"], lines)


def missing(results: Results) -> Iterator[str]:
    """What there is no number for, and why."""
    lines = [
        f"- {part}{', ' * bool(name)}{name}: {row.get('error') or row.get('skipped')}"
        for part, rows in results.items()
        for name, row in rows.items()
        if {"error", "skipped"} & row.keys()
    ]
    failed = [f"- {name}: {row['why']}" for name, row in results.get("tests", {}).items() if name.startswith("failed ")]
    if lines or failed:
        yield from ("Not measured, or failed:", "", *lines, *failed)


SECTIONS: tuple[Callable[[Results], Iterator[str]], ...] = (
    heading, is_it_right, steps, whole, constants, scans, missing,
)  # fmt: skip
