"""From the unrolled graph to the blocks of the drawing, for the steps that are drawn."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection
from dataclasses import dataclass
from typing import ClassVar

from tinygrad_rnn.graph import Node
from viz.contract import Flow
from viz.fold import Folder, Group
from viz.labels import Labels, shape
from viz.model import Block, Item, Link, Picture, Rail
from viz.names import names, variables
from viz.style import PRIME, subscript
from viz.times import Choose
from viz.unroll import Column, Spot, Unrolled

MANY = 600  # operations outside of time, beyond which they are drawn as one


@dataclass(eq=False)
class Entry:
    """A state that comes from a column that is not drawn; None reads it, where it goes on behind what is drawn."""

    stream: Spot
    head: Item | None
    apart: int = 1  # time steps


class Builder:
    """Makes a picture of a graph, operation by operation.

    nodes, choose: as in Times  tokens: names of the inputs, by time step
    """

    round: ClassVar[str] = "circle"  # the shape of inputs and losses

    def __init__(self, nodes: list[Node], choose: Choose | None = None, tokens: Collection[str] = ()):
        self.choose, self.tokens = choose, list(tokens)
        self.flow = Flow(nodes, choose)
        self.unrolled = Unrolled(self.flow)
        self.names = names(self.flow)
        self.labels = Labels(self.unrolled, self.names, variables(self.flow.times.order))
        self.fold = Folder(self.flow, self.unrolled.is_pinned, self.letter)
        self.losses = self._losses()
        self.items: dict[Node, Item] = {}
        self.block: dict[Item, Block] = {}
        self.taps: dict[Node, list[Item]] = defaultdict(list)
        self.spots: dict[Spot, dict[Block, Item]] = defaultdict(dict)
        self.runs: dict[Block, int] = {}
        self.drawn: set[tuple[Item, Item]] = set()
        self.held: dict[Block, dict[tuple[str, int], Spot]] = defaultdict(dict)  # the states of a block
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
            return {n for n in flow.terms if n.op is not None and n.shape == ()}
        return {flow.root} if flow.root.shape == () and flow.root.op is not None else set()

    def build(self) -> Picture:
        """The picture of the chosen steps."""
        self._outside(self.picture.below, self.unrolled.below)
        columns = self.unrolled.columns
        self.ends = columns[:1] + columns[-1:]
        before: Column | None = None
        for column in (*self._chosen(columns), None):
            left_out = self._between(before, column)
            if left_out:
                self._gap(left_out)
            if column is not None:
                self._column(column)
            before = column
        self._outside(self.picture.above, self.unrolled.above)
        self._link()
        self._rails()
        self._number()
        return self.picture

    def _chosen(self, columns: list[Column]) -> list[Column]:
        if self.choose is None:
            return columns
        steps = {run: set(self.choose(sorted(ts))) for run, ts in self.flow.times.steps.items()}
        chosen = [c for c in columns if c.t is None or c.t in steps[c.run]]
        if any(c.t is not None for c in columns) and not any(c.t is not None for c in chosen):
            n = max(map(len, self.flow.times.steps.values()))
            raise ValueError(f"viz.draw: steps must name some of the {n} time steps, got none of them")
        return chosen

    def _between(self, before: Column | None, after: Column | None) -> int:
        """How many steps are left out between two columns, or in front of the first or behind the last."""
        if before is not None and after is not None and before.run == after.run:
            return self.flow.times.count(before.run, before.t, after.t)
        count = self.flow.times.count
        behind = count(before.run, before.t, None) if before is not None and before.t is not None else 0
        ahead = count(after.run, None, after.t) if after is not None and after.t is not None else 0
        return behind + ahead

    # ---- blocks ---------------------------------------------------------------------------------------------------

    def _gap(self, n: int) -> None:
        k = len(self.picture.slots)
        self.picture.slots.append(Block(f"gap{k}", f"… {n:,} more\nstep{'s' * (n > 1)} …", is_gap=True))

    def _column(self, column: Column) -> None:
        key = f"between{len(self.picture.slots)}" if column.t is None else f"t{column.t + 1}"
        if column.run > 0:
            key += f"r{column.run}"
        block = Block(key, "" if column.t is None else f"t = {column.t + 1}", framed=column.t is not None)
        self.picture.slots.append(block)
        self.runs[block] = column.run
        self._fill(block, column, column.t)

    def _fill(self, block: Block, column: Column, t: int | None) -> None:
        """Put a column's nodes into a block. t: their number, if they have one"""
        groups = self._groups(column.ops)
        for leaf in column.leaves:
            self._leaf(block, leaf, column, groups, t)
        self._operations(block, column.ops, groups, t)

    def _groups(self, ops: list[Node]) -> dict[Node, Group]:
        return self.fold(ops, self.losses)

    def _outside(self, block: Block, nodes: list[Node]) -> None:
        if len(nodes) > MANY:
            item = self._add(block, nodes[-1], f"{len(nodes):,} operations", "op", "box", None)
            self.items.update(dict.fromkeys(nodes, item))
            self.crossing += [(p, item, None) for n in nodes for p in self.flow.parents(n)]
            return
        ops = [n for n in nodes if n.op is not None]
        groups = self._groups(ops)
        for node in nodes:
            if node.op is None:
                self._leaf(block, node, None, groups, None)
        self._operations(block, ops, groups, None)

    def _add(self, block: Block, node: Node, label: str, kind: str, form: str, t: int | None, tail: str = "") -> Item:
        text = (label if t is None else subscript(label, t + 1)) + tail
        item = Item(f"{block.key}.{len(block.items)}", text, kind, form, label + tail, [node])
        block.items.append(item)
        self.items[node] = item
        self.block[item] = block
        return item

    def _number(self) -> None:
        """When each block appears in a drawing that plays."""
        picture, beside = self.picture, bool(self.flow.times.beside)
        shown = [b for b in picture.slots if b.items]
        for moment, block in enumerate(shown, 1):
            block.title = block.title or "a step in between"
            block.moment = 0 if beside else moment
            for item in block.items:
                item.moment = moment
        picture.moments = [" ".join(b.title.split()) for b in shown]
        if beside:
            self._number_directions(len(shown))
        if picture.above.items and shown:
            picture.moments.append("the total")
            for item in picture.above.items:
                item.moment = len(picture.moments)

    def _number_directions(self, n: int) -> None:
        """Two directions start at both ends at once; a layer that reads both starts when they are through."""
        times, picture = self.flow.times, self.picture
        stage = times.stages(self.flow.nodes, self.flow.parents)
        heads, tails = defaultdict(list), defaultdict(list)
        inner = [(tail, head) for block in picture.slots for tail, head, _ in block.edges]
        for tail, head in [*inner, *((link.tail, link.head) for link in picture.links)]:
            heads[tail].append(head)
            tails[head].append(tail)
        loose: list[Item] = []
        for item in (i for block in picture.slots for i in block.items):
            run = times.run.get(item.nodes[-1]) if item.nodes else None
            if run is None or item.kind == "input":
                loose.append(item)
            else:
                item.moment = stage.get(run, 0) * n + (n + 1 - item.moment if run in times.back else item.moment)
        for item in loose:  # inputs come with who reads them, what lies between layers when it is there
            near = heads[item] if item.kind == "input" or not tails[item] else tails[item]
            item.moment = (min if near is heads[item] else max)((i.moment for i in near), default=item.moment)
        layers = max(stage.values(), default=0) + 1
        pairs = list(zip(picture.moments, reversed(picture.moments), strict=True))
        picture.moments = [f"{a} from the past, {b} from the future" for a, b in pairs] * layers

    # ---- inputs ---------------------------------------------------------------------------------------------------

    def _leaf(self, block: Block, node: Node, column: Column | None, groups: dict[Node, Group], t: int | None) -> None:
        read = [(r, i) for r in set(self.flow.readers[node]) for i, a in enumerate(self.flow.args[r]) if a is node]
        streams = [s for s in (self.unrolled.stream(r, i) for r, i in read) if s is not None]
        if all(self.flow.op(r) == "where" and i == 0 for r, i in read):
            return  # the mask of shorter sequences
        if streams or node in self._initial_of_one:
            self._initial(block, node, column, streams, read)
        elif all(r in groups and groups[r].head in self.losses for r, _ in read):
            self._add(block, node, "y", "output", self.round, t)
        elif all(self.flow.op(r) == "mul" and self._other(r, node).op is not None for r, _ in read):
            self._mask(block, node, t)
        else:
            used = sum(i.kind == "input" for i in block.items)
            item = self._add(block, node, self.labels.input(node) + PRIME * used, "input", self.round, t)
            if not used:
                self._name(item, t)
            if node in self.flow.slices:
                self.crossing += [(p, item, None) for p in self.flow.parents(node)]

    def _name(self, item: Item, t: int | None) -> Item:
        """Give an input the name of its token."""
        if t is not None and t < len(self.tokens):
            item.label = item.plain = self.tokens[t]
            item.shape = "pill"
        return item

    def _initial(self, block: Block, node: Node, column: Column | None, streams: list[Spot], read: list) -> None:
        """An initial state stands in front of the first step, or behind the last where time runs backwards."""
        multiplied = all(self.flow.op(r) == "mul" for r, _ in read)
        letter = self.labels.state(streams[0]) if streams else "c" if multiplied else "h"
        place = block
        if streams and streams[0] in self.unrolled.back:
            place = self.picture.finish if column is self.ends[-1] else block
        elif column is self.ends[0]:
            place = self.picture.start
        self._add(place, node, letter, "initial", "circle", -1)

    def _mask(self, block: Block, node: Node, t: int | None) -> None:
        self._add(block, node, "m", "initial", self.round, t)  # dropout's

    def _other(self, reader: Node, node: Node) -> Node:
        return next((p for p in self.flow.parents(reader) if p is not node), node)

    # ---- operations -----------------------------------------------------------------------------------------------

    def _operations(self, block: Block, ops: list[Node], groups: dict[Node, Group], t: int | None) -> None:
        path = self._memory_path(ops)
        made: list[tuple[Item, Group]] = []
        for node in ops:
            group = groups.get(node) or Group(node, {node})
            if group.head is not node:
                continue
            item = self._operation(block, node, group, node in path, t)
            item.nodes = [*sorted(group.members - {node}, key=lambda n: n.index), node]
            self.items.update(dict.fromkeys(group.members, item))
            made.append((item, group))
            for member in group.members:
                spot = self.unrolled.spot.get(member)
                if spot is not None:
                    self.spots[spot][block] = item
                if spot in self.unrolled.states:
                    self.held[block][self.labels.state(spot), self.labels.rank(spot)] = spot
        for item, group in made:
            for member in item.nodes:
                self._edges(block, item, member, group)
        self._level(block, path)
        self._rise(block)

    def _operation(self, block: Block, node: Node, group: Group, on_path: bool, t: int | None) -> Item:
        kind = self._kind(node, group, on_path)
        if kind == "loss":
            return self._loss(block, node, t)
        label, form = (self.labels.affine(group), "box") if group.terms else self.labels.operation(node)
        if self.flow.op(node) == "getitem" and label.endswith("[x]"):
            return self._name(self._add(block, node, label[:-1], "input", form, t, "]"), t)
        if kind == "gate":
            label = self.labels.gate(node, label)
        return self._add(block, node, label, kind, form, None)

    def _loss(self, block: Block, node: Node, t: int | None) -> Item:
        if node is not self.flow.root:
            others = 0 if t is not None else sum(i.kind == "loss" for i in block.items)
            return self._add(block, node, "L" + PRIME * others, "loss", self.round, t)
        if not self.flow.terms:
            return self._add(block, node, "L", "loss", self.round, None)
        scale = "" if abs(self.flow.scale) == 1 else f" / {abs(self.flow.scale):.6g}"
        sign = "−" if self.flow.scale < 0 else ""
        inside = all(n in self.losses and n in self.unrolled.column for n in self.flow.terms)
        each = "Lₜ" if inside else "Lᵢ" if all(n in self.losses for n in self.flow.terms) else "…"
        form = "box" if self.round == "circle" else "pill"
        return self._add(block, node, f"L = {sign}Σ {each}{scale}", "loss", form, None)

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

    def _edges(self, block: Block, item: Item, node: Node, group: Group) -> None:
        for i, source in enumerate(self.flow.args[node]):
            if not isinstance(source, Node) or source in group.members:
                continue
            stream = self.unrolled.stream(node, i)
            if self.fold.is_weight(source) or (source.op is None and source not in self.items):
                if not (self.flow.op(node) == "where" and i == 0):
                    self._tap(item, source, stream)
            elif self.block.get(self.items.get(source)) is block:  # type: ignore[arg-type]
                self._edge(block, self.items[source], item, source)
            else:
                self.crossing.append((source, item, stream))

    def _tap(self, item: Item, source: Node, stream: Spot | None) -> None:
        if stream is not None and item in self.block and source not in self.taps:
            self._learned_start(source, stream)
        if source in self.items:
            self.crossing.append((source, item, stream))
        else:
            self.taps[source].append(item)

    def _learned_start(self, leaf: Node, stream: Spot) -> None:
        """An initial state that is learned, or that several steps read, stands where the initial states stand."""
        if leaf in self.items:
            return
        place = self.picture.finish if stream in self.unrolled.back else self.picture.start
        if leaf in self.names:
            self._add(place, leaf, self.names[leaf], "parameter", "box", None)
        else:
            self._add(place, leaf, self.labels.state(stream), "initial", "circle", -1)

    def _edge(self, block: Block, tail: Item, head: Item, source: Node) -> None:
        kind = "flow"
        if tail.kind == "hidden":
            kind = "hidden"
        elif tail.kind == head.kind == "cell":
            kind = "cell"
        if tail is not head and (tail, head) not in self.drawn:
            self.drawn.add((tail, head))
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

    def _rise(self, block: Block) -> None:
        """Of two directions the second stands above the first."""
        runs: dict[int, list[Item]] = defaultdict(list)
        for item in block.items:
            run = self.flow.times.run.get(item.nodes[-1])
            if run is not None and item.kind != "input":
                runs[run].append(item)
        for a, b in self.flow.times.beside:
            ends = {t for t, h, _ in block.edges if t in runs[a] and h in runs[a]}
            starts = {h for t, h, _ in block.edges if t in runs[b] and h in runs[b]}
            block.leftward |= set(runs[b])
            block.rising += [(i, k) for i in runs[a] if i not in ends for k in runs[b] if k not in starts]

    # ---- between blocks -------------------------------------------------------------------------------------------

    def _link(self) -> None:
        hidden: dict[Block, list[Entry]] = defaultdict(list)
        for source, head, stream in self.crossing:
            tail = self.items.get(source) if stream is not None else self._drawn_for(source)
            if tail is not None:
                if tail is not head:
                    self._connect(tail, head, stream, source)
            elif stream is not None:
                hidden[self.block[head]].append(Entry(stream, head, self._apart(source, head)))
        self._fill_gaps(hidden)

    def _apart(self, source: Node, head: Item) -> int:
        """How many steps there are from a state to who reads it."""
        a, b = self.flow.place.get(source), self.flow.place.get(head.nodes[-1])
        return 1 if a is None or b is None or a[0] != b[0] else max(abs(a[1] - b[1]), 1)

    def _drawn_for(self, source: Node) -> Item | None:
        """What stands for a value, if it is drawn."""
        return self.items.get(source)

    def _fill_gaps(self, hidden: dict[Block, list[Entry]]) -> None:
        """Lead the states through the gaps. hidden: what each block reads of columns that are not drawn"""
        slots = self.picture.slots
        for k, gap in enumerate(slots):
            if gap.is_gap:
                sides = [slots[i] if 0 <= i < len(slots) else None for i in (k - 1, k + 1)]
                self._open_ends(gap, *sides)
                for entries in (hidden.get(side, ()) for side in sides if side is not None):
                    for back in (False, True):
                        before, after = sides[::-1] if back else sides
                        mine = [e for e in entries if (e.stream in self.unrolled.back) == back]
                        self._through(gap, before, [e for e in mine if e.head and self.block[e.head] is after])

    def _connect(self, tail: Item, head: Item, stream: Spot | None, source: Node) -> None:
        kind = "flow"
        if stream is not None:
            kind = self.unrolled.states[stream] + " over time"
        elif tail.kind == "initial":
            kind = "cell over time" if tail.plain == "c" else "hidden over time"
        elif tail.kind == "loss":
            kind = "loss"
        elif tail.kind == "hidden":
            kind = "hidden"
        self._put(Link(tail, head, kind), stream)

    def _put(self, link: Link, stream: Spot | None) -> None:
        """Draw an edge between blocks, once."""
        if not any(other.tail is link.tail and other.head is link.head for other in self.picture.links[-8:]):
            self.picture.links.append(link)

    def _open_ends(self, gap: Block, left: Block | None, right: Block | None) -> None:
        """States that go on behind what is drawn run into dots."""
        for side, other, back in ((left, right, False), (right, left, True)):
            if side is None or (other is not None and not other.is_gap and self.runs.get(side) == self.runs.get(other)):
                continue
            for stream in self.held[side].values():
                if (stream in self.unrolled.back) == back:
                    self._through(gap, side, [Entry(stream, None)])

    def _through(self, gap: Block, before: Block | None, entries: list[Entry]) -> None:
        """The states run into dots, and out of them."""
        dots: dict[Item | Spot, Item] = {}
        for entry in entries:
            name, kind = self._dots(entry), self.unrolled.states[entry.stream]
            item = dots.get(name)
            if item is None:
                item = dots[name] = Item(f"{gap.key}.{len(gap.items)}", "· · ·", f"{kind} dots", "text", "· · ·")
                gap.items.append(item)
                self.block[item] = gap
            tail = self._holder(entry.stream, before) if before is not None else None
            if tail is not None:
                self._put(Link(tail, item, kind + " over time"), entry.stream)
            if entry.head is not None:
                self._put(Link(item, entry.head, kind + " over time"), entry.stream)

    def _holder(self, stream: Spot, block: Block) -> Item | None:
        """What holds a state in a block; in one of another kind, such as with masks, the state of the same name."""
        spot = stream if block in self.spots[stream] else None
        if spot is None:
            spot = self.held[block].get((self.labels.state(stream), self.labels.rank(stream)))
        return None if spot is None else self.spots[spot].get(block)

    def _dots(self, entry: Entry) -> Item | Spot:
        """The states that share their dots are those for which this is the same."""
        return entry.stream

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
            self.picture.rails.append(Rail(Item(f"p{k}", label, kind, "box", label, leaves), readers))

    def _describe(self, leaf: Node) -> str:
        name = self.names.get(leaf) or self.labels.input(leaf)
        return f"{name}  {shape(leaf)}" if leaf.shape else name
