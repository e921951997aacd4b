"""Graphviz in WebAssembly, for Python in a browser's page (Pyodide): the page gives it as the global `graphviz`, an
instance of Viz.js."""

from __future__ import annotations

import sys

from typing import Any


def instance() -> Any:
    """What the page gives; None where Python runs elsewhere, or the page gives none."""
    if sys.platform != "emscripten":
        return None
    import js  # noqa: PLC0415 (Pyodide's: the page's globals)

    return getattr(js, "graphviz", None)


def rendered(source: str, form: str, engine: str) -> bytes:
    """The picture. form: "svg" or "json0"; RuntimeError for others, which take what no page has: fonts, in files."""
    if form not in ("svg", "json0"):
        raise RuntimeError(f'viz.draw: Graphviz in a page of a browser makes no {form}; save an ".svg" or an ".html"')
    return str(instance().renderString(source, format=form, engine=engine)).encode()
