"""What the first steps read: initial states, where all steps are drawn."""

from __future__ import annotations

from tinygrad_rnn.autograd.graph import Node
from viz.picture.draft import Draft
from viz.picture.picture import Block, Item
from viz.read.columns import Column
from viz.read.positions import Position


class FirstStates:
    """Puts initial states in front of the steps that read them."""

    def __init__(self, draft: Draft):
        self.draft, self.subject = draft, draft.subject
        self.flow, self.states, self.labels = draft.subject.flow, draft.subject.states, draft.subject.labels
        self.ends = self.states.columns[:1] + self.states.columns[-1:]
        self.starts: dict[tuple[Block, bool], Block] = {}  # where the first states of a block stand

    def add(self, block: Block, node: Node, column: Column | None, states: list[Position], read: list) -> None:
        """An initial state stands in front of the first step, or behind the last where time runs backwards. A part of
        what was computed before, as a layer's of a bridge, is that.
        """
        whole = self.flow.parents(node) if node in self.flow.slices else []
        if whole:
            self.draft.parts[node] = whole[0]
            return
        multiplied = all(self.flow.op(r) == "mul" for r, _ in read)
        carried = [(s, r, i) for r, i in read if (s := self.states.read_by(r, i)) is not None]
        letter = self.labels.state(*carried[0]) if carried else self.subject.code.old.get(node, "")
        letter = letter or ("c" if multiplied else "h")
        back = bool(states) and states[0] in self.states.back
        place = self._beside(block, column, back) if column is not None else block
        ago = max((self.states.apart.get((self.states.position[r], i), 1) for r, i in read if states), default=1)
        self.draft.add(place, node, letter, "initial", "circle", None if column is None else -ago)

    def _beside(self, block: Block, column: Column, back: bool) -> Block:
        """Where the first states of a column stand: in front of it, or behind it where time runs backwards."""
        if column is self.ends[-1 if back else 0]:
            return self.draft.picture.finish if back else self.draft.picture.start
        if (block, back) not in self.starts:
            made = self.starts[block, back] = Block(f"{block.key}.{'finish' if back else 'start'}", "", is_start=True)
            made.framed = False
            self.draft.picture.slots.insert(self.draft.picture.slots.index(block) + back, made)
        return self.starts[block, back]

    def tap(self, item: Item, source: Node, state: Position | None, flows: bool) -> None:
        """An item reads what belongs to no step. flows: does a gradient come back?"""
        source = self.subject.fixed.get(source, source)
        if state is not None and item in self.draft.block and source not in self.draft.taps:
            self._learned_start(source, state)
        self.draft.tap(item, source, state, flows)

    def _learned_start(self, leaf: Node, state: Position) -> None:
        """An initial state that is learned, or that several steps read, stands where the initial states stand."""
        if leaf in self.draft.items:
            return
        place = self.draft.picture.finish if state in self.states.back else self.draft.picture.start
        if leaf in self.subject.names:
            self.draft.add(place, leaf, self.subject.names[leaf], "parameter", "box", None)
        else:
            self.draft.add(place, leaf, self.labels.state(state), "initial", "circle", -1)
