"""What keeps the code readable, as numbers: rooms and the arrows between them, the size of functions and of classes."""

import ast

from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
CODE_LINES, ATTRIBUTES = 40, 12
HOUSES = {"tinygrad_rnn": (18, 49), "tinygrad_rnn.compiler": (9, 25), "viz": (13, 40)}  # rooms, arrows, at most


def modules():
    """The dotted name and the syntax tree of each file; a folder's name stands for its __init__."""
    files = sorted(f for top in ("tinygrad_rnn", "viz") for f in (ROOT / top).rglob("*.py"))
    return {
        ".".join(f.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): ast.parse(f.read_text())
        for f in files
    }


TREES = modules()


def room(module, house):
    """The part of the house that a module stands in; its own __init__ is one of them. None: outside."""
    return f"{module}.".removeprefix(f"{house}.").partition(".")[0] if f"{module}.".startswith(f"{house}.") else None


def imported(tree):
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def arrows(house):
    found = {(room(name, house), room(other, house)) for name, tree in TREES.items() for other in imported(tree)}
    return {(a, b) for a, b in found if None not in (a, b) and a != b}


@pytest.mark.parametrize("house", HOUSES)
def test_a_house_has_few_rooms_and_few_arrows_between_them(house):
    drawn = arrows(house)
    assert len({end for arrow in drawn for end in arrow}) <= HOUSES[house][0], sorted(drawn)
    assert len(drawn) <= HOUSES[house][1], sorted(drawn)


def code_lines(function: ast.FunctionDef, source: list[str]) -> int:
    """Its lines that are neither blank, nor comments, nor its docstring."""
    lines = [line.strip() for line in source[function.lineno - 1 : function.end_lineno]]
    docstring = ast.get_docstring(function, clean=False)
    return sum(bool(line) and not line.startswith("#") for line in lines) - len((docstring or "").split("\n")) * bool(
        docstring
    )


def attributes(cls: ast.ClassDef) -> set[str]:
    """What its methods set on self that is no parameter of __init__."""
    methods = [m for m in cls.body if isinstance(m, ast.FunctionDef)]
    given = {a.arg for m in methods if m.name == "__init__" for a in (*m.args.args, *m.args.kwonlyargs)}
    return {name for m in methods for name in _set_on_self(m)} - given


def _set_on_self(method: ast.FunctionDef) -> Iterator[str]:
    for node in ast.walk(method):
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store) and ast.unparse(node.value) == "self":
            yield node.attr


def test_a_function_can_be_read_without_scrolling():
    long = []
    for name, tree in TREES.items():
        path = ROOT.joinpath(*name.split("."))
        source = (path / "__init__.py" if path.is_dir() else path.with_suffix(".py")).read_text().split("\n")
        functions = [f for f in ast.walk(tree) if isinstance(f, ast.FunctionDef)]
        long += [f"{name}.{f.name}" for f in functions if code_lines(f, source) > CODE_LINES]
    assert not long


def test_a_class_fills_few_attributes_by_itself():
    classes = [(name, c) for name, tree in TREES.items() for c in ast.walk(tree) if isinstance(c, ast.ClassDef)]
    assert not [f"{name}.{c.name}" for name, c in classes if len(attributes(c)) > ATTRIBUTES]
