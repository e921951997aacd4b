"""The room that loops need beside and above their block."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping

from viz.layout.step_template import Box
from viz.picture.picture import Block, Item, Loop, Picture

SIDE = 12.0  # of a square, in points
OUT = 22.0  # from the nodes to the first lane
LANE = 24.0  # between lanes: a square and its name fit
OVER = 24.0  # of loops round a box: how much further over it the outer ones go
Room = tuple[float, float, float]  # at the left, at the right and above a block, in points


def rooms(picture: Picture, size: Mapping[Item, Box]) -> dict[Block, Room]:
    """What the loops of each block need at its left, at its right and above it, beyond its nodes."""
    result: dict[Block, Room] = {}
    for block in {loop.block: None for loop in picture.loops}:
        mine = [loop for loop in picture.loops if loop.block is block]
        names = [size[loop.tag] for loop in mine]
        text = max(name.width for name in names)
        most = max(Counter(loop.tail for loop in mine if loop.is_round).values(), default=0)
        nested = max((most + 1) // 2 - 1, 0)
        side = lane_round(most, names) * nested + 22 if most else 0.0
        left = side + text + 14 if most and any(loop.starts for loop in mine) else side
        result[block] = left, (side + text + 14 if most else 0.0) + lanes_beside(mine, size), apart_over(names) * nested
    return result


def lanes_beside(loops: list[Loop], size: Mapping[Item, Box]) -> float:
    """The room that loops beside a step take."""
    beside = [loop for loop in loops if not loop.is_round]
    starts = sum(len(loop.starts) for loop in loops)
    return OUT + sum(lane(size[loop.tag]) for loop in beside) + 8 * starts if beside else 0.0


def lane_round(n: int, names: Iterable[Box]) -> float:
    """How far apart the loops on one side of a box are, of n with these names: a square and its name fit."""
    return SIDE + max(name.width for name in names) + 10 if n > 2 else 14.0


def apart_over(names: Iterable[Box]) -> float:
    """How much further over their box outer loops go than inner ones."""
    return max(OVER, *(name.height + 10 for name in names))


def lane(name: Box) -> float:
    """From the middle of a lane to that of the next."""
    return max(LANE, SIDE + 8 + name.width)
