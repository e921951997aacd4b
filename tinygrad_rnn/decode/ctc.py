"""Decoding what a network says that was trained by `nn.ctc_loss`: labels out of paths with blanks and repetitions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from tinygrad_rnn.decode.checks import check_ids, require
from tinygrad_rnn.decode.found import Hypothesis
from tinygrad_rnn.decode.tokens import on_host

Bonus = Callable[[tuple[int, ...], int], float]


def ctc_greedy(log_probs: Any, lengths: Any = None, *, blank: int = 0) -> list[Hypothesis]:
    """The labels of each sequence's likeliest path: repetitions merged, then blanks left out.

    log_probs: (T, B, V), of log_softmax  lengths: (B,), the steps of each; all T if None
    returns: for each sequence its labels; log_prob and score are log P of that one path
    Graves et al. (2006), section 3.2: best path decoding.

    >>> path = np.log([[[0.1, 0.8, 0.1]], [[0.1, 0.8, 0.1]], [[0.8, 0.1, 0.1]], [[0.1, 0.8, 0.1]]])
    >>> ctc_greedy(path)[0].tokens
    [1, 1]
    """
    found = []
    for rows in _sequences("ctc_greedy", log_probs, lengths, blank):
        path = rows.argmax(-1)
        begins = np.diff(path, prepend=-1) != 0
        log_prob = float(rows.max(-1).sum())
        found.append(Hypothesis(path[begins & (path != blank)].tolist(), log_prob, log_prob, True))
    return found


def ctc_beam_search(
    log_probs: Any, lengths: Any = None, *, blank: int = 0, width: int = 10, n_best: int = 1, bonus: Bonus | None = None
) -> list[list[Hypothesis]]:
    """The likeliest labellings that a search over `width` prefixes at a time finds: P of one is the sum over its paths.

    bonus: bonus(labels so far, next label) is added to the score when a label is appended: the logarithm of what a
    language model says, say, or a reward for each label
    The other options are those of `ctc_greedy`.
    returns: for each sequence its `n_best` labellings, best first. score: log P of the paths that the search has kept,
    plus the bonuses, which is what it ranks by; log_prob: without them
    Prefix beam search: Graves (2012), Sequence transduction, section 3; Hannun et al. (2014), arXiv:1408.2873.

    >>> path = np.log([[[0.6, 0.4]], [[0.6, 0.4]]])  # the likeliest path is two blanks; [1] has three
    >>> ctc_greedy(path)[0].tokens, ctc_beam_search(path)[0][0].tokens
    ([], [1])
    """
    require("ctc_beam_search", width >= 1, "width must be at least 1", width)
    require("ctc_beam_search", 1 <= n_best <= width, f"n_best must be from 1 to the width, {width}", n_best)
    sequences = _sequences("ctc_beam_search", log_probs, lengths, blank)
    return [_Prefixes(blank, width, bonus).searched(rows)[:n_best] for rows in sequences]


class _Prefixes:
    """The best prefixes of the labels, after some steps.

    beam    the labels of each, W of them; earned: their bonuses (W,)
    ends    log P of their paths that end in a blank, or in their last label, (2, W); the bonuses are in it
    """

    def __init__(self, blank: int, width: int, bonus: Bonus | None):
        self.blank, self.width, self.bonus = blank, width, bonus
        self.beam: list[tuple[int, ...]] = [()]
        self.earned, self.ends = np.zeros(1), np.array([[0.0], [-np.inf]])

    def searched(self, rows: np.ndarray) -> list[Hypothesis]:
        """The hypotheses after all steps, best first. rows: (T, V)"""
        for row in rows:
            self._step(row)
        scores = np.logaddexp(*self.ends)
        best = np.argsort(-scores, kind="stable")
        each = zip([self.beam[i] for i in best], scores[best], self.earned[best], strict=True)
        return [Hypothesis(list(labels), float(s - e), float(s), True) for labels, s, e in each if s > -np.inf]

    def _step(self, row: np.ndarray) -> None:
        in_blank, in_label = self.ends
        total, last = np.logaddexp(in_blank, in_label), [labels[-1:] for labels in self.beam]
        grown = total[:, None] + row
        stays = np.array([total + row[self.blank], np.full(len(last), -np.inf)])
        for i, label in enumerate(last):
            if label:  # the same label again: after a blank it is another one, else still that one
                stays[1, i] = in_label[i] + row[label[0]]
                grown[i, label[0]] = in_blank[i] + row[label[0]]
        grown[:, self.blank] = -np.inf
        bonus = self._bonuses(grown)
        self._meet(grown + bonus, grown, stays)
        self._choose(stays, grown + bonus, bonus)

    def _bonuses(self, grown: np.ndarray) -> np.ndarray:
        found = np.zeros_like(grown)
        if self.bonus is not None:
            for i, v in np.argwhere(grown > -np.inf):
                found[i, v] = self.bonus(self.beam[i], int(v))
        return found

    def _meet(self, ranked: np.ndarray, grown: np.ndarray, stays: np.ndarray) -> None:
        """What grows into a prefix that is there already is a path of that one."""
        place = {labels: i for i, labels in enumerate(self.beam)}
        for labels, i in place.items():
            parent = place.get(labels[:-1]) if labels else None
            if parent is not None:
                stays[1, i] = np.logaddexp(stays[1, i], ranked[parent, labels[-1]])
                grown[parent, labels[-1]] = -np.inf

    def _choose(self, stays: np.ndarray, grown: np.ndarray, bonus: np.ndarray) -> None:
        W, V = grown.shape
        scores = np.concatenate([np.logaddexp(*stays), grown.ravel()])
        best = np.argsort(-scores, kind="stable")[: self.width]
        best = best[scores[best] > -np.inf] if scores.max() > -np.inf else best[:1]
        old, (parents, labels) = best[best < W], np.divmod(best[best >= W] - W, V)
        self.ends = np.concatenate([stays[:, old], [np.full(len(parents), -np.inf), grown[parents, labels]]], axis=1)
        self.earned = np.concatenate([self.earned[old], self.earned[parents] + bonus[parents, labels]])
        new = [(*self.beam[i], int(v)) for i, v in zip(parents, labels, strict=True)]
        self.beam = [*[self.beam[i] for i in old], *new]


def _sequences(who: str, log_probs: Any, lengths: Any, blank: int) -> list[np.ndarray]:
    """The rows of each sequence (its length, V), in float64 on the host; checked."""
    values = np.array(on_host(log_probs), np.float64)
    fits = values.ndim == 3 and values.shape[2] > 0
    require(who, fits, "log_probs must be (T, B, V) with V of at least 1", values.shape)
    T, B, V = values.shape
    wrong = np.isnan(values) | (values == np.inf)
    require(who, not wrong.any(), "log_probs must be numbers or -inf", values[wrong][:1])
    check_ids(who, blank=blank)
    require(who, blank < V, f"blank must be from 0 to {V - 1}", blank)
    steps = np.full(B, T) if lengths is None else np.asarray(on_host(lengths))
    fits = steps.shape == (B,) and steps.dtype.kind in "iu" and (not B or (steps.min() >= 0 and steps.max() <= T))
    require(who, fits, f"lengths must be ({B},) integers from 0 to {T}", steps)
    return [values[:n, i] for i, n in enumerate(steps)]
