"""A drawing that plays: an SVG that runs by itself, and a page with a slider.

What a drawing says about time stands in the classes of its nodes, edges and clusters:

    t3      belongs to moment 3: not there before it. Without such a class: always there.
    b3      there only while the backward pass is at moment 3.
    state   carries a state to the next step: on the way back its line runs, from its head to its tail.
    weight  an attention weight: there at its own moment only, and in the end.
    forward no gradient comes to it, or along it: it stays as it is on the way back.

On the way back the other arrows are at the other ends of their edges, as the gradient goes.

The positions in time of N moments: 0 is the graph as drawn, 1 … N the forward pass, N + j the backward pass at moment
N + 1 - j, and the last shows everything.
"""

from __future__ import annotations

import re

from collections.abc import Sequence
from xml.etree import ElementTree
from xml.etree.ElementTree import Element, SubElement

from viz.style import GRADIENT

SHAPES = ("path", "polygon", "ellipse", "polyline")
PIXELS = {"pt": 4 / 3, "in": 96.0, "px": 1.0, "": 1.0}

_PREFIXES = {"{http://www.w3.org/1999/xlink}": "xlink:", "{http://www.w3.org/XML/1998/namespace}": "xml:"}
_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_TOKEN = re.compile(r"([tb])(\d+)")
LENGTH = re.compile(r"([\d.]+)(pt|in|px|)")


def readouts(labels: Sequence[str], backward: bool) -> list[str]:
    """The caption of each position in time, first that of the graph as drawn."""
    forward = [f"forward · {label}" for label in labels]
    if not backward:
        return ["the whole graph", *forward, "forward · all steps"]
    back = [f"backward · ∂L/∂ at {label}" for label in reversed(labels)]
    return ["the whole graph", *forward, *back, "backward · ∂L/∂ everywhere"]


# ---- the drawing ----------------------------------------------------------------------------------------------------


def embeddable(svg: str, labels: Sequence[str], key: str, who: str) -> tuple[Element, dict[int, Element]]:
    """A drawing's root, fit to stand in another document, and the group of each moment."""
    try:
        root = ElementTree.fromstring(clean(svg))
        graph = next(e for e in root if "graph" in e.get("class", "").split())
    except (ElementTree.ParseError, StopIteration):
        raise ValueError(f"{who}: svg must be a drawing of Graphviz, got {svg[:40]!r}") from None
    clear(root)
    rename_ids(root, key)
    root.insert(0, _markers(key))
    for edge in graph:
        names = edge.get("class", "").split()
        if "edge" in names and not {"weight", "forward"} & {*names} and edge.find(".//polygon") is not None:
            edge.set("data-arrow", "")
    groups = _gather(graph)
    if not labels or not all(1 <= moment <= len(labels) for moment in groups):
        raise ValueError(f"{who}: labels must name moments 1 … {max(groups, default=1)}, got {len(labels)} labels")
    return root, groups


def _markers(key: str) -> Element:
    """An arrow for the tail of a line, and what the line lacks at its head when the arrow there is gone."""
    defs = Element("defs")
    look = {"orient": "auto", "markerUnits": "userSpaceOnUse", "markerWidth": "8", "markerHeight": "8"}
    back = SubElement(defs, "marker", {"id": f"{key}-back", **look, "viewBox": "-1 -4 8 8"})
    SubElement(back, "path", {"d": "M0,0 6,-2.3 6,2.3z", "fill": GRADIENT})
    stub = SubElement(defs, "marker", {"id": f"{key}-stub", **look, "viewBox": "-1 -4 8 8"})
    SubElement(stub, "path", {"d": "M-.5,0H6", "stroke": GRADIENT, "stroke-width": "1.2"})
    return defs


def clean(text: str) -> str:
    """Without what XML cannot hold, such as control characters."""
    return _NOT_XML.sub("\N{REPLACEMENT CHARACTER}", text)


def clear(root: Element) -> None:
    """Drop Graphviz' names of things, which browsers show as tooltips; and scripts, which a film has no use for."""
    for parent in root.iter():
        for child in list(parent):
            if child.tag.endswith(("}title", "}script")):
                parent.remove(child)


def rename_ids(root: Element, key: str) -> None:
    """Ids of its own, so that two drawings can stand in one document; no namespaces, so that HTML reads it too."""
    for element in root.iter():
        element.tag = element.tag.rpartition("}")[2]
        element.attrib = {_plain(name): _own(_plain(name), value, key) for name, value in element.attrib.items()}
    root.attrib |= {"xmlns": "http://www.w3.org/2000/svg", "xmlns:xlink": "http://www.w3.org/1999/xlink"}


def _plain(name: str) -> str:
    space, brace, local = name.rpartition("}")
    return _PREFIXES.get(space + brace, "") + local


def _own(name: str, value: str, key: str) -> str:
    if name == "id":
        return f"{key}-{value}"
    if name.endswith("href") and value.startswith("#"):
        return f"#{key}-{value[1:]}"
    return value.replace("url(#", f"url(#{key}-")


def _gather(graph: Element) -> dict[int, Element]:
    """Make what belongs to a moment one group, in the order drawn: one element to touch, however many nodes it has."""
    groups: dict[int, Element] = {}
    children = list(graph)
    graph[:] = []
    for child in children:
        found = [match for token in child.get("class", "").split() if (match := _TOKEN.fullmatch(token))]
        if not found:
            graph.append(child)
            continue
        moment = int(found[0][2])
        if any(match[1] == "b" for match in found):
            child.set("class", child.get("class", "") + " only")
        if moment not in groups:
            groups[moment] = SubElement(graph, "g", {"class": f"moment m{moment}", "data-moment": str(moment)})
        groups[moment].append(child)
    return groups


def view_box(root: Element) -> list[float]:
    """(left, top, width, height) in points."""
    return [float(v) for v in root.get("viewBox", "0 0 300 150").split()]


def size_of(root: Element) -> tuple[float, float]:
    """Width and height in pixels; from the view box where the SVG has none."""
    width, height = (LENGTH.fullmatch(root.get(name, "")) for name in ("width", "height"))
    if width and height:
        return float(width[1]) * PIXELS[width[2]], float(height[1]) * PIXELS[height[2]]
    _, _, w, h = view_box(root)
    return w * PIXELS["pt"], h * PIXELS["pt"]


def scaled(svg: str, factor: float) -> str:
    """A drawing that is so many times as wide and as high."""
    grown = lambda side: f'{side[1]}="{float(side[2]) * factor:g}{side[3]}"'
    head, end, rest = svg.partition("viewBox")
    return re.sub(r'\b(width|height)="([\d.]+)(pt|in|px|)"', grown, head) + end + rest


def text_of(root: Element) -> str:
    """An SVG's element as text, without an XML declaration."""
    return ElementTree.tostring(root, encoding="unicode").strip()
