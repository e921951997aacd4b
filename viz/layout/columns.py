"""Everything in its place: blocks are stamped side by side, and the lines between them are routed.

dot sees one block at a time, so the work is linear in the number of steps; a shared parameter as one node with an
edge to every step would take it minutes at fifty steps.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Iterable, Mapping
from dataclasses import replace

from viz.graphviz.dot import Point
from viz.layout.layout import Edge, Layout
from viz.layout.routes import Tracks, line
from viz.layout.step_template import Box, Curve, Needs, Template, lay_out, moved
from viz.picture.picture import Block, Item, Link, Loop, Picture

LANE = 7.0  # between lines side by side
Room = tuple[float, float, float]
Rooms = Callable[[Picture, Mapping[Item, Box]], Mapping[Block, Room]]


class Composer:
    """Lays out a picture.

    turned: for one that will be turned, so that time runs down; the nodes are not turned
    rooms: tells what is needed at the left, at the right and above a block for loops, by the sizes of their names
    """

    def __init__(self, picture: Picture, *, turned: bool = False, rooms: Rooms = lambda picture, size: {}):
        self.picture, self.result, self.turned, self._rooms = picture, Layout(), turned, rooms
        ends = picture.start, picture.finish
        self.slots = [b for b in (ends[0], *picture.slots, ends[1]) if b.items or b not in ends]
        self.slot = {item: k for k, block in enumerate(self.slots) for item in block.items}
        self.number = {item: i for block in picture.blocks() for i, item in enumerate(block.items)}
        self.block = {item: block for block in picture.blocks() for item in block.items}

    def compose(self) -> Layout:
        """The drawing, parameters excepted."""
        self._measure()
        self._templates()
        self._loose()
        self.sideways = [k for k in self.picture.links if k.tail in self.slot and k.head in self.slot]
        self.met = {k.head for k in self.sideways if self._side_in(k) < 0}  # by what comes from the right
        self._tracks()
        self._columns()
        self._outside()
        self._inner_edges()
        for link in self.sideways:
            self._sideways(link)
        self._upright()
        return self.result

    def _is_loose(self, block: Block) -> bool:
        """Is it laid out without a template: first states, or dots?"""
        return block.is_gap or block.is_start or block in (self.picture.start, self.picture.finish)

    # ---- templates ------------------------------------------------------------------------------------------------

    def _needs(self) -> dict[Block, Needs]:
        needs: dict[Block, Needs] = defaultdict(Needs)
        for link in self.picture.links:
            self._need(needs, link)
        for loop in self.picture.loops:
            self._need_loop(needs, loop)
        for rail in self.picture.rails:
            for reader in rail.readers:
                needs[self.block[reader]].taps[self.number[reader]] += 1
        for item in self.number:
            if item.tall:
                needs[self.block[item]].tall[self.number[item]] = item.tall
        for each in needs.values():
            each.taps = Counter(each.taps)
        return needs

    def _need(self, needs: dict[Block, Needs], link: Link) -> None:
        tail, head, a, b = self.block[link.tail], self.block[link.head], self.number[link.tail], self.number[link.head]
        if head is self.picture.above:
            needs[tail].up.add(a)
            needs[head].down.add(b)
        elif tail is self.picture.below:
            needs[tail].up.add(a)
            if link.kind.endswith("over time"):
                (needs[head].right if link.head in head.leftward else needs[head].left).add(b)
        elif self.slot[link.tail] <= self.slot[link.head]:
            needs[tail].right.add(a)
            needs[head].left.add(b)
        else:
            needs[tail].left.add(a)
            needs[head].right.add(b)

    def _need_loop(self, needs: dict[Block, Needs], loop: Loop) -> None:
        for item in [] if loop.is_round else [loop.tail, *loop.heads]:
            if item in self.block:
                needs[self.block[item]].loops[self.number[item]] += 1
        for start in loop.starts:
            if self.block[start] is self.picture.below:
                needs[self.picture.below].up.add(self.number[start])

    def _templates(self) -> None:
        """One template for all blocks with the same signature."""
        needs, alike = self._needs(), defaultdict(list)
        for block in self.picture.blocks():
            if block.items and not self._is_loose(block):
                alike[block.signature()].append(block)
        self.template: dict[Block, Template] = {}
        for blocks in alike.values():
            together = Needs()
            for block in blocks:
                together.add(needs[block])
            labels = [max(same, key=len) for same in zip(*[[i.label for i in b.items] for b in blocks], strict=True)]
            title = max((b.title for b in blocks), key=len)
            sizes = None
            if self.turned:
                known = self._sizes(zip(labels, blocks[0].items, strict=True))
                sizes = [_as_tall(known[label, item.shape], together.tall.get(i, 0.0))
                         for i, (label, item) in enumerate(zip(labels, blocks[0].items, strict=True))]  # fmt: skip
            template = lay_out(blocks[0], labels, title, together, self.ranksep, sizes)
            self.template.update(dict.fromkeys(blocks, template))

    def _measure(self) -> None:
        """The sizes of what stands in no template: initial states, dots, parameters, names of delays."""
        self.titles = {b: Item(b.key, b.title, "", "text") for b in self.slots if self._is_loose(b) and b.title}
        items = [i for b in self.slots if self._is_loose(b) for i in b.items]
        tags = [loop.tag for loop in self.picture.loops]
        every = [*items, *(r.item for r in self.picture.rails), *self.titles.values(), *tags]
        sizes = self._sizes((i.label, i) for i in every)
        self.size = {i: _as_tall(sizes[i.label, i.shape], i.tall) for i in every}
        for item in items:
            if item.shape == "text":  # dots are set in larger type than they were measured in
                box = self.size[item]
                self.size[item] = replace(box, width=box.width * 14 / 11 + 8, height=box.height * 14 / 11)
        self.rooms = self._rooms(self.picture, self.size)
        over = max((above for _, _, above in self.rooms.values()), default=0.0)
        self.ranksep = self.picture.ranksep + (over / 72 if self.turned else 0.0)  # names lie along the rows there

    def _loose(self) -> None:
        """First states, dots and titles, each in a column of its block."""
        for block in (b for b in self.slots if self._is_loose(b)):
            boxes = [self.size[i] for i in block.items]
            boxes += [self.size[self.titles[block]]] if block in self.titles else []
            width = max(b.width for b in boxes)
            heights = self._heights(block)
            boxes = [replace(self.size[i], x=width / 2, y=y) for i, y in zip(block.items, heights, strict=True)]
            self.template[block] = Template(boxes, {}, {}, {}, width, 0, None)

    def _sizes(self, labelled: Iterable[tuple[str, Item]]) -> dict[tuple[str, str], Box]:
        """The size of an item of a shape with a label: as Graphviz says, or turned."""
        unlike = {(label, item.shape): item for label, item in labelled}
        if not unlike:
            return {}
        template = lay_out(Block("loose", "", list(unlike.values())), [label for label, _ in unlike], "", Needs())
        boxes = [box.turned() for box in template.boxes] if self.turned else template.boxes
        return dict(zip(unlike, boxes, strict=True))

    def _heights(self, block: Block) -> list[float]:
        """Initial states and dots stand level with what reads them."""
        found: dict[Item, float] = {}
        for link in self.picture.links:
            if self.block[link.tail] is block and link.head in self.slot and not self.block[link.head].is_gap:
                y = self._box(link.head).y
                found[link.tail] = min(found.get(link.tail, y), y)
            elif self.block[link.head] is block and block.is_gap and link.tail in self.slot:
                found.setdefault(link.head, self._box(link.tail).y)
        below: Item | None = None
        for item in sorted(block.items, key=lambda i: found.get(i, 0)):
            y = found.get(item, 0.0)
            if below is not None:
                apart = max(32.0, (self.size[below].height + self.size[item].height) / 2 + 8)
                y = max(y, found[below] + apart)
            found[item], below = y, item
        return [found[i] for i in block.items]

    def _box(self, item: Item) -> Box:
        """An item's box in its block's template."""
        return self.template[self.block[item]].boxes[self.number[item]]

    # ---- columns --------------------------------------------------------------------------------------------------

    def _leave(self, link: Link) -> float:
        """The height at which a line comes out of its tail's block."""
        return self._cross(link.tail, self._side(link), "out") + link.lane

    def _enter(self, link: Link) -> float:
        """The height at which it comes into its head's block."""
        return self._cross(link.head, -self._side_in(link), "in") + link.dock

    def _cross(self, item: Item, side: int, name: str) -> float:
        template, i = self.template[self.block[item]], self.number[item]
        is_met = name == "out" and side > 0 and item in self.met
        return template.boxes[i].y if template.clear(i, side) and not is_met else template.track(i, (name, i))

    def _side(self, link: Link) -> int:
        """On which side of its tail a line leaves: 1 to the right, and to what is later."""
        if link.tail not in self.slot:  # a first state from below
            return -1 if link.head in self.block[link.head].leftward else 1
        return 1 if self.slot[link.head] > self.slot[link.tail] else -1

    def _side_in(self, link: Link) -> int:
        """The same at its head: the first state of a run that goes backwards comes in where its others do."""
        side = self._side(link)
        back = link.kind.endswith("over time") and link.head in self.block[link.head].leftward
        return -1 if back else side

    def _is_near(self, link: Link) -> bool:
        return abs(self.slot[link.head] - self.slot[link.tail]) == 1 and self._side(link) == self._side_in(link)

    def _gaps_of(self, link: Link) -> tuple[int, int]:
        """The gap that a line comes out into, and the one from which it goes in. Gap k is to the left of slot k."""
        a, b = self.slot[link.tail], self.slot[link.head]
        return a + 1 if b > a else a, b if self._side_in(link) > 0 else b + 1

    def _tracks(self) -> None:
        """Who bends in which gap, and how wide the gaps must be."""
        self._reserve()
        gaps: dict[int, Tracks] = defaultdict(Tracks)
        self.lanes: dict[Hashable, int] = {}
        for link in self.sideways:
            out, into = self._leave(link), self._enter(link)
            first, last = self._gaps_of(link)
            if self._is_near(link):
                gaps[first].add((link.tail, link.lane), out, into)
                continue
            lane = self.lane(self._lane(link))
            gaps[first].add((link.tail, link.lane), out, lane)
            gaps[last].add((link.head, link.dock, "far"), into, lane)
        for loop, start in self._starts():
            if start in self.slot and (not loop.is_round or self.slot[loop.tail] - self.slot[start] != 1):
                self.lane(("start", loop.delay, start))
        self.gaps = {k: tracks.numbers() for k, tracks in gaps.items()}
        most = max((max(n.values(), default=0) for n in self.gaps.values()), default=0)
        self.gap = self.picture.gap + LANE * most

    def _starts(self) -> list[tuple[Loop, Item]]:
        return [(loop, start) for loop in self.picture.loops for start in loop.starts]

    def lane(self, name: Hashable) -> float:
        """The height of a line under the steps."""
        return -12 - LANE * self.lanes.setdefault(name, len(self.lanes))

    def _lane(self, link: Link) -> Item:
        """Far links share a lane where they come from one item, or go to one between two loops."""
        return link.head if not self.block[link.head].framed else link.tail

    def _reserve(self) -> None:
        """Rails take the tracks next to their row."""
        for k, rail in enumerate(self.picture.rails):
            for reader in rail.readers:
                self.template[self.block[reader]].track(self.number[reader], ("rail", k))

    def _columns(self) -> None:
        x = 0.0
        self.left: dict[int, float] = {}
        for k, block in enumerate(self.slots):
            template, (left, right, _) = self.template[block], self.room(block)
            x += left if k else 0.0
            self.left[k] = x
            self._stamp(block, x, 0)
            x += template.width + self.gap + right
        self.left[len(self.slots)] = x
        steps = [k for k, b in enumerate(self.slots) if b.is_gap or not self._is_loose(b)]
        right = self.left[steps[-1]] + self.template[self.slots[steps[-1]]].width if steps else 0.0
        self.span = (self.left[steps[0]] if steps else 0.0, right)
        self.top = max((self.template[b].height + self.room(b)[2] for b in self.slots), default=0.0)

    def room(self, block: Block) -> Room:
        """What is kept clear at the left, at the right and above a block."""
        return self.rooms.get(block, (0.0, 0.0, 0.0))

    def _stamp(self, block: Block, x: float, y: float) -> None:
        template = self.template[block]
        for item, box in zip(block.items, template.boxes, strict=True):
            self.result.boxes[item] = box.moved(x, y)
        if block.is_gap:
            heights = [box.y for box in template.boxes]
            foot = min(20.0, *(h - 26 for h in heights)) if any(abs(h - 20) < 26 for h in heights) else 20.0
            self.result.frames.append((block, x, y, template.width, 0, (x + template.width / 2, foot)))
        elif block in self.picture.slots and not block.is_start:
            title = template.title and (template.title[0] + x, template.title[1] + y)
            self.result.frames.append((block, x, y, template.width, template.height, title))

    def _inner_edges(self) -> None:
        for block in self.picture.blocks():
            template = self.template.get(block)
            if not block.edges or template is None:
                continue
            at, box = self.result.boxes[block.items[0]], template.boxes[0]
            dx, dy = at.x - box.x, at.y - box.y
            for tail, head, kind in block.edges:
                curve = template.curves[self.number[tail], self.number[head]]
                self.result.edges.append(Edge(tail, head, kind, moved(curve, dx, dy)))

    # ---- from column to column ------------------------------------------------------------------------------------

    def _bend(self, k: int, name: Hashable) -> float:
        """Where in gap k a line runs upright."""
        room = self.room(self.slots[k])[0] if k < len(self.slots) else 0.0
        return self.left[k] - room - self.gap + self.picture.gap / 2 + LANE * self.gaps[k].get(name, 0)

    def _sideways(self, link: Link) -> None:
        first, last = self._gaps_of(link)
        corners = self._way_out(link)
        x = self._bend(first, (link.tail, link.lane))
        corners.append((x, corners[-1][1]))
        if not self._is_near(link):
            lane = self.lane(self._lane(link))
            corners += [(x, lane)]
            x = self._bend(last, (link.head, link.dock, "far"))
            corners += [(x, lane)]
        ends = self._way_in(link)
        corners += [(x, ends[0][1]), *ends]
        arrow = not link.head.kind.endswith("dots")
        self._draw(link, line(corners, link.kind, arrow=arrow), arrow)

    def _draw(self, link: Link, curve: Curve, arrow: bool = True) -> None:
        self.result.edges.append(Edge(link.tail, link.head, link.kind, curve, arrow, link.label))

    def _way_out(self, link: Link) -> list[Point]:
        box, y, side = self.result.boxes[link.tail], self._leave(link), self._side(link)
        if abs(y - link.lane - box.y) < 0.5:
            return [(box.x + side * box.width / 2, y)]
        x = box.x + side * (box.width / 4 if link.tail in self.met else min(6, box.width / 4))
        return [(x, box.foot(x)), (x, y)]

    def _way_in(self, link: Link) -> list[Point]:
        box, y, side = self.result.boxes[link.head], self._enter(link), self._side_in(link)
        if abs(y - link.dock - box.y) < 0.5:
            return [(box.x - side * box.width / 2, y)]
        x = box.x + side * box.width / 4 if box.width > 20 else box.x - side * 3
        return [(x, y), (x, box.foot(x))]

    # ---- above and below ------------------------------------------------------------------------------------------

    def _outside(self) -> None:
        """The blocks above and below stand in the middle; between them and the columns each target has its bus."""
        picture = self.picture
        targets = dict.fromkeys(k.head for k in picture.links if self.block[k.head] is picture.above)
        self.bus = {item: self.top + 13 + LANE * k for k, item in enumerate(targets)}
        if picture.above.items:
            template = self.template[picture.above]
            y = self.top + 18 + LANE * max(len(targets) - 1, 0) if self.slots else 0.0
            self._stamp(
                picture.above,
                self._middle([k.tail for k in picture.links if k.head in self.bus]) - template.width / 2,
                y,
            )
        out = [*(k.tail for k in picture.links), *(start for _, start in self._starts())]
        sources = dict.fromkeys(item for item in out if self.block[item] is picture.below)
        floor = -14 - LANE * len(self.lanes)
        self.bus |= {item: floor - LANE * k for k, item in enumerate(sources)}
        if picture.below.items:
            template = self.template[picture.below]
            heads = [k.head for k in picture.links if k.tail in self.bus]
            middle = self._middle(heads + [h for loop, s in self._starts() if s in self.bus for h in loop.heads])
            self._stamp(picture.below, middle - template.width / 2, floor - LANE * len(sources) - template.height - 8)

    def _middle(self, items: list[Item]) -> float:
        """Half way between the outermost items that stand in columns."""
        xs = [self.result.boxes[item].x for item in items if item in self.slot]
        return (min(xs) + max(xs)) / 2 if xs else sum(self.span) / 2

    def _upright(self) -> None:
        for link in self.picture.links:
            if link.tail in self.slot and self.block[link.head] is self.picture.above:
                self._up(link)
            elif self.block[link.tail] is self.picture.below and link.head in self.slot:
                self._from_below(link)
            elif link not in self.sideways:
                self._straight(link)

    def port(self, item: Item, curves: dict[int, Curve]) -> Curve:
        """The way between an item and the edge of its block, as dot led it; of an initial state its upper edge."""
        template, i = self.template[self.block[item]], self.number[item]
        at, box = self.result.boxes[item], template.boxes[i]
        if i not in curves:
            return [(at.x, at.y + at.height / 2)], None
        return moved(curves[i], at.x - box.x, at.y - box.y)

    def _up(self, link: Link) -> None:
        start, _ = self.port(link.tail, self.template[self.block[link.tail]].up)
        end, tip = self.port(link.head, self.template[self.block[link.head]].down)
        (x, y), (goal, height), bus = start[-1], end[0], self.bus[link.head]
        corners = [(x, y), (x, bus), (goal, bus), (goal, height)] if abs(x - goal) > 2 else [(x, y), (goal, height)]
        middle, _ = line(corners, link.kind, arrow=False)
        points = [*start, *middle[1:], *end[1:]] if abs(x - start[-1][0]) < 0.01 else middle
        self._draw(link, (points, tip))

    def _from_below(self, link: Link) -> None:
        start, _ = self.port(link.tail, self.template[self.picture.below].up)
        (x, y), bus, box = start[-1], self.bus[link.tail], self.result.boxes[link.head]
        if link.kind.endswith("over time"):
            side, ends = self._beside(link), self._way_in(link)
            middle, tip = line([(x, y), (x, bus), (side, bus), (side, ends[0][1]), *ends], link.kind)
            self._draw(link, ([*start, *middle[1:]], tip))
            return
        x_in = self._clear(link.head)
        goal = (x_in, box.foot(x_in))
        middle, tip = line([(x, y), (x, bus), (goal[0], bus), goal], link.kind)
        self._draw(link, ([*start, *middle[1:]], tip))

    def _beside(self, link: Link) -> float:
        """Where a first state from below goes up, beside the step that reads it; each has a place of its own."""
        block, tails = self.block[link.head], list(self.bus)
        k, side = self.slot[link.head], self._side(link)
        edge = self.left[k] if side > 0 else self.left[k] + self.template[block].width
        return edge - side * (7 + LANE * (tails.index(link.tail) - len(tails) + self.sources()))

    def sources(self) -> int:
        """How many values of the block below are read by steps."""
        return sum(self.block[item] is self.picture.below for item in self.bus)

    def _clear(self, head: Item) -> float:
        """Where a line from below reaches an item without crossing what stands under it, if it can."""
        boxes = self.result.boxes
        box, others = boxes[head], [boxes[i] for i in self.block[head].items if i is not head and i in boxes]
        under = [b for b in others if b.y < box.y]
        places = [box.x + share * box.width for share in (0.0, -0.38, 0.38)]
        return next((x for x in places if all(abs(x - b.x) > b.width / 2 + 3 for b in under)), box.x)

    def _straight(self, link: Link) -> None:
        """What fits no rule is still drawn."""
        a, b = self.result.boxes[link.tail], self.result.boxes[link.head]
        ends = [(a.x, a.y + a.height / 2), (b.x, b.y - b.height / 2)]
        self._draw(link, line(ends, link.kind))


def _as_tall(box: Box, height: float) -> Box:
    """A box that is at least so high."""
    return replace(box, height=max(box.height, height))
