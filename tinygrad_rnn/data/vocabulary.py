"""Text to numbers and back."""

from __future__ import annotations

import functools

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from tinygrad_rnn.data.words import MARKED, is_blank, parts_of, usual_gap, words_of

UNKNOWN, START, END = "<unk>", "<s>", "</s>"


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
        max_size: int | None = None,
        special: Sequence[str] = (),
    ) -> Vocabulary:
        """The vocabulary of a text, or of several: characters by code, words by how often they come.

        min_count: tokens that come less often count as "<unk>"; 1 for characters, 2 for words if not given
        max_size: of all tokens together; those that come least often count as "<unk>" too
        special: tokens put first, such as START and END
        """
        min_count = (2 if words else 1) if min_count is None else min_count
        counts: Counter[str] = Counter()
        for part in [text] if isinstance(text, str) else text:
            counts.update(words_of(part) if words else part)
        kept = [t for t, n in counts.items() if n >= min_count and t not in special]
        kept.sort(key=lambda token: (-counts[token], token))
        unknown = [UNKNOWN] if (words or min_count > 1 or max_size) and UNKNOWN not in special else []
        if max_size:
            kept = kept[: max(max_size - len(unknown) - len(special), 0)]
        return cls([*unknown, *special, *(kept if words else sorted(kept))], words)

    @property
    def unit(self) -> str:
        """What a token is called."""
        return "word" if self.words else "character"

    @property
    def newline(self) -> int:
        """The number of a line's end; 0 if none was learned."""
        return self.ids.get("\n", 0)

    def as_dict(self) -> dict[str, Any]:
        """As JSON can hold it: the arguments of the class."""
        return {"words": self.words, "tokens": self.tokens}

    def __len__(self) -> int:
        return len(self.tokens)

    def split(self, text: str) -> list[str]:
        """The tokens of a text, as many as `encode` gives numbers, without what they say of spaces."""
        return [parts_of(token)[1] for token in self._tokens(text)] if self.words else list(text)

    def shown(self, ids: Iterable[int]) -> list[str]:
        """The tokens with these numbers, without what they say of spaces: to be shown one by one."""
        tokens = [self.tokens[i] for i in ids]
        return [parts_of(token)[1] for token in tokens] if self.words else tokens

    def _tokens(self, text: str) -> list[str]:
        """The tokens of a text as they are numbered: a gap, or the spaces beside a sign, that was never learned counts
        for nothing."""
        if not self.words:
            return list(text)
        tokens = [token if token in self.ids else self._like(parts_of(token)[1]) for token in words_of(text)]
        return [token for token in tokens if token in self.ids or token == "\n" or not is_blank(token)]

    def _like(self, core: str) -> str:
        """The token that was learned of a word or a sign, or itself."""
        return self._by_core.get(core, core)

    @functools.cached_property
    def _by_core(self) -> dict[str, str]:
        """For each word or sign its token; for a sign that always stood with unusual spaces the most frequent one."""
        found = {parts_of(token)[1]: token for token in reversed(self.tokens)}
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
        """The text of tokens, from their numbers: what was given to `encode`, exactly, if nothing was unknown."""
        return self.joined([self.tokens[i] for i in ids])

    def joined(self, tokens: Sequence[str]) -> str:
        """The text of tokens; a word or a sign may be one that was never learned."""
        return "".join(self.spaced(t, before) for before, t in zip(["", *tokens], tokens, strict=False))

    def written(self, ids: Iterable[int], before: Iterable[int] = ()) -> Iterator[str]:
        """The text that each token adds to those before."""
        last = "".join(self.tokens[i] for i in [*before][-1:])
        for i in ids:
            yield self.spaced(self.tokens[i], last)
            last = self.tokens[i]

    def spaced(self, token: str, before: str) -> str:
        """A token as it stands after another one, or "" at the beginning."""
        if not self.words:
            return token
        (_, left, behind), (ahead, core, _) = parts_of(before), parts_of(token)
        mark = ahead or behind
        return (MARKED[mark] if mark and left else usual_gap(left, core)) + core
