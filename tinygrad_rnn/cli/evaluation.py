"""How well does a trained model do, whatever its kind?"""

from __future__ import annotations

import argparse

from pathlib import Path

from tinygrad_rnn.cli import language_model, translation
from tinygrad_rnn.tasks.kind import kind_of
from tinygrad_rnn.tasks.run_folder import RunFolder

OF_PAIRS = {"beam": 1, "length_penalty": 1.0, "bleu": False, "replace_unk": False}  # and their defaults


def add_evaluate(p: argparse.ArgumentParser) -> None:
    """Add the options of `tinygrad-rnn evaluate` to its parser."""
    p.set_defaults(run=evaluate)
    p.add_argument("folder", metavar="DIR", help="a run's folder; without a file, what it was tested or validated on")
    p.add_argument("--text", metavar="FILE", help="a text that a language model predicts")
    translation.add_evaluation(p)


def evaluate(args: argparse.Namespace) -> None:
    """Print how well a model does on a file of its kind."""
    pairs = kind_of(RunFolder(Path(args.folder))) == "seq2seq"
    other, given = ("--text", args.text) if pairs else ("--pairs", args.pairs)
    if given:
        what = "a model of pairs" if pairs else "a language model"
        raise ValueError(
            f"{other}: must be left out, {args.folder} holds {what}; --{'pairs' if pairs else 'text'} FILE"
        )
    for name, default in () if pairs else OF_PAIRS.items():
        if getattr(args, name) != default:
            flag = name.replace("_", "-")
            raise ValueError(f"--{flag}: is for models of pairs, {args.folder} holds a language model")
    (translation if pairs else language_model).evaluate(args)
