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
            calls[node.scope].append(node)
    found: dict[Node, str] = {}
    for scope, made in calls.items():
        found.update(_matched(made, scope[-1].variables or []))
    return {node: name for node, name in found.items() if name and len(name) <= LONGEST}


def _matched(made: list[Node], called: list[tuple[str, str]]) -> dict[Node, str]:
    """The variable of each node: they are the operations of the call, or some of them, once or again and again."""
    found: dict[Node, str] = {}
    k = 0
    for node in made:
        for _ in range(len(called)):
            op, name = called[k]
            k = (k + 1) % len(called)
            if op == node.op.name:
                found[node] = name
                break
    return found
