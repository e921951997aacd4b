"""Names: of parameters as the model has them, of values as the code of their module calls them."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable

from tinygrad_rnn.graph import Leaf, ModuleName, Node
from viz.contract import Flow
from viz.style import PRIME, subscript

LONGEST = 4  # characters of a variable that is drawn


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


def variables(nodes: Iterable[Node]) -> dict[Node, str]:
    """What the code calls the values of nodes, where it says, shortly. nodes: oldest first"""
    calls: dict[tuple, list[Node]] = defaultdict(list)
    for node in nodes:
        if node.op is not None and node.scope and isinstance(node.scope[-1], ModuleName):
            calls[(*node.scope[:-1], id(node.scope[-1]))].append(node)
    found: dict[Node, str] = {}
    known: dict[tuple, list[str]] = {}  # most steps are alike
    for made in calls.values():
        name = made[0].scope[-1]
        assert isinstance(name, ModuleName)
        key = (id(name), *(node.op.name for node in made))
        if key not in known:
            known[key] = _matched([node.op.name for node in made], name.variables or [])
        found.update(zip(made, known[key], strict=True))
    return {node: name for node, name in found.items() if name and len(name) <= LONGEST}


def _matched(ops: list[str], called: list[tuple[str, str]]) -> list[str]:
    """The variable of each operation, where they are those of the call that was watched, once or again and again.

    Some may be missing at the front, where nothing is recorded of what is computed from constants, and at the end,
    where nobody reads the result; what differs otherwise came by another way through the code.
    """
    watched, names = [op for op, _ in called], [name for _, name in called]
    n = len(watched)
    if n and len(ops) % n == 0 and watched * (len(ops) // n) == ops:
        return names * (len(ops) // n)
    short, long = sorted((ops, watched), key=len)
    for start in range(len(long) - len(short) + 1):
        if short and long[start : start + len(short)] == short:
            return names[start : start + len(ops)] if short is ops else [
                names[k - start] if start <= k < start + n else "" for k in range(len(ops))
            ]  # fmt: skip
    return [""] * len(ops)
