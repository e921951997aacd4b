"""Which time steps are drawn."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import groupby

from viz.unroll import Column

EDGE = 4  # steps drawn at each end of a long sequence


def chooser(steps: str | Iterable[int] | None) -> Callable[[list[Column]], list[int]]:
    """A function from the columns to the numbers of those that are drawn.

    steps: None for the first four and the last four, "all", time steps counted from 1, or "1-3,998-1000"
    """
    if steps is None:
        return _ends
    if isinstance(steps, str) and steps.strip() == "all":
        return lambda columns: list(range(len(columns)))
    wanted = _parsed(steps) if isinstance(steps, str) else {int(s) for s in steps}

    def choose(columns: list[Column]) -> list[int]:
        found = [i for i, c in enumerate(columns) if c.t is None or c.t + 1 in wanted]
        if not any(columns[i].t is not None for i in found):
            raise ValueError(f"viz.draw: steps must name some of the {len(columns)} time steps, got {steps!r}")
        return found

    return choose


def _ends(columns: list[Column]) -> list[int]:
    chosen: list[int] = []
    for _, run in groupby(range(len(columns)), key=lambda i: columns[i].run):
        numbers = list(run)
        chosen += numbers if len(numbers) <= 2 * EDGE + 1 else numbers[:EDGE] + numbers[-EDGE:]
    return chosen


def _parsed(text: str) -> set[int]:
    wanted: set[int] = set()
    for part in text.split(","):
        first, dash, last = part.strip().partition("-")
        try:
            wanted.update(range(int(first), int(last if dash else first) + 1))
        except ValueError:
            raise ValueError(f'viz.draw: steps must be "all" or like "1-3,998-1000", got {text!r}') from None
    return wanted
