"""Text to numbers: reading, vocabularies, and the stream that truncated backpropagation through time reads."""

from __future__ import annotations

import re

from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

UNKNOWN = "<unk>"


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


def python_reference() -> str:
    """Python's own language reference: English prose that every CPython carries, about 465,000 characters."""
    from pydoc_data import topics  # noqa: PLC0415 (700 kB, for this alone)

    return "\n\n".join(text.strip("\n") for _, text in sorted(topics.topics.items()))


class Vocabulary:
    """Tokens and their numbers. Characters, or words; words that occur once count as "<unk>"."""

    def __init__(self, tokens: Iterable[str], words: bool):
        self.tokens, self.words = list(tokens), words
        self.ids = {token: i for i, token in enumerate(self.tokens)}
        if len(self.ids) != len(self.tokens):
            raise ValueError("vocabulary: no token may come twice")

    @classmethod
    def of(cls, text: str, words: bool = False) -> Vocabulary:
        """The vocabulary of a text: characters by code, words by how often they come."""
        if not words:
            return cls(sorted(set(text)), words)
        counts = Counter(_split_words(text))
        kept = sorted((w for w, n in counts.items() if n > 1), key=lambda w: (-counts[w], w))
        return cls([UNKNOWN, *kept], words)

    def __len__(self) -> int:
        return len(self.tokens)

    def encode(self, text: str, who: str = "text") -> np.ndarray:
        """The numbers of a text's tokens; ValueError that names the characters that the vocabulary lacks."""
        if self.words:
            return np.array([self.ids.get(word, 0) for word in _split_words(text)], np.int64)
        unknown = sorted(set(text) - self.ids.keys())
        if unknown:
            listed = " ".join(map(repr, unknown[:8])) + (" …" if len(unknown) > 8 else "")
            raise ValueError(f"{who}: every character must occur in the text that was learned, got {listed}")
        return np.array([self.ids[c] for c in text], np.int64)

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


def hold_out(ids: np.ndarray, share: float, at_least: int) -> tuple[np.ndarray, np.ndarray]:
    """The ids to learn from, and the held-out tail."""
    n = max(round(len(ids) * share), at_least)
    if len(ids) < n + at_least:
        raise ValueError(
            f"text: it must have at least {2 * at_least} tokens to learn from and to validate on, got {len(ids)}"
        )
    return ids[:-n], ids[-n:]


class Stream:
    """A text as B parallel strands, read `steps` tokens at a time: what state is carried over stays in its row.

    ids: (N,) integers
    len(stream) windows; window(i) is (inputs, targets), both (T, B), T = steps but for the last; targets are the inputs
    shifted by one. Up to B - 1 tokens at the end are left out.
    """

    def __init__(self, ids: np.ndarray, batch_size: int, steps: int):
        self.strand = (len(ids) - 1) // batch_size
        if self.strand < 1:
            raise ValueError(f"stream: {batch_size} strands need at least {batch_size + 1} tokens, got {len(ids)}")
        starts = np.arange(batch_size) * self.strand
        self.columns = ids[starts + np.arange(self.strand + 1)[:, None]]  # (strand + 1, B)
        self.steps = steps

    def __len__(self) -> int:
        return -(-self.strand // self.steps)

    def window(self, i: int) -> tuple[np.ndarray, np.ndarray]:
        """Window i: inputs (T, B), targets (T, B)."""
        first, last = i * self.steps, min((i + 1) * self.steps, self.strand)
        return self.columns[first:last], self.columns[first + 1 : last + 1]

    def __iter__(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        return (self.window(i) for i in range(len(self)))

    @property
    def tokens(self) -> int:
        """The number of targets in all windows."""
        return self.strand * self.columns.shape[1]
