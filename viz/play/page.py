"""A drawing as a page with a slider over time."""

from __future__ import annotations

import base64
import hashlib
import html
import json

from collections.abc import Sequence
from importlib import resources
from string import Template
from xml.etree import ElementTree

from viz.play.svg import clean, clear, embeddable, readouts, rename_ids, size_of, text_of

LEAST = 0.7  # of its size: what a drawing shrinks to


def page(svg: str, labels: Sequence[str], *, title: str, backward: bool = True) -> str:
    """The drawing as one HTML file with a slider over time and a play button. It loads nothing.

    labels: what each moment is called, such as "t = 3"
    `#7` at the end of its address opens position 7. ValueError for what is no drawing of these moments.
    """
    root, _ = embeddable(svg, labels, "drawing", "page")
    width, height = size_of(root)
    root.attrib = {name: value for name, value in root.attrib.items() if name not in ("width", "height")}
    root.attrib |= {"role": "img", "aria-label": clean(title)}
    script = asset("player.js")
    data = {"moments": len(labels), "backward": backward, "readouts": readouts(labels, backward)}
    return Template(asset("page.html")).substitute(
        title=html.escape(clean(title)),
        style=asset("page.css"),
        width=f"{width:.0f}",
        height=f"{height:.0f}",
        drawing=text_of(root),
        data=json.dumps(data).replace("<", "\\u003c"),  # or a label could end the script
        script=script,
        # Names the one script that may run: better than to look for others in the drawing.
        digest=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
    )


def fitted(svg: str) -> str:
    """The drawing for a page of somebody else, such as a notebook's: as large as drawn, or as wide as there is room;
    but never so small that its text is hard to read: then it scrolls.
    """
    root = ElementTree.fromstring(clean(svg))
    clear(root)
    rename_ids(root, "drawing-" + hashlib.sha256(svg.encode()).hexdigest()[:8])
    width, _ = size_of(root)
    for note in root.iter("a"):  # a name with a tooltip, which a page would underline as a link
        note.set("style", "text-decoration:none")
    root.attrib = {name: value for name, value in root.attrib.items() if name not in ("width", "height")}
    root.set("style", f"width:max({LEAST * width:.0f}px,min(100%,{width:.0f}px));height:auto")
    return f'<div style="overflow-x:auto">{text_of(root)}</div>'


def framed(page: str, height: int) -> str:
    """A page inside another one, in a frame of its own."""
    look = f"width:100%;height:{height}px;border:0"
    return f'<iframe srcdoc="{html.escape(page)}" sandbox="allow-scripts" style="{look}"></iframe>'


def asset(name: str) -> str:
    """The text of a style sheet, a script or a page."""
    return resources.files("viz.play").joinpath("assets", name).read_text(encoding="utf-8")
