"""Equations in an SVG: one text a line.

Graphviz writes a text for each part, at a place that the widths of its own font give; whoever looks at the SVG may have
another font, and then there would be gaps around subscripts.
"""

from __future__ import annotations

import re

from collections.abc import Mapping
from itertools import groupby, pairwise

from viz.layout.layout import Layout

PART = re.compile(
    r'<!-- (?P<key>equation(?P<line>\d+)\.\d+) -->\n<g [^>]*>\n<title>[^<]*</title>\n'
    r'<text (?P<before>[^>]*?)text-anchor="middle" x="(?P<x>[^"]*)" y="(?P<y>[^"]*)"(?P<after>[^>]*)>'
    r"(?P<text>[^<]*)</text>\n</g>\n"
)  # fmt: skip
SIZE = re.compile(r'font-size="[^"]*"')


def joined(svg: str, layout: Layout) -> str:
    """The SVG with the parts of each line in one text, from the left."""
    lines = {number: [*line] for number, line in groupby(PART.finditer(svg), lambda part: part["line"])}
    widths = {item.key: box.width for item, box in layout.boxes.items()} if lines else {}
    firsts = {line[0]["key"]: _line(line, widths) for line in lines.values()}
    return PART.sub(lambda part: firsts.get(part["key"], ""), svg)


def _line(parts: list[re.Match[str]], widths: Mapping[str, float]) -> str:
    first, text = parts[0], ""
    for before, part in pairwise(parts):
        down, size = float(part["y"]) - float(before["y"]), SIZE.search(part["after"])
        text += f'<tspan dy="{down:.2f}" {size[0] if size else ""}>{part["text"]}</tspan>'
    left = float(first["x"]) - widths[first["key"]] / 2
    key = f"equation{first['line']}"
    return (
        f'<!-- {key} -->\n<g id="{key}" class="node">\n<title>{key}</title>\n<text {first["before"]}x="{left:.2f}" '
        f'y="{first["y"]}"{first["after"]}>{first["text"]}{text}</text>\n</g>\n'
    )
