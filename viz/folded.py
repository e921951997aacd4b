"""The recurrent graph: one time step, closed onto itself by delays. Unfolding it gives the unrolled graph."""

from __future__ import annotations

from tinygrad_rnn.graph import Node
from viz.cells import CellBuilder
from viz.model import Block, Item, Loop
from viz.picture import Builder, Entry
from viz.times import Choose
from viz.unroll import Column, Spot

Sides = dict[Block, list[Entry]]


def middle(choose: Choose | None = None) -> Choose:
    """The one step that is drawn: of those in the middle, which know what comes before and after them."""
    del choose
    return lambda steps: [steps[len(steps) // 2]] if len(steps) else []


class Folded(Builder):
    """Draws one step for all."""

    def _between(self, before: Column | None, after: Column | None) -> int:
        return 0

    def _column(self, column: Column) -> None:
        block = Block(f"step{len(self.picture.slots)}", "", framed=False)
        self.picture.slots.append(block)
        self._fill(block, column, None)

    def _initial(self, block: Block, node: object, column: Column | None, streams: list[Spot], read: list) -> None:
        """None: the drawing is of any step."""

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
        loops: dict[tuple[Block, Spot], Loop] = {}
        for block, entries in hidden.items():
            for entry in entries:
                tail = self.spots[entry.stream].get(block)
                if tail is None:
                    continue
                loop = loops.get((block, entry.stream))
                if loop is None:
                    kind, name = self.unrolled.states[entry.stream], self.labels.state(entry.stream)
                    delay = Item(f"{block.key}.delay{len(loops)}", "", "delay", "delay")
                    loop = loops[block, entry.stream] = Loop(tail, [], f"{kind} over time", name, delay)
                if entry.head not in loop.heads:
                    loop.heads.append(entry.head)
        self.picture.loops = list(loops.values())
        self.picture.ranksep = 0.36


class FoldedCells(Folded, CellBuilder):
    """The same with a box for each module."""

    def _rails(self) -> None:
        super()._rails()
        self.picture.ranksep = 0.56
