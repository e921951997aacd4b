"""What a step of training takes in one of several processes: run by parallel.py under mpiexec, prints a line of JSON.

mpiexec -n 2 python benchmarks/parallel_step.py step '{"kind": "lm", "steps": 60, "hidden": 256}'
"""

from __future__ import annotations

import json
import os
import sys
import time

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

import tinygrad_rnn as tg

from tinygrad_rnn import nn, optim
from tinygrad_rnn.tasks import language_model, translation
from tinygrad_rnn.tasks.run_folder import RunFolder

try:
    from tinygrad_rnn import parallel
except ImportError:  # a version before there were several processes: to compare with
    parallel = None
clock = time.perf_counter
spent: dict[str, float] = {}


def timed(cls: Any, method: str, part: str) -> None:
    """Add up the seconds of a method's calls."""
    before = getattr(cls, method)

    def call(self: Any, *args: Any, **more: Any) -> Any:
        start = clock()
        try:
            return before(self, *args, **more)
        finally:
            spent[part] = spent.get(part, 0.0) + clock() - start

    setattr(cls, method, call)


def watch() -> None:
    """Time what processes say to one another."""
    if parallel is None:
        return
    from tinygrad_rnn.parallel import buckets, sums, waiting

    timed(buckets.Bucket, "put", "copy")
    timed(buckets.RowsBucket, "put", "copy")
    timed(sums.Sums, "add_up", "sum")
    timed(waiting.Waiting, "wait", "wait")


def step(kind: str, steps: int, **options: Any) -> dict[str, Any]:
    """A trainer's own steps. Milliseconds of the parts: the median of each, over the last two thirds of the steps."""
    KIND = {"lm": language_model, "seq2seq": translation}[kind].KIND
    config = replace(KIND.config(), **options)
    trainer, vocabularies = KIND.new_run(config, RunFolder(Path(os.environ["RUN"])), 1e9)
    trainer.model.train()
    trainer.carry = trainer.task.start(0)
    watch()
    rows = []
    for i in range(steps):
        spent.clear()
        start = clock()
        trainer._batch(i % len(trainer.task))
        rows.append({"step": clock() - start, **spent})
    rows = rows[steps // 3 :]  # by then the shapes of all batches are compiled
    nbytes = sum(p.array.nbytes for p in trainer.model.parameters())
    parts = {k: round(1e3 * median(row.get(k, 0.0) for row in rows), 4) for k in ("step", "copy", "wait", "sum")}
    mean = round(1e3 * sum(row["step"] for row in rows) / len(rows), 4)
    return {"ms": parts, "mean": mean, "MB": nbytes / 1e6, "tokens": [len(v) for v in vocabularies]}


def words(V: int, H: int, steps: int, batch: int) -> dict[str, Any]:
    """A model of V words, its embedding's gradient summed as a whole, and only the rows that were read."""
    from tinygrad_rnn.parallel import sums

    world, found, nbytes = parallel.world(), {}, []
    add_up = sums.Sums.add_up
    sums.Sums.add_up = lambda self, buffer: (nbytes.append(buffer.nbytes), add_up(self, buffer))[1]
    for how in "whole", "rows":
        model, losses, times = made(V, H), [], []
        optimizer = optim.Adam(model.parameters(), 1e-3)
        rng = np.random.default_rng(0)
        for _ in range(steps):
            ids = zipf(rng, V, (33, batch))
            mine = world.part(batch)
            start = clock()
            loss = loss_of(model, ids[:, mine], batch)
            loss.backward()
            nbytes.clear()
            rows = {model.embedding.E: np.unique(ids[:-1])} if how == "rows" else {}
            losses += world.all_reduce(optimizer.parameters, loss.item(), rows=rows)
            optimizer.step()
            optimizer.zero_grad()
            times.append(clock() - start)
        found[how] = {"MB a step": sum(nbytes) / 1e6, "ms": 1e3 * median(times[steps // 3 :]), "losses": losses}
    E = model.embedding.E.array.nbytes / 1e6
    whole = sum(p.array.nbytes for p in model.parameters()) / 1e6
    same = np.allclose(found["whole"].pop("losses"), found["rows"].pop("losses"), rtol=1e-5)
    return {"embedding MB": E, "all MB": whole, "same losses": bool(same), **found}


def overlap(V: int, H: int, steps: int, gbps: float, workers: int) -> dict[str, Any]:
    """The sum after the backward pass, and during it; a ring of `workers` machines is played by sleeping."""
    from tinygrad_rnn.parallel import sums

    world, found = parallel.world(), {}
    add_up = sums.Sums.add_up

    def slowly(self: Any, buffer: Any) -> None:
        add_up(self, buffer)
        time.sleep(buffer.nbytes * 2 * (workers - 1) / workers / (gbps / 8 * 1e9))

    sums.Sums.add_up = slowly
    for how in "after", "during":
        model, rows, losses = made(V, H), [], []
        optimizer = optim.Adam(model.parameters(), 1e-3)
        parameters, rng = optimizer.parameters, np.random.default_rng(world.rank)
        for _ in range(steps):
            ids = rng.integers(0, V, (33, 16))
            start = clock()
            with world.overlapping(parameters) if how == "during" else parallel.World().overlapping(parameters):
                loss = loss_of(model, ids, 16 * world.size)
                loss.backward()
            backward = clock()
            losses += world.all_reduce(parameters, loss.item())
            summed = clock()
            optim.clip_grad_norm_(parameters, 1.0)
            optimizer.step()
            optimizer.zero_grad()
            rows.append((clock() - start, backward - start, summed - backward))
        names = "step", "until the end of backward", "exposed sum"
        found[how] = {k: 1e3 * median(v[steps // 3 :]) for k, v in zip(names, zip(*rows, strict=True), strict=True)}
        found[how]["losses"] = losses
    same = found["after"].pop("losses") == found["during"].pop("losses")
    nbytes = sum(p.array.nbytes for p in parameters)
    ring = 1e3 * nbytes * 2 * (workers - 1) / workers / (gbps / 8 * 1e9)
    return {"MB": nbytes / 1e6, "ring ms": ring, "losses bit for bit the same": same, **found}


def made(V: int, H: int) -> Any:
    tg.manual_seed(0)
    return language_model.LanguageModel(V, H, nn.LSTMCell(H, H), H)


def loss_of(model: Any, ids: np.ndarray, batch: int) -> Any:
    ys, _ = model.read(ids[:-1])
    total = nn.linear_cross_entropy(ys, model.output.W, model.output.b, ids[1:], reduction="sum")
    return total / (batch * (len(ids) - 1))


def zipf(rng: np.random.Generator, V: int, shape: tuple[int, ...]) -> np.ndarray:
    """Words as often as in a text: the r-th most frequent one 1 / r as often as the first."""
    p = 1 / np.arange(1, V + 1)
    return np.searchsorted(np.cumsum(p / p.sum()), rng.random(shape))


WHAT: dict[str, Callable[..., dict[str, Any]]] = {"step": step, "words": words, "overlap": overlap}

if __name__ == "__main__":
    result = WHAT[sys.argv[1]](**json.loads(sys.argv[2]))
    if parallel is None or parallel.world().rank == 0:
        print(json.dumps(result), flush=True)
