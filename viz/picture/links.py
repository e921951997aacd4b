"""The edges between the blocks of a picture: states from step to step, and through what is left out."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

from tinygrad_rnn.autograd.graph import Node
from viz.picture.draft import Draft
from viz.picture.picture import Block, Item, Link
from viz.read.positions import Position


@dataclass(eq=False)
class Entry:
    """A state that comes from a column that is not drawn; None reads it, where it goes on behind what is drawn.

    apart: time steps  flows: does a gradient come back?  source: what it is in that column, if it is known
    """

    state: Position
    head: Item | None
    apart: int = 1
    name: str = ""
    flows: bool = True
    source: Node | None = None


class Links:
    """Connects what stands in different blocks."""

    def __init__(self, draft: Draft):
        self.draft, self.subject = draft, draft.subject
        self.flow, self.states, self.labels = draft.subject.flow, draft.subject.states, draft.subject.labels

    def add(self) -> None:
        """All edges between blocks, when all blocks are filled."""
        hidden: dict[Block, list[Entry]] = defaultdict(list)
        for source, head, state, flows in self.draft.crossing:
            tail = self.draft.items.get(source)
            if tail is not None:
                if tail is not head:
                    self.connect(tail, head, state, source, flows)
            elif state is not None:
                name = self.name_of(state, source, head)
                entry = Entry(state, head, self._apart(source, head), name, flows, source)
                hidden[self.draft.block[head]].append(entry)
        self._fill_gaps(hidden)

    def _apart(self, source: Node, head: Item) -> int:
        """How many steps there are from a state to who reads it."""
        a, b = self.flow.place.get(source), self.flow.place.get(head.nodes[-1])
        return 1 if a is None or b is None or a[0] != b[0] else max(abs(a[1] - b[1]), 1)

    def name_of(self, state: Position, source: Node, head: Item) -> str:
        """What a state is called where it is read."""
        read = [(n, i) for n in head.nodes for i, a in enumerate(self.flow.args.get(n, ()))
                if self.draft.parts.get(a, a) is source and self.states.read_by(n, i) == state]  # fmt: skip
        return self.labels.state(state, *next(iter(read), (None, 0)))

    def _fill_gaps(self, hidden: dict[Block, list[Entry]]) -> None:
        """Lead the states through the gaps. hidden: what each block reads of columns that are not drawn"""
        slots = self.draft.picture.slots
        for k, gap in enumerate(slots):
            if gap.is_gap:
                sides = [slots[i] if 0 <= i < len(slots) else None for i in (k - 1, k + 1)]
                self._open_ends(gap, *sides)
                for entries in (hidden.get(side, ()) for side in sides if side is not None):
                    for back in (False, True):
                        before, after = sides[::-1] if back else sides
                        mine = [e for e in entries if (e.state in self.states.back) == back]
                        self._through(gap, before, [e for e in mine if e.head and self.draft.block[e.head] is after])

    def connect(self, tail: Item, head: Item, state: Position | None, source: Node, flows: bool) -> None:
        """An edge from what stands for a value to who reads it. flows: does a gradient come back?"""
        kind = "flow"
        if state is not None:
            kind = self.states.kind[state] + " over time"
        elif any(self.flow.said(node) is source for node in head.nodes):
            kind = "said"
        elif tail.kind == "initial":
            kind = "cell over time" if tail.plain == "c" else "hidden over time"
        elif tail.kind == "loss":
            kind = "loss"
        elif tail.kind == "hidden":
            kind = "hidden"
        if kind.startswith("said"):
            tail = self.draft.word(tail, head)
        self.put(Link(tail, head, kind, flows=flows), "" if state is None else self.name_of(state, source, head))

    def put(self, link: Link, name: str) -> None:
        """Draw an edge between blocks, once; between boxes once for each state that it carries."""
        links = self.draft.picture.links
        same = [k for k in links[-8:] if k.tail is link.tail and k.head is link.head]
        if self.draft.in_boxes and link.kind.endswith("over time") and name:
            link.name = name
            same = [k for k in same if k.name == name]
        if not same:
            links.append(link)
        for other in same:
            other.flows |= link.flows

    def _open_ends(self, gap: Block, left: Block | None, right: Block | None) -> None:
        """States that go on behind what is drawn run into dots."""
        for side, other, back in ((left, right, False), (right, left, True)):
            if side is None or (
                other is not None and not other.is_gap and self.draft.run_of.get(side) == self.draft.run_of.get(other)
            ):
                continue
            for state in self.draft.held[side].values():
                if (state in self.states.back) == back:
                    name, flows = self.labels.state(state), self._is_reached(state, self.draft.items_at[state][side])
                    self._through(gap, side, [Entry(state, None, name=name, flows=flows)])

    def _is_reached(self, state: Position, item: Item) -> bool:
        """Does a gradient come to a state that an item holds?"""
        return any(n in self.subject.reached for n in item.nodes if self.states.position.get(n) == state)

    def _through(self, gap: Block, before: Block | None, entries: list[Entry]) -> None:
        """The states run into dots, and out of them."""
        dots: dict[Item | Position, Item] = {}
        for entry in entries:
            name, kind = self._dots(entry), self.states.kind[entry.state]
            item = dots.get(name)
            if item is None:
                item = dots[name] = Item(f"{gap.key}.{len(gap.items)}", "· · ·", f"{kind} dots", "text", "· · ·")
                gap.items.append(item)
                self.draft.block[item] = gap
            tail = self.holder(entry.state, before) if before is not None else None
            if tail is not None:
                self.put(Link(tail, item, kind + " over time", flows=entry.flows), entry.name)
            if entry.head is not None:
                self.put(Link(item, entry.head, kind + " over time", flows=entry.flows), entry.name)
            if entry.source is not None and entry.source not in item.states:
                item.states.append(entry.source)

    def holder(self, state: Position, block: Block) -> Item | None:
        """What holds a state in a block; in one of another kind, such as with masks, the state of the same name."""
        position = state if block in self.draft.items_at[state] else None
        if position is None:
            position = self.draft.held[block].get((self.labels.state(state), self.labels.rank(state)))
        return None if position is None else self.draft.items_at[position].get(block)

    def _dots(self, entry: Entry) -> Item | Position:
        """The states that share their dots are those for which this is the same: in boxes all those of a cell."""
        if not self.draft.in_boxes:
            return entry.state
        return next(iter(self.draft.items_at[entry.state].values())) if entry.head is None else entry.head
