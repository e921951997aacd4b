"""Nests: a tensor, or tuples, named tuples, lists, dicts and dataclasses of nests. The state of a cell is one.

What is built from a nest is built as it is: a dict subclass, an ordered dict, a dataclass stays what it is.
"""

from __future__ import annotations

import copy
import dataclasses
import operator

from collections.abc import Callable, Iterable, Sequence
from typing import Any


def leaves(nest: Any) -> list[Any]:
    """What a nest holds, in order; None holds nothing."""
    parts = nest if isinstance(nest, tuple) else _parts(nest)
    if parts is None:
        return [] if nest is None else [nest]
    found: list[Any] = []
    for part in parts:
        found += leaves(part)
    return found


def is_leaf(nest: Any) -> bool:
    """Is it a leaf: no container, and not None?"""
    return nest is not None and _parts(nest) is None


def map_leaves(function: Callable, nest: Any, *others: Any) -> Any:
    """The nest with function(leaf, *leaves of the others at the same place) in place of each leaf.

    ValueError where the others are built differently.
    """
    parts = _parts(nest)
    if parts is None:
        return None if nest is None else function(nest, *others)
    if not others:
        return _rebuilt(nest, [map_leaves(function, part) for part in parts])
    for other in others:
        if not _is_built_as(other, nest):
            raise ValueError(f"state: it must keep its structure, got {describe(other)} for {describe(nest)}")
    groups = zip(parts, *[_parts_in_order_of(nest, other) for other in others], strict=True)
    return _rebuilt(nest, [map_leaves(function, *group) for group in groups])


def copied(nest: Any) -> Any:
    """The same leaves in new containers: who writes into them changes nothing here. Tuples of leaves are handed on."""
    parts = _parts(nest)
    if parts is None:
        return nest
    new = [copied(part) for part in parts]
    return nest if isinstance(nest, tuple) and all(map(operator.is_, nest, new)) else _rebuilt(nest, new)


def checked(who: str, new: Any, old: Any, *, first: bool, strict: bool, rows: int | None = None) -> Any:
    """A new state in containers of its own, its parts in the order of the old one; ValueError unless it is built alike.

    first: at the first step of a sequence what is there may be broadcast to what the step makes of it; from then on
    each leaf keeps its shape
    strict: if not, a leaf may also grow (as a memory does that gets a row at each step), and the containers be others
    rows: the number of sequences, where each has a length of its own; what changes must then be one for each
    """
    if not _is_alike(new, old):
        if strict:
            was, now = describe(old), describe(new)
            raise ValueError(f"{who}: its state must keep its structure, it was {was}, the new one is {now}")
        return copied(new)
    state = map_leaves(lambda _, leaf: leaf, old, new)
    for i, (now, was) in enumerate(zip(leaves(state), leaves(old), strict=True)):
        a, b = shape(was), shape(now)
        if a != b and not (first and _broadcasts(a, b)) and (strict or not _grows(a, b)):
            raise ValueError(f"{who}: its state must keep its shapes, {paths(old)[i]} was {a}, the new one is {b}")
        if rows is not None and now is not was and b[:1] != (rows,) and (hasattr(now, "shape") or now != was):
            raise ValueError(
                f"{who}: with lengths its state must have a row for each of the {rows} sequences, {paths(old)[i]} is "
                f"{b if hasattr(now, 'shape') else repr(now)} and changes; make it a tensor (B, …)"
            )
    return state


def shape(leaf: Any) -> tuple[int, ...]:
    """That of a leaf; a number has no axes."""
    return tuple(getattr(leaf, "shape", ()))


def describe(nest: Any) -> str:
    """Its structure and shapes in one line: ((2, 3), {'c': (2, 3)})."""
    if isinstance(nest, dict):
        return "{" + ", ".join(f"{key!r}: {describe(part)}" for key, part in nest.items()) + "}"
    if isinstance(nest, (tuple, list)):
        inner = ", ".join(describe(part) for part in nest)
        name = type(nest).__name__ if hasattr(nest, "_fields") else ""
        return f"{name}[{inner}]" if isinstance(nest, list) else f"{name}({inner})"
    if _is_record(nest):
        return f"{type(nest).__name__}({', '.join(f'{key}={describe(getattr(nest, key))}' for key in _fields(nest))})"
    return str(shape(nest)) if hasattr(nest, "shape") else type(nest).__name__


def paths(nest: Any, path: str = "state") -> list[str]:
    """What to call the leaves: state.h, state[0], state.cell[1].c, in order."""
    parts = _parts(nest)
    if parts is None:
        return [] if nest is None else [path]
    return [found for name, part in zip(_names(nest), parts, strict=True) for found in paths(part, path + name)]


def _names(nest: Any) -> list[str]:
    """How the parts of a container are reached."""
    if isinstance(nest, (tuple, list)) and not hasattr(nest, "_fields"):
        return [f"[{i}]" for i in range(len(nest))]
    keys = nest if isinstance(nest, dict) else _fields(nest) if _is_record(nest) else nest._fields
    return [f".{key}" for key in keys]


def structure(nest: Any, of_leaf: Callable[[Any], Any]) -> Any:
    """How a nest is built, with what of_leaf says of each leaf: equal for nests built alike."""
    parts = _parts(nest)
    if parts is None:
        return None if nest is None else of_leaf(nest)
    keys = tuple(nest) if isinstance(nest, dict) else None
    return (type(nest), keys, *[structure(part, of_leaf) for part in parts])


# ---- containers ------------------------------------------------------------------------------------------------------


def _parts(nest: Any) -> Iterable[Any] | None:
    """The parts of a container, in order; None for a leaf."""
    if isinstance(nest, (tuple, list)):
        return nest
    if isinstance(nest, dict):
        return nest.values()
    if not hasattr(type(nest), "__dataclass_fields__"):  # as `_is_record`: asked of each leaf at each call
        return None
    return [getattr(nest, name) for name in _fields(nest)]


def _is_record(nest: Any) -> bool:
    """Is it a dataclass?"""
    return hasattr(type(nest), "__dataclass_fields__")


def _fields(nest: Any) -> list[str]:
    return [field.name for field in dataclasses.fields(nest)]


def _is_built_as(other: Any, nest: Any) -> bool:
    """Is it the same container, whatever the parts hold?"""
    if type(other) is not type(nest):
        return False
    return other.keys() == nest.keys() if isinstance(nest, dict) else _is_record(nest) or len(other) == len(nest)


def _parts_in_order_of(nest: Any, other: Any) -> Iterable[Any]:
    return [other[key] for key in nest] if isinstance(nest, dict) else _parts(other) or ()


def _is_alike(new: Any, old: Any) -> bool:
    """Is it built of the same containers, down to the leaves?"""
    parts = _parts(old)
    if parts is None:
        return _parts(new) is None and (new is None) == (old is None)
    return _is_built_as(new, old) and all(map(_is_alike, _parts_in_order_of(old, new), parts))


def _rebuilt(nest: Any, parts: Sequence[Any]) -> Any:
    """A container like this one with other parts."""
    if isinstance(nest, (tuple, list)):
        make: Any = type(nest)
        return make._make(parts) if hasattr(nest, "_fields") else make(parts)
    if type(nest) is dict:
        return dict(zip(nest, parts, strict=True))
    return _refilled(nest, parts) if isinstance(nest, dict) else _record(nest, parts)


def _refilled(nest: dict, parts: Sequence[Any]) -> dict:
    """A dict of a class of its own, which may have arguments and attributes of its own."""
    made = copy.copy(nest)
    if getattr(nest, "__dict__", None) is nest:  # its keys are its attributes
        made.__dict__ = made
    for key, part in zip(nest, parts, strict=True):
        made[key] = part
    return made


def _record(nest: Any, parts: Sequence[Any]) -> Any:
    """A dataclass, without a call of its __init__: a part may be what that would not take, as the number of a leaf."""
    made = object.__new__(type(nest))
    for name, part in zip(_fields(nest), parts, strict=True):
        object.__setattr__(made, name, part)
    return made


# ---- shapes ----------------------------------------------------------------------------------------------------------


def _broadcasts(was: tuple[int, ...], now: tuple[int, ...]) -> bool:
    """Can what was there be repeated to be of the new shape?"""
    return len(was) <= len(now) and all(a in (1, b) for a, b in zip(was[::-1], now[::-1], strict=False))


def _grows(was: tuple[int, ...], now: tuple[int, ...]) -> bool:
    """Is there more of it for each sequence?"""
    return len(was) == len(now) and was[:1] == now[:1] and all(a <= b for a, b in zip(was, now, strict=True))
