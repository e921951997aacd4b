"""From the unrolled graph to the blocks of the drawing, for the steps that are drawn."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass

from tinygrad_rnn.graph import Node
from viz.contract import Flow, names
from viz.fold import Folder, Group
from viz.labels import Labels, shape
from viz.model import Block, Item, Link, Picture, Rail
from viz.style import PRIME, subscript
from viz.unroll import Column, Spot, Unrolled

MANY = 600  # operations outside of time, beyond which they are drawn as one


@dataclass(eq=False)
class _Entry:
    """A state that comes from a column that is not drawn."""

    stream: Spot
    head: Item


class Builder:
    """Makes a picture of a graph."""

    def __init__(self, root: Node):
        self.flow = Flow(root)
        self.unrolled = Unrolled(self.flow)
        self.names = names(self.flow)
        self.labels = Labels(self.unrolled, self.names)
        self.fold = Folder(self.flow, self.unrolled.is_pinned, self.letter)
        self.losses = self._losses()
        self.items: dict[Node, Item] = {}
        self.block: dict[Item, Block] = {}
        self.taps: dict[Node, list[Item]] = defaultdict(list)
        self.spots: dict[Item, object] = {}
        self.crossing: list[tuple[Node, Item, Spot | None]] = []
        self.picture = Picture()

    def letter(self, reader: Node, i: int) -> str:
        """The letter of an operand; of the only step the second input is its initial state."""
        source = self.flow.args[reader][i]
        return "h" if source in self._initial_of_one else self.labels.letter(reader, i)

    @property
    def _initial_of_one(self) -> Collection[Node]:
        """With one step there is nothing to compare it with: what it reads after its first input is a state."""
        columns = self.unrolled.columns
        if len(columns) != 1:
            return ()
        leaves = [n for n in columns[0].leaves if n.dtype is not None and n.dtype.kind == "f" and len(n.shape) > 1]
        return leaves[1:]

    def _losses(self) -> set[Node]:
        flow = self.flow
        if flow.terms:
            return {n for n in flow.terms if n in self.unrolled.column and n.op is not None}
        return {flow.root} if flow.root.shape == () and flow.root.op is not None else set()

    def build(self, chosen: Callable[[list[Column]], Iterable[int]]) -> Picture:
        """The picture with the columns of these numbers."""
        columns = self.unrolled.columns
        previous = -1
        self._outside(self.picture.below, self.unrolled.below)
        drawn = [*chosen(columns), len(columns)]
        for i in drawn:
            if i - previous > 1:
                self._gap(i - previous - 1)
            if i < len(columns):
                self._column(i, is_first=i == 0)
            previous = i
        self._outside(self.picture.above, self.unrolled.above)
        self._link()
        self._rails()
        return self.picture

    # ---- blocks ---------------------------------------------------------------------------------------------------

    def _gap(self, n: int) -> None:
        k = len(self.picture.slots)
        self.picture.slots.append(Block(f"gap{k}", f"… {n} more\nstep{'s' * (n > 1)} …", is_gap=True))

    def _column(self, i: int, is_first: bool) -> None:
        column = self.unrolled.columns[i]
        key = f"between{i}" if column.t is None else f"t{column.t + 1}"
        if any(b.key == key for b in self.picture.slots[-1:]) or column.run > 0:
            key += f"r{column.run}"
        block = Block(key, "" if column.t is None else f"t = {column.t + 1}")
        self.picture.slots.append(block)
        groups = self.fold(column.ops, self.losses)
        for leaf in column.leaves:
            self._leaf(block, leaf, column, groups, is_first)
        self._operations(block, column.ops, groups, column.t)

    def _outside(self, block: Block, nodes: list[Node]) -> None:
        if len(nodes) > MANY:
            item = self._add(block, nodes[-1], f"{len(nodes):,} operations", "op", "box", None)
            self.items.update(dict.fromkeys(nodes, item))
            self.crossing += [(p, item, None) for n in nodes for p in self.flow.parents(n)]
            return
        ops = [n for n in nodes if n.op is not None]
        groups = self.fold(ops, self.losses)
        for node in nodes:
            if node.op is None:
                self._leaf(block, node, None, groups, False)
        self._operations(block, ops, groups, None)

    def _add(self, block: Block, node: Node, label: str, kind: str, form: str, t: int | None, tail: str = "") -> Item:
        text = (label if t is None else subscript(label, t + 1)) + tail
        item = Item(f"{block.key}.{len(block.items)}", text, kind, form, label + tail)
        block.items.append(item)
        self.items[node] = item
        self.block[item] = block
        self.spots[item] = self.unrolled.spot.get(node, item)
        return item

    # ---- inputs ---------------------------------------------------------------------------------------------------

    def _leaf(self, block: Block, node: Node, column: Column | None, groups: dict[Node, Group], is_first: bool) -> None:
        t = None if column is None else column.t
        read = [(r, i) for r in set(self.flow.readers[node]) for i, a in enumerate(self.flow.args[r]) if a is node]
        streams = [s for s in (self.unrolled.stream(r, i) for r, i in read) if s is not None]
        if all(self.flow.op(r) == "where" and i == 0 for r, i in read):
            return  # the mask of shorter sequences
        if streams or node in self._initial_of_one:
            cell = (
                self.unrolled.states[streams[0]] == "cell"
                if streams
                else all(self.flow.op(r) == "mul" for r, _ in read)
            )
            place = self.picture.start if is_first else block
            self._add(place, node, "c" if cell else "h", "initial", "circle", -1)
        elif all(r in groups and groups[r].head in self.losses for r, _ in read):
            self._add(block, node, "y", "output", "circle", t)
        elif all(self.flow.op(r) == "mul" and self._other(r, node).op is not None for r, _ in read):
            self._add(block, node, "m", "initial", "circle", t)  # dropout's
        else:
            used = sum(i.kind == "input" for i in block.items)
            item = self._add(block, node, self.labels.input(node) + PRIME * used, "input", "circle", t)
            if node in self.flow.slices:
                self.crossing += [(p, item, None) for p in self.flow.parents(node)]

    def _other(self, reader: Node, node: Node) -> Node:
        return next((p for p in self.flow.parents(reader) if p is not node), node)

    # ---- operations -----------------------------------------------------------------------------------------------

    def _operations(self, block: Block, ops: list[Node], groups: dict[Node, Group], t: int | None) -> None:
        path = self._memory_path(ops)
        own = set(ops)
        for node in ops:
            group = groups.get(node) or Group(node, {node})
            if group.head is not node:
                continue
            item = self._operation(block, node, group, node in path, t)
            self.items.update(dict.fromkeys(group.members, item))
            for member in sorted(group.members, key=lambda n: n.index):
                self._edges(block, item, member, group, own)
        self._level(block, path)

    def _operation(self, block: Block, node: Node, group: Group, on_path: bool, t: int | None) -> Item:
        kind = self._kind(node, group, on_path)
        if kind == "loss":
            return self._loss(block, node, t)
        label, form = (self.labels.affine(group), "box") if group.terms else self.labels.operation(node)
        if self.flow.op(node) == "getitem" and label.endswith("[x]"):
            return self._add(block, node, label[:-1], "input", form, t, "]")
        return self._add(block, node, label, kind, form, None)

    def _loss(self, block: Block, node: Node, t: int | None) -> Item:
        if node is not self.flow.root:
            return self._add(block, node, "L", "loss", "circle", t)
        if not self.flow.terms:
            return self._add(block, node, "L", "loss", "circle", None)
        scale = "" if self.flow.scale == 1 else f" / {self.flow.scale:g}"
        each = "Lₜ" if all(n in self.losses for n in self.flow.terms) else "…"
        return self._add(block, node, f"L = Σ {each}{scale}", "loss", "box", None)

    def _kind(self, node: Node, group: Group, on_path: bool) -> str:
        state = self.unrolled.state(node)
        if node in self.losses or (node is self.flow.root and self.flow.terms):
            return "loss"
        if state or on_path:
            return state or "cell"
        if node is self.flow.root:
            return "output"
        affine = any(self._is_sum(p) for p in self.flow.parents(node))
        return "gate" if self.labels.is_gate(node, affine) else "op"

    def _is_sum(self, node: Node) -> bool:
        if self.flow.op(node) not in ("add", "matmul") or self.unrolled.state(node):
            return False
        return not any(self._reads_memory(p) for p in self.flow.parents(node))

    def _reads_memory(self, node: Node) -> bool:
        streams = [self.unrolled.stream(node, i) for i in range(len(self.flow.args[node]))]
        return any(s is not None and self.unrolled.states[s] == "cell" for s in streams)

    def _edges(self, block: Block, item: Item, node: Node, group: Group, own: set[Node]) -> None:
        for i, source in enumerate(self.flow.args[node]):
            if not isinstance(source, Node) or source in group.members:
                continue
            stream = self.unrolled.stream(node, i)
            if self.fold.is_weight(source) or (source.op is None and source not in self.items):
                if not (self.flow.op(node) == "where" and i == 0):
                    if stream is not None and item in self.block and source not in self.taps:
                        self._learned_start(source, stream)
                    if source in self.items:
                        self.crossing.append((source, item, stream))
                    else:
                        self.taps[source].append(item)
            elif self.block.get(self.items.get(source)) is block:  # type: ignore[arg-type]
                self._edge(block, self.items[source], item)
            else:
                self.crossing.append((source, item, stream))

    def _learned_start(self, leaf: Node, stream: Spot) -> None:
        """An initial state that is learned, or that several steps read, stands where the initial states stand."""
        if leaf in self.items:
            return
        if leaf in self.names:
            self._add(self.picture.start, leaf, self.names[leaf], "parameter", "box", None)
        else:
            letter = "c" if self.unrolled.states[stream] == "cell" else "h"
            self._add(self.picture.start, leaf, letter, "initial", "circle", -1)

    def _edge(self, block: Block, tail: Item, head: Item) -> None:
        kind = "flow"
        if tail.kind == "hidden":
            kind = "hidden"
        elif tail.kind == head.kind == "cell":
            kind = "cell"
        if not any(a is tail and b is head for a, b, _ in block.edges):
            block.edges.append((tail, head, kind))

    # ---- the memory's path ----------------------------------------------------------------------------------------

    def _memory_path(self, ops: list[Node]) -> set[Node]:
        """The operations that a memory c passes on its way to the next step: f ⊙ c and + of an LSTM."""
        path: set[Node] = set()
        for node in ops:
            for i in range(len(self.flow.args[node])):
                stream = self.unrolled.stream(node, i)
                if stream is not None and self.unrolled.states[stream] == "cell":
                    path |= self._way(node)
        return path

    def _way(self, node: Node) -> set[Node]:
        way = {node}
        for _ in range(3):
            if self.unrolled.state(node) == "cell":
                return way
            readers = [r for r in self.flow.readers[node] if self.flow.op(r) in ("add", "sub", "where")]
            if len(readers) != 1:
                break
            node = readers[0]
            way.add(node)
        return set()

    def _level(self, block: Block, path: set[Node]) -> None:
        """A memory runs straight through its step, and gates of the same operands stand side by side."""
        ends = {self.items[n] for n in path}
        pairs = [[a, b] for a, b, _ in block.edges if a in ends and b in ends]
        tails: dict[Item, list[Item]] = defaultdict(list)
        for a, b, _ in block.edges:
            tails[b].append(a)
        gates: dict[Item, list[Item]] = defaultdict(list)
        for item in block.items:
            if item.kind == "gate" and len(tails[item]) == 1:
                gates[tails[item][0]].append(item)
        block.level = pairs + [row for row in gates.values() if len(row) > 1]

    # ---- between blocks -------------------------------------------------------------------------------------------

    def _link(self) -> None:
        hidden: dict[Block, list[_Entry]] = defaultdict(list)
        for source, head, stream in self.crossing:
            tail = self.items.get(source)
            if tail is not None:
                if tail is not head:
                    self._connect(tail, head, stream)
            elif stream is not None:
                hidden[self.block[head]].append(_Entry(stream, head))
        slots = self.picture.slots
        for k, gap in enumerate(slots):
            if gap.is_gap:
                self._through(
                    gap, slots[k - 1] if k else None, hidden.get(slots[k + 1], []) if k + 1 < len(slots) else []
                )

    def _connect(self, tail: Item, head: Item, stream: Spot | None) -> None:
        kind = "flow"
        if stream is not None:
            kind = self.unrolled.states[stream] + " over time"
        elif tail.kind == "initial":
            kind = "cell over time" if tail.plain == "c" else "hidden over time"
        elif tail.kind == "loss":
            kind = "loss"
        elif tail.kind == "hidden":
            kind = "hidden"
        if not any(link.tail is tail and link.head is head for link in self.picture.links[-8:]):
            self.picture.links.append(Link(tail, head, kind))

    def _through(self, gap: Block, left: Block | None, entries: list[_Entry]) -> None:
        """The states run into dots, and out of them."""
        dots: dict[Spot, Item] = {}
        before = {self.spots[item]: item for item in (left.items if left else ())}
        streams = dict.fromkeys(e.stream for e in entries)
        for stream in streams:
            kind = self.unrolled.states[stream]
            item = dots[stream] = Item(f"{gap.key}.{len(gap.items)}", "· · ·", f"{kind} dots", "text", "· · ·")
            gap.items.append(item)
            self.block[item] = gap
            if stream in before:
                self.picture.links.append(Link(before[stream], item, kind + " over time"))
        self.picture.links += [
            Link(dots[e.stream], e.head, self.unrolled.states[e.stream] + " over time") for e in entries
        ]

    # ---- parameters -----------------------------------------------------------------------------------------------

    def _rails(self) -> None:
        """Parameters with the same readers share a box and a rail."""
        together: dict[frozenset, list[Node]] = defaultdict(list)
        for leaf, readers in self.taps.items():
            together[frozenset([*readers, leaf in self.names])].append(leaf)
        for k, leaves in enumerate(together.values()):
            kind = "parameter" if leaves[0] in self.names else "input"
            label = "\n".join([self._describe(leaf) for leaf in leaves])
            readers = list(dict.fromkeys(self.taps[leaves[0]]))
            self.picture.rails.append(Rail(Item(f"p{k}", label, kind, "box", label), readers))

    def _describe(self, leaf: Node) -> str:
        name = self.names.get(leaf) or self.labels.input(leaf)
        return f"{name}  {shape(leaf)}" if leaf.shape else name
