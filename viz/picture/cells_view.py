"""The unrolled graph with one box for each module at each step: cells over time, layers upwards."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from itertools import groupby
from typing import ClassVar

from tinygrad_rnn.autograd.graph import ModuleName, Node
from viz.picture.groups import Group, Groups
from viz.picture.links import Entry
from viz.picture.ops_view import OpsView
from viz.picture.picture import Block, Item, Link, Loop
from viz.read.flow import Flow
from viz.read.positions import Position

LANES = 22.0  # between two lines into a box, in points
Path = tuple[str | int, ...]


class CellsView(OpsView):
    """Makes a picture of a graph, module by module. depth: how far into modules within modules"""

    round: ClassVar[str] = "ball"
    forms: ClassVar[dict[str, str]] = {"box": "pill", "circle": "ball"}
    depth = 1

    def _groups(self, ops: list[Node]) -> dict[Node, Group]:
        groups = Modules(self.flow, self.groups, self.depth)(ops, self.losses)
        for group in groups.values():
            if group.name and self.depth == 1 and self._is_read_out(group):
                group.name = "ŷ"
        return groups

    def _is_read_out(self, group: Group) -> bool:
        """Is it what losses are computed from, and no state?"""
        members = group.members
        reads = [(r, m) for m in members for r in self.flow.readers[m] if r not in members]
        heard = {r for r, m in reads if self.flow.said(r) is not m}
        return (
            bool(heard) and not self._is_recurrent(group) and all(self.groups.is_of_loss(r, self.losses) for r in heard)
        )

    def _is_recurrent(self, group: Group) -> bool:
        """Does it hold a state, or read one?"""
        states = self.states
        reads = (states.stream(m, i) for m in group.members for i in range(len(self.flow.args[m])))
        return any(states.state(m) for m in group.members) or any(stream is not None for stream in reads)

    def _operation(self, block: Block, node: Node, group: Group, on_path: bool, t: int | None) -> Item:
        if not group.name:
            return super()._operation(block, node, group, False, t)
        if group.name == "ŷ":
            return self._add(block, node, "ŷ", "output", "ball", t)
        kind = "hidden" if self._is_recurrent(group) else "op"
        item = self._add(block, node, group.name, kind, "module", None)
        item.states = [m for m in group.members if self.states.state(m)]
        return item

    def _add(self, block: Block, node: Node, label: str, kind: str, form: str, t: int | None, tail: str = "") -> Item:
        form = "pill" if kind == "initial" else self.forms.get(form, form)
        return super()._add(block, node, label, kind, form, t, tail)

    def _mask(self, block: Block, node: Node, t: int | None) -> None:
        """Dropout's is inside its box."""

    def _constant(self, block: Block, node: Node) -> None:
        """So is what a module computes for itself."""

    def _memory_path(self, ops: list[Node]) -> set[Node]:
        return set()

    def _level(self, block: Block, path: set[Node]) -> None:
        """Boxes stand above each other, each alone in its row: targets stand beside their losses."""
        block.level = [[a, b] for a, b, _ in block.edges if a.kind == "output" and not a.nodes[0].inputs]

    def _dots(self, entry: Entry) -> Item | Position:
        if entry.head is None:
            return next(iter(self.items_at[entry.stream].values()))
        return entry.head  # one for all states of a cell

    def _put(self, link: Link, name: str) -> None:
        """One line for each state."""
        same = [k for k in self.picture.links[-8:] if k.tail is link.tail and k.head is link.head]
        if link.kind.endswith("over time") and name:
            link.name = name
            if all(k.name != link.name for k in same):
                self.picture.links.append(link)
        elif not same:
            self.picture.links.append(link)

    def _rails(self) -> None:
        """Parameters are inside the boxes. Here: what is left to do when all links are known."""
        self.picture.gap, self.picture.ranksep = 52.0, 0.42
        for block in self.picture.blocks():
            block.framed = False
            self._join(block)
        self._spread()

    def _join(self, block: Block) -> None:
        """The initial states of a cell share a box."""
        head = {k.tail: k.head for k in self.picture.links} | {a: b for a, b, _ in block.edges}
        together: dict[Item | None, list[Item]] = defaultdict(list)
        for item in block.items:
            if item.kind in ("initial", "parameter"):
                together[head.get(item)].append(item)
        one = {item: items[0] for items in together.values() for item in items}
        for items in together.values():
            items[0].label = items[0].plain = ", ".join(dict.fromkeys(i.label for i in items))
        block.items[:] = [item for item in block.items if one.get(item, item) is item]
        block.edges[:] = dict.fromkeys((one.get(a, a), b, kind) for a, b, kind in block.edges)
        for link in self.picture.links:
            link.tail = one.get(link.tail, link.tail)
        for loop in self.picture.loops:
            loop.starts = list(dict.fromkeys(one.get(item, item) for item in loop.starts))

    def _spread(self) -> None:
        """Lines into the same box run side by side, memories above; the first ones have names."""
        into: dict[Item, list[Link]] = defaultdict(list)
        for link in self.picture.links:
            below = self.block[link.tail] is self.picture.below and not link.kind.endswith("over time")
            if (link.head.shape == "module" or link.head.kind.endswith("dots")) and not below:
                into[link.head].append(link)
        for head, links in into.items():
            links.sort(key=lambda k: (not k.kind.startswith("cell"), k.tail.kind == "input", k.name))
            self._dock(head, links)
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

    def _dock(self, head: Item, lines: Sequence[Link | Loop]) -> None:
        """Set apart what comes into a box, from above to below."""
        n = len(lines)
        wide = LANES if n == 2 else 16.0 * (n - 1)  # three or more are further apart than their names are high
        for i, each in enumerate(lines):
            each.dock = wide * (0.5 - i / (n - 1)) if n > 1 else 0.0
        if n > 2:
            head.tall = _tall(wide)

    def _is_start(self, item: Item) -> bool:
        block = self.block[item]
        return block.is_start or block in (self.picture.start, self.picture.finish)


def _tall(wide: float) -> float:
    """The height of a box into which lines come at both ends of such a one."""
    return wide + 24


class Modules:
    """Groups the operations of modules: the outermost modules that compute something themselves, or deeper ones."""

    def __init__(self, flow: Flow, groups: Groups, depth: int = 1):
        self.flow, self.groups, self.depth = flow, groups, depth

    def __call__(self, ops: list[Node], losses: set[Node]) -> dict[Node, Group]:
        paths = {node: _path(node) for node in ops if not self._is_plumbing(node)}
        owners = {_which(path) for path in paths.values() if path}
        run = self.flow.runs.of
        box = {node: self._box(path, owners) for node, path in paths.items()}
        found: dict[Node, Group] = {}
        apart = lambda node: (run.get(node), _which(box[node]))
        for _, nodes in groupby(sorted(paths, key=lambda n: n.index), key=apart):
            call = list(nodes)
            path, members = box[call[0]], set(call) - losses
            if path and members and not self._is_lookup(members):
                head = max(members, key=lambda n: n.index)
                found.update(dict.fromkeys(members, Group(head, members, name=title(path[-1]))))
        self._mask(ops, found)
        rest = [node for node in ops if node not in found]
        return self.groups(rest, losses) | found

    def _is_plumbing(self, node: Node) -> bool:
        """Is it how sequences are put together?"""
        return node in self.flow.joins or (self.flow.op(node) in ("stack", "concat") and node not in self.flow.place)

    def _mask(self, ops: list[Node], found: dict[Node, Group]) -> None:
        """What keeps the state of sequences that have ended belongs to the cell."""
        for node in ops:
            if self.flow.is_mask(node) and node not in found:
                group = next((found[p] for p in self.flow.parents(node) if p in found), None)
                if group is not None:
                    group.members.add(node)
                    found[node] = group

    def _box(self, path: Path, owners: set[tuple]) -> Path:
        n = next((k for k in range(1, len(path) + 1) if _which(path[:k]) in owners), 0)
        return path[: min(n + self.depth - 1, len(path))] if n else ()

    def _is_lookup(self, members: set[Node]) -> bool:
        return len(members) == 1 and all(self.flow.op(m) == "getitem" for m in members)


def _path(node: Node) -> Path:
    """The modules that a node was made in, within its time step."""
    at = next((i + 1 for i, name in enumerate(node.scope) if isinstance(name, int)), 0)
    return node.scope[at:]


def _which(path: Path) -> tuple:
    """Tells modules apart that have one name."""
    return tuple([id(name) if isinstance(name, ModuleName) else name for name in path])


def title(name: str | int) -> str:
    """What a module's box says: its class, LSTM for LSTMCell."""
    kind = name.kind if isinstance(name, ModuleName) else str(name)
    return kind.removesuffix("Cell") or kind
