"""The unrolled graph: a block for each step that is drawn, and a gap for those that are not."""

from __future__ import annotations

from tinygrad_rnn.autograd.graph import Node
from viz.picture.draft import Draft
from viz.picture.links import Links
from viz.picture.moments import number
from viz.picture.ops_view import OpsView
from viz.picture.picture import Block
from viz.picture.tokens import Tokens
from viz.read.columns import Column


class Unrolled:
    """Draws step after step. view: fills a block"""

    def __init__(self, draft: Draft, view: OpsView, tokens: Tokens):
        self.draft, self.view, self.tokens, self.subject = draft, view, tokens, draft.subject
        self.flow, self.states = draft.subject.flow, draft.subject.states

    def add(self, columns: list[Column]) -> None:
        """Steps and gaps from left to right."""
        before: Column | None = None
        for column in (*columns, None):
            left_out = self._between(before, column)
            if left_out:
                self._gap(left_out)
            if column is not None:
                self._column(column)
            before = column

    def link(self) -> None:
        """Connect the blocks, when all are filled: states go from step to step, losses up."""
        Links(self.draft).add()

    def finish(self) -> None:
        """When each block appears in a drawing that plays."""
        number(self.draft.picture, self.flow, self.states.leftward)

    def _between(self, before: Column | None, after: Column | None) -> int:
        """How many steps are left out between two columns, or in front of the first or behind the last."""
        if before is not None and after is not None and before.run == after.run:
            return self.flow.runs.count(before.run, before.t, after.t)
        count = self.flow.runs.count
        behind = count(before.run, before.t, None) if before is not None and before.t is not None else 0
        ahead = count(after.run, None, after.t) if after is not None and after.t is not None else 0
        return behind + ahead

    def _gap(self, n: int) -> None:
        slots = self.draft.picture.slots
        slots.append(Block(f"gap{len(slots)}", f"… {n:,} more\nstep{'s' * (n > 1)} …", is_gap=True))

    def _column(self, column: Column) -> None:
        key = f"between{len(self.draft.picture.slots)}" if column.t is None else f"t{column.t + 1}"
        if column.run > 0:
            key += f"r{column.run}"
        block = Block(key, "" if column.t is None else f"t = {column.t + 1}", framed=column.t is not None)
        self.draft.picture.slots.append(block)
        self.draft.run_of[block] = column.run
        self.view.fill(block, column, column.t)
        target = None if column.t is None else self.tokens.target(column.run, column.t)
        if target is not None:
            self._say(block, column, target)

    def _say(self, block: Block, column: Column, target: str) -> None:
        """What a step says stands above what it is read from."""
        said = [n for n in column.ops if n not in self.subject.losses and self._is_said(n, column)]
        if said:
            tail = self.draft.items[max(said, key=lambda n: n.index)]
            item = self.draft.add(block, said[-1], target, "output", "pill", None)
            self.draft.items[said[-1]] = tail
            self.draft.words[tail] = item
            block.edges[:] = [(self.draft.word(a, b) if kind == "said" else a, b, kind) for a, b, kind in block.edges]
            block.edges.append((tail, item, "said"))
            block.forward |= {(a, b) for a, b, kind in block.edges if kind == "said"}

    def _is_said(self, node: Node, column: Column) -> bool:
        """Is it read by a loss, or outside of time?"""
        own = self.draft.items.get(node)
        heads = [self.draft.items.get(r) for r in self.flow.readers[node]]
        if own is None or (own.kind == "loss"):
            return False
        out = any(r not in self.states.column for r in self.flow.readers[node])
        return out or any(head is not None and head.kind == "loss" for head in heads)
