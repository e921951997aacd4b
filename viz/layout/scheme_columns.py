"""In which column and which row each item of a scheme stands, and in which order its layers."""

from __future__ import annotations

import math

from collections.abc import Sequence
from itertools import pairwise, permutations

from viz.picture.picture import Item
from viz.picture.scheme import Scheme

FEW = 6  # layers of which all orders are tried


class Columns:
    """Which column and which row each item stands in; columns are numbers in order, and may be fractions."""

    def __init__(self, scheme: Scheme, order: Sequence[Item]):
        self.scheme = scheme
        self.row: dict[Item, int] = dict.fromkeys(order, 0)
        self.column: dict[Item, float] = {item: float(i) for i, item in enumerate(order)}
        self.memories = {item: before for before, path in scheme.path.items() for item in path}
        straight = [tail for item in self.memories for tail in scheme.reads[item] if tail in scheme.layers]
        self.kept_clear = {self.column[tail] for tail in straight}  # up to a memory
        self._rise()
        self._fall()
        top = max(self.row.values(), default=0) + 1
        for k, path in enumerate(scheme.path.values()):
            self._pass(path, top + k)

    def _rise(self) -> None:
        """What is made of layers stands above them."""
        for item in self.scheme.points:
            below = [tail for tail in self.scheme.reads[item] if tail in self.column and tail not in self.memories]
            column = max((self.column[tail] for tail in below), default=None)
            if column is not None and item in self.memories:
                self.column[item], self.row[item] = column, 0  # for now
            elif column is not None:
                self._put(item, column, 1 + max(self.row[tail] for tail in below))

    def _fall(self) -> None:
        """What is made of memories alone stands above what reads it."""
        points = [p for p in self.scheme.points if p not in self.column and p not in self.memories]
        for item in reversed(points):
            heads = [h for h in self.scheme.reads if item in self.scheme.reads[h] and h in self.column]
            over = [h for h in heads if h not in self.scheme.layers and h not in self.memories]
            column = max((self.column[h] for h in over or heads), default=max(self.column.values(), default=-1.0) + 1)
            self._put(item, column, 1 + max((self.row[h] for h in over), default=0))

    def _put(self, item: Item, column: float, row: int) -> None:
        taken = {(self.column[i], self.row[i]) for i in self.column if i not in self.memories}
        while (column, row) in taken or column in self.kept_clear:
            column += 0.5
        self.column[item], self.row[item] = column, row

    def _pass(self, path: Sequence[Item], row: int) -> None:
        """A memory passes the columns from left to right."""
        least, known = -math.inf, [self.column.get(item) for item in path]
        for i, item in enumerate(path):
            after = next((c - 0.5 * (k > 0) for k, c in enumerate(known[i:]) if c is not None), None)
            if after is None:
                after = least + 0.5 if i else max(self.column.values(), default=0.0) + 1
            least = after if after > least else least + 0.25
            self.column[item], self.row[item] = least, row

    def cost(self) -> float:
        """How far what belongs together is apart, and how often lines would have to turn back."""
        return self._distances() + sum(self._turns(before, path) for before, path in self.scheme.path.items())

    def _distances(self) -> float:
        """Of operations from what they read; a layer stands right of what it reads."""
        total, column = 0.0, self.column
        for head, tails in self.scheme.reads.items():
            for tail in tails:
                if head in column and tail in column:
                    layer = head in self.scheme.layers
                    total += 3.0 * (column[tail] >= column[head]) if layer else abs(column[head] - column[tail])
        return total

    def _turns(self, before: Item, path: Sequence[Item]) -> float:
        """What reads a memory stands where its line has the value that it reads."""
        column = self.column
        total = sum(4.0 * (column[b] - column[a] < 0.5) for a, b in pairwise(path))
        for tail, following in pairwise([before, *path, None]):
            start = column.get(tail, -math.inf) if tail is not None else 0.0
            end = column[following] if following is not None else math.inf
            for head, tails in self.scheme.reads.items():
                if tail in tails and head in column and head not in path:
                    total += 3.0 * (column[head] <= start)
                    late = column[head] >= end if tail is before else column[head] > end
                    total += (3.0 if tail is before else 1.0) * (late and head not in self.scheme.layers)
        return total


def columns_of(scheme: Scheme) -> Columns:
    """The order of the layers that costs least, of those alike the one of the code."""
    if len(scheme.layers) > FEW:
        return Columns(scheme, scheme.layers)
    moved = lambda order: sum(abs(i - scheme.layers.index(item)) for i, item in enumerate(order))
    tried = [Columns(scheme, order) for order in permutations(scheme.layers)]
    return min(tried, key=lambda found: found.cost() + 0.2 * moved([i for i in found.column if i in scheme.layers]))
