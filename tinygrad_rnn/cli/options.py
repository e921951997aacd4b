"""Parsing: errors in one line, and the options that all kinds of training have."""

from __future__ import annotations

import argparse
import json

from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any

from tinygrad_rnn.tasks.config import checked
from tinygrad_rnn.tasks.kind import Kind
from tinygrad_rnn.tasks.optimizers import OPTIMIZERS, SCHEDULES
from tinygrad_rnn.tasks.run_folder import RunFolder

WEIGHT_DECAY = 0.01  # of AdamW, where nothing else is said: that of `optim.AdamW`
LEARNING = {
    "optimizer": "what makes steps of gradients",
    "weight_decay": f"of sgd, added to the gradient; of adamw, apart from it, {WEIGHT_DECAY} if not given",
    "schedule": "of the learning rate; cosine: down until the last epoch; step_decay, plateau: see --step-size",
    "step_size": "the learning rate falls; step_decay: after so many epochs; plateau: after so many without gain",
    "gamma": "with step_decay and plateau: by this factor",
    "warmup": "steps at the beginning in which the learning rate rises to its schedule",
    "accumulate": "batches that a step learns from, one by one: as a --batch N times as large, in less memory",
    "patience": "end when held-out data has not become better for so many epochs; 0: go on to the last",
    "log_every": "steps between lines; 0: a line each minute, if this is no terminal",
    "tensorboard": "also write what each line and each epoch says for TensorBoard, into the run's folder",
}
CHOICES = {"optimizer": tuple(OPTIMIZERS), "schedule": tuple(SCHEDULES)}
CELL = "lstm, gru, rnn, or a cell of your own as package.module:Class (default: lstm)"


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
    p.add_argument(
        f"--valid-{kind.source}",
        metavar="FILE",
        help=f"one to validate on (default: a share, --valid, of --{kind.source})",
    )
    p.add_argument(f"--test-{kind.source}", metavar="FILE", help="one that the trained model is evaluated on")
    choices = {**CHOICES, **(choices or {})}
    for name, text in {**texts, **LEARNING}.items():
        _of_field(p, name, getattr(default, name), text, choices.get(name))
    p.add_argument("--cell", help=CELL)
    p.add_argument(
        "--from", dest="from_run", metavar="RUN",
        help="begin with the weights of another run, and with its vocabulary and the options of its model",
    )  # fmt: skip
    p.add_argument("--config", metavar="FILE", help="a run's config.json: its options, where none are given here")
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
    text = f"{text} (default: {value})" if value != "" else text
    if choices:
        p.add_argument(flag, dest=name, choices=choices, help=text)
    else:
        metavar = {int: "N", float: "X"}.get(type(value), "FILE" if name.endswith("tokenizer") else "NAME")
        p.add_argument(flag, dest=name, type=type(value), metavar=metavar, help=text)


def given(args: argparse.Namespace, kind: Kind) -> dict[str, Any]:
    """The fields of a run's config that were named: on the command line, else in --config, else by --from."""
    names = [f.name for f in fields(kind.config)]
    found = {name: getattr(args, name) for name in names if getattr(args, name, None) is not None}
    if args.config is not None:
        if args.resume:
            raise ValueError("--config: must be left out with --resume: the options of a run stay")
        saved = _of_file(Path(args.config), kind)
        if found.get("optimizer", saved.get("optimizer")) != saved.get("optimizer"):
            saved.pop("weight_decay", None)  # it was the other optimiser's
        found = {**saved, **found}
    if found.get("optimizer") == "adamw" and not args.resume:
        found.setdefault("weight_decay", WEIGHT_DECAY)
    tokenizers = [name for name in names if name.endswith("tokenizer")]
    for name in (*kind.sources, *tokenizers, "from_run"):
        if found.get(name):
            found[name] = str(Path(found[name]).absolute())
    if found.get("from_run") and not args.resume:
        found = _as_in(found, kind)
    return found


def _of_file(path: Path, kind: Kind) -> dict[str, Any]:
    """The options in a file as a run's config.json; ValueError that names what is wrong with it."""
    try:
        saved = json.loads(path.read_bytes())
    except OSError as error:
        raise ValueError(f"--config: {str(path)!r} cannot be read: {error.strerror}") from None
    except ValueError as error:
        raise ValueError(f"--config: {str(path)!r} must be JSON, as a run's config.json ({error})") from None
    if not isinstance(saved, dict) or saved.get("task", kind.name) != kind.name:
        raise ValueError(f"--config: {str(path)!r} must hold the options of {kind.what}, got those of something else")
    names = {f.name for f in fields(kind.config)}
    unknown = sorted(key for key in saved.keys() - names if key != "task" and not key.endswith("_sha256"))
    if unknown:
        raise ValueError(f"--config: {str(path)!r} has options that there are not: {', '.join(unknown)}; take them out")
    found = {key: value for key, value in saved.items() if key in names}
    checked(kind.config(**found), f"--config: {path}: ")
    return found


def _as_in(found: dict[str, Any], kind: Kind) -> dict[str, Any]:
    """The options, with those of the model that another run has trained; ValueError if others were given."""
    folder = RunFolder(Path(found["from_run"]))
    saved = asdict(kind.read_config(folder))
    if not folder.weights.exists():
        raise ValueError(f"--from: {str(folder.path)!r} must hold trained weights, it has none yet")
    for name in kind.model:
        if found.get(name, saved[name]) != saved[name]:
            has = _told(name, saved[name])
            raise ValueError(
                f"--from: the model stays as it is; {folder.path} has {has}, got {found[name]}; leave the option out"
            )
    return {**found, **{name: saved[name] for name in kind.model}}


def _told(name: str, value: Any) -> str:
    """An option and its value, as a run has them."""
    flag = "--from" if name == "from_run" else f"--{name.replace('_', '-')}"
    return f"no {flag}" if value == "" or value is False else flag if value is True else f"{flag} {value}"


def resumed(kind: Kind, saved: Any, found: dict[str, Any]) -> Any:
    """The config of a resumed run: as it was saved, but that more epochs or patience may be asked for, and that
    files may have been moved. ValueError if other options were given, or if there is no such file.
    """
    keep, old = kept(kind), asdict(saved)
    for key, value in found.items():
        if key not in keep and value != old[key]:
            has = _told(key, old[key])
            raise ValueError(f"--resume: the options of a run stay; it has {has}, got {value}; leave the option out")
    for source in kind.sources:
        if old[source] and source not in found and not Path(old[source]).exists():
            flag = source.replace("_", "-")
            raise ValueError(f"--resume: there is no file {old[source]!r} any more; if it was moved, add --{flag} FILE")
    return replace(saved, **{key: value for key, value in found.items() if key in keep})


def kept(kind: Kind) -> tuple[str, ...]:
    """The options that may be others when a run is resumed."""
    return "epochs", "patience", "log_every", "tensorboard", *kind.sources
