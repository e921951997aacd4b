"""What is to be drawn, before anything has a place: plain data between reading the graph and laying it out."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, field


@dataclass(eq=False)
class Item:
    """One node of the drawing. plain: its label without the number of the step, the same in all steps"""

    key: str
    label: str
    kind: str
    shape: str = "box"
    plain: str = ""


@dataclass(eq=False)
class Block:
    """Items that are laid out together: a time step, a gap between steps, or what stands outside of time.

    edges   (tail, head, kind) among its items
    level   items that must stand at one height
    """

    key: str
    title: str
    items: list[Item] = field(default_factory=list)
    edges: list[tuple[Item, Item, str]] = field(default_factory=list)
    level: list[list[Item]] = field(default_factory=list)
    is_gap: bool = False

    def signature(self) -> Hashable:
        """Equal for blocks that are laid out alike."""
        number = {item: i for i, item in enumerate(self.items)}
        edges = tuple([(number[a], number[b], kind) for a, b, kind in self.edges])
        return tuple([(i.plain, i.kind, i.shape) for i in self.items]), edges, bool(self.title)


@dataclass(eq=False)
class Link:
    """An edge between two blocks."""

    tail: Item
    head: Item
    kind: str


@dataclass(eq=False)
class Rail:
    """A parameter (or several with the same readers), drawn once, and what reads it."""

    item: Item
    readers: list[Item] = field(default_factory=list)


@dataclass(eq=False)
class Picture:
    """slots: the blocks from left to right  start: the initial states  above, below: outside of time"""

    slots: list[Block] = field(default_factory=list)
    start: Block = field(default_factory=lambda: Block("start", ""))
    above: Block = field(default_factory=lambda: Block("above", ""))
    below: Block = field(default_factory=lambda: Block("below", ""))
    links: list[Link] = field(default_factory=list)
    rails: list[Rail] = field(default_factory=list)

    def blocks(self) -> list[Block]:
        """All of them."""
        return [self.start, *self.slots, self.above, self.below]
