"""The view of operations: each is a node, an affine map is one."""

from __future__ import annotations

from collections import Counter, defaultdict

from tinygrad_rnn.autograd.graph import Node
from viz.picture.draft import Crossing, Draft
from viz.picture.groups import Group
from viz.picture.inputs import Inputs, Starts
from viz.picture.labels import shape
from viz.picture.picture import Block, Item, Rail
from viz.picture.tokens import Tokens
from viz.read.columns import Column
from viz.read.memory import memory_path
from viz.read.root import OUTPUT, OUTPUTS
from viz.style import PRIME

MANY = 600  # operations outside of time, beyond which they are drawn as one


class OpsView:
    """Fills blocks, operation by operation. first: what is done with first states"""

    def __init__(self, draft: Draft, first: Starts, tokens: Tokens):
        self.draft, self.first, self.subject = draft, first, draft.subject
        self.flow, self.states, self.labels = draft.subject.flow, draft.subject.states, draft.subject.labels
        self.inputs = Inputs(draft, first, tokens)

    def fill(self, block: Block, column: Column, t: int | None) -> None:
        """Put a column's nodes into a block. t: their number, if they have one"""
        groups = self._groups(column.ops)
        for leaf in column.leaves:
            self.inputs.add(block, leaf, column, groups, t)
        self._operations(block, column.ops, groups, t)

    def _groups(self, ops: list[Node]) -> dict[Node, Group]:
        return self.subject.groups(ops, self.subject.losses)

    def outside(self, block: Block, nodes: list[Node]) -> None:
        nodes = [n for n in nodes if n.op is not OUTPUTS]
        if len(nodes) > MANY:
            item = self.draft.add(block, nodes[-1], f"{len(nodes):,} operations", "op", "box", None)
            self.draft.items.update(dict.fromkeys(nodes, item))
            flows = self.subject.reached.flows
            self.draft.crossing += [Crossing(p, item, None, flows(n, p)) for n in nodes for p in self.flow.parents(n)]
            return
        ops = [n for n in nodes if n.op is not None]
        groups = self._groups(ops)
        for node in nodes:
            if node.op is None:
                self.inputs.add(block, node, None, groups, None)
        self._operations(block, ops, groups, None)

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
            self.draft.items.update(dict.fromkeys(group.members, item))
            made.append((item, group))
            for member in group.members:
                self.draft.hold(block, member, item)
        for item, group in made:
            for member in item.nodes:
                self._edges(block, item, member, group)
        self._level(block, path)
        self._rise(block)

    def _operation(self, block: Block, node: Node, group: Group, on_path: bool, t: int | None) -> Item:
        kind = self._kind(node, group, on_path)
        if kind == "loss":
            return self._loss(block, node, t)
        if node.op is OUTPUT:
            others = sum(n.op is OUTPUT for n in self.draft.items if self.draft.block[self.draft.items[n]] is block)
            return self.draft.add(block, node, "y" + PRIME * others, "output", self.draft.round, t)
        label, form = (self.labels.affine(group), "box") if group.terms else self.labels.operation(node)
        if self.flow.op(node) == "getitem" and label.endswith("[x]"):
            item = self.draft.add(block, node, label[:-1], "input", form, t, "]")
            return self.inputs.name(block, item, t if t is None else t + self._is_next(node))
        if kind == "gate":
            label = self.labels.gate(node, label)
        return self.draft.add(block, node, label, kind, form, None)

    def _is_next(self, node: Node) -> bool:
        """Does it look up what its own step says? The next step reads it."""
        said = self.flow.said(node)
        return said is not None and self.states.column.get(said) == self.states.column.get(node)

    def _loss(self, block: Block, node: Node, t: int | None) -> Item:
        if node is not self.flow.root:
            others = 0 if t is not None else sum(i.kind == "loss" for i in block.items)
            return self.draft.add(block, node, "L" + PRIME * others, "loss", self.draft.round, t)
        if not self.flow.terms:
            return self.draft.add(block, node, "L", "loss", self.draft.round, None)
        scale = "" if abs(self.flow.scale) == 1 else f" / {abs(self.flow.scale):.6g}"
        sign = "−" if self.flow.scale < 0 else ""
        inside = all(n in self.subject.losses and n in self.states.column for n in self.flow.terms)
        each = "Lₜ" if inside else "Lᵢ" if all(n in self.subject.losses for n in self.flow.terms) else "…"
        form = "box" if self.draft.round == "circle" else "pill"
        return self.draft.add(block, node, f"L = {sign}Σ {each}{scale}", "loss", form, None)

    def _kind(self, node: Node, group: Group, on_path: bool) -> str:
        state = self.states.kind_of(node)
        if node in self.subject.losses or (node is self.flow.root and self.flow.terms):
            return "loss"
        if state or on_path:
            return state or "cell"
        if node is self.flow.root:
            return "output"
        affine = any(self._is_sum(p) for p in self.flow.parents(node))
        return "gate" if self.labels.is_gate(node, affine) else "op"

    def _is_sum(self, node: Node) -> bool:
        if self.flow.op(node) not in ("add", "matmul") or self.states.kind_of(node):
            return False
        return not any(self._reads_memory(p) for p in self.flow.parents(node))

    def _reads_memory(self, node: Node) -> bool:
        states = [self.states.read_by(node, i) for i in range(len(self.flow.args[node]))]
        return any(s is not None and self.states.kind[s] == "cell" for s in states)

    def _edges(self, block: Block, item: Item, node: Node, group: Group) -> None:
        for i, source in enumerate(self.flow.args[node]):
            if not isinstance(source, Node) or source in group.members:
                continue
            state, flows = self.states.read_by(node, i), self.subject.reached.flows(node, source)
            if source in self.draft.parts:
                source = self.draft.parts[source]
            known = source in self.draft.items or source in self.flow.handed
            if self.subject.groups.is_weight(source) or (source.op is None and not known):
                if not (self.flow.op(node) == "where" and i == 0):
                    self.first.tap(item, source, state, flows)
            elif self.draft.block.get(self.draft.items.get(source)) is block:  # type: ignore[arg-type]
                kind = "said" if source is self.flow.said(node) else "flow"
                self.draft.edge(block, self.draft.items[source], item, kind, flows)
            else:
                self.draft.crossing.append(Crossing(source, item, state, flows))

    # ---- rows -----------------------------------------------------------------------------------------------------

    def _memory_path(self, ops: list[Node]) -> set[Node]:
        return memory_path(self.states, ops)

    def _level(self, block: Block, path: set[Node]) -> None:
        """A memory runs straight through its step, and gates of the same operands stand side by side."""
        ends = {self.draft.items[n] for n in path}
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

    def finish(self) -> None:
        """Parameters with the same readers share a box and a rail."""
        together: dict[frozenset, list[Node]] = defaultdict(list)
        for leaf, readers in self.draft.taps.items():
            together[frozenset([*readers, leaf in self.subject.names])].append(leaf)
        for k, leaves in enumerate(together.values()):
            kind = "parameter" if leaves[0] in self.subject.names else "input"
            label = "\n".join([self._describe(leaf) for leaf in leaves])
            readers = list(dict.fromkeys(self.draft.taps[leaves[0]]))
            flows = {item for leaf, item in self.draft.tapped if leaf in leaves}
            self.draft.picture.rails.append(Rail(Item(f"p{k}", label, kind, "box", label, leaves), readers, flows))

    def _describe(self, leaf: Node) -> str:
        default = "const" if leaf in self.subject.code.within else "x"
        name = self.subject.names.get(leaf) or self.labels.input(leaf, default)
        return f"{name}  {shape(leaf)}" if leaf.shape else name
