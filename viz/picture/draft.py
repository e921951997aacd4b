"""A picture in the making: what was drawn so far, and what is still to be connected."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from typing import NamedTuple

from tinygrad_rnn.autograd.graph import Node
from viz.picture.picture import Block, Item, Picture
from viz.picture.subject import Subject
from viz.read.positions import Position
from viz.style import subscript

ROUND = 4  # characters of a name that fits a circle
LONG = {"circle": "box", "ball": "pill"}  # what a circle is with a longer one
ROUNDED = {"initial": "pill", "box": "pill", "circle": "ball"}  # the shapes of a drawing of boxes


class Crossing(NamedTuple):
    """An edge from block to block: a value, who reads it, the state that it is or None. Does a gradient come back?"""

    source: Node
    head: Item
    state: Position | None
    flows: bool


@dataclass(eq=False)
class Draft:
    """What was made of a graph so far.

    in_boxes  are modules drawn as boxes?
    items     of each node
    block     of each item
    taps      what reads a parameter
    parts     of a first state that is a part of what was computed before: that
    items_at  the item that stands for a position, in each block
    run_of    each block
    held      the states of a block, by name and layer
    drawn     (tail, head) of the edges inside blocks
    crossing  edges between blocks
    words     what a step says, by what it is read from
    tapped    (parameter, reader) where a gradient comes back
    """

    subject: Subject
    in_boxes: bool
    picture: Picture = field(default_factory=Picture)
    items: dict[Node, Item] = field(default_factory=dict)
    block: dict[Item, Block] = field(default_factory=dict)
    taps: dict[Node, list[Item]] = field(default_factory=lambda: defaultdict(list))
    parts: dict[Node, Node] = field(default_factory=dict)
    items_at: dict[Position, dict[Block, Item]] = field(default_factory=lambda: defaultdict(dict))
    run_of: dict[Block, int] = field(default_factory=dict)
    held: dict[Block, dict[tuple[str, int], Position]] = field(default_factory=lambda: defaultdict(dict))
    drawn: set[tuple[Item, Item]] = field(default_factory=set)
    crossing: list[Crossing] = field(default_factory=list)
    tapped: set[tuple[Node, Item]] = field(default_factory=set)
    words: dict[Item, Item] = field(default_factory=dict)

    @property
    def round(self) -> str:
        """The shape of inputs and losses: a larger circle among boxes."""
        return "ball" if self.in_boxes else "circle"

    def add(self, block: Block, node: Node, label: str, kind: str, form: str, t: int | None, tail: str = "") -> Item:
        """A new item of a block, which stands for a node. t: the number of its step, if its name has it"""
        if self.in_boxes:
            form = ROUNDED.get(kind) or ROUNDED.get(form, form)
        if form in LONG and len(label) > ROUND:
            form = LONG[form]
        text = (label if t is None else subscript(label, t + 1)) + tail
        item = Item(f"{block.key}.{len(block.items)}", text, kind, form, label + tail, [node])
        block.items.append(item)
        self.items[node] = item
        self.block[item] = block
        return item

    def hold(self, block: Block, node: Node, item: Item) -> None:
        """Note what stands for a value, which may be a state."""
        states, labels = self.subject.states, self.subject.labels
        position = states.position.get(node)
        if position is not None:
            self.items_at[position][block] = item
        if position in states.kind:
            self.held[block][labels.state(position), labels.rank(position)] = position

    def tap(self, item: Item, source: Node, state: Position | None, flows: bool) -> None:
        """An item reads a parameter, or what stands for one."""
        if source in self.items:
            self.crossing.append(Crossing(source, item, state, flows))
        else:
            self.taps[source].append(item)
            if flows:
                self.tapped.add((source, item))

    def word(self, tail: Item, head: Item) -> Item:
        """Where a line to what reads a choice begins: at the word, if it is drawn and the same is read."""
        word = self.words.get(tail)
        return tail if word is None or word.label != head.label else word

    def edge(self, block: Block, tail: Item, head: Item, kind: str, flows: bool) -> None:
        """An edge inside a block, drawn once. flows: does a gradient come back along it?"""
        if tail.kind == "hidden" and kind == "flow":
            kind = "hidden"
        elif tail.kind == head.kind == "cell":
            kind = "cell"
        if tail is not head and (tail, head) not in self.drawn:
            self.drawn.add((tail, head))
            block.edges.append((tail, head, kind))
            block.forward.add((tail, head))
        if flows:
            block.forward.discard((tail, head))
