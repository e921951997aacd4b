"""When what appears in a drawing that plays."""

from __future__ import annotations

from collections import defaultdict

from viz.picture.picture import Item, Picture
from viz.read.flow import Flow


def number(picture: Picture, flow: Flow, leftward: set[int]) -> None:
    """When each block appears in a drawing that plays. leftward: the runs from the future"""
    beside = bool(flow.runs.beside)
    shown = [b for b in picture.slots if b.items and not b.is_start]
    for moment, block in enumerate(shown, 1):
        block.title = block.title or "a step in between"
        block.moment = 0 if beside else moment
        for item in block.items:
            item.moment = moment
    picture.moments = [" ".join(b.title.split()) for b in shown]
    if beside:
        _number_directions(picture, flow, leftward, len(shown))
    if picture.above.items and shown:
        picture.moments.append("the total")
        for item in picture.above.items:
            item.moment = len(picture.moments)


def _number_directions(picture: Picture, flow: Flow, leftward: set[int], n: int) -> None:
    """Two directions start at both ends at once; a layer that reads both starts when they are through."""
    runs = flow.runs
    stage = runs.stages(flow.nodes, flow.parents, flow.slices)
    heads, tails = defaultdict(list), defaultdict(list)
    inner = [(tail, head) for block in picture.slots for tail, head, _ in block.edges]
    for tail, head in [*inner, *((link.tail, link.head) for link in picture.links)]:
        heads[tail].append(head)
        tails[head].append(tail)
    loose: list[Item] = []
    for item in (i for block in picture.slots for i in block.items):
        run = runs.of.get(item.nodes[-1]) if item.nodes else None
        if run is None or item.kind == "input":
            loose.append(item)
        else:
            item.moment = stage.get(run, 0) * n + (n + 1 - item.moment if run in leftward else item.moment)
    for item in loose:  # inputs come with who reads them, what lies between layers when it is there
        near = heads[item] if item.kind == "input" or not tails[item] else tails[item]
        item.moment = (min if near is heads[item] else max)((i.moment for i in near), default=item.moment)
    layers = max(stage.values(), default=0) + 1
    pairs = list(zip(picture.moments, reversed(picture.moments), strict=True))
    picture.moments = [f"{a} from the past, {b} from the future" for a, b in pairs] * layers
