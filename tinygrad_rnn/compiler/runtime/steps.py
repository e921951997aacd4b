"""How many steps a program runs, and what depends on that."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

KEPT = 1 << 12  # numbers of steps, in sum, for which what was made is kept


class Steps:
    """The number of steps that a program runs, and what is made for it: kept for a while, since lengths come again."""

    def __init__(self, T: int):
        self.T = T
        self.makers: list[Callable[[], Any]] = []
        self.users: list[Callable[[Any], None]] = []  # who is given what was made
        self.values: list[Any] = []  # for the steps that are run now
        self.known: dict[int, list[Any]] = {}  # for other numbers of steps

    def depends(self, make: Callable[[], Any], use: Callable[[Any], None]) -> None:
        """use(make()), now and whenever the number of steps is another one."""
        self.makers.append(make)
        self.users.append(use)
        self.values.append(make())
        use(self.values[-1])

    def aim(self, T: int) -> None:
        """Run so many steps from now on."""
        self.known[self.T] = self.values
        while sum(self.known) > KEPT:
            self.known.pop(next(iter(self.known)))
        self.T = T
        known = self.known.pop(T, None)
        self.values = [make() for make in tuple(self.makers)] if known is None else known
        for use, value in zip(self.users, self.values, strict=True):
            use(value)
