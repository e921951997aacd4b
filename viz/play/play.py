"""A drawing that plays: an SVG that runs by itself, and a page with a slider.

What a drawing says about time stands in the classes of its nodes, edges and clusters:

    t3      belongs to moment 3: not there before it. Without such a class: always there.
    b3      there only while the backward pass is at moment 3.
    state   carries a state to the next step: on the way back its line runs, from its head to its tail.
    weight  an attention weight: there at its own moment only, and in the end.

On the way back arrows are at the other ends of their edges, as the gradient goes.

The positions in time of N moments: 0 is the graph as drawn, 1 … N the forward pass, N + j the backward pass at moment
N + 1 - j, and the last shows everything.
"""

from __future__ import annotations

import base64
import hashlib
import html
import json
import math
import re

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from importlib import resources
from string import Template
from xml.etree import ElementTree
from xml.etree.ElementTree import Element, SubElement

from viz.style import COLOURS, FONT, LINE

GRADIENT = COLOURS["loss"][1]
GHOST = 0.1  # opacity of what is yet to come
HOLD = 2.5  # seconds at the end of a film
LEAST = 0.7  # of its size: what a drawing shrinks to
STRIP = 28  # height of a film's caption, in points
SHAPES = ("path", "polygon", "ellipse", "polyline")
PIXELS = {"pt": 4 / 3, "in": 96.0, "px": 1.0, "": 1.0}

_PREFIXES = {"{http://www.w3.org/1999/xlink}": "xlink:", "{http://www.w3.org/XML/1998/namespace}": "xml:"}
_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_TOKEN = re.compile(r"([tb])(\d+)")
_LENGTH = re.compile(r"([\d.]+)(pt|in|px|)")


def film(svg: str, labels: Sequence[str], *, backward: bool = True, seconds: float = 0.9) -> str:
    """The drawing as an SVG that plays by itself, over and over, also as the image of a page (by rules of CSS alone).

    labels: what each moment is called, such as "t = 3"
    seconds: how long a moment takes
    Who prefers reduced motion sees the whole drawing at rest. ValueError for what is no drawing of these moments.
    """
    if not 0 < seconds < math.inf:
        raise ValueError(f"film: seconds must be above 0, got {seconds}")
    clock = _Clock(len(labels), backward, seconds)
    key = "film-" + hashlib.sha256(repr((svg, list(labels), clock)).encode()).hexdigest()[:8]
    root, groups = _embeddable(svg, labels, key, "film")
    root.set("class", key)
    _caption(root, _readouts(labels, backward)[1:], clock)
    style = Element("style")
    style.text = _film_style(groups, clock, key)
    root.insert(0, style)
    return _text(root) + "\n"


def page(svg: str, labels: Sequence[str], *, title: str, backward: bool = True) -> str:
    """The drawing as one HTML file with a slider over time and a play button. It loads nothing.

    labels: what each moment is called, such as "t = 3"
    `#7` at the end of its address opens position 7. ValueError for what is no drawing of these moments.
    """
    root, _ = _embeddable(svg, labels, "drawing", "page")
    width, height = _size(root)
    root.attrib = {name: value for name, value in root.attrib.items() if name not in ("width", "height")}
    root.attrib |= {"role": "img", "aria-label": _clean(title)}
    script = _asset("player.js")
    data = {"moments": len(labels), "backward": backward, "readouts": _readouts(labels, backward)}
    return Template(_asset("page.html")).substitute(
        title=html.escape(_clean(title)),
        style=_asset("page.css"),
        width=f"{width:.0f}",
        height=f"{height:.0f}",
        drawing=_text(root),
        data=json.dumps(data).replace("<", "\\u003c"),  # or a label could end the script
        script=script,
        # Names the one script that may run: better than to look for others in the drawing.
        digest=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
    )


def fitted(svg: str) -> str:
    """The drawing for a page of somebody else, such as a notebook's: as large as drawn, or as wide as there is room;
    but never so small that its text is hard to read: then it scrolls.
    """
    root = ElementTree.fromstring(_clean(svg))
    _clear(root)
    _rename(root, "drawing-" + hashlib.sha256(svg.encode()).hexdigest()[:8])
    width, _ = _size(root)
    root.attrib = {name: value for name, value in root.attrib.items() if name not in ("width", "height")}
    root.set("style", f"width:max({LEAST * width:.0f}px,min(100%,{width:.0f}px));height:auto")
    return f'<div style="overflow-x:auto">{_text(root)}</div>'


def framed(page: str, height: int) -> str:
    """A page inside another one, in a frame of its own."""
    look = f"width:100%;height:{height}px;border:0"
    return f'<iframe srcdoc="{html.escape(page)}" sandbox="allow-scripts" style="{look}"></iframe>'


def _asset(name: str) -> str:
    return resources.files("viz.play").joinpath("assets", name).read_text(encoding="utf-8")


def _readouts(labels: Sequence[str], backward: bool) -> list[str]:
    """What is said of each position."""
    forward = [f"forward · {label}" for label in labels]
    if not backward:
        return ["the whole graph", *forward, "forward · all steps"]
    back = [f"backward · ∂L/∂ at {label}" for label in reversed(labels)]
    return ["the whole graph", *forward, *back, "backward · ∂L/∂ everywhere"]


# ---- the drawing ----------------------------------------------------------------------------------------------------


def _embeddable(svg: str, labels: Sequence[str], key: str, who: str) -> tuple[Element, dict[int, Element]]:
    """A drawing's root, fit to stand in another document, and the group of each moment."""
    try:
        root = ElementTree.fromstring(_clean(svg))
        graph = next(e for e in root if "graph" in e.get("class", "").split())
    except (ElementTree.ParseError, StopIteration):
        raise ValueError(f"{who}: svg must be a drawing of Graphviz, got {svg[:40]!r}") from None
    _clear(root)
    _rename(root, key)
    root.insert(0, _markers(key))
    for edge in graph:
        names = edge.get("class", "").split()
        if "edge" in names and "weight" not in names and edge.find(".//polygon") is not None:
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


def _clean(text: str) -> str:
    """Without what XML cannot hold, such as control characters."""
    return _NOT_XML.sub("\N{REPLACEMENT CHARACTER}", text)


def _clear(root: Element) -> None:
    """Drop Graphviz' names of things, which browsers show as tooltips; and scripts, which a film has no use for."""
    for parent in root.iter():
        for child in list(parent):
            if child.tag.endswith(("}title", "}script")):
                parent.remove(child)


def _rename(root: Element, key: str) -> None:
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


def _box(root: Element) -> list[float]:
    return [float(v) for v in root.get("viewBox", "0 0 300 150").split()]


def _size(root: Element) -> tuple[float, float]:
    """Width and height in pixels."""
    width, height = (_LENGTH.fullmatch(root.get(name, "")) for name in ("width", "height"))
    if width and height:
        return float(width[1]) * PIXELS[width[2]], float(height[1]) * PIXELS[height[2]]
    _, _, w, h = _box(root)
    return w * PIXELS["pt"], h * PIXELS["pt"]


def _text(root: Element) -> str:
    return ElementTree.tostring(root, encoding="unicode").strip()


# ---- the film -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Clock:
    """When things happen in a film, in seconds."""

    moments: int
    backward: bool
    step: float

    @property
    def end(self) -> float:
        """All moments are over."""
        return self.moments * self.step * (2 if self.backward else 1)

    @property
    def total(self) -> float:
        """The film begins again."""
        return self.end + HOLD

    @property
    def soft(self) -> float:
        """The time of a transition."""
        return min(0.35, self.step / 2)

    def enter(self, moment: int) -> float:
        """The forward pass comes to a moment."""
        return (moment - 1) * self.step

    def reach(self, moment: int) -> float:
        """The backward pass comes to a moment."""
        return (2 * self.moments - moment) * self.step

    def percent(self, time: float) -> str:
        """Of the film."""
        return f"{100 * time / self.total:.6g}%"


def _film_style(groups: dict[int, Element], clock: _Clock, key: str) -> str:
    """The rules of all moments: a few for each and for each colour, none for a single node."""
    lasts = f"{clock.total:g}s infinite"
    rules = [f".{key} .captions text{{animation:{key}-said {lasts} step-end}}"]
    rules.append(f".{key} .captions :last-child{{animation-name:{key}-stays}}")
    for moment, group in groups.items():
        tokens = {token for child in group for token in child.get("class", "").split()}
        rules += _moment_rules(moment, tokens, clock, key)
    if clock.backward:
        rules += _gradient_rules(groups.values(), key)
    step, hold = clock.percent(clock.step), clock.percent(HOLD)
    return Template(_asset("film.css")).substitute(key=key, rules="\n".join(rules), step=step, hold=hold)


def _moment_rules(moment: int, tokens: set[str], clock: _Clock, key: str) -> Iterator[str]:
    me, lasts, name = f".{key} .m{moment}", f"{clock.total:g}s infinite", f"{key}-{moment}"
    enter, reach = clock.enter(moment), clock.reach(moment)
    turns = [(enter, enter + clock.step), *([(reach, reach + clock.step)] if clock.backward else [])]
    plays = [f"{name} {lasts} linear", f"{name}g {lasts} linear"]
    yield _keyframes(name, [(enter, clock.total)], f"opacity:{GHOST}", "opacity:1", clock)
    yield _keyframes(name + "g", turns, "filter:none", "filter:drop-shadow(0 0 3px var(--glow))", clock)
    if "weight" in tokens:
        yield f"{me} .weight{{animation:{name}w {lasts} linear}}"
        yield _keyframes(name + "w", [*turns, (clock.end, clock.total)], "opacity:0", "opacity:1", clock)
    if clock.backward:
        plays.append(f"{name}r {lasts} step-end")
        ends = f"--back:url(#{key}-back);--stub:url(#{key}-stub);--fore:0"
        look = f"--glow:rgb(192 57 43/.6);--line:{GRADIENT};--dashes:6 4;{ends}"
        yield f"@keyframes {name}r{{{clock.percent(reach)},100%{{{look}}}}}"
        if "only" in tokens:
            yield f"{me} .only{{animation:{name}b {lasts} linear}}"
            yield _keyframes(name + "b", turns[1:], "opacity:0", "opacity:1", clock)
    yield f"{me}{{animation:{','.join(plays)}}}"


def _gradient_rules(groups: Iterable[Element], key: str) -> Iterator[str]:
    """A line has its own colour until its moment sets --line: so one animation does for all lines of a moment."""
    shapes = [shape for group in groups for shape in group.iter() if shape.tag in SHAPES]
    colours = {shape.get(name, "none") for shape in shapes for name in ("stroke", "fill")}
    for colour in sorted(colours - {"none", "transparent"}):
        yield f'.{key} .moment [stroke="{colour}"]{{stroke:var(--line,{colour})}}'
        yield f'.{key} .moment .edge polygon[fill="{colour}"]{{fill:var(--line,{colour})}}'
    yield f".{key} .moment [data-arrow] path{{marker-start:var(--back,none);marker-end:var(--stub,none)}}"
    yield f".{key} .moment [data-arrow] polygon{{opacity:var(--fore,1)}}"
    yield f".{key} .state path{{stroke-dasharray:var(--dashes);animation:{key}-flow .8s linear infinite}}"


def _keyframes(name: str, spans: Iterable[tuple[float, float]], rest: str, there: str, clock: _Clock) -> str:
    """One look in some spans of time and another outside of them, with soft transitions."""
    joined: list[tuple[float, float]] = []
    for start, stop in spans:
        if joined and start <= joined[-1][1] + clock.soft:
            start = joined.pop()[0]
        joined.append((start, stop))
    stops = {0.0: rest}
    for start, stop in joined:
        stop = min(stop, clock.total - clock.soft)
        stops |= {start: rest, start + clock.soft: there, stop: there, stop + clock.soft: rest}
    stops[clock.total] = rest
    return f"@keyframes {name}{{{''.join(f'{clock.percent(time)}{{{look}}}' for time, look in stops.items())}}}"


def _caption(root: Element, readouts: Sequence[str], clock: _Clock) -> None:
    """Below the drawing: what is going on, a line for each position, one at a time."""
    x, y, width, height = _box(root)
    root.set("viewBox", f"{x:g} {y:g} {width:g} {height + STRIP:g}")
    found = _LENGTH.fullmatch(root.get("height", ""))
    if found:
        root.set("height", f"{float(found[1]) * (height + STRIP) / height:g}{found[2]}")
    place = f"translate({x + width / 2:g} {y + height + STRIP / 2:g})"
    look = {"text-anchor": "middle", "font-family": f"{FONT},sans-serif", "font-size": "13", "fill": LINE}
    captions = SubElement(root, "g", {"class": "captions", "transform": place, **look})
    for i, readout in enumerate(readouts):
        back = {"fill": GRADIENT} if clock.backward and i >= clock.moments else {}
        SubElement(captions, "text", {"style": f"animation-delay:{i * clock.step:g}s", **back}).text = _clean(readout)
