"""Parsing: errors in one line, and the options that all kinds of training have."""

from __future__ import annotations

import argparse

from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any

from tinygrad_rnn.tasks.kind import Kind
from tinygrad_rnn.tasks.optimizers import OPTIMIZERS, SCHEDULES

CELL = "lstm, gru, rnn, or a cell of your own as package.module:Class (default: lstm)"

WEIGHT_DECAY = 0.01  # of AdamW, where nothing else is said: that of `optim.AdamW`
LEARNING = {
    "optimizer": "what makes steps of gradients",
    "weight_decay": f"of sgd, added to the gradient; of adamw, apart from it, {WEIGHT_DECAY} if not given",
    "schedule": "of the learning rate: constant; step_decay, see --step-size; cosine, down until the last epoch",
    "step_size": "with step_decay: the learning rate falls after so many epochs",
    "gamma": "with step_decay: by this factor",
    "warmup": "steps at the beginning in which the learning rate rises to its schedule",
    "patience": "end when held-out data has not become better for so many epochs; 0: go on to the last",
}
CHOICES = {"optimizer": tuple(OPTIMIZERS), "schedule": tuple(SCHEDULES)}


class Parser(argparse.ArgumentParser):
    """Errors in one line, with exit code 2."""

    def error(self, message: str) -> Any:
        self.exit(2, f"tinygrad-rnn: {message}; see {self.prog} --help\n")


def of_training(
    p: argparse.ArgumentParser, kind: Kind, file: str, texts: dict[str, str],
    choices: Mapping[str, Sequence[str]] | None = None,
) -> None:  # fmt: skip
    """The options of a run. file: help on that of its file  texts: help on the others, by the fields of its config

    Those of the config default to None, so that a resumed run can tell what was given; the config holds the defaults.
    """
    default: Any = kind.config()
    p.add_argument(f"--{kind.source}", metavar="FILE", help=file)
    for name, text in {**texts, **LEARNING}.items():
        _of_field(p, name, getattr(default, name), text, {**CHOICES, **(choices or {})}.get(name))
    p.add_argument("--cell", help=CELL)
    p.add_argument("--dtype", choices=["float32", "float64"], help=f"(default: {default.dtype})")
    p.add_argument("--out", default=f"runs/{kind.name}", metavar="DIR", help="the run's folder (default: %(default)s)")
    p.add_argument(
        "--resume", action="store_true", help="go on with the run in --out where its last checkpoint left it"
    )
    p.add_argument(
        "--save-every", type=float, default=10.0, metavar="SECONDS", help="between checkpoints (default: 10)"
    )
    p.add_argument(
        "--share-update", action="store_true",
        help="several processes: each updates its part of the weights, with the optimiser's memory of that part",
    )  # fmt: skip


def _of_field(p: argparse.ArgumentParser, name: str, value: Any, text: str, choices: Sequence[str] | None) -> None:
    """An option for a field of a config, of which `value` is the default."""
    flag = f"--{name.replace('_', '-')}"
    if isinstance(value, bool):
        p.add_argument(flag, dest=name, action="store_true", default=None, help=text)
        return
    text = f"{text} (default: {value})"
    if choices:
        p.add_argument(flag, dest=name, choices=choices, help=text)
    else:
        metavar = {int: "N", float: "X"}.get(type(value), "NAME")
        p.add_argument(flag, dest=name, type=type(value), metavar=metavar, help=text)


def given(args: argparse.Namespace, kind: Kind) -> dict[str, Any]:
    """The fields of a run's config that were named on the command line."""
    names = [f.name for f in fields(kind.config)]
    found = {name: getattr(args, name) for name in names if getattr(args, name, None) is not None}
    if found.get("optimizer") == "adamw" and not args.resume:
        found.setdefault("weight_decay", WEIGHT_DECAY)
    if kind.source in found:
        found[kind.source] = str(Path(found[kind.source]).absolute())
    return found


def resumed(kind: Kind, saved: Any, found: dict[str, Any]) -> Any:
    """The config of a resumed run: as it was saved, but that more epochs or patience may be asked for, and that the
    file may have been moved. ValueError if other options were given, or if there is no such file.
    """
    keep, old = kept(kind), asdict(saved)
    for key, value in found.items():
        if key not in keep and value != old[key]:
            flag = key.replace("_", "-")
            has = f"--{flag} {old[key]}" if not isinstance(value, bool) else f"no --{flag}"
            raise ValueError(f"--resume: the options of a run stay; it has {has}, got {value}; leave the option out")
    path, source = old[kind.source], kind.source
    if path and source not in found and not Path(path).exists():
        raise ValueError(f"--resume: there is no file {path!r} any more; if it was moved, add --{source} FILE")
    return replace(saved, **{key: value for key, value in found.items() if key in keep})


def kept(kind: Kind) -> tuple[str, ...]:
    """The options that may be others when a run is resumed."""
    return "epochs", "patience", kind.source
