"""Equations at the right of a drawing."""

from __future__ import annotations

from collections.abc import Sequence

from viz.layout.blocks import sizes_of
from viz.layout.layout import Layout
from viz.layout.step_template import Box
from viz.picture.picture import Item

LEADING = 22.0  # points from line to line
ASIDE = 40.0  # points from the drawing


def write_equations(layout: Layout, lines: Sequence[str]) -> None:
    """Put lines under each other, in the middle of the drawing's height, level at their left."""
    items = [Item(f"equation{k}", text, "", "equation") for k, text in enumerate(lines)]
    if not items:
        return
    sizes, (_, bottom, right, top) = sizes_of(items), layout.extent()
    for k, item in enumerate(items):
        box, y = sizes[item], (bottom + top + LEADING * (len(items) - 1)) / 2 - LEADING * k
        layout.boxes[item] = Box(right + ASIDE + box.width / 2, y, box.width, box.height)
