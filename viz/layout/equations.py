"""Equations at the right of a drawing."""

from __future__ import annotations

import re

from collections.abc import Sequence

from viz.layout.blocks import sizes_of
from viz.layout.layout import Layout
from viz.layout.step_template import Box
from viz.picture.picture import Item

LEADING = 24.0  # points from line to line
ASIDE = 40.0  # points from the drawing
LOWER = 5.0  # points that subscripts stand lower
BLANK = "\N{NO-BREAK SPACE}"  # at the ends of a text Graphviz leaves out others


def write_equations(layout: Layout, lines: Sequence[str]) -> None:
    """Put lines under each other, in the middle of the drawing's height, level at their left. W_f is W with f below."""
    parts = [_parts(line, f"equation{k}") for k, line in enumerate(lines)]
    if not parts:
        return
    sizes, (_, bottom, right, top) = sizes_of([item for line in parts for item in line]), layout.extent()
    for k, line in enumerate(parts):
        x, y = right + ASIDE, (bottom + top + LEADING * (len(lines) - 1)) / 2 - LEADING * k
        for item in line:
            box = sizes[item]
            lower = LOWER * (item.shape == "subscript")
            layout.boxes[item] = Box(x + box.width / 2, y - lower, box.width, box.height)
            x += box.width


def _parts(line: str, key: str) -> list[Item]:
    """Text and subscripts by turns."""
    texts = re.split(r"_([\w,₋]+)", re.sub(" {2,}", " ", line))
    return [
        Item(f"{key}.{k}", text.replace(" ", BLANK), "", "subscript" if k % 2 else "equation")
        for k, text in enumerate(texts)
        if text
    ]
