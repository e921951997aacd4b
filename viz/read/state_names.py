"""What the code of cells calls their states."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from tinygrad_rnn.autograd.graph import Carries, ModuleName, Node
from viz.read.positions import Position, Reading, Steps

Carried = dict[Reading, Position]


class Names(NamedTuple):
    """The names of states.

    called  as the code of their cells has them
    heard   where they are read
    """

    called: dict[Position, str]
    heard: dict[Reading, str]


def names_of_states(steps: Steps, carried: Carried) -> Names:
    """What the cells' code calls their states; and of a step unlike others nothing else tells what it hands on.

    carried: the state that is read at each place; what the code says is added
    """
    names = Names({}, {})
    calls: dict[tuple, tuple[Carries, list[Node]]] = {}  # those of inner cells behind those of outer ones
    for node in steps.flow.runs.order:
        at = steps.flow.place.get(node)
        if node.op is not None and at in steps.firsts:
            for k, name in enumerate(node.scope):
                if isinstance(name, ModuleName) and name.carries is not None:
                    calls.setdefault((at, k, id(name)), (name.carries, []))[1].append(node)
    for carries, made in calls.values():
        _hear(steps, carried, _matched(carries, made), carries, names)
    return names


def _hear(steps: Steps, carried: Carried, made: Mapping[int, Node], carries: Carries, names: Names) -> None:
    """The names of a call's states, and who reads them, put into `carried` too. made: its operations by number"""
    here = next((steps.column[node] for node in made.values() if node in steps.column), None)
    inside, states = set(made.values()), {place for _, _, reads in carries.leaves for place in reads}
    for name, new, reads in carries.leaves:
        fresh = _argument(steps, made, *new) if new is not None else None
        position = steps.position[fresh] if fresh is not None and steps.column.get(fresh) == here else None
        for place in [p for k, i in reads if k in made for p in _readers(steps, made[k], i)]:
            if position is not None:
                carried.setdefault(place, position)
            if name and place in carried:
                names.called[carried[place]] = names.heard[place] = name
    for k, node in made.items():  # what comes from the step before and is no state of the cell is fed to it
        fed = [i for i, a in enumerate(node.inputs) if isinstance(a, Node) and a not in inside and (k, i) not in states]
        for place in [p for i in fed for p in _readers(steps, node, i) if p in carried]:
            names.called.setdefault(carried[place], "x")


def _argument(steps: Steps, made: Mapping[int, Node], k: int, i: int) -> Node | None:
    """What is drawn for an operation (i < 0), or for its argument i."""
    node = made.get(k) if i < 0 else made[k].inputs[i] if k in made else None
    drawn = steps.flow.same.get(node) if isinstance(node, Node) else None
    if drawn is None:
        return None
    masks = (r for r in steps.flow.readers.get(drawn, ()) if steps.flow.is_mask(r) and steps.flow.args[r][1] is drawn)
    return next(masks, drawn)


def _readers(steps: Steps, node: Node, i: int) -> list[Reading]:
    """Where in its step an operation's argument is read: by itself, or by those that read it where it is a view.

    What the step computed itself is not from before it.
    """
    same, position, column = steps.flow.same, steps.position, steps.column
    source = same.get(node.inputs[i])
    if source is None:
        return []
    if same.get(node) is node and node in position:
        found = [(node, i)]
    else:
        readers = [r for r in steps.flow.readers.get(source, ()) if r in position]
        found = [(r, k) for r in readers for k, a in enumerate(steps.flow.args[r]) if a is source]
    own = source in position and position[source][1] >= 0
    return [(position[r], k) for r, k in found if not (own and column[r] == column[source])]


def _matched(carries: Carries, made: list[Node]) -> dict[int, Node]:
    """The operations of a call by their numbers in the one that was watched; some may be missing at either end."""
    known = [(k, _alike(name)) for k, name in enumerate(carries.ops) if name != "split"]
    given = [node for node in made if node.op.name != "split"]
    names, ops = [name for _, name in known], [_alike(node.op.name) for node in given]
    most = min(len(ops), len(names))
    for start in range(1 - len(ops), len(names)):
        first, last = max(start, 0), min(start + len(ops), len(names))
        if last - first == most and names[first:last] == ops[first - start : last - start]:
            return {known[k][0]: given[k - start] for k in range(first, last)}
    return {}


def _alike(op: str) -> str:
    """The parts of a split are slices in a recorded step."""
    return "getitem" if op == "pick" else op
