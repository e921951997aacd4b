"""The drawing as DOT, with every position given: Graphviz only draws it (neato -n2)."""

from __future__ import annotations

from viz.dot import cluster, digraph, edge, node, spline
from viz.layout import Edge, Layout
from viz.model import Block, Item
from viz.style import BORDER, COLOURS, EDGES, LINE, PAPER

PLACED = {"layout": "nop2", "splines": "true"}  # whichever program reads it keeps the positions


def dot(layout: Layout, title: str = "", *, on_paper: bool = False, **graph: object) -> str:
    """on_paper: a white page; else nothing is painted behind, so that it reads on a dark page too"""
    statements: list[str] = []
    inside = {item for block, *_ in layout.frames for item in block.items}
    for block, x, y, width, height, lp in layout.frames:
        statements += _block(layout, block, (x, y, x + width, y + height), lp, on_paper)
    statements += [_item(layout, item) for item in layout.boxes if item not in inside]
    statements += [_edge(e) for e in layout.edges]
    if title:
        statements.append(_title(layout, title))
    return digraph(statements, **PLACED, bgcolor="white" if on_paper else "transparent", **graph)


def _block(layout: Layout, block: Block, bb: tuple, lp: tuple[float, float] | None, on_paper: bool) -> list[str]:
    items = [_item(layout, item) for item in block.items]
    if block.is_gap:
        x, y = lp or (0, 0)
        return [*items, node(block.key, block.title, "", "text", pos=f"{x:.2f},{y:.2f}", fontsize=12)]
    if not block.title or not block.framed:
        return items
    frame = {
        "label": block.title,
        "style": "rounded,filled",
        "fillcolor": PAPER if on_paper else "transparent",
        "color": BORDER if on_paper else LINE,
        "bb": ",".join(f"{v:.2f}" for v in bb),
        **_at(block.moment),
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
        **_at(item.moment),
    }
    kind = item.kind
    if kind.endswith("dots"):
        more |= {"fontcolor": COLOURS[kind.removesuffix(" dots")][1], "fontsize": 14}
    return node(item.key, item.label, kind, item.shape, **{**more, **item.look})


def _edge(e: Edge) -> str:
    more: dict[str, object] = {} if e.arrow else {"arrowhead": "none"}
    role = "state" if e.kind.endswith("over time") else "weight" if e.kind == "weight" else ""
    more |= _at(max(e.tail.moment, e.head.moment), role)
    if e.label:
        (x, y), (to, _) = e.curve[0][0], e.curve[0][-1]
        colour = EDGES[e.kind].get("color", LINE)
        more |= {"label": e.label, "lp": f"{(x + to) / 2:.2f},{y + 9:.2f}", "fontsize": 13, "fontcolor": colour}
    return edge(e.tail.key, e.head.key, e.kind, pos=spline(*e.curve), **{**more, **e.look})


def _at(moment: int, also: str = "") -> dict[str, object]:
    """The classes in an SVG by which a drawing plays."""
    classes = " ".join(filter(None, (f"t{moment}" if moment else "", also)))
    return {"class": classes} if classes else {}


def _title(layout: Layout, title: str) -> str:
    left, _, right, top = layout.extent()
    return node("title", title, "", "text", pos=f"{(left + right) / 2:.2f},{top + 22:.2f}", fontsize=14)
