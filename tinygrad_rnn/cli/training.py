"""Starting a run, or going on with one, of any kind."""

from __future__ import annotations

import argparse

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from tinygrad_rnn.autograd.devices import default_device
from tinygrad_rnn.cli.options import KEEP, check_same
from tinygrad_rnn.cli.output import loss_curve, report
from tinygrad_rnn.tasks.fit import Trainer
from tinygrad_rnn.tasks.run_folder import RunFolder


def begin(args: argparse.Namespace, kind: Any, given: dict[str, Any]) -> tuple[Trainer, Any, Any]:
    """A new run, or the one in --out. kind: the module of the task  given: the fields of its config that were named

    returns: the trainer, the config, and what else the kind's new_run returns
    """
    folder = RunFolder(Path(args.out))
    if not args.save_every >= 0:
        raise ValueError(f"--save-every: must be at least 0 seconds, got {args.save_every}")
    if args.resume:
        saved = kind.read_config(folder)
        check_same(saved, given)
        config = kind.checked(replace(saved, **{key: value for key, value in given.items() if key in KEEP}))
        trainer, more = kind.resumed_run(config, folder, args.save_every)
        folder.update({key: getattr(config, key) for key in KEEP if hasattr(config, key)})
    else:
        config = kind.checked(replace(kind.Config(), **given))
        trainer, more = kind.new_run(config, folder, args.save_every)
    return trainer, config, more


def fit(args: argparse.Namespace, trainer: Trainer, config: Any, title: Callable[[int], str]) -> None:
    """Train, and draw the curve. title: says what is trained, given the number of parameters

    A new run that fails before its first checkpoint leaves no folder.
    """
    try:
        _announce(args, trainer, config, title(sum(p.size for p in trainer.model.parameters())))
        trainer.fit(config.epochs, report)
    except BaseException as error:
        if trainer.folder.last.exists():
            if isinstance(error, (OSError, MemoryError, KeyboardInterrupt)):
                error.add_note("--resume goes on from the last checkpoint")
        elif not args.resume:
            trainer.folder.withdraw()
        raise
    loss_curve(trainer, trainer.folder.path / "loss.png")


def _announce(args: argparse.Namespace, trainer: Trainer, config: Any, title: str) -> None:
    """What is trained, and where it goes on."""
    task, progress, lr = trainer.task, trainer.progress, trainer.optimizer.lr
    report(f"{title}, {task.tokens():,} to learn from; {default_device()}, {config.dtype}; in {trainer.folder.path}/")
    if progress.epoch >= config.epochs:
        report(f"all {config.epochs} epochs are done; a larger --epochs goes on")
    elif args.resume:
        before = progress.rows[-1]["learning_rate"] if progress.rows and not progress.batch else lr
        moved = f", not {before:.3g}: its cosine now ends with epoch {config.epochs}" if lr != before else ""
        report(
            f"goes on at epoch {progress.epoch + 1}, batch {progress.batch + 1} of {len(task)}, "
            f"with learning rate {lr:.3g}{moved}"
        )
