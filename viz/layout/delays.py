"""Delays: the loops on which a state comes back to its step, with a black square on each."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from viz.graphviz.dot import Point
from viz.layout.columns import Columns
from viz.layout.layout import Edge
from viz.layout.rooms import OUT, SIDE, apart_over, lane, lane_round, lanes_beside
from viz.layout.routes import line
from viz.layout.step_template import Box
from viz.picture.picture import Block, Item, Loop


@dataclass(eq=False)
class _Around:
    """The space round the nodes of a block, and the lanes that are taken there.

    lane  where the next one is
    ways  the first states that have come in at the right
    """

    left: float
    right: float
    lane: float
    ways: int = 0


class Delays:
    """Adds the loops to a drawing whose blocks have their places."""

    def __init__(self, columns: Columns):
        self.columns, self.blocks, self.index = columns, columns.blocks, columns.index
        self.boxes, self.loops = columns.layout.boxes, columns.index.picture.loops
        self.around: dict[Block, _Around] = {}
        self.bends: Counter[Block] = Counter()

    def add(self) -> None:
        """The short ones inside, the long ones outside."""
        loops = self.loops
        first = [loop for loop in loops if loop.tail in self.boxes]
        for loop in (*sorted(first, key=self._length), *(loop for loop in loops if loop not in first)):
            if loop.is_round:
                self._round_a_box(loop)
            else:
                self._beside_a_step(loop)
        for loop in loops:
            for start in loop.starts:
                self._begin(loop, start)
        for loop in loops:
            self._name(loop)

    def _length(self, loop: Loop) -> float:
        y = self.boxes[loop.tail].y
        return max((abs(self.boxes[h].y - y) for h in loop.heads), default=0.0)

    def _space(self, block: Block) -> _Around:
        if block not in self.around:
            boxes = [self.boxes[i] for i in block.items]
            left = min(b.x - b.width / 2 for b in boxes)
            right = max(*(b.x + b.width / 2 for b in boxes), *self._ways_up(block))
            mine = [loop for loop in self.loops if loop.block is block]
            taken = self.blocks.room(block)[1] - lanes_beside(mine, self.blocks.size)  # by those round a box
            self.around[block] = _Around(left, right, right + taken + OUT)
        return self.around[block]

    def _ways_up(self, block: Block) -> Iterator[float]:
        """How far to the right the lines come that are led round the nodes of a block."""
        template = self.blocks.template[block]
        shift = self.boxes[block.items[0]].x - template.boxes[0].x
        return (x + shift for points, _ in template.up.values() for x, _ in points)

    # ---- round one box --------------------------------------------------------------------------------------------

    def _round_a_box(self, loop: Loop) -> None:
        """Out on the right, over or under the box, in on the left: memories over it, hidden states under it."""
        box = self.boxes[loop.tail]
        i, n = self._rank(loop)
        over = i < n / 2 if n > 1 else False
        names = [self.blocks.size[k.tag] for k in self.loops if k.tail is loop.tail]
        outside = (n + 1) // 2 - 1 - (i if over else n - 1 - i)
        out = 16.0 + lane_round(n, names) * outside
        y = self._level(loop)
        right, left = box.x + box.width / 2 + 10 + out, box.x - box.width / 2 - 6 - out
        edge = box.y + (1 if over else -1) * (box.height / 2 + 15 + apart_over(names) * outside)
        x, middle, half = left if loop.starts else right, (y + edge) / 2, SIDE / 2 if over else -SIDE / 2
        self._square(loop, x, middle)
        side = box.width / 2
        way = [(box.x + side, y), (right, y), (right, edge), (left, edge), (left, y), (box.x - side, y)]
        before, behind = (way[:4], way[4:]) if loop.starts else (way[:2], way[2:])
        half = -half if loop.starts else half
        self._line(loop.tail, loop.delay, loop, [*before, (x, middle - half)], False)
        self._line(loop.delay, loop.tail, loop, [(x, middle + half), *behind])

    def _rank(self, loop: Loop) -> tuple[int, int]:
        """Which of the states of a box it is, memories first, and of how many."""
        mine = [k for k in self.loops if k.tail is loop.tail and k.is_round]
        mine.sort(key=lambda k: -k.dock)
        return mine.index(loop), len(mine)

    def _level(self, loop: Loop) -> float:
        """The height at which a state leaves its box, and comes back."""
        return self.boxes[loop.tail].y + loop.dock

    # ---- beside a step --------------------------------------------------------------------------------------------

    def _beside_a_step(self, loop: Loop) -> None:
        """Out on the right, down a lane of its own, and from there to each reader."""
        space = self._space(loop.block)
        x = space.lane
        space.lane += lane(self.blocks.size[loop.tag])
        start = self._way_out(loop.tail)
        goals = [self._way_in(head, space, head is loop.tail) for head in loop.heads]
        height = start[-1][1]
        down = min((g[0][1] for g in goals), default=height - 40) < height - 1
        sign = -1 if down else 1
        near = min([abs(g[0][1] - height) for g in goals if (g[0][1] - height) * sign > 1], default=40.0)
        y = height + sign * min(20.0, near / 2)
        y = self._free(x, y, sign)
        self._square(loop, x, y)
        corners = [*start, (x, height), (x, y - sign * SIDE / 2)]
        self._line(loop.tail, loop.delay, loop, corners, False)
        for head, goal in zip(loop.heads, goals, strict=True):
            end = y + sign * SIDE / 2
            self._line(loop.delay, head, loop, [(x, end), (x, goal[0][1]), *goal])

    def _free(self, x: float, y: float, sign: int) -> float:
        """A height for a square where no rail of a parameter crosses its lane."""
        rails = [e.curve[0] for e in self.columns.layout.edges if e.kind == "parameter"]
        level = [b for points in rails for a, b in zip(points[::3], points[3::3], strict=False)
                 if abs(a[1] - b[1]) < 1 and min(a[0], b[0]) < x + 20 and max(a[0], b[0]) > x]  # fmt: skip
        for _ in range(4):
            if all(abs(height - y) > SIDE for _, height in level):
                break
            y += sign * SIDE
        return y

    def _way_out(self, item: Item) -> list[Point]:
        if item.shape == "delay":
            box = self.boxes[item]
            return [(box.x, box.y - SIDE / 2), (box.x, box.y - SIDE / 2 - 8)]
        box, template, i = self.boxes[item], *self.blocks.place(item)
        if template.clear(i, 1):
            return [(box.x + box.width / 2, box.y)]
        x, y = box.x + min(6, box.width / 4), template.track(i, ("out", i)) + box.y - template.boxes[i].y
        return [(x, box.foot(x)), (x, y)]

    def _way_in(self, item: Item, space: _Around, back: bool = False) -> list[Point]:
        """From the right where nothing is in the way, else under the row and in from the left, or from below.

        back: the way out is there already
        """
        box, template, i = self.boxes[item], *self.blocks.place(item)
        if template.clear(i, 1) and not back:
            return [(space.right + 4, box.y), (box.x + box.width / 2, box.y)]
        y = template.track(i, ("in", i)) + box.y - template.boxes[i].y
        if template.clear(i, -1):
            x = box.x - box.width / 2 - 14
            return [(space.right + 4, y), (x, y), (x, box.y), (box.x - box.width / 2, box.y)]
        x = box.x + box.width / 4 if box.width > 20 else box.x + 3
        return [(space.right + 4, y), (x, y), (x, box.foot(x))]

    # ---- first states ---------------------------------------------------------------------------------------------

    def _begin(self, loop: Loop, start: Item) -> None:
        """From what a state is before the first step into its delay."""
        x, y = self.boxes[loop.delay].x, self.boxes[loop.delay].y
        if loop.is_round:
            corners = [*self._to_the_left(loop, start), (x - SIDE / 2, y)]
        else:
            corners = [*self._to_the_right(loop, start), (x + SIDE / 2, y)]
        self._line(start, loop.delay, loop, corners)

    def _to_the_left(self, loop: Loop, start: Item) -> list[Point]:
        """To a square at the left of its box, level from the blocks at the left, or up from below."""
        at = self.boxes[loop.delay]
        if start in self.index.slot:
            k, mine = self.index.slot[start], self.index.slot[loop.tail]
            way = self._from_a_column(loop, start, under=mine - k != 1)
            bend = way[-1][0]
            if mine - k != 1:
                bend = at.x - 24 - 6 * self._next(loop.block)
                way.append((bend, way[-1][1]))
            return [*way, (bend, at.y)]
        x, y = self._from_outside(start)
        bend, bus = at.x - 24 - 6 * self._next(loop.block), self.columns.bus[start]
        return [(x, y), (x, bus), (bend, bus), (bend, at.y)]

    def _to_the_right(self, loop: Loop, start: Item) -> list[Point]:
        """To a square at the right of its step: under the step, and up behind the lanes."""
        space = self._space(loop.block)
        x = space.lane + 8 * space.ways
        space.ways += 1
        at = self.boxes[loop.delay]
        if start in self.index.slot:
            way = self._from_a_column(loop, start, under=True)
            return [*way, (x, way[-1][1]), (x, at.y)]
        (u, v), bus = self._from_outside(start), self.columns.bus[start]
        return [(u, v), (u, bus), (x, bus), (x, at.y)]

    def _from_a_column(self, loop: Loop, start: Item, *, under: bool) -> list[Point]:
        """Out of a step or a box at the left, to where the way turns; under: on a lane below the steps."""
        block, slots = self.index.block[start], self.index.slots
        box, template, i = self.boxes[start], *self.blocks.place(start)
        source = next((k for k in self.loops if k.tail is start and k.name == loop.name), None)
        y = self._level(source) if source is not None and source.is_round else box.y + self._offset(loop, start)
        way = [(box.x + box.width / 2, y)]
        if not template.clear(i, 1):
            way = self._way_out(start)
        behind = self.index.slot[start] + 1
        bend = self.columns.left[behind] - self.blocks.room(slots[behind])[0] - 8 - 6 * self.bends[block]
        self.bends[block] += 1
        way.append((bend, way[-1][1]))
        return [*way, (bend, self.columns.lanes.height(("start", loop.delay, start)))] if under else way

    def _offset(self, loop: Loop, start: Item) -> float:
        """Several states that come out of one box side by side."""
        of = [k for k in self.loops if start in k.starts]
        of.sort(key=lambda k: (not k.kind.startswith("cell"), k.name))
        room = min(self.boxes[start].height * 0.54, 18.0)
        return room * (0.5 - of.index(loop) / (len(of) - 1)) if len(of) > 1 else 0.0

    def _from_outside(self, start: Item) -> Point:
        """The upper end of the way out of a block below."""
        (point, *_), _ = self.columns.way_up(start)
        return point

    def _next(self, block: Block) -> int:
        self.bends[block] += 1
        return self.bends[block] - 1

    # ---- drawing --------------------------------------------------------------------------------------------------

    def _square(self, loop: Loop, x: float, y: float) -> None:
        self.boxes[loop.delay] = Box(x, y, SIDE, SIDE)

    def _name(self, loop: Loop) -> None:
        """At the right of the square, at the left where a first state comes in there; clear of lines if it can be."""
        box, name = self.boxes[loop.delay], self.blocks.size[loop.tag]
        x = box.x + (-1 if loop.is_round and loop.starts else 1) * (SIDE / 2 + 4 + name.width / 2)
        aside = range(10, int(name.height / 2) + 13, 8)
        places = [name.moved(x - name.x, box.y + d - name.y) for far in (0, *aside) for d in dict.fromkeys((far, -far))]
        self.boxes[loop.tag] = next((place for place in places if not self._is_crossed(place)), places[1])

    def _is_crossed(self, name: Box) -> bool:
        """Does a line of a state run through a name, or a rail?"""
        left, right = name.x - name.width / 2, name.x + name.width / 2
        edge = 3 if self.blocks.turned else -1  # letters fill a text's width, not its height
        low, high = name.y - name.height / 2 - edge, name.y + name.height / 2 + edge
        every = self.columns.layout.edges
        lines = [e.curve[0] for e in every if e.kind == "parameter" or e.kind.endswith("over time")]
        ends = ((a, b) for points in lines for a, b in zip(points[::3], points[3::3], strict=False))
        return any(
            min(a[0], b[0]) < right and max(a[0], b[0]) > left and min(a[1], b[1]) < high and max(a[1], b[1]) > low
            for a, b in ends
        )

    def _line(self, tail: Item, head: Item, loop: Loop, corners: list[Point], arrow: bool = True) -> None:
        flows = head in loop.flows or (head is loop.delay and bool(loop.flows))
        curve = line(corners, loop.kind, arrow=arrow)
        self.columns.layout.edges.append(Edge(tail, head, loop.kind, curve, arrow, flows=flows))
