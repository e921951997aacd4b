"""Drawing the graph of a two-layer LSTM as SVG: CPU seconds and the size of the file, against torchviz and torchview.

python benchmarks/drawing.py [--peers torchviz,torchview] [--rounds 3] [--limit 60] [--steps 20,100,1000]

The loop is the same in both libraries: two LSTM cells, a linear map and a cross-entropy at each step, their sum. Each
drawing is made in a process of its own, after a tiny one that pays for imports. Counted is the user and system time of
that process and of the programs that it starts, from the graph to the file. torchview records its graph itself, so its
time has the forward pass in it.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime
import multiprocessing
import os
import platform
import re
import resource
import shutil
import signal
import statistics
import tempfile

from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import timing

B, I, H, V = 2, 3, 4, 5
TINY = 2  # steps of the drawing that pays for imports
LONG = 10_000  # steps of those whose middle is left out
PEER_STEPS = (5, 10, 20, 100)
VERSIONS = ("numpy", "llvmlite", "torch", "torchviz", "torchview")

Draw = Callable[[Path], object]


class Cost(NamedTuple):
    """Seconds of CPU, and bytes of the file."""

    cpu: float
    size: int


# ---- what is drawn --------------------------------------------------------------------------------------------------


def inputs(T: int) -> np.ndarray:
    return np.random.default_rng(0).normal(size=(T, B, I)).astype(np.float32)


def our_loop(T: int) -> Any:
    """The loss of a loop that a user writes."""
    import tinygrad_rnn as tg

    from tinygrad_rnn import nn

    cell, linear, loss = nn.Stack([nn.LSTMCell(I, H), nn.LSTMCell(H, H)]), nn.Linear(H, V), 0
    state = cell.initial_state(B)
    for t, x in enumerate(tg.tensor(inputs(T))):
        with tg.scope(t):
            y, state = cell(x, state)
            loss = loss + nn.cross_entropy(linear(y), np.zeros(B, int))
    return loss


def our_layer(T: int) -> Any:
    """The loss of a compiled layer of the same cells."""
    import tinygrad_rnn as tg

    from tinygrad_rnn import nn

    layer = nn.Recurrent(nn.Stack([nn.LSTMCell(I, H), nn.LSTMCell(H, H)]), engine="compiled")
    ys, _ = layer(tg.tensor(inputs(T)))
    return nn.cross_entropy(nn.Linear(H, V)(ys), np.zeros((T, B), int))


def torch_loop(T: int) -> tuple[Any, Any]:
    """The loop as a module that returns the loss, and its input."""
    import torch

    class Loop(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.below, self.above = torch.nn.LSTMCell(I, H), torch.nn.LSTMCell(H, H)
            self.linear = torch.nn.Linear(H, V)

        def forward(self, xs: torch.Tensor) -> torch.Tensor:
            targets, loss = torch.zeros(B, dtype=torch.long), torch.zeros(())
            below = above = (torch.zeros(B, H), torch.zeros(B, H))
            for x in xs:
                below = self.below(x, below)
                above = self.above(below[0], above)
                loss = loss + torch.nn.functional.cross_entropy(self.linear(above[0]), targets)
            return loss

    return Loop(), torch.tensor(inputs(T))


# ---- who draws it: from T to a function that draws, once the graph is there -----------------------------------------


def all_steps(T: int) -> Draw:
    import viz

    loss = our_loop(T)
    return lambda path: viz.draw(loss, path, steps="all")


def left_out(T: int) -> Draw:
    import viz

    loss = our_loop(T)
    return lambda path: viz.draw(loss, path)


def left_out_compiled(T: int) -> Draw:
    import viz

    loss = our_layer(T)
    return lambda path: viz.draw(loss, path)


def with_torchviz(T: int) -> Draw:
    import torchviz

    model, xs = torch_loop(T)
    loss, params = model(xs), dict(model.named_parameters())
    return lambda path: path.write_bytes(svg(torchviz.make_dot(loss, params=params)))


def with_torchview(T: int) -> Draw:
    import torchview

    model, xs = torch_loop(T)
    return lambda path: path.write_bytes(svg(torchview.draw_graph(model, xs, expand_nested=True).visual_graph))


def svg(digraph: Any) -> bytes:
    """What the peers' users get from their graphviz.Digraph; where there is no `dot`, as viz does: in process."""
    if shutil.which("dot"):
        return digraph.pipe("svg")
    import pygraphviz

    return pygraphviz.AGraph(string=digraph.source).draw(format="svg", prog="dot")


DRAWINGS = {
    "viz, all steps": all_steps,
    "viz, first and last steps": left_out,
    "viz, first and last steps, compiled layer": left_out_compiled,
    "torchviz": with_torchviz,
    "torchview": with_torchview,
}
PEERS = ("torchviz", "torchview")


# ---- one measurement, in a process of its own -----------------------------------------------------------------------


def cpu_seconds() -> float:
    """User and system time of this process and of the programs that it has started and awaited."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(u.ru_utime + u.ru_stime for u in used)


def draw_here(drawing: str, T: int, connection: Connection) -> None:
    """Send None when the graph is there; then the cost, or the error in words."""
    os.setpgid(0, 0)  # so that a program of Graphviz can be stopped together with this process
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # where Graphviz writes warnings of fonts and of sizes
    try:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "drawing.svg"
            DRAWINGS[drawing](TINY)(path)
            draw = DRAWINGS[drawing](T)
            connection.send(None)
            start = cpu_seconds()
            draw(path)
            connection.send(Cost(cpu_seconds() - start, path.stat().st_size))
    except Exception as error:
        connection.send(_in_words(error))


def _in_words(error: Exception) -> str:
    if isinstance(error, RecursionError):
        return "RecursionError"
    return f"{type(error).__name__}: {error}".splitlines()[0]


def measure(drawing: str, T: int, limit: float) -> Cost | str:
    """The cost; or what happened instead. limit: seconds for the drawing, by the clock on the wall."""
    spawn = multiprocessing.get_context("spawn")
    connection, theirs = spawn.Pipe(duplex=False)
    process = spawn.Process(target=draw_here, args=(drawing, T, theirs), daemon=True)
    process.start()
    theirs.close()
    try:
        failed = connection.recv()
        if failed is None and not connection.poll(limit):
            return f"more than {limit:g} s"
        return failed or connection.recv()
    except EOFError:
        process.join()
        return _death(process.exitcode)
    finally:
        _stop(process)


def _death(status: int | None) -> str:
    return f"killed by {signal.Signals(-status).name}" if status is not None and status < 0 else f"exit status {status}"


def _stop(process: Any) -> None:
    """End it with all that it started, unless it ended by itself."""
    if process.exitcode is None:
        with contextlib.suppress(ProcessLookupError):  # its group is there once it runs
            os.killpg(process.pid, signal.SIGKILL)
        process.kill()
    process.join()


# ---- all of them ----------------------------------------------------------------------------------------------------


def tasks(steps: Sequence[int], peers: Sequence[str]) -> list[tuple[str, int]]:
    """Which drawing over how many steps."""
    ours = [("viz, all steps", T) for T in steps]
    ours += [("viz, first and last steps", LONG), ("viz, first and last steps, compiled layer", LONG)]
    return ours + [(peer, T) for peer in peers for T in PEER_STEPS]


def measure_all(todo: Sequence[tuple[str, int]], rounds: int, limit: float) -> dict[tuple[str, int], list[Cost] | str]:
    """In turn, `rounds` times; what failed once is not tried again."""
    costs: dict[tuple[str, int], list[Cost] | str] = {task: [] for task in todo}
    for _ in range(rounds):
        for task in todo:
            so_far = costs[task]
            if isinstance(so_far, list):
                cost = measure(*task, limit)
                costs[task] = cost if isinstance(cost, str) else [*so_far, cost]
    return costs


def print_table(costs: dict[tuple[str, int], list[Cost] | str]) -> None:
    print("\n| drawing | T | CPU s, median (range) | KB |\n|---|---:|---:|---:|")
    for (drawing, T), each in costs.items():
        print(f"| {drawing} | {T:,} | {_row(each)} |", flush=True)


def _row(each: list[Cost] | str) -> str:
    if isinstance(each, str):
        return f"{each} | –"
    seconds = [cost.cpu for cost in each]
    size = statistics.median(cost.size for cost in each) / 1000
    return f"{statistics.median(seconds):.2f} ({min(seconds):.2f}–{max(seconds):.2f}) | {size:,.0f}"


def print_header() -> None:
    """The machine, the versions and the date."""
    print(f"{datetime.date.today()}  {timing.cpu_model()}, {os.cpu_count()} cores  Python {platform.python_version()}")
    print("  ".join(f"{name} {timing.version(name)}" for name in VERSIONS if timing.version(name)))
    print(f"{graphviz()}  load {os.getloadavg()[0]:.2f}")


def graphviz() -> str:
    """Which Graphviz draws, as it signs its pictures, and how it is reached."""
    from viz.graphviz import render

    found = re.search(r"graphviz version (\S+)", render.render("digraph { a }", "svg", engine="dot").decode())
    package = "graphviz" if shutil.which("dot") else "pygraphviz"
    way = f"program {shutil.which('dot')}" if shutil.which("dot") else "in process"
    return f"Graphviz {found[1] if found else '?'}, {way}, by {package} {timing.version(package)}"


def main() -> None:
    names = lambda text: [name for name in text.split(",") if name]
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--peers", type=names, default=list(PEERS), help='"" for none')
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--limit", type=float, default=60, help="seconds for one drawing, by the clock on the wall")
    parser.add_argument("--steps", type=lambda text: [int(T) for T in names(text)], default=[20, 100, 1000])
    options = parser.parse_args()
    if unknown := set(options.peers) - set(PEERS):
        parser.error(f"--peers must be of {', '.join(PEERS)}, got {', '.join(sorted(unknown))}")
    print_header()
    if absent := [peer for peer in options.peers if not timing.version(peer)]:
        print(f"not installed, so not measured: {', '.join(absent)}")
    todo = tasks(options.steps, [peer for peer in options.peers if peer not in absent])
    print_table(measure_all(todo, options.rounds, options.limit))


if __name__ == "__main__":
    main()
