"""The look of the drawings: colours tell kinds apart, and they read on white paper and on a dark page.

Six-digit colours only: older Graphviz draws the short form black. One font name only: builds without Pango do not
understand a list of them.
"""

from __future__ import annotations

from itertools import pairwise

FONT = "Helvetica"
INK = "#1f2937"  # text on a fill
LINE = "#6b7280"  # text and lines on the page
BORDER = "#cbd2db"  # of a time step
PAPER = "#f8fafc"  # inside a time step

# kind: fill, line
COLOURS: dict[str, tuple[str, str]] = {
    "input": ("#d6e8fa", "#2f6fab"),
    "hidden": ("#d8efd6", "#3a8a3f"),
    "cell": ("#e8def5", "#7a4fb0"),
    "op": ("#f3f4f6", "#6b7280"),
    "gate": ("#fff3d6", "#a8740c"),
    "parameter": ("#fbe6b8", "#a8740c"),
    "loss": ("#fad7d3", "#c0392b"),
    "output": ("#e3e7ec", "#475569"),
    "said": ("#e3e7ec", "#475569"),
    "initial": ("#ffffff", "#9ca3af"),
    "delay": ("#111827", "#9ca3af"),
}

GRADIENT = COLOURS["loss"][1]  # of the way back in a film

GRAPH = {"fontname": FONT, "fontsize": 12, "fontcolor": LINE, "pad": 0.2}
NODE = {
    "fontname": FONT,
    "fontsize": 11,
    "fontcolor": INK,
    "shape": "box",
    "style": "rounded,filled",
    "penwidth": 1.1,
    "width": 0.3,
    "height": 0.3,
    "margin": "0.07,0.04",
}
EDGE = {"fontname": FONT, "fontsize": 9, "fontcolor": LINE, "color": LINE, "arrowsize": 0.6, "penwidth": 1.0}

_TEXT: dict[str, object] = {"shape": "plaintext", "style": "", "fontcolor": LINE, "margin": 0}

# What a node's shape adds to NODE.
SHAPES: dict[str, dict[str, object]] = {
    "box": {},
    "sign": {"shape": "circle", "width": 0.25, "height": 0.25, "fixedsize": "true", "margin": 0},
    "circle": {"shape": "circle", "margin": 0.02},
    "module": {"width": 0.95, "height": 0.58, "fontsize": 14, "penwidth": 1.3},
    "ball": {"shape": "circle", "width": 0.5, "height": 0.5, "fontsize": 14, "margin": 0},
    "pill": {"fontsize": 13, "width": 0.5, "height": 0.36},
    "swatch": {"shape": "box", "style": "filled", "penwidth": 0, "label": ""},
    "delay": {"shape": "square", "width": 1 / 6, "height": 1 / 6, "fixedsize": "true", "style": "filled", "label": ""},
    "bar": {"style": "filled", "fillcolor": LINE, "color": LINE, "width": 5 / 72, "height": 0.4, "fixedsize": "true"},
    "dot": {"shape": "circle", "style": "filled", "width": 4 / 72, "height": 4 / 72, "fixedsize": "true", "label": ""},
    "text": _TEXT,
    "equation": {**_TEXT, "fontsize": 14, "width": 0, "height": 0},
    "subscript": {**_TEXT, "fontsize": 10, "width": 0, "height": 0},
    "name": {**_TEXT, "fontsize": 12, "width": 0, "height": 0},
    "port": {"shape": "point", "style": "invis", "width": 0.02, "height": 0.02, "label": ""},
}

# What an edge's kind adds to EDGE.
EDGES: dict[str, dict[str, object]] = {
    "flow": {},
    "hidden": {"color": COLOURS["hidden"][1]},
    "cell": {"color": COLOURS["cell"][1], "penwidth": 1.8},
    "hidden over time": {"color": COLOURS["hidden"][1], "penwidth": 1.8},
    "cell over time": {"color": COLOURS["cell"][1], "penwidth": 1.8},
    "said": {"color": COLOURS["said"][1], "style": "dashed"},  # no gradient flows back along these
    "said over time": {"color": COLOURS["said"][1], "style": "dashed", "penwidth": 1.4},
    "parameter": {"color": COLOURS["parameter"][1], "style": "dashed", "penwidth": 0.8, "arrowsize": 0.45},
    "loss": {"color": COLOURS["loss"][1]},
    "weight": {},
    "unfold": {"penwidth": 3, "arrowsize": 0.9},
    "legend": {},
}

SIGNS = {
    "add": "+", "sub": "−", "mul": "×", "div": "÷", "matmul": "@", "greater": ">", "greater_equal": "≥", "less": "<",
    "less_equal": "≤", "equal": "=", "not_equal": "≠",
}  # fmt: skip
NAMES = {"sigmoid": "σ", "neg": "−( )", "sqrt": "√", "abs": "| |", "sum": "Σ"}

# From nothing to much: of gradients (log10 of the norm) and of attention (0 to 1). (share, colour)
RAMP = [(0.0, "#f1f5f9"), (0.25, "#fde6c8"), (0.5, "#fbb46b"), (0.75, "#e36b2c"), (1.0, "#9b1c1c")]


def ramp(share: float) -> str:
    """The colour of a share from 0 to 1."""
    share = min(max(share, 0.0), 1.0)
    (a, low), (b, high) = next(pair for pair in pairwise(RAMP) if share <= pair[1][0])
    part = (share - a) / (b - a)
    mixed = [round(int(low[i : i + 2], 16) * (1 - part) + int(high[i : i + 2], 16) * part) for i in (1, 3, 5)]
    return "#" + "".join(f"{c:02x}" for c in mixed)


def glow(share: float) -> str:
    """The colour of a line: a weak one is nearly transparent, on white paper and on a dark page."""
    return ramp(max(share, 0.5)) + f"{round(255 * (0.2 + 0.8 * min(max(share, 0.0), 1.0))):02x}"


def ink(share: float) -> str:
    """The colour of text on that colour: white where it has about as much contrast as dark (3.6 at least; WCAG 2.1)."""
    return "#ffffff" if share > 0.776 else INK


PRIME = "\N{PRIME}"
FORWARD, BACKWARD = "→", "←"  # behind a letter: arrows above one are put beside it by many fonts
SUBSCRIPTS = "₀₁₂₃₄₅₆₇₈₉"


def subscript(name: str, number: int) -> str:
    """x and 12 become x₁₂. Signs of Unicode: HTML's <SUB> is drawn on the line by several renderers."""
    return name + ("₋" if number < 0 else "") + "".join(SUBSCRIPTS[int(digit)] for digit in str(abs(number)))
