"""What all kinds of runs share: checking their configs, and their files: made, read, gone on with."""

from __future__ import annotations

import hashlib
import math

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tinygrad_rnn import nn
from tinygrad_rnn.data import Vocabulary
from tinygrad_rnn.state_dicts import without_prefix
from tinygrad_rnn.tasks.checkpoint import load_checkpoint
from tinygrad_rnn.tasks.fit import Trainer
from tinygrad_rnn.tasks.run_folder import RunFolder


@dataclass(frozen=True)
class Config:
    """What every kind of run has to be told."""

    cell: str = "lstm"
    hidden: int = 256
    embed: int = 64
    layers: int = 1
    dropout: float = 0.0
    epochs: int = 8
    batch: int = 32
    lr: float = 5e-3
    clip: float = 1.0
    valid: float = 0.05
    seed: int = 0
    dtype: str = "float32"


POSITIVE = ("hidden", "embed", "layers", "epochs", "batch")  # options that every kind of run has


def checked(config: Any, who: str, **more: tuple[bool, str]) -> Any:
    """A config whose values make sense; ValueError if not. more: for options of one kind, if they do, and what must."""
    default, values = type(config)(), asdict(config)
    for name, value in values.items():
        kind = type(getattr(default, name))
        if not (isinstance(value, kind) or (kind is float and isinstance(value, int))) or (
            isinstance(value, bool) and kind is not bool
        ):
            raise ValueError(f"{who}{name}: must be of type {kind.__name__}, got {value!r}")
    limits = {
        **{name: (getattr(config, name) >= 1, "at least 1") for name in POSITIVE},
        "lr": (0 < config.lr < math.inf, "a finite number greater than 0"),
        "clip": (0 <= config.clip < math.inf, "a finite number of at least 0"),
        "dropout": (0 <= config.dropout < 1, "from 0 to less than 1"),
        "valid": (0 < config.valid < 1, "between 0 and 1"),
        "seed": (config.seed >= 0, "at least 0"),
        "dtype": (config.dtype in ("float32", "float64"), "float32 or float64"),
        **more,
    }
    for name, (holds, what) in limits.items():
        if not holds:
            option = name.replace("_", "-") if who == "--" else name
            raise ValueError(f"{who}{option}: must be {what}, got {values[name]}")
    return config


def create(
    folder: RunFolder, kind: str, config: Any, source: str, content: str, more: Mapping[str, Any]
) -> None:  # fmt: skip
    """Write a new run's folder. source: the option that names the file that is learned  content: what is in it"""
    path = getattr(config, source)
    saved = {**asdict(config), "task": kind, source: str(Path(path).absolute()) if path else ""}
    folder.create({**saved, f"{source}_sha256": _sha256(content)}, more)


def check_same(folder: RunFolder, source: str, content: str, name: str) -> None:
    """ValueError if a run was started with other content; it may have been moved."""
    if _sha256(content) != folder.read("config").get(f"{source}_sha256"):
        raise ValueError(
            f"--resume: {name!r} is not the {source} this run was started with; --{source} FILE names another"
        )


def resume(trainer: Trainer) -> None:
    """Put a run where its last checkpoint left it."""
    folder = trainer.folder
    with folder.locked():
        folder.clean()
        if folder.best.exists() and not folder.last.exists():
            raise ValueError(f"--resume: {str(folder.path)!r} has lost its last.safetensors; start another run")
        if folder.last.exists():
            trainer.restore(folder.last)
            folder.write_metrics(trainer.progress.rows)


def kind_of(folder: RunFolder) -> str:
    """What is trained in a run."""
    saved = folder.read("config")
    return saved.get("task", "") if isinstance(saved, dict) else ""


def read_config(folder: RunFolder, kind: str, config_class: Any, what: str) -> tuple[Any, str]:
    """The config of a run, and where it is from; ValueError if the run is of another kind."""
    saved = folder.read("config")
    if not isinstance(saved, dict) or saved.get("task") != kind:
        raise ValueError(f"run: {str(folder.path)!r} must hold {what}, its config.json says otherwise")
    try:
        return config_class(**{key: saved[key] for key in asdict(config_class())}), f"run: {folder.path}/config.json: "
    except KeyError as error:
        raise ValueError(f"run: {str(folder.path / 'config.json')!r} is damaged, it lacks {error}") from None


def read_vocabulary(folder: RunFolder, name: str = "vocabulary") -> Vocabulary:
    """A vocabulary of a run."""
    saved = folder.read(name)
    try:
        return Vocabulary(saved["tokens"], saved["words"])
    except (KeyError, TypeError) as error:
        raise ValueError(f"run: {str(folder.path / name) + '.json'!r} is damaged ({error!r})") from None


def load_best(model: nn.Module, folder: RunFolder) -> None:
    """The best weights of a run, for evaluation; ValueError if there are none, or if they do not fit."""
    path = folder.best if folder.best.exists() else folder.last
    arrays, _ = load_checkpoint(path)
    try:
        model.load_state_dict(without_prefix("model", arrays))
    except ValueError as error:
        raise ValueError(f"checkpoint: {str(path)!r} does not fit the run's config ({error})") from None
    model.eval()


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
