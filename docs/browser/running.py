"""Runs the code of the page as a notebook runs its cells, which begin with `# %%`.

What they print, and the value of the last line of each, are said to the page.
"""

import ast
import html
import linecache
import sys
import traceback
import warnings

from bisect import bisect
from itertools import groupby
from typing import Any

import js

from tqdm import tqdm

NAME = "your code"


def run(code: str) -> None:
    """Run code in a namespace of its own; an error is said, not raised."""
    linecache.cache[NAME] = len(code), None, code.splitlines(keepends=True), NAME
    names: dict[str, Any] = {"__name__": "__main__", "display": display}
    try:
        for cell in cells(code):
            last = cell.pop() if isinstance(cell[-1], ast.Expr) else None
            exec(compile(ast.Module(cell, []), NAME, "exec"), names)
            if isinstance(last, ast.Expr):
                display(eval(compile(ast.Expression(last.value), NAME, "eval"), names))
    except BaseException as error:
        flush()
        js.say("error", told(error))
    finally:
        flush()


def flush() -> None:
    """Say what was printed without an end of line too."""
    sys.stdout.flush()
    sys.stderr.flush()


def cells(code: str) -> list[list[ast.stmt]]:
    """The statements of each cell."""
    begins = [i for i, line in enumerate(code.splitlines(), 1) if line.startswith("# %%")]
    found = groupby(ast.parse(code, NAME).body, lambda statement: bisect(begins, statement.lineno))
    return [[*cell] for _, cell in found]


def told(error: BaseException) -> str:
    """The traceback from the page's code on."""
    said = traceback.TracebackException.from_exception(error)
    first = next((i for i, frame in enumerate(said.stack) if frame.filename == NAME), len(said.stack))
    del said.stack[:first]
    return "".join(said.format())


def display(value: Any) -> None:
    """Show a value: a drawing as a picture, others as they are printed."""
    if value is None:
        return
    flush()
    shown = getattr(value, "_repr_html_", None) or getattr(value, "_repr_svg_", None)
    js.say("html", shown() if shown else f"<pre>{html.escape(repr(value))}</pre>")


def warned(message: Warning | str, category: type[Warning], *_: Any) -> None:
    """Say a warning to the page."""
    flush()
    js.say("warning", f"{category.__name__}: {message}")


warnings.showwarning = warned
tqdm.monitor_interval = 0  # its bars need no thread, which there is none of
sys.stdout.reconfigure(line_buffering=True)
