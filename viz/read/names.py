"""Names: of parameters as the model has them, of values as the code of their module calls them."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from typing import Any

from tinygrad_rnn.autograd.graph import Constant, Leaf, ModuleName, Named, Node, Number, Operand, likenesses
from viz.read.flow import Flow
from viz.read.plumbing import BEHIND
from viz.style import PRIME, subscript

LONGEST = 40  # characters of a variable that is drawn; a longer one is cut
MANY = 100_000  # pairs of operations that are compared


def names(flow: Flow) -> dict[Node, str]:
    """What the parameters are called: by their own names, with a number for the module where a name comes twice."""
    leaves: list[Node] = [node for node in flow.nodes if isinstance(node, Leaf) and node not in flow.place]
    first: dict[Node, Node] = {leaf: min(flow.readers[leaf], key=lambda n: n.index, default=leaf) for leaf in leaves}
    leaves.sort(key=lambda leaf: first[leaf].index)
    module: dict[Node, tuple] = {}
    seen: Counter[tuple] = Counter()
    for leaf in leaves:
        scope = tuple(s for s in first[leaf].scope if isinstance(s, str))
        module[leaf] = (*scope, seen[scope, _short(leaf)])  # a second W where there is one is another module's
        seen[scope, _short(leaf)] += 1
    taken: dict[str, set[tuple]] = defaultdict(set)
    for leaf in leaves:
        taken[_short(leaf)].add(module[leaf])
    clashing = {m for found in taken.values() if len(found) > 1 for m in found}
    modules = {m: i for i, m in enumerate((m for m in dict.fromkeys(module.values()) if m in clashing), 1)}
    result: dict[Node, str] = {
        n: subscript(_short(n), modules[module[n]]) if module[n] in clashing else _short(n) for n in leaves
    }
    return _distinct(result)


def _short(leaf: Node) -> str:
    return getattr(leaf, "name", "") or "p"


def _distinct(found: dict[Node, str]) -> dict[Node, str]:
    """Primes where two are still called alike."""
    seen: dict[str, int] = {}
    for node, name in found.items():
        found[node] = name + PRIME * seen.get(name, 0) if seen.get(name, 0) < 3 else f"{name}({seen[name]})"
        seen[name] = seen.get(name, 0) + 1
    return found


# ---- variables ------------------------------------------------------------------------------------------------------


class Code:
    """What the code of the modules calls things. nodes: oldest first

    called  the name of each value that has one; that of the innermost module counts
    old     the values that a cell was given as its state, with what it calls them
    new     the values that a cell returned in its new state
    own     what modules hold beside their parameters, with what they call it
    within  what they computed from what leaves no graph
    """

    def __init__(self, nodes: Iterable[Node]):
        self.called: dict[Node, str] = {}
        self.old: dict[Node, str] = {}
        self.new: set[Node] = set()
        self.own: dict[Node, str] = {}
        self.within: set[Node] = set()
        self._reads: dict[Node, tuple[bool, tuple[Operand | None, ...]]] = {}  # of a cell?, and its operands
        self._known: dict[tuple, list[Named | None]] = {}  # most steps are alike
        for depth, made in _calls(nodes):
            name: Any = made[0].scope[depth - 1]
            for node, named in zip(made, self._matched(name, made, depth), strict=True):
                if named is not None:
                    self._enter(node, named, name.is_cell)

    def _enter(self, node: Node, named: Named, of_cell: bool) -> None:
        """Put down what a call says of an operation; inner calls come first."""
        if named.name and node not in self.called:
            self.called[node] = named.name if len(named.name) <= LONGEST else named.name[: LONGEST - 1] + "…"
        for source, read in zip(node.inputs, named.reads, strict=False):
            if not isinstance(source, Constant) or (read is not None and (read.given or read.state >= 0)):
                continue
            if read is not None and read.own:
                self.own[source] = read.name
            else:  # also what was recorded in the call that was watched, of a state with a gradient
                self.within.add(source)
        known = self._reads.get(node)
        if known is not None and known[0]:
            return
        self._reads[node] = of_cell, named.reads
        if of_cell:
            if named.state >= 0:
                self.new.add(node)
            for source, read in zip(node.inputs, named.reads, strict=False):
                if read is not None and read.state >= 0:
                    self.old[source] = read.name

    def operand(self, reader: Node, i: int) -> str | None:
        """What the code calls an operand: its name within the cell that reads it, "" if it has none; None: no code."""
        node: Any = reader.inputs[i]
        while isinstance(node, Node):
            of_cell, reads = self._reads.get(reader, (False, ()))
            read = reads[i] if i < len(reads) else None
            if read is not None and (of_cell or node.op is None):
                return read.name
            if node in self.called:
                return self.called[node]
            if node.op is None or node.op.name not in BEHIND:
                return "" if of_cell else None
            reader, i, node = node, 0, node.inputs[0]
        return None

    def _matched(self, name: ModuleName, made: list[Node], depth: int) -> list[Named | None]:
        """The operations of the call that was watched, for those of another: that call once or again and again."""
        watched, ops = name.variables, [node.op.name for node in made]
        key: tuple = (id(name), *ops)
        if key not in self._known:
            times, left = divmod(len(ops), len(watched) or 1)
            alike = not left and ops == [named.op for named in watched] * times
            self._known[key] = [*watched * times] if alike else []
        if watched and not self._known[key]:
            like = list(likenesses(made, depth))
            key = (id(name), *like)
            if key not in self._known:
                self._known[key] = aligned(like, watched)
        return self._known[key] or [None] * len(ops)


def _calls(nodes: Iterable[Node]) -> Iterator[tuple[int, list[Node]]]:
    """(length of the scope, operations) of each call of a module, inner ones first; no step of time is within one."""
    found: dict[tuple, tuple[int, list[Node]]] = {}
    of: dict[int, list[list[Node]]] = {}  # by scope: the lists of the calls that it is in
    for node in nodes:
        scope = node.scope
        if node.op is None or not scope:
            continue
        lists = of.get(id(scope))
        if lists is None:
            first = max((i for i, name in enumerate(scope) if isinstance(name, int)), default=-1) + 1
            depths = [d for d in range(first + 1, len(scope) + 1) if isinstance(scope[d - 1], ModuleName)]
            ids = tuple(map(id, scope))
            lists = of[id(scope)] = [found.setdefault(ids[:d], (d, []))[1] for d in depths]
        for each in lists:
            each.append(node)
    yield from sorted(found.values(), key=lambda call: -call[0])


# ---- knowing operations again ---------------------------------------------------------------------------------------


def aligned(ops: list[tuple[tuple, int]], watched: list[Named]) -> list[Named | None]:
    """For each operation the one of the watched call that it is, in the same order; None for what that did not have.

    Some are missing where nothing is recorded of what is computed from constants, or where nobody reads the result;
    more than there were came by another way through the code. What is known of their inputs tells operations apart.
    """
    goal = watched * max(round(len(ops) / len(watched)), 1)
    if len(ops) * len(goal) > MANY:
        known = {named.sign: named for named in watched}
        return [known.get(sign) for _, sign in ops]
    best = [[0] * (len(goal) + 1) for _ in range(len(ops) + 1)]  # of the operations from the i-th on and the j-th on
    like = [[_likeness(op, named) for named in goal] for op in ops]
    for i in reversed(range(len(ops))):
        for j in reversed(range(len(goal))):
            both = best[i + 1][j + 1] + like[i][j] if like[i][j] else 0
            best[i][j] = max(both, best[i + 1][j], best[i][j + 1])
    found: list[Named | None] = []
    j = 0
    for i in range(len(ops)):
        while j < len(goal) and best[i][j] == best[i][j + 1]:
            j += 1
        taken = j < len(goal) and like[i][j] > 0 and best[i][j] == best[i + 1][j + 1] + like[i][j]
        found.append(goal[j] if taken else None)
        j += taken
    return found


def _likeness(op: tuple[tuple, int], named: Named) -> int:
    """0 for operations that cannot be the same; much where all that they are computed from is alike."""
    (*kind, inputs), (*other, others) = op[0], named.key
    if kind != other or len(inputs) != len(others):
        return 0
    if op[1] == named.sign:
        return 9
    if inputs == others:
        return 4
    unlike = [{type(a), type(b)} for a, b in zip(inputs, others, strict=True) if a != b]
    return 2 if all(types in ({Number}, {str, type(None)}) for types in unlike) else 0
