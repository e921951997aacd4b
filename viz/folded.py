"""The recurrent graph: one time step, closed onto itself by delays. Unfolding it gives the unrolled graph."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tinygrad_rnn.graph import Node
from viz.cells import CellBuilder
from viz.links import Entry
from viz.model import Block, Item, Loop
from viz.picture import Builder
from viz.unroll import Column, Spot

Sides = dict[Block, list[Entry]]


def middle(steps: Sequence[int]) -> list[int]:
    """The one step that is drawn: in the middle, for it knows what comes before and after it."""
    return [steps[len(steps) // 2]] if len(steps) else []


class Folded(Builder):
    """Draws one step for all."""

    def __init__(self, *args: Any):
        super().__init__(*args)
        self.firsts: list[tuple[Block, Node, int]] = []

    def _between(self, before: Column | None, after: Column | None) -> int:
        return 0

    def _column(self, column: Column) -> None:
        block = Block(f"step{len(self.picture.slots)}", "", framed=False)
        self.picture.slots.append(block)
        self._fill(block, column, None)

    def _initial(self, block: Block, node: Node, column: Column | None, streams: list[Spot], read: list) -> None:
        """None: the drawing is of any step. Where it is the first one, another one tells what is read here."""
        self.firsts += [(block, reader, i) for reader, i in read]

    def _number(self) -> None:
        """Nothing appears after anything else."""

    def _drawn_for(self, source: Node) -> Item | None:
        """What stands for a value: that of another step is the same here."""
        found = super()._drawn_for(source)
        if found is None and source in self.unrolled.spot:
            return next(iter(self.spots[self.unrolled.spot[source]].values()), None)
        return found

    def _learned_start(self, leaf: object, stream: Spot) -> None:
        """Nor one that is learned."""

    def _fill_gaps(self, hidden: Sides) -> None:
        for block, reader, i in self.firsts:
            stream = self.unrolled.stream(reader, i)
            if stream is not None:
                hidden[block].append(Entry(stream, self.items[reader]))
        for block, entries in hidden.items():
            self._close(block, entries)
        self.picture.ranksep = 0.36

    def _close(self, block: Block, entries: list[Entry]) -> None:
        """A delay for each state of a step; more in a row for what is read later than at the next step."""
        loops: dict[tuple[Item, str, int], Loop] = {}
        for entry in entries:
            tail, name = self._holder(entry.stream, block), self.labels.state(entry.stream)
            if tail is None or entry.head is None:
                continue
            kind = self.unrolled.states[entry.stream]
            for n in range(1, entry.apart + 1):
                if (tail, name, n) not in loops:
                    delay = Item(f"{block.key}.delay{len(loops)}", "", "delay", "delay")
                    start = loops[tail, name, n - 1].delay if n > 1 else tail
                    loops[tail, name, n] = Loop(block, start, [], f"{kind} over time", name, delay)
            heads = loops[tail, name, entry.apart].heads
            if entry.head not in heads:
                heads.append(entry.head)
        self.picture.loops += loops.values()


class FoldedCells(Folded, CellBuilder):
    """The same with a box for each module."""

    def _rails(self) -> None:
        super()._rails()
        self.picture.ranksep = 0.56
