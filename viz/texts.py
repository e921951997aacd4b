"""Text of others in a drawing: tokens and names, as they are, but so that all of it can be seen and written."""

from __future__ import annotations

import re

from collections.abc import Iterable, Sequence
from typing import Any

LONGEST = 40  # characters of a token

_SIGNS = {code: chr(0x2400 + code) for code in range(32)} | {0x0A: "⏎", 0x09: "⇥", 0x7F: "␡"}
_UNPRINTABLE = re.compile("[^\t\n\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def visible(token: object) -> str:
    """A token with all of it visible; a long one is cut."""
    text = re.sub("^ +| +$|  +", lambda blanks: "␣" * len(blanks[0]), str(token).translate(_SIGNS))
    return printable(text if len(text) <= LONGEST else text[: LONGEST - 1] + "…")


def token_lists(tokens: Sequence[str] | Sequence[Sequence[str]]) -> list[list[str]]:
    """The visible tokens of each sequence."""
    several = not isinstance(tokens, str) and any(isinstance(part, (list, tuple)) for part in tokens)
    lists: Iterable[Any] = tokens if several else [tokens] if len(tokens) else []
    return [[visible(token) for token in part] for part in lists]


def printable(text: str) -> str:
    """Without what XML cannot hold: control characters, halves of surrogate pairs, non-characters."""
    return _UNPRINTABLE.sub("\ufffd", text)
