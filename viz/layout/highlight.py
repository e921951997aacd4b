"""What some values hang on stays as it is, the rest of a drawing becomes faint."""

from __future__ import annotations

import re

from collections.abc import Sequence

from viz.layout.layout import Layout
from viz.picture.picture import Item

NOW = "ₜ"
FAINT = {"fillcolor": "transparent", "color": "#6b728044", "fontcolor": "#6b728066"}


def highlight(layout: Layout, names: Sequence[str]) -> None:
    """Fade all that the values of these names do not hang on. ValueError for a name that is not in the drawing.

    names: as the code calls gates, f, and states, c
    """
    if not names:
        return
    goals = {item for item in layout.boxes if _called(layout, item) in names}
    unknown = sorted({*names} - {_called(layout, item) for item in goals})
    if unknown:
        known = sorted({_called(layout, item) for item in layout.boxes} - {""})
        raise ValueError(f"viz.draw: highlight must name values of the cell, {', '.join(known)}, got {unknown[0]!r}")
    kept = set(goals)
    found = list(goals)
    for item in found:  # it grows
        tails = [e.tail for e in layout.edges if e.head is item and e.tail not in kept]
        kept.update(tails)
        found += tails
    for item in layout.boxes:
        if item not in kept:
            item.look |= FAINT | ({"fillcolor": FAINT["color"]} if item.shape in ("dot", "bar") else {})
    for e in layout.edges:
        if e.head not in kept:
            e.look["color"] = FAINT["color"]


def _called(layout: Layout, item: Item) -> str:
    """The name of a gate, f  σ or σ(f), or of a state that a step leaves."""
    gate = re.fullmatch(r"(\w+)  .*|.*\((\w+)\)", item.label)
    if gate:
        return gate[1] or gate[2]
    leads_on = any(e.tail is item for e in layout.edges)
    return item.label.removesuffix(NOW) if item.label.endswith(NOW) and not leads_on else ""
