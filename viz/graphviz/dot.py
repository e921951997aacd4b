"""Graphviz' language: quoting, and a writer for nodes, edges and clusters."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from viz.style import COLOURS, EDGE, EDGES, GRAPH, NODE, SHAPES
from viz.texts import printable

# Graphviz reads HTML entities in ordinary strings too: a label `&lt;` must stay these four characters.
ESCAPES = str.maketrans({"\\": "\\\\", '"': '\\"', "\r": "", "\n": "\\n", "\0": "", "&": "&amp;"})

Point = tuple[float, float]


def quote(value: object) -> str:
    r"""A string of DOT. Every string is quoted, so no label can become HTML or end the attribute.

    >>> print(quote('<s> says "\\N"'))
    "<s> says \"\\N\""
    """
    text = str(value).translate(ESCAPES)
    if text.startswith("\\n"):
        text = " " + text  # Graphviz crashes on a label whose first line is empty
    return f'"{text if text.isprintable() else printable(text)}"'


def attributes(values: Mapping[str, object]) -> str:
    """[a="1", b="2"]"""
    return "[" + ", ".join(f"{name}={quote(value)}" for name, value in values.items()) + "]"


def node(key: str, label: str, kind: str, shape: str, **more: object) -> str:
    """The statement of a node: its kind gives the colours."""
    values: dict[str, object] = {"label": label}
    if kind in COLOURS:
        values["fillcolor"], values["color"] = COLOURS[kind]
    return f"{quote(key)} {attributes({**values, **SHAPES[shape], **more})};"


def edge(tail: str, head: str, kind: str, **more: object) -> str:
    """The statement of an edge: its kind gives colour, width and dashes."""
    values = {**EDGES[kind], **more}
    return f"{quote(tail)} -> {quote(head)}" + (f" {attributes(values)};" if values else ";")


def cluster(key: str, statements: Iterable[str], **values: object) -> list[str]:
    """Statements that Graphviz draws in one frame. values: attributes of the frame"""
    frame = [f"{name}={quote(value)};" for name, value in values.items()]
    return [f"subgraph {quote('cluster_' + key)} {{", *("  " + s for s in (*frame, *statements)), "}"]


def digraph(statements: Iterable[str], **values: object) -> str:
    """A whole graph in Graphviz' language. values: its attributes"""
    head = [f"graph {attributes({**GRAPH, **values})};", f"node {attributes(NODE)};", f"edge {attributes(EDGE)};"]
    return "\n".join(["digraph unrolled {", *("  " + s for s in (*head, *statements)), "}", ""])


def spline(points: Iterable[Point], tip: Point | None = None, start: Point | None = None) -> str:
    """The pos of an edge: a start, then three points for each cubic piece; in front the tips of its arrows, the one at
    its end and the one at its start.
    """
    tips = [f"{mark},{p[0]:.2f},{p[1]:.2f}" for mark, p in (("s", start), ("e", tip)) if p is not None]
    return " ".join([*tips, *(f"{x:.2f},{y:.2f}" for x, y in points)])
