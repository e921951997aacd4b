"""Completion of commands and options in a shell."""

from __future__ import annotations

import argparse

from collections.abc import Iterator

from tinygrad_rnn.cli.output import say

SHELLS = ("bash", "zsh", "tcsh")


def add_completion(p: argparse.ArgumentParser, parser: argparse.ArgumentParser) -> None:
    """Add the options of `tinygrad-rnn completion` to its parser. parser: the whole command's"""
    p.set_defaults(run=lambda args: say(script(parser, args.shell)))
    p.add_argument("shell", choices=SHELLS, help='what completes; bash: eval "$(tinygrad-rnn completion bash)"')


def script(parser: argparse.ArgumentParser, shell: str) -> str:
    """What makes a shell complete a command; RuntimeError without shtab (the extra "completion")."""
    try:
        import shtab  # noqa: PLC0415 (an extra)
    except ImportError:
        raise RuntimeError('completion: shtab is not installed; pip install "tinygrad-rnn[completion]"') from None
    for action in _actions(parser):
        if action.metavar in ("FILE", "DIR", "RUN"):
            action.complete = shtab.FILE if action.metavar == "FILE" else shtab.DIRECTORY  # type: ignore[attr-defined]
    return shtab.complete(parser, shell)


def _actions(parser: argparse.ArgumentParser) -> Iterator[argparse.Action]:
    """Those of a parser, and of the parsers of its commands."""
    for action in parser._actions:
        yield action
        if isinstance(action, argparse._SubParsersAction):
            for command in action.choices.values():
                yield from _actions(command)
