"""Text to numbers: reading files, and vocabularies."""

from __future__ import annotations

import re

from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

UNKNOWN, START, END = "<unk>", "<s>", "</s>"


def read_text(path: str | Path) -> str:
    """The text in a UTF-8 file; ValueError that says what is wrong with it."""
    if Path(path).exists() and not Path(path).is_file():
        raise ValueError(f"text: {str(path)!r} must be a file: a run reads it again when it is resumed")
    try:
        raw = Path(path).read_bytes()
    except FileNotFoundError:
        raise ValueError(f"text: there is no file {str(path)!r}") from None
    except OSError as error:
        raise ValueError(f"text: {str(path)!r} cannot be read: {error.strerror}") from None
    try:
        text = raw.decode("utf-8-sig").replace("\r\n", "\n").replace("\r", "\n")
    except UnicodeDecodeError as error:
        raise ValueError(
            f"text: {str(path)!r} must be UTF-8, got byte 0x{raw[error.start]:02x} at position {error.start}"
        ) from None
    if not text.strip():
        raise ValueError(f"text: {str(path)!r} is empty")
    return text


def read_pairs(path: str | Path) -> list[tuple[str, str]]:
    """The pairs in a UTF-8 file, a line each: source TAB target; ValueError that names the first line that is none."""
    pairs = []
    for number, line in enumerate(read_text(path).split("\n"), 1):
        if line.strip():
            source, *target = (part.strip() for part in line.split("\t"))
            if len(target) != 1 or not source:
                raise ValueError(f"pairs: line {number} of {str(path)!r} must be source TAB target, got {line[:60]!r}")
            pairs.append((source, target[0]))
    return pairs


def python_reference() -> str:
    """Python's own language reference: English prose that every CPython carries, about 465,000 characters."""
    from pydoc_data import topics  # noqa: PLC0415 (700 kB, for this alone)

    return "\n\n".join(text.strip("\n") for _, text in sorted(topics.topics.items()))


class Vocabulary:
    """Tokens and their numbers: characters, or words. Among them may be "<unk>", which stands for all others."""

    def __init__(self, tokens: Iterable[str], words: bool):
        self.tokens, self.words = list(tokens), words
        self.ids = {token: i for i, token in enumerate(self.tokens)}
        if len(self.ids) != len(self.tokens):
            raise ValueError("vocabulary: no token may come twice")

    @classmethod
    def of(
        cls,
        text: str | Iterable[str],
        words: bool = False,
        *,
        min_count: int | None = None,
        special: Sequence[str] = (),
    ) -> Vocabulary:
        """The vocabulary of a text, or of several: characters by code, words by how often they come.

        min_count: tokens that come less often count as "<unk>"; 1 for characters, 2 for words if not given
        special: tokens put first, such as START and END
        """
        min_count = (2 if words else 1) if min_count is None else min_count
        counts: Counter[str] = Counter()
        for part in [text] if isinstance(text, str) else text:
            counts.update(_split_words(part) if words else part)
        by = (lambda token: (-counts[token], token)) if words else None
        kept = sorted((t for t, n in counts.items() if n >= min_count and t not in special), key=by)
        unknown = [UNKNOWN] if (words or min_count > 1) and UNKNOWN not in special else []
        return cls([*unknown, *special, *kept], words)

    def as_dict(self) -> dict[str, Any]:
        """As JSON can hold it: the arguments of the class."""
        return {"words": self.words, "tokens": self.tokens}

    def __len__(self) -> int:
        return len(self.tokens)

    def split(self, text: str) -> list[str]:
        """The tokens of a text."""
        return _split_words(text) if self.words else list(text)

    def encode(self, text: str, who: str = "text") -> np.ndarray:
        """The numbers of a text's tokens; ValueError that names those that are missing, if there is no "<unk>"."""
        tokens = self.split(text)
        if UNKNOWN in self.ids:
            unknown = self.ids[UNKNOWN]
            return np.array([self.ids.get(token, unknown) for token in tokens], np.int64)
        missing = sorted(set(tokens) - self.ids.keys())
        if missing:
            listed = " ".join(map(repr, missing[:8])) + (" …" if len(missing) > 8 else "")
            raise ValueError(f"{who}: every character must occur in the text that was learned, got {listed}")
        return np.array([self.ids[token] for token in tokens], np.int64)

    def decode(self, ids: Iterable[int]) -> str:
        """The text of numbers; words stand with a space before all but punctuation."""
        tokens = [self.tokens[i] for i in ids]
        if not self.words:
            return "".join(tokens)
        return "".join(self.spaced(t, before) for before, t in zip(["\n", *tokens], tokens, strict=False))

    def spaced(self, token: str, before: str) -> str:
        """A token as it stands after another one."""
        tight = not self.words or token == "\n" or before in ("\n", "") or re.fullmatch(r"[.,;:!?)\]}]", token)
        return token if tight or before in ("(", "[", "{") else f" {token}"


def _split_words(text: str) -> list[str]:
    return re.findall(r"\w+(?:['’]\w+)*|[^\w\s]|\n", text)
