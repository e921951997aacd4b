"""How far are decoded sequences from the ones that were wanted?

A sequence is a list of tokens, a token a string or a number. Where several answers are right, a reference is a list of
sequences, its alternatives: [["T", "AH"], ["T", "UW"]] for two ways to say "to".
"""

from __future__ import annotations

import functools

from collections.abc import Callable, Hashable, Iterable, Sequence
from typing import Any

import numpy as np

__all__ = [
    "alignment_error_rate", "corpus_bleu", "corpus_chrf", "edit_distance", "sequence_error_rate", "token_error_rate",
]  # fmt: skip


def edit_distance(a: Sequence[Hashable], b: Sequence[Hashable]) -> int:
    """The least number of tokens to insert, delete or replace that turns a into b. Levenshtein (1966).

    D(i, j), the distance of the first i tokens of a from the first j of b, by rows (Wagner and Fischer 1974):
    D(i, j) = min(D(i-1, j) + 1, D(i, j-1) + 1, D(i-1, j-1) + [aᵢ ≠ bⱼ])

    By rapidfuzz (the extra "fast") where it is installed, many times as fast.

    >>> edit_distance("kitten", "sitting")
    3
    """
    numbers: dict[Hashable, int] = {}  # of different tokens, since rapidfuzz takes "a" and 97 for the same
    x, y = ([numbers.setdefault(token, len(numbers)) for token in tokens] for tokens in (a, b))
    return (_rapidfuzz() or _by_rows)(x, y)


@functools.cache
def _rapidfuzz() -> Callable[[list[int], list[int]], int] | None:
    """Its distance; None where it is not installed, or cannot be loaded."""
    try:
        from rapidfuzz.distance import Levenshtein  # noqa: PLC0415
    except (ImportError, OSError):
        return None
    return Levenshtein.distance


def _by_rows(a: list[int], b: list[int]) -> int:
    row = list(range(len(b) + 1))
    for i, x in enumerate(a, 1):
        above, left = row, i
        row = [i]
        for y, diagonal, up in zip(b, above, above[1:], strict=False):
            left = min(left + 1, up + 1, diagonal + (x != y))
            row.append(left)
    return row[-1]


def token_error_rate(hypotheses: Sequence[Sequence[Any]], references: Sequence[Sequence[Any]]) -> float:
    """Edits for each token of the references: Σ distance / Σ length. With words the word error rate, with phonemes the
    phoneme error rate; above 1 where the hypotheses are much too long.

    Of alternatives the closest counts, and the longest of those.
    """
    edits = tokens = 0
    for hypothesis, alternatives in _pairs("token_error_rate", hypotheses, references):
        distances = [(edit_distance(hypothesis, right), len(right)) for right in alternatives]
        distance, length = min(distances, key=lambda pair: (pair[0], -pair[1]))
        edits, tokens = edits + distance, tokens + length
    if not tokens:
        raise ValueError("token_error_rate: the references must hold at least one token, got none")
    return edits / tokens


def sequence_error_rate(hypotheses: Sequence[Sequence[Any]], references: Sequence[Sequence[Any]]) -> float:
    """The share of hypotheses that are not their reference, or none of its alternatives."""
    pairs = _pairs("sequence_error_rate", hypotheses, references)
    if not pairs:
        raise ValueError("sequence_error_rate: there must be at least one hypothesis, got none")
    return sum(hypothesis not in alternatives for hypothesis, alternatives in pairs) / len(pairs)


def alignment_error_rate(found: Sequence[Iterable[Hashable]], gold: Sequence[Iterable[Hashable]]) -> float:
    """Links that should not be, or are missing, of all sentences together: AER, 1 - 2 |A ∩ G| / (|A| + |G|), where all
    gold links are sure. Och and Ney (2003). A link is whatever can be compared, such as a pair of places.

    >>> alignment_error_rate([[(0, 0), (1, 2)]], [[(0, 0), (1, 1)]])
    0.5
    """
    if len(found) != len(gold):
        raise ValueError(
            f"alignment_error_rate: there must be gold links for each of {len(found)} sentences, got {len(gold)}"
        )
    sets = [(set(a), set(b)) for a, b in zip(found, gold, strict=True)]
    links = sum(len(a) + len(b) for a, b in sets)
    if not links:
        raise ValueError("alignment_error_rate: there must be at least one link, got none")
    return 1 - 2 * sum(len(a & b) for a, b in sets) / links


def corpus_bleu(hypotheses: Sequence[Sequence[Any]], references: Sequence[Sequence[Any]]) -> float:
    """BLEU of all sentences together, 0 to 100. Papineni et al. (2002), as sacrebleu computes it (Post 2018,
    arXiv:1804.08771) on tokens as they are: case:mixed|eff:no|tok:none|smooth:exp.

    Its numbers can be compared only where the tokens are the same. RuntimeError if sacrebleu is not installed.
    """
    # force: no warning about text that has been cut into tokens
    return _score("corpus_bleu", "BLEU", {"tokenize": "none", "force": True}, hypotheses, references)


def corpus_chrf(hypotheses: Sequence[Sequence[Any]], references: Sequence[Sequence[Any]]) -> float:
    """chrF2 of all sentences together, 0 to 100: what runs of up to six characters, blanks left out, they have in
    common. Popović (2015), as sacrebleu computes it: case:mixed|eff:yes|nc:6|nw:0|space:no.

    RuntimeError if sacrebleu is not installed.
    """
    return _score("corpus_chrf", "CHRF", {}, hypotheses, references)


def _score(
    who: str, name: str, options: dict[str, Any], hypotheses: Sequence[Sequence[Any]],
    references: Sequence[Sequence[Any]],
) -> float:  # fmt: skip
    """What one of sacrebleu's metrics says of tokens with blanks between them."""
    try:
        from sacrebleu import metrics as scores  # noqa: PLC0415
    except (ImportError, OSError) as error:
        if isinstance(error, ModuleNotFoundError) and error.name in ("sacrebleu", "sacrebleu.metrics"):
            raise RuntimeError(f'{who}: sacrebleu is not installed; pip install "tinygrad-rnn[bleu]"') from None
        reason = " ".join(str(error).split())
        raise RuntimeError(f"{who}: sacrebleu cannot be loaded ({reason}); install it anew") from None
    pairs = _pairs(who, hypotheses, references)
    if not pairs:
        raise ValueError(f"{who}: there must be at least one hypothesis, got none")
    most = max(len(alternatives) for _, alternatives in pairs)
    rows = [[_line(right, who) for right in alternatives] + [None] * most for _, alternatives in pairs]
    streams = [list(stream) for stream in zip(*[row[:most] for row in rows], strict=True)]
    found = getattr(scores, name)(**options).corpus_score([_line(hypothesis, who) for hypothesis, _ in pairs], streams)
    return float(found.score)


def _pairs(
    who: str, hypotheses: Sequence[Sequence[Any]], references: Sequence[Sequence[Any]]
) -> list[tuple[list[Any], list[list[Any]]]]:
    """Each hypothesis with the alternatives of its reference, as lists."""
    if len(hypotheses) != len(references):
        raise ValueError(
            f"{who}: there must be a reference for each of {len(hypotheses)} hypotheses, got {len(references)}"
        )
    return [(list(h), _alternatives(r)) for h, r in zip(hypotheses, references, strict=True)]


def _alternatives(reference: Sequence[Any]) -> list[list[Any]]:
    several = len(reference) > 0 and isinstance(reference[0], (list, tuple, np.ndarray))
    return [list(right) for right in reference] if several else [list(reference)]


def _line(tokens: list[Any], who: str) -> str:
    """The tokens with blanks between them, to be split at these again."""
    words = [str(token) for token in tokens]
    line = " ".join(words)
    if line.split() != words:
        raise ValueError(f"{who}: a token must be at least one character and none a blank, got {words}")
    return line
