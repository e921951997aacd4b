"""Which time steps are drawn: from `steps="1-3,998-1000"` to a choice of a run's steps."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from viz.read.runs import Choose

EDGE = 4  # steps drawn at each end of a long sequence


def chooser(steps: str | int | Iterable[int] | None) -> Choose | None:
    """A function from the steps of a run, numbered from 0, to those that are drawn; None for all.

    steps: None for the first four and the last four, "all", one or several steps counted from 1, or "1-3,998-1000"
    """
    if steps is None:
        return _ends
    if isinstance(steps, str) and steps.strip() == "all":
        return None
    if isinstance(steps, int):
        steps = [steps]
    wanted = _parsed(steps) if isinstance(steps, str) else [(int(s), int(s)) for s in steps]
    return lambda run: [t for t in run if any(first <= t + 1 <= last for first, last in wanted)]


def _ends(steps: Sequence[int]) -> Sequence[int]:
    return steps if len(steps) <= 2 * EDGE + 1 else [*steps[:EDGE], *steps[-EDGE:]]


def _parsed(text: str) -> list[tuple[int, int]]:
    wanted: list[tuple[int, int]] = []
    for part in text.split(","):
        first, dash, last = part.strip().partition("-")
        try:
            wanted.append((int(first), int(last if dash else first)))
        except ValueError:
            raise ValueError(f'viz.draw: steps must be "all" or like "1-3,998-1000", got {text!r}') from None
    return wanted
