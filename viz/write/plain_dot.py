"""The drawing without positions, for a machine that has nothing to lay it out: `dot` makes a picture of it elsewhere.

What stays inside a step decides the rows; nothing that crosses steps does, or time would become a staircase.
"""

from __future__ import annotations

from viz.graphviz.dot import cluster, digraph, edge, node
from viz.picture.picture import Block, Picture


def dot(picture: Picture, title: str = "") -> str:
    """One frame for each step, and an invisible root that puts them in order."""
    statements = [node("root", "", "", "port", ordering="out")]
    for block in picture.blocks():
        if block.items or block.is_gap:
            statements += cluster(block.key, _inside(block), label=block.title, **_frame(block))
            statements.append(edge("root", block.items[0].key if block.items else block.key, "flow", style="invis"))
    for rail in picture.rails:
        statements.append(node(rail.item.key, rail.item.label, rail.item.kind, rail.item.shape))
        statements += [edge(rail.item.key, r.key, "parameter", constraint="false") for r in rail.readers]
    for loop in picture.loops:
        statements.append(node(loop.delay.key, "", "delay", "delay", xlabel=loop.name))
        statements.append(edge(loop.tail.key, loop.delay.key, loop.kind, constraint="false", arrowhead="none"))
        statements += [edge(loop.delay.key, head.key, loop.kind, constraint="false") for head in loop.heads]
    outside = {item for block in (picture.above, picture.below) for item in block.items}
    for link in picture.links:
        loose = {} if {link.tail, link.head} & outside else {"constraint": "false"}
        statements.append(edge(link.tail.key, link.head.key, link.kind, **loose))
    return digraph(statements, rankdir="BT", newrank="true", label=title, labelloc="t", bgcolor="white")


def _inside(block: Block) -> list[str]:
    if block.is_gap and not block.items:
        return [node(block.key, "· · ·", "", "text")]
    nodes = [node(i.key, i.label, i.kind, i.shape) for i in block.items]
    rows = ["{ rank=same; " + " ".join(f'"{i.key}";' for i in row) + " }" for row in block.level]
    return nodes + [edge(a.key, b.key, kind) for a, b, kind in block.edges] + rows


def _frame(block: Block) -> dict[str, object]:
    return {"style": "rounded"} if block.title and not block.is_gap else {"peripheries": 0}
