"""Which time steps are drawn: from `steps="1-3,998-1000"` to a choice of a run's steps."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from viz.read.runs import Choose

MOST = 8  # steps drawn of a long sequence: the first ones and the last ones


def chooser(steps: str | int | Iterable[int] | None, most: int = MOST) -> Choose | None:
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
