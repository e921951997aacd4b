"""Encoder and decoder with attention between them: lines from the encoder's states to contexts, as thick as α."""

from __future__ import annotations

import math

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from tinygrad_rnn.backend import to_numpy
from tinygrad_rnn.graph import Node
from viz.contract import Flow
from viz.dot import Point
from viz.frame import Box, Curve
from viz.layout import Edge, Layout
from viz.model import Block, Item
from viz.route import line
from viz.style import glow, ramp, subscript
from viz.texts import visible

COLUMN = 84.0  # least distance of two positions, in points
ROWS = {"token": 0.0, "h": 62.0, "c": 204.0, "s": 274.0, "out": 336.0}
SIZES = {"token": (70.0, 27.0), "h": (56.0, 36.0), "c": (40.0, 27.0), "s": (56.0, 36.0), "out": (70.0, 27.0)}
MARGIN, ASIDE = 14.0, 84.0  # round a frame, and at its left for its name
LEAST = 0.005  # a weight that is drawn
GHOST = {"fillcolor": "transparent", "color": "#6b728055", "fontcolor": "#6b728077"}


def weights(flow: Flow, known: Mapping[Node, Any]) -> np.ndarray:
    """α of every decoder step, (T, S), as the graph has it: a softmax in each step, over what lies outside of the step.

    Of a batch the first sequence, of several heads their mean. ValueError if there is none, or none that is known.
    """
    found: dict[int, list[tuple[int, np.ndarray]]] = {}
    for node in flow.nodes:
        place = flow.place.get(node)
        if place is None or flow.op(node) != "softmax" or not _mixes(flow, node):
            continue
        value = known.get(node)
        if value is None:
            raise ValueError("viz.draw: the attention weights of this graph are not known")
        found.setdefault(place[0], []).append((place[1], _row(node, np.asarray(to_numpy(value), np.float64))))
    if not found:
        raise ValueError(
            'viz.draw: view="attention" needs a softmax in each decoder step whose weights are multiplied with a '
            "sequence; there is none in this graph; viz.attention draws weights that you have"
        )
    rows: dict[int, list[np.ndarray]] = {}
    for t, row in max(found.values(), key=len):
        rows.setdefault(t, []).append(row)
    return np.stack([np.mean(rows[t], axis=0) for t in sorted(rows)])


def _mixes(flow: Flow, node: Node) -> bool:
    """Are the results multiplied with something that was there before the step?"""
    for reader in flow.readers[node]:
        if flow.op(reader) in ("mul", "matmul", "einsum"):
            others = [p for p in flow.parents(reader) if p is not node]
            if any(flow.place.get(p) is None or len(flow.readers[p]) > 1 for p in others):
                return True
    return False


def _row(node: Node, value: np.ndarray) -> np.ndarray:
    """The weights of one sequence: (S,)"""
    axis = node.static.get("axis", -1)
    moved = np.moveaxis(value, axis, -1)
    if moved.ndim > 2 and moved.shape[-2] == 1:
        moved = moved[..., 0, :]
    while moved.ndim > 3:
        moved = moved[0]
    if moved.ndim == 3:  # (heads, B, S) or (B, heads, S)
        return moved[0].mean(0)
    return moved[0] if moved.ndim == 2 else moved


class Rows:
    """The drawing, row by row. alpha: (T, S)  at: the only decoder step whose weights are drawn, from 1, or None"""

    def __init__(self, alpha: np.ndarray, source: Sequence[str], target: Sequence[str], at: int | None = None):
        self.alpha, self.at, self.result = alpha, at, Layout()
        self.T, self.S = alpha.shape
        if at is not None and not 1 <= at <= self.T:
            raise ValueError(f"viz.draw: the step whose weights are drawn must be from 1 to {self.T}, got {at}")
        names = [*source, *target]
        self.column = max(COLUMN, 8.2 * max(map(_length, names), default=0) + 34)
        self.encoder, self.decoder = Block("encoder", "encoder"), Block("decoder", "decoder")
        middle = Block("contexts", "")
        n = max(self.S, self.T)
        left = {"source": (n - self.S) / 2 * self.column, "target": (n - self.T) / 2 * self.column}
        at_source = [left["source"] + j * self.column for j in range(self.S)]
        at_target = [left["target"] + t * self.column for t in range(self.T)]
        self.words = self._row(self.encoder, "token", source, at_source, "input", 1)
        self.states = self._row(self.encoder, "h", _numbered("h", self.S), at_source, "hidden", 1)
        first = self.S + 1
        self.contexts = self._row(middle, "c", _numbered("c", self.T), at_target, "gate", first)
        self.decoded = self._row(self.decoder, "s", _numbered("s", self.T), at_target, "cell", first)
        self.outputs = self._row(self.decoder, "out", target, at_target, "output", first)
        self.titles = [_title("x", j, token) for j, token in enumerate(source)]
        self.titles += [_title("y", t, token) for t, token in enumerate(target)]

    def layout(self) -> Layout:
        """Nodes, frames, lines; the strongest weights are drawn last."""
        self._frame(self.encoder, "token", "h")
        self._frame(self.decoder, "s", "out")
        for lower, upper in zip(self.words, self.states, strict=True):
            self._line(lower, upper, "flow")
        for row, kind in ((self.states, "hidden over time"), (self.decoded, "cell over time")):
            for a, b in pairwise(row):
                self._line(a, b, kind, sideways=True)
        for c, s, y in zip(self.contexts, self.decoded, self.outputs, strict=True):
            self._line(c, s, "flow")
            self._line(s, y, "flow")
        places = [(a, t, j) for (t, j), a in np.ndenumerate(self.alpha) if a >= LEAST and self.at in (None, t + 1)]
        for a, t, j in sorted(places):
            self._weight(float(a), t, j)
        if self.at is not None:
            self._fade(self.at)
        return self.result

    # ---- nodes ----------------------------------------------------------------------------------------------------

    def _row(
        self, block: Block, row: str, labels: Sequence[str], xs: Sequence[float], kind: str, first: int
    ) -> list[Item]:
        width, height = SIZES[row]
        items = []
        for k, (label, x) in enumerate(zip(labels, xs, strict=True)):
            look: dict[str, object] = {"fontsize": 13}
            item = Item(f"{row}{k}", label, kind, "pill", look=look, moment=first + k)
            wide = max(width, 8.2 * _length(label) + 14) if row in ("token", "out") else width
            self.result.boxes[item] = Box(x, ROWS[row], wide, height)
            block.items.append(item)
            items.append(item)
        return items

    def _frame(self, block: Block, low: str, high: str) -> None:
        boxes = [self.result.boxes[i] for i in block.items]
        left = min(b.x - b.width / 2 for b in boxes) - ASIDE
        right = max(b.x + b.width / 2 for b in boxes) + MARGIN
        y = ROWS[low] - SIZES[low][1] / 2 - MARGIN
        top = ROWS[high] + SIZES[high][1] / 2 + MARGIN
        self.result.frames.append((block, left, y, right - left, top - y, (left + ASIDE / 2, (y + top) / 2)))

    def _fade(self, at: int) -> None:
        """What comes after the step is only hinted at."""
        later = {*self.contexts[at:], *self.decoded[at:], *self.outputs[at:]}
        for item in later:
            item.look |= GHOST
        for item in self.outputs[at:]:
            item.label = ""
        for e in self.result.edges:
            if e.head in later:
                e.look |= {"color": GHOST["color"]}

    # ---- lines ----------------------------------------------------------------------------------------------------

    def _line(self, tail: Item, head: Item, kind: str, sideways: bool = False) -> None:
        a, b = self.result.boxes[tail], self.result.boxes[head]
        ends = [(a.x, a.y + a.height / 2), (b.x, b.y - b.height / 2)]
        if sideways:
            ends = [(a.x + a.width / 2, a.y), (b.x - b.width / 2, b.y)]
        self.result.edges.append(Edge(tail, head, kind, line(ends, kind)))

    def _weight(self, a: float, t: int, j: int) -> None:
        tail, head = self.states[j], self.contexts[t]
        u, v = self.result.boxes[tail], self.result.boxes[head]
        width, arrow = 0.5 + 4.5 * a, 0.35 + 0.4 * a
        spread = (u.x - v.x) / max(self.column, 1) * 1.5  # arrows beside each other at the context
        goal = (v.x + max(min(spread, v.width / 2 - 5), 5 - v.width / 2), v.y - v.height / 2 - 1.5)
        curve = _straight((u.x, u.y + u.height / 2), goal, 10 * arrow, width)
        look: dict[str, object] = {
            "color": glow(a), "penwidth": round(width, 2), "arrowsize": round(arrow, 2),
            "tooltip": f"α({t + 1}, {j + 1}) = {a:.2f}",
        }  # fmt: skip
        if self.at is not None and a >= 0.02:
            x, y = _beside(curve[0][0], curve[0][-1], width)
            look |= {"label": f"{a:.2f}", "lp": f"{x:.2f},{y:.2f}", "fontsize": 11, "fontcolor": ramp(max(a, 0.6))}
        self.result.edges.append(Edge(tail, head, "weight", curve, look=look))


def _beside(a: Point, b: Point, width: float) -> Point:
    """Where a number stands beside a line that goes up: above it, or at its right."""
    across, up, whole = b[0] - a[0], b[1] - a[1], math.dist(a, b)
    normal = (up / whole, -across / whole) if across <= 0 else (-up / whole, across / whole)
    away = 8 + width / 2 + 12 * abs(normal[0])
    return a[0] + across * 0.3 + normal[0] * away, a[1] + up * 0.3 + normal[1] * away


def _straight(a: Point, b: Point, arrow: float, width: float) -> Curve:
    """A straight line whose arrow of this length ends at b; a thick one's tip sticks out by half its width."""
    whole = math.dist(a, b)
    at = lambda d: (b[0] + (a[0] - b[0]) * d / whole, b[1] + (a[1] - b[1]) * d / whole)
    tip, end = at(width / 2), at(width / 2 + arrow)
    thirds = [(a[0] + (end[0] - a[0]) * k / 3, a[1] + (end[1] - a[1]) * k / 3) for k in (1, 2)]
    return [a, *thirds, end], tip


def _numbered(letter: str, n: int) -> list[str]:
    return [subscript(letter, k + 1) for k in range(n)]


def _title(letter: str, k: int, token: str) -> str:
    name = subscript(letter, k + 1)
    return name if token == name else f"{name} = {token}"


def _length(text: str) -> float:
    return max((sum(1.9 if ord(c) > 0x2E80 else 1.0 for c in part) for part in text.split("\n")), default=0.0)


def checked(alpha: Any, source: Sequence[str], target: Sequence[str]) -> tuple[np.ndarray, list[str], list[str]]:
    """Weights (T, S) and tokens of their lengths; x₁ … and y₁ … where there are none. ValueError if they do not fit."""
    try:
        rows = np.asarray(to_numpy(getattr(alpha, "array", alpha)), np.float64)
    except (TypeError, ValueError):  # text, or rows of several lengths
        rows = np.empty(0)
    if rows.ndim != 2 or not rows.size or not np.isfinite(rows).all() or rows.min() < 0 or rows.max() > 1 + 1e-6:
        raise ValueError(
            "viz.attention: weights must be (target, source) finite numbers from 0 to 1, one row for each target, "
            f"got shape {rows.shape}"
        )
    words = []
    for name, letter, given, n in (("target", "y", target, rows.shape[0]), ("source", "x", source, rows.shape[1])):
        if len(given) not in (0, n):
            raise ValueError(
                f"viz.attention: {name} must have {n} tokens, one for each of the weights', got {len(given)}"
            )
        words.append([visible(token) for token in given] or _numbered(letter, n))
    return np.minimum(rows, 1.0), words[1], words[0]
