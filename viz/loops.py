"""Delays: the loops on which a state comes back to its step, with a black square on each."""

from __future__ import annotations

from dataclasses import dataclass

from viz.composer import Composer
from viz.dot import Point
from viz.frame import Box
from viz.layout import Edge
from viz.model import Block, Item, Loop
from viz.route import line

SIDE = 12.0  # of a square, in points
OUT = 22.0  # from the nodes to the first lane
LANE = 24.0  # between lanes: a square and its name fit


@dataclass(eq=False)
class _Around:
    """The space round the nodes of a block, and the lanes that are taken there."""

    left: float
    right: float
    used: int = 0


class Loops:
    """Adds the loops to a drawing whose blocks have their places."""

    def __init__(self, composer: Composer):
        self.composer, self.boxes = composer, composer.result.boxes
        self.around: dict[Block, _Around] = {}

    def add(self) -> None:
        """The short ones inside, the long ones outside."""
        loops = self.composer.picture.loops
        first = [loop for loop in loops if loop.tail in self.boxes]
        for loop in (*sorted(first, key=self._length), *(loop for loop in loops if loop not in first)):
            if loop.heads == [loop.tail]:
                self._round_a_box(loop)
            else:
                self._beside_a_step(loop)

    def _length(self, loop: Loop) -> float:
        y = self.boxes[loop.tail].y
        return max((abs(self.boxes[h].y - y) for h in loop.heads), default=0.0)

    def _space(self, block: Block) -> _Around:
        if block not in self.around:
            boxes = [self.boxes[i] for i in block.items]
            left, right = min(b.x - b.width / 2 for b in boxes), max(b.x + b.width / 2 for b in boxes)
            self.around[block] = _Around(left, right)
        return self.around[block]

    # ---- round one box --------------------------------------------------------------------------------------------

    def _round_a_box(self, loop: Loop) -> None:
        """Out on the right, over or under the box, in on the left: memories over it, hidden states under it."""
        box = self.boxes[loop.tail]
        mine = [k for k in self.composer.picture.loops if k.tail is loop.tail]
        mine.sort(key=lambda k: (not k.kind.startswith("cell"), k.name))
        i, n = mine.index(loop), len(mine)
        over = i < n / 2 if n > 1 else False
        rank = i if over else n - 1 - i  # 0 is the outermost
        count = (n + 1) // 2
        y = box.y + (0.0 if n == 1 else (0.27 - 0.54 * i / (n - 1)) * box.height)
        out = 16.0 + 14.0 * (count - 1 - rank)
        right, left = box.x + box.width / 2 + 10 + out, box.x - box.width / 2 - 6 - out
        edge = box.y + (1 if over else -1) * (box.height / 2 + 2 + out * 0.8)
        middle = (y + edge) / 2
        self._square(loop, right, middle)
        half = SIDE / 2 if over else -SIDE / 2
        self._line(loop.tail, loop.delay, loop, [(box.x + box.width / 2, y), (right, y), (right, middle - half)], False)
        end = [(left, edge), (left, y), (box.x - box.width / 2, y)]
        self._line(loop.delay, loop.tail, loop, [(right, middle + half), (right, edge), *end])

    # ---- beside a step --------------------------------------------------------------------------------------------

    def _beside_a_step(self, loop: Loop) -> None:
        """Out on the right, down a lane of its own, and from there to each reader."""
        space = self._space(loop.block)
        x = space.right + OUT + LANE * space.used
        space.used += 1
        start = self._way_out(loop.tail)
        goals = [self._way_in(head, space) for head in loop.heads]
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
        rails = [e.curve[0] for e in self.composer.result.edges if e.kind == "parameter"]
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
        box, frame, i = self.boxes[item], *self._place(item)
        if frame.clear(i, 1):
            return [(box.x + box.width / 2, box.y)]
        x, y = box.x + min(6, box.width / 4), frame.track(i, ("out", i)) + box.y - frame.boxes[i].y
        return [(x, box.y - box.height / 2), (x, y)]

    def _way_in(self, item: Item, space: _Around) -> list[Point]:
        """From the right where nothing is in the way, else under the row and in from the left, or from below."""
        box, frame, i = self.boxes[item], *self._place(item)
        if frame.clear(i, 1):
            return [(space.right + 4, box.y), (box.x + box.width / 2, box.y)]
        y = frame.track(i, ("in", i)) + box.y - frame.boxes[i].y
        if frame.clear(i, -1):
            x = box.x - box.width / 2 - 14
            return [(space.right + 4, y), (x, y), (x, box.y), (box.x - box.width / 2, box.y)]
        x = box.x + box.width / 4 if box.width > 20 else box.x + 3
        return [(space.right + 4, y), (x, y), (x, box.y - box.height / 2)]

    def _place(self, item: Item) -> tuple:
        return self.composer.frame[self.composer.block[item]], self.composer.number[item]

    # ---- drawing --------------------------------------------------------------------------------------------------

    def _square(self, loop: Loop, x: float, y: float) -> None:
        self.boxes[loop.delay] = Box(x, y, SIDE, SIDE)
        name = Item(f"{loop.delay.key}.name", loop.name, "", "text", look={"fontsize": 12})
        width = 8.0 * len(loop.name)
        self.boxes[name] = Box(x + SIDE / 2 + 4 + width / 2, y, width, 14)

    def _line(self, tail: Item, head: Item, loop: Loop, corners: list[Point], arrow: bool = True) -> None:
        self.composer.result.edges.append(Edge(tail, head, loop.kind, line(corners, loop.kind, arrow=arrow), arrow))
