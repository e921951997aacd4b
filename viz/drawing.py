"""A drawing: what viz.draw returns. It shows itself, and saves itself in any format."""

from __future__ import annotations

import json
import math

from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Any

from tinygrad_rnn.files import replace_atomically, write_atomically
from viz.graphviz import render
from viz.layout.layout import Layout
from viz.picture.picture import Picture
from viz.play import film, optional, page
from viz.play.page import fitted, framed
from viz.play.svg import readouts, scaled
from viz.style import GRAPH
from viz.write import equation_lines, moment_dot, placed_dot, plain_dot

FORMATS = (".svg", ".png", ".pdf", ".dot", ".html", ".gif", ".mp4")
DPI = 110
MOST_DPI = 2400
PAD = 72 * float(str(GRAPH["pad"]))  # points round a drawing


class Drawing:
    """A drawing of a graph. In a notebook it shows itself.

    picture  what is drawn
    compose  gives everything its place
    size     width and height of a page, in inches: a larger drawing is made smaller, so that it fits; None: as it is
    zoom     how many times as large it is drawn, on no page; None: as it is
    """

    size: tuple[float, float] | None = None
    zoom: float | None = None

    def __init__(self, picture: Picture, compose: Callable[[], Layout], title: str = "", description: str = ""):
        self.picture, self._compose = picture, compose
        self.title, self.description = title, description

    @cached_property
    def layout(self) -> Layout:
        """Where everything is; found when it is first asked for, which takes Graphviz."""
        return self._compose()

    @property
    def dot(self) -> str:
        """The source, in Graphviz' language. All positions are in it, unless nothing here can find them."""
        if render.available() or not self.picture.items():  # attention is laid out without Graphviz
            return placed_dot.dot(self.layout, self.title, **self._fitted())
        return plain_dot.dot(self.picture, self.title)

    def _fitted(self) -> dict[str, Any]:
        """The attribute of Graphviz that makes a drawing fit its page, or larger or smaller."""
        if self.zoom is not None:
            return {"size": "{:.4f},{:.4f}!".format(*(self.zoom * side for side in self._inches()))}
        return {} if self.size is None else {"size": "{:.4f},{:.4f}".format(*self.size)}

    def _factor(self) -> float:
        """How many times as large a film is than it would be."""
        if self.zoom is not None:
            return self.zoom
        return 1.0 if self.size is None else min(self.scales())

    def _inches(self) -> tuple[float, float]:
        """Width and height as it is; with its title, for whose size Graphviz is asked if it is there."""
        left, bottom, right, top = self.layout.extent()
        if self.title and render.available():
            placed = json.loads(render.render(placed_dot.dot(self.layout, self.title), "json0"))
            left, bottom, right, top = map(float, placed["bb"].split(","))
        return (right - left + 2 * PAD) / 72, (top - bottom + 2 * PAD) / 72

    def scales(self) -> tuple[float, float]:
        """What its page allows: how large it may be drawn, at most as it is, for its width and for its height."""
        (across, up), (wide, high) = self._inches(), self.size or (math.inf, math.inf)
        return min(1.0, wide / across), min(1.0, high / up)

    def svg(self) -> str:
        """The picture as SVG, on a transparent page. RuntimeError if nothing here draws graphs."""
        return equation_lines.joined(render.render(self.dot, "svg").decode(), self.layout)

    def film(self) -> str:
        """The same as an SVG that plays by itself: forward through time, then backward."""
        return film.film(self._untitled(), self.moments)

    def html(self) -> str:
        """One page with the drawing, a slider for the time step and a play button; it needs nothing else."""
        return page.page(self._untitled(), self.moments, title=self.title or self.description)

    def _untitled(self) -> str:
        plain = render.render(placed_dot.dot(self.layout, plays=True), "svg").decode()
        return scaled(equation_lines.joined(plain, self.layout), self._factor())

    @property
    def moments(self) -> list[str]:
        """What appears one after the other when the drawing plays: the titles of the steps."""
        return self.picture.moments or [self.title or "the graph"]

    def save(self, path: str | Path, *, play: bool = False, dpi: float = DPI) -> None:
        """Write it as the suffix says: .svg, .png, .pdf, .dot, .html, .gif or .mp4.

        The file is there whole or not at all. A GIF and an MP4 play: forward through time, then backward, as `film`
        does; they need the extra "film".

        play: an SVG that plays by itself  dpi: dots per inch of a PNG, a GIF or an MP4; many players show no MP4 of
            more than 4096 pixels in width

        ValueError for a film that is too large. RuntimeError for a package that is missing, and if nothing here draws
        graphs: then the source stands beside, as .dot.
        """
        path = Path(path)
        suffix = checked_suffix(path)
        if suffix != ".dot" and not render.available():
            source = path.with_suffix(".dot")
            write_atomically(source, self.dot)
            raise render.missing(f", wrote {source}")
        if not 1 <= dpi <= MOST_DPI:
            raise ValueError(f"viz: dpi must be from 1 to {MOST_DPI}, got {dpi}")
        if suffix in optional.MODULES:
            optional.require(suffix)
            replace_atomically(path, lambda temporary: self._record(temporary, dpi))
        else:
            write_atomically(path, self.film() if play and suffix == ".svg" else self._file(suffix, dpi))

    def _file(self, suffix: str, dpi: float) -> bytes | str:
        if suffix == ".dot":
            return self.dot
        if suffix in (".svg", ".html"):
            return self.svg() if suffix == ".svg" else self.html()
        resolution = {"dpi": dpi} if suffix == ".png" else {}
        source = placed_dot.dot(self.layout, self.title, on_paper=True, plays=False, **resolution, **self._fitted())
        return render.render(source, suffix[1:])

    def _record(self, path: Path, dpi: float) -> None:
        """The film as a GIF or an MP4, put together from pictures of what belongs to each moment."""
        from viz.play import frames, movie  # noqa: PLC0415 (they need Pillow)

        said, dpi = readouts(self.moments, True)[1:], dpi * self._factor()
        left, bottom, right, top = self.layout.extent()
        frames.check_size(right - left, top - bottom, len(said), dpi / 72)
        source = placed_dot.dot(self.layout, self.title, plays=True, dpi=dpi)
        draw = lambda *what: render.render(moment_dot.at(source, *what), "png")
        captions = [moment_dot.caption(text, dpi, back=i >= len(self.moments)) for i, text in enumerate(said)]
        pictures = [render.render(caption, "png") for caption in captions]
        movie.write(path, frames.Film(draw, moment_dot.moments(source), pictures, dpi / 72))

    def play(self, height: int = 480) -> Player:
        """The page of `html` in its place in a notebook, in a frame so high, in pixels."""
        return Player(self.html(), height)

    player = play

    def _repr_svg_(self) -> str:
        return self.svg()

    def _repr_html_(self) -> str:
        return fitted(self.svg())


class Player:
    """A page that shows itself in a notebook, in a frame: its rules and keys are not for the notebook's own page."""

    def __init__(self, page: str, height: int):
        self.page, self.height = page, height

    def _repr_html_(self) -> str:
        return framed(self.page, self.height)


def checked_suffix(path: Path) -> str:
    """The suffix, if there is such a format."""
    suffix = path.suffix.lower()
    if suffix not in FORMATS:
        raise ValueError(f"viz.draw: the file name must end in {', '.join(FORMATS)}, got {path.name!r}")
    return suffix
