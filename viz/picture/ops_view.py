"""From the unrolled graph to the blocks of the drawing, for the steps that are drawn."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence

from tinygrad_rnn.autograd.graph import Node
from viz.picture.groups import Group
from viz.picture.labels import shape
from viz.picture.links import Links
from viz.picture.moments import number
from viz.picture.picture import Block, Item, Picture, Rail
from viz.read.columns import Column
from viz.read.memory import memory_path
from viz.read.positions import Position
from viz.read.root import OUTPUT, OUTPUTS
from viz.style import PRIME

MANY = 600  # operations outside of time, beyond which they are drawn as one


class OpsView(Links):
    """Makes a picture of a graph, operation by operation."""

    def build(self) -> Picture:
        """The picture of the chosen steps."""
        self._outside(self.picture.below, self.states.below)
        columns = self.states.columns
        self.ends = columns[:1] + columns[-1:]
        self._check_tokens(columns)
        before: Column | None = None
        for column in (*self._chosen(columns), None):
            left_out = self._between(before, column)
            if left_out:
                self._gap(left_out)
            if column is not None:
                self._column(column)
            before = column
        self._outside(self.picture.above, self.states.above)
        self._link()
        self._rails()
        self._number()
        return self.picture

    def _check_tokens(self, columns: list[Column]) -> None:
        """ValueError for more names than there are steps. Fills `sequences`: the runs that have their own columns."""
        self.sequences = sorted({c.run for c in columns if c.t is not None})
        steps = [self.flow.runs.steps[run] for run in self.sequences]
        lengths = [max(each) - min(each) + 1 for each in steps]
        check_names(self.tokens, lengths)
        check_names([self.targets], lengths[-1:], "targets")

    def _chosen(self, columns: list[Column]) -> list[Column]:
        if self.choose is None:
            return columns
        steps = {run: set(self.choose(sorted(ts))) for run, ts in self.flow.runs.steps.items()}
        chosen = [c for c in columns if c.t is None or c.t in steps[c.run]]
        if any(c.t is not None for c in columns) and not any(c.t is not None for c in chosen):
            n = max(map(len, self.flow.runs.steps.values()))
            raise ValueError(f"viz.draw: steps must name some of the {n} time steps, got none of them")
        return chosen

    def _between(self, before: Column | None, after: Column | None) -> int:
        """How many steps are left out between two columns, or in front of the first or behind the last."""
        if before is not None and after is not None and before.run == after.run:
            return self.flow.runs.count(before.run, before.t, after.t)
        count = self.flow.runs.count
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
        self.run_of[block] = column.run
        self._fill(block, column, column.t)
        if self.targets and column.t is not None and column.run == self.sequences[-1]:
            self._say(block, column, column.t)

    def _fill(self, block: Block, column: Column, t: int | None) -> None:
        """Put a column's nodes into a block. t: their number, if they have one"""
        groups = self._groups(column.ops)
        for leaf in column.leaves:
            self._leaf(block, leaf, column, groups, t)
        self._operations(block, column.ops, groups, t)

    def _groups(self, ops: list[Node]) -> dict[Node, Group]:
        return self.groups(ops, self.losses)

    def _outside(self, block: Block, nodes: list[Node]) -> None:
        nodes = [n for n in nodes if n.op is not OUTPUTS]
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

    def _number(self) -> None:
        """When each block appears in a drawing that plays."""
        number(self.picture, self.flow)

    # ---- inputs ---------------------------------------------------------------------------------------------------

    def _leaf(self, block: Block, node: Node, column: Column | None, groups: dict[Node, Group], t: int | None) -> None:
        mine = lambda r: node not in self.flow.handed or self.states.column.get(r) == self.states.column[node]
        read = [(r, i) for r in set(self.flow.readers[node]) if mine(r)
                for i, a in enumerate(self.flow.args[r]) if a is node]  # fmt: skip
        streams = [s for s in (self.states.stream(r, i) for r, i in read) if s is not None]
        if all(self.flow.op(r) == "where" and i == 0 for r, i in read):
            return  # the mask of shorter sequences
        if node in self.fixed:
            return
        if streams or self._is_first(node, column):
            self._initial(block, node, column, streams, read)
        elif all(r in groups and groups[r].head in self.losses for r, _ in read):
            self._add(block, node, "y", "output", self.round, t)
        elif node in self.still:
            self._constant(block, node)
        elif all(self._is_scaled(r, node) for r, _ in read):
            self._mask(block, node, t)
        else:
            inputs, label = [i for i in block.items if i.kind == "input"], self.labels.input(node)
            again = sum(i.plain.rstrip(PRIME) == label for i in inputs)
            item = self._add(block, node, label + PRIME * again, "input", self.round, t)
            if not inputs:
                self._name(block, item, t)
            self._hold(block, node, item)
            if node in self.flow.slices:
                self.crossing += [(p, item, None) for p in self.flow.parents(node)]

    def _is_first(self, node: Node, column: Column | None) -> bool:
        """Is it a state that the first step is given, as its code says, or a step outside of time?"""
        known = node in self.code.old and node not in self.flow.handed
        return known and (column is None or column in self.ends)

    def _name(self, block: Block, item: Item, t: int | None) -> Item:
        """Give an input the name of its token."""
        token = None if t is None else self._token(block, t)
        if token is not None:
            item.label = item.plain = token
            item.shape = "pill"
        return item

    def _token(self, block: Block, t: int) -> str | None:
        """What the step of a block reads, if it has a name."""
        run = self.run_of[block]
        number = self.sequences.index(run)
        names = self.tokens[number] if number < len(self.tokens) else ()
        k = t - min(self.flow.runs.steps[run])
        return names[k] if k < len(names) else None

    def _say(self, block: Block, column: Column, t: int) -> None:
        """What a step says stands above what it is read from."""
        k = t - min(self.flow.runs.steps[column.run])
        said = [n for n in column.ops if n not in self.losses and self._is_said(n, column)]
        if k < len(self.targets) and said:
            tail = self.items[max(said, key=lambda n: n.index)]
            item = self._add(block, said[-1], self.targets[k], "output", "pill", None)
            self.items[said[-1]] = tail
            block.edges.append((tail, item, "hidden" if tail.kind == "hidden" else "flow"))

    def _is_said(self, node: Node, column: Column) -> bool:
        """Is it read by a loss, or outside of time?"""
        own = self.items.get(node)
        heads = [self.items.get(r) for r in self.flow.readers[node]]
        if own is None or (own.kind == "loss"):
            return False
        out = any(r not in self.states.column for r in self.flow.readers[node])
        return out or any(head is not None and head.kind == "loss" for head in heads)

    def _initial(self, block: Block, node: Node, column: Column | None, streams: list[Position], read: list) -> None:
        """An initial state stands in front of the first step, or behind the last where time runs backwards. A part of
        what was computed before, as a layer's of a bridge, is that.
        """
        whole = self.flow.parents(node) if node in self.flow.slices else []
        if whole:
            self.parts[node] = whole[0]
            return
        multiplied = all(self.flow.op(r) == "mul" for r, _ in read)
        carried = [(s, r, i) for r, i in read if (s := self.states.stream(r, i)) is not None]
        letter = self.labels.state(*carried[0]) if carried else self.code.old.get(node, "")
        letter = letter or ("c" if multiplied else "h")
        back = bool(streams) and streams[0] in self.states.back
        place = self._beside(block, column, back) if column is not None else block
        ago = max((self.states.apart.get((self.states.position[r], i), 1) for r, i in read if streams), default=1)
        self._add(place, node, letter, "initial", "circle", None if column is None else -ago)

    def _beside(self, block: Block, column: Column, back: bool) -> Block:
        """Where the first states of a column stand: in front of it, or behind it where time runs backwards."""
        if column is self.ends[-1 if back else 0]:
            return self.picture.finish if back else self.picture.start
        if (block, back) not in self.starts:
            made = self.starts[block, back] = Block(f"{block.key}.{'finish' if back else 'start'}", "", is_start=True)
            made.framed = False
            self.picture.slots.insert(self.picture.slots.index(block) + back, made)
        return self.starts[block, back]

    def _mask(self, block: Block, node: Node, t: int | None) -> None:
        name = self.labels.input(node, "m")  # dropout's
        again = sum(i.plain.rstrip(PRIME) == name for i in block.items if i.kind == "initial")
        self._add(block, node, name + PRIME * again, "initial", self.round, t)

    def _constant(self, block: Block, node: Node) -> None:
        self._add(block, node, self.labels.input(node, "const"), "initial", self.round, None)

    def _is_scaled(self, reader: Node, node: Node) -> bool:
        """Does a constant scale what is computed, or a state?"""
        others = [(i, a) for i, a in enumerate(self.flow.args[reader]) if isinstance(a, Node) and a is not node]
        made = (a.op is not None or self.states.stream(reader, i) is not None for i, a in others)
        return self.flow.op(reader) == "mul" and any(made)

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
                self._hold(block, member, item)
        for item, group in made:
            for member in item.nodes:
                self._edges(block, item, member, group)
        self._level(block, path)
        self._rise(block)

    def _hold(self, block: Block, node: Node, item: Item) -> None:
        """Note what stands for a value, which may be a state."""
        position = self.states.position.get(node)
        if position is not None:
            self.items_at[position][block] = item
        if position in self.states.kind:
            self.held[block][self.labels.state(position), self.labels.rank(position)] = position

    def _operation(self, block: Block, node: Node, group: Group, on_path: bool, t: int | None) -> Item:
        kind = self._kind(node, group, on_path)
        if kind == "loss":
            return self._loss(block, node, t)
        if node.op is OUTPUT:
            others = sum(n.op is OUTPUT for n in self.items if self.block[self.items[n]] is block)
            return self._add(block, node, "y" + PRIME * others, "output", self.round, t)
        label, form = (self.labels.affine(group), "box") if group.terms else self.labels.operation(node)
        if self.flow.op(node) == "getitem" and label.endswith("[x]"):
            return self._name(block, self._add(block, node, label[:-1], "input", form, t, "]"), t)
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
        inside = all(n in self.losses and n in self.states.column for n in self.flow.terms)
        each = "Lₜ" if inside else "Lᵢ" if all(n in self.losses for n in self.flow.terms) else "…"
        form = "box" if self.round == "circle" else "pill"
        return self._add(block, node, f"L = {sign}Σ {each}{scale}", "loss", form, None)

    def _kind(self, node: Node, group: Group, on_path: bool) -> str:
        state = self.states.state(node)
        if node in self.losses or (node is self.flow.root and self.flow.terms):
            return "loss"
        if state or on_path:
            return state or "cell"
        if node is self.flow.root:
            return "output"
        affine = any(self._is_sum(p) for p in self.flow.parents(node))
        return "gate" if self.labels.is_gate(node, affine) else "op"

    def _is_sum(self, node: Node) -> bool:
        if self.flow.op(node) not in ("add", "matmul") or self.states.state(node):
            return False
        return not any(self._reads_memory(p) for p in self.flow.parents(node))

    def _reads_memory(self, node: Node) -> bool:
        streams = [self.states.stream(node, i) for i in range(len(self.flow.args[node]))]
        return any(s is not None and self.states.kind[s] == "cell" for s in streams)

    def _edges(self, block: Block, item: Item, node: Node, group: Group) -> None:
        for i, source in enumerate(self.flow.args[node]):
            if not isinstance(source, Node) or source in group.members:
                continue
            stream = self.states.stream(node, i)
            if source in self.parts:
                source = self.parts[source]
            known = source in self.items or source in self.flow.handed
            if self.groups.is_weight(source) or (source.op is None and not known):
                if not (self.flow.op(node) == "where" and i == 0):
                    self._tap(item, source, stream)
            elif self.block.get(self.items.get(source)) is block:  # type: ignore[arg-type]
                self._edge(block, self.items[source], item, "said" if source is self.flow.said(node) else "flow")
            else:
                self.crossing.append((source, item, stream))

    def _tap(self, item: Item, source: Node, stream: Position | None) -> None:
        source = self.fixed.get(source, source)
        if stream is not None and item in self.block and source not in self.taps:
            self._learned_start(source, stream)
        if source in self.items:
            self.crossing.append((source, item, stream))
        else:
            self.taps[source].append(item)

    def _learned_start(self, leaf: Node, stream: Position) -> None:
        """An initial state that is learned, or that several steps read, stands where the initial states stand."""
        if leaf in self.items:
            return
        place = self.picture.finish if stream in self.states.back else self.picture.start
        if leaf in self.names:
            self._add(place, leaf, self.names[leaf], "parameter", "box", None)
        else:
            self._add(place, leaf, self.labels.state(stream), "initial", "circle", -1)

    def _edge(self, block: Block, tail: Item, head: Item, kind: str) -> None:
        if tail.kind == "hidden" and kind == "flow":
            kind = "hidden"
        elif tail.kind == head.kind == "cell":
            kind = "cell"
        if tail is not head and (tail, head) not in self.drawn:
            self.drawn.add((tail, head))
            block.edges.append((tail, head, kind))

    # ---- rows -----------------------------------------------------------------------------------------------------

    def _memory_path(self, ops: list[Node]) -> set[Node]:
        return memory_path(self.states, ops)

    def _level(self, block: Block, path: set[Node]) -> None:
        """A memory runs straight through its step, and gates of the same operands stand side by side."""
        ends = {self.items[n] for n in path}
        along = [(a, b) for a, b, _ in block.edges if a in ends and b in ends]
        ways = Counter(b for _, b in along)
        pairs = [[a, b] for a, b in along] if max(ways.values(), default=1) == 1 else []  # those that mix go upwards
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
            run = self.flow.runs.of.get(item.nodes[-1])
            if run is not None and item.kind != "input":
                runs[run].append(item)
        for a, b in self.flow.runs.beside:
            ends = {t for t, h, _ in block.edges if t in runs[a] and h in runs[a]}
            starts = {h for t, h, _ in block.edges if t in runs[b] and h in runs[b]}
            block.leftward |= set(runs[b])
            block.rising += [(i, k) for i in runs[a] if i not in ends for k in runs[b] if k not in starts]

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
        name = self.names.get(leaf) or self.labels.input(leaf, "const" if leaf in self.code.within else "x")
        return f"{name}  {shape(leaf)}" if leaf.shape else name


def check_names(lists: Sequence[Sequence[str]], most: Sequence[int], what: str = "tokens") -> None:
    """ValueError for names of more sequences, or of more steps, than there are. most: the steps of each sequence"""
    if len(lists) > len(most) and any(lists):
        raise ValueError(f"viz.draw: {what} must be for {len(most)} sequences over time, got {len(lists)} lists")
    for names, n in zip(lists, most, strict=False):
        if len(names) > n:
            raise ValueError(f"viz.draw: {what} must be at most {n}, one for each time step, got {len(names)}")
