"""Arrays by dotted names, as `state_dict` gives them: a part's dictionary as a piece of the whole's, and back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

T = TypeVar("T")


def prefixed(prefix: str, arrays: Mapping[str, T]) -> dict[str, T]:
    """The arrays of a part, by their names in the whole.

    >>> prefixed("cell", {"W": 1, "b": 2})
    {'cell.W': 1, 'cell.b': 2}
    """
    return {f"{prefix}.{name}": array for name, array in arrays.items()}


def without_prefix(prefix: str, arrays: Mapping[str, T]) -> dict[str, T]:
    """The arrays of a part, by its own names; those of other parts are left out.

    >>> without_prefix("cell", {"cell.W": 1, "cells.W": 2})
    {'W': 1}
    """
    return {name.removeprefix(f"{prefix}."): a for name, a in arrays.items() if name.startswith(f"{prefix}.")}
