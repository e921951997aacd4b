"""A cell drawn as in a textbook: its items on a grid, its lines level or upright, and its frame."""

from __future__ import annotations

import math

from collections import defaultdict
from itertools import pairwise

from viz.graphviz.dot import Point
from viz.layout.blocks import sizes_of
from viz.layout.layout import Edge, Layout
from viz.layout.router import DOWN, LEFT, RIGHT, UP, Place, Port, Way
from viz.layout.routes import line
from viz.layout.scheme_grid import UNIT, Grid
from viz.layout.step_template import Box
from viz.picture.picture import Block, Item
from viz.picture.scheme import Scheme
from viz.style import EDGES, LINE

Tree = dict["Place | Item", list["Place | Item"]]  # where a line goes on from each place


def textbook(scheme: Scheme) -> Layout:
    """The drawing of a scheme."""
    grid = Grid(scheme)
    layout = Layout(grid.boxes())
    Wires(grid, layout).add()
    frame = grid.frame()
    layout.frames.append((Block("cell", scheme.name), *frame, _title(grid, *frame)))
    return layout


def _title(grid: Grid, left: float, bottom: float, width: float, height: float) -> Point:
    """The middle of the cell's name: at the lower right, or at the left if an input comes in there."""
    size = sizes_of([Item("name", grid.scheme.name, "", "text")]).popitem()[1]
    half = size.width / 2 * 12 / 11
    right = left + width - half - 8
    meets = any(abs(grid.at[item][0] * UNIT - right) < half + 6 for item in grid.scheme.inputs)
    return left + half + 8 if meets else right, bottom + 11


class Wires:
    """Adds the lines to a layout that has the items."""

    def __init__(self, grid: Grid, layout: Layout):
        self.grid, self.layout, self.scheme = grid, layout, grid.scheme
        self.memories = grid.columns.memories

    def add(self) -> None:
        """One line after the other finds its way; what carries one value is then drawn as a tree."""
        pairs = [(tail, head) for head, tails in self.scheme.reads.items() for tail in tails]
        trees: dict[Item, Tree] = {tail: defaultdict(list) for tail, _ in pairs}
        net = {tail: k for k, tail in enumerate(trees)}
        router = self.grid.router()
        for tail, head in sorted(pairs, key=self._turn):
            places = router.connect(net[tail], self._outs(tail), self._ins(tail, head))
            if places is None:
                self._straight(tail, head)
                continue
            tree = trees[tail]
            way: list[Place | Item] = [*places, head]
            for a, b in pairwise(way if places[0] in tree else [tail, *way]):
                if b not in tree[a]:
                    tree[a].append(b)
        for tail, tree in trees.items():
            for child in tree[tail]:
                self._branch(tree, self._kind(tail), tail, None, child)

    def _turn(self, pair: tuple[Item, Item]) -> tuple[int, int, int]:
        """Which line is drawn first: straight ones, those from bars, short ones."""
        tail, head = pair
        (x, y), (to, up) = self.grid.at[tail], self.grid.at[head]
        first = 0 if x == to or y == up else 1 if tail in self.scheme.joins else 2
        return first, abs(x - to) + abs(y - up), x

    def _kind(self, tail: Item) -> str:
        """Lines of memories have their colour all along."""
        before = self.memories.get(tail, tail)
        if before in self.scheme.before:
            return self.scheme.before[before]
        return next((kind for after, kind in self.scheme.after.items() if self.scheme.reads[after] == [tail]), "flow")

    # ---- where they may leave and come in ----

    def _outs(self, tail: Item) -> list[Port]:
        if tail in self.scheme.inputs:
            return self._ports(tail, {UP: 0.0})
        if tail in self.scheme.before or tail in self.memories or tail in self.scheme.joins:
            return self._ports(tail, {RIGHT: 0.0})
        if tail in self.scheme.layers:
            return self._ports(tail, {UP: 0.0, RIGHT: 6.0})
        return self._ports(tail, {UP: 0.0, RIGHT: 1.0, DOWN: 2.0, LEFT: 8.0})

    def _ins(self, tail: Item, head: Item) -> list[Port]:
        (x, y), (wide, high), reads = self.grid.at[head], self.grid.half[head], self.scheme.reads[head]
        if head in self.scheme.joins:
            return [((x - wide - 1, y - 2 * reads.index(tail) + len(reads) - 1), RIGHT, 0.0)]
        if head in self.scheme.layers:
            return [((self.grid.tap(tail, head), y - high - 1), UP, 0.0)]
        if head in self.scheme.after or tail is self._before(head):
            costs = {LEFT: 0.0}
        elif head in self.memories:
            costs = {DOWN: 0.0, UP: 6.0}
        else:
            costs = {DOWN: 0.0, LEFT: 1.0, UP: 1.0, RIGHT: 5.0}
        return [(place, (-dx, -dy), cost) for place, (dx, dy), cost in self._ports(head, costs)]

    def _before(self, item: Item) -> Item | None:
        """What stands before it on the way of a memory."""
        if item not in self.memories:
            return None
        way = [self.memories[item], *self.scheme.path[self.memories[item]]]
        return way[way.index(item) - 1]

    def _ports(self, item: Item, costs: dict[Way, float]) -> list[Port]:
        """The places in front of an item's sides, the way out there, and what it costs."""
        (x, y), (wide, high) = self.grid.at[item], self.grid.half[item]
        return [((x + dx * (wide + 1), y + dy * (high + 1)), (dx, dy), cost) for (dx, dy), cost in costs.items()]

    # ---- drawing ----

    def _branch(self, tree: Tree, kind: str, begin: Item, at: Place | None, child: Place | Item) -> None:
        """Draw a line up to where it parts, and then each part. begin, at: the item or the place from which it comes"""
        corners: list[Point] = [] if at is None else [_point(at)]
        while not isinstance(child, Item):
            corners += [self._edge_of(begin, child)] if at is None else []
            corners.append(_point(child))
            at, parts = child, tree[child]
            if len(parts) > 1:
                self._part(tree, kind, begin, at, corners)
                return
            child = parts[0]
        corners.append(self._edge_of(child, at or self.grid.at[begin]))
        self.layout.edges.append(Edge(begin, child, kind, line(corners, kind)))

    def _part(self, tree: Tree, kind: str, begin: Item, at: Place, corners: list[Point]) -> None:
        dot = Item(f"dot{len(self.layout.boxes)}", "", "", "dot")
        dot.look["fillcolor"] = dot.look["color"] = str(EDGES[kind].get("color", LINE))
        self.layout.boxes[dot] = Box(*_point(at), 4.0, 4.0)
        self.layout.edges.append(Edge(begin, dot, kind, line(corners, kind, arrow=False), arrow=False))
        for part in tree[at]:
            self._branch(tree, kind, dot, at, part)

    def _edge_of(self, item: Item, place: Place) -> Point:
        """Where a line from or to a place meets an item."""
        box, (x, y) = self.layout.boxes[item], _point(place)
        if abs(x - box.x) < box.width / 2:
            return x, box.y + math.copysign(box.height / 2, y - box.y)
        return box.x + math.copysign(box.width / 2, x - box.x), y

    def _straight(self, tail: Item, head: Item) -> None:
        """What finds no way is still drawn."""
        a, b = self.layout.boxes[tail], self.layout.boxes[head]
        ends = [(a.x + a.width / 2, a.y), (b.x - b.width / 2, b.y)]
        kind = self._kind(tail)
        self.layout.edges.append(Edge(tail, head, kind, line(ends, kind)))


def _point(place: Place) -> Point:
    return place[0] * UNIT, place[1] * UNIT
