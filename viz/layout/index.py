"""Which block an item stands in, and how links run between blocks: known before anything has a size."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from viz.picture.picture import Block, Item, Link, Loop, Picture


@dataclass(frozen=True, eq=False)
class Index:
    """A picture, and where its items stand in it.

    slots   the blocks that stand side by side, from left to right
    slot    for what stands in one of these: which
    number  of each item in its block
    block   of each item
    """

    picture: Picture
    slots: list[Block]
    slot: dict[Item, int]
    number: dict[Item, int]
    block: dict[Item, Block]

    @staticmethod
    def of(picture: Picture) -> Index:
        """The index of a picture that is finished."""
        ends = picture.start, picture.finish
        slots = [b for b in (ends[0], *picture.slots, ends[1]) if b.items or b not in ends]
        slot = {item: k for k, block in enumerate(slots) for item in block.items}
        number = {item: i for block in picture.blocks() for i, item in enumerate(block.items)}
        return Index(picture, slots, slot, number, {i: block for block in picture.blocks() for i in block.items})

    def is_loose(self, block: Block) -> bool:
        """Is it laid out without a template: first states, or dots?"""
        return block.is_gap or block.is_start or block in (self.picture.start, self.picture.finish)

    @cached_property
    def sideways(self) -> list[Link]:
        """The links between blocks that stand side by side."""
        return [k for k in self.picture.links if k.tail in self.slot and k.head in self.slot]

    @cached_property
    def met(self) -> set[Item]:
        """The items into which something comes from the right."""
        return {k.head for k in self.sideways if self.side_in(k) < 0}

    def starts(self) -> list[tuple[Loop, Item]]:
        """(loop, first state) for what is computed before a loop."""
        return [(loop, start) for loop in self.picture.loops for start in loop.starts]

    # ---- sides of links -------------------------------------------------------------------------------------------

    def side(self, link: Link) -> int:
        """On which side of its tail a line leaves: 1 to the right, and to what is later."""
        if link.tail not in self.slot:  # a first state from below
            return -1 if link.head in self.block[link.head].leftward else 1
        return 1 if self.slot[link.head] > self.slot[link.tail] else -1

    def side_in(self, link: Link) -> int:
        """The same at its head: the first state of a run that goes backwards comes in where its others do."""
        side = self.side(link)
        back = link.kind.endswith("over time") and link.head in self.block[link.head].leftward
        return -1 if back else side

    def is_near(self, link: Link) -> bool:
        """Does it go from one slot straight into the next?"""
        return abs(self.slot[link.head] - self.slot[link.tail]) == 1 and self.side(link) == self.side_in(link)

    def gaps_of(self, link: Link) -> tuple[int, int]:
        """The gap that a line comes out into, and the one from which it goes in. Gap k is to the left of slot k."""
        a, b = self.slot[link.tail], self.slot[link.head]
        return a + 1 if b > a else a, b if self.side_in(link) > 0 else b + 1

    def lane(self, link: Link) -> Item:
        """Far links share a lane where they come from one item, or go to one between two loops."""
        return link.head if not self.block[link.head].framed else link.tail
