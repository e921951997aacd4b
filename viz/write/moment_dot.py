"""What a film shows, in DOT: of a drawing with every position given, one moment alone; all else is there, unseen.

What belongs to a moment stands in the classes of nodes and edges; viz/play/svg.py tells which there are.
"""

from __future__ import annotations

import math
import re

from collections.abc import Set

from viz.graphviz.dot import digraph, node, spline
from viz.style import EDGE, GRADIENT, LINE

_STATEMENT = re.compile(r'( *"(?:[^"\\]|\\.)*"(?: -> "(?:[^"\\]|\\.)*")?) \[(.*)\];')
_VALUE = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')
_MOMENT = re.compile(r"\b[tb](\d+)\b")


def moments(dot: str) -> dict[int, set[str]]:
    """The moments that something belongs to, in the order drawn: 0 what is always there; and what stands out there:
    "weight", attention's; "only", what is there on the way back alone.
    """
    found: dict[int, set[str]] = {0: set()}
    for _, values in filter(None, map(_parts, dot.splitlines())):
        moment, role = _role(values)
        found.setdefault(moment, set()).update(filter(None, [role]))
    return found


def at(dot: str, moment: int, roles: Set[str], reached: bool) -> str:
    """The drawing with nothing to be seen but what belongs to a moment and, of what stands out, has one of these roles.

    reached: as it is when the way back has come there: red, with arrows at the other ends of the edges
    """
    lines = []
    for line in dot.splitlines():
        parts = _parts(line)
        if parts is not None:
            head, values = parts
            place, role = _role(values)
            if place != moment or (role and role not in roles):
                line = _written(head, {**values, "style": "invis"})
            elif reached and "forward" not in values.get("class", "").split():
                line = _written(head, _reached_edge(values) if " -> " in head else _reached_node(values))
        lines.append(line)
    return "\n".join(lines)


def caption(text: str, dpi: float, *, back: bool) -> str:
    """What is going on, as a picture of its own. back: on the way back, in red"""
    look = {"fontsize": 13, "fontcolor": GRADIENT if back else LINE, "pos": "0,0"}
    return digraph([node("caption", text, "", "name", **look)], layout="nop2", bgcolor="transparent", pad=0.02, dpi=dpi)


def _parts(line: str) -> tuple[str, dict[str, str]] | None:
    """The key of a node or an edge, and its attributes as they stand between quotes."""
    found = _STATEMENT.fullmatch(line)
    return found and (found[1], dict(_VALUE.findall(found[2])))


def _written(head: str, values: dict[str, str]) -> str:
    attributes = ", ".join(f'{name}="{value}"' for name, value in values.items())
    return f"{head} [{attributes}];"


def _role(values: dict[str, str]) -> tuple[int, str]:
    """When it is there, and whether as "weight" or "only"."""
    classes = values.get("class", "")
    found = _MOMENT.search(classes)
    role = "only" if re.search(r"\bb\d+\b", classes) else "weight" if "weight" in classes.split() else ""
    return (int(found[1]), role) if found else (0, "")


def _reached_node(values: dict[str, str]) -> dict[str, str]:
    return {**values, "color": GRADIENT} if values.get("color", "transparent") != "transparent" else values


def _reached_edge(values: dict[str, str]) -> dict[str, str]:
    classes = values["class"].split()
    reached = {**values, "color": GRADIENT + values.get("color", "")[7:]}  # as transparent as it was
    if "state" in classes:
        reached["style"] = "dashed"
    if "weight" not in classes and values["pos"].startswith("e,"):
        reached["pos"] = _against(values["pos"], float(values.get("arrowsize", str(EDGE["arrowsize"]))))
    return reached


def _against(pos: str, arrowsize: float) -> str:
    """A spline with its arrow at the other end: the line to where the tip was; a line of no length with an arrow."""
    tip, start, *others = [(float(x), float(y)) for x, y in (p.split(",") for p in pos.removeprefix("e,").split())]
    x, y = next((point for point in others if math.dist(point, start) > 0.01), tip)
    part = 10 * arrowsize / math.dist((x, y), start)  # Graphviz' arrows are 10 points long
    base = start[0] + part * (x - start[0]), start[1] + part * (y - start[1])
    return f"{spline([start, *others, others[-1], tip, tip])};{spline([base] * 4, start)}"
