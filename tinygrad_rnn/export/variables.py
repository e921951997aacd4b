"""What a cell's code calls what it computes, read from its text: the value of `f = sigmoid(…)` is called f."""

from __future__ import annotations

import ast
import functools
import itertools
import linecache

from collections import defaultdict
from collections.abc import Mapping, Sequence

from tinygrad_rnn.compiler.ir.origin import Origin
from tinygrad_rnn.compiler.ir.value import Value

Place = tuple[int | None, int | None, int | None, int | None]  # first and last line, first and last column


def variables(order: Sequence[Value]) -> dict[Value, str]:
    """The name of each value that is assigned to one."""
    origins: Mapping[Value, Origin | None] = {v: v.origin for v in order}
    inside = {a for v in order for a in v.values if v.origin is not None and origins.get(a) == v.origin}
    ends: dict[Origin, list[Value]] = defaultdict(list)  # what an expression comes to, not what it goes by
    for v in order:
        if v.origin is not None and v not in inside:
            ends[v.origin].append(v)
    found: dict[Value, str] = {}
    for origin, values in ends.items():
        names = _assigned(origin.code.co_filename).get(_place(origin), ())
        if names and not len(values) % len(names):  # several times: a function that was called so often
            found |= zip(values, itertools.cycle(names))
    return found


def _place(origin: Origin) -> Place:
    first, last, start, end = next(itertools.islice(origin.code.co_positions(), origin.at // 2, None), (None,) * 4)
    return first, last, start, end


@functools.lru_cache(64)
def _assigned(filename: str) -> dict[Place, list[str]]:
    """Where in a file an expression stands that is assigned, and to which names."""
    try:
        tree = ast.parse("".join(linecache.getlines(filename)))
    except SyntaxError:  # no file of Python
        return {}
    found: dict[Place, list[str]] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign) and len(node.targets) == 1:
            for value, targets in _pairs(node.targets[0], node.value):
                names = [t.value if isinstance(t, ast.Starred) else t for t in targets]
                if all(isinstance(n, ast.Name) for n in names):
                    place = value.lineno, value.end_lineno, value.col_offset, value.end_col_offset
                    found[place] = [n.id for n in names if isinstance(n, ast.Name)]
    return found


def _pairs(target: ast.expr, value: ast.expr) -> list[tuple[ast.expr, list[ast.expr]]]:
    """Expressions, and what each is assigned to."""
    if not isinstance(target, ast.Tuple):
        return [(value, [target])]
    if isinstance(value, ast.Tuple) and len(value.elts) == len(target.elts):
        return [(v, [t]) for v, t in zip(value.elts, target.elts, strict=True)]
    return [(value, target.elts)]
