"""A warning for a cell that is compiled again and again, which takes far longer than to run it."""

from __future__ import annotations

import warnings

from collections.abc import Sequence
from typing import Any
from weakref import WeakSet

MANY = 48  # times: more than training, evaluation and memories of lengths that are rounded, four an octave, ask for

_told: WeakSet[type] = WeakSet()


def tell(cell: type, old: Any, new: Any) -> None:
    """Say once what changed between two keys of recordings. key: (what the call asks for, what the cell holds)"""
    if cell not in _told:
        _told.add(cell)
        what = changed(old, new)
        warnings.warn(
            f"Recurrent: {cell.__name__} should be compiled once, and was compiled {MANY} times"
            f"{', the last time because of ' + what if what else ''}; keep that as it is, put what changes into its "
            'state or its input, or use engine="eager"',
            RuntimeWarning,
            stacklevel=2,
        )


def changed(old: tuple[tuple, Sequence[Any]], new: tuple[tuple, Sequence[Any]]) -> str:
    """What differs between two keys, in words; nothing if that is not known."""
    (*before, shapes_before), (*now, shapes) = old[0], new[0]
    if shapes != shapes_before:
        return f"the shape or the dtype of x or of the state (x is {shapes[0]} of {shapes[1]} now)"
    if now != before:
        return "what is asked for: lengths, all_states, hooks, gradients or not"
    at = next((i for i, (a, b) in enumerate(zip(old[1], new[1], strict=False)) if a != b), len(new[1]))
    names = [part for part in new[1][: at + 1] if isinstance(part, str)]
    return f"its attribute {names[-1]!r}" if names and tuple(old[1]) != tuple(new[1]) else ""
