"""A drawing: what viz.draw returns. It shows itself, and saves itself in any format."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from pathlib import Path

from tinygrad_rnn.files import write_atomically
from viz.graphviz import render
from viz.layout.layout import Layout
from viz.picture.picture import Picture
from viz.play import film, page
from viz.play.page import fitted, framed
from viz.write import placed_dot, plain_dot

FORMATS = (".svg", ".png", ".pdf", ".dot", ".html")
DPI = 110
MOST_DPI = 2400


class Drawing:
    """A drawing of a graph. In a notebook it shows itself.

    picture  what is drawn
    compose  gives everything its place
    """

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
            return placed_dot.dot(self.layout, self.title)
        return plain_dot.dot(self.picture, self.title)

    def svg(self) -> str:
        """The picture as SVG, on a transparent page. RuntimeError if nothing here draws graphs."""
        return render.render(self.dot, "svg").decode()

    def film(self) -> str:
        """The same as an SVG that plays by itself: forward through time, then backward."""
        return film.film(self._untitled(), self.moments)

    def html(self) -> str:
        """One page with the drawing, a slider for the time step and a play button; it needs nothing else."""
        return page.page(self._untitled(), self.moments, title=self.title or self.description)

    def _untitled(self) -> str:
        return render.render(placed_dot.dot(self.layout), "svg").decode()

    @property
    def moments(self) -> list[str]:
        """What appears one after the other when the drawing plays: the titles of the steps."""
        return self.picture.moments or [self.title or "the graph"]

    def save(self, path: str | Path, *, play: bool = False, dpi: float = DPI) -> None:
        """Write it as the suffix says: .svg, .png, .pdf, .dot or .html; the file is there whole or not at all.

        play: an SVG that plays by itself  dpi: dots per inch of a PNG

        RuntimeError if nothing here draws graphs: then the source stands beside, as .dot.
        """
        path = Path(path)
        suffix = checked_suffix(path)
        if suffix != ".dot" and not render.available():
            source = path.with_suffix(".dot")
            write_atomically(source, self.dot)
            raise render.missing(f", wrote {source}")
        if not 1 <= dpi <= MOST_DPI:
            raise ValueError(f"viz: dpi must be from 1 to {MOST_DPI}, got {dpi}")
        write_atomically(path, self.film() if play and suffix == ".svg" else self._file(suffix, dpi))

    def _file(self, suffix: str, dpi: float) -> bytes | str:
        if suffix == ".dot":
            return self.dot
        if suffix in (".svg", ".html"):
            return self.svg() if suffix == ".svg" else self.html()
        resolution = {"dpi": dpi} if suffix == ".png" else {}
        return render.render(placed_dot.dot(self.layout, self.title, on_paper=True, **resolution), suffix[1:])

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
