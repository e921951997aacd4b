"""What is learned from, in batches: a long text as parallel strands, or pairs of sequences of like lengths."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

IGNORED = -100  # stands behind the end of a target: `nn.cross_entropy` passes over it


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
    part: the strands that are read here, of B; `batch_size` and `tokens` are those of all
    """

    def __init__(self, ids: np.ndarray, batch_size: int, steps: int, part: slice = slice(None)):
        self.strand = (len(ids) - 1) // batch_size
        if self.strand < 1:
            raise ValueError(f"stream: {batch_size} strands need at least {batch_size + 1} tokens, got {len(ids)}")
        self.ids, self.batch_size, self.steps = ids, batch_size, steps
        starts = np.arange(batch_size)[part] * self.strand
        self.columns = ids[starts + np.arange(self.strand + 1)[:, None]]  # (strand + 1, B)

    def __len__(self) -> int:
        return -(-self.strand // self.steps)

    def window(self, i: int) -> tuple[np.ndarray, np.ndarray]:
        """Window i: inputs (T, B), targets (T, B)."""
        first, last = self._steps(i)
        return self.columns[first:last], self.columns[first + 1 : last + 1]

    def read(self, i: int) -> np.ndarray:
        """The different inputs of all strands in window i, sorted."""
        first, last = self._steps(i)
        whole = self.ids[: self.strand * self.batch_size].reshape(self.batch_size, -1)
        return np.unique(whole[:, first:last])

    def _steps(self, i: int) -> tuple[int, int]:
        return i * self.steps, min((i + 1) * self.steps, self.strand)

    def __iter__(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        return (self.window(i) for i in range(len(self)))

    @property
    def tokens(self) -> int:
        """The number of targets in all windows."""
        return self.strand * self.batch_size


class Batch(NamedTuple):
    """Pairs side by side, padded behind their ends.

    source: (S, B)  lengths: (B,) of the sources  inputs: (T, B), the start token and then all of the target
    targets: (T, B), the target and then the end token; IGNORED behind it
    """

    source: np.ndarray
    lengths: np.ndarray
    inputs: np.ndarray
    targets: np.ndarray


class Pairs:
    """Pairs of sequences in batches of like lengths, in another order in each epoch, the same for the same seed.

    Batches are padded to lengths of which there are four in an octave (…, 8, 10, 12, 14, 16, 20, …): layers are
    compiled for each shape, and few shapes are met again soon.

    sources, targets: ids of each sequence  start, end: the tokens before and behind each target
    """

    def __init__(
        self, sources: Sequence[np.ndarray], targets: Sequence[np.ndarray], batch_size: int, *, start: int, end: int,
        seed: int = 0,
    ):  # fmt: skip
        if len(sources) != len(targets) or not len(sources):
            raise ValueError(
                f"Pairs: there must be a target for each source, got {len(sources)} sources, {len(targets)} targets"
            )
        if min(map(len, sources)) < 1:
            raise ValueError("Pairs: a source must have at least one token, got an empty one")
        self.sources, self.targets, self.batch_size = sources, targets, batch_size
        self.start, self.end, self.seed = start, end, seed
        self._read, self._said = _Ragged(sources), _Ragged(targets, [start], [end])
        self.lengths = np.array([[len(s), len(t)] for s, t in zip(sources, targets, strict=True)])

    def __len__(self) -> int:
        return -(-len(self.lengths) // self.batch_size)

    @property
    def tokens(self) -> int:
        """The targets in an epoch, with the end of each."""
        return self.tokens_of(slice(None))

    def tokens_of(self, pairs: np.ndarray | slice) -> int:
        """The targets of some pairs, with the end of each."""
        lengths = self.lengths[pairs, 1]
        return int(lengths.sum()) + len(lengths)

    def sources_read(self, pairs: np.ndarray) -> np.ndarray:
        """The different ids that an encoder reads in a batch of these pairs, padding included: sorted."""
        return np.unique(np.concatenate([[0], *(self.sources[i] for i in pairs)]))

    def targets_read(self, pairs: np.ndarray) -> np.ndarray:
        """The different ids that a decoder reads in a batch of these pairs, padding included: sorted."""
        return np.unique(np.concatenate([[self.start, self.end], *(self.targets[i] for i in pairs)]))

    def order(self, epoch: int) -> list[np.ndarray]:
        """Which pairs each batch of an epoch holds: shuffled, then sorted by lengths, cut, and the batches shuffled."""
        rng = np.random.default_rng([self.seed, epoch])
        shuffled = rng.permutation(len(self.lengths))
        by_length = shuffled[np.lexsort(self.lengths[shuffled].T[::-1])]
        batches = [by_length[i : i + self.batch_size] for i in range(0, len(by_length), self.batch_size)]
        return [batches[i] for i in rng.permutation(len(batches))]

    def batch(self, pairs: Sequence[int] | np.ndarray) -> Batch:
        """The pairs with these numbers, side by side; their length is that of the longest, rounded up."""
        pairs = np.asarray(pairs)
        sources, targets = self.lengths[pairs].T.copy()
        steps = targets + 1  # what is said, and the end
        S, T = (rounded(int(n.max(initial=0))) for n in (sources, steps))
        return Batch(
            self._read.padded(pairs, sources, S, 0), sources,
            self._said.padded(pairs, steps, T, self.end), self._said.padded(pairs, steps, T, IGNORED, first=1),
        )  # fmt: skip

    def epoch(self, epoch: int) -> Iterator[Batch]:
        """The batches of an epoch, in its order, each made when it is asked for."""
        return map(self.batch, self.order(epoch))


class _Ragged:
    """Many sequences in one array, one after the other, with the same tokens before and behind each."""

    def __init__(self, sequences: Sequence[Any], before: Sequence[int] = (), behind: Sequence[int] = ()):
        parts = [part for s in sequences for part in (before, s, behind) if len(part)]
        self.all = np.concatenate(parts, dtype=np.int64, casting="unsafe")
        sizes = np.array([len(s) for s in sequences]) + len(before) + len(behind)
        self.starts = np.cumsum(sizes) - sizes

    def padded(self, which: Any, lengths: np.ndarray, T: int, value: int, first: int = 0) -> np.ndarray:
        """`lengths` tokens of each of some sequences, from its token `first` on, as `padded`."""
        t = np.arange(T)[:, None]
        here = t < lengths
        return np.where(here, self.all[np.where(here, self.starts[which] + first + t, 0)], value)


def rounded(n: int) -> int:
    """The next length of which there are four in an octave."""
    step = 1 << max(n.bit_length() - 3, 0)
    return -(-n // step) * step


def padded(sequences: Sequence[Any], value: float, length: int | None = None) -> np.ndarray:
    """Sequences side by side, (T, B) of ids or numbers, or (T, B, …) of vectors; `value` behind their ends.

    T = length, or that of the longest. Integers become int64, beside a value with a fraction float64; floats keep
    their dtype; an empty sequence says nothing of either. ValueError if there is no sequence, one is longer than T, or
    the steps have different shapes.
    """
    arrays = [np.asarray(s) for s in sequences]
    if not arrays:
        raise ValueError("padded: there must be at least one sequence, got none")
    longest = max(map(len, arrays))
    T = longest if length is None else length
    if longest > T:
        raise ValueError(f"padded: length must be at least that of the longest sequence, {longest}, got {T}")
    steps = {a.shape[1:] for a in arrays if len(a) or a.ndim > 1} or {()}
    if len(steps) > 1:
        raise ValueError(f"padded: steps must have one shape, got {' and '.join(map(str, sorted(steps)))}")
    some = [a for a in arrays if a.size] or [s for s in sequences if hasattr(s, "dtype")] or [np.zeros(0, np.int64)]
    dtype = np.result_type(*{a.dtype for a in some})
    if dtype.kind in "iub":
        dtype = np.dtype(np.int64 if float(value).is_integer() else np.float64)
    found = np.full((T, len(arrays), *steps.pop()), value, dtype)
    for i, a in enumerate(arrays):
        if len(a):
            found[: len(a), i] = a
    return found
