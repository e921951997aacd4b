"""What is to be drawn, before anything has a place: plain data between reading the graph and laying it out."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, field

from tinygrad_rnn.autograd.graph import Node


@dataclass(eq=False)
class Item:
    """One node of the drawing.

    plain    its label without the number of the step, the same in all steps
    nodes    what it stands for, the value that it shows last
    states   those of them that go on to the next step, where it is a box for many
    look     attributes of Graphviz that differ from those of its kind
    tall     how high it is at least, in points, so that all lines meet it at its side
    moment   when it appears in a drawing that plays, from 1; 0 for what is always there
    reached  does a gradient come to it?
    """

    key: str
    label: str
    kind: str
    shape: str = "box"
    plain: str = ""
    nodes: list[Node] = field(default_factory=list)
    states: list[Node] = field(default_factory=list)
    look: dict[str, object] = field(default_factory=dict)
    tall: float = 0.0
    moment: int = 0
    reached: bool = True


@dataclass(eq=False)
class Block:
    """Items that are laid out together: a time step, a gap between steps, or what stands outside of time.

    edges   (tail, head, kind) among its items
    forward (tail, head) of those of them along which no gradient comes back
    level   items that must stand at one height
    rising  (item, item above it), without an edge
    leftward items whose time runs to the left
    moment  when it appears in a drawing that plays, from 1; 0 for what is always there
    is_start first states of a run that is not the first: they stand in front of it
    framed  is there a frame round it?
    """

    key: str
    title: str
    items: list[Item] = field(default_factory=list)
    edges: list[tuple[Item, Item, str]] = field(default_factory=list)
    forward: set[tuple[Item, Item]] = field(default_factory=set)
    level: list[list[Item]] = field(default_factory=list)
    rising: list[tuple[Item, Item]] = field(default_factory=list)
    leftward: set[Item] = field(default_factory=set)
    is_gap: bool = False
    is_start: bool = False
    framed: bool = True
    moment: int = 0

    def signature(self) -> Hashable:
        """Equal for blocks that are laid out alike."""
        number = {item: i for i, item in enumerate(self.items)}
        edges = tuple([(number[a], number[b], kind) for a, b, kind in self.edges])
        rising = tuple([(number[a], number[b]) for a, b in self.rising])
        looks = tuple([(i.plain, i.kind, i.shape, i in self.leftward) for i in self.items])
        return looks, edges, rising, bool(self.title)


@dataclass(eq=False)
class Link:
    """An edge between two blocks.

    lane   of several side by side: how far above the middle of its tail
    dock   the same at its head
    name   of the state that it carries
    label  drawn at its tail
    flows  does a gradient come back along it?
    """

    tail: Item
    head: Item
    kind: str
    lane: float = 0.0
    dock: float = 0.0
    name: str = ""
    label: str = ""
    flows: bool = True


@dataclass(eq=False)
class Loop:
    """A state that comes back at the next step: an edge with a delay on it.

    tail    may be another loop's delay
    tag     the name, as it stands beside the delay
    starts  what the delay holds before the first step, where that is computed
    dock    of a loop round a box: how far above its middle the state leaves it and comes back
    flows   the heads from which a gradient comes back, and the next delay if one comes through it
    """

    block: Block
    tail: Item
    heads: list[Item]
    kind: str
    name: str
    delay: Item
    starts: list[Item] = field(default_factory=list)
    dock: float = 0.0
    flows: set[Item] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.tag = Item(f"{self.delay.key}.name", self.name, "", "name")

    @property
    def is_round(self) -> bool:
        """Does it go round its box, rather than beside its step?"""
        return self.heads == [self.tail] and self.tail.shape == "module"


@dataclass(eq=False)
class Rail:
    """A parameter (or several with the same readers), drawn once, and what reads it. flows: of these, those from which
    a gradient comes back
    """

    item: Item
    readers: list[Item] = field(default_factory=list)
    flows: set[Item] = field(default_factory=set)


@dataclass(eq=False)
class Picture:
    """slots: the blocks from left to right  start, finish: the initial states  above, below: outside of time
    moments: what appears one after the other when the drawing plays
    gap: between the slots, in points  ranksep: between the rows of a block, in inches
    """

    slots: list[Block] = field(default_factory=list)
    start: Block = field(default_factory=lambda: Block("start", ""))
    finish: Block = field(default_factory=lambda: Block("finish", ""))
    above: Block = field(default_factory=lambda: Block("above", ""))
    below: Block = field(default_factory=lambda: Block("below", ""))
    links: list[Link] = field(default_factory=list)
    rails: list[Rail] = field(default_factory=list)
    loops: list[Loop] = field(default_factory=list)
    moments: list[str] = field(default_factory=list)
    gap: float = 28.0
    ranksep: float = 0.25

    def items(self) -> list[Item]:
        """All nodes of the drawing, parameters included, delays not."""
        return [item for block in self.blocks() for item in block.items] + [rail.item for rail in self.rails]

    def blocks(self) -> list[Block]:
        """All blocks: first states, those from left to right, those above and below; also empty ones."""
        return [self.start, *self.slots, self.finish, self.above, self.below]
