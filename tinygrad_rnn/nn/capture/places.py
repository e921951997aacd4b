"""Places: what can be changed while a step is recorded, each with what it held."""

from __future__ import annotations

from collections.abc import Iterator
from operator import is_
from types import CellType
from typing import Any

import numpy as np

MISSING = object()
PLAIN = {int, float, bool, str, bytes, complex, type(None), slice, range, type(...), type(NotImplemented)}


def plain(x: Any) -> tuple:
    """What tells a plain value from every other one: 0.0 from -0.0, 1 from True."""
    return type(x), repr(x) if isinstance(x, (float, complex, slice, range)) else x


def plain_or_self(x: Any) -> Any:
    """What tells an object from those that are equal to it."""
    return plain(x) if type(x) in PLAIN else x


def _alike(a: Any, b: Any) -> bool:
    return a is b or (type(a) is type(b) and type(a) in PLAIN and plain(a) == plain(b))


class Place:
    """Something that can be changed, and what it held."""

    __slots__ = ("place", "was")
    what = "an item of a list"

    def __init__(self, place: Any):
        self.place = place
        self.was = self.now()

    def now(self) -> Any:
        """What it holds now, in a container of its own."""
        return list(self.place)

    def put(self, held: Any) -> None:
        """Make the place hold that, in place: others refer to it."""
        self.place[:] = held

    def same(self) -> bool:
        """Does it hold the same objects?"""
        return len(self.place) == len(self.was) and all(map(is_, self.place, self.was))

    def changed(self) -> Iterator[str]:
        """What it holds another value of, in words."""
        if len(self.place) != len(self.was) or not all(map(_alike, self.place, self.was)):
            yield self.what

    def put_back(self) -> list[str]:
        """Make it hold what it held; what had been changed."""
        changed = list(self.changed())
        if changed:
            self.put(self.was)
        return changed


class Queue(Place):
    """A deque that can be changed."""

    __slots__ = ()
    what = "an item of a deque"

    def put(self, held: Any) -> None:
        self.place.clear()
        self.place.extend(held)


class Bag(Place):
    """A set that can be changed."""

    __slots__ = ()
    what = "an element of a set"

    def now(self) -> Any:
        return set(self.place)

    def put(self, held: Any) -> None:
        self.place.clear()
        self.place.update(held)

    def same(self) -> bool:
        return set(map(id, self.place)) == set(map(id, self.was))  # 1 is equal to True, and another one

    def changed(self) -> Iterator[str]:
        if set(map(plain_or_self, self.place)) != set(map(plain_or_self, self.was)):
            yield self.what


class Table(Place):
    """A dict, such as that of an object's attributes."""

    __slots__ = ()

    def now(self) -> Any:
        return dict(self.place)

    def put(self, held: Any) -> None:
        place = self.place
        for name in place.keys() - held.keys():
            dict.__delitem__(place, name)
        for name, value in held.items():
            if place.get(name, MISSING) is not value:
                dict.__setitem__(place, name, value)
        if list(place) != list(held):
            dict.clear(place)
            dict.update(place, held)

    def same(self) -> bool:
        place, was = self.place, self.was
        if len(place) != len(was) or not all(map(is_, place.values(), was.values())):
            return False
        return all(map(is_, place, was))

    def changed(self) -> Iterator[str]:
        for name in {**self.was, **self.place}:
            if not _alike(self.place.get(name, MISSING), self.was.get(name, MISSING)):
                yield repr(name) if type(name) in PLAIN else "an item of a dict"


class Content(Place):
    """Numbers in memory: an array, or a bytearray."""

    __slots__ = ()
    what = "an element of an array"

    def now(self) -> Any:
        return bytes(self.place) if isinstance(self.place, bytearray) else self.place.tobytes()

    def put(self, held: Any) -> None:
        if isinstance(self.place, np.ndarray):
            self.place[...] = np.frombuffer(held, self.place.dtype).reshape(self.place.shape)
        else:
            self.place[:] = type(self.place)(held) if isinstance(self.place, bytearray) else self._array(held)

    def _array(self, held: Any) -> Any:
        return type(self.place)(self.place.typecode, held)

    def same(self) -> bool:
        return self.now() == self.was

    def changed(self) -> Iterator[str]:
        if not self.same():
            yield self.what


class Attributes(Place):
    """The attributes that an object holds in slots."""

    __slots__ = ("names",)

    def __init__(self, place: Any, names: tuple[str, ...]):
        self.names = names
        super().__init__(place)

    def now(self) -> Any:
        return [getattr(self.place, name, MISSING) for name in self.names]

    def put(self, held: Any) -> None:
        for name, value in zip(self.names, held, strict=True):
            if value is not MISSING:
                setattr(self.place, name, value)
            elif hasattr(self.place, name):
                delattr(self.place, name)

    def same(self) -> bool:
        return all(map(is_, self.now(), self.was))

    def changed(self) -> Iterator[str]:
        for name, a, b in zip(self.names, self.now(), self.was, strict=True):
            if not _alike(a, b):
                yield repr(name)


def content_of(cell: CellType) -> Any:
    """What a variable of an outer function holds; MISSING before it has been set."""
    try:
        return cell.cell_contents
    except ValueError:
        return MISSING


class Variable(Place):
    """A variable of an outer function. name: what the function calls it"""

    __slots__ = ("name",)

    def __init__(self, place: CellType, name: str):
        self.name = name
        super().__init__(place)

    def now(self) -> Any:
        return content_of(self.place)

    def put(self, held: Any) -> None:
        if held is MISSING:
            del self.place.cell_contents
        else:
            self.place.cell_contents = held

    def same(self) -> bool:
        return content_of(self.place) is self.was

    def changed(self) -> Iterator[str]:
        if not _alike(content_of(self.place), self.was):
            yield repr(self.name)


class Space(Place):
    """What code names in a dict of names: a module's, a class's, or an object's.

    names     those that count besides the attributes that are named anywhere, if `everywhere`
    fixed     it belongs to a library, and what is in it does not change
    keys      the names that are in it; absent: those that count and are not
    size      of the dict, by which new ones are noticed where all count
    """

    __slots__ = ("absent", "all", "everywhere", "fixed", "held", "keys", "names", "number", "owner", "size", "wanted")

    def __init__(self, owner: Any, table: Any, number: int, fixed: bool):
        self.owner, self.place, self.number, self.fixed, self.everywhere = owner, table, number, fixed, False
        self.names: set[str] = set()
        self.wanted: set[str] = set()
        self.keys: list[str] = []
        self.held: list[Any] = []
        self.absent: set[str] = set()
        self.all, self.size = False, len(table)

    def found(self, named: set[str], anything: bool) -> list[tuple[str, Any]]:
        """What it holds under names that were not looked for before."""
        wanted = self.names | named if self.everywhere else set(self.names)
        self.all = anything and self.everywhere and not self.fixed
        if self.all:
            wanted |= {name for name in self.place if not name.startswith("__")}
        self.wanted = wanted
        new = [(name, self.place[name]) for name in sorted((wanted & self.place.keys()).difference(self.keys))]
        self.keys += [name for name, _ in new]
        self.held += [value for _, value in new]
        return new

    def close(self) -> None:
        """Note what the names refer to, once all of them are known."""
        self.absent = self.wanted - self.place.keys()
        self.was = self.now()

    def now(self) -> Any:
        return {name: self.place[name] for name in self.wanted & self.place.keys()}

    def put(self, held: Any) -> None:
        for name in self.wanted:
            value = held.get(name, MISSING)
            if self.place.get(name, MISSING) is not value:
                self._set(name, value)

    def _set(self, name: str, value: Any) -> None:
        if isinstance(self.owner, type):
            delattr(self.owner, name) if value is MISSING else setattr(self.owner, name, value)
        elif value is MISSING:
            del self.place[name]
        else:
            self.place[name] = value

    def same(self) -> bool:
        if self.all and len(self.place) != self.size:
            return False
        return self.place.keys().isdisjoint(self.absent) and all(map(is_, map(self.place.get, self.keys), self.held))

    def changed(self) -> Iterator[str]:
        now = self.now()
        for name in {**self.was, **now}:
            if not _alike(now.get(name, MISSING), self.was.get(name, MISSING)):
                yield repr(name)
