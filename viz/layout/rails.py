"""Parameters at the left, and the dashed rails on which they reach the steps that read them."""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter, defaultdict
from dataclasses import dataclass

from viz.graphviz.dot import Point
from viz.layout.columns import Columns
from viz.layout.layout import Edge
from viz.layout.routes import line
from viz.layout.step_template import Box
from viz.picture.picture import Block, Item


@dataclass(eq=False)
class _Chain:
    """The readers of a rail in one row of their steps, from left to right. bend: where it leaves the box's height"""

    rail: int
    readers: list[Item]
    bend: float = 0.0


class Rails:
    """Adds the parameters to a drawing whose blocks have their places."""

    def __init__(self, columns: Columns):
        self.columns, self.blocks, self.index = columns, columns.blocks, columns.index
        self.boxes, self.rails = columns.layout.boxes, columns.index.picture.rails
        self.lefts = columns.left[:-1]
        self.taken: dict[
            tuple[int, int], tuple[float, float]
        ] = {}  # by height and number of a rail: from where to where

    def add(self) -> None:
        """Boxes as level as possible with their rails, lowest first; then the rails, the leftmost first."""
        chains = [chain for k in range(len(self.rails)) for chain in self._chains(k)]
        chains.sort(key=lambda chain: self._tap(chain, chain.readers[0])[1])
        right = (self.lefts[0] if self.lefts else self._leftmost()) - 16 - 4 * len(chains) - self._ways_up()
        self._place(chains, right)
        for track, chain in enumerate(chains):
            chain.bend = right + 8 + 4 * track
        for chain in sorted(chains, key=lambda chain: self.boxes[chain.readers[0]].x):
            self._draw(chain)

    def _ways_up(self) -> float:
        """The room that first states from below take in front of the first step."""
        index = self.index
        below, first = index.picture.below, index.slots[:1]
        tails = {k.tail for k in index.picture.links if k.kind.endswith("over time")
                 and index.block[k.tail] is below and index.block[k.head] in first}  # fmt: skip
        return 7 * len(tails) + 8 if tails else 0

    def _leftmost(self) -> float:
        return min((b.x - b.width / 2 for b in self.boxes.values()), default=0.0)

    def _place(self, chains: list[_Chain], right: float) -> None:
        sizes = self.blocks.size
        width = max((sizes[r.item].width for r in self.rails), default=0.0)
        ceiling = float("-inf")
        for chain in chains:
            item = self.rails[chain.rail].item
            if item in self.boxes:
                continue
            height = sizes[item].height
            y = max(self._tap(chain, chain.readers[0])[1], ceiling + height / 2)
            ceiling = y + height / 2 + 8
            self.boxes[item] = Box(right - width / 2, y, width, height)

    def _chains(self, k: int) -> list[_Chain]:
        rows: dict[int, list[Item]] = defaultdict(list)
        count: Counter[Block] = Counter()
        for reader in sorted(self.rails[k].readers, key=lambda r: self.boxes[r].x):
            block = self.index.block[reader]
            rows[count[block] if reader in self.index.slot else -1 - count[block]].append(reader)
            count[block] += 1
        return [_Chain(k, readers) for readers in rows.values()]

    def _tap(self, chain: _Chain, reader: Item) -> Point:
        """Where a reader's tap leaves the rail."""
        template, i = self.blocks.place(reader)
        at, own = self.boxes[reader], template.boxes[i]
        rails = [name for name in template.tracks[round(own.y)] if name[0] == "rail"]
        share = min(at.width * (0.3 if at.width > 20 else 0.15), 8.0 + 6 * rails.index(("rail", chain.rail)))
        return at.x - at.width / 2 + share, template.track(i, ("rail", chain.rail)) + at.y - own.y

    def _draw(self, chain: _Chain) -> None:
        """Each edge is one piece of the rail and one tap, so that dashes are not drawn over dashes."""
        item = self.rails[chain.rail].item
        box = self.boxes[item]
        at = (box.x + box.width / 2, box.y)
        for k, reader in enumerate(chain.readers):
            x, y = self._tap(chain, reader)
            to = self.boxes[reader]
            along = self._along(chain, at, self._before(reader) if k else chain.bend, reader, y)
            corners = [at, *along, (x, y), (x, to.foot(x))]
            curve, flows = line(corners, "parameter", radius=3), reader in self.rails[chain.rail].flows
            self.columns.layout.edges.append(Edge(item, reader, "parameter", curve, flows=flows, begins=k == 0))
            start, end = self.taken.get((round(y), chain.rail), (along[-1][0], x))
            self.taken[round(y), chain.rail] = min(start, along[-1][0]), max(end, x)
            at = (x, y)

    def _along(self, chain: _Chain, at: Point, bend: float, reader: Item, y: float) -> list[Point]:
        """Level to the reader's step; where nodes of other steps or other rails are in the way, under the steps."""
        if not self._is_blocked(chain, at[0], reader, y):
            return [(bend, at[1]), (bend, y)]
        lane = self.columns.lanes.height(("rail", chain.rail))
        return [(bend, at[1]), (bend, lane), (self._before(reader), lane), (self._before(reader), y)]

    def _is_blocked(self, chain: _Chain, x: float, reader: Item, y: float) -> bool:
        goal = self.boxes[reader].x
        for (height, rail), (start, end) in self.taken.items():
            if abs(height - y) < 2 and rail != chain.rail and start < goal and end > x:
                return True
        first, slots = bisect_right(self.lefts, x), self.index.slots
        passed = [self.boxes[i] for b in slots[first : self.index.slot.get(reader, first)] for i in b.items]
        return any(abs(b.y - y) < b.height / 2 + 2 for b in passed)

    def _before(self, reader: Item) -> float:
        """Just left of the reader's step."""
        slot = self.index.slot.get(reader)
        return self.boxes[reader].x if slot is None else self.lefts[slot] - 5
