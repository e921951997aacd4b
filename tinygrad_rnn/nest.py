"""Nests: a tensor, or tuples, named tuples, lists and dicts of nests. The state of a cell is one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


def leaves(nest: Any) -> list[Any]:
    """What a nest holds, in order; None holds nothing."""
    if isinstance(nest, dict):
        return [leaf for part in nest.values() for leaf in leaves(part)]
    if isinstance(nest, (tuple, list)):
        return [leaf for part in nest for leaf in leaves(part)]
    return [] if nest is None else [nest]


def map_leaves(function: Callable, nest: Any, *others: Any) -> Any:
    """The nest with function(leaf, *leaves of the others at the same place) in place of each leaf.

    ValueError where the others are built differently.
    """
    if isinstance(nest, (tuple, list, dict)):
        for other in others:
            keys = isinstance(nest, dict) and isinstance(other, dict) and other.keys() != nest.keys()
            if type(other) is not type(nest) or len(other) != len(nest) or keys:
                raise ValueError(f"state: it must keep its structure, got {describe(other)} for {describe(nest)}")
    if isinstance(nest, dict):
        return {key: map_leaves(function, part, *[other[key] for other in others]) for key, part in nest.items()}
    if isinstance(nest, (tuple, list)):
        parts = [map_leaves(function, *group) for group in zip(nest, *others, strict=True)]
        return type(nest)(*parts) if hasattr(nest, "_fields") else type(nest)(parts)
    return None if nest is None else function(nest, *others)


def describe(nest: Any) -> str:
    """Its structure and shapes in one line: ((2, 3), {'c': (2, 3)})."""
    if isinstance(nest, dict):
        return "{" + ", ".join(f"{key!r}: {describe(part)}" for key, part in nest.items()) + "}"
    if isinstance(nest, (tuple, list)):
        inner = ", ".join(describe(part) for part in nest)
        name = type(nest).__name__ if hasattr(nest, "_fields") else ""
        return f"{name}[{inner}]" if isinstance(nest, list) else f"{name}({inner})"
    shape = getattr(nest, "shape", None)
    return type(nest).__name__ if shape is None else str(tuple(shape))
