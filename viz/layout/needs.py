"""What the template of each block must leave room for: the ends of links, of rails and of loops."""

from __future__ import annotations

from collections import defaultdict

from viz.layout.index import Index
from viz.layout.step_template import Needs
from viz.picture.picture import Block, Link, Loop


def needs_of(index: Index) -> dict[Block, Needs]:
    """For each block what its template must leave room for."""
    needs: dict[Block, Needs] = defaultdict(Needs)
    for link in index.picture.links:
        _need(index, needs, link)
    for loop in index.picture.loops:
        _need_loop(index, needs, loop)
    for rail in index.picture.rails:
        for reader in rail.readers:
            needs[index.block[reader]].taps[index.number[reader]] += 1
    for item in index.number:
        if item.tall:
            needs[index.block[item]].tall[index.number[item]] = item.tall
    return needs


def _need(index: Index, needs: dict[Block, Needs], link: Link) -> None:
    tail, head, a, b = index.block[link.tail], index.block[link.head], index.number[link.tail], index.number[link.head]
    if head is index.picture.above:
        needs[tail].up.add(a)
        needs[head].down.add(b)
    elif tail is index.picture.below:
        needs[tail].up.add(a)
        if link.kind.endswith("over time"):
            (needs[head].right if link.head in head.leftward else needs[head].left).add(b)
    elif index.slot[link.tail] <= index.slot[link.head]:
        needs[tail].right.add(a)
        needs[head].left.add(b)
    else:
        needs[tail].left.add(a)
        needs[head].right.add(b)


def _need_loop(index: Index, needs: dict[Block, Needs], loop: Loop) -> None:
    for item in [] if loop.is_round else [loop.tail, *loop.heads]:
        if item in index.block:
            needs[index.block[item]].loops[index.number[item]] += 1
    for start in loop.starts:
        if index.block[start] is index.picture.below:
            needs[index.picture.below].up.add(index.number[start])
