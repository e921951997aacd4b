"""Decoding: which tokens does a model go on with?

For anything that steps: `step(ids, state) -> (logits, new state)`, with ids (N,) int64, logits (N, V) and the state a
nest of tensors (N, ...), or (L, N, ...) with batch_axis=1, as nn.LSTM has it. A language model's `step` is one, that of
a decoder with attention another. Its N rows must know nothing of each other: there are more of them than sequences
where a search keeps several hypotheses of each. Probabilities are added up on the host, in float64 and as logarithms;
nothing is recorded. Logits must be finite: to rule a token out give it -1e9, not -inf, which is also what a model that
has diverged may give.

Letters: N rows, B sequences, V vocabulary, S source length, L layers, n the length of a hypothesis, its end token
included.
"""

from __future__ import annotations

import math

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from tinygrad_rnn.autograd import arrays, nest
from tinygrad_rnn.autograd.tensor import Tensor, no_grad

Step = Callable[[np.ndarray, Any], tuple[Tensor, Any]]
Weights = Callable[[Any], Any]


class Hypothesis(NamedTuple):
    """A sequence that was decoded.

    tokens: what was produced, without the start token that was fed and without the end token
    log_prob: log P of them in nats under the model, the end token's included if there is one
    score: log P / n^length_penalty, what beam search ranks by (greedy and sample: log P / n)
    finished: it has an end token; False if it was cut at max_length
    weights: (n, …, S) what `weights` gave after each step; None if it gave nothing, and where max_length is 0
    """

    tokens: list[int]
    log_prob: float
    score: float
    finished: bool
    weights: np.ndarray | None = None


# ---- one sequence for each row of the state ------------------------------------------------------------------------


def greedy(
    step: Step,
    state: Any,
    *,
    start: int,
    end: int,
    max_length: int,
    weights: Weights | None = None,
    batch_axis: int = 0,
) -> list[Hypothesis]:
    """The likeliest token at each step: a hypothesis for each row of the state.

    start, end: the token fed first; the one that ends a sequence
    max_length: at most that many tokens, the end token counted
    weights: weights(state) -> (N, …, S), e.g. the attention weights of the step that made the state, or None
    batch_axis: the axis of the state's tensors along which the sequences lie: 1 for the state of nn.LSTM, (L, N, H)
    """
    return _one_each("greedy", step, state, _likeliest, start, end, max_length, weights, batch_axis)


def sample(
    step: Step,
    state: Any,
    *,
    start: int,
    end: int,
    max_length: int,
    weights: Weights | None = None,
    batch_axis: int = 0,
    temperature: float = 1.0,
    top_k: int = 0,
    top_p: float = 1.0,
    rng: np.random.Generator,
) -> list[Hypothesis]:
    """Tokens drawn as `draw` does: a hypothesis for each row of the state. The other options are those of `greedy`.

    Its log_prob is the model's own, whatever temperature, top_k and top_p are.
    """
    _check_sampling("sample", temperature, top_k, top_p)

    def pick(log_p: np.ndarray) -> np.ndarray:
        return _draw(log_p, temperature, top_k, top_p, rng)

    return _one_each("sample", step, state, pick, start, end, max_length, weights, batch_axis)


def score(
    step: Step, state: Any, targets: Sequence[Sequence[int]], *, start: int, end: int, batch_axis: int = 0
) -> np.ndarray:
    """log P in nats of given token lists and the end token after each: the chain rule, every token fed as it is given.

    targets: B lists of any lengths, without start and end  batch_axis: as for `greedy`  returns: (B,) float64
    """
    with no_grad():
        padded, lengths = _padded(targets, start, end)
        model = _Model("score", step, state, batch_axis, needed=int(padded.max(initial=end)))
        _require("score", len(targets) == model.rows, f"there must be {model.rows} targets", len(targets))
        total, last, rows = np.zeros(model.rows), np.full(model.rows, start, np.int64), np.arange(model.rows)
        for t in range(padded.shape[1]):
            ended = t >= lengths
            log_p, last = model.feed(last, rows, ended), padded[:, t]
            total += np.where(ended, 0.0, log_p[rows, last])
        return total


def _padded(targets: Sequence[Sequence[int]], start: int, end: int) -> tuple[np.ndarray, np.ndarray]:
    """The targets in one array, filled up with end tokens, and their lengths, one end token included."""
    _check_ids("score", start=start, end=end)
    lengths = np.array([len(tokens) + 1 for tokens in targets], np.int64)
    padded = np.full((len(targets), lengths.max(initial=0)), end, np.int64)
    for row, tokens in zip(padded, targets, strict=True):
        _check_ids("score", **{f"token {i}": token for i, token in enumerate(tokens)})
        row[: len(tokens)] = tokens
    return padded, lengths


def _one_each(
    who: str,
    step: Step,
    state: Any,
    pick: Callable,
    start: int,
    end: int,
    max_length: int,
    weights: Weights | None,
    batch_axis: int,
) -> list[Hypothesis]:
    """One hypothesis for each row; pick(log P (N, V)) -> tokens (N,)."""

    def choose(found: _Found, log_p: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        rows, tokens = np.arange(len(log_p)), pick(log_p)
        return rows, tokens, found.log_prob + np.where(found.finished, 0.0, log_p[rows, tokens])

    found = _search(who, step, state, choose, 1, start, end, max_length, weights, batch_axis)
    return found.hypotheses(np.arange(len(found.last)), 1.0)


# ---- beam search ---------------------------------------------------------------------------------------------------


def beam_search(
    step: Step,
    state: Any,
    *,
    start: int,
    end: int,
    max_length: int,
    width: int = 5,
    length_penalty: float = 1.0,
    n_best: int = 1,
    weights: Weights | None = None,
    batch_axis: int = 0,
) -> list[list[Hypothesis]]:
    """The likeliest sequences that a search over `width` hypotheses at a time finds: for each row of the state its
    `n_best` ones, best first; fewer where there are fewer.

    Each step goes on with the best `width` of: every hypothesis with every token after it, and those that have ended,
    as they are. Best is the greatest log P / n^length_penalty: 1 compares by the mean over the tokens (Cho et al. 2014,
    arXiv:1409.1259), 0 by log P itself, which favours short sequences. The search stops when all that it holds have
    ended, or at max_length. Width 1 is `greedy`. The other options are those of `greedy`.

    The step sees N = B · width rows, those of a sequence next to each other. Between steps its state's rows move with
    their hypotheses. A tensor of the state that every step hands on as the same object (the memory that attention
    reads) is not copied again: its rows are equal for all hypotheses of a sequence.
    """
    _require("beam_search", width >= 1, "width must be at least 1", width)
    _require("beam_search", 1 <= n_best <= width, f"n_best must be from 1 to the width, {width}", n_best)
    sane = 0 <= length_penalty < math.inf
    _require("beam_search", sane, "length_penalty must be a finite number of at least 0", length_penalty)

    def choose(found: _Found, log_p: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        return _extensions(found, log_p, width, length_penalty)

    found = _search("beam_search", step, state, choose, width, start, end, max_length, weights, batch_axis)
    best = np.arange(len(found.last)).reshape(-1, width)[:, :n_best]
    return [found.hypotheses(rows[found.log_prob[rows] > -np.inf], length_penalty) for rows in best]


def _extensions(
    found: _Found, log_p: np.ndarray, width: int, length_penalty: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The best `width` hypotheses of each sequence after one more step, best first; of equals the one found first.

    log_p: (N, V)  returns: for each the row it goes on from, its last token and its log P, (N,) each
    """
    k = min(width, log_p.shape[1])  # no row can give more than `width` of the best `width`
    tokens = _largest(log_p, k)
    log_prob = found.log_prob[:, None] + np.take_along_axis(log_p, tokens, axis=1)
    log_prob[found.finished] = -np.inf
    log_prob[found.finished, 0] = found.log_prob[found.finished]
    length = found.length + ~found.finished
    ranked = _normalised(log_prob, length[:, None], length_penalty).reshape(-1, width * k)
    best = np.argsort(-ranked, axis=1, kind="stable")[:, :width]
    places = (best + width * k * np.arange(len(best))[:, None]).ravel()
    return places // k, tokens.ravel()[places], log_prob.ravel()[places]


def _largest(values: np.ndarray, k: int) -> np.ndarray:
    """Where the k largest values of each row are, from left to right; of equal ones the leftmost. (N, V) -> (N, k)"""
    kth = np.partition(values, -k, axis=1)[:, -k, None]
    taken = values >= kth
    if np.count_nonzero(taken) > k * len(values):  # more than one is as large as the kth
        equal = values == kth
        room = k - (taken & ~equal).sum(axis=1, keepdims=True)
        taken &= ~equal | (equal.cumsum(axis=1) <= room)
    return np.nonzero(taken)[1].reshape(-1, k)


def _normalised(log_prob: np.ndarray, length: np.ndarray, penalty: float) -> np.ndarray:
    """log P / n^penalty; a row that holds nothing stays at -inf."""
    with np.errstate(over="ignore"):
        divisor = np.maximum(length, 1.0) ** penalty
    return log_prob / np.minimum(divisor, np.finfo(np.float64).max)


# ---- the search that they share ------------------------------------------------------------------------------------


def _search(
    who: str,
    step: Step,
    state: Any,
    choose: Callable,
    width: int,
    start: int,
    end: int,
    max_length: int,
    weights: Weights | None,
    batch_axis: int,
) -> _Found:
    """Step until nothing is open. choose(found, log P (N, V)) -> each new row's parent, last token and log P."""
    _check_ids(who, start=start, end=end)
    _require(who, max_length >= 0, "max_length must be at least 0", max_length)
    with no_grad():
        model = _Model(who, step, state, batch_axis, width, needed=end)
        found = _Found(model.rows, width, start, end)
        while len(found.trail) < max_length and not found.closed.all():
            log_p = model.feed(found.last, found.parents, found.closed)
            seen = _seen(who, weights(model.state), model.rows) if weights else None
            parents, tokens, log_prob = choose(found, log_p)
            found.extend(parents, tokens, log_prob, seen)
    return found


class _Model:
    """A step function and its state, with `copies` rows for each sequence, along an axis of the state's tensors.

    needed: the highest id that there must be a logit for
    """

    def __init__(self, who: str, step: Step, state: Any, axis: int = 0, copies: int = 1, *, needed: int):
        self.who, self.step, self.axis, self.needed = who, step, axis, needed
        _require(who, axis in (0, 1), "batch_axis must be 0 or 1", axis)
        sequences = np.arange(self._size(state))
        self.rows = len(sequences) * copies
        self.state = self._gathered(state, np.repeat(sequences, copies))
        self.constant = nest.leaves(self.state)  # as long as it is one of these, a leaf is equal for a sequence's rows
        layers = axis == 0 and all(len(leaf.shape) > 2 for leaf in self.constant)
        self.hint = "; for a state (layers, N, H) pass batch_axis=1" if layers else ""
        self.checked = not layers or self.rows < 2  # nothing can be mistaken

    def feed(self, ids: np.ndarray, parents: np.ndarray, ignored: np.ndarray) -> np.ndarray:
        """One step of each row from the state of its parent. ids, parents: (N,)  ignored: (N,) bool, rows that may hold
        anything  returns: log P of each possible next token, (N, V) float64
        """
        before = self._gathered(self.state, parents)
        try:
            logits, self.state = self.step(ids, before)
        except ValueError as error:
            if self.checked or not self.hint:
                raise
            raise ValueError(f"{error}{self.hint}") from error
        size = self._size(self.state)
        _require(self.who, size == self.rows, f"the new state must have {self.rows} rows", f"{size}{self.hint}")
        values = np.array(_host(logits), np.float64)
        fits = values.ndim == 2 and len(values) == self.rows and values.shape[1] > self.needed
        what = f"logits must be ({self.rows}, V) with V greater than {self.needed}"
        _require(self.who, fits, what, f"{values.shape}{self.hint}")
        self._check_rows(ids, before, values)
        values[ignored] = 0.0
        _check_finite(self.who, values)
        return _log_softmax(values)

    def _check_rows(self, ids: np.ndarray, state: Any, values: np.ndarray) -> None:
        """Is a row a sequence? The layers of one sequence, (L, 1, H), can be mistaken for L sequences: the step then
        spreads the 1 to L, and does not work on the first row alone. Asked at the first step, where it looks so."""
        pairs = zip(nest.leaves(state), nest.leaves(self.state), strict=False)
        if not self.checked and any(a.shape[1:2] == (1,) and b.shape[1:2] == (self.rows,) for a, b in pairs):
            what = "each row of the state must be one sequence's, which the step can go on with alone"
            _require(self.who, self._alone(ids, state, values), what, f"{nest.describe(state)}{self.hint}")
        self.checked = True

    def _alone(self, ids: np.ndarray, state: Any, values: np.ndarray) -> bool:
        """Has the first row the same logits without the others?"""
        try:
            logits, _ = self.step(ids[:1], nest.map_leaves(lambda leaf: leaf[:1], state))
        except Exception:  # whatever a step does that gets what is not meant for it
            return False
        alone = np.array(_host(logits), np.float64)
        return alone.shape == values[:1].shape and np.allclose(alone, values[:1], 1e-3, 1e-3, equal_nan=True)

    def _gathered(self, state: Any, rows: np.ndarray) -> Any:
        """The state whose row i is row rows[i] of the given one; the leaves in `constant` as they are."""
        if np.array_equal(rows, np.arange(len(rows))):
            return state
        same = {id(leaf) for leaf in getattr(self, "constant", [])}
        where = (slice(None),) * self.axis + (rows,)
        return nest.map_leaves(lambda leaf: leaf if id(leaf) in same else leaf[where], state)

    def _size(self, state: Any) -> int:
        """N, if all leaves of the state have N rows along the axis."""
        sizes = {tuple(getattr(leaf, "shape", ())[self.axis : self.axis + 1]) for leaf in nest.leaves(state)}
        one = len(sizes) == 1 and () not in sizes
        what = "(L, N, …)" if self.axis else "(N, ...)"
        _require(self.who, one, f"the state must hold tensors {what}, all of one N", nest.describe(state))
        return sizes.pop()[0]


class _Found:
    """What was found so far: N rows of hypotheses, `width` for each sequence, and how each came about.

    last: (N,) the token to feed  parents: (N,) the row that each went on from at the last step
    log_prob: (N,) -inf where a row holds nothing  length: (N,) n  finished: (N,) bool
    trail: for each step what it appended to each row, the parents, and the weights of the rows before they moved
    """

    def __init__(self, rows: int, width: int, start: int, end: int):
        self.end = end
        self.last, self.parents = np.full(rows, start, np.int64), np.arange(rows)
        self.log_prob = np.where(self.parents % width, -np.inf, 0.0)  # equal rows would find the same `width` times
        self.length, self.finished = np.zeros(rows, np.int64), np.zeros(rows, bool)
        self.trail: list[tuple[np.ndarray, np.ndarray, np.ndarray | None]] = []

    @property
    def closed(self) -> np.ndarray:
        """(N,) bool: nothing can come after the row."""
        return self.finished | np.isneginf(self.log_prob)

    def extend(self, parents: np.ndarray, tokens: np.ndarray, log_prob: np.ndarray, weights: np.ndarray | None) -> None:
        """Row i becomes the hypothesis of row parents[i] with tokens[i] after it, or stays that if it has ended."""
        ended = self.finished[parents]
        self.last = np.where(ended, self.end, tokens)
        self.length = self.length[parents] + ~ended
        self.finished = self.last == self.end
        self.parents, self.log_prob = parents, log_prob
        self.trail.append((self.last, parents, weights))

    def hypotheses(self, rows: np.ndarray, length_penalty: float) -> list[Hypothesis]:
        """Those of some rows."""
        scores = _normalised(self.log_prob, self.length, length_penalty)
        tokens, weights = self._read_back(rows)
        made = []
        for i, row in enumerate(rows):
            n, finished = int(self.length[row]), bool(self.finished[row])
            ids = [int(column[i]) for column in tokens[: n - finished]]
            seen = np.array([part[i] for part in weights[:n]]) if weights else None
            made.append(Hypothesis(ids, float(self.log_prob[row]), float(scores[row]), finished, seen))
        return made

    def _read_back(self, rows: np.ndarray) -> tuple[list[np.ndarray], list[np.ndarray]]:
        """For each step, oldest first, the tokens that it appended to some rows, and its weights of them."""
        tokens: list[np.ndarray] = []
        weights: list[np.ndarray] = []
        for last, parents, seen in reversed(self.trail):
            tokens.append(last[rows])
            rows = parents[rows]
            if seen is not None:
                weights.append(seen[rows])
        return tokens[::-1], weights[::-1]


def _host(values: Any) -> np.ndarray:
    return arrays.to_numpy(values) if not isinstance(values, Tensor) else values.numpy()


def _seen(who: str, weights: Any, rows: int) -> np.ndarray | None:
    if weights is None:
        return None
    seen = np.array(_host(weights))
    _require(who, seen.ndim > 1 and len(seen) == rows, f"weights must be ({rows}, …, S)", seen.shape)
    return seen


def _log_softmax(logits: np.ndarray) -> np.ndarray:
    with np.errstate(over="ignore"):  # -1e308 - 1e308: a probability of 0
        shifted = logits - logits.max(axis=1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))


# ---- one token -----------------------------------------------------------------------------------------------------


def draw(
    logits: np.ndarray, *, temperature: float = 1.0, top_k: int = 0, top_p: float = 1.0, rng: np.random.Generator
) -> np.ndarray:
    """One token for each row of (unnormalised) log probabilities, drawn. logits: (N, V)  returns: (N,) int64

    temperature: P(w)^(1/temperature), normalised; 0 takes the likeliest token
    top_k: of these only the k likeliest, and those as likely as the kth (Fan et al. 2018, arXiv:1805.04833); 0 for all
    top_p: of what is left, normalised, only the smallest set of likeliest tokens whose probability reaches top_p: the
    nucleus (Holtzman et al. 2020, arXiv:1904.09751); 1 for all

    >>> logits = np.log([[0.5, 0.3, 0.15, 0.05]])
    >>> sorted({int(draw(logits, top_p=0.8, rng=np.random.default_rng(seed))[0]) for seed in range(50)})
    [0, 1]
    """
    _check_sampling("draw", temperature, top_k, top_p)
    values = np.array(_host(logits), np.float64)
    _require("draw", values.ndim == 2 and values.shape[1] > 0, "logits must be (N, V) with V at least 1", values.shape)
    _check_finite("draw", values)
    return _draw(values, temperature, top_k, top_p, rng)


def _draw(logits: np.ndarray, temperature: float, top_k: int, top_p: float, rng: np.random.Generator) -> np.ndarray:
    if temperature == 0:
        return _likeliest(logits)
    with np.errstate(over="ignore"):
        scaled = (logits - logits.max(axis=1, keepdims=True)) / temperature
    if 0 < top_k < scaled.shape[1]:
        scaled[scaled < np.partition(scaled, -top_k, axis=1)[:, -top_k, None]] = -np.inf
    p = np.exp(scaled)
    if top_p < 1:
        p[~_nucleus(p / p.sum(axis=1, keepdims=True), top_p)] = 0.0
    return np.array([rng.choice(len(row), p=row / row.sum()) for row in p], np.int64)


def _nucleus(p: np.ndarray, top_p: float) -> np.ndarray:
    """Which tokens are in the smallest set of likeliest ones that reaches top_p? (N, V) -> (N, V) bool"""
    order = np.argsort(-p, axis=1, kind="stable")
    before = np.cumsum(np.take_along_axis(p, order, axis=1), axis=1)[:, :-1]
    ranked = np.ones(p.shape, bool)
    ranked[:, 1:] = before < top_p * (1 - 1e-12)  # eight times 0.1 is a little less than 0.8, and reaches it
    kept = np.empty(p.shape, bool)
    np.put_along_axis(kept, order, ranked, axis=1)
    return kept


def _likeliest(log_p: np.ndarray) -> np.ndarray:
    return log_p.argmax(axis=1)


# ---- what must hold ------------------------------------------------------------------------------------------------


def _require(who: str, holds: bool, what: str, got: object) -> None:
    if not holds:
        raise ValueError(f"{who}: {what}, got {got}")


def _check_ids(who: str, **ids: Any) -> None:
    for name, value in ids.items():
        whole = isinstance(value, (int, np.integer)) and bool(value >= 0)
        _require(who, whole, f"{name} must be an id, an integer of at least 0", value)


def _check_sampling(who: str, temperature: float, top_k: int, top_p: float) -> None:
    _require(who, 0 <= temperature < math.inf, "temperature must be a finite number of at least 0", temperature)
    _require(who, top_k >= 0, "top_k must be at least 0", top_k)
    _require(who, 0 < top_p <= 1, "top_p must be greater than 0 and at most 1", top_p)


def _check_finite(who: str, logits: np.ndarray) -> None:
    finite = np.isfinite(logits)
    if not finite.all():
        raise ValueError(f"{who}: logits must be finite numbers, got {logits[~finite][0]}")
