"""Which time steps are drawn: from `steps="1-3,998-1000"` to a choice of a run's steps."""

from __future__ import annotations

import operator

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from viz.read.runs import Choose

Steps = str | int | Iterable[int] | None

FEW = 4  # steps of a network that has not run: enough to tell what goes from step to step
MOST = 8  # steps drawn of a long sequence: the first ones and the last ones


def chooser(steps: Steps, most: int = MOST) -> Choose | None:
    """A function from the steps of a run, numbered from 0, to those that are drawn; None for all.

    steps: None for the first and the last ones, "all", one or several steps counted from 1, or "1-3,998-1000"
    most: of None, how many
    """
    if steps is None:
        return lambda run: _ends(run, most)
    if isinstance(steps, str) and steps.strip() == "all":
        return None
    if isinstance(steps, int):
        steps = [steps]
    wanted = _parsed(steps) if isinstance(steps, str) else [(int(s), int(s)) for s in steps]
    return lambda run: [t for t in run if any(first <= t + 1 <= last for first, last in wanted)]


def counted(steps: Steps, *, has_run: bool) -> tuple[int, Steps]:
    """How many steps are made of what has not run, and which are drawn.

    A number is how many, and all of them are drawn; of what has run, it is that of the only step that is drawn.
    """
    number = _number(steps)
    if number is not None:
        return (FEW, number) if has_run else (_made(number), "all")
    if steps is None or isinstance(steps, str):
        ends = [] if steps is None or steps.strip() == "all" or has_run else [last for _, last in _parsed(steps)]
        return max([FEW, *ends]), steps
    named = [int(s) for s in steps]  # type: ignore[union-attr]
    return max([FEW, *named]), named


def _made(number: int) -> int:
    if number < 1:
        raise ValueError(f"viz.draw: of what has not run, steps must be at least 1, got {number}")
    return number


def _number(steps: Any) -> int | None:
    """Python's integer of any integer; ValueError for True, which is none."""
    if isinstance(steps, bool):
        raise ValueError(f'viz.draw: steps must be numbers, "all" or like "1-3,998-1000", got {steps}')
    return operator.index(steps) if hasattr(steps, "__index__") and not np.ndim(steps) else None


def _ends(steps: Sequence[int], most: int) -> Sequence[int]:
    if len(steps) <= most + (most == MOST):  # one step takes no more room than to say that it is left out
        return steps
    return [*steps[: most - most // 2], *steps[len(steps) - most // 2 :]]


def _parsed(text: str) -> list[tuple[int, int]]:
    wanted: list[tuple[int, int]] = []
    for part in text.split(","):
        first, dash, last = part.strip().partition("-")
        try:
            wanted.append((int(first), int(last if dash else first)))
        except ValueError:
            raise ValueError(f'viz.draw: steps must be "all" or like "1-3,998-1000", got {text!r}') from None
    return wanted
