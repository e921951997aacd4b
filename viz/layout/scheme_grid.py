"""A cell's scheme on a grid: layers in a row, memories on top, x below, states at both sides."""

from __future__ import annotations

import math

from dataclasses import replace

from viz.layout.blocks import sizes_of
from viz.layout.router import Place, Router
from viz.layout.scheme_columns import columns_of
from viz.layout.step_template import Box
from viz.picture.picture import Item
from viz.picture.scheme import Scheme

UNIT = 6.0  # points from place to place
ROW = 9  # places from row to row
GAP = 4  # places between columns, at least
ASIDE = 10  # places from the outermost columns to the states at their sides
UNDER = 6  # places from the row of layers to what comes from the left
APART = 5  # places between what stands at a side


class Grid:
    """Where each item stands, in places, and half of its size. floor, width, high: how far the cell reaches"""

    def __init__(self, scheme: Scheme):
        self.scheme, self.columns = scheme, columns_of(scheme)
        self.sizes = sizes_of(scheme.items())
        for bar in scheme.joins:
            self.sizes[bar] = replace(self.sizes[bar], height=2 * UNIT * len(scheme.reads[bar]) + 4)
        self.half = {item: (math.ceil(box.width / 2 / UNIT), math.ceil(box.height / 2 / UNIT))
                     for item, box in self.sizes.items()}  # fmt: skip
        self.at: dict[Item, Place] = {}
        self.aside = ASIDE + max((self.half[item][0] for item in (*scheme.before, *scheme.after)), default=0)
        self.width = self._place()
        self.high = max(self.columns.row.values(), default=0) * ROW
        self.floor = self._place_left()
        self._place_below()
        self._place_right()

    def _place(self) -> int:
        """What stands in columns; how wide they are together."""
        columns, across = self.columns, -GAP
        for column in sorted(set(columns.column.values())):
            items = [item for item, c in columns.column.items() if c == column]
            wide = max(self.half[item][0] for item in items)
            across += wide + GAP
            self.at |= {item: (across, columns.row[item] * ROW) for item in items}
            across += wide
        return across

    def _place_left(self) -> int:
        """Bars, and what earlier steps left: memories level with their way, others below; how far down that is."""
        low = -UNDER
        for bar in self.scheme.joins:
            self.at[bar] = -2, low
            low -= 2 * self.half[bar][1]
        floor, low = low, -UNDER
        for item in self.scheme.before:
            path = self.scheme.path.get(item)
            self.at[item] = -self.aside, self.at[path[0]][1] if path else low + 1
            low -= 0 if path else APART
        return min(floor, low) - 3

    def _place_below(self) -> None:
        """Inputs under the first layer that reads them, or at the left of the bar."""
        taken: set[int] = set()
        for item in self.scheme.inputs:
            heads = [head for head in (*self.scheme.joins, *self.scheme.layers) if item in self.scheme.reads[head]]
            x = self.tap(item, heads[0]) if heads and heads[0] in self.scheme.layers else -6
            while any(abs(x - other) < 2 * APART for other in taken):
                x += 1
            taken.add(x)
            self.at[item] = x, self.floor - APART

    def _place_right(self) -> None:
        """What a step leaves level with what makes it."""
        taken: set[int] = set()
        for item in self.scheme.after:
            (tail,) = self.scheme.reads[item]
            y = max(self.at[tail][1], self.floor + APART)  # an input that is kept goes through the cell
            while any(abs(y - other) < APART for other in taken):
                y -= 1
            taken.add(y)
            self.at[item] = self.width + self.aside, y

    def tap(self, tail: Item, layer: Item) -> int:
        """Where a line comes into a layer from below."""
        reads = self.scheme.reads[layer]
        return self.at[layer][0] + 2 * reads.index(tail) - (len(reads) - 1)

    def boxes(self) -> dict[Item, Box]:
        """The items in points."""
        return {item: replace(self.sizes[item], x=x * UNIT, y=y * UNIT) for item, (x, y) in self.at.items()}

    def frame(self) -> tuple[float, float, float, float]:
        """Left, bottom, width and height of the cell, in points."""
        left, bottom = 2 - ASIDE, self.floor
        return left * UNIT, bottom * UNIT, (self.width - 2 * left) * UNIT, (self.high - bottom + APART) * UNIT

    def router(self) -> Router:
        """For the lines, which keep clear of the items."""
        router = Router((-self.aside, self.floor - 3, self.width + self.aside, self.high + 4))
        for item, (x, y) in self.at.items():
            router.wall(x, y, *self.half[item])
        return router
