"""How the gradient flows: the norm of ∂L/∂v for every value of a graph, as colours, and over time."""

from __future__ import annotations

import math

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from tinygrad_rnn.autograd.graph import Node
from viz.picture.picture import Item, Picture
from viz.picture.subject import Subject
from viz.style import LINE, ink, ramp

DECADES = 8  # at most, on a scale that is found
NO_GRADIENT = {"fillcolor": "transparent", "color": "#9ca3af", "fontcolor": LINE, "style": "rounded,filled,dashed",
               "tooltip": "no gradient"}  # fmt: skip


def over_time(subject: Subject, found: Mapping[Node, float]) -> dict[str, np.ndarray]:
    """For each state its ‖∂L/∂s_t‖ over the steps, NaN where no gradient comes; numbered where a name comes twice.

    Of sequences that have ended nothing counts.
    """
    states: dict[tuple, dict[int, float]] = {}
    for column in subject.states.columns:
        held = [n for n in column.ops if subject.states.kind_of(n)]
        if not held:  # a last step of its own kind: its state is what the code calls so
            called = {name for name, *_ in states}
            held = [n for n in column.ops if subject.labels.variables.get(n) in called]
        for node in held:
            _enter(states, subject, node, found)
    names = [name for name, *_ in states]
    result: dict[str, np.ndarray] = {}
    for (name, *_), values in states.items():
        number = 1 + sum(k.rstrip("0123456789") == name for k in result)
        label = f"{name}{number}" if names.count(name) > 1 else name
        result[label] = np.array([values.get(t, math.nan) for t in range(max(values) + 1)])
    return result


def _enter(states: dict[tuple, dict[int, float]], subject: Subject, node: Node, found: Mapping[Node, float]) -> None:
    """Put down the norm of a state, by its name, its run, its layer, and its step."""
    flow, position = subject.flow, subject.states.position[node]
    is_state = position in subject.states.kind
    name = subject.labels.state(position) if is_state else subject.labels.variables[node]
    run, t, layer = flow.runs.of.get(node, 0), flow.place[node][1], 0
    while t in states.setdefault((name, run, layer), {}):
        layer += 1
    value = flow.args[node][1] if flow.is_mask(node) else node  # what the cell computed
    states[name, run, layer][t] = found.get(value, math.nan)


@dataclass
class Scale:
    """Colours for norms from low to high, by their logarithms."""

    low: float
    high: float

    @staticmethod
    def of(found: Mapping[Node, float]) -> Scale:
        """Whole decades that hold the norms."""
        positive = [v for v in found.values() if 0 < v < math.inf]
        if not positive:
            return Scale(1e-1, 1.0)
        top = math.ceil(math.log10(max(positive)) - 1e-9)
        bottom = max(math.floor(math.log10(min(positive)) + 1e-9), top - DECADES)
        return Scale(10.0 ** min(bottom, top - 1), 10.0**top)

    def share(self, value: float) -> float:
        """Where on the scale a norm is, from 0 to 1."""
        if value <= 0:
            return 0.0
        width = math.log10(self.high) - math.log10(self.low)
        return min(max((math.log10(value) - math.log10(self.low)) / width, 0.0), 1.0)


def tint(picture: Picture, found: Mapping[Node, float], scale: Scale) -> dict[Item, float]:
    """Colour the nodes of a drawing; what no gradient comes to stays empty. Returns the norms of the coloured ones."""
    known: dict[Item, float] = {}
    for item in picture.items():
        value = _of_item(item, found)
        if value is None or math.isnan(value):
            if item.nodes:
                item.look |= NO_GRADIENT
            continue
        known[item] = value
        if item.kind.endswith("dots"):
            continue
        share = scale.share(value)
        tip = f"‖∂L/∂·‖ = {value:.3g}"
        item.look |= {"fillcolor": ramp(share), "fontcolor": ink(share), "color": "#6b7280", "tooltip": tip}
        if item.shape == "module":
            item.label += "\n" + short(value)
            item.plain += "\n0e-00"
    for loop in picture.loops:
        if loop.tail in known:
            known[loop.delay] = known[loop.tail]
    return known


def _of_item(item: Item, found: Mapping[Node, float]) -> float | None:
    """The norm of the value that an item shows; of the parameters or the states in one box, of all together."""
    together = [n for n in (item.nodes if item.kind == "parameter" else item.states) if n in found]
    if together:
        return math.hypot(*[found[n] for n in together])
    return next((found[n] for n in reversed(item.nodes) if n in found), None)


def short(value: float) -> str:
    """A norm in few characters, such as 0.52 and 2e-3."""
    if value == 0 or 0.1 <= value < 100:
        return f"{value:.2g}"
    digits, exponent = f"{value:.0e}".split("e")
    return f"{digits}e{int(exponent)}"
