"""Which operations are drawn as one box: those of a module."""

from __future__ import annotations

from itertools import groupby

from tinygrad_rnn.autograd.graph import ModuleName, Node
from viz.picture.groups import Group, Groups
from viz.read.flow import Flow

Path = tuple[str | int, ...]


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
