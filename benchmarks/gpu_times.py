"""Parts of gpu.py: how long steps of cells and of a whole model take, beside PyTorch's; and the best sizes of blocks.

Times are those of a wall clock between two moments at which the GPU has nothing to do; competitors take turns.
"""

from __future__ import annotations

import statistics
import time

from collections.abc import Callable, Mapping
from typing import Any

import cells
import cells_tg
import numpy as np
import timing

from gpu_checks import deviation
from gpu_site import Site, one_line, synchronize

import tinygrad_rnn as tg

from tinygrad_rnn import nn, optim, torch_weights
from tinygrad_rnn.compiler.cuda import threads
from tinygrad_rnn.data.batches import Stream
from tinygrad_rnn.tasks import language_model

AFTER = "cuda, reset after"
CELLS = ("lstm", "gru", "mgu", "layernorm-lstm", "attention-lstm")
ROUNDS = {"rounds": 5, "slice_s": 0.04, "settle_s": 0.0}
DRY_ROUNDS = {"rounds": 1, "slice_s": 0.0, "settle_s": 0.0}


def timed(site: Site, competitors: Mapping[str, Callable[[], Any]], per: float = 1.0) -> dict[str, float]:
    """The median time of each in microseconds, divided by a number of steps."""
    to_end = {name: (lambda f=f: (f(), synchronize())) for name, f in competitors.items()}
    times = timing.interleaved(to_end, **site.choose(ROUNDS, DRY_ROUNDS))
    return {name: round(1e6 * t.median / per, 3) for name, t in times.items()}


def host_time(step: Callable[[], Any], per: float) -> float:
    """Microseconds until the host has given the GPU all that it is to do: what Python costs."""
    found = []
    for _ in range(3):
        synchronize()
        start = time.perf_counter()
        step()
        found.append(time.perf_counter() - start)
    synchronize()
    return round(1e6 * statistics.median(found) / per, 3)


# ---- steps ----------------------------------------------------------------------------------------------------------


def steps(site: Site) -> None:
    """Microseconds for a time step of each cell, float32, forward and backward with all gradients."""
    missing = site.pytorch()
    if missing:
        site.say("PyTorch", skipped=missing)
    T, B = site.choose((100, 64), (3, 2))
    for H in site.choose((256, 512, 1024), (8,)):
        for cell in CELLS:
            site.attempt(f"{cell} {H}", steps_of, site, cells.problem(cell, cells.Size(T, B, H, H)), not missing)


def steps_of(site: Site, problem: cells.Problem, beside_pytorch: bool) -> dict[str, Any]:
    """Of one cell: times, and how far the results of the others are from those of the eager engine."""
    ours = {name: cells_tg.competitor(problem, name) for name in ("eager", "cuda")}
    competitors = {**ours, **(peers(site, problem) if beside_pytorch else {})}
    if problem.cell == "gru":
        competitors[AFTER] = reset_after(problem)
    T, B, _, H = problem.size
    return {
        "cell": problem.cell, "H": H, "T": T, "B": B, "apart": apart(competitors),
        "both": timed(site, {name: c.step for name, c in competitors.items()}, T),
        "forward": timed(site, {name: c.forward for name, c in competitors.items()}, T),
        "host": host_time(ours["cuda"].step, T),
    }  # fmt: skip


def reset_after(problem: cells.Problem) -> cells.Competitor:
    """The GRU that PyTorch's layer is, by "cuda": it resets after the product, and needs one a step, not two."""
    rnn = nn.Recurrent(nn.GRUCell(problem.size.I, problem.size.H, reset="after"), engine="cuda")
    xs, gy = tg.tensor(problem.inputs["xs"], requires_grad=True), tg.tensor(problem.gy)

    def step() -> None:
        rnn.zero_grad()
        xs.grad = None
        rnn(xs)[0].backward(gy)

    return cells.Competitor(step, lambda result: {}, forward=lambda: rnn(xs))


def peers(site: Site, problem: cells.Problem) -> dict[str, cells.Competitor]:
    """PyTorch's loop and, where it has one, its own layer, which is cuDNN's."""
    import cells_torch

    makers = {"loop": cells_torch.loop, "nn": cells_torch.layer}
    made = {name: make(problem, site.pytorch_device) for name, make in makers.items()}
    return {name: competitor for name, competitor in made.items() if competitor is not None}


def apart(competitors: Mapping[str, cells.Competitor]) -> dict[str, float]:
    """The largest deviation of outputs and gradients from those of the first competitor; not of other equations."""
    found = {name: c.read((c.step(), c.step())[1]) for name, c in competitors.items()}  # the second meets used memory
    expected = next(iter(found.values()))
    worst = {name: max((deviation(r[of], expected[of]) for of in r), default=None) for name, r in found.items()}
    return {name: value for name, value in worst.items() if value is not None}


# ---- compile --------------------------------------------------------------------------------------------------------

UNROLLED = 20  # steps: torch.compile unrolls the loop, and takes minutes for a hundred


def compile(site: Site) -> None:
    """The same of PyTorch's loop under torch.compile, as one graph of a few steps."""
    missing = site.pytorch()
    if missing:
        site.say("", skipped=missing)
        return
    T, B = site.choose((UNROLLED, 64), (2, 2))
    for H in site.choose((512, 256), (8,)):
        for cell in site.choose(CELLS, CELLS[2:3]):
            site.attempt(f"{cell} {H}", _compiled, site, cells.problem(cell, cells.Size(T, B, H, H)))


def _compiled(site: Site, problem: cells.Problem) -> dict[str, Any]:
    import cells_torch

    made = cells_torch.compiled(problem, site.pytorch_device, site.choose("inductor", "aot_eager"))
    assert made is not None and made.first_s is not None
    size, first_s = problem.size, round(made.first_s, 1)
    both = timed(site, {"compile": made.step}, size.T)["compile"]
    return {"cell": problem.cell, "H": size.H, "T": size.T, "B": size.B, "both": both, "first_s": first_s}


# ---- a whole model --------------------------------------------------------------------------------------------------


def lm(site: Site) -> None:
    """A step of training a language model: embedding, LSTM, output layer, loss, gradients, clipping, Adam."""
    missing = site.pytorch()
    if missing:
        site.say("PyTorch", skipped=missing)
    config = language_model.Config(
        hidden=site.choose(512, 8), embed=site.choose(128, 4), batch=site.choose(64, 3), steps=site.choose(64, 4)
    )
    for V in site.choose((100, 10_000), (20,)):
        site.attempt(f"{V} tokens", _whole_steps, site, config, V, not missing)


def _whole_steps(site: Site, config: language_model.Config, V: int, beside_pytorch: bool) -> dict[str, Any]:
    ids = np.random.default_rng(0).integers(0, V, config.batch * (config.steps * 40 + 1))
    stream = Stream(ids, config.batch, config.steps)
    tg.manual_seed(0)
    model = language_model.build(config, V)
    competitors = {"cuda": ours(model, stream, config)}
    if beside_pytorch:
        competitors["PyTorch"] = pytorch(model, stream, config, V, site.pytorch_device)
    first = {name: [float(step()) for _ in range(3)] for name, step in competitors.items()}
    sizes = {"V": V, "H": config.hidden, "E": config.embed, "T": config.steps, "B": config.batch}
    return {**sizes, "first_losses": first, "step": timed(site, competitors), "host": host_time(competitors["cuda"], 1)}


def ours(model: language_model.LanguageModel, stream: Stream, config: language_model.Config) -> Callable[[], Any]:
    """A step of training as `fit` makes it, but for reading the loss: its loss, per token, which nobody has read."""
    task, optimizer = (
        language_model.LanguageTask(model, stream, stream),
        optim.Adam(model.parameters(), config.lr),
    )
    state = {"i": 0, "carry": task.start(0)}

    def step() -> Any:
        loss, n, state["carry"] = task.loss(state["i"] % len(task), state["carry"])
        state["i"] += 1
        (loss / n).backward()
        optim.clip_grad_norm_(optimizer.parameters, config.clip)
        optimizer.step()
        optimizer.zero_grad()
        return _Late(loss, n)

    return step


class _Late:
    """A loss that is read when it is asked for."""

    def __init__(self, loss: Any, n: int):
        self.loss, self.n = loss.detach(), n

    def __float__(self) -> float:
        return float(self.loss.item()) / self.n


def pytorch(
    model: language_model.LanguageModel, stream: Stream, config: language_model.Config, V: int, device: str
) -> Callable[[], Any]:
    """The same with the same weights in PyTorch, whose batches are on the GPU from the beginning."""
    import torch

    names = {"embedding": torch.nn.Embedding(V, config.embed), "output": torch.nn.Linear(config.hidden, V)}
    theirs = torch.nn.ModuleDict({**names, "recurrent": torch.nn.LSTM(config.embed, config.hidden)})
    weights = {k.replace("recurrent.cell.", "recurrent."): v for k, v in torch_weights.export(model).items()}
    renamed = {f"{k}_l0" if k.startswith("recurrent.") else k: torch.tensor(v) for k, v in weights.items()}
    theirs.load_state_dict(renamed)
    theirs.to(device)
    theirs["recurrent"].bias_hh_l0.requires_grad_(False)  # a second bias would learn at twice the rate
    parameters = [p for p in theirs.parameters() if p.requires_grad]
    optimizer = torch.optim.Adam(parameters, config.lr, fused=True)
    windows = [tuple(torch.tensor(ids, device=device) for ids in window) for window in stream]
    state: dict[str, Any] = {"i": 0, "carry": None}

    def step() -> Any:
        inputs, targets = windows[state["i"] % len(windows)]
        state["i"] += 1
        ys, carry = theirs["recurrent"](theirs["embedding"](inputs), state["carry"])
        state["carry"] = tuple(s.detach() for s in carry)
        loss = torch.nn.functional.cross_entropy(theirs["output"](ys).flatten(0, 1), targets.flatten())
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, config.clip)
        optimizer.step()
        return loss.detach()

    return step


# ---- sweep ----------------------------------------------------------------------------------------------------------

CONSTANTS = {  # of compiler/cuda/threads.py, and a cell whose kernels they size
    "BLOCK": ("lstm", (32, 64, 128, 256, 512)),
    "MOST": ("layernorm-lstm", (64, 128, 256, 512, 1024)),
}


def sweep(site: Site) -> None:
    """Sizes of blocks: the best, and the present one."""
    T, B = site.choose((100, 64), (3, 2))
    for H in site.choose((512, 256, 1024), (40,)):
        for name, (cell, values) in CONSTANTS.items():
            size = cells.Size(T, B, H, H)
            site.attempt(f"{name} {H}", swept, site, name, cells.problem(cell, size), site.choose(values, values[:2]))


def swept(site: Site, name: str, problem: cells.Problem, values: tuple[int, ...]) -> dict[str, Any]:
    """Microseconds a step for each value of a constant; and why others cannot be: too many registers, say."""
    competitors, refused = {}, {}
    for value in values:
        try:
            competitors[str(value)] = sized(name, value, problem)
        except Exception as error:
            refused[str(value)] = one_line(error)
    if not competitors:
        raise RuntimeError(f"no value of {name} runs: {refused}")
    both = timed(site, competitors, problem.size.T)
    present, best = str(getattr(threads, name)), min(both, key=both.__getitem__)
    return {
        "cell": problem.cell, "H": problem.size.H, "present": present, "best": best, "both": both, "refused": refused,
    }  # fmt: skip


def sized(name: str, value: int, problem: cells.Problem) -> Callable[[], Any]:
    """A step whose program was made while a constant had some value."""
    present = getattr(threads, name)
    setattr(threads, name, value)
    try:
        step = cells_tg.competitor(problem, "cuda").step
        step()
    finally:
        setattr(threads, name, present)
    return step
