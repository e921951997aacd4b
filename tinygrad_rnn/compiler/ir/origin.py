"""Where a value comes from: the place in a user's code whose operation, or whose derivative, it is."""

from __future__ import annotations

import itertools
import linecache

from types import CodeType
from typing import NamedTuple

LONGEST = 60  # letters of an expression that are told


class Origin(NamedTuple):
    """A line that ran.

    code  of the function
    line  its number in the file
    at    the instruction in the code, which knows the columns that it comes from
    """

    code: CodeType
    line: int
    at: int

    @property
    def function(self) -> str:
        """The function as its reader knows it: "MGU.forward"."""
        return self.code.co_qualname.rpartition("<locals>.")[2]

    @property
    def text(self) -> str:
        """The expression as it is written, "f * h": one line of it, "…" for more. Nothing, where the file is not there
        to be read."""
        first, last, start, end = next(itertools.islice(self.code.co_positions(), self.at // 2, None), (None,) * 4)
        line = linecache.getline(self.code.co_filename, first or self.line).rstrip()
        if first is not None and start is not None:  # columns are counted in bytes
            whole = line.encode()
            line = whole[start : end if first == last else len(whole)].decode(errors="replace")
            line += " …" if first != last else ""
        line = " ".join(line.split())
        return line if len(line) <= LONGEST else line[:LONGEST].rstrip() + " …"

    def __str__(self) -> str:
        place = f"{self.function}:{self.line}"
        return f"{self.text}, {place}" if self.text else place
