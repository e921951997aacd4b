"""The recurrent graph: one time step, closed onto itself by delays. Unfolding it gives the unrolled graph."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence

from tinygrad_rnn.autograd.graph import Node
from viz.picture.cells_view import dock
from viz.picture.draft import Crossing, Draft
from viz.picture.links import Entry, Links
from viz.picture.ops_view import OpsView
from viz.picture.picture import Block, Item, Loop, Picture
from viz.read.columns import Column
from viz.read.parts import is_parameter
from viz.read.positions import Position

Starts = dict[tuple[Item | None, str, Item | None], list[Item]]  # by what holds a state, its name, and who reads it
Sides = dict[Block, list[Entry]]


def middle(steps: Sequence[int]) -> list[int]:
    """The one step that is drawn: in the middle, for it knows what comes before and after it; of two the first one, for
    the last one need not make a state that nothing reads.
    """
    return [steps[(len(steps) - 1) // 2]] if len(steps) else []


class AnyStep:
    """First states where the step that is drawn stands for all: where it is the first one, another tells what is read.

    read  (block, reader, number of its argument) of each
    """

    def __init__(self, draft: Draft):
        self.draft = draft
        self.read: list[tuple[Block, Node, int]] = []

    def add(
        self, block: Block, node: Node, column: Column | None, states: list[Position], read: list[tuple[Node, int]]
    ) -> None:
        """Note who reads it; no first state is drawn."""
        self.read += [(block, reader, i) for reader, i in read]

    def tap(self, item: Item, source: Node, state: Position | None, flows: bool) -> None:
        """A first state is read by a delay, and by no operation. flows: does a gradient come back?"""
        if state is None:
            self.draft.tap(item, self.draft.subject.fixed.get(source, source), None, flows)
        else:
            self.draft.crossing.append(Crossing(source, item, state, flows))


class Circuit:
    """Draws one step for all. view: fills a block"""

    def __init__(self, draft: Draft, view: OpsView, first: AnyStep):
        self.draft, self.view, self.first, self.links = draft, view, first, Links(draft)
        self.flow, self.states, self.labels = draft.subject.flow, draft.subject.states, draft.subject.labels
        self.blocks: dict[int, Block] = {}  # of each run

    def add(self, columns: list[Column]) -> None:
        """A block for each run, and for what lies between."""
        slots = self.draft.picture.slots
        for column in columns:
            block = Block(f"step{len(slots)}", "", framed=False)
            slots.append(block)
            if column.t is not None:
                self.blocks[column.run] = block
            self.view.fill(block, column, None)

    def finish(self) -> None:
        """In a drawing of boxes loops are nested, half of them under the box."""
        picture = self.draft.picture
        if self.draft.in_boxes:
            _spread(picture, self.draft.block)
            most = max((sum(k.tail is loop.tail for k in picture.loops) for loop in picture.loops), default=0)
            picture.ranksep = 0.56 + 0.34 * max((most - 1) // 2, 0)

    def _drawn_for(self, source: Node) -> Item | None:
        """What stands for a value: that of another step of its run is the same here."""
        found = self.draft.items.get(source)
        position = self.states.position.get(source)
        if found is not None or position is None:
            return found
        block = self.blocks.get(self.states.columns[self.states.column[source]].run)
        if block is None or position not in self.states.kind:
            return None if block is None else self.draft.items_at[position].get(block)
        return self.links.holder(position, block)

    def link(self) -> None:
        """What goes from step to step comes back to the one that is drawn."""
        hidden: Sides = defaultdict(list)
        for source, head, state, flows in self.draft.crossing:
            if state is not None:
                reads = [(self.states.position[n], i) for n in head.nodes if n in self.states.position
                         for i, a in enumerate(self.flow.args[n]) if a is source]  # fmt: skip
                apart = max((self.states.apart.get(read, 1) for read in reads), default=1)
                entry = Entry(state, head, apart, self.links.name_of(state, source, head), flows)
                hidden[self.draft.block[head]].append(entry)
            elif (tail := self._drawn_for(source)) is not None and tail is not head:
                self.links.connect(tail, head, None, source, flows)
        self._add_loops(hidden)

    def _add_loops(self, hidden: Sides) -> None:
        """The delays of each block. hidden: what it reads of other steps"""
        passed = self._passed() if self.first.read else set()
        for block, reader, i in self.first.read:
            state = self.states.read_by(reader, i)
            if state is not None:
                apart = self.states.apart.get((self.states.position[reader], i), 1)
                name = self.labels.state(state, reader, i)
                hidden[block].append(Entry(state, self.draft.items[reader], apart, name, state in passed))
        for node, item in self.draft.items.items():  # the first step is fed what others say later
            state = self.states.read_by(node, 1)
            if state is not None and self.states.kind[state] == "said" and self.flow.said(node) is None:
                hidden[self.draft.block[item]].append(Entry(state, item, name=self.labels.state(state), flows=False))
        starts = self._starts()
        for block, entries in hidden.items():
            self._close(block, entries, starts)
        self.draft.picture.ranksep = 0.36

    def _passed(self) -> set[Position]:
        """The states that hand a gradient back from some step to the one before it."""
        states, flows = self.states, self.draft.subject.reached.flows
        return {state for node in self.flow.nodes for i, source in enumerate(self.flow.args[node])
                if source in states.column and (state := states.read_by(node, i)) is not None
                and states.kind_of(source) and flows(node, source)}  # fmt: skip

    def _starts(self) -> Starts:
        """What states are before the first step, where it is computed: it comes from outside of their run."""
        found: Starts = defaultdict(list)
        columns, column = self.states.columns, self.states.column
        for here in (c for c in columns if c.t is not None):
            for node in here.ops:
                for i, source in enumerate(self.flow.args[node]):
                    state = self.states.read_by(node, i)
                    if state is None or not isinstance(source, Node):
                        continue
                    if source in self.flow.slices and self.flow.parents(source):
                        (source,) = self.flow.parents(source)  # a layer's part of a bridge
                    if source in column and columns[column[source]].run == here.run:
                        continue
                    tail, head = self.links.holder(state, self.blocks[here.run]), self._drawn_for(node)
                    key = tail, self.labels.state(state, node, i), head
                    item = self._learned(source) if is_parameter(source) else self._drawn_for(source)
                    if item is not None and item not in found[key]:
                        found[key].append(item)
        return found

    def _learned(self, leaf: Node) -> Item:
        """The box of a first state that is a parameter."""
        if leaf not in self.draft.items:
            self.draft.add(self.draft.picture.below, leaf, self.draft.subject.names[leaf], "parameter", "box", None)
        return self.draft.items[leaf]

    def _close(self, block: Block, entries: list[Entry], starts: Starts) -> None:
        """A delay for each state of a step and each value that it begins with; more in a row for what is read later."""
        loops: dict[tuple[Item, str, int, tuple[Item, ...]], Loop] = {}
        aged = {(e.state, e.apart): e.name for e in reversed(entries)}  # what is handed on has a name for each age
        for entry in entries:
            tail = self.links.holder(entry.state, block)
            if tail is None or entry.head is None:
                continue
            kind, name = self.states.kind[entry.state], aged.get((entry.state, 1), entry.name)
            begin = tuple(starts.get((tail, entry.name, entry.head), ()))
            for n in range(1, entry.apart + 1):
                first = begin if n == entry.apart else ()
                if (tail, name, n, first) not in loops:
                    delay = Item(f"{block.key}.delay{len(loops)}", "", "delay", "delay")
                    start = loops[tail, name, n - 1, ()].delay if n > 1 else tail
                    called = aged.get((entry.state, n), entry.name)
                    loops[tail, name, n, first] = Loop(block, start, [], f"{kind} over time", called, delay, [*first])
            last = loops[tail, name, entry.apart, begin]
            if entry.head not in last.heads:
                last.heads.append(entry.head)
            if entry.flows:
                last.flows.add(entry.head)
                for n in range(1, entry.apart):
                    loops[tail, name, n, ()].flows.add(last.delay)
        self.draft.picture.loops += loops.values()


def _spread(picture: Picture, block: Mapping[Item, Block]) -> None:
    """Loops come into their box above and below what else does."""
    for tail in dict.fromkeys(loop.tail for loop in picture.loops if loop.is_round):
        loops = [loop for loop in picture.loops if loop.tail is tail and loop.is_round]
        loops.sort(key=lambda k: (not k.kind.startswith("cell"), k.name))
        over = len(loops) // 2
        links = sorted((k for k in picture.links if k.head is tail and k.dock), key=lambda k: -k.dock)
        links = links or [k for k in picture.links if k.head is tail and block[k.tail] in picture.slots]
        dock(tail, [*loops[:over], *links, *loops[over:]])
