"""Learning-rate schedules: functions from the number of steps made so far to the learning rate η."""

from __future__ import annotations

import math

from collections.abc import Callable, Iterable
from functools import partial
from numbers import Real
from typing import Any

Schedule = Callable[[int], float]


def checked_number(value: Any, what: str) -> Any:
    """The value, if it is a number; TypeError that says `what` must be one if not."""
    if not isinstance(value, Real):
        raise TypeError(f"{what} must be a number, got {value!r}")
    return value


# Schedules are partial applications, which can be copied and pickled with their optimiser.


def constant(lr: float) -> Schedule:
    """η = lr at every step."""
    return partial(_constant, lr)


def step_decay(lr: float, step_size: int, gamma: float = 0.1) -> Schedule:
    """η = lr gamma^⌊step / step_size⌋: multiplied by gamma after each `step_size` steps."""
    if not checked_number(step_size, "step_decay: step_size") > 0:
        raise ValueError(f"step_decay: step_size must be greater than 0, got {step_size}")
    return partial(_step_decay, lr, step_size, gamma)


def cosine(lr: float, total_steps: int, min_lr: float = 0.0) -> Schedule:
    """Half a cosine from lr to min_lr at total_steps, then min_lr. Loshchilov and Hutter (2017), arXiv:1608.03983."""
    return partial(_cosine, lr, max(checked_number(total_steps, "cosine: total_steps"), 1), min_lr)


class Plateau:
    """η = lr factorᵏ, k the times that more than `patience` reports in a row were no better than the best so far.

    Better: less than (1 - threshold) of it. PyTorch's ReduceLROnPlateau.

    `report` gets all losses so far, one for each epoch, say: what it makes of them depends on nothing else, so a run
    that is resumed has nothing to keep.
    """

    def __init__(self, lr: float, factor: float = 0.1, patience: int = 10, threshold: float = 1e-4):
        if not 0 < checked_number(factor, "Plateau: factor") < 1:
            raise ValueError(f"Plateau: factor must be greater than 0 and less than 1, got {factor}")
        if not checked_number(patience, "Plateau: patience") >= 0:
            raise ValueError(f"Plateau: patience must be at least 0, got {patience}")
        if not 0 <= checked_number(threshold, "Plateau: threshold") < 1:
            raise ValueError(f"Plateau: threshold must be at least 0 and less than 1, got {threshold}")
        self.lr, self.factor, self.patience, self.threshold, self.times = lr, factor, patience, threshold, 0

    def __call__(self, step: int) -> float:
        """The learning rate, the same at all steps until the next report."""
        return self.lr * self.factor**self.times

    def report(self, losses: Iterable[float]) -> None:
        """All losses so far, oldest first."""
        self.times, waited, best = 0, 0, math.inf
        for loss in losses:
            best, waited = (loss, 0) if loss < best * (1 - self.threshold) else (best, waited + 1)
            if waited > self.patience:
                self.times, waited = self.times + 1, 0


def one_cycle(
    max_lr: float, total_steps: int, pct_start: float = 0.3, div_factor: float = 25.0, final_div_factor: float = 1e4
) -> Schedule:
    """Half a cosine from max_lr / div_factor up to max_lr in the first `pct_start` of the steps, then another down to
    max_lr / (div_factor final_div_factor) at the last one. PyTorch's OneCycleLR. Smith and Topin (2018),
    arXiv:1708.07120."""
    if not checked_number(total_steps, "one_cycle: total_steps") > 0:
        raise ValueError(f"one_cycle: total_steps must be greater than 0, got {total_steps}")
    if not 0 <= checked_number(pct_start, "one_cycle: pct_start") <= 1:
        raise ValueError(f"one_cycle: pct_start must be from 0 to 1, got {pct_start}")
    first = max_lr / div_factor
    return partial(_one_cycle, (first, max_lr, first / final_div_factor), total_steps, pct_start * total_steps - 1)


def warmup(schedule: float | Schedule, steps: int) -> Schedule:
    """The first `steps` steps at (step + 1) / steps of the schedule's rate: a straight line up, then the schedule."""
    after = schedule if callable(schedule) else constant(checked_number(schedule, "warmup: schedule"))
    return partial(_warmup, after, max(checked_number(steps, "warmup: steps"), 1))


def _constant(lr: float, step: int) -> float:
    return lr


def _step_decay(lr: float, step_size: int, gamma: float, step: int) -> float:
    return lr * gamma ** (step // step_size)


def _cosine(lr: float, total_steps: float, min_lr: float, step: float) -> float:
    return min_lr + 0.5 * (lr - min_lr) * (1 + math.cos(math.pi * min(step / total_steps, 1.0)))


def _one_cycle(rates: tuple[float, float, float], total_steps: int, top: float, step: int) -> float:
    first, highest, last = rates
    step = min(step, total_steps - 1)
    if step <= top:
        return _cosine(first, top, highest, step) if top else highest
    return _cosine(highest, total_steps - 1 - top, last, step - top)


def _warmup(after: Schedule, steps: int, step: int) -> float:
    return after(step) * min((step + 1) / steps, 1.0)
