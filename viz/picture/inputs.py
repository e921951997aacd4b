"""What steps read that is not computed: inputs, targets, masks, first states."""

from __future__ import annotations

from typing import Protocol

from tinygrad_rnn.autograd.graph import Node
from viz.picture.draft import Crossing, Draft
from viz.picture.groups import Group
from viz.picture.picture import Block, Item
from viz.picture.tokens import Tokens
from viz.read.columns import Column
from viz.read.positions import Position
from viz.style import PRIME


class Starts(Protocol):
    """What is done with first states, and with what belongs to no step."""

    def add(
        self, block: Block, node: Node, column: Column | None, states: list[Position], read: list[tuple[Node, int]]
    ) -> None:
        """A leaf is a first state. read: (reader, number of its argument)"""

    def tap(self, item: Item, source: Node, state: Position | None, flows: bool) -> None:
        """An item reads what belongs to no step. flows: does a gradient come back?"""


class Inputs:
    """Draws what a block reads. first: what is done with first states  tokens: the names of inputs"""

    def __init__(self, draft: Draft, first: Starts, tokens: Tokens):
        self.draft, self.first, self.tokens, self.subject = draft, first, tokens, draft.subject
        self.flow, self.states, self.labels = draft.subject.flow, draft.subject.states, draft.subject.labels
        self.ends = self.states.columns[:1] + self.states.columns[-1:]

    def add(self, block: Block, node: Node, column: Column | None, groups: dict[Node, Group], t: int | None) -> None:
        """Draw a leaf as what it is to its readers. t: the number of its step, if its name has it"""
        mine = lambda r: node not in self.flow.handed or self.states.column.get(r) == self.states.column[node]
        read = [(r, i) for r in set(self.flow.readers[node]) if mine(r)
                for i, a in enumerate(self.flow.args[r]) if a is node]  # fmt: skip
        states = [s for s in (self.states.read_by(r, i) for r, i in read) if s is not None]
        if all(self.flow.op(r) == "where" and i == 0 for r, i in read):
            return  # the mask of shorter sequences
        if node in self.subject.fixed:
            return
        if states or self._is_first(node, column):
            self.first.add(block, node, column, states, read)
        elif all(r in groups and groups[r].head in self.subject.losses for r, _ in read):
            self.draft.add(block, node, "y", "output", self.draft.round, t)
        elif node in self.subject.still:
            self._constant(block, node)
        elif all(self._is_scaled(r, node) for r, _ in read):
            self._mask(block, node, t)
        else:
            self._input(block, node, t)

    def _input(self, block: Block, node: Node, t: int | None) -> None:
        inputs, label = [i for i in block.items if i.kind == "input"], self.labels.input(node)
        again = sum(i.plain.rstrip(PRIME) == label for i in inputs)
        item = self.draft.add(block, node, label + PRIME * again, "input", self.draft.round, t)
        if not inputs:
            self.name(block, item, t)
        self.draft.hold(block, node, item)
        if node in self.flow.slices:
            flows = self.subject.reached.flows
            self.draft.crossing += [Crossing(p, item, None, flows(node, p)) for p in self.flow.parents(node)]

    def _is_first(self, node: Node, column: Column | None) -> bool:
        """Is it a state that the first step is given, as its code says, or a step outside of time?"""
        known = node in self.subject.code.old and node not in self.flow.handed
        return known and (column is None or column in self.ends)

    def name(self, block: Block, item: Item, t: int | None) -> Item:
        """Give an input the name of its token."""
        token = None if t is None else self.tokens.source(self.draft.run_of[block], t)
        if token is not None:
            item.label = item.plain = token
            item.shape = "pill"
        return item

    def _constant(self, block: Block, node: Node) -> None:
        """What a module computes for itself; it is inside its box."""
        if not self.draft.in_boxes:
            self.draft.add(block, node, self.labels.input(node, "const"), "initial", self.draft.round, None)

    def _mask(self, block: Block, node: Node, t: int | None) -> None:
        """Dropout's; it is inside its box."""
        if self.draft.in_boxes:
            return
        name = self.labels.input(node, "m")
        again = sum(i.plain.rstrip(PRIME) == name for i in block.items if i.kind == "initial")
        self.draft.add(block, node, name + PRIME * again, "initial", self.draft.round, t)

    def _is_scaled(self, reader: Node, node: Node) -> bool:
        """Does a constant scale what is computed, or a state?"""
        others = [(i, a) for i, a in enumerate(self.flow.args[reader]) if isinstance(a, Node) and a is not node]
        made = (a.op is not None or self.states.read_by(reader, i) is not None for i, a in others)
        return self.flow.op(reader) == "mul" and any(made)
