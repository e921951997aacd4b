"""From a graph and what is asked of a drawing to the drawing: which view, which notes, which colours."""

from __future__ import annotations

import gc
import math
import warnings

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from numbers import Real
from typing import Any

from tinygrad_rnn.autograd.graph import Node
from viz.drawing import Drawing
from viz.layout.attention import Rows, checked
from viz.layout.beside import beside
from viz.layout.equations import write_equations
from viz.layout.highlight import highlight
from viz.layout.layout import Layout
from viz.layout.legend import legend, tint_edges
from viz.layout.place import placed
from viz.layout.textbook import textbook
from viz.picture import gradient
from viz.picture.build import picture_of
from viz.picture.circuit import middle
from viz.picture.gradient import Scale
from viz.picture.notes import note_norms, note_shapes
from viz.picture.picture import Item, Picture
from viz.picture.scheme import Scheme
from viz.picture.subject import subject_of
from viz.picture.textbook_view import scheme_of
from viz.picture.tokens import check_names
from viz.read.attention import USUAL, Wiring, weights, wiring
from viz.read.chosen_steps import MOST, chooser
from viz.read.expand import expanded
from viz.read.gradient_norms import norms
from viz.read.graph import flow_of
from viz.read.values import values
from viz.style import LINE, NODE

SLIDE = (13 + 1 / 3, 7.5)  # width and height of a slide, 16:9, in inches
LONGEST = 200.0  # inches
LARGEST = 200.0  # points
LETTERS, LEGIBLE = float(str(NODE["fontsize"])), 10  # points: of a drawing as it is, and at least
VIEWS = ("ops", "cells", "circuit", "textbook", "attention")


@dataclass(frozen=True)
class Options:
    """What is asked of a drawing, as in viz.draw."""

    view: str = "ops"
    steps: str | int | Iterable[int] | None = None
    depth: int | None = None
    unfold: bool = False
    gradient: bool | tuple[float, float] = False
    shapes: bool = False
    values: bool = False
    parameters: bool = True
    colors: bool = True
    tokens: Sequence[Sequence[str]] = ()
    targets: Sequence[str] = ()
    direction: str = "right"
    equations: Sequence[str] = ()
    highlight: Sequence[str] = ()
    width: float | str | None = None
    font_size: float | None = None
    most: int = MOST

    @property
    def in_boxes(self) -> bool:
        """Are modules drawn as boxes? By default in the view of cells only."""
        return self.view == "cells" if self.depth is None else self.depth > 0

    def check(self) -> None:
        """ValueError for what does not exist, or does not go together."""
        for name, value, known in (("view", self.view, VIEWS), ("direction", self.direction, ("right", "down"))):
            if value not in known:
                raise ValueError(f"viz.draw: {name} must be {' or '.join(map(repr, known))}, got {value!r}")
        if self.depth is not None and self.depth < 0:
            raise ValueError(f"viz.draw: depth must be at least 0, got {self.depth}")
        if isinstance(self.gradient, tuple) and not _is_scale(self.gradient):
            raise ValueError(
                f"viz.draw: gradient must be True, or (lowest, highest) with 0 < lowest < highest, got {self.gradient}"
            )
        width = self.width
        fits = width is None or width == "slide" or _is_number(width, 0, LONGEST)
        told = self.gradient or self.values or self.shapes
        named = self.tokens or self.targets
        one = f'tokens and targets are of single steps, and view="{self.view}" is one for all'
        self._refuse(
            (not fits, f'width must be "slide" or inches, from 0 to {LONGEST:g}, got {width!r}'),
            (self.font_size is not None and not _is_number(self.font_size, 1, LARGEST),
             f"font_size must be points, from 1 to {LARGEST:g}, got {self.font_size!r}"),
            (self.font_size is not None and width is not None,
             "width decides how large letters are, leave font_size out"),
            (self.unfold and self.view != "circuit", f'only view="circuit" can be unfolded, got view={self.view!r}'),
            (named and self.view in ("circuit", "textbook") and not self.unfold, one),
            (told and self.view in ("attention", "textbook"),
             f'gradient, values and shapes are for other views than "{self.view}"'),
            (self.equations and (self.unfold or self.view not in ("circuit", "textbook")),
             'equations stand beside view="circuit" and view="textbook", not unfolded'),
            (self.highlight and self.view != "textbook", f'highlight is for view="textbook", got view={self.view!r}'),
            (self.depth and self.view == "textbook", 'view="textbook" draws no boxes for modules, leave depth out'),
            (self.direction != "right" and self.view == "textbook",
             'in view="textbook" h goes to the right, leave direction out'),
        )  # fmt: skip

    def _refuse(self, *rules: tuple[Any, str]) -> None:
        for does_not_go, why in rules:
            if does_not_go:
                raise ValueError(f"viz.draw: {why}")


def _is_number(x: Any, least: float, most: float) -> bool:
    """Is it a number in these bounds, Python's or NumPy's, and not 0?"""
    return isinstance(x, Real) and not isinstance(x, bool) and least <= float(x) <= most and x != 0


def _is_scale(ends: tuple) -> bool:
    return len(ends) == 2 and 0 < ends[0] < ends[1] < math.inf


@contextmanager
def _uncollected() -> Iterator[None]:
    """Without Python's garbage collector: a drawing makes many objects and no garbage, and it would look at all of the
    graph again and again.
    """
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def compose(root: Node, options: Options, title: str = "") -> Drawing:
    """The drawing of a graph. ValueError for options that do not exist or do not go together."""
    options.check()
    if options.width is None:
        drawing = _composed(root, options, title)
        drawing.zoom = None if options.font_size is None else float(options.font_size) / LETTERS
        return drawing
    return _fitting(root, options, title)


def _fitting(root: Node, options: Options, title: str) -> Drawing:
    """With as many steps as leave letters legible on a page; if none do, a warning says so."""
    page = SLIDE if options.width == "slide" else (float(options.width or 0), LONGEST)
    for most in range(MOST if options.steps is None else 1, 0, -1):
        drawing = _composed(root, replace(options, most=most), title)
        drawing.size = page
        across, up = drawing.scales()
        if across * LETTERS >= LEGIBLE or across >= up:  # or fewer steps would not help
            break
    if min(across, up) * LETTERS < LEGIBLE:
        warnings.warn(
            f"viz.draw: on a page of {page[0]:.4g} × {page[1]:.4g} inches the letters are set in "
            f'{min(across, up) * LETTERS:.1f} points, less than {LEGIBLE}; draw fewer steps, or view="cells"',
            stacklevel=4,
        )
    return drawing


@_uncollected()
def _composed(root: Node, options: Options, title: str) -> Drawing:
    if options.view == "attention":
        nodes = expanded(root, copy=True)
        flow = flow_of(nodes)
        alpha, how = weights(flow, values(nodes[-1])), wiring(flow)
        tokens = options.tokens[0] if options.tokens else ()
        check_names(options.tokens, [alpha.shape[1], alpha.shape[0]])
        return attend(alpha, tokens, options.targets, _only(options.steps), title, colors=options.colors, how=how)
    sketch = _sketched(root, options)
    if options.view == "circuit" and options.unfold:
        other = _sketched(root, replace(options, view="cells" if options.in_boxes else "ops"))
        other.picture.ranksep = sketch.picture.ranksep  # so that their rows are level
        layout = lambda: beside(sketch.layout(), other.layout(), "unfold", centred=options.direction == "down")
        return Drawing(other.picture, layout, title, "a recurrent network, unfolded")
    return Drawing(sketch.picture, sketch.layout, title, "a recurrent network, step by step")


def attend(
    alpha: Any, source: Sequence[str], target: Sequence[str], at: int | None = None, title: str = "", *,
    colors: bool = True, how: Wiring = USUAL,
) -> Drawing:  # fmt: skip
    """The drawing of attention weights. alpha: (target, source)  at: the only target step that is shown, from 1"""
    rows = Rows(*checked(alpha, source, target), at, how)
    picture = Picture(moments=rows.titles)

    def layout() -> Layout:
        made = rows.layout()
        if not colors:
            _grey(made)
        return made

    return Drawing(picture, layout, title, "attention, step by step")


def _only(steps: str | int | Iterable[int] | None) -> int | None:
    """The one decoder step that is to be shown; None for all. ValueError for several."""
    if steps is None or steps == "all":
        return None
    try:
        given = steps.split(",") if isinstance(steps, str) else [steps] if isinstance(steps, int) else list(steps)
        (only,) = [int(step) for step in given]
    except ValueError:
        raise ValueError(f'viz.draw: with view="attention", steps must be one decoder step, got {steps!r}') from None
    return only


@dataclass(frozen=True, eq=False)
class _Sketch:
    """A picture on its way to a layout.

    scale   of the gradients
    known   the norms of the nodes that are coloured
    scheme  what the textbook's form is made of; None in other views
    """

    picture: Picture
    options: Options
    scale: Scale | None
    known: Mapping[Item, float]
    scheme: Scheme | None = None

    @_uncollected()
    def layout(self) -> Layout:
        """Everything in its place, with its colours; may be called again."""
        if self.scheme is not None:
            layout = textbook(self.scheme)
            highlight(layout, self.options.highlight)
        else:
            layout = placed(self.picture, down=self.options.direction == "down")
        write_equations(layout, self.options.equations)
        if self.scale is not None:
            tint_edges(layout, self.known, self.scale)
            legend(layout, self.scale)
        elif not self.options.colors:
            _grey(layout)
        return layout


def _sketched(root: Node, options: Options) -> _Sketch:
    """The picture of a graph, with notes and colours as the options say."""
    single = options.view not in ("circuit", "textbook")  # are single steps drawn?
    steps = chooser(options.steps, options.most)  # also where they do not matter: they may not exist
    choose = steps if single else middle
    whole = options.gradient or options.values  # then all steps are needed, whatever is drawn
    nodes = expanded(root, None if whole else choose, copy=bool(whole))
    found: Mapping[Node, float] = norms(nodes[-1]) if options.gradient else {}
    picture = picture_of(
        subject_of(nodes, choose), choose, depth=(options.depth or 1) if options.in_boxes else 0, circuit=not single,
        sources=options.tokens if single else (), targets=options.targets if single else (),
    )  # fmt: skip
    if not options.parameters:
        picture.rails.clear()
    if options.shapes:
        note_shapes(picture)
    if options.values:
        note_norms(picture, values(nodes[-1]))
    if not options.gradient:
        return _Sketch(picture, options, None, {}, scheme_of(picture) if options.view == "textbook" else None)
    scale = Scale(*options.gradient) if isinstance(options.gradient, tuple) else Scale.of(found)
    return _Sketch(picture, options, scale, gradient.tint(picture, found, scale))


def _grey(layout: Layout) -> None:
    """Make all nodes white and all lines grey, but for the black squares of delays."""
    for item in layout.boxes:
        if item.kind != "delay":
            item.look |= {"fillcolor": "#ffffff", "color": LINE}
        if item.shape == "text":
            item.look |= {"fontcolor": LINE}
    for e in layout.edges:
        faint = str(e.look.get("color", ""))[7:]  # how transparent it is
        e.look |= {"color": LINE + faint, "fontcolor": LINE}
