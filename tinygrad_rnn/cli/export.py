"""Trained language models as files that other programs run."""

from __future__ import annotations

import argparse

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from tinygrad_rnn import export
from tinygrad_rnn.cli.output import say
from tinygrad_rnn.tasks import language_model
from tinygrad_rnn.tasks.kind import kind_of
from tinygrad_rnn.tasks.run_folder import RunFolder


def add_export(p: argparse.ArgumentParser) -> None:
    """Add the options of `tinygrad-rnn export` to its parser."""
    p.set_defaults(run=write)
    p.add_argument("folder", metavar="DIR", help="a language model's folder")
    p.add_argument("--onnx", metavar="FILE", help="ids (T, B) and a state in, logits (T, B, V) and the state out")
    p.add_argument("--c", metavar="FILE", help="one step in C99, with a main that goes on after a text")
    p.add_argument("--html", metavar="FILE", help="a page that writes in any browser, of a model of characters")
    p.add_argument(
        "--weights", default="float32", choices=("float32", "int8"), help="of --c and --html (default: %(default)s)"
    )


def write(args: argparse.Namespace) -> None:
    """The best model of a run, in each of the forms that were asked for."""
    if not (args.onnx or args.c or args.html):
        raise ValueError("export: there must be a file to write; add --onnx FILE, --c FILE or --html FILE")
    if args.weights != "float32" and not (args.c or args.html):
        raise ValueError(f"--weights {args.weights}: is for C; add --c FILE or --html FILE")
    folder = RunFolder(Path(args.folder))
    if kind_of(folder) == "seq2seq":
        raise ValueError(f"export: {args.folder!r} must be the run of a language model, it is one of pairs")
    model, vocabulary = language_model.load(folder)
    parts = [model] if model.tied else [model.embedding, model.recurrent, model.output]
    ids = np.zeros((1, 1), np.int64)
    letters = vocabulary.tokens if vocabulary.unit == "character" else []
    if args.html and not letters:
        raise ValueError(f"--html: the tokens must be characters, {args.folder} has {vocabulary.unit}s")
    if args.html and (long := [t for t in letters if len(t) > 1]):
        raise ValueError(f"--html: each token must be a character, {args.folder} has {long[0]!r}")
    if args.onnx:
        export.onnx(parts, ids, args.onnx, state=model.initial_state(1))
    if args.c:
        export.c(parts, ids, args.c, weights=args.weights, tokens=letters or None)
    if args.html:
        export.html(parts, args.html, letters, weights=args.weights, **_shown(folder, model, letters))
    for file in filter(None, (args.onnx, args.c, args.html)):
        say(f"wrote {file}, {Path(file).stat().st_size:,} bytes")


def _shown(folder: RunFolder, model: language_model.LanguageModel, letters: Sequence[str]) -> dict[str, str]:
    """What a page says of a model."""
    config, size = language_model.KIND.read_config(folder), sum(p.size for p in model.parameters())
    layers = f"{config.layers} layers of " if config.layers > 1 else ""
    return {
        "title": f"{folder.path.name}: a language model writes",
        "about": f"{config.cell.upper()}, {layers}{config.hidden} units, {size:,} parameters, {len(letters)} letters.",
        "prompt": "The " if {*"The "} <= {*letters} else letters[0],
    }
