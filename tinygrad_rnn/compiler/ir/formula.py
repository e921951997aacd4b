"""Formulas as trees: of the calculus, and lines of maths on arrays of one size, such as an optimiser's."""

from __future__ import annotations

import ast
import functools

from collections.abc import Collection, Mapping, Sequence
from typing import Any

KNOWN = (ast.BinOp, ast.Add, ast.Sub, ast.Mult, ast.Div, ast.UnaryOp, ast.USub, ast.UAdd, ast.Call, ast.Name, ast.Load,
         ast.Constant)  # fmt: skip


@functools.cache
def parsed(formula: str) -> ast.expr:
    """A formula of the calculus as a tree."""
    return ast.parse(formula, mode="eval").body


def is_formula(lines: str, functions: Collection[str]) -> bool:
    """Are these assignments to names, of numbers, names, + - * / and these functions, and of nothing else?"""
    for line in ast.parse(lines).body:
        if not (isinstance(line, ast.Assign) and [type(t) for t in line.targets] == [ast.Name]):
            return False
        if not all(isinstance(node, KNOWN) for node in ast.walk(line.value)):
            return False
        calls = [node for node in ast.walk(line.value) if isinstance(node, ast.Call)]
        if any(not isinstance(f.func, ast.Name) or f.func.id not in functions or f.keywords for f in calls):
            return False
    return True


class Lines:
    """Lines such as "m = a * m + (1 - a) * g" for each element of arrays, with what is a number in them apart.

    assigned  the target and the tree of each line, in their order; a number, such as "1 - a", is a name in it
    names     these names: the texts of the numbers
    """

    def __init__(self, lines: str, reads: Sequence[str]):
        """reads: the names of the arrays; those that are neither these nor assigned are numbers"""
        tree = ast.parse(lines)
        found = _Numbers({*reads, *(line.targets[0].id for line in tree.body)})  # type: ignore[attr-defined]
        self.assigned = [(line.targets[0].id, found.visit(line.value)) for line in tree.body]  # type: ignore[attr-defined]
        self.names = list(found.names)
        self._numbers = compile("".join(f"{n}, " for n in self.names) or "()", "formula", "eval")

    def numbers(self, values: Mapping[str, float]) -> list[float]:
        """The numbers in the order of `names`, computed as Python computes, from values by name."""
        return list(eval(self._numbers, {}, values))


class _Numbers(ast.NodeTransformer):
    """Replaces what has no array in it by its text as a name: it is computed once, and not in float32."""

    def __init__(self, arrays: set[str]):
        self.arrays = arrays
        self.names: dict[str, None] = {}

    def visit(self, node: Any) -> Any:
        if isinstance(node, ast.Call):  # the name of a function is none of a number
            node.args = [self.visit(a) for a in node.args]
            return node
        names = {n.id for n in ast.walk(node) if isinstance(n, ast.Name)}
        if not isinstance(node, ast.expr) or names & self.arrays:
            return self.generic_visit(node)
        name = ast.unparse(node)
        self.names[name] = None
        return ast.Name(name, ast.Load())
