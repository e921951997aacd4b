"""The lines between blocks, and those inside of them."""

from __future__ import annotations

from viz.graphviz.dot import Point
from viz.layout.columns import LANE, Columns
from viz.layout.layout import Edge
from viz.layout.routes import line
from viz.layout.step_template import Curve, moved
from viz.picture.picture import Item, Link


class Lines:
    """Adds all lines but those of parameters and delays to a drawing whose blocks have their places."""

    def __init__(self, columns: Columns):
        self.columns, self.blocks, self.index = columns, columns.blocks, columns.index
        self.boxes, self.picture = columns.layout.boxes, columns.index.picture

    def add(self) -> None:
        """Those inside blocks first, then from column to column, then up and down."""
        self._inner_edges()
        for link in self.index.sideways:
            self._sideways(link)
        for link in self.picture.links:
            if link.tail in self.index.slot and self.index.block[link.head] is self.picture.above:
                self._up(link)
            elif self.index.block[link.tail] is self.picture.below and link.head in self.index.slot:
                self._from_below(link)
            elif link.tail not in self.index.slot or link.head not in self.index.slot:
                self._straight(link)

    def _inner_edges(self) -> None:
        for block in self.picture.blocks():
            template = self.blocks.template.get(block)
            if not block.edges or template is None:
                continue
            at, box = self.boxes[block.items[0]], template.boxes[0]
            dx, dy = at.x - box.x, at.y - box.y
            for tail, head, kind in block.edges:
                curve = template.curves[self.index.number[tail], self.index.number[head]]
                flows = (tail, head) not in block.forward
                self.columns.layout.edges.append(Edge(tail, head, kind, moved(curve, dx, dy), flows=flows))

    def _draw(self, link: Link, curve: Curve, arrow: bool = True) -> None:
        edge = Edge(link.tail, link.head, link.kind, curve, arrow, link.label, flows=link.flows)
        self.columns.layout.edges.append(edge)

    # ---- from column to column ------------------------------------------------------------------------------------

    def _sideways(self, link: Link) -> None:
        first, last = self.index.gaps_of(link)
        corners = self._way_out(link)
        x = self.columns.bend(first, (link.tail, link.lane))
        corners.append((x, corners[-1][1]))
        if not self.index.is_near(link):
            lane = self.columns.lanes.height(self.index.lane(link))
            corners += [(x, lane)]
            x = self.columns.bend(last, (link.head, link.dock, "far"))
            corners += [(x, lane)]
        ends = self._way_in(link)
        corners += [(x, ends[0][1]), *ends]
        arrow = not link.head.kind.endswith("dots")
        self._draw(link, line(corners, link.kind, arrow=arrow), arrow)

    def _way_out(self, link: Link) -> list[Point]:
        box, y, side = self.boxes[link.tail], self.blocks.leave(link), self.index.side(link)
        if abs(y - link.lane - box.y) < 0.5:
            return [(box.x + side * box.width / 2, y)]
        x = box.x + side * (box.width / 4 if link.tail in self.index.met else min(6, box.width / 4))
        return [(x, box.foot(x)), (x, y)]

    def _way_in(self, link: Link) -> list[Point]:
        box, y, side = self.boxes[link.head], self.blocks.enter(link), self.index.side_in(link)
        if abs(y - link.dock - box.y) < 0.5:
            return [(box.x - side * box.width / 2, y)]
        x = box.x + side * box.width / 4 if box.width > 20 else box.x - side * 3
        return [(x, y), (x, box.foot(x))]

    # ---- above and below ------------------------------------------------------------------------------------------

    def _up(self, link: Link) -> None:
        start, _ = self.columns.way_up(link.tail)
        end, tip = self.columns.way_down(link.head)
        (x, y), (goal, height), bus = start[-1], end[0], self.columns.bus[link.head]
        corners = [(x, y), (x, bus), (goal, bus), (goal, height)] if abs(x - goal) > 2 else [(x, y), (goal, height)]
        middle, _ = line(corners, link.kind, arrow=False)
        points = [*start, *middle[1:], *end[1:]] if abs(x - start[-1][0]) < 0.01 else middle
        self._draw(link, (points, tip))

    def _from_below(self, link: Link) -> None:
        start, _ = self.columns.way_up(link.tail)
        (x, y), bus, box = start[-1], self.columns.bus[link.tail], self.boxes[link.head]
        if link.kind.endswith("over time"):
            side, ends = self._beside(link), self._way_in(link)
            middle, tip = line([(x, y), (x, bus), (side, bus), (side, ends[0][1]), *ends], link.kind)
            self._draw(link, ([*start, *middle[1:]], tip))
            return
        x_in = self._clear(link.head)
        goal = (x_in, box.foot(x_in))
        middle, tip = line([(x, y), (x, bus), (goal[0], bus), goal], link.kind)
        self._draw(link, ([*start, *middle[1:]], tip))

    def _beside(self, link: Link) -> float:
        """Where a first state from below goes up, beside the step that reads it; each has a place of its own."""
        block, tails = self.index.block[link.head], list(self.columns.bus)
        k, side = self.index.slot[link.head], self.index.side(link)
        edge = self.columns.left[k] if side > 0 else self.columns.left[k] + self.blocks.template[block].width
        sources = sum(self.index.block[item] is self.picture.below for item in tails)
        return edge - side * (7 + LANE * (tails.index(link.tail) - len(tails) + sources))

    def _clear(self, head: Item) -> float:
        """Where a line from below reaches an item without crossing what stands under it, if it can."""
        boxes = self.boxes
        box, others = boxes[head], [boxes[i] for i in self.index.block[head].items if i is not head and i in boxes]
        under = [b for b in others if b.y < box.y]
        places = [box.x + share * box.width for share in (0.0, -0.38, 0.38)]
        return next((x for x in places if all(abs(x - b.x) > b.width / 2 + 3 for b in under)), box.x)

    def _straight(self, link: Link) -> None:
        """What fits no rule is still drawn."""
        a, b = self.boxes[link.tail], self.boxes[link.head]
        ends = [(a.x, a.y + a.height / 2), (b.x, b.y - b.height / 2)]
        self._draw(link, line(ends, link.kind))
