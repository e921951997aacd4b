"""Level and upright lines between boxes on a grid: the cheapest way, where length, bends and crossings cost.

Lines of one net (what carries one value) may share their way; those of different nets may cross at right angles, and do
nothing else together.
"""

from __future__ import annotations

import heapq

from collections import defaultdict
from collections.abc import Collection, Sequence
from itertools import pairwise

Place = tuple[int, int]  # of the grid: right, up
Way = tuple[int, int]  # a step to the right, the left, up or down
Port = tuple[Place, Way, float]  # a place in front of a box, the way there, and what it costs

At = tuple[Place, Way]  # where a line is, and the way that led there

NOWHERE: At = ((0, 0), (0, 0))
END: At = ((0, 0), (2, 2))
RIGHT, LEFT, UP, DOWN = WAYS = (1, 0), (-1, 0), (0, 1), (0, -1)
BEND, CROSSING, NEAR, JUNCTION = 7.0, 14.0, 3.0, 4.0  # what these cost, in steps


class Router:
    """Finds ways one after the other; each stays clear of those found before. size: (left, bottom, right, top)"""

    def __init__(self, size: tuple[int, int, int, int]):
        self.left, self.bottom, self.right, self.top = size
        self.walls: set[Place] = set()
        self.beside: set[Place] = set()
        self.level: dict[Place, int] = {}  # the net of the line that runs there to the right or to the left
        self.upright: dict[Place, int] = {}
        self.corners: dict[Place, int] = {}  # where one bends, ends or parts
        self.of: dict[int, dict[Place, Way]] = defaultdict(dict)  # where a net's lines are, and the way that led there

    def wall(self, x: int, y: int, wide: int, high: int) -> None:
        """No line runs through a box, and if it can none along it. wide, high: half of its size"""
        self.walls.update(_covered(x, y, wide, high))
        self.beside.update(_covered(x, y, wide + 1, high + 1))

    def connect(self, net: int, starts: Sequence[Port], goals: Sequence[Port]) -> list[Place] | None:
        """The places of a line from one of the starts, or from where the net is already, to one of the goals; None if
        there is no way.
        """
        ends: dict[Place, dict[Way, float]] = defaultdict(dict)
        for place, way, cost in goals:
            ends[place][way] = cost
        begin = list(starts)
        for place, came in self.of[net].items():
            if not self._is_foreign(net, place):
                goes_on = place in self.corners  # where a line bends, one that goes straight on looks best
                begin += [(place, way, JUNCTION * (not goes_on or way != came)) for way in WAYS]
        found = self._search(net, begin, ends)
        if found is not None:
            self._keep(net, found)
        return found

    def _search(self, net: int, begin: Sequence[Port], ends: dict[Place, dict[Way, float]]) -> list[Place] | None:
        """The A* algorithm (Hart et al., 1968) over (place, way that led there)."""
        far = _Least(ends)
        queue = [(cost + far[place], cost, n, (place, way), NOWHERE) for n, (place, way, cost) in enumerate(begin)]
        heapq.heapify(queue)
        count, before = len(queue), {}
        while queue:
            _, cost, _, at, came = heapq.heappop(queue)
            if at in before:
                continue
            before[at] = came
            place, way = at
            if at == END:
                return _traced(before, came)
            count += 5
            if way in ends.get(place, ()):
                last = cost + ends[place][way]
                heapq.heappush(queue, (last, last, count, END, at))
            for k, turn in enumerate(WAYS):
                there = place[0] + turn[0], place[1] + turn[1]
                if (there, turn) in before or turn == (-way[0], -way[1]):
                    continue
                step = self._step(net, place, way, turn, came is NOWHERE)
                if step is not None:
                    heapq.heappush(queue, (cost + step + far[there], cost + step, count + k + 1, (there, turn), at))
        return None

    def _step(self, net: int, place: Place, way: Way, turn: Way, first: bool) -> float | None:
        """What a step from a place costs; None if it may not be."""
        there = place[0] + turn[0], place[1] + turn[1]
        if there in self.walls or not (self.left <= there[0] <= self.right and self.bottom <= there[1] <= self.top):
            return None
        if turn != way and first:
            return None
        along, across = (self.level, self.upright) if turn[1] == 0 else (self.upright, self.level)
        if along.get(there, net) != net or self.corners.get(there, net) != net:
            return None
        cost = 1.0 + BEND * (turn != way) + CROSSING * (across.get(there, net) != net) + NEAR * (there in self.beside)
        sides = ((0, 1), (0, -1)) if turn[1] == 0 else ((1, 0), (-1, 0))
        for dx, dy in sides:
            beside = there[0] + dx, there[1] + dy
            cost += NEAR * (along.get(beside, net) != net or self.corners.get(beside, net) != net)
        return cost

    def _is_foreign(self, net: int, place: Place) -> bool:
        """Does a line of another net run there?"""
        return self.level.get(place, net) != net or self.upright.get(place, net) != net

    def _keep(self, net: int, places: Sequence[Place]) -> None:
        for a, b in pairwise(places[:-1]):  # not right in front of a box
            self.of[net][b] = b[0] - a[0], b[1] - a[1]
        self.corners[places[0]] = self.corners[places[-1]] = net
        for (x, y), (to, up) in pairwise(places):
            lines = self.level if y == up else self.upright
            lines[x, y] = lines[to, up] = net
        for a, b, c in zip(places, places[1:], places[2:], strict=False):
            if (b[0] - a[0], b[1] - a[1]) != (c[0] - b[0], c[1] - b[1]):
                self.corners[b] = net


class _Least(dict[Place, float]):
    """What a line from a place to the nearest of the ends costs at least: its length, and a bend."""

    def __init__(self, ends: Collection[Place]):
        super().__init__()
        self.ends = ends

    def __missing__(self, at: Place) -> float:
        x, y = at
        self[at] = least = min(abs(x - to) + abs(y - up) + BEND * (x != to and y != up) for to, up in self.ends)
        return least


def _traced(before: dict[At, At], last: At) -> list[Place]:
    """The places on the way that led to the last one."""
    found: list[Place] = []
    while last != NOWHERE:
        found.append(last[0])
        last = before[last]
    return found[::-1]


def _covered(x: int, y: int, wide: int, high: int) -> Collection[Place]:
    """The places under a box: its middle, and half of its size."""
    return [(i, j) for i in range(x - wide, x + wide + 1) for j in range(y - high, y + high + 1)]
