"""What the user's code calls a value: `f` for what `f = sigmoid(…)` computes, as its file says."""

from __future__ import annotations

import ast
import functools
import itertools
import linecache

from collections import defaultdict
from collections.abc import Iterable, Iterator

from tinygrad_rnn.compiler.ir.origin import Origin
from tinygrad_rnn.compiler.ir.value import Value

Span = tuple[int | None, int | None, int | None, int | None]  # first line, last line, first column, last column


def variables(values: Iterable[Value]) -> dict[Value, str]:
    """The variables that values are assigned to; of several from one expression the last is its result, or, where
    several names are assigned, the last ones are."""
    together: dict[tuple, list[Value]] = defaultdict(list)
    for v in values:
        if v.origin is not None:
            together[v.origin.code, v.origin.at].append(v)
    found: dict[Value, str] = {}
    for group in together.values():
        origin = group[0].origin
        assert origin is not None
        names = _assigned(origin.code.co_filename).get(_span(origin), [])
        if names and len(group) >= len(names):
            found |= zip(group[-len(names) :], names, strict=True)
    return found


def _span(origin: Origin) -> Span:
    """Where in its file an expression is."""
    return next(itertools.islice(origin.code.co_positions(), origin.at // 2, None), (None,) * 4)


@functools.lru_cache(64)
def _assigned(file: str) -> dict[Span, list[str]]:
    """The names that each expression of a file is assigned to."""
    try:
        tree = ast.parse("".join(linecache.getlines(file)))
    except SyntaxError:
        return {}
    pairs = (p for node in ast.walk(tree) if isinstance(node, ast.Assign) for p in _pairs(node.targets[-1], node.value))
    return {(v.lineno, v.end_lineno, v.col_offset, v.end_col_offset): names for names, v in pairs}


def _pairs(target: ast.expr, value: ast.expr) -> Iterator[tuple[list[str], ast.expr]]:
    """The names and the expression of an assignment; of `a, b = x, y` each with its own."""
    if isinstance(value, ast.IfExp):
        for branch in (value.body, value.orelse):
            yield from _pairs(target, branch)
    elif isinstance(target, (ast.Tuple, ast.List)):
        if isinstance(value, (ast.Tuple, ast.List)) and len(value.elts) == len(target.elts):
            for t, v in zip(target.elts, value.elts, strict=True):
                yield from _pairs(t, v)
            return
        parts = [t.value if isinstance(t, ast.Starred) else t for t in target.elts]
        if all(isinstance(t, ast.Name) for t in parts):
            yield [t.id for t in parts if isinstance(t, ast.Name)], value
    elif isinstance(target, ast.Name):
        yield [target.id], value
        if isinstance(value, ast.ListComp):  # [sigmoid(part) for part in o]
            yield [target.id], value.elt
        elif isinstance(value, ast.List) and value.elts:
            yield [target.id], value.elts[0]
