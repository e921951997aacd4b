"""Text to numbers: reading files, and vocabularies."""

from __future__ import annotations

import functools
import re
import sys
import unicodedata

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
    text = _decoded(path)
    if not text.strip():
        raise ValueError(f"text: {str(path)!r} is empty")
    return text


def read_lines(path: str | Path) -> list[str]:
    """The lines of a UTF-8 file, or of standard input for "-". They end at "\\n" or "\\r\\n", and at nothing else."""
    text = _decoded(path)
    if not text:
        raise ValueError(f"text: {str(path)!r} is empty")
    return text.removesuffix("\n").split("\n")


def _decoded(path: str | Path) -> str:
    """The text in a UTF-8 file, each line's end as "\\n"."""
    if str(path) == "-" and sys.stdin is None:
        raise ValueError("text: standard input is closed")
    try:
        raw = sys.stdin.buffer.read() if str(path) == "-" else Path(path).read_bytes()
    except FileNotFoundError:
        raise ValueError(f"text: there is no file {str(path)!r}") from None
    except OSError as error:
        raise ValueError(f"text: {str(path)!r} cannot be read: {error.strerror}") from None
    try:
        return raw.decode("utf-8-sig").replace("\r\n", "\n")
    except UnicodeDecodeError as error:
        raise ValueError(
            f"text: {str(path)!r} must be UTF-8, got byte 0x{raw[error.start]:02x} at position {error.start}"
        ) from None


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
    """Tokens and their numbers: characters, or words. Among them may be "<unk>", which stands for all others.

    A text comes back exactly from its numbers, if it has no unknown tokens: decode(encode(text)) == text.

    A word is what Unicode calls one: letters, digits, and the marks on them, in any script, "don't" whole. Scripts
    without spaces are not cut any further. A sign of punctuation is a token, and so is an emoji with all that belongs
    to it. How spaces stand is not told where it is as usual; else the sign of punctuation beside says it: "‿-‿" is a
    hyphen without spaces, "␣!" an exclamation mark after one. Other gaps (two spaces, a tab, a line's end) are tokens.
    """

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
            counts.update(_words(part) if words else part)
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
        """The tokens of a text, as many as `encode` gives numbers, without what they say of spaces."""
        return [_parts(token)[1] for token in self._tokens(text)] if self.words else list(text)

    def shown(self, ids: Iterable[int]) -> list[str]:
        """The tokens of numbers, without what they say of spaces."""
        tokens = [self.tokens[i] for i in ids]
        return [_parts(token)[1] for token in tokens] if self.words else tokens

    def _tokens(self, text: str) -> list[str]:
        """The tokens of a text as they are numbered: a gap, or the spaces beside a sign, that was never learned counts
        for nothing."""
        if not self.words:
            return list(text)
        tokens = [token if token in self.ids else self._like(_parts(token)[1]) for token in _words(text)]
        return [token for token in tokens if token in self.ids or token == "\n" or not _is_blank(token)]

    def _like(self, core: str) -> str:
        """The token that was learned of a word or a sign, or itself."""
        return self._by_core.get(core, core)

    @functools.cached_property
    def _by_core(self) -> dict[str, str]:
        """For each word or sign its token; for a sign that always stood with unusual spaces the most frequent one."""
        found = {_parts(token)[1]: token for token in reversed(self.tokens)}
        return {**found, **{token: token for token in self.tokens}}

    def encode(self, text: str, who: str = "text") -> np.ndarray:
        """The numbers of a text's tokens; ValueError that names those that are missing, if there is no "<unk>"."""
        tokens = self._tokens(text)
        if UNKNOWN in self.ids:
            unknown = self.ids[UNKNOWN]
            return np.array([self.ids.get(token, unknown) for token in tokens], np.int64)
        missing = sorted(set(tokens) - self.ids.keys())
        if missing:
            listed = " ".join(map(repr, missing[:8])) + (" …" if len(missing) > 8 else "")
            raise ValueError(f"{who}: every character must occur in the text that was learned, got {listed}")
        return np.array([self.ids[token] for token in tokens], np.int64)

    def decode(self, ids: Iterable[int]) -> str:
        """The text of numbers."""
        tokens = [self.tokens[i] for i in ids]
        return "".join(self.spaced(t, before) for before, t in zip(["", *tokens], tokens, strict=False))

    def spaced(self, token: str, before: str) -> str:
        """A token as it stands after another one, or "" at the beginning."""
        if not self.words:
            return token
        (_, left, behind), (ahead, core, _) = _parts(before), _parts(token)
        mark = ahead or behind
        return (MARKED[mark] if mark and left else _usual_gap(left, core)) + core


# ---- words and the gaps between them --------------------------------------------------------------------------------

JOINED, APART = "‿", "␣"  # beside a sign of punctuation in a token: no space; a space
MARKED = {JOINED: "", APART: " "}
MARK = {gap: mark for mark, gap in MARKED.items()}
CLOSING = frozenset(".,;:!?…،؛؟۔।॥、。，！？：；")  # noqa: RUF001 (like closing brackets: usually no space before)


def _kind(character: str) -> str:
    """A letter for what a character is to `TOKEN`."""
    category = unicodedata.category(character)
    if character in KINDS_BY_NAME:
        return KINDS_BY_NAME[character]
    if character.isspace():
        return " "
    if category[0] in "LN":
        return "w"
    return "m" if category[0] == "M" or category == "Cf" else "s"


KINDS_BY_NAME = {
    **dict.fromkeys("0123456789", "d"),
    **dict.fromkeys("'’׳״·՛՜՞", "a"),  # noqa: RUF001 (part of a word if letters stand on both sides)
    **dict.fromkeys(JOINED + APART, "u"),  # as letters, so that no token of a text looks like a marked one
    **dict.fromkeys(map(chr, range(0x1F1E6, 0x1F200)), "r"),  # regional indicators: two are a flag
    **dict.fromkeys(map(chr, range(0x1F3FB, 0x1F400)), "t"),  # tones of skin
    "_": "w", "\n": "n", "\u200b": " ", "\u200d": "j", "\u20e3": "k",  # the last: zero width space, joiner, a keycap
}  # fmt: skip


class _Kinds(dict):
    """As a table of `str.translate`: the kind of each character, found when it is first met."""

    def __missing__(self, code: int) -> str:
        kind = self[code] = _kind(chr(code))
        return kind


KINDS = _Kinds()
KEYCAP = "dm?k"
LETTERS = f"(?:(?!{KEYCAP})[wdmjku])+"
SIGN = f"(?:{KEYCAP}|rr|[srta])[mktj]*(?:(?<=j)s[mktj]*)*"  # punctuation or an emoji: joined, with tones, tags, marks
TOKEN = re.compile(f"{LETTERS}(?:(?<!u)a(?!u){LETTERS})*|(?P<sign>{SIGN})|n")
MARKED_SIGN = re.compile(f"([{JOINED}{APART}]?)(.+?)([{JOINED}{APART}]?)", re.DOTALL)


def _words(text: str) -> list[str]:
    """The tokens of a text, with what they say of spaces; joined as `Vocabulary.spaced` does they give it back."""
    tokens: list[str] = []
    before, sign_before, end = "", False, 0
    for found in TOKEN.finditer(text.translate(KINDS)):
        token, gap, sign = text[slice(*found.span())], text[end : found.start()], found["sign"] is not None
        core, end = token, found.end()
        if gap != _usual_gap(before, core):
            if gap in MARK and sign and before:
                token = MARK[gap] + core
            elif gap in MARK and sign_before:
                tokens[-1] += MARK[gap]
            else:
                tokens.append(gap)
        tokens.append(token)
        before, sign_before = core, sign
    return [*tokens, text[end:]] if end < len(text) else tokens


def _usual_gap(before: str, token: str) -> str:
    """What stands between two tokens unless they say otherwise; "" is the beginning of the text."""
    blank = _is_blank(before) or _is_blank(token)
    return "" if blank or _is_opening(before[-1:]) or _is_closing(token[:1]) else " "


def _is_blank(token: str) -> bool:
    return not token.translate(KINDS).strip(" n")


def _is_opening(sign: str) -> bool:
    return unicodedata.category(sign) in ("Ps", "Pi")


def _is_closing(sign: str) -> bool:
    return sign in CLOSING or unicodedata.category(sign) in ("Pe", "Pf")


@functools.lru_cache(maxsize=1 << 16)
def _parts(token: str) -> tuple[str, str, str]:
    """The mark before a sign, the sign, the mark behind it; of all other tokens the middle alone."""
    found = MARKED_SIGN.fullmatch(token)
    if found and len(token) > 1 and re.fullmatch(SIGN, found[2].translate(KINDS)):
        return found[1], found[2], found[3]
    return "", token, ""
