"""Parsing: errors in one line, and the options that all kinds of training have."""

from __future__ import annotations

import argparse

from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

FILES = ("text", "pairs")  # what is learned may have been moved
KEEP = ("epochs", *FILES)  # what a resumed run may change
CELL = "lstm, gru, rnn, or a cell of your own as package.module:Class (default: lstm)"


class Parser(argparse.ArgumentParser):
    """Errors in one line, with exit code 2."""

    def error(self, message: str) -> Any:
        self.exit(2, f"tinygrad-rnn: {message}; see {self.prog} --help\n")


def of_config(p: argparse.ArgumentParser, default: Any, texts: dict[str, str]) -> None:
    """An option for each field of a config, with what it says. They default to None, so that a resumed run can tell
    what was given; the config holds the defaults."""
    for name, text in texts.items():
        value = getattr(default, name)
        flag = f"--{name.replace('_', '-')}"
        if isinstance(value, bool):
            p.add_argument(flag, dest=name, action="store_true", default=None, help=text)
        else:
            metavar = {int: "N", float: "X"}.get(type(value), "NAME")
            p.add_argument(flag, dest=name, type=type(value), metavar=metavar, help=f"{text} (default: {value})")


def of_training(p: argparse.ArgumentParser, dtype: str, out: str) -> None:
    """The options of a run that are the same for every kind."""
    p.add_argument("--cell", help=CELL)
    p.add_argument("--dtype", choices=["float32", "float64"], help=f"(default: {dtype})")
    p.add_argument("--out", default=out, metavar="DIR", help="the run's folder (default: %(default)s)")
    p.add_argument(
        "--resume", action="store_true", help="go on with the run in --out where its last checkpoint left it"
    )
    p.add_argument(
        "--save-every", type=float, default=10.0, metavar="SECONDS", help="between checkpoints (default: 10)"
    )


def given(args: argparse.Namespace, config_class: Any) -> dict[str, Any]:
    """The fields of a config that were named on the command line."""
    found = {f.name: getattr(args, f.name) for f in fields(config_class) if getattr(args, f.name, None) is not None}
    found.update({name: str(Path(found[name]).absolute()) for name in FILES if name in found})
    return found


def check_same(saved: Any, found: dict[str, Any]) -> None:
    """A resumed run keeps its options, but for those in KEEP; what it learns must be there."""
    old = asdict(saved)
    for key, value in found.items():
        if key not in KEEP and value != old[key]:
            flag = key.replace("_", "-")
            has = f"--{flag} {old[key]}" if not isinstance(value, bool) else f"no --{flag}"
            raise ValueError(f"--resume: the options of a run stay; it has {has}, got {value}; leave the option out")
    for name in FILES:
        path = getattr(saved, name, "")
        if path and name not in found and not Path(path).exists():
            raise ValueError(f"--resume: there is no file {path!r} any more; if it was moved, add --{name} FILE")
