"""From DOT to a picture: with Graphviz' own programs when `dot` is on PATH, else in process with pygraphviz, or in a
browser with what the page gives."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import threading

from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

from viz.graphviz import browser, fonts
from viz.graphviz.dot import digraph

WAYS_OUT = 'install Graphviz so that `dot` is on PATH, or pip install "tinygrad-rnn[dot]"'
LIBRARIES = (  # which pygraphviz' wheel takes for granted
    "on Debian and Ubuntu: apt install libglib2.0-0 libxrender1 libxext6 libexpat1; "
    "or install Graphviz so that `dot` is on PATH: apt install graphviz"
)
PAINTED = ("png", "pdf")  # with the fonts of this machine; an SVG's text is drawn by who looks at it
_LABEL = re.compile(r'label="((?:[^"\\]|\\.)*)"')
_one_at_a_time = threading.Lock()  # Graphviz' library keeps its state in globals


def layout(statements: list[str], **values: object) -> dict[str, Any]:
    """Where dot puts everything, as the dictionary of its format json0."""
    return json.loads(render(digraph(statements, **values), "json0", engine="dot"))


def render(source: str, form: str, *, engine: str = "nop2") -> bytes:
    """The picture. form: "svg", "png", "pdf" or "json0"  engine: "dot", or "nop2" to keep all positions as they are.

    A warning says which letters of a PNG or a PDF are boxes for want of a font.
    """
    if browser.instance() is not None:
        return browser.rendered(source, form, engine)
    letters = "".join(_LABEL.findall(source)) if form in PAINTED else ""
    if _program("dot"):
        fonts.tell_of_boxes(letters)
        return _with_programs(source, form, engine)
    pygraphviz = _pygraphviz()
    if pygraphviz is None:
        raise missing()
    with _one_at_a_time, fonts.offered():
        fonts.tell_of_boxes(letters)
        with _quiet():
            graph = pygraphviz.AGraph(string=source)
            graph.has_layout = True  # so draw() takes the positions that are given, and warns of no large graph
            return graph.draw(format=form, prog="dot" if engine == "dot" else None)


def available() -> bool:
    """Can pictures be made here?"""
    return bool(_program("dot")) or _pygraphviz() is not None or browser.instance() is not None


def missing(meanwhile: str = "") -> RuntimeError:
    """The error where no pictures can be made: why, what was done meanwhile, and what to do."""
    try:
        import pygraphviz  # noqa: F401, PLC0415
    except (ImportError, OSError) as error:
        if not isinstance(error, ModuleNotFoundError) or error.name != "pygraphviz":
            reason = " ".join(str(error).split())
            return RuntimeError(f"viz.draw: pygraphviz cannot be loaded ({reason}){meanwhile}; {LIBRARIES}")
    return RuntimeError(f"viz.draw: nothing here draws graphs{meanwhile}; {WAYS_OUT}")


def _program(name: str) -> str | None:
    return shutil.which(name)


def _with_programs(source: str, form: str, engine: str) -> bytes:
    import graphviz  # noqa: PLC0415 (drawing is optional, importing viz is cheap)

    if engine == "dot":
        return graphviz.pipe("dot", form, source.encode(), quiet=True)
    return graphviz.pipe("neato", form, source.encode(), neato_no_op=2, quiet=True)


def _pygraphviz() -> ModuleType | None:
    try:
        import pygraphviz  # noqa: PLC0415
    except (ImportError, OSError):
        return None
    return pygraphviz


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Graphviz' library writes its warnings straight to file descriptor 2; they are of no use to a reader."""
    saved = os.dup(2)
    with Path(os.devnull).open("wb") as nowhere:
        os.dup2(nowhere.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(saved, 2)
            os.close(saved)
