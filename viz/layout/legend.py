"""What a drawing of gradients has besides coloured nodes: lines as dark as what they carry, and a legend."""

from __future__ import annotations

import math

from collections.abc import Mapping

from viz.layout.layout import Layout
from viz.layout.step_template import Box
from viz.picture.gradient import Scale
from viz.picture.picture import Item
from viz.style import LINE, glow, ramp

SWATCHES = 24
WIDTH = 7.0  # of a swatch, in points


def tint_edges(layout: Layout, known: Mapping[Item, float], scale: Scale) -> None:
    """Lines are as dark and as thick as the gradient of what they carry."""
    for e in layout.edges:
        if e.tail in known and e.head in known and e.kind != "parameter" and not e.kind.startswith("said"):
            share = scale.share(known[e.tail])
            e.look |= {"color": glow(share), "penwidth": round(0.8 + 3.0 * share, 2)}
        elif e.kind != "parameter":
            e.look |= {"color": LINE, "penwidth": 1.0}


def legend(layout: Layout, scale: Scale) -> None:
    """A strip of the colours under the drawing, with its decades."""
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


def _power(decade: int) -> str:
    return f"{10.0**decade:g}" if -1 <= decade <= 2 else f"1e{decade}"
