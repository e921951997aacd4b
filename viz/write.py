"""The drawing as DOT, with every position given: Graphviz only draws it (neato -n2)."""

from __future__ import annotations

from viz.dot import cluster, digraph, edge, node, spline
from viz.layout import Layout
from viz.model import Block, Item
from viz.style import BORDER, COLOURS, LINE, PAPER

PLACED = {"layout": "nop2", "splines": "true"}  # whichever program reads it keeps the positions


def dot(layout: Layout, title: str = "", *, on_paper: bool = False, **graph: object) -> str:
    """on_paper: a white page; else nothing is painted behind, so that it reads on a dark page too"""
    statements: list[str] = []
    inside = {item for block, *_ in layout.frames for item in block.items}
    for block, x, y, width, height, lp in layout.frames:
        statements += _block(layout, block, (x, y, x + width, y + height), lp, on_paper)
    statements += [_item(layout, item) for item in layout.boxes if item not in inside]
    statements += [
        edge(e.tail.key, e.head.key, e.kind, pos=spline(*e.curve), **({} if e.arrow else {"arrowhead": "none"}))
        for e in layout.edges
    ]
    if title:
        statements.append(_title(layout, title))
    return digraph(statements, **PLACED, bgcolor="white" if on_paper else "transparent", **graph)


def _block(layout: Layout, block: Block, bb: tuple, lp: tuple[float, float] | None, on_paper: bool) -> list[str]:
    items = [_item(layout, item) for item in block.items]
    if block.is_gap:
        x, y = lp or (0, 0)
        return [*items, node(block.key, block.title, "", "text", pos=f"{x:.2f},{y:.2f}", fontsize=12)]
    if not block.title:
        return items
    frame = {
        "label": block.title,
        "style": "rounded,filled",
        "fillcolor": PAPER if on_paper else "transparent",
        "color": BORDER if on_paper else LINE,
        "bb": ",".join(f"{v:.2f}" for v in bb),
    }
    if lp is not None:
        frame["lp"] = f"{lp[0]:.2f},{lp[1]:.2f}"
    return cluster(block.key, items, **frame)


def _item(layout: Layout, item: Item) -> str:
    box = layout.boxes[item]
    more: dict[str, object] = {
        "pos": f"{box.x:.2f},{box.y:.2f}",
        "width": f"{box.width / 72:.4f}",
        "height": f"{box.height / 72:.4f}",
        "fixedsize": "true",
    }
    kind = item.kind
    if kind.endswith("dots"):
        more |= {"fontcolor": COLOURS[kind.removesuffix(" dots")][1], "fontsize": 14}
    return node(item.key, item.label, kind, item.shape, **more)


def _title(layout: Layout, title: str) -> str:
    boxes = layout.boxes.values()
    left, right = min(b.x - b.width / 2 for b in boxes), max(b.x + b.width / 2 for b in boxes)
    top = max([b.y + b.height / 2 for b in boxes] + [y + h for _, _, y, _, h, _ in layout.frames])
    return node("title", title, "", "text", pos=f"{(left + right) / 2:.2f},{top + 22:.2f}", fontsize=14)
