"""The recurrent graph: one time step, closed onto itself by delays. Unfolding it gives the unrolled graph."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from tinygrad_rnn.autograd.graph import Node
from viz.picture.cells_view import CellsView
from viz.picture.links import Entry
from viz.picture.ops_view import OpsView
from viz.picture.picture import Block, Item, Loop
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


class CircuitView(OpsView):
    """Draws one step for all."""

    def __init__(self, *args: Any):
        super().__init__(*args)
        self.firsts: list[tuple[Block, Node, int]] = []
        self.blocks: dict[int, Block] = {}  # of each run

    def _between(self, before: Column | None, after: Column | None) -> int:
        return 0

    def _column(self, column: Column) -> None:
        block = Block(f"step{len(self.picture.slots)}", "", framed=False)
        self.picture.slots.append(block)
        if column.t is not None:
            self.blocks[column.run] = block
        self._fill(block, column, None)

    def _initial(self, block: Block, node: Node, column: Column | None, streams: list[Position], read: list) -> None:
        """None: the drawing is of any step. Where it is the first one, another one tells what is read here."""
        self.firsts += [(block, reader, i) for reader, i in read]

    def _number(self) -> None:
        """Nothing appears after anything else."""

    def _drawn_for(self, source: Node) -> Item | None:
        """What stands for a value: that of another step of its run is the same here."""
        found = super()._drawn_for(source)
        position = self.states.position.get(source)
        if found is not None or position is None:
            return found
        block = self.blocks.get(self.states.columns[self.states.column[source]].run)
        if block is None or position not in self.states.kind:
            return None if block is None else self.items_at[position].get(block)
        return self._holder(position, block)

    def _link(self) -> None:
        """What goes from step to step comes back to the one that is drawn."""
        hidden: Sides = defaultdict(list)
        for source, head, stream in self.crossing:
            if stream is not None:
                reads = [(self.states.position[n], i) for n in head.nodes if n in self.states.position
                         for i, a in enumerate(self.flow.args[n]) if a is source]  # fmt: skip
                apart = max((self.states.apart.get(read, 1) for read in reads), default=1)
                hidden[self.block[head]].append(Entry(stream, head, apart, self._name_of(stream, source, head)))
            elif (tail := self._drawn_for(source)) is not None and tail is not head:
                self._connect(tail, head, None, source)
        self._fill_gaps(hidden)

    def _tap(self, item: Item, source: Node, stream: Position | None) -> None:
        """A first state is read by a delay, and by no operation."""
        if stream is None:
            super()._tap(item, source, stream)
        else:
            self.crossing.append((source, item, stream))

    def _fill_gaps(self, hidden: Sides) -> None:
        for block, reader, i in self.firsts:
            stream = self.states.stream(reader, i)
            if stream is not None:
                apart = self.states.apart.get((self.states.position[reader], i), 1)
                name = self.labels.state(stream, reader, i)
                hidden[block].append(Entry(stream, self.items[reader], apart, name))
        for node, item in self.items.items():  # the first step is fed what others say later
            stream = self.states.stream(node, 1)
            if stream is not None and self.states.kind[stream] == "said" and self.flow.said(node) is None:
                hidden[self.block[item]].append(Entry(stream, item, name=self.labels.state(stream)))
        starts = self._starts()
        for block, entries in hidden.items():
            self._close(block, entries, starts)
        self.picture.ranksep = 0.36

    def _starts(self) -> Starts:
        """What states are before the first step, where it is computed: it comes from outside of their run."""
        found: Starts = defaultdict(list)
        columns, column = self.states.columns, self.states.column
        for here in (c for c in columns if c.t is not None):
            for node in here.ops:
                for i, source in enumerate(self.flow.args[node]):
                    stream = self.states.stream(node, i)
                    if stream is None or not isinstance(source, Node):
                        continue
                    if source in self.flow.slices and self.flow.parents(source):
                        (source,) = self.flow.parents(source)  # a layer's part of a bridge
                    if source in column and columns[column[source]].run == here.run:
                        continue
                    tail, head = self._holder(stream, self.blocks[here.run]), self._drawn_for(node)
                    key = tail, self.labels.state(stream, node, i), head
                    item = self._learned(source) if is_parameter(source) else self._drawn_for(source)
                    if item is not None and item not in found[key]:
                        found[key].append(item)
        return found

    def _learned(self, leaf: Node) -> Item:
        """The box of a first state that is a parameter."""
        if leaf not in self.items:
            self._add(self.picture.below, leaf, self.names[leaf], "parameter", "box", None)
        return self.items[leaf]

    def _close(self, block: Block, entries: list[Entry], starts: Starts) -> None:
        """A delay for each state of a step and each value that it begins with; more in a row for what is read later."""
        loops: dict[tuple[Item, str, int, tuple[Item, ...]], Loop] = {}
        aged = {(e.stream, e.apart): e.name for e in reversed(entries)}  # what is handed on has a name for each age
        for entry in entries:
            tail = self._holder(entry.stream, block)
            if tail is None or entry.head is None:
                continue
            kind, name = self.states.kind[entry.stream], aged.get((entry.stream, 1), entry.name)
            begin = tuple(starts.get((tail, entry.name, entry.head), ()))
            for n in range(1, entry.apart + 1):
                first = begin if n == entry.apart else ()
                if (tail, name, n, first) not in loops:
                    delay = Item(f"{block.key}.delay{len(loops)}", "", "delay", "delay")
                    start = loops[tail, name, n - 1, ()].delay if n > 1 else tail
                    called = aged.get((entry.stream, n), entry.name)
                    loops[tail, name, n, first] = Loop(block, start, [], f"{kind} over time", called, delay, [*first])
            heads = loops[tail, name, entry.apart, begin].heads
            if entry.head not in heads:
                heads.append(entry.head)
        self.picture.loops += loops.values()


class CircuitOfCells(CircuitView, CellsView):
    """The same with a box for each module."""

    def _rails(self) -> None:
        super()._rails()
        most = max((sum(k.tail is loop.tail for k in self.picture.loops) for loop in self.picture.loops), default=0)
        self.picture.ranksep = 0.56 + 0.34 * max((most - 1) // 2, 0)  # the loops are nested, half of them under the box

    def _spread(self) -> None:
        """Loops come into their box above and below what else does."""
        super()._spread()
        for tail in dict.fromkeys(loop.tail for loop in self.picture.loops if loop.is_round):
            loops = [loop for loop in self.picture.loops if loop.tail is tail and loop.is_round]
            loops.sort(key=lambda k: (not k.kind.startswith("cell"), k.name))
            over = len(loops) // 2
            links = sorted((k for k in self.picture.links if k.head is tail and k.dock), key=lambda k: -k.dock)
            links = links or [
                k for k in self.picture.links if k.head is tail and self.block[k.tail] in self.picture.slots
            ]
            self._dock(tail, [*loops[:over], *links, *loops[over:]])
