"""Catalogues of translated messages, as programs install them: /usr/share/locale/de/LC_MESSAGES/*.mo (GNU gettext)."""

from __future__ import annotations

import re
import struct

from collections.abc import Iterator
from pathlib import Path

MAGIC = 0x950412DE
FORMAT = r"%(\(\w+\))?[-+#0-9.$*]*(hh|h|ll|l|j|z|t|L)?[a-zA-Z%]|\{\w*\}|\\."  # of C, Python, Qt; escapes


def messages(path: str | Path) -> Iterator[tuple[str, str]]:
    """The English messages of a catalogue and their translations; of a plural the singular alone is no sentence, so it
    is left out, and so is what has no two letters besides its format. ValueError for a file that is no catalogue.

    The format: number of entries and where their two tables of (length, offset) begin, as 32-bit integers from byte 8
    on; "context\\4" before a message, "\\0" between the forms of a plural. GNU gettext's manual, "The Format of GNU MO
    Files".
    """
    raw = Path(path).read_bytes()
    order = next((o for o in "<>" if raw[:4] == struct.pack(f"{o}I", MAGIC)), None)
    if order is None:
        raise ValueError(f"gettext: {str(path)!r} must be a catalogue (.mo), it is none")
    count, *tables = struct.unpack_from(f"{order}3I", raw, 8)
    for i in range(count):
        spans = [struct.unpack_from(f"{order}2I", raw, table + 8 * i) for table in tables]
        english, other = (raw[start : start + n].decode("utf-8", "replace") for n, start in spans)
        english = english.rpartition("\4")[2]
        if "\0" not in english and all(re.search(r"[^\W\d_]{2}", re.sub(FORMAT, "", m)) for m in (english, other)):
            yield english, other


def pairs_by_program(folder: str | Path) -> dict[str, list[tuple[str, str]]]:
    """For each program with a catalogue in a folder its pairs, English and translated, each in one line; what an
    earlier one had already is left out, so that programs can be held out. ValueError if there is no catalogue."""
    seen: set[tuple[str, str]] = set()
    found: dict[str, list[tuple[str, str]]] = {}
    for path in sorted(Path(folder).glob("*.mo")):
        pairs = [(" ".join(a.split()), " ".join(b.split())) for a, b in messages(path)]
        found[path.stem] = [pair for pair in dict.fromkeys(pairs) if pair not in seen]
        seen.update(pairs)
    if not found:
        raise ValueError(f"gettext: {str(folder)!r} must hold catalogues (.mo), it has none")
    return found
