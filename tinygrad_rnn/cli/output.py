"""What commands write: lines on standard output, pictures."""

from __future__ import annotations

import io
import os
import sys

from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import tinygrad_rnn

from tinygrad_rnn import parallel
from tinygrad_rnn.autograd.tensor import Tensor
from tinygrad_rnn.files import replace_atomically
from tinygrad_rnn.tasks.fit import Trainer

if TYPE_CHECKING:
    import viz


def escape_unwritable() -> None:
    """Where an encoding lacks a sign ("→" in ASCII or cp1252), standard output and error get its number instead."""
    for stream in sys.stdout, sys.stderr:
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def nobody_reads() -> None:
    """Standard output is closed: from now on it leads nowhere, instead of to another error at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def say(text: str, end: str = "\n") -> None:
    """Print to standard output at once; an OSError names it."""
    try:
        print(text, end=end, flush=True)  # noqa: T201
    except OSError as error:  # such as a full disk
        if error.errno:
            error.filename = "standard output"
        raise


def note(text: str) -> None:
    """A line for the user beside what a command writes: to standard error."""
    line = f"tinygrad-rnn: {text}\n"  # in one piece: other processes write there too
    print(line, end="", file=sys.stderr, flush=True)  # noqa: T201


def report(text: str) -> None:
    """The same for a run, which goes on when nobody reads any more (`train … | head`); of several processes one."""
    if parallel.world().rank:
        return
    try:
        say(text)
    except BrokenPipeError:
        nobody_reads()


def pictures() -> ModuleType:
    """The package viz that came with this one; RuntimeError that names another of that name in its place."""
    try:
        return tinygrad_rnn.viz
    except ImportError as error:
        raise RuntimeError(str(error)) from None


def draw_to(loss: Tensor, paths: list[Path], *, play: bool = False, **options: Any) -> None:
    """Draw a graph into files; one that nobody asked for may fail."""
    try:
        drawing: viz.Drawing = pictures().draw(loss, **options)
        for path in paths:
            drawing.save(path, play=play)
            report(f"wrote {path}")
    except RuntimeError as error:
        if len(paths) == 1:  # somebody asked for this one file
            raise
        report(f"no picture: {error}")


def loss_curve(trainer: Trainer, path: Path) -> None:
    """Training and held-out loss over the epochs, as a picture; needs the extra `plot`."""
    try:
        from matplotlib.figure import Figure  # noqa: PLC0415
        from matplotlib.ticker import MaxNLocator  # noqa: PLC0415
    except ImportError:
        report('no loss curve: matplotlib is not installed; pip install "tinygrad-rnn[plot]"')
        return
    rows, metric = trainer.progress.rows, trainer.task.metric
    if not rows:
        return
    figure = Figure(figsize=(6, 3.6), layout="constrained")
    axes = figure.subplots()
    for kind, colour, label in ("train", "#2f6fab", "training"), ("valid", "#c0392b", "held out"):
        axes.plot(
            [row["epoch"] for row in rows], [row[f"{kind}_{metric.replace(' ', '_')}"] for row in rows],
            color=colour, marker="o", markersize=4, label=label,
        )  # fmt: skip
    axes.set(xlabel="epoch", ylabel=metric, xlim=(0.5, len(rows) + 0.5))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", color="#e5e7eb")
    axes.legend(frameon=False)
    replace_atomically(path, lambda temporary: figure.savefig(temporary, dpi=150))
    report(f"wrote {path}")
