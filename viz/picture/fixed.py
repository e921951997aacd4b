"""What steps read that is no parameter, and does not change."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Hashable
from typing import Any

import numpy as np

from tinygrad_rnn.autograd.graph import Constant, Copied, Node
from viz.read.columns import Column
from viz.read.names import Code
from viz.read.states import States


def fixed(states: States, code: Code) -> tuple[dict[Node, Node], set[Node]]:
    """For what does not change the one node that is drawn for it; and that of which it is not known.

    What does not change is what a module holds, or what it computes anew in each step if that is seen to be the same.
    """
    together: dict[Hashable, list[Node]] = defaultdict(list)
    outside = Column(None, -1, leaves=[n for n in (*states.above, *states.below) if n.op is None])
    for column in (*states.columns, outside):
        seen: Counter[Hashable] = Counter()
        for leaf in column.leaves:
            if isinstance(leaf, Constant) and (leaf in code.own or leaf in code.within):
                key = (column.run, *_use(states, code, leaf))
                together[*key, seen[key]].append(leaf)
                seen[key] += 1
    found: dict[Node, Node] = {}
    unknown: set[Node] = set()
    for leaves in together.values():
        same = _is_one(leaves, code)
        if same:
            found.update(dict.fromkeys(leaves, leaves[0]))
        elif same is None:
            unknown.update(leaf for leaf in leaves if not _is_scale(states, code, leaf))
    return found, unknown


def _is_scale(states: States, code: Code, leaf: Node) -> bool:
    """Does it but scale things, without a name, as what dropout draws?"""
    flow = states.flow
    named = any(code.operand(r, i) for r in flow.readers[leaf] for i, a in enumerate(r.inputs) if a is leaf)
    return not named and all(flow.op(r) == "mul" for r in flow.readers[leaf])


def _use(states: States, code: Code, leaf: Node) -> tuple:
    """What is called alike and read in the same place in another step is the same thing there."""
    reader = min(states.flow.readers[leaf], key=lambda n: n.index, default=leaf)
    modules = tuple([id(name) for name in reader.scope if isinstance(name, str)])
    return code.own.get(leaf, ""), leaf.shape, modules


def _is_one(leaves: list[Node], code: Code) -> bool | None:
    """Do all these hold the same? None where it is not known."""
    known = [a for a in map(_array, leaves) if type(a) is np.ndarray]  # those that somebody kept
    if all(leaf in code.own for leaf in leaves):
        return len(set(map(id, known if type(leaves[0]) is Copied else leaves))) <= 1
    return all(np.array_equal(a, known[0]) for a in known) if len(known) > 1 else None


def _array(leaf: Any) -> Any:
    return None if leaf.data is None else leaf.data()
