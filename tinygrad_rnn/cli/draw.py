"""Pictures of small networks, and of trained ones that read something."""

from __future__ import annotations

import argparse

from pathlib import Path
from typing import Any

from tinygrad_rnn.autograd import random
from tinygrad_rnn.autograd.tensor import Tensor
from tinygrad_rnn.cli import options
from tinygrad_rnn.cli.output import draw_to
from tinygrad_rnn.tasks import cells_by_name, language_model, sketches, translation
from tinygrad_rnn.tasks.kind import kind_of
from tinygrad_rnn.tasks.run_folder import RunFolder


def add_draw(p: argparse.ArgumentParser) -> None:
    """Add the options of `tinygrad-rnn draw` to its parser."""
    p.set_defaults(run=draw)
    p.add_argument("folder", metavar="DIR", nargs="?", help="a run's folder: draw its model (default: a small network)")
    p.add_argument("--out", required=True, metavar="FILE", help="a .svg, .png, .pdf, .dot, .html, .gif or .mp4 file")
    views = "ops", "cells", "circuit", "textbook", "attention"
    p.add_argument("--view", default="ops", choices=views, help="default: ops")
    p.add_argument("--text", default="hello", help="what the model of a run reads (default: %(default)s)")
    p.add_argument("--cell", default="lstm", help=options.CELL)
    p.add_argument("--layers", type=int, default=1, help="default: %(default)s")
    p.add_argument("--bidirectional", action="store_true", help="layers in both directions")
    p.add_argument("--hidden", type=int, default=4, help="units of each layer (default: %(default)s)")
    p.add_argument("--steps", type=int, default=4, help="time steps (default: %(default)s)")
    p.add_argument("--show", metavar="STEPS", help="draw these steps: 1-3,998-1000 (default: the first and the last)")
    p.add_argument("--all-steps", action="store_true", help="draw every step")
    p.add_argument("--depth", type=int, help="levels of modules that are drawn as boxes (default: 1 in cells, else 0)")
    p.add_argument("--unfold", action="store_true", help="beside a circuit: the unrolled graph")
    p.add_argument("--gradient", action="store_true", help="colour by the gradient of the loss of the last step")
    p.add_argument("--shapes", action="store_true", help="note shapes and dtypes")
    p.add_argument("--values", action="store_true", help="note the norms of values")
    p.add_argument("--no-parameters", action="store_true", help="leave out parameters")
    p.add_argument("--no-colors", action="store_true", help="draw in grey")
    p.add_argument("--direction", default="right", choices=("right", "down"), help="of time (default: right)")
    p.add_argument("--width", help="of the page, in inches, or slide: letters are legible on it, steps as fit")
    p.add_argument("--font-size", type=float, help="of the letters, in points; all else grows with them (default: 11)")
    p.add_argument("--title", help="stands above")
    p.add_argument("--play", action="store_true", help="an SVG that plays by itself")


def draw(args: argparse.Namespace) -> None:
    """A network in any view: a small one round a cell, or a trained one that reads a text."""
    for name in "steps", "layers", "hidden":
        if getattr(args, name) < 1:
            raise ValueError(f"--{name}: must be at least 1, got {getattr(args, name)}")
    if args.play and Path(args.out).suffix not in (".svg", ".html", ".gif", ".mp4"):
        raise ValueError(f"--play: --out must be a .svg file, got {args.out!r}")
    random.manual_seed(0)
    options: dict[str, Any] = {"view": args.view, "steps": "all" if args.all_steps else args.show, "title": args.title}
    options |= {name: getattr(args, name) for name in ("depth", "unfold", "gradient", "shapes", "values", "direction")}
    options |= {"parameters": not args.no_parameters, "colors": not args.no_colors}
    if args.width is not None:
        options["width"] = _width(args.width)
    options["font_size"] = args.font_size
    if args.folder is None:
        loss = _sketch(args)
    else:
        loss, tokens = _of_run(RunFolder(Path(args.folder)), args)
        if args.view not in ("circuit", "textbook") or args.unfold:
            options |= tokens
    draw_to(loss, [Path(args.out)], play=args.play, **options)


def _width(given: str) -> str | float:
    try:
        return float(given)
    except ValueError:
        return given


def _of_run(folder: RunFolder, args: argparse.Namespace) -> tuple[Tensor, dict[str, Any]]:
    """The loss of a trained model that reads --text, and the tokens to show."""
    if kind_of(folder) == "seq2seq":
        loss, tokens, targets = translation.unrolled(translation.Translator.load(folder), args.text)
        return loss, {"tokens": tokens, "targets": targets}
    model, vocabulary = language_model.load(folder)
    ids = vocabulary.encode(args.text, "--text")
    if len(ids) < 2:
        raise ValueError(f"--text: must have at least 2 tokens, of which the last is predicted, got {args.text!r}")
    return language_model.unrolled(model, ids), {"tokens": vocabulary.shown(ids[:-1])}


def _sketch(args: argparse.Namespace) -> Any:
    make = lambda inputs, units: cells_by_name.make_cell(args.cell, inputs, units)
    if args.view == "attention":
        return sketches.attention(make, args.hidden, args.steps, args.steps)
    if args.view == "textbook":
        return cells_by_name.stacked(make, sketches.SIZE, args.hidden, args.layers)
    network = sketches.bidirectional if args.bidirectional else sketches.predictor
    if args.gradient and not args.bidirectional:
        network = sketches.classifier
    return network(make, args.hidden, args.steps, args.layers)
