"""A drawing with everything in its place: plain data between laying out and writing."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from viz.graphviz.dot import Point
from viz.layout.step_template import Box, Curve, moved
from viz.picture.picture import Block, Item


@dataclass(eq=False)
class Edge:
    """An edge and the spline along which it is drawn.

    look    attributes that differ from those of its kind
    flows   does a gradient come back along it?
    begins  does it begin at its tail, and not on the way of another?
    ends    in a drawing of gradients: is there an arrow at its tail, and one at its head?
    """

    tail: Item
    head: Item
    kind: str
    curve: Curve
    arrow: bool = True
    label: str = ""
    look: dict[str, object] = field(default_factory=dict)
    flows: bool = True
    begins: bool = True
    ends: tuple[bool, bool] | None = None


@dataclass(eq=False)
class Layout:
    """The drawing: where everything is. frames: block, left, bottom, width, height, centre of its title"""

    boxes: dict[Item, Box] = field(default_factory=dict)
    edges: list[Edge] = field(default_factory=list)
    frames: list[tuple[Block, float, float, float, float, Point | None]] = field(default_factory=list)

    def extent(self) -> tuple[float, float, float, float]:
        """Left, bottom, right, top of all that is drawn."""
        boxes = [
            (b.x - b.width / 2, b.y - b.height / 2, b.x + b.width / 2, b.y + b.height / 2) for b in self.boxes.values()
        ]
        boxes += [(x, y, x + w, y + h) for _, x, y, w, h, _ in self.frames]
        boxes += [(x, y, x, y) for e in self.edges for x, y in e.curve[0]]
        lefts, bottoms, rights, tops = zip(*boxes, strict=True)
        return min(lefts), min(bottoms), max(rights), max(tops)

    def turned(self) -> Layout:
        """The same with time running down: what was on the right is below, what was above on the right."""
        turn = lambda point: point and (point[1], -point[0])
        boxes = {item: box.turned() for item, box in self.boxes.items()}
        edges = [replace(e, curve=([turn(p) for p in e.curve[0]], turn(e.curve[1]))) for e in self.edges]
        frames = [
            (block, y, -x - width, height, width, turn(title)) for block, x, y, width, height, title in self.frames
        ]
        return Layout(boxes, edges, frames)

    def add(self, other: Layout, dx: float, dy: float) -> None:
        """Put another drawing beside this one, moved."""
        self.boxes |= {item: box.moved(dx, dy) for item, box in other.boxes.items()}
        self.edges += [replace(e, curve=moved(e.curve, dx, dy)) for e in other.edges]
        for block, x, y, width, height, title in other.frames:
            self.frames.append((block, x + dx, y + dy, width, height, title and (title[0] + dx, title[1] + dy)))
