"""A drawing as a film: an SVG that runs by itself, by CSS alone."""

from __future__ import annotations

import hashlib
import math

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from string import Template
from xml.etree.ElementTree import Element, SubElement

from viz.play.page import asset
from viz.play.svg import LENGTH, SHAPES, clean, embeddable, readouts, text_of, view_box
from viz.style import FONT, GRADIENT, LINE

GHOST = 0.1  # opacity of what is yet to come
STEP = 0.9  # seconds that a moment takes
HOLD = 2.5  # seconds at the end of a film
STRIP = 28  # height of a film's caption, in points


def film(svg: str, labels: Sequence[str], *, backward: bool = True, seconds: float = STEP) -> str:
    """The drawing as an SVG that plays by itself, over and over, also as the image of a page (by rules of CSS alone).

    labels: what each moment is called, such as "t = 3"
    seconds: how long a moment takes
    Who prefers reduced motion sees the whole drawing at rest. ValueError for what is no drawing of these moments.
    """
    if not 0 < seconds < math.inf:
        raise ValueError(f"film: seconds must be above 0, got {seconds}")
    clock = _Clock(len(labels), backward, seconds)
    key = "film-" + hashlib.sha256(repr((svg, list(labels), clock)).encode()).hexdigest()[:8]
    root, groups = embeddable(svg, labels, key, "film")
    root.set("class", key)
    _caption(root, readouts(labels, backward)[1:], clock)
    style = Element("style")
    style.text = _film_style(groups, clock, key)
    root.insert(0, style)
    return text_of(root) + "\n"


# ---- the film -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Clock:
    """When things happen in a film, in seconds."""

    moments: int
    backward: bool
    step: float

    @property
    def end(self) -> float:
        """When all moments are over, and the whole drawing rests."""
        return self.moments * self.step * (2 if self.backward else 1)

    @property
    def total(self) -> float:
        """How long the film takes until it begins again."""
        return self.end + HOLD

    @property
    def soft(self) -> float:
        """How long a soft transition takes."""
        return min(0.35, self.step / 2)

    def enter(self, moment: int) -> float:
        """The forward pass comes to a moment."""
        return (moment - 1) * self.step

    def reach(self, moment: int) -> float:
        """The backward pass comes to a moment."""
        return (2 * self.moments - moment) * self.step

    def percent(self, time: float) -> str:
        """A time as a share of the film, as keyframes have it: 25%."""
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
    return Template(asset("film.css")).substitute(key=key, rules="\n".join(rules), step=step, hold=hold)


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
    yield f".{key} .forward{{{''.join(f'--{name}:initial;' for name in ('line', 'dashes', 'back', 'stub', 'fore'))}}}"
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
    x, y, width, height = view_box(root)
    root.set("viewBox", f"{x:g} {y:g} {width:g} {height + STRIP:g}")
    found = LENGTH.fullmatch(root.get("height", ""))
    if found:
        root.set("height", f"{float(found[1]) * (height + STRIP) / height:g}{found[2]}")
    place = f"translate({x + width / 2:g} {y + height + STRIP / 2:g})"
    look = {"text-anchor": "middle", "font-family": f"{FONT},sans-serif", "font-size": "13", "fill": LINE}
    captions = SubElement(root, "g", {"class": "captions", "transform": place, **look})
    for i, readout in enumerate(readouts):
        back = {"fill": GRADIENT} if clock.backward and i >= clock.moments else {}
        SubElement(captions, "text", {"style": f"animation-delay:{i * clock.step:g}s", **back}).text = clean(readout)
