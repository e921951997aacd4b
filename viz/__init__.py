"""viz: draws the recorded graph, unrolled over time.

    import viz
    viz.draw(loss, "lstm.svg")

One column for each time step, in the order of computing; the steps are found from the scopes that `nn.Recurrent` or a
`with tg.scope(t):` leaves in the graph; a compiled layer is drawn as its steps. Parameters stand at the left, once.
Hidden states run from step to step in green, memories (states that meet no weights) in purple; losses gather above.
Outside of time the graph goes upwards.

An affine map such as x·U + h·W + b is one node, because it is one thing in every textbook; the nonlinearities, gates
and sums that tell cells apart are nodes of their own.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cached_property
from pathlib import Path

from tinygrad_rnn.files import write_atomically
from tinygrad_rnn.graph import Node
from tinygrad_rnn.tensor import Tensor
from viz import plain, render, write
from viz.expand import expanded
from viz.layout import Composer, Layout
from viz.model import Picture
from viz.picture import Builder
from viz.rails import Rails
from viz.steps import chooser

__all__ = ["Drawing", "draw"]

FORMATS = (".svg", ".png", ".pdf", ".dot")
DPI = 110


class Drawing:
    """A drawing of a graph. In a notebook it shows itself."""

    def __init__(self, picture: Picture, title: str = ""):
        self.picture, self.title = picture, title

    @cached_property
    def layout(self) -> Layout:
        """Where everything is."""
        composer = Composer(self.picture)
        layout = composer.compose()
        Rails(composer).add()
        return layout

    @property
    def dot(self) -> str:
        """The source, in Graphviz' language. All positions are in it, unless nothing here can find them."""
        return write.dot(self.layout, self.title) if render.available() else plain.dot(self.picture, self.title)

    def svg(self) -> str:
        """The picture as SVG, on a transparent page. RuntimeError if nothing here draws graphs."""
        return render.render(self.dot, "svg").decode()

    def save(self, path: str | Path) -> None:
        """Write it as the suffix says: .svg, .png, .pdf or .dot; the file is there whole or not at all.

        RuntimeError if nothing here draws graphs: then the source stands beside, as .dot.
        """
        path = Path(path)
        suffix = _suffix(path)
        if suffix != ".dot" and not render.available():
            source = path.with_suffix(".dot")
            write_atomically(source, self.dot)
            raise RuntimeError(f"viz.draw: nothing here draws graphs, wrote {source}; {render.WAYS_OUT}")
        write_atomically(path, self._file(suffix))

    def _file(self, suffix: str) -> bytes:
        if suffix == ".dot":
            return self.dot.encode()
        if suffix == ".svg":
            return self.svg().encode()
        resolution = {"dpi": DPI} if suffix == ".png" else {}
        return render.render(write.dot(self.layout, self.title, on_paper=True, **resolution), suffix[1:])

    def _repr_svg_(self) -> str:
        return self.svg()


def draw(
    what: Tensor,
    path: str | Path | None = None,
    *,
    steps: str | Iterable[int] | None = None,
    title: str | None = None,
) -> Drawing:
    """Draw the graph that a tensor was computed by; save it if there is a path (.svg, .png, .pdf, .dot).

    what: a loss, or an output
    steps: the time steps to draw, counted from 1: "all", "1-3,998-1000", or numbers; by default the first four and
        the last four of a long sequence, with a count of the others
    title: stands above
    """
    node = what.node if isinstance(what, Tensor) else None
    if not isinstance(node, Node) or node.op is None:
        raise ValueError(f"viz.draw: what must be a tensor with a recorded graph, such as a loss, got {_short(what)}")
    if path is not None:
        _suffix(Path(path))
    choose = chooser(steps)
    drawing = Drawing(Builder(expanded(node, choose), choose).build(), title or "")
    if path is not None:
        drawing.save(path)
    return drawing


def _short(value: object) -> str:
    return "one without" if isinstance(value, Tensor) else type(value).__name__


def _suffix(path: Path) -> str:
    suffix = path.suffix.lower()
    if suffix not in FORMATS:
        raise ValueError(f"viz.draw: the file name must end in {', '.join(FORMATS)}, got {path.name!r}")
    return suffix
