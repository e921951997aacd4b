"""Lines made of level and upright pieces with rounded corners, and who may run where in a gap."""

from __future__ import annotations

import math

from collections.abc import Hashable, Sequence
from itertools import pairwise

from viz.graphviz.dot import Point
from viz.layout.step_template import Curve
from viz.style import EDGE, EDGES

RADIUS = 7.0


def line(corners: Sequence[Point], kind: str, *, arrow: bool = True, radius: float = RADIUS) -> Curve:
    """The spline through corners; it stops short of the last one by the arrow's length."""
    corners = _cleaned(corners)
    tip = corners[-1] if arrow else None
    if arrow:
        style = {**EDGE, **EDGES[kind]}
        short = 10 * float(str(style["arrowsize"]))
        tip = _towards(corners[-1], corners[-2], float(str(style["penwidth"])) / 2)
        corners = [*corners[:-1], _towards(tip, corners[-2], short)]
    return rounded(corners, radius), tip


def rounded(corners: Sequence[Point], radius: float) -> list[Point]:
    """The points of the spline: 3n + 1."""
    points = [corners[0]]
    for before, corner, after in zip(corners, corners[1:], corners[2:], strict=False):
        r = min(radius, math.dist(before, corner) / 2, math.dist(corner, after) / 2)
        start, end = _towards(corner, before, r), _towards(corner, after, r)
        points += [*_straight(points[-1], start), *_straight_bend(start, corner, end)]
    return [*points, *_straight(points[-1], corners[-1])]


def against(curve: Curve, kind: str, width: float, *, tail: bool, head: bool) -> tuple[Curve, Point | None]:
    """The same, with an arrow at its tail or at its head or at both, and the tip of the one at the tail.

    width: of the line; the tip of a thick one sticks out, in some versions of Graphviz
    """
    points, tip = curve
    style = {**EDGE, **EDGES[kind]}
    if tip is not None and not head:
        points = [*points, *_straight(points[-1], _towards(tip, points[-1], -float(str(style["penwidth"])) / 2))]
        tip = None
    if not tail:
        return (points, tip), None
    start, _ = _parted(points, width / 4)
    _, rest = _parted(points, width / 4 + 10 * float(str(style["arrowsize"])))
    return (rest, tip), start


def _parted(points: list[Point], length: float) -> tuple[Point, list[Point]]:
    """The point of a spline so far from its start, and the rest of the spline from there; its last piece stays."""
    for k in range(0, len(points) - 1, 3):
        piece = points[k : k + 4]
        whole = math.dist(piece[0], piece[1]) + math.dist(piece[1], piece[2]) + math.dist(piece[2], piece[3])
        if length < whole or k + 4 == len(points):
            part = _from(piece, min(length / whole, 0.7) if whole else 0.0)
            return part[0], [*part, *points[k + 4 :]]
        length -= whole
    return points[0], points


def _from(piece: list[Point], share: float) -> list[Point]:
    """The part of a cubic piece behind a share of it (de Casteljau)."""
    kept = [piece[-1]]
    while len(piece) > 1:
        piece = [(a[0] + (b[0] - a[0]) * share, a[1] + (b[1] - a[1]) * share) for a, b in pairwise(piece)]
        kept.insert(0, piece[-1])
    return kept


def _cleaned(corners: Sequence[Point]) -> list[Point]:
    """Without corners at which a line goes straight on, or comes twice."""
    kept = [corners[0]]
    for i, corner in enumerate(corners[1:], 1):
        if math.dist(kept[-1], corner) < 0.5:
            continue
        if i < len(corners) - 1 and _is_between(kept[-1], corner, corners[i + 1]):
            continue
        kept.append(corner)
    return kept if len(kept) > 1 else [corners[0], corners[-1]]


def _is_between(a: Point, b: Point, c: Point) -> bool:
    level = abs(a[1] - b[1]) < 0.5 and abs(b[1] - c[1]) < 0.5 and (b[0] - a[0]) * (c[0] - b[0]) >= 0
    upright = abs(a[0] - b[0]) < 0.5 and abs(b[0] - c[0]) < 0.5 and (b[1] - a[1]) * (c[1] - b[1]) >= 0
    return level or upright


def _towards(start: Point, goal: Point, distance: float) -> Point:
    whole = math.dist(start, goal)
    if whole < 1e-9:
        return start
    share = distance / whole
    return start[0] + (goal[0] - start[0]) * share, start[1] + (goal[1] - start[1]) * share


def _straight(a: Point, b: Point) -> list[Point]:
    whole = math.dist(a, b)
    return [_towards(a, b, whole / 3), _towards(a, b, whole * 2 / 3), b]


def _straight_bend(a: Point, corner: Point, b: Point) -> list[Point]:
    """A rounded corner: one cubic piece, nearly a quarter of a circle."""
    return [_towards(a, corner, math.dist(a, corner) * 0.55), _towards(b, corner, math.dist(b, corner) * 0.55), b]


class Tracks:
    """Side by side in a gap: lines that share heights get different tracks, others may share one."""

    def __init__(self) -> None:
        self.spans: dict[Hashable, list[float]] = {}

    def add(self, name: Hashable, *heights: float) -> None:
        """A line runs upright between these heights."""
        self.spans.setdefault(name, []).extend(heights)

    def numbers(self) -> dict[Hashable, int]:
        """The track of each line that bends, 0 the leftmost; level lines have none."""
        tops: list[float] = []
        result: dict[Hashable, int] = {}
        bends = {name: ys for name, ys in self.spans.items() if max(ys) - min(ys) > 1}
        for name, ys in sorted(bends.items(), key=lambda item: min(item[1])):
            k = next((k for k, top in enumerate(tops) if top + 4 < min(ys)), len(tops))
            tops[k : k + 1] = [max(ys)]
            result[name] = k
        return result
