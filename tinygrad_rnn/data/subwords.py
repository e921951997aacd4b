"""Subwords as tokens: a tokenizer of the library `tokenizers`, read from its JSON or trained here."""

from __future__ import annotations

import itertools
import json

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tinygrad_rnn.data.text import read_text
from tinygrad_rnn.data.vocabulary import END, START, Vocabulary

LEAST = 300  # tokens: there is one for each of 256 bytes
CONTEXT = 8  # tokens before a new one that say what text it adds
INCOMPLETE = "\ufffd"  # what the bytes of half a character are decoded to


class Subwords:
    """The tokens of a tokenizer and their numbers: what `Vocabulary` is to characters and words.

    saved: the tokenizer's JSON, as a dict
    special: tokens that it must have, such as START and END; those that it lacks are put behind its own
    RuntimeError if the library is not installed, ValueError for what is no tokenizer.
    """

    words, unit = False, "subword"

    def __init__(self, saved: dict[str, Any], special: Sequence[str] = ()):
        try:
            self._tokenizer = _library().Tokenizer.from_str(json.dumps(saved))
        except Exception as error:  # the library raises nothing more exact
            if isinstance(error, RuntimeError):
                raise
            raise ValueError(f"tokenizer: it must be the JSON of the library tokenizers ({error})") from None
        self._tokenizer.add_special_tokens([t for t in special if self._tokenizer.token_to_id(t) is None])
        self._tokenizer.encode_special_tokens = True  # a text that has "</s>" in it does not end there
        self.ids: dict[str, int] = self._tokenizer.get_vocab()
        self.tokens = [self._tokenizer.id_to_token(i) or "" for i in range(max(self.ids.values()) + 1)]
        self._ranks: dict[tuple[str, str], int] = {}

    @classmethod
    def read(cls, path: str | Path, special: Sequence[str] = ()) -> Subwords:
        """The tokenizer in a JSON file; ValueError that says what is wrong with it."""
        try:
            return cls(json.loads(read_text(path)), special)
        except ValueError as error:
            raise ValueError(f"{error}; got {str(path)!r}") from None

    @classmethod
    def of(cls, texts: Iterable[str], size: int, special: Sequence[str] = ()) -> Subwords:
        """Byte pair encoding learned from texts: of `size` tokens, those in `special` first, then all bytes, so that no
        text has anything unknown. Sennrich et al. (2016), arXiv:1508.07909; on bytes: Radford et al. (2019)."""
        t = _library()
        made, bytes_ = t.Tokenizer(t.models.BPE()), t.pre_tokenizers.ByteLevel
        made.pre_tokenizer, made.decoder = bytes_(add_prefix_space=False), t.decoders.ByteLevel()
        trainer = t.trainers.BpeTrainer(
            vocab_size=size,
            special_tokens=list(special),
            initial_alphabet=sorted(bytes_.alphabet()),
            show_progress=False,
        )
        made.train_from_iterator(texts, trainer)
        return cls(json.loads(made.to_str()), special)

    def as_dict(self) -> dict[str, Any]:
        """The tokenizer's JSON."""
        return json.loads(self._tokenizer.to_str())

    def __len__(self) -> int:
        return len(self.tokens)

    @property
    def newline(self) -> int:
        """The number of a line's end; 0 if it has no token of its own."""
        ids = self.encode("\n")
        return int(ids[0]) if len(ids) == 1 else 0

    def encode(self, text: str, who: str = "text") -> np.ndarray:
        """The numbers of a text's tokens."""
        return np.array(self._tokenizer.encode(text, add_special_tokens=False).ids, np.int64)

    def split(self, text: str) -> list[str]:
        """The tokens of a text, each as it is read."""
        return self.shown(self.encode(text))

    def shown(self, ids: Iterable[int]) -> list[str]:
        """The tokens with these numbers, each as it is read."""
        return [self.decode([i]) or self.tokens[i] for i in ids]

    def decode(self, ids: Iterable[int]) -> str:
        """The text of tokens, without START and END."""
        shut = {self.ids.get(START), self.ids.get(END)}
        return self._tokenizer.decode([int(i) for i in ids if i not in shut], skip_special_tokens=False)

    def written(self, ids: Iterable[int], before: Iterable[int] = ()) -> Iterator[str]:
        """The text that each token adds to those before, nothing until a character is complete; and what is left of one
        that is not when they end."""
        context, new = [*before][-CONTEXT:], list[int]()
        for i in ids:
            new.append(i)
            text = self.decode([*context, *new])
            if text.endswith(INCOMPLETE):
                yield ""
                continue
            yield text[len(self.decode(context)) :]
            context, new = [*context, *new][-CONTEXT:], []
        if new:  # the last ones are no more than a part of a character, or are U+FFFD itself
            yield text[len(self.decode(context)) :]

    # ---- other cuts of the same text ------------------------------------------------------------------------------

    def encode_with_dropout(self, text: str, p: float, rng: np.random.Generator) -> np.ndarray:
        """The numbers of a text's tokens, each merge left out with probability p wherever it could be made.

        Provilkov et al. (2020), arXiv:1910.13267. p = 0 gives those of `encode`. Drawn here, as the library's own
        generator takes no seed.
        """
        t, ids = self._tokenizer, []
        text = t.normalizer.normalize_str(text) if t.normalizer else text
        for word, _ in t.pre_tokenizer.pre_tokenize_str(text) if t.pre_tokenizer else [(text, None)]:
            ids += [self.ids[part] for part in self._merged(list(word), p, rng)]
        return np.array(ids, np.int64)

    def check_dropout(self) -> None:
        """ValueError if merges cannot be left out: it is not plain byte pair encoding that knows every letter."""
        model = self.as_dict()["model"]
        plain = model["type"] == "BPE" and not (model["continuing_subword_prefix"] or model["end_of_word_suffix"])
        if not plain or not {*_library().pre_tokenizers.ByteLevel.alphabet()} <= self.ids.keys():
            raise ValueError(
                "--bpe-dropout: the tokenizer must be byte pair encoding of bytes, as --subwords learns it"
            )

    def _merged(self, parts: list[str], p: float, rng: np.random.Generator) -> list[str]:
        """A word's letters, merged by rank."""
        if not self._ranks:
            self._ranks = {(a, b): i for i, (a, b) in enumerate(self.as_dict()["model"]["merges"])}
        while len(parts) > 1:
            kept = rng.random(len(parts) - 1) >= p
            pairs = zip(itertools.pairwise(parts), kept, strict=True)
            found = [(self._ranks[pair], i) for i, (pair, keep) in enumerate(pairs) if keep and pair in self._ranks]
            if not found:
                break
            _, i = min(found)
            parts[i : i + 2] = [parts[i] + parts[i + 1]]
        return parts


Tokens = Vocabulary | Subwords


def from_dict(saved: dict[str, Any]) -> Tokens:
    """What `as_dict` of either class gave; KeyError, TypeError or ValueError for anything else."""
    return Subwords(saved) if "model" in saved else Vocabulary(saved["tokens"], saved["words"])


def _library() -> Any:
    try:
        import tokenizers  # noqa: PLC0415
    except ImportError:
        raise RuntimeError('subwords: tokenizers is not installed; pip install "tinygrad-rnn[subwords]"') from None
    return tokenizers
