"""What a drawing of gradients has besides coloured nodes: lines as dark as what they carry, with arrows the way that
gradients go, and a legend.
"""

from __future__ import annotations

import math

from collections.abc import Mapping

from viz.layout.layout import Edge, Layout
from viz.layout.routes import line
from viz.layout.step_template import Box
from viz.picture.gradient import Scale
from viz.picture.picture import Item
from viz.style import EDGES, LINE, glow, ramp

SWATCHES = 24
WIDTH = 7.0  # of a swatch, in points
ARROWS: dict[str, tuple[dict[str, object], str]] = {  # how each sort looks, and what it says
    "backward": ({"color": glow(0.75), "penwidth": 2.2}, "the gradient flows back"),
    "sum": ({**EDGES["parameter"], "style": "solid"}, "to parameters, summed up"),
    "forward": ({}, "no gradient flows back"),
}


def tint_edges(layout: Layout, known: Mapping[Item, float], scale: Scale) -> None:
    """Lines are as dark and as thick as the gradient of what they carry, and lead it to their tails."""
    for e in layout.edges:
        comes, is_rail = e.tail in known and not e.kind.startswith("said"), e.kind == "parameter"
        flows = comes and e.flows
        if is_rail:
            e.look |= {"style": "solid"} if comes else {}  # dashes are of what has no gradient
        elif flows:
            share = scale.share(known[e.tail])
            e.look |= {"color": glow(share), "penwidth": round(0.8 + 3.0 * share, 2)}
        else:
            e.look |= {"color": LINE, "penwidth": 1.0}
        through = e.tail.kind == "delay" or e.tail.kind.endswith("dots")
        e.ends = (flows or (is_rail and comes)) and e.begins and not through, e.arrow and not flows


def legend(layout: Layout, scale: Scale) -> None:
    """A strip of the colours under the drawing, with its decades, and what arrows mean."""
    left, bottom, _, _ = layout.extent()
    y = bottom - 44
    for i in range(SWATCHES):
        look: dict[str, object] = {"fillcolor": ramp(i / (SWATCHES - 1)), "color": ramp(i / (SWATCHES - 1))}
        layout.boxes[Item(f"scale{i}", "", "", "swatch", look=look)] = Box(left + WIDTH * (i + 0.5), y, WIDTH, 12)
    width = WIDTH * SWATCHES
    low, high = round(math.log10(scale.low), 6), round(math.log10(scale.high), 6)
    step = max(1, math.ceil((high - low) / 5))
    for k, decade in enumerate(range(math.ceil(high), math.floor(low) - 1, -step)):
        if low <= decade <= high:
            x = left + width * (decade - low) / (high - low)
            layout.boxes[Item(f"tick{k}", _power(decade), "", "text", look={"fontsize": 10})] = Box(x, y - 14, 24, 12)
    title = Item("scale", "‖∂L/∂·‖", "", "text", look={"fontsize": 12})
    layout.boxes[title] = Box(left + width / 2, y + 18, width, 14)
    _explain(layout, left, y - 38)


def _explain(layout: Layout, left: float, y: float) -> None:
    """An arrow of each sort that there is, the first at this height, and what it says."""
    edges = list(layout.edges)
    is_there = {
        "backward": any(e.ends and e.ends[0] for e in edges if e.kind != "parameter"),
        "sum": any(e.ends and e.ends[0] for e in edges if e.kind == "parameter"),
        "forward": any(e.ends and e.ends[1] for e in edges),
    }
    for k, name in enumerate(name for name, there in is_there.items() if there):
        look, text = ARROWS[name]
        ends = [Item(f"legend{k}.{i}", "", "legend", "port") for i in range(2)]
        for end, x in zip(ends, (left + 1, left + 33), strict=True):
            layout.boxes[end] = Box(x, y - 16 * k, 2, 2)
        arrow = line([(left + 1, y - 16 * k), (left + 33, y - 16 * k)], "legend")
        back = name != "forward"
        layout.edges.append(Edge(ends[0], ends[1], "legend", arrow, look={**look}, ends=(back, not back)))
        label, wide = Item(f"legend{k}", text, "legend", "text", look={"fontsize": 10}), _width(text)
        layout.boxes[label] = Box(left + 40 + wide / 2, y - 16 * k, wide, 12)


def _width(text: str) -> float:
    """About how wide it is in this size, so that texts begin below each other."""
    return sum(3.3 if c in " ,filrt" else 9.7 if c == "m" else 6.1 for c in text)


def _power(decade: int) -> str:
    return f"{10.0**decade:g}" if -1 <= decade <= 2 else f"1e{decade}"
