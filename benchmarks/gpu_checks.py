"""Parts of gpu.py: what machine it is, and whether the library is right on it."""

from __future__ import annotations

import collections
import importlib.util
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time

from collections.abc import Callable
from pathlib import Path
from typing import Any

import cells_tg
import gpu_pytest
import numpy as np
import timing

from gpu_site import ROOT, Site, synchronize

import tinygrad_rnn as tg

from tinygrad_rnn import nn, optim
from tinygrad_rnn.autograd import nest
from tinygrad_rnn.data import Vocabulary
from tinygrad_rnn.data.batches import Pairs, Stream
from tinygrad_rnn.parallel.nccl import Nccl
from tinygrad_rnn.tasks import language_model, translation
from tinygrad_rnn.tasks.fit import Trainer
from tinygrad_rnn.tasks.run_folder import RunFolder

# ---- env ------------------------------------------------------------------------------------------------------------

PACKAGES = ("numpy", "cupy-cuda13x", "cupy-cuda12x", "torch", "triton", "llvmlite", "pytest-xdist")


def env(site: Site) -> None:
    """The machine, its versions, and the time of a first kernel."""
    versions = {name: timing.version(name) for name in PACKAGES if timing.version(name)}
    site.say("versions", dry=site.dry, python=platform.python_version(), **versions)
    site.say("processor", model=timing.cpu_model(), cores=os.cpu_count())
    query = "name,driver_version,memory.total,clocks.max.sm,clocks.sm,power.limit"
    site.attempt(
        "nvidia-smi", lambda: {"said": _output(["nvidia-smi", f"--query-gpu={query}", "--format=csv,noheader"])}
    )
    start = time.perf_counter()
    missing = site.enter()
    if missing:
        site.say("CuPy", skipped=missing)
    else:
        site.attempt("CuPy", _cupy, time.perf_counter() - start)
        site.attempt("NCCL", _nccl)
    missing = site.pytorch()
    if missing:
        site.say("PyTorch", skipped=missing)
    else:
        site.attempt("PyTorch", _pytorch)


def _output(command: list[str]) -> str:
    return subprocess.run(command, capture_output=True, text=True, timeout=20, check=True).stdout.strip()


def _cupy(entered: float) -> dict[str, Any]:
    """Seconds until the GPU could be used, which includes a first product; and of a kernel compiled at run time."""
    import cupy

    start = time.perf_counter()
    text = f'extern "C" __global__ void first(float* x) {{ x[0] = {start}f; }}'  # of a text that no cache has
    x = cupy.zeros(1, "float32")
    cupy.RawKernel(text, "first")((1,), (1,), (x,))
    synchronize()
    found = {"ready_s": round(entered, 2), "first_kernel_s": round(time.perf_counter() - start, 3)}
    return found | _card(cupy)


def _nccl() -> dict[str, Any]:
    """What one GPU alone can check of sums between several: that they are begun, and change nothing."""
    import cupy

    nccl = Nccl(0, 1, lambda function: function())
    found = {}
    for dtype in "float32", "float64":
        values = np.random.default_rng(0).random(1 << 20).astype(dtype)
        buffer, part = cupy.asarray(values), cupy.empty(values.size, dtype)
        nccl.add_up(buffer)
        nccl.add_up_part(buffer, part)
        whole = cupy.empty_like(part)
        nccl.gather(part.view("uint8"), whole.view("uint8"))
        nccl.check()
        synchronize()
        found[dtype] = bool((whole.get() == values).all())
    return found


def _card(cupy: Any) -> dict[str, Any]:
    ask = getattr(cupy.cuda.runtime, "getDeviceProperties", None)
    card = ask(0) if ask else {"name": b"the stand-in", "multiProcessorCount": 0, "major": 0, "minor": 0}
    return {
        "card": card["name"].decode(), "multiprocessors": card["multiProcessorCount"],
        "capability": f"{card['major']}.{card['minor']}", "runtime": cupy.cuda.runtime.runtimeGetVersion(),
        "driver": cupy.cuda.runtime.driverGetVersion(),
    }  # fmt: skip


def _pytorch() -> dict[str, Any]:
    import torch

    return {"version": torch.__version__, "cuda": torch.version.cuda, "cudnn": torch.backends.cudnn.version()}


# ---- tests ----------------------------------------------------------------------------------------------------------

OUTCOMES = ("passed", "failed", "skipped")


def tests(site: Site) -> None:
    """`pytest -m gpu`: what fails, by name; warnings are counted, and are no errors."""
    files = [str(f.relative_to(ROOT)) for f in gpu_pytest.files_of_tests(ROOT / "tests")]
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.jsonl"
        report.touch()
        command = pytest_command(
            site.choose(files, ["tests/test_attention.py"]), site.choose(min(os.cpu_count() or 1, 10), 1)
        )
        started = time.monotonic()
        with (Path(folder) / "log").open("w+") as log:
            ended = _pytest(command, report, site.left - 2, log)
            log.seek(0)
            tail = log.read()[-600:]
        _tell(site, report, ended, tail, time.monotonic() - started)


def pytest_command(files: list[str], workers: int) -> list[str]:
    options = ["-q", "-p", "gpu_pytest", "-p", "no:cacheprovider", "--tb=short", "-o", "filterwarnings=default"]
    parallel = ["-n", str(workers)] if importlib.util.find_spec("xdist") and workers > 1 else []
    return [sys.executable, "-m", "pytest", *options, *parallel, "-m", "gpu and not slow and not oracle", *files]


def _pytest(command: list[str], report: Path, seconds: float, log: Any) -> str:
    """Run it; returns how it ended."""
    environment = {**os.environ, "GPU_REPORT": str(report), "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
    try:
        done = subprocess.run(command, env=environment, cwd=ROOT, stdout=log, stderr=log, timeout=seconds, check=False)
    except subprocess.TimeoutExpired:
        return "the limit"
    return f"code {done.returncode}"


def _tell(site: Site, report: Path, ended: str, tail: str, seconds: float) -> None:
    rows = [json.loads(line) for line in report.read_text(encoding="utf-8").splitlines()]
    names = {kind: [row[kind] for row in rows if kind in row] for kind in ("started", "warning", *OUTCOMES)}
    for row in rows:
        if "failed" in row:
            site.say(f"failed {row['failed']}", why=row["why"])
    done = {name for kind in OUTCOMES for name in names[kind]}
    site.say(
        "all", collected=max([row["collected"] for row in rows if "collected" in row], default=0),
        count={kind: len(names[kind]) for kind in OUTCOMES}, seconds=round(seconds, 1), ended=ended,
        running=[name for name in names["started"] if name not in done][:10],
        warnings=collections.Counter(names["warning"]).most_common(10), **({} if done else {"log": tail}),
    )  # fmt: skip


# ---- train ----------------------------------------------------------------------------------------------------------


def train(site: Site) -> None:
    """The same losses on the CPU and on the GPU in float64, and a run that goes on on the other device."""
    sizes = site.choose({"hidden": 128, "embed": 32, "batch": 32}, {"hidden": 8, "embed": 4, "batch": 4})
    words = site.choose(400, 9)
    text = lambda **more: text_trainer({**sizes, **more}, site.choose(32, 5))
    for name, make, engine in (
        ("LSTM", text, "auto"),
        ("GRU, eager", lambda: text(cell="gru"), "eager"),
        ("two layers with dropout", lambda: text(layers=2, dropout=0.2), "auto"),
        ("pairs by attention", lambda: pair_trainer(sizes, words), "auto"),
    ):
        site.attempt(name, trained_twice, make, engine, site.choose(60, 3))


def text_trainer(sizes: dict[str, Any], T: int) -> Trainer:
    """A language model of this repository's own pages."""
    text = "".join((ROOT / page).read_text(encoding="utf-8") for page in ("README.md", "docs/architecture.md"))
    vocabulary = Vocabulary.of(text)
    config = language_model.Config(**sizes, dtype="float64")
    model = language_model.build(config, len(vocabulary))
    stream = Stream(vocabulary.encode(text), config.batch, T)
    return trainer(model, language_model.LanguageTask(model, stream, stream))


def pair_trainer(sizes: dict[str, Any], count: int) -> Trainer:
    """Sequences and what they are turned into, of several lengths."""
    rng = np.random.default_rng(0)
    draw = lambda first: [rng.integers(first, 20, rng.integers(4, 12)) for _ in range(count)]
    pairs = Pairs(draw(0), draw(3), sizes["batch"], start=1, end=2)
    model = translation.build(translation.Config(**sizes, attention="general", dtype="float64"), 20, 20)
    return trainer(model, translation.PairTask(model, pairs, pairs))


def trainer(model: nn.Module, task: Any) -> Trainer:
    folder = RunFolder(Path(tempfile.gettempdir()))  # in which nothing is written
    return Trainer(model, optim.Adam(model.parameters(), 2e-3), task, folder, clip=1.0)


def trained_twice(make: Callable[[], Trainer], engine: str, steps: int) -> dict[str, Any]:
    """Losses of both devices; and of a step on each of them, of a run that was saved on the GPU."""
    losses, seconds, runs = {}, {}, {}
    for device in "cpu", "gpu":
        start, runs[device] = time.monotonic(), made_on(device, make, engine)
        losses[device] = np.array(trained(device, runs[device], range(steps)))
        seconds[f"{device}_s"] = round(time.monotonic() - start, 2)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "saved.safetensors"
        runs["gpu"].save(path)
        there = trained("gpu", runs["gpu"], [steps])[0]
        moved = made_on("cpu", make, engine)
        with tg.device("cpu"):
            moved.restore(path)
    back = trained("cpu", moved, [steps])[0]
    apart, after = np.abs(losses["gpu"] / losses["cpu"] - 1), abs(back / there - 1)
    return {
        "steps": steps, "first": losses["cpu"][0], "last_cpu": losses["cpu"][-1], "last_gpu": losses["gpu"][-1],
        "apart": apart.max(), "apart_moved": after, "ok": bool(apart.max() < 1e-8 and after < 1e-9), **seconds,
    }  # fmt: skip


def made_on(device: str, make: Callable[[], Trainer], engine: str) -> Trainer:
    tg.manual_seed(0)
    with tg.device(device):
        run = make()
        run.carry = run.task.start(0)
    for module in run.model.modules():
        if isinstance(module, nn.Recurrent):
            module.engine = engine
    return run


def trained(device: str, run: Trainer, batches: Any) -> list[float]:
    """The loss of each step, in nats per token, read when all are made."""
    found = []
    with tg.device(device):
        for i in batches:
            loss, n, run.carry = run.task.loss(i % len(run.task), run.carry)
            found.append(loss.detach() / n)
            (loss / n).backward()
            optim.clip_grad_norm_(run.optimizer.parameters, run.clip)
            run.optimizer.step()
            run.optimizer.zero_grad()
    return [loss.item() for loss in found]


# ---- compiled -------------------------------------------------------------------------------------------------------

T, B, I, H = 9, 7, 33, 40
SETTINGS = {
    "plain": ({}, None),
    "lengths": ({}, [9, 2, 0, 5, 5, 1, 8]),
    "checkpoint_every": ({"checkpoint_every": 4}, None),
    "in parts, from the end": ({"checkpoint_every": 4, "reverse": True}, [9, 2, 0, 5, 5, 1, 8]),
}
TOLERANCE = {"float64": 1e-10, "float32": 1e-4}  # of the largest element


def attending() -> nn.Cell:
    cell = cells_tg.AttentionLSTM(I, H)
    cell.memory = tg.tensor(np.random.default_rng(5).standard_normal((B, 11, H)).astype("float32"))
    return cell


MAKERS: dict[str, Callable[[], nn.Cell]] = {
    **{f"{name}, gate by gate": (lambda c=c: c(I, H)) for name, c in cells_tg.CELLS.items()},
    "attention-lstm, gate by gate": attending,  # which needs something to look at
    "LSTM": lambda: nn.LSTMCell(I, H),
    "GRU": lambda: nn.GRUCell(I, H),
    "GRU, reset after": lambda: nn.GRUCell(I, H, reset="after"),
    "RNN": lambda: nn.RNNCell(I, H),
    "peephole LSTM": lambda: nn.PeepholeLSTMCell(I, H),
    "projected LSTM": lambda: nn.ProjectedLSTMCell(I, H, 12),
    "layer-norm LSTM": lambda: nn.LayerNormLSTMCell(I, H),
    "coupled LSTM": lambda: nn.CoupledLSTMCell(I, H),
    "minimal gated unit": lambda: nn.MGUCell(I, H),
    "IndRNN": lambda: nn.IndRNNCell(I, H),
    "two layers": lambda: nn.Stack([nn.LSTMCell(I, H), nn.GRUCell(H, H)]),
}  # fmt: skip


def compiled(site: Site) -> None:
    """The engine "cuda" computes what the eager engine does, in values and in all gradients."""
    order = [("plain", "float64"), ("plain", "float32"), *((setting, "float64") for setting in [*SETTINGS][1:])]
    for setting, dtype in order:
        for cell in site.choose(list(MAKERS), ["GRU"]):
            site.attempt(f"{cell}, {setting}, {dtype}", compared, cell, setting, dtype)


def compared(cell: str, setting: str, dtype: str) -> dict[str, Any]:
    """The largest deviation, relative to the largest element of each result."""
    options, lengths = SETTINGS[setting]
    expected = outcome(cell, "eager", dtype, lengths, {k: v for k, v in options.items() if k != "checkpoint_every"})
    found = outcome(cell, "cuda", dtype, lengths, options)
    apart = {name: deviation(found[name], e) for name, e in expected.items()}
    worst = max(apart, key=apart.__getitem__)
    ok = found.keys() == expected.keys() and apart[worst] <= TOLERANCE[dtype]
    return {"apart": apart[worst], "worst": worst, "ok": bool(ok)}


def outcome(cell: str, engine: str, dtype: str, lengths: Any, options: dict[str, Any]) -> dict[str, np.ndarray]:
    """What comes out, and the gradients of xs and of the parameters; of a third call, which is one of CUDA graphs."""
    tg.manual_seed(3)
    rnn = nn.Recurrent(MAKERS[cell](), engine=engine, **options).to(dtype)
    kept = [
        called(rnn, np.random.default_rng(seed), dtype, lengths) for seed in ((2, 1, 0) if engine == "cuda" else (0,))
    ]
    return {name: t.numpy() for name, t in kept[-1].items() if t is not None}


def called(rnn: nn.Recurrent, rng: np.random.Generator, dtype: str, lengths: Any) -> dict[str, Any]:
    rnn.zero_grad()
    xs = tg.tensor(rng.standard_normal((T, B, I)).astype(dtype), requires_grad=True)
    ys, state = rnn(xs, lengths=lengths)
    out = [ys, *nest.leaves(state)]
    sum((y * tg.tensor(rng.standard_normal(y.shape).astype(dtype))).sum() for y in out).backward()
    return {"ys": ys, "d xs": xs.grad, **{f"d {name}": p.grad for name, p in rnn.named_parameters()}}


def deviation(found: np.ndarray, expected: np.ndarray) -> float:
    """The largest difference, relative to the largest element; infinite where something is no number."""
    apart = float(np.abs(found - expected).max() / max(np.abs(expected).max(), 1e-30))
    return apart if np.isfinite(apart) else float("inf")


# ---- sanitizer ------------------------------------------------------------------------------------------------------

SANITIZERS = ("compute-sanitizer", "/usr/local/cuda/bin/compute-sanitizer")
TOOLS = ("memcheck", "racecheck")
CHECKED = "import gpu_checks; gpu_checks.one_cell()"


def sanitizer(site: Site) -> None:
    """The kernels of one cell, each access to memory watched."""
    tool = next((found for name in SANITIZERS if (found := shutil.which(name))), None)
    if site.dry:
        site.attempt("without compute-sanitizer", one_cell)
    elif tool is None:
        site.say("", skipped="compute-sanitizer is not installed: it is a part of the CUDA toolkit")
    else:
        for check in TOOLS:
            site.attempt(check, _sanitized, [tool, "--tool", check, "--error-exitcode", "9"], site.left - 1)


def _sanitized(tool: list[str], seconds: float) -> dict[str, Any]:
    command = [*tool, sys.executable, "-c", CHECKED]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=seconds, check=False)
    except subprocess.TimeoutExpired:
        return {"skipped": f"not done in {seconds:.0f} s"}
    said = [line for line in done.stdout.splitlines() if line.startswith("=========")]
    return {"ok": done.returncode == 0, "code": done.returncode, "said": (said or [done.stderr[-600:]])[-3:]}


def one_cell() -> dict[str, Any]:
    """A cell with products, rows and sums, forward and backward. SystemExit where that goes wrong."""
    import cupy

    if hasattr(cupy.cuda, "set_allocator"):
        cupy.cuda.set_allocator(None)  # each array by itself: in a pool what is behind one belongs to another
    tg.set_default_device("gpu")
    found = compared("layer-norm LSTM", "plain", "float32")
    if not found["ok"]:
        raise SystemExit(f"the engine and the eager one differ: {found}")
    return found
