"""Charts of numbers: attention weights as a heat map, the norms of gradients over time. Needs matplotlib.

    import viz
    viz.alignment(weights, source, target, "attention.svg")
    viz.gradient_norms({"RNN": rnn, "LSTM": lstm}, "vanishing.svg")

All lengths are in points (1/72 inch). Nothing here is global: no pyplot, and the user's rcParams neither change a chart
nor are changed.
"""

from __future__ import annotations

import contextlib
import io
import itertools
import math
import re
import unicodedata
import warnings

from collections.abc import Iterable, Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tinygrad_rnn.backend import to_numpy
from tinygrad_rnn.files import write_atomically
from tinygrad_rnn.tensor import Tensor
from viz.style import COLOURS, INK, LINE, subscript

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from numpy.typing import ArrayLike

RAMP = ("#f1f5f9", "#fde6c8", "#fbb46b", "#e36b2c", "#9b1c1c")  # from 0 to 1
WHITE = "#ffffff"

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


def alignment(
    weights: ArrayLike | Tensor,
    source: Iterable[object] | None = None,
    target: Iterable[object] | None = None,
    path: str | Path | None = None,
    *,
    title: str | None = None,
    values: bool | None = None,
) -> Chart:
    """A heat map of attention weights; saved if there is a path (.svg, .png, .pdf).

    weights: (T, S) or (heads, T, S), an array or a tensor, numbers in [0, 1]; row t is what step t attends to
    source: S tokens, along the top; by default x₁ … xₛ
    target: T tokens, down the left side; by default y₁ … yₜ
    title: stands above
    values: write the numbers into the cells; by default if there are few. An exact zero, such as a masked position,
        is written 0, a small number 0.00

    Tokens are drawn as they are, but for what cannot be seen: a newline is ⏎, a tab ⇥, another control character its
    picture, blanks at the ends or in a row are ␣; one of more than 40 characters is cut. Of more tokens than have
    room, every second, third … is written.

    ValueError if the weights or the number of tokens do not fit. RuntimeError without matplotlib.
    """
    who = "viz.alignment"
    heads = _heads(weights)
    _, steps, length = heads.shape
    top = _tokens("source", source, "x", length, f"weights {np.shape(weights)}")
    side = _tokens("target", target, "y", steps, f"weights {np.shape(weights)}")
    if path is not None:
        _format(Path(path), who)
    with _matplotlib(who):
        chart = Chart(_HeatMap(heads, top, side, _printable(title or ""), values).figure(), who)
    if path is not None:
        chart.save(path)
    return chart


def gradient_norms(
    norms: Mapping[str, ArrayLike | Tensor] | ArrayLike | Tensor,
    path: str | Path | None = None,
    *,
    title: str | None = None,
) -> Chart:
    """The norms ‖∂L/∂hₜ‖ over the time steps t = 1 … T, on a log scale; saved if there is a path (.svg, .png, .pdf).

    norms: the T norms, first step first; or several such by the name of the network, also of different lengths
    title: stands above

    A norm of 0 (it vanished, or underflowed) has no place on a log scale: it is a triangle on a row of its own below
    the scale, marked 0; an infinite one a triangle on a row above, marked ∞. At a NaN the line is broken.

    ValueError if there are no numbers, or negative ones. RuntimeError without matplotlib.
    """
    who = "viz.gradient_norms"
    series = _series(norms)
    if path is not None:
        _format(Path(path), who)
    with _matplotlib(who):
        chart = Chart(_NormPlot(series, _printable(title or "")).figure(), who)
    if path is not None:
        chart.save(path)
    return chart


# ---- colours --------------------------------------------------------------------------------------------------------


def shade(value: float) -> str:
    """The colour of a number in [0, 1], in six digits."""
    return "#" + _rgb(np.asarray(value, float)).tobytes().hex()


def _rgb(values: np.ndarray) -> np.ndarray:
    """The same for many. values: (...)  returns: (..., 3) uint8"""
    stops = np.array([list(bytes.fromhex(colour[1:])) for colour in RAMP])
    places = np.linspace(0, 1, len(RAMP))
    return np.stack([np.rint(np.interp(values, places, channel)) for channel in stops.T], -1).astype(np.uint8)


def ink(fill: str) -> str:
    """The colour of text on a fill: dark, or white where that has about as much contrast or more (WCAG 2.1)."""
    on_dark, on_white = (_luminance(fill) + 0.05) / (_luminance(INK) + 0.05), 1.05 / (_luminance(fill) + 0.05)
    return INK if on_dark > 1.2 * on_white else WHITE


def _luminance(colour: str) -> float:
    return float((np.array(list(bytes.fromhex(colour[1:]))) / 255) ** 2.2 @ (0.2126, 0.7152, 0.0722))


# ---- heat map -------------------------------------------------------------------------------------------------------

CELL = 37.0  # the side of a cell with a value
PAGE = 900.0  # about the largest side of all cells together
MANY = 5_000  # cells: more are drawn as an image


class _HeatMap:
    """Lays out and draws the panels of a heat map. heads: (N, T, S)  top: S tokens  side: T tokens"""

    def __init__(self, heads: np.ndarray, top: list[str], side: list[str], title: str, values: bool | None):
        self.heads, self.top, self.side, self.title = heads, top, side, title
        n, steps, length = heads.shape
        most = max(steps, length)
        self.values = most <= 12 and heads.size <= 200 if values is None else values
        across = n if n <= 4 else max(4, math.ceil(math.sqrt(n)))
        self.rows = math.ceil(n / across)
        self.columns = math.ceil(n / self.rows)
        least = CELL if self.values else min(CELL, max(18.0, 300 / most))
        self.height = self.width = min(least, PAGE / (most * max(self.columns, self.rows)))
        self.size = min(TEXT, max(5.0, 0.75 * self.height))
        self.every = math.ceil(1.15 * self.size / self.height)  # which tokens are written
        self.widths = [_width(token, self.size) for _, token in self._written(self.top)]
        self.angle = self._turn()

    def _turn(self) -> int:
        """The angle of the tokens along the top; cells become a little wider if that lets them lie."""
        needed = max(self.widths) + 6
        if needed <= self.every * self.width:
            return 0
        if needed <= 1.7 * self.width and self.columns * len(self.top) * needed <= PAGE:
            self.width = needed
            return 0
        return 45 if self.every * self.width >= 1.4 * self.size else 90

    def _written(self, tokens: list[str]) -> list[tuple[int, str]]:
        return list(enumerate(tokens))[:: self.every]

    @cached_property
    def left(self) -> float:
        """What the tokens at the left side need."""
        return max(_width(token, self.size) for _, token in self._written(self.side)) + 8

    @cached_property
    def above(self) -> float:
        """What the tokens along the top need."""
        turn = math.radians(self.angle)
        return 6 + max(self.widths) * math.sin(turn) + 1.1 * self.size * math.cos(turn)

    @cached_property
    def right(self) -> float:
        """What slanted tokens and the colour bar need at the right side."""
        turn = math.cos(math.radians(self.angle)) if self.angle else 0.5
        ends = ((i * self.every + 0.5) * self.width + width * turn for i, width in enumerate(self.widths))
        return max(max(ends) - len(self.top) * self.width, 0 if self.values else 40)

    def figure(self) -> Figure:
        """Draw it: in the first row the tokens along the top, in the first column those at the side."""
        n, steps, length = self.heads.shape
        wide, high, heading, between = length * self.width, steps * self.height, 20.0 if n > 1 else 0.0, 14.0
        tall, half = _tall(self.title), _width(self.title, TITLE) / 2
        x0, y0 = PAD + self.left, PAD + tall + self.above + heading
        middle = x0 + (self.columns * (wide + between) - between) / 2
        middle = max(middle, PAD + half)
        sheet = _Sheet(
            max(x0 + self.columns * (wide + between) - between + self.right, middle + half) + PAD,
            y0 + self.rows * (high + between + heading) - between - heading + PAD,
        )
        sheet.title(middle, self.title, "center")
        for i, weights in enumerate(self.heads):
            row, column = divmod(i, self.columns)
            x, y = x0 + column * (wide + between), y0 + row * (high + between + heading)
            axes = sheet.axes(x, y, wide, high, xlim=(0, length), ylim=(steps, 0))
            self._cells(axes, weights)
            if n > 1:
                sheet.text(x + wide / 2, y - 7 - (0 if row else self.above), f"head {i + 1}", size=TEXT, ha="center")
            self._tokens(axes, row == 0, column == 0)
        if not self.values:
            _colour_bar(sheet, x0 + self.columns * (wide + between) - between + 12, y0, min(high, 110.0))
        return sheet.figure

    def _cells(self, axes: Axes, weights: np.ndarray) -> None:
        colours = _rgb(weights)
        if self.values:
            self._numbers(axes, weights)
        if self.heads.size > MANY:
            steps, length = weights.shape
            axes.imshow(colours, extent=(0, length, steps, 0), interpolation="none", aspect="auto")
            return
        from matplotlib.collections import PolyCollection  # noqa: PLC0415

        t, s = np.indices(weights.shape).reshape(2, -1, 1)
        gap = 0.02 * self.height
        dx, dy = gap / self.width, gap / self.height
        corners = np.stack([s + np.array([dx, 1 - dx, 1 - dx, dx]), t + np.array([dy, dy, 1 - dy, 1 - dy])], -1)
        axes.add_collection(PolyCollection(list(corners), facecolors=colours.reshape(-1, 3) / 255.0, linewidths=0))

    def _numbers(self, axes: Axes, weights: np.ndarray) -> None:
        size = min(9.5, 0.28 * self.height)
        for (t, s), value in np.ndenumerate(weights):
            text, colour = f"{value:.2f}" if value else "0", ink(shade(value))
            y = t + 0.5 + _lower(size) / self.height
            axes.text(s + 0.5, y, text, size=size, color=colour, ha="center", va="baseline")

    def _tokens(self, axes: Axes, above: bool, beside: bool) -> None:
        lower, turn = _lower(self.size), math.radians(self.angle)
        for s, token in self._written(self.top) if above else ():
            x, y = s + 0.5 + lower * math.sin(turn) / self.width, -(6 - lower / 4 * math.sin(turn)) / self.height
            anchor = "left" if self.angle else "center"
            axes.text(
                x, y, token, size=self.size, rotation=self.angle, rotation_mode="anchor", ha=anchor, va="baseline"
            )
        for t, token in self._written(self.side) if beside else ():
            y = t + 0.5 + lower / self.height
            axes.text(-7 / self.width, y, token, size=self.size, ha="right", va="baseline")


def _lower(size: float) -> float:
    """How far below the middle a line of text stands that looks centred."""
    return 0.36 * size


def _colour_bar(sheet: _Sheet, x: float, y: float, height: float) -> None:
    axes = sheet.axes(x, y, 8, height, xlim=(0, 1), ylim=(0, 1))
    axes.imshow(_rgb(np.linspace(1, 0, 256)[:, None]), extent=(0, 1, 0, 1), interpolation="none", aspect="auto")
    for value in (0, 0.5, 1):
        sheet.text(x + 12, y + (1 - value) * (height - 7) + 6.5, f"{value:g}", size=9, ha="left")


# ---- norms ----------------------------------------------------------------------------------------------------------

WIDTH, HEIGHT = 400.0, 210.0  # of the plot, without what stands round it
LINES = [COLOURS[kind][1] for kind in ("input", "loss", "hidden", "cell", "gate")]
DASHES = ("-", (0, (5, 1.5)), (0, (1.5, 1.5)))
_POWERS = str.maketrans("0123456789-", "⁰¹²³⁴⁵⁶⁷⁸⁹⁻")


class _NormPlot:
    """Lays out and draws lines on a log scale. series: names and norms

    The scale is linear in log10, because matplotlib's own cannot hold the smallest numbers, nor a 0. The names stand
    where the lines are farther apart, at their beginning or at their end, and the scale at the other side: gradients
    often start from about the same norm at t = T, and differ in what is left of it at t = 1.
    """

    def __init__(self, series: list[tuple[str, np.ndarray]], title: str):
        self.title, self.series = title, [norms for _, norms in series]
        self.names = [name if not np.isnan(norms).all() else f"{name} (NaN)" for name, norms in series]
        everything = np.concatenate(self.series)
        logs = np.log10(everything[(everything > 0) & np.isfinite(everything)])
        self.high = math.ceil(logs.max()) if logs.size else 0
        self.low = min(math.floor(logs.min()) if logs.size else 0, self.high - 1)
        self.span = self.high - self.low
        self.zero, self.infinite = self.low - 0.1 * self.span, self.high + 0.1 * self.span
        self.bottom = self.zero if (everything == 0).any() else self.low
        self.top = self.infinite if np.isinf(everything).any() else self.high
        self.length = max(map(len, self.series))
        self.margin = (self.length - 1) / 50 or 0.5
        self.height = max(HEIGHT, 14.0 * len(series))
        places = {last: self._places(last) for last in (True, False)}
        moves = {last: sum(abs(place - end[1]) for end, place in places[last]) for last in places}
        self.last = moves[True] < moves[False] + 1
        self.places = places[self.last]

    def figure(self) -> Figure:
        """Draw it."""
        above, below = PAD + _tall(self.title) + 24, 38.0
        names = max(_width(name, TEXT) for name in self.names) + 10
        left, right = PAD + (40 if self.last else names), PAD + (names if self.last else 40)
        wide = left + WIDTH + right
        sheet = _Sheet(max(wide, _width(self.title, TITLE) + 2 * PAD), above + self.height + below)
        sheet.title(PAD, self.title, "left")
        place, side = (PAD, "left") if self.last else (wide - PAD, "right")
        sheet.text(place, above - 14, "‖∂L/∂hₜ‖", size=TEXT, ha=side)
        sheet.text(left + WIDTH / 2, sheet.height - 6, "t", size=TEXT, ha="center")
        limits = (1 - self.margin, self.length + self.margin)
        axes = sheet.axes(left, above, WIDTH, self.height, xlim=limits, ylim=(self.bottom, self.top))
        self._frame(axes, side)
        for norms, (dash, colour) in zip(self.series, _looks(), strict=False):
            self._line(axes, norms, colour, dash)
        self._names(sheet.axes(left, above, WIDTH, self.height, xlim=(0, WIDTH), ylim=(0, self.height)))
        return sheet.figure

    def _frame(self, axes: Axes, side: str) -> None:
        axes.axis("on")
        axes.spines[:].set_visible(False)
        axes.spines[[side, "bottom"]].set(visible=True, color=LINE)
        axes.spines[side].set_bounds(self.low, self.high)
        axes.yaxis.set_ticks_position("left" if self.last else "right")
        stride = _stride(self.span, 10)
        ticks = np.arange(math.ceil(self.low / stride) * stride, self.high + 1, stride, dtype=float)
        axes.hlines(ticks, *axes.get_xlim(), color=LINE, alpha=0.25, linewidth=0.6, zorder=0)
        labels = [f"10{str(int(tick)).translate(_POWERS)}" for tick in ticks]
        ends = [(y, sign) for y, sign in ((self.zero, "0"), (self.infinite, "∞")) if y in (self.bottom, self.top)]
        axes.set_yticks([*ticks, *(y for y, _ in ends)], [*labels, *(sign for _, sign in ends)])
        axes.set_xticks(_steps(self.length))
        if self.span <= 3:
            minor = [k + math.log10(m) for k in range(self.low, self.high) for m in range(2, 10)]
            axes.set_yticks(minor, minor=True)
        axes.tick_params(which="both", color=LINE, labelcolor=LINE, labelsize=9, width=0.8)
        axes.set_ylim(self.bottom, self.top)

    def _on_scale(self, norms: np.ndarray) -> np.ndarray:
        """Where norms are on the scale; NaN where they are."""
        with np.errstate(divide="ignore"):
            logs = np.log10(norms)
        return np.where(norms == 0, self.zero, np.where(np.isinf(norms), self.infinite, logs))

    def _line(self, axes: Axes, norms: np.ndarray, colour: str, dash: Any) -> None:
        t, y = np.arange(1, len(norms) + 1), self._on_scale(norms)
        axes.plot(t, y, color=colour, linestyle=dash, linewidth=1.8, zorder=3, clip_on=False)
        drawn = np.pad(~np.isnan(y), 1)
        alone = drawn[1:-1] & ~drawn[:-2] & ~drawn[2:]
        every = math.ceil(self.length * 8 / WIDTH)
        marks = (
            (norms == 0, "v", every),
            (np.isinf(norms), "^", every),
            (alone & (norms > 0) & np.isfinite(norms), "o", 1),
        )
        for where, mark, step in marks:
            at = np.flatnonzero(where)[::step]
            axes.plot(t[at], y[at], mark, color=colour, markersize=5.5, zorder=3, clip_on=False)

    def _places(self, last: bool) -> list[tuple[tuple[float, float], float]]:
        """Of each line the end, in points from the lower left corner, and the height where its name can stand."""
        ends = [self._end(norms, last) for norms in self.series]
        return list(zip(ends, _apart([y for _, y in ends], 14.0, self.height), strict=True))

    def _end(self, norms: np.ndarray, last: bool) -> tuple[float, float]:
        drawn = np.flatnonzero(~np.isnan(norms))
        if not drawn.size:
            return WIDTH if last else 0.0, self.height
        i = drawn[-1 if last else 0]
        x = (i + self.margin) / (self.length - 1 + 2 * self.margin)
        y = (self._on_scale(norms[i]) - self.bottom) / (self.top - self.bottom)
        return float(x * WIDTH), float(y * self.height)

    def _names(self, axes: Axes) -> None:
        """Each name as near to the end of its line as the others let it be, joined by dots if it is away from it."""
        edge, out, anchor = (WIDTH, 1, "left") if self.last else (0.0, -1, "right")
        for name, ((x, y), place), (_, colour) in zip(self.names, self.places, _looks(), strict=False):
            if not name:
                continue
            if abs(x - edge) > 0.03 * WIDTH or abs(place - y) > 2:
                way = (x, edge, edge + 8 * out), (y, y, place)
                axes.plot(*way, color=colour, linewidth=0.8, linestyle=":", clip_on=False)
            axes.text(edge + 10 * out, place - _lower(TEXT), name, size=TEXT, color=colour, ha=anchor, va="baseline")


def _looks() -> Iterator[tuple[Any, str]]:
    return itertools.cycle(itertools.product(DASHES, LINES))


def _apart(places: list[float], gap: float, height: float) -> list[float]:
    """Move places the least (in squares) so that neighbours are `gap` apart: pool adjacent violators."""
    order = sorted(range(len(places)), key=lambda i: (places[i], -i))  # of equals, the first on top
    pools: list[list[float]] = []
    for rank, i in enumerate(order):
        pools.append([places[i] - rank * gap])
        while len(pools) > 1 and np.mean(pools[-2]) > np.mean(pools[-1]):
            pools[-2:] = [pools[-2] + pools[-1]]
    moved = [float(np.mean(pool)) for pool in pools for _ in pool]
    moved = [min(max(place, 0.0), height - (len(places) - 1) * gap) + rank * gap for rank, place in enumerate(moved)]
    return [place for _, place in sorted(zip(order, moved, strict=True))]


def _stride(span: float, most: int) -> int:
    """The smallest of 1, 2, 5, 10, 20 … that divides a span into at most so many parts."""
    strides = (m * 10**k for k in itertools.count() for m in (1, 2, 5))
    return next(stride for stride in strides if span / stride <= most)


def _steps(length: int) -> list[int]:
    """The time steps that are written: 1 and round numbers."""
    stride = _stride(length, 10)
    return [1, *(t for t in range(stride, length + 1, stride) if t > 1 + stride / 3)]


# ---- what comes in --------------------------------------------------------------------------------------------------


def _numbers(value: Any, who: str) -> np.ndarray:
    try:
        array = value.numpy() if isinstance(value, Tensor) else to_numpy(value)
        if array.dtype.kind in "biuf":
            return np.array(array, float)
    except (TypeError, ValueError):
        pass
    raise ValueError(f"{who} must be real numbers, got {_short(value)}")


def _heads(weights: Any) -> np.ndarray:
    """The weights as (N, T, S)."""
    found = _numbers(weights, "viz.alignment: weights")
    if found.ndim not in (2, 3) or not found.size:
        raise ValueError(f"viz.alignment: weights must be (T, S) or (heads, T, S), none of them 0, got {found.shape}")
    wrong = found[~((found >= -1e-3) & (found <= 1 + 1e-3))]
    if wrong.size:
        raise ValueError(f"viz.alignment: weights must be in [0, 1], such as those of a softmax, got {wrong[0]:g}")
    return np.clip(found, 0, 1).reshape(-1, *found.shape[-2:])  # rounding may have left a softmax above 1


def _tokens(what: str, given: Iterable[object] | None, letter: str, count: int, whose: str) -> list[str]:
    if given is None:
        return [subscript(letter, i + 1) for i in range(count)]
    tokens = [_token(str(token)) for token in given]
    if len(tokens) != count:
        raise ValueError(f"viz.alignment: {what} must be {count} tokens, one for each of {whose}, got {len(tokens)}")
    return tokens


def _series(norms: Any) -> list[tuple[str, np.ndarray]]:
    named = norms if isinstance(norms, Mapping) else {"": norms}
    if not named:
        raise ValueError("viz.gradient_norms: norms must have at least one sequence of numbers, got an empty mapping")
    found = []
    for name, values in named.items():
        who = f"viz.gradient_norms: norms[{name!r}]" if isinstance(norms, Mapping) else "viz.gradient_norms: norms"
        array = _numbers(values, who)
        if array.ndim != 1 or not array.size:
            raise ValueError(f"{who} must be (T,) with at least one step, got {array.shape}")
        if (array < 0).any():
            raise ValueError(f"{who} must not be negative, got {array[array < 0][0]:g}")
        found.append((_token(str(name)), array))
    return found


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 and "\n" not in text else type(value).__name__


def _format(path: Path, who: str) -> str:
    suffix = path.suffix.lower()
    if suffix not in FORMATS:
        raise ValueError(f"{who}: the file name must end in {', '.join(FORMATS)}, got {path.name!r}")
    return suffix[1:]


# ---- text -----------------------------------------------------------------------------------------------------------

LONGEST = 40  # characters of a token
_SIGNS = {code: chr(0x2400 + code) for code in range(32)} | {0x0A: "⏎", 0x09: "⇥", 0x7F: "␡"}


def _token(text: str) -> str:
    """A token with all of it visible."""
    text = re.sub("^ +| +$|  +", lambda blanks: "␣" * len(blanks[0]), text.translate(_SIGNS))
    return _printable(text if len(text) <= LONGEST else text[: LONGEST - 1] + "…")


def _printable(text: str) -> str:
    """Without what XML cannot hold: control characters, halves of surrogate pairs, non-characters."""
    return re.sub("[^\t\n\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]", "\ufffd", text)


def _width(text: str, size: float) -> float:
    """How wide a text is; at least a square for each character of East Asia, for which a font may be missing here."""
    measured = _Sheet(1, 1).figure.text(0, 0, text, size=size).get_window_extent().width
    return max(measured, size * sum(unicodedata.east_asian_width(c) in "WF" for c in text))


def _tall(title: str) -> float:
    """What a title needs."""
    return 1.25 * TITLE * len(title.split("\n")) + 8 if title else 0.0


# ---- matplotlib -----------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def _matplotlib(who: str) -> Iterator[None]:
    """Draw in here."""
    try:
        import matplotlib  # noqa: F401, PLC0415
    except ImportError:
        raise RuntimeError(f'{who}: matplotlib is not installed; pip install "tinygrad-rnn[plot]"') from None
    with _style():
        yield


@contextlib.contextmanager
def _style() -> Iterator[None]:
    """matplotlib as it comes, but for RC; quiet about letters that no installed font has."""
    from matplotlib import font_manager, style  # noqa: PLC0415

    installed = {font.name for font in font_manager.fontManager.ttflist}
    family = ["sans-serif", *(name for name in FALLBACKS if name in installed)]
    with style.context(["default", {**RC, "font.family": family}]), warnings.catch_warnings():
        warnings.filterwarnings("ignore", r"(?s).*(Glyph \d+|does not support)", UserWarning)
        yield


class _Sheet:
    """A figure in points, from its upper left corner."""

    def __init__(self, width: float, height: float):
        from matplotlib.figure import Figure  # noqa: PLC0415

        self.width, self.height = width, height
        self.figure = Figure(figsize=(width / 72, height / 72), dpi=72)

    def axes(self, x: float, y: float, width: float, height: float, **values: Any) -> Axes:
        """Axes without a frame."""
        box = (x / self.width, 1 - (y + height) / self.height, width / self.width, height / self.height)
        axes = self.figure.add_axes(box, facecolor="none", autoscale_on=False, **values)
        axes.axis("off")
        return axes

    def text(self, x: float, y: float, text: str, **values: Any) -> None:
        """A text on the line at y."""
        if text:
            self.figure.text(x / self.width, 1 - y / self.height, text, va="baseline", **values)

    def title(self, x: float, title: str, anchor: str) -> None:
        """A title at the top, line by line: matplotlib sets the last line of a text on the line at y, not the first."""
        for i, line in enumerate(title.split("\n")):
            self.text(x, PAD + TITLE + 1.25 * TITLE * i, line, size=TITLE, ha=anchor)
