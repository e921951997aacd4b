"""A cell as textbooks draw it: what a step reads and hands on, its gates in a row, and what is done with them.

It is made of the circuit's picture, which has one step for all.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from tinygrad_rnn.autograd.graph import ModuleName
from viz.picture.layers import Layers, Reads, folded
from viz.picture.modules import title
from viz.picture.picture import Block, Item, Loop, Picture
from viz.picture.scheme import Scheme
from viz.style import SUBSCRIPTS

NOW, BEFORE = "ₜ", "ₜ₋"


def scheme_of(picture: Picture) -> Scheme:
    """The scheme of a circuit's picture. ValueError if no step is in it."""
    block = _main(picture)
    made, reads = Scheme(_name(block)), _reads(picture, block)
    _add_inputs(made, block, reads)
    _add_states(made, [k for k in picture.loops if k.block is block], reads)
    items = folded([i for i in block.items if i.kind != "input"], reads)
    _add_outputs(made, items, reads)
    weight = {reader: rail.item for rail in picture.rails for reader in rail.readers}
    _add_operations(made, [i for i in items if i.kind != "output"], reads, weight)
    made.inputs = [i for i in made.inputs if any(i in tails for tails in made.reads.values())]
    _join(made)
    outer = [*made.joins, *made.before, *made.inputs]
    for layer in made.layers:  # what comes from the left, from below, from above
        made.reads[layer].sort(key=lambda tail: outer.index(tail) if tail in outer else len(outer))
    return made


def _main(picture: Picture) -> Block:
    """The step with the most states."""
    loops = [loop.block for loop in picture.loops]
    block = max(picture.slots, key=lambda slot: (loops.count(slot), len(slot.items)), default=None)
    if block is None or not block.items:
        raise ValueError('viz.draw: view="textbook" draws a step of a recurrent cell, got a graph without time steps')
    return block


def _name(block: Block) -> str:
    """The class of the cell."""
    scopes = (node.scope for item in block.items for node in item.nodes)
    return next((title(part) for scope in scopes for part in scope if isinstance(part, ModuleName)), "")


def _reads(picture: Picture, block: Block) -> Reads:
    """What each item of a step reads, in it and from outside."""
    found: Reads = defaultdict(list)
    inside = set(block.items)
    for tail, head, _ in block.edges:
        found[head].append(tail)
    for link in picture.links:
        if link.head in inside and link.tail not in inside:
            found[link.head].append(link.tail)
    return found


# ---- what comes in and goes out --------------------------------------------------------------------------------------


def _add_inputs(made: Scheme, block: Block, reads: Reads) -> None:
    """What is fed at each step, and what is there for all of them."""
    own = [item for item in block.items if item.kind == "input"]
    for item in own:
        item.label = _at(item.label, NOW)
    inside = set(block.items)
    made.inputs = [*own, *dict.fromkeys(tail for tails in reads.values() for tail in tails if tail not in inside)]


def _at(name: str, when: str) -> str:
    """h and ₜ: hₜ; E[x] as it is."""
    return name if name[-1:] == "]" else name + when


def _add_states(made: Scheme, loops: Sequence[Loop], reads: Reads) -> None:
    """What stands at the left for what earlier steps left, and at the right for what this one leaves."""
    origin: dict[Item, tuple[Item, int]] = {}  # of each delay: what it delays, and how often
    known: dict[tuple[Item, int], Item] = {}
    for loop in loops:
        source, age = origin.get(loop.tail, (loop.tail, 0))
        origin[loop.delay] = key = source, age + 1
        if key not in known:
            before = f"{BEFORE}{''.join(SUBSCRIPTS[int(digit)] for digit in str(age + 1))}"
            known[key] = _state(loop, before, "before")
            made.before[known[key]] = loop.kind
        for head in loop.heads:
            reads[head].append(known[key])
        if age == 0 and not any(reads[after] == [source] for after in made.after):
            after = _state(loop, NOW, "after")
            reads[after], made.after[after] = [source], loop.kind
            made.path[known[key]] = [source]


def _state(loop: Loop, when: str, side: str) -> Item:
    return Item(f"{loop.delay.key}.{side}", _at(loop.name, when), loop.kind.removesuffix(" over time"), "pill")


def _add_outputs(made: Scheme, items: Sequence[Item], reads: Reads) -> None:
    """What a step returns that is no state."""
    handed = [reads[after][0] for after in made.after]
    for item in items:
        if item.kind == "output" and not all(tail in handed for tail in reads[item]):
            item.label, item.shape = _at(item.label, NOW), "pill"
            made.after[item] = "flow"


# ---- what is between -------------------------------------------------------------------------------------------------


def _add_operations(made: Scheme, items: Sequence[Item], reads: Reads, weight: dict[Item, Item]) -> None:
    """Layers, other operations, and the ways of memories through these. weight: what an item reads of the parameters"""
    layers = Layers(items, reads, [*made.before, *made.inputs], weight)
    shown = [item for item in items if item not in layers.inside]
    made.reads |= {item: layers.operands(item) for item in (*shown, *made.after)}
    made.layers = layers.row
    made.points = [item for item in shown if item not in layers.row]
    _find_paths(made)
    lifted = _from_memories(made, [item for item in shown if item not in layers.row or not layers.has_weights(item)])
    made.layers = [item for item in layers.row if item not in lifted]
    made.points = [item for item in shown if item not in made.layers]
    for item in made.points:
        if layers.is_scaled(item):
            item.label, item.shape = f"{item.label} {weight[item].label.partition('  ')[0]}", "box"


def _find_paths(made: Scheme) -> None:
    """Only through operations that are no layers."""
    taken: set[Item] = set()
    for before, (end,) in list(made.path.items()):
        path = _way(made, before, end, [p for p in made.points if p not in taken])
        taken |= set(path)
        if path:
            made.path[before] = path
        else:
            del made.path[before]


def _way(made: Scheme, before: Item, end: Item, free: Sequence[Item]) -> list[Item]:
    """The shortest way of a memory; none if there is a layer on it."""
    came: dict[Item, Item] = {}
    front = [before]
    while front and end not in came:
        reached = {p: tail for tail in reversed(front) for p in free if tail in made.reads[p] and p not in came}
        came |= reached
        front = [p for p in free if p in reached]
    if end not in came:
        return []
    path = [end]
    while came[path[0]] is not before:
        path.insert(0, came[path[0]])
    return path


def _from_memories(made: Scheme, items: Sequence[Item]) -> set[Item]:
    """Functions of what comes from memories alone, without weights, are no layers: tanh(LN(c))."""
    known = {item for path in made.path.values() for item in path}
    for item in items:  # in the order in which they are computed
        if set(made.reads[item]) <= known:
            known.add(item)
    return known


def _join(made: Scheme) -> None:
    """What most layers read together goes to them as one."""
    outer = [*made.before, *made.inputs]
    while True:
        sets = [frozenset(made.reads[layer]) & frozenset(outer) for layer in made.layers]
        times = {part: sum(part <= read for read in sets) for part in {a & b for a in sets for b in sets}}
        worth = {part: (n * (len(part) - 1), n) for part, n in times.items() if n > 1 and len(part) > 1}
        if not worth:
            return
        most = max(worth.values())
        best = next(read for read in _parts(sets) if worth.get(read) == most)
        bar = Item(f"join{len(made.joins)}", "", "", "bar")
        made.reads[bar] = [item for item in outer if item in best]
        made.joins.append(bar)
        for layer in made.layers:
            if best <= set(made.reads[layer]):
                made.reads[layer] = [bar, *(tail for tail in made.reads[layer] if tail not in best)]


def _parts(sets: Sequence[frozenset[Item]]) -> list[frozenset[Item]]:
    """What any two have in common, in the order of the layers: the same in every run."""
    return [a & b for a in sets for b in sets]
