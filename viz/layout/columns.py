"""The blocks side by side, as wide apart as the lines between them need, and what lies above and below them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable
from dataclasses import dataclass, field

from viz.layout.blocks import Blocks, blocks_of
from viz.layout.index import Index
from viz.layout.layout import Layout
from viz.layout.routes import Tracks
from viz.layout.step_template import Curve, moved
from viz.picture.picture import Block, Item, Picture

LANE = 7.0  # between lines side by side
Gaps = dict[int, dict[Hashable, int]]  # in each gap the track of each line that bends there


@dataclass(eq=False)
class Lanes:
    """The level lines under the steps; each gets its lane when it is first asked for."""

    taken: dict[Hashable, int] = field(default_factory=dict)

    def height(self, name: Hashable) -> float:
        """The height of a line under the steps."""
        return -12 - LANE * self.taken.setdefault(name, len(self.taken))


@dataclass(frozen=True, eq=False)
class Columns:
    """A picture whose blocks have their places. Lines are still to be drawn; they are added to `layout`.

    lanes   under the steps
    gaps    the tracks of lines that run upright between two slots
    gap     how wide a gap is
    left    the left edge of each slot, and behind the last
    bus     the heights of the level lines to the block above and from the one below, by what they lead to or come from
    layout  the boxes of all items in blocks, and the frames
    """

    blocks: Blocks
    lanes: Lanes
    gaps: Gaps
    gap: float
    left: list[float]
    bus: dict[Item, float]
    layout: Layout

    @property
    def index(self) -> Index:
        """Which item stands in which block."""
        return self.blocks.index

    def bend(self, k: int, name: Hashable) -> float:
        """Where in gap k a line runs upright."""
        slots = self.index.slots
        room = self.blocks.room(slots[k])[0] if k < len(slots) else 0.0
        return self.left[k] - room - self.gap + self.index.picture.gap / 2 + LANE * self.gaps[k].get(name, 0)

    def way_up(self, item: Item) -> Curve:
        """From an item to the upper edge of its block, as dot led it; of an initial state its upper edge."""
        return self._port(item, self.blocks.place(item)[0].up)

    def way_down(self, item: Item) -> Curve:
        """From the lower edge of an item's block to the item."""
        return self._port(item, self.blocks.place(item)[0].down)

    def _port(self, item: Item, curves: dict[int, Curve]) -> Curve:
        template, i = self.blocks.place(item)
        at, box = self.layout.boxes[item], template.boxes[i]
        if i not in curves:
            return [(at.x, at.y + at.height / 2)], None
        return moved(curves[i], at.x - box.x, at.y - box.y)


def columns_of(picture: Picture, *, turned: bool = False) -> Columns:
    """Every block in its place. turned: for a drawing that will be turned, so that time runs down"""
    blocks = blocks_of(Index.of(picture), turned=turned)
    lanes, layout = Lanes(), Layout()
    gaps = _tracks(blocks, lanes)
    most = max((max(n.values(), default=0) for n in gaps.values()), default=0)
    gap = picture.gap + LANE * most
    left = _side_by_side(blocks, gap, layout)
    bus = _outside(blocks, left, lanes, layout)
    return Columns(blocks, lanes, gaps, gap, left, bus, layout)


def _tracks(blocks: Blocks, lanes: Lanes) -> Gaps:
    """Who bends in which gap; far lines get their lanes."""
    index = blocks.index
    for k, rail in enumerate(index.picture.rails):  # rails take the tracks next to their row
        for reader in rail.readers:
            template, i = blocks.place(reader)
            template.track(i, ("rail", k))
    gaps: dict[int, Tracks] = defaultdict(Tracks)
    for link in index.sideways:
        out, into = blocks.leave(link), blocks.enter(link)
        first, last = index.gaps_of(link)
        if index.is_near(link):
            gaps[first].add((link.tail, link.lane), out, into)
            continue
        lane = lanes.height(index.lane(link))
        gaps[first].add((link.tail, link.lane), out, lane)
        gaps[last].add((link.head, link.dock, "far"), into, lane)
    for loop, start in index.starts():
        if start in index.slot and (not loop.is_round or index.slot[loop.tail] - index.slot[start] != 1):
            lanes.height(("start", loop.delay, start))
    return {k: tracks.numbers() for k, tracks in gaps.items()}


def _side_by_side(blocks: Blocks, gap: float, layout: Layout) -> list[float]:
    """Stamp the blocks from left to right. returns: their left edges, and where a next one would stand"""
    x, lefts = 0.0, []
    for k, block in enumerate(blocks.index.slots):
        left, right, _ = blocks.room(block)
        x += left if k else 0.0
        lefts.append(x)
        _stamp(blocks, block, x, 0, layout)
        x += blocks.template[block].width + gap + right
    return [*lefts, x]


def _stamp(blocks: Blocks, block: Block, x: float, y: float, layout: Layout) -> None:
    template, picture = blocks.template[block], blocks.index.picture
    for item, box in zip(block.items, template.boxes, strict=True):
        layout.boxes[item] = box.moved(x, y)
    if block.is_gap:
        heights = [box.y for box in template.boxes]
        foot = min(20.0, *(h - 26 for h in heights)) if any(abs(h - 20) < 26 for h in heights) else 20.0
        layout.frames.append((block, x, y, template.width, 0, (x + template.width / 2, foot)))
    elif block in picture.slots and not block.is_start:
        title = template.title and (template.title[0] + x, template.title[1] + y)
        layout.frames.append((block, x, y, template.width, template.height, title))


# ---- above and below ------------------------------------------------------------------------------------------------


def _outside(blocks: Blocks, left: list[float], lanes: Lanes, layout: Layout) -> dict[Item, float]:
    """The blocks above and below stand in the middle; between them and the columns each target has its bus."""
    index, picture = blocks.index, blocks.index.picture
    top = max((blocks.template[b].height + blocks.room(b)[2] for b in index.slots), default=0.0)
    targets = dict.fromkeys(k.head for k in picture.links if index.block[k.head] is picture.above)
    bus = {item: top + 13 + LANE * k for k, item in enumerate(targets)}
    if picture.above.items:
        y = top + 18 + LANE * max(len(targets) - 1, 0) if index.slots else 0.0
        middle = _middle(blocks, left, layout, [k.tail for k in picture.links if k.head in bus])
        _stamp(blocks, picture.above, middle - blocks.template[picture.above].width / 2, y, layout)
    out = [*(k.tail for k in picture.links), *(start for _, start in index.starts())]
    sources = dict.fromkeys(item for item in out if index.block[item] is picture.below)
    floor = -14 - LANE * len(lanes.taken)
    bus |= {item: floor - LANE * k for k, item in enumerate(sources)}
    if picture.below.items:
        template = blocks.template[picture.below]
        heads = [k.head for k in picture.links if k.tail in bus]
        heads += [h for loop, s in index.starts() if s in bus for h in loop.heads]
        x = _middle(blocks, left, layout, heads) - template.width / 2
        _stamp(blocks, picture.below, x, floor - LANE * len(sources) - template.height - 8, layout)
    return bus


def _middle(blocks: Blocks, left: list[float], layout: Layout, items: list[Item]) -> float:
    """Half way between the outermost of these that stand in columns; of none of them, in the middle of all steps."""
    index = blocks.index
    xs = [layout.boxes[item].x for item in items if item in index.slot]
    if xs:
        return (min(xs) + max(xs)) / 2
    steps = [k for k, b in enumerate(index.slots) if b.is_gap or not index.is_loose(b)]
    right = left[steps[-1]] + blocks.template[index.slots[steps[-1]]].width if steps else 0.0
    return ((left[steps[0]] if steps else 0.0) + right) / 2
