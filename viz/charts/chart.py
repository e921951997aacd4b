"""What charts of numbers share: the class Chart, its text, and matplotlib, which is imported when one is drawn.

All lengths are in points (1/72 inch). Nothing here is global: no pyplot, and the user's rcParams neither change a chart
nor are changed.
"""

from __future__ import annotations

import contextlib
import functools
import io
import unicodedata
import warnings

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tinygrad_rnn.autograd.arrays import to_numpy
from tinygrad_rnn.autograd.gradients import no_grad
from tinygrad_rnn.autograd.tensor import Tensor
from tinygrad_rnn.files import write_atomically
from viz.style import LINE

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

FORMATS = (".svg", ".png", ".pdf")
METADATA: dict[str, dict[str, Any]] = {"svg": {"Date": None}, "pdf": {"CreationDate": None}, "png": {}}
DPI = 200
PAD = 8.0  # round a figure
TITLE = 13.0
TEXT = 11.0

# Text stays text in SVG and PDF: it can be searched and copied, and a browser finds fonts for letters that matplotlib
# finds none for. What another font would break, the place of a text, is kept by SVG's text-anchor; and DejaVu Sans, by
# which matplotlib measures on most machines, is wider than the others.
RC: dict[str, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "viz",
    "pdf.fonttype": 42,
    "text.parse_math": False,
    "text.color": LINE,
    "font.sans-serif": ["Helvetica", "Arial", "DejaVu Sans"],
}
# Fonts for letters that those above lack; the installed ones are asked in this order.
FALLBACKS = (
    "DejaVu Sans",
    *("Noto Sans CJK SC", "Noto Sans CJK JP", "Noto Sans SC", "Noto Sans JP", "Noto Sans KR", "Source Han Sans SC"),
    *("PingFang SC", "Hiragino Sans", "Apple SD Gothic Neo", "Microsoft YaHei", "Yu Gothic", "Malgun Gothic"),
    *("WenQuanYi Zen Hei", "WenQuanYi Micro Hei", "IPAGothic", "Droid Sans Fallback", "Arial Unicode MS"),
    *("Noto Sans Arabic", "Noto Sans Hebrew", "Noto Sans Devanagari", "Noto Sans Thai", "Nirmala UI"),
    *("Segoe UI Symbol", "Segoe UI Emoji", "Noto Emoji", "Symbola"),
)


class Chart:
    """A chart. In a notebook it shows itself. figure: matplotlib's  who: the name that errors begin with"""

    def __init__(self, figure: Figure, who: str = "Chart"):
        self.figure, self.who = figure, who

    def svg(self) -> str:
        """The chart as SVG, on a transparent page; the same chart gives the same text."""
        return self._render("svg").decode()

    def save(self, path: str | Path) -> None:
        """Write it as the suffix says, .svg, .png or .pdf (ValueError if another); the file is there whole or not."""
        path = Path(path)
        form = _format(path, self.who)
        write_atomically(path, self._render(form))

    def _render(self, form: str) -> bytes:
        buffer = io.BytesIO()
        with _style():
            page = "none" if form == "svg" else "white"
            self.figure.savefig(buffer, format=form, dpi=DPI, facecolor=page, metadata=METADATA[form])
        return buffer.getvalue()

    def _repr_svg_(self) -> str:
        return self.svg()


def chart_of(draw: Callable[[], Figure], path: str | Path | None, who: str) -> Chart:
    """The chart that a function draws; saved if there is a path. RuntimeError without matplotlib."""
    if path is not None:
        _format(Path(path), who)
    try:
        import matplotlib  # noqa: F401, PLC0415
    except ImportError:
        raise RuntimeError(f'{who}: matplotlib is not installed; pip install "tinygrad-rnn[plot]"') from None
    with _style():
        chart = Chart(draw(), who)
    if path is not None:
        chart.save(path)
    return chart


def _format(path: Path, who: str) -> str:
    suffix = path.suffix.lower()
    if suffix not in FORMATS:
        raise ValueError(f"{who}: the file name must end in {', '.join(FORMATS)}, got {path.name!r}")
    return suffix[1:]


@contextlib.contextmanager
def _style() -> Iterator[None]:
    """matplotlib as it comes, but for RC; quiet about letters that no installed font has."""
    from matplotlib import font_manager, style  # noqa: PLC0415

    installed = {font.name for font in font_manager.fontManager.ttflist}
    family = ["sans-serif", *(name for name in FALLBACKS if name in installed)]
    with style.context(["default", {**RC, "font.family": family}]), warnings.catch_warnings():
        warnings.filterwarnings("ignore", r"(?s).*(Glyph \d+|does not support)", UserWarning)
        yield


class Sheet:
    """A figure in points, from its upper left corner."""

    def __init__(self, width: float, height: float):
        from matplotlib.figure import Figure  # noqa: PLC0415

        self.width, self.height = width, height
        self.figure = Figure(figsize=(width / 72, height / 72), dpi=72)

    def axes(self, x: float, y: float, width: float, height: float, **values: Any) -> Axes:
        """New axes without a frame, their upper left corner at (x, y)."""
        box = (x / self.width, 1 - (y + height) / self.height, width / self.width, height / self.height)
        axes = self.figure.add_axes(box, facecolor="none", autoscale_on=False, **values)
        axes.axis("off")
        return axes

    def text(self, x: float, y: float, text: str, **values: Any) -> None:
        """Write a text whose letters stand on the line at y."""
        if text:
            self.figure.text(x / self.width, 1 - y / self.height, text, va="baseline", **values)

    def title(self, x: float, title: str, anchor: str) -> None:
        """A title at the top, line by line: matplotlib sets the last line of a text on the line at y, not the first."""
        for i, line in enumerate(title.split("\n")):
            self.text(x, PAD + TITLE + 1.25 * TITLE * i, line, size=TITLE, ha=anchor)


# ---- text -----------------------------------------------------------------------------------------------------------


def text_width(text: str, size: float) -> float:
    """How wide a text is; at least a square for each character of East Asia, for which a font may be missing here."""
    from matplotlib.text import Text  # noqa: PLC0415

    measured = Text(text=text, size=size, figure=_ruler()).get_window_extent().width
    return max(measured, size * sum(unicodedata.east_asian_width(c) in "WF" for c in text))


@functools.cache
def _ruler() -> Figure:
    """An empty figure that measures text. Its canvas knows its renderer, which any other has to find by a trial run."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # noqa: PLC0415

    return FigureCanvasAgg(Sheet(1, 1).figure).figure


def below_middle(size: float) -> float:
    """How far below the middle a line of text stands that looks centred."""
    return 0.36 * size


def title_height(title: str) -> float:
    """The height that is kept for a title above a chart; 0 if there is none."""
    return 1.25 * TITLE * len(title.split("\n")) + 8 if title else 0.0


# ---- numbers --------------------------------------------------------------------------------------------------------


def real_numbers(value: Any, who: str) -> np.ndarray:
    """A copy in float64. ValueError if they are no real numbers."""
    try:
        with no_grad():  # a list may hold tensors
            array = value.numpy() if isinstance(value, Tensor) else to_numpy(value)
        if array.dtype.kind in "biuf":
            return np.array(array, float)
    except (TypeError, ValueError):
        pass
    text = repr(value)
    got = text if len(text) <= 60 and "\n" not in text else type(value).__name__
    raise ValueError(f"{who} must be real numbers, got {got}")
