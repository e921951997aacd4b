"""A picture in the making: what was read off the graph, and what was made of it so far."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Hashable, Sequence
from typing import Any, ClassVar

import numpy as np

from tinygrad_rnn.autograd.graph import Constant, Copied, Node
from viz.picture.groups import Groups
from viz.picture.labels import Labels
from viz.picture.picture import Block, Item, Picture
from viz.read.columns import Column
from viz.read.graph import flow_of
from viz.read.names import Code, names
from viz.read.positions import Position
from viz.read.runs import Choose
from viz.read.states import States, states_of
from viz.style import subscript

ROUND = 4  # characters of a name that fits a circle
LONG = {"circle": "box", "ball": "pill"}  # what a circle is with a longer one


class Draft:
    """What the parts of a view share. nodes, choose: as in flow_of  tokens: names of the inputs, of each sequence that is
    read, by time step  targets: what the last of them says

    items     of each node
    block     of each item
    taps      what reads a parameter
    fixed     of what steps read and does not change: the one that is drawn for it, at the left
    parts     of a first state that is a part of what was computed before: that
    still     what is computed in a step from what leaves no graph, and may change or not: it has no number
    items_at  the item that stands for a position, in each block
    held      the states of a block, by name and layer
    crossing  (node, who reads it, the state that it is or None): edges between blocks
    """

    round: ClassVar[str] = "circle"  # the shape of inputs and losses

    def __init__(
        self, nodes: list[Node], choose: Choose | None = None, tokens: Sequence[Sequence[str]] = (),
        targets: Sequence[str] = (),
    ):  # fmt: skip
        self.choose, self.tokens, self.targets = choose, tokens, targets
        self.flow = flow_of(nodes, choose)
        self.states = states_of(self.flow)
        self.parts: dict[Node, Node] = {}
        self.names = names(self.flow)
        self.code = Code(self.flow.runs.order)
        self.labels = Labels(self.states, self.names, self.code.called, self.code.operand)
        self.groups = Groups(self.flow, self.states.is_pinned, self.labels.letter)
        self.fixed, self.still = fixed(self.states, self.code)
        self.losses = self._losses()
        self.items: dict[Node, Item] = {}
        self.block: dict[Item, Block] = {}
        self.taps: dict[Node, list[Item]] = defaultdict(list)
        self.items_at: dict[Position, dict[Block, Item]] = defaultdict(dict)
        self.run_of: dict[Block, int] = {}
        self.starts: dict[tuple[Block, bool], Block] = {}  # where the first states of a block stand
        self.drawn: set[tuple[Item, Item]] = set()
        self.held: dict[Block, dict[tuple[str, int], Position]] = defaultdict(dict)  # the states of a block
        self.crossing: list[tuple[Node, Item, Position | None]] = []
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


# ---- what steps read that is no parameter, and does not change ------------------------------------------------------


def fixed(states: States, code: Code) -> tuple[dict[Node, Node], set[Node]]:
    """For what does not change the one node that is drawn for it; and that of which it is not known.

    What does not change is what a module holds, or what it computes anew in each step if that is seen to be the same.
    """
    together: dict[Hashable, list[Node]] = defaultdict(list)
    outside = Column(None, -1, leaves=[n for n in (*states.above, *states.below) if n.op is None])
    for column in (*states.columns, outside):
        seen: Counter[Hashable] = Counter()
        for leaf in column.leaves:
            if isinstance(leaf, Constant) and (leaf in code.own or leaf in code.within):
                key = (column.run, *_use(states, code, leaf))
                together[*key, seen[key]].append(leaf)
                seen[key] += 1
    found: dict[Node, Node] = {}
    unknown: set[Node] = set()
    for leaves in together.values():
        same = _is_one(leaves, code)
        if same:
            found.update(dict.fromkeys(leaves, leaves[0]))
        elif same is None:
            unknown.update(leaf for leaf in leaves if not _is_scale(states, code, leaf))
    return found, unknown


def _is_scale(states: States, code: Code, leaf: Node) -> bool:
    """Does it but scale things, without a name, as what dropout draws?"""
    flow = states.flow
    named = any(code.operand(r, i) for r in flow.readers[leaf] for i, a in enumerate(r.inputs) if a is leaf)
    return not named and all(flow.op(r) == "mul" for r in flow.readers[leaf])


def _use(states: States, code: Code, leaf: Node) -> tuple:
    """What is called alike and read in the same place in another step is the same thing there."""
    reader = min(states.flow.readers[leaf], key=lambda n: n.index, default=leaf)
    modules = tuple([id(name) for name in reader.scope if isinstance(name, str)])
    return code.own.get(leaf, ""), leaf.shape, modules


def _is_one(leaves: list[Node], code: Code) -> bool | None:
    """Do all these hold the same? None where it is not known."""
    known = [a for a in map(_array, leaves) if type(a) is np.ndarray]  # those that somebody kept
    if all(leaf in code.own for leaf in leaves):
        return len(set(map(id, known if type(leaves[0]) is Copied else leaves))) <= 1
    return all(np.array_equal(a, known[0]) for a in known) if len(known) > 1 else None


def _array(leaf: Any) -> Any:
    return None if leaf.data is None else leaf.data()
