"""The drawing as DOT, with every position given: Graphviz only draws it (neato -n2)."""

from __future__ import annotations

from viz.graphviz.dot import digraph, edge, node, spline
from viz.layout.layout import Edge, Layout
from viz.layout.routes import against
from viz.layout.step_template import Box
from viz.picture.picture import Item
from viz.style import BORDER, COLOURS, EDGE, EDGES, LINE, PAPER

MOST = 2.0  # of a line's width in a film, whose arrows on the way back are all of one size
PLACED = {"layout": "nop2", "splines": "true"}  # whichever program reads it keeps the positions


def dot(layout: Layout, title: str = "", *, on_paper: bool = False, plays: bool = False, **graph: object) -> str:
    """on_paper: a white page; else nothing is painted behind, so that it reads on a dark page too
    plays: for a film, which turns the arrows round itself when it goes back
    """
    statements = [s for frame in layout.frames for s in _frame(frame, on_paper)]
    statements += [_item(layout, item) for item in layout.boxes if not (plays and item.kind == "legend")]
    statements += [_edge(e, plays) for e in layout.edges if not (plays and e.kind == "legend")]
    if title:
        statements.append(_title(layout, title))
    return digraph(statements, **PLACED, bgcolor="white" if on_paper else "transparent", **graph)


def _frame(frame: tuple, on_paper: bool) -> list[str]:
    """The frame of a block and its title: nodes, for Graphviz takes seconds to draw a thousand clusters."""
    block, x, y, width, height, title = frame
    made: list[str] = []
    if block.framed and block.title and not block.is_gap:
        look = {
            "fillcolor": PAPER if on_paper else "transparent", "color": BORDER if on_paper else LINE, "penwidth": 1,
            **_place(Box(x + width / 2, y + height / 2, width, height)), **_at(block.moment, "cluster"),
        }  # fmt: skip
        made.append(node(f"frame {block.key}", "", "", "box", **look))
    if block.title and title is not None and (block.framed or block.is_gap):
        at = {"pos": f"{title[0]:.2f},{title[1]:.2f}", "fontsize": 12, **_at(block.moment, "cluster")}
        made.append(node(f"title {block.key}", block.title, "", "text", **at))
    return made


def _item(layout: Layout, item: Item) -> str:
    box = layout.boxes[item]
    more: dict[str, object] = {**_place(box), **_at(item.moment, forward=not item.reached)}
    kind = item.kind
    if kind.endswith("dots"):
        more |= {"fontcolor": COLOURS[kind.removesuffix(" dots")][1], "fontsize": 14}
    return node(item.key, item.label, kind, item.shape, **{**more, **item.look})


def _place(box: Box) -> dict[str, object]:
    size = {"width": f"{box.width / 72:.4f}", "height": f"{box.height / 72:.4f}", "fixedsize": "true"}
    return {"pos": f"{box.x:.2f},{box.y:.2f}", **size}


def _edge(e: Edge, plays: bool) -> str:
    more: dict[str, object] = {} if e.arrow else {"arrowhead": "none"}
    role = {"hidden over time": "state", "cell over time": "state", "weight": "weight"}.get(e.kind, "")
    more |= _at(max(e.tail.moment, e.head.moment), role, forward=not (e.flows and e.tail.reached))
    if e.label:
        (x, y), (to, up) = e.curve[0][0], e.curve[0][-1]
        colour = EDGES[e.kind].get("color", LINE)
        lp = f"{(x + to) / 2:.2f},{y + 9:.2f}" if abs(to - x) > 1 else f"{x + 9:.2f},{(y + up) / 2:.2f}"
        more |= {"label": e.label, "lp": lp, "fontsize": 13, "fontcolor": colour}
    more |= {"pos": spline(*e.curve)} if plays or e.ends is None else _ends(e, *e.ends)
    thin = {"penwidth": min(_width(e), MOST)} if plays and e.ends is not None else {}
    return edge(e.tail.key, e.head.key, e.kind, **{**more, **e.look, **thin})


def _width(e: Edge) -> float:
    """Of its line."""
    return float(str({**EDGE, **EDGES[e.kind], **e.look}["penwidth"]))


def _ends(e: Edge, tail: bool, head: bool) -> dict[str, object]:
    """A line in a drawing of gradients, with an arrow at its tail, or at its head."""
    curve, tip = against(e.curve, e.kind, _width(e), tail=tail, head=head)
    ways = {(True, True): "both", (True, False): "back", (False, True): "forward", (False, False): "none"}
    return {"pos": spline(*curve, tip), "dir": ways[tail, head]}


def _at(moment: int, also: str = "", *, forward: bool = False) -> dict[str, object]:
    """The classes in an SVG by which a drawing plays."""
    classes = " ".join(filter(None, (f"t{moment}" if moment else "", also, "forward" if moment and forward else "")))
    return {"class": classes} if classes else {}


def _title(layout: Layout, title: str) -> str:
    left, _, right, top = layout.extent()
    return node("title", title, "", "text", pos=f"{(left + right) / 2:.2f},{top + 22:.2f}", fontsize=14)
