"""A picture in the making: what was read off the graph, and what was made of it so far."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import ClassVar

from tinygrad_rnn.graph import Node
from viz.contract import Flow
from viz.fold import Folder
from viz.labels import Labels
from viz.model import Block, Item, Picture
from viz.names import Code, names
from viz.style import subscript
from viz.times import Choose
from viz.unroll import Spot, Unrolled

ROUND = 4  # characters of a name that fits a circle
LONG = {"circle": "box", "ball": "pill"}  # what a circle is with a longer one


class Draft:
    """What the parts of a builder share. nodes, choose: as in Times  tokens: names of the inputs, of each sequence that
    is read, by time step  targets: what the last of them says

    items     of each node
    block     of each item
    taps      what reads a parameter
    spots     the item that stands for a spot, in each block
    held      the states of a block, by name and layer
    crossing  (node, who reads it, the state that it is or None): edges between blocks
    """

    round: ClassVar[str] = "circle"  # the shape of inputs and losses

    def __init__(
        self, nodes: list[Node], choose: Choose | None = None, tokens: Sequence[Sequence[str]] = (),
        targets: Sequence[str] = (),
    ):  # fmt: skip
        self.choose, self.tokens, self.targets = choose, tokens, targets
        self.flow = Flow(nodes, choose)
        self.unrolled = Unrolled(self.flow)
        self.names = names(self.flow)
        self.code = Code(self.flow.times.order)
        self.labels = Labels(self.unrolled, self.names, self.code.called, self.code.operand)
        self.fold = Folder(self.flow, self.unrolled.is_pinned, self.labels.letter)
        self.losses = self._losses()
        self.items: dict[Node, Item] = {}
        self.block: dict[Item, Block] = {}
        self.taps: dict[Node, list[Item]] = defaultdict(list)
        self.spots: dict[Spot, dict[Block, Item]] = defaultdict(dict)
        self.runs: dict[Block, int] = {}
        self.starts: dict[tuple[Block, bool], Block] = {}  # where the first states of a block stand
        self.drawn: set[tuple[Item, Item]] = set()
        self.held: dict[Block, dict[tuple[str, int], Spot]] = defaultdict(dict)  # the states of a block
        self.crossing: list[tuple[Node, Item, Spot | None]] = []
        self.picture = Picture()

    def _losses(self) -> set[Node]:
        flow = self.flow
        if flow.terms:
            return {n for n in flow.terms if n.op is not None and n.shape == ()}
        return {flow.root} if flow.root.shape == () and flow.root.op is not None else set()

    def _add(self, block: Block, node: Node, label: str, kind: str, form: str, t: int | None, tail: str = "") -> Item:
        if form in LONG and len(label) > ROUND:
            form = LONG[form]
        text = (label if t is None else subscript(label, t + 1)) + tail
        item = Item(f"{block.key}.{len(block.items)}", text, kind, form, label + tail, [node])
        block.items.append(item)
        self.items[node] = item
        self.block[item] = block
        return item
