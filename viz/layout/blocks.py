"""The size of everything: dot lays out one block of each sort, and its template does for all that are alike.

dot sees one block at a time, so the work is linear in the number of steps; a shared parameter as one node with an
edge to every step would take it minutes at fifty steps.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from viz.layout.index import Index
from viz.layout.needs import needs_of
from viz.layout.rooms import Room, rooms
from viz.layout.step_template import Box, Needs, Template, lay_out
from viz.picture.picture import Block, Item, Link

Sizes = dict[Item, Box]


@dataclass(frozen=True, eq=False)
class Blocks:
    """The blocks of a picture, each with what is in it; none has its place in the drawing yet.

    template  of each block
    size      of what dot does not place: first states, dots, parameters, the names of delays
    rooms     what is kept clear beside blocks with loops
    turned    will the drawing be turned, so that time runs down? The nodes are not turned then
    """

    index: Index
    template: dict[Block, Template]
    size: Sizes
    rooms: Mapping[Block, Room]
    turned: bool

    def room(self, block: Block) -> Room:
        """What is kept clear at the left, at the right and above a block."""
        return self.rooms.get(block, (0.0, 0.0, 0.0))

    def place(self, item: Item) -> tuple[Template, int]:
        """The template of an item's block, and the item's number there."""
        return self.template[self.index.block[item]], self.index.number[item]

    def leave(self, link: Link) -> float:
        """The height at which a line comes out of its tail's block."""
        return self._cross(link.tail, self.index.side(link), "out") + link.lane

    def enter(self, link: Link) -> float:
        """The height at which it comes into its head's block."""
        return self._cross(link.head, -self.index.side_in(link), "in") + link.dock

    def _cross(self, item: Item, side: int, name: str) -> float:
        template, i = self.place(item)
        is_met = name == "out" and side > 0 and item in self.index.met
        return template.boxes[i].y if template.clear(i, side) and not is_met else template.track(i, (name, i))


def blocks_of(index: Index, *, turned: bool) -> Blocks:
    """Everything that is known of a picture's blocks before they stand side by side."""
    titles = {b: Item(b.key, b.title, "", "text") for b in index.slots if index.is_loose(b) and b.title}
    size = _measured(index, list(titles.values()), turned)
    kept = rooms(index.picture, size)
    over = max((above for _, _, above in kept.values()), default=0.0)
    ranksep = index.picture.ranksep + (over / 72 if turned else 0.0)  # names lie along the rows there
    template = _templates(index, ranksep, turned)
    for block in (b for b in index.slots if index.is_loose(b)):
        template[block] = _loose(Blocks(index, template, size, kept, turned), block, titles.get(block))
    return Blocks(index, template, size, kept, turned)


def _templates(index: Index, ranksep: float, turned: bool) -> dict[Block, Template]:
    """One template for all blocks with the same signature."""
    needs, alike = needs_of(index), defaultdict(list)
    for block in index.picture.blocks():
        if block.items and not index.is_loose(block):
            alike[block.signature()].append(block)
    found: dict[Block, Template] = {}
    for blocks in alike.values():
        together = Needs()
        for block in blocks:
            together.add(needs[block])
        labels = [max(same, key=len) for same in zip(*[[i.label for i in b.items] for b in blocks], strict=True)]
        title = max((b.title for b in blocks), key=len)
        sizes = None
        if turned:
            known = _sizes(zip(labels, blocks[0].items, strict=True), turned)
            sizes = [_as_tall(known[label, item.shape], together.tall.get(i, 0.0))
                     for i, (label, item) in enumerate(zip(labels, blocks[0].items, strict=True))]  # fmt: skip
        found.update(dict.fromkeys(blocks, lay_out(blocks[0], labels, title, together, ranksep, sizes)))
    return found


def _measured(index: Index, titles: list[Item], turned: bool) -> Sizes:
    """The sizes of what stands in no template: initial states, dots, parameters, titles, names of delays."""
    items = [i for b in index.slots if index.is_loose(b) for i in b.items]
    tags = [loop.tag for loop in index.picture.loops]
    every = [*items, *(r.item for r in index.picture.rails), *titles, *tags]
    sizes = _sizes(((i.label, i) for i in every), turned)
    size = {i: _as_tall(sizes[i.label, i.shape], i.tall) for i in every}
    for item in items:
        if item.shape == "text":  # dots are set in larger type than they were measured in
            box = size[item]
            size[item] = replace(box, width=box.width * 14 / 11 + 8, height=box.height * 14 / 11)
    return size


def _sizes(labelled: Iterable[tuple[str, Item]], turned: bool) -> dict[tuple[str, str], Box]:
    """The size of an item of a shape with a label: as Graphviz says, or turned."""
    unlike = {(label, item.shape): item for label, item in labelled}
    if not unlike:
        return {}
    template = lay_out(Block("loose", "", list(unlike.values())), [label for label, _ in unlike], "", Needs())
    boxes = [box.turned() for box in template.boxes] if turned else template.boxes
    return dict(zip(unlike, boxes, strict=True))


def sizes_of(items: Sequence[Item]) -> Sizes:
    """The size of each item, as its label asks for; at (0, 0)."""
    found = _sizes(((i.label, i) for i in items), turned=False)
    return {i: replace(found[i.label, i.shape], x=0.0, y=0.0) for i in items}


def _as_tall(box: Box, height: float) -> Box:
    """A box that is at least so high."""
    return replace(box, height=max(box.height, height))


# ---- first states and dots ------------------------------------------------------------------------------------------


def _loose(blocks: Blocks, block: Block, title: Item | None) -> Template:
    """First states, dots and a title, in a column. blocks: those that are laid out already"""
    boxes = [blocks.size[i] for i in block.items] + ([blocks.size[title]] if title is not None else [])
    width = max(b.width for b in boxes)
    heights = _heights(blocks, block)
    boxes = [replace(blocks.size[i], x=width / 2, y=y) for i, y in zip(block.items, heights, strict=True)]
    return Template(boxes, {}, {}, {}, width, 0, None)


def _heights(blocks: Blocks, block: Block) -> list[float]:
    """Initial states and dots stand level with what reads them."""
    index, size = blocks.index, blocks.size
    found: dict[Item, float] = {}
    for link in index.picture.links:
        if index.block[link.tail] is block and link.head in index.slot and not index.block[link.head].is_gap:
            y = _height(blocks, link.head)
            found[link.tail] = min(found.get(link.tail, y), y)
        elif index.block[link.head] is block and block.is_gap and link.tail in index.slot:
            found.setdefault(link.head, _height(blocks, link.tail))
    below: Item | None = None
    for item in sorted(block.items, key=lambda i: found.get(i, 0)):
        y = found.get(item, 0.0)
        if below is not None:
            apart = max(32.0, (size[below].height + size[item].height) / 2 + 8)
            y = max(y, found[below] + apart)
        found[item], below = y, item
    return [found[i] for i in block.items]


def _height(blocks: Blocks, item: Item) -> float:
    template, i = blocks.place(item)
    return template.boxes[i].y
