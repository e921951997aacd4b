"""The norms of gradients over time, as lines on a log scale.

    import viz
    viz.gradient_norms({"RNN": rnn, "LSTM": lstm}, "vanishing.svg")

Needs matplotlib.
"""

from __future__ import annotations

import itertools
import math

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any

import numpy as np

from tinygrad_rnn.autograd.tensor import Tensor
from viz.charts.chart import (
    PAD,
    TEXT,
    TITLE,
    Chart,
    Sheet,
    below_middle,
    chart_of,
    real_numbers,
    text_width,
    title_height,
)
from viz.style import COLOURS, LINE
from viz.texts import printable, visible

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from numpy.typing import ArrayLike

WIDTH, HEIGHT = 400.0, 210.0  # of the plot, without what stands round it
LINES = [COLOURS[kind][1] for kind in ("input", "loss", "hidden", "cell", "gate")]
DASHES = ("-", (0, (5, 1.5)), (0, (1.5, 1.5)))
_POWERS = str.maketrans("0123456789-", "⁰¹²³⁴⁵⁶⁷⁸⁹⁻")


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
    series = _series(norms)
    return chart_of(lambda: NormPlot(series, printable(title or "")).figure(), path, "viz.gradient_norms")


def _series(norms: Any) -> list[tuple[str, np.ndarray]]:
    named = norms if isinstance(norms, Mapping) else {"": norms}
    if not named:
        raise ValueError("viz.gradient_norms: norms must have at least one sequence of numbers, got an empty mapping")
    found = []
    for name, values in named.items():
        who = f"viz.gradient_norms: norms[{name!r}]" if isinstance(norms, Mapping) else "viz.gradient_norms: norms"
        array = real_numbers(values, who)
        if array.ndim != 1 or not array.size:
            raise ValueError(f"{who} must be (T,) with at least one step, got {array.shape}")
        if (array < 0).any():
            raise ValueError(f"{who} must not be negative, got {array[array < 0][0]:g}")
        found.append((visible(name), array))
    return found


@dataclass(frozen=True)
class _Scale:
    """Where norms stand: whole decades from low to high, and a row below or above for what has no logarithm.

    length  of the longest line, in time steps
    """

    low: int
    high: int
    length: int
    has_zeros: bool
    has_infinite: bool

    @property
    def span(self) -> int:
        """The number of decades."""
        return self.high - self.low

    @property
    def zero(self) -> float:
        """Where a norm of 0 stands."""
        return self.low - 0.1 * self.span

    @property
    def infinite(self) -> float:
        """Where an infinite norm stands."""
        return self.high + 0.1 * self.span

    @property
    def bottom(self) -> float:
        """The lower end of the plot."""
        return self.zero if self.has_zeros else self.low

    @property
    def top(self) -> float:
        """The upper end of the plot."""
        return self.infinite if self.has_infinite else self.high

    @property
    def margin(self) -> float:
        """In front of the first time step, and behind the last."""
        return (self.length - 1) / 50 or 0.5

    def heights(self, norms: np.ndarray) -> np.ndarray:
        """The height of each norm, in decades; NaN for NaN."""
        with np.errstate(divide="ignore"):
            logs = np.log10(norms)
        return np.where(norms == 0, self.zero, np.where(np.isinf(norms), self.infinite, logs))


def _scale_of(series: Sequence[np.ndarray]) -> _Scale:
    """The scale that holds all norms."""
    everything = np.concatenate(series)
    logs = np.log10(everything[(everything > 0) & np.isfinite(everything)])
    high = math.ceil(logs.max()) if logs.size else 0
    low = min(math.floor(logs.min()) if logs.size else 0, high - 1)
    return _Scale(low, high, max(map(len, series)), bool((everything == 0).any()), bool(np.isinf(everything).any()))


class NormPlot:
    """Lays out and draws lines on a log scale. series: names and norms

    The scale is linear in log10, because matplotlib's own cannot hold the smallest numbers, nor a 0. The names stand
    where the lines are farther apart, at their beginning or at their end, and the scale at the other side: gradients
    often start from about the same norm at t = T, and differ in what is left of it at t = 1.
    """

    def __init__(self, series: list[tuple[str, np.ndarray]], title: str):
        self.title, self.series = title, [norms for _, norms in series]
        self.names = [name if not np.isnan(norms).all() else f"{name} (NaN)" for name, norms in series]
        self.scale = _scale_of(self.series)
        self.height = max(HEIGHT, 14.0 * len(series))
        places = {last: self._places(last) for last in (True, False)}
        moves = {last: sum(abs(place - end[1]) for end, place in places[last]) for last in places}
        self.last = moves[True] < moves[False] + 1
        self.places = places[self.last]

    def figure(self) -> Figure:
        """The chart, drawn: the lines, the scale beside them, and the names at the other side."""
        above, below = PAD + title_height(self.title) + 24, 38.0
        names = max(text_width(name, TEXT) for name in self.names) + 10
        left, right = PAD + (40 if self.last else names), PAD + (names if self.last else 40)
        wide = left + WIDTH + right
        sheet = Sheet(max(wide, text_width(self.title, TITLE) + 2 * PAD), above + self.height + below)
        sheet.title(PAD, self.title, "left")
        place, side = (PAD, "left") if self.last else (wide - PAD, "right")
        sheet.text(place, above - 14, "‖∂L/∂hₜ‖", size=TEXT, ha=side)
        sheet.text(left + WIDTH / 2, sheet.height - 6, "t", size=TEXT, ha="center")
        limits = (1 - self.scale.margin, self.scale.length + self.scale.margin)
        axes = sheet.axes(left, above, WIDTH, self.height, xlim=limits, ylim=(self.scale.bottom, self.scale.top))
        self._frame(axes, side)
        for norms, (dash, colour) in zip(self.series, _looks(), strict=False):
            self._line(axes, norms, colour, dash)
        self._names(sheet.axes(left, above, WIDTH, self.height, xlim=(0, WIDTH), ylim=(0, self.height)))
        return sheet.figure

    def _frame(self, axes: Axes, side: str) -> None:
        scale = self.scale
        axes.axis("on")
        axes.spines[:].set_visible(False)
        axes.spines[[side, "bottom"]].set(visible=True, color=LINE)
        axes.spines[side].set_bounds(scale.low, scale.high)
        axes.yaxis.set_ticks_position("left" if self.last else "right")
        stride = _stride(scale.span, 10)
        ticks = np.arange(math.ceil(scale.low / stride) * stride, scale.high + 1, stride, dtype=float)
        axes.hlines(ticks, *axes.get_xlim(), color=LINE, alpha=0.25, linewidth=0.6, zorder=0)
        labels = [f"10{str(int(tick)).translate(_POWERS)}" for tick in ticks]
        ends = [(y, sign) for y, sign in ((scale.zero, "0"), (scale.infinite, "∞")) if y in (scale.bottom, scale.top)]
        axes.set_yticks([*ticks, *(y for y, _ in ends)], [*labels, *(sign for _, sign in ends)])
        axes.set_xticks(_steps(scale.length))
        if scale.span <= 3:
            minor = [k + math.log10(m) for k in range(scale.low, scale.high) for m in range(2, 10)]
            axes.set_yticks(minor, minor=True)
        axes.tick_params(which="both", color=LINE, labelcolor=LINE, labelsize=9, width=0.8)
        axes.set_ylim(scale.bottom, scale.top)

    def _line(self, axes: Axes, norms: np.ndarray, colour: str, dash: Any) -> None:
        t, y = np.arange(1, len(norms) + 1), self.scale.heights(norms)
        axes.plot(t, y, color=colour, linestyle=dash, linewidth=1.8, zorder=3, clip_on=False)
        drawn = np.pad(~np.isnan(y), 1)
        alone = drawn[1:-1] & ~drawn[:-2] & ~drawn[2:]
        every = math.ceil(self.scale.length * 8 / WIDTH)
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
        x = (i + self.scale.margin) / (self.scale.length - 1 + 2 * self.scale.margin)
        y = (self.scale.heights(norms[i]) - self.scale.bottom) / (self.scale.top - self.scale.bottom)
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
            axes.text(
                edge + 10 * out, place - below_middle(TEXT), name, size=TEXT, color=colour, ha=anchor, va="baseline"
            )


def _looks() -> Iterator[tuple[Any, str]]:
    return itertools.cycle(itertools.product(DASHES, LINES))


def _apart(places: list[float], gap: float, height: float) -> list[float]:
    """Move places the least (in squares) so that neighbours are `gap` apart: pool adjacent violators."""
    order = sorted(range(len(places)), key=lambda i: (places[i], -i))  # of equals, the first on top
    pools: list[list[float]] = []
    for rank, i in enumerate(order):
        pools.append([places[i] - rank * gap])
        while len(pools) > 1 and fmean(pools[-2]) > fmean(pools[-1]):
            pools[-2:] = [pools[-2] + pools[-1]]
    moved = [fmean(pool) for pool in pools for _ in pool]
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
