"""Starting a run, or going on with one, of any kind."""

from __future__ import annotations

import argparse

from collections.abc import Callable
from pathlib import Path
from typing import Any

from tinygrad_rnn import parallel
from tinygrad_rnn.autograd.devices import default_device
from tinygrad_rnn.cli import options
from tinygrad_rnn.cli.output import loss_curve, report
from tinygrad_rnn.tasks.config import checked
from tinygrad_rnn.tasks.fit import Trainer
from tinygrad_rnn.tasks.kind import Kind, Vocabularies
from tinygrad_rnn.tasks.run_folder import RunFolder


def train(
    args: argparse.Namespace, kind: Kind, given: dict[str, Any], title: Callable[[Any, Vocabularies, int], str]
) -> tuple[Trainer, Any]:
    """Start a run, or go on with the one in --out, and train; returns the trainer and the config.

    given: the fields of the config that were named
    title: config, vocabularies, number of parameters -> what is trained

    A new run that fails before its first checkpoint leaves no folder.
    """
    trainer, config, vocabularies = _begin(args, kind, given)
    first = trainer.world.rank == 0
    size = sum(p.size for p in trainer.model.parameters())
    try:
        _announce(args, trainer, config, title(config, vocabularies, size))
        trainer.fit(config.epochs, report)
        if trainer.exhausted and trainer.progress.epoch < config.epochs:
            report(_exhausted(trainer))
    except BaseException as error:
        if first and trainer.folder.last.exists():
            if isinstance(error, (OSError, MemoryError, KeyboardInterrupt)):
                error.add_note("--resume goes on from the last checkpoint")
        elif first and not args.resume:
            trainer.folder.withdraw()
        raise
    return trainer, config


def show(trainer: Trainer, what_was_learned: Callable[[], None]) -> None:
    """The end of a run: its curve, and what a function says; by one process, while others wait."""

    def shown() -> None:
        loss_curve(trainer, trainer.folder.path / "loss.png")
        what_was_learned()

    trainer.world.first(shown)


def _begin(args: argparse.Namespace, kind: Kind, given: dict[str, Any]) -> tuple[Trainer, Any, Vocabularies]:
    folder = RunFolder(Path(args.out))
    if not args.save_every >= 0:
        raise ValueError(f"--save-every: must be at least 0 seconds, got {args.save_every}")
    if args.resume:
        first = parallel.world().first
        config = first(lambda: checked(options.resumed(kind, kind.read_config(folder), given)))
        trainer, vocabularies = kind.resumed_run(config, folder, args.save_every, args.share_update)
        first(lambda: folder.update({key: getattr(config, key) for key in options.kept(kind)}))
    else:
        config = checked(kind.config(**given))
        trainer, vocabularies = kind.new_run(config, folder, args.save_every, args.share_update)
    return trainer, config, vocabularies


def _announce(args: argparse.Namespace, trainer: Trainer, config: Any, title: str) -> None:
    """What is trained, and where it goes on."""
    task, progress, lr = trainer.task, trainer.progress, trainer.optimizer.lr
    several = f", {trainer.world.size} processes" if trainer.world.size > 1 else ""
    where = f"{default_device()}, {config.dtype}{several}; in {trainer.folder.path}/"
    report(f"{title}, {task.tokens():,} to learn from; {where}")
    if progress.epoch >= config.epochs:
        report(f"all {config.epochs} epochs are done; a larger --epochs goes on")
    elif trainer.exhausted:
        pass  # `train` says so
    elif args.resume:
        before = progress.rows[-1]["learning_rate"] if progress.rows and not progress.batch else lr
        moved = f", not {before:.3g}: its cosine now ends with epoch {config.epochs}"
        moved = moved if lr != before and config.schedule == "cosine" else ""
        report(
            f"goes on at epoch {progress.epoch + 1}, batch {progress.batch + 1} of {len(task)}, "
            f"with learning rate {lr:.3g}{moved}"
        )


def _exhausted(trainer: Trainer) -> str:
    """Why a run has ended before its last epoch."""
    epoch, waited = trainer.progress.epoch, trainer.progress.waited
    return f"ended after epoch {epoch}: none was better than epoch {epoch - waited}; a larger --patience goes on"
