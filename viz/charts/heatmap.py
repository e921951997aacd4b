"""Attention weights as a heat map.

    import viz
    viz.alignment(weights, source, target, "attention.svg")

Needs matplotlib.
"""

from __future__ import annotations

import math

from collections.abc import Iterable
from functools import cache, cached_property
from pathlib import Path
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
from viz.style import INK, ink, ramp, subscript
from viz.texts import printable, visible

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from numpy.typing import ArrayLike

CELL = 37.0  # the side of a cell with a value
PAGE = 900.0  # about the largest side of all cells together
MANY = 5_000  # cells: more are drawn as an image


def alignment(
    weights: ArrayLike | Tensor,
    source: Iterable[object] | None = None,
    target: Iterable[object] | None = None,
    path: str | Path | None = None,
    *,
    title: str | None = None,
    values: bool | None = None,
    marked: ArrayLike | Tensor | None = None,
) -> Chart:
    """A heat map of attention weights; saved if there is a path (.svg, .png, .pdf).

    weights: (T, S) or (heads, T, S), an array or a tensor, numbers in [0, 1]; row t is what step t attends to
    source: S tokens, along the top; by default x₁ … xₛ
    target: T tokens, down the left side; by default y₁ … yₜ
    title: stands above
    values: write the numbers into the cells; by default if there are few. An exact zero, such as a masked position,
        is written 0, a small number 0.00
    marked: (T, S) of bool, or as the weights: cells to draw a frame around, such as what is known to belong together

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
    frames = np.zeros(heads.shape, bool) if marked is None else _marked(marked, heads.shape)
    return chart_of(lambda: HeatMap(heads, top, side, printable(title or ""), values, frames).figure(), path, who)


def _heads(weights: Any) -> np.ndarray:
    """The weights as (N, T, S), N heads. ValueError for another shape, or numbers outside of [0, 1]."""
    found = real_numbers(weights, "viz.alignment: weights")
    if found.ndim not in (2, 3) or not found.size:
        raise ValueError(f"viz.alignment: weights must be (T, S) or (heads, T, S), none of them 0, got {found.shape}")
    wrong = found[~((found >= -1e-3) & (found <= 1 + 1e-3))]
    if wrong.size:
        raise ValueError(f"viz.alignment: weights must be in [0, 1], such as those of a softmax, got {wrong[0]:g}")
    return np.clip(found, 0, 1).reshape(-1, *found.shape[-2:])  # rounding may have left a softmax above 1


def _marked(given: Any, shape: tuple[int, ...]) -> np.ndarray:
    """The cells to draw a frame around, (N, T, S) of bool. ValueError for another shape or dtype."""
    found = np.asarray(given.numpy() if isinstance(given, Tensor) else given)
    if found.dtype != bool or found.shape not in (shape[1:], shape):
        wanted = f"{shape[1:]} of bool" + (f", or {shape}" if shape[0] > 1 else "")
        raise ValueError(f"viz.alignment: marked must be {wanted}, got {found.shape} of {found.dtype}")
    return np.broadcast_to(found, shape)


def _tokens(what: str, given: Iterable[object] | None, letter: str, count: int, whose: str) -> list[str]:
    if given is None:
        return [subscript(letter, i + 1) for i in range(count)]
    tokens = [visible(token) for token in given]
    if len(tokens) != count:
        raise ValueError(f"viz.alignment: {what} must be {count} tokens, one for each of {whose}, got {len(tokens)}")
    return tokens


class HeatMap:
    """Lays out and draws the panels of a heat map. heads, marked: (N, T, S)  top: S tokens  side: T tokens"""

    def __init__(
        self, heads: np.ndarray, top: list[str], side: list[str], title: str, values: bool | None, marked: np.ndarray
    ):
        self.heads, self.top, self.side, self.title, self.marked = heads, top, side, title, marked
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
        self.widths = [text_width(token, self.size) for _, token in self._written(self.top)]
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
        return max(text_width(token, self.size) for _, token in self._written(self.side)) + 8

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
        tall, half = title_height(self.title), text_width(self.title, TITLE) / 2
        x0, y0 = PAD + self.left, PAD + tall + self.above + heading
        middle = x0 + (self.columns * (wide + between) - between) / 2
        middle = max(middle, PAD + half)
        sheet = Sheet(
            max(x0 + self.columns * (wide + between) - between + self.right, middle + half) + PAD,
            y0 + self.rows * (high + between + heading) - between - heading + PAD,
        )
        sheet.title(middle, self.title, "center")
        for i, weights in enumerate(self.heads):
            row, column = divmod(i, self.columns)
            x, y = x0 + column * (wide + between), y0 + row * (high + between + heading)
            axes = sheet.axes(x, y, wide, high, xlim=(0, length), ylim=(steps, 0))
            self._cells(axes, weights)
            self._frames(axes, self.marked[i])
            if n > 1:
                sheet.text(x + wide / 2, y - 7 - (0 if row else self.above), f"head {i + 1}", size=TEXT, ha="center")
            self._tokens(axes, row == 0, column == 0)
        if not self.values:
            _colour_bar(sheet, x0 + self.columns * (wide + between) - between + 12, y0, min(high, 110.0))
        return sheet.figure

    def _cells(self, axes: Axes, weights: np.ndarray) -> None:
        if self.values:
            self._numbers(axes, weights)
        if self.heads.size > MANY:
            steps, length = weights.shape
            _image(axes, weights, (0, length, steps, 0))
            return
        from matplotlib.collections import PolyCollection  # noqa: PLC0415

        t, s = np.indices(weights.shape).reshape(2, -1, 1)
        gap = 0.02 * self.height
        dx, dy = gap / self.width, gap / self.height
        corners = np.stack([s + np.array([dx, 1 - dx, 1 - dx, dx]), t + np.array([dy, dy, 1 - dy, 1 - dy])], -1)
        colours = [ramp(weight) for weight in weights.ravel()]
        axes.add_collection(PolyCollection(list(corners), facecolors=colours, linewidths=0))

    def _frames(self, axes: Axes, marked: np.ndarray) -> None:
        """Frames along the edges within the cells: those of neighbours do not touch."""
        from matplotlib.patches import Rectangle  # noqa: PLC0415

        thick = min(1.6, 0.1 * self.height)  # points, as the unit of the sheet
        dx, dy = ((0.02 * self.height + thick / 2) / side for side in (self.width, self.height))
        for t, s in np.argwhere(marked):
            axes.add_patch(
                Rectangle((s + dx, t + dy), 1 - 2 * dx, 1 - 2 * dy, fill=False, edgecolor=INK, linewidth=thick)
            )

    def _numbers(self, axes: Axes, weights: np.ndarray) -> None:
        size = min(9.5, 0.28 * self.height)
        for (t, s), value in np.ndenumerate(weights):
            text, colour = f"{value:.2f}" if value else "0", ink(value)
            y = t + 0.5 + below_middle(size) / self.height
            axes.text(s + 0.5, y, text, size=size, color=colour, ha="center", va="baseline")

    def _tokens(self, axes: Axes, above: bool, beside: bool) -> None:
        lower, turn = below_middle(self.size), math.radians(self.angle)
        for s, token in self._written(self.top) if above else ():
            x, y = s + 0.5 + lower * math.sin(turn) / self.width, -(6 - lower / 4 * math.sin(turn)) / self.height
            anchor = "left" if self.angle else "center"
            axes.text(
                x, y, token, size=self.size, rotation=self.angle, rotation_mode="anchor", ha=anchor, va="baseline"
            )
        for t, token in self._written(self.side) if beside else ():
            y = t + 0.5 + lower / self.height
            axes.text(-7 / self.width, y, token, size=self.size, ha="right", va="baseline")


def _colour_bar(sheet: Sheet, x: float, y: float, height: float) -> None:
    axes = sheet.axes(x, y, 8, height, xlim=(0, 1), ylim=(0, 1))
    _image(axes, np.linspace(1, 0, 256)[:, None], (0, 1, 0, 1))
    for value in (0, 0.5, 1):
        sheet.text(x + 12, y + (1 - value) * (height - 7) + 6.5, f"{value:g}", size=9, ha="left")


def _image(axes: Axes, weights: np.ndarray, extent: tuple[float, float, float, float]) -> None:
    """Draw weights as an image, a pixel each: many cells, and the colour bar."""
    colours = _thousand_colours()[np.rint(1000 * weights).astype(int)]
    axes.imshow(colours, extent=extent, interpolation="none", aspect="auto")


@cache
def _thousand_colours() -> np.ndarray:
    """The ramp in steps of 1/1000. returns: (1001, 3) uint8"""
    return np.array([list(bytes.fromhex(ramp(i / 1000)[1:])) for i in range(1001)], np.uint8)
