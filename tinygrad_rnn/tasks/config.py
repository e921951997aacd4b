"""The options that every kind of run has, and whether their values make sense."""

from __future__ import annotations

import math

from dataclasses import asdict, dataclass
from typing import Any

from tinygrad_rnn.data.subwords import LEAST
from tinygrad_rnn.tasks.optimizers import DECAYING, OPTIMIZERS, SCHEDULES

POSITIVE = ("hidden", "embed", "layers", "epochs", "batch", "accumulate", "step_size")
COUNTS = ("seed", "warmup", "patience", "log_every")
OF_OLD = ("cell", "hidden", "embed", "layers", "epochs", "batch", "lr", "clip", "valid", "seed", "dtype")  # in all runs
MODEL = ("cell", "hidden", "embed", "layers", "dtype")  # what the weights of a model depend on
Limits = dict[str, tuple[bool, str]]  # by option: is its value within the limits, and what are they?


@dataclass(frozen=True)
class CommonConfig:
    """What every kind of run has to be told; the config of a kind derives from it, and adds its own."""

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
    optimizer: str = "adam"
    weight_decay: float = 0.0
    schedule: str = "cosine"
    step_size: int = 1  # epochs
    gamma: float = 0.1
    warmup: int = 0  # steps
    accumulate: int = 1
    patience: int = 0
    log_every: int = 0
    tensorboard: bool = False
    from_run: str = ""  # a run's folder, with whose weights this one began

    def limits(self) -> Limits:
        """The limits of the options, once their types are right; for `checked`."""
        decays = 0 <= self.weight_decay < math.inf and (not self.weight_decay or self.optimizer in DECAYING)
        return {
            **{name: (getattr(self, name) >= 1, "at least 1") for name in POSITIVE},
            **{name: (getattr(self, name) >= 0, "at least 0") for name in COUNTS},
            "lr": (0 < self.lr < math.inf, "a finite number greater than 0"),
            "clip": (0 <= self.clip < math.inf, "a finite number of at least 0"),
            "dropout": (0 <= self.dropout < 1, "from 0 to less than 1"),
            "valid": (0 < self.valid < 1, "between 0 and 1"),
            "optimizer": (self.optimizer in OPTIMIZERS, f"one of {', '.join(OPTIMIZERS)}"),
            "weight_decay": (decays, f"a finite number of at least 0, and 0 with all but {' and '.join(DECAYING)}"),
            "schedule": (self.schedule in SCHEDULES, f"one of {', '.join(SCHEDULES)}"),
            "gamma": (0 < self.gamma <= 1, "greater than 0 and at most 1"),
            "dtype": (self.dtype in ("float32", "float64"), "float32 or float64"),
        }


def subwords_limit(subwords: int) -> tuple[bool, str]:
    """Is it a number of subwords that can be learned, or 0?"""
    return subwords == 0 or subwords >= LEAST, f"at least {LEAST} (each byte is one), or 0"


def checked(config: Any, who: str = "--") -> Any:
    """The config, if its values make sense; ValueError if not. `who` stands before the names of options."""
    default, values = type(config)(), asdict(config)
    for name, value in values.items():
        kind = type(getattr(default, name))
        if not (isinstance(value, kind) or (kind is float and isinstance(value, int))) or (
            isinstance(value, bool) and kind is not bool
        ):
            raise ValueError(f"{who}{name}: must be of type {kind.__name__}, got {value!r}")
    for name, (holds, what) in config.limits().items():
        if not holds:
            option = name.replace("_", "-") if who == "--" else name
            raise ValueError(f"{who}{option}: must be {what}, got {values[name]}")
    return config
