"""Trained language models as files that other programs run."""

from __future__ import annotations

import argparse

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
    p.add_argument(
        "--weights", default="float32", choices=("float32", "int8"), help="of the C file (default: %(default)s)"
    )


def write(args: argparse.Namespace) -> None:
    """The best model of a run, in each of the forms that were asked for."""
    if not (args.onnx or args.c):
        raise ValueError("export: there must be a file to write; add --onnx FILE or --c FILE")
    if args.weights != "float32" and not args.c:
        raise ValueError(f"--weights {args.weights}: is for a C file; add --c FILE")
    folder = RunFolder(Path(args.folder))
    if kind_of(folder) == "seq2seq":
        raise ValueError(f"export: {args.folder!r} must be the run of a language model, it is one of pairs")
    model, vocabulary = language_model.load(folder)
    parts = [model] if model.tied else [model.embedding, model.recurrent, model.output]
    ids = np.zeros((1, 1), np.int64)
    for file in filter(None, (args.onnx, args.c)):
        if file == args.onnx:
            export.onnx(parts, ids, file, state=model.initial_state(1))
        else:
            tokens = vocabulary.tokens if vocabulary.unit == "character" else None
            export.c(parts, ids, file, weights=args.weights, tokens=tokens)
        say(f"wrote {file}, {Path(file).stat().st_size:,} bytes")
