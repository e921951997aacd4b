"""Two drawings side by side, with an arrow from one to the other: a circuit, and what it unfolds to."""

from __future__ import annotations

from viz.layout.layout import Edge, Layout
from viz.layout.routes import line
from viz.layout.step_template import Box
from viz.picture.picture import Item

ROOM = 110.0  # between the two, in points


def beside(left: Layout, right: Layout, label: str, *, centred: bool = False) -> Layout:
    """One drawing of two; their steps stand on one line as it is. centred: their middles do instead"""
    (_, y0, x1, y1), (u0, v0, _, v1) = left.extent(), right.extent()
    dx, dy = x1 + ROOM - u0, (y0 + y1 - v0 - v1) / 2 if centred else 0.0
    for item in right.boxes:
        item.key = f"unfolded.{item.key}"
    for frame in right.frames:
        frame[0].key = f"unfolded.{frame[0].key}"
    left.add(right, dx, dy)
    middle = (y0 + y1) / 2
    ends = [Item(f"unfold{i}", "", "", "port") for i in range(2)]
    for end, x in zip(ends, (x1 + 22, x1 + ROOM - 22), strict=True):
        left.boxes[end] = Box(x, middle, 2, 2)
    arrow = line([(x1 + 22, middle), (x1 + ROOM - 22, middle)], "unfold")
    left.edges.append(Edge(ends[0], ends[1], "unfold", arrow, True, label))
    return left
