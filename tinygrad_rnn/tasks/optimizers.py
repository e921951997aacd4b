"""The optimiser of a run and its learning rate, as its options name them."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from tinygrad_rnn import optim
from tinygrad_rnn.autograd.tensor import Parameter
from tinygrad_rnn.tasks.config import CommonConfig

Make = Callable[[Iterable[Parameter], optim.Schedule, float], optim.Optimizer]  # parameters, schedule, weight decay
MAKE: dict[str, Make] = {
    "sgd": lambda parameters, lr, decay: optim.SGD(parameters, lr, weight_decay=decay),
    "rmsprop": lambda parameters, lr, _: optim.RMSprop(parameters, lr),
    "adam": lambda parameters, lr, _: optim.Adam(parameters, lr),
    "adamw": lambda parameters, lr, decay: optim.AdamW(parameters, lr, weight_decay=decay),
}


def optimizer(
    config: CommonConfig, parameters: Iterable[Parameter], steps: int, falls_by: float
) -> tuple[optim.Optimizer, optim.Plateau | None]:
    """The optimiser of a run, and what it wants to be told of the held-out loss, if it does.

    steps: in an epoch
    falls_by: a cosine ends at this part of the learning rate that it begins with
    """
    lr, plateau = config.lr, None
    schedule: optim.Schedule = optim.constant(lr)
    if config.schedule == "cosine":
        schedule = optim.cosine(lr, config.epochs * steps, min_lr=lr / falls_by)
    elif config.schedule == "step":
        schedule = optim.step_decay(lr, config.lr_epochs * steps, config.lr_factor)
    elif config.schedule == "plateau":
        schedule = plateau = optim.Plateau(lr, config.lr_factor, config.lr_epochs)
    if config.warmup:
        schedule = optim.warmup(schedule, config.warmup)
    return MAKE[config.optimizer](parameters, schedule, config.weight_decay), plateau
