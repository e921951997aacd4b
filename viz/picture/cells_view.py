"""The view of cells: one box for each module at each step, cells over time, layers upwards."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from tinygrad_rnn.autograd.graph import Node
from viz.picture.draft import Draft
from viz.picture.groups import Group
from viz.picture.inputs import Starts
from viz.picture.modules import Modules
from viz.picture.ops_view import OpsView
from viz.picture.picture import Block, Item, Link, Loop
from viz.picture.tokens import Tokens

LANES = 22.0  # between two lines into a box, in points


class CellsView(OpsView):
    """Fills blocks, module by module. depth: how far into modules within modules"""

    def __init__(self, draft: Draft, first: Starts, tokens: Tokens, depth: int = 1):
        super().__init__(draft, first, tokens)
        self.depth = depth

    def _groups(self, ops: list[Node]) -> dict[Node, Group]:
        groups = Modules(self.flow, self.subject.groups, self.depth)(ops, self.subject.losses)
        for group in groups.values():
            if group.name and self.depth == 1 and self._is_read_out(group):
                group.name = "ŷ"
        return groups

    def _is_read_out(self, group: Group) -> bool:
        """Is it what losses are computed from, and no state?"""
        members = group.members
        reads = [(r, m) for m in members for r in self.flow.readers[m] if r not in members]
        heard = {r for r, m in reads if self.flow.said(r) is not m}
        losses, groups = self.subject.losses, self.subject.groups
        return bool(heard) and not self._is_recurrent(group) and all(groups.is_of_loss(r, losses) for r in heard)

    def _is_recurrent(self, group: Group) -> bool:
        """Does it hold a state, or read one?"""
        states = self.states
        reads = (states.read_by(m, i) for m in group.members for i in range(len(self.flow.args[m])))
        return any(states.kind_of(m) for m in group.members) or any(state is not None for state in reads)

    def _operation(self, block: Block, node: Node, group: Group, on_path: bool, t: int | None) -> Item:
        if not group.name:
            return super()._operation(block, node, group, False, t)
        if group.name == "ŷ":
            return self.draft.add(block, node, "ŷ", "output", "ball", t)
        kind = "hidden" if self._is_recurrent(group) else "op"
        item = self.draft.add(block, node, group.name, kind, "module", None)
        item.states = [m for m in group.members if self.states.kind_of(m)]
        return item

    def _memory_path(self, ops: list[Node]) -> set[Node]:
        return set()

    def _level(self, block: Block, path: set[Node]) -> None:
        """Boxes stand above each other, each alone in its row: targets stand beside their losses."""
        block.level = [[a, b] for a, b, _ in block.edges if a.kind == "output" and not a.nodes[0].inputs]

    def finish(self) -> None:
        """Parameters are inside the boxes. Here: what is left to do when all links are known."""
        self.draft.picture.gap, self.draft.picture.ranksep = 52.0, 0.42
        for block in self.draft.picture.blocks():
            block.framed = False
            self._join(block)
        self._spread()

    def _join(self, block: Block) -> None:
        """The initial states of a cell share a box."""
        head = {k.tail: k.head for k in self.draft.picture.links} | {a: b for a, b, _ in block.edges}
        together: dict[Item | None, list[Item]] = defaultdict(list)
        for item in block.items:
            if item.kind in ("initial", "parameter"):
                together[head.get(item)].append(item)
        one = {item: items[0] for items in together.values() for item in items}
        for items in together.values():
            items[0].label = items[0].plain = ", ".join(dict.fromkeys(i.label for i in items))
            items[0].nodes = [n for i in (*items[1:], items[0]) for n in i.nodes]
        block.items[:] = [item for item in block.items if one.get(item, item) is item]
        block.edges[:] = dict.fromkeys((one.get(a, a), b, kind) for a, b, kind in block.edges)
        for link in self.draft.picture.links:
            link.tail = one.get(link.tail, link.tail)
        for loop in self.draft.picture.loops:
            loop.starts = list(dict.fromkeys(one.get(item, item) for item in loop.starts))

    def _spread(self) -> None:
        """Lines into the same box run side by side, memories above; the first ones have names."""
        into: dict[Item, list[Link]] = defaultdict(list)
        for link in self.draft.picture.links:
            below = self.draft.block[link.tail] is self.draft.picture.below and not link.kind.endswith("over time")
            if (link.head.shape == "module" or link.head.kind.endswith("dots")) and not below:
                into[link.head].append(link)
        for head, links in into.items():
            links.sort(key=lambda k: (not k.kind.startswith("cell"), k.tail.kind == "input", k.name))
            dock(head, links)
            for link in links:
                wide = max(abs(k.dock) for k in links if k.tail is link.tail)
                if self._is_start(link.tail):
                    link.lane = link.dock
                    link.label = link.name if sum(k.tail is link.tail for k in links) > 1 else ""
                    link.tail.tall = _tall(2 * wide) if wide > LANES / 2 else 0.0
                elif link.tail.kind.endswith("dots"):
                    link.lane = link.dock
                elif link.tail.shape == "module":
                    link.lane = link.dock if link.kind.endswith("over time") else max(-12.0, min(12.0, link.dock))
                    link.tail.tall = max(link.tail.tall, 2 * abs(link.lane) + 12)

    def _is_start(self, item: Item) -> bool:
        block = self.draft.block[item]
        return block.is_start or block in (self.draft.picture.start, self.draft.picture.finish)


def dock(head: Item, lines: Sequence[Link | Loop]) -> None:
    """Set apart what comes into a box, from above to below."""
    n = len(lines)
    wide = LANES if n == 2 else 16.0 * (n - 1)  # three or more are further apart than their names are high
    for i, each in enumerate(lines):
        each.dock = wide * (0.5 - i / (n - 1)) if n > 1 else 0.0
    if n > 2:
        head.tall = _tall(wide)


def _tall(wide: float) -> float:
    """The height of a box into which lines come at both ends of such a one."""
    return wide + 24
