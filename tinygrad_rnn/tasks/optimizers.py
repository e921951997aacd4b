"""The optimiser of a run and its learning rate, by the names that options have."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from tinygrad_rnn import optim
from tinygrad_rnn.autograd.tensor import Parameter

OPTIMIZERS: dict[str, Callable[..., optim.Optimizer]] = {
    "sgd": optim.SGD, "rmsprop": optim.RMSprop, "adam": optim.Adam, "adamw": optim.AdamW,
}  # fmt: skip
DECAYING = ("sgd", "adamw")  # these have an argument weight_decay
SCHEDULES: dict[str, Callable[[Any, int, float], optim.Schedule]] = {  # config, batches of an epoch, lowest rate
    "constant": lambda config, n, lowest: optim.constant(config.lr),
    "step_decay": lambda config, n, lowest: optim.step_decay(config.lr, config.step_size * n, config.gamma),
    "cosine": lambda config, n, lowest: optim.cosine(config.lr, config.epochs * n, lowest),
    "plateau": lambda config, n, lowest: optim.Plateau(config.lr, config.gamma, config.step_size - 1, 0),
}


def make_optimizer(
    config: Any, parameters: Iterable[Parameter], batches: int, lr_falls_by: int
) -> tuple[optim.Optimizer, optim.Plateau | None]:
    """The optimiser that a config asks for, new; and its schedule, if that wants to be told the held-out losses.

    batches: of an epoch  lr_falls_by: a cosine ends at this part of what it begins with
    """
    schedule = asked = SCHEDULES[config.schedule](config, batches, config.lr / lr_falls_by)
    if config.warmup:
        schedule = optim.warmup(schedule, config.warmup)
    decay = {"weight_decay": config.weight_decay} if config.optimizer in DECAYING else {}
    made = OPTIMIZERS[config.optimizer](parameters, schedule, **decay)
    return made, asked if isinstance(asked, optim.Plateau) else None
