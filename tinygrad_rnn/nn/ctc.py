"""Connectionist temporal classification: the loss of an output that is shorter than its input, and aligned nowhere."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from tinygrad_rnn import ops
from tinygrad_rnn.autograd.arrays import Array, xp
from tinygrad_rnn.autograd.primitive import primitive
from tinygrad_rnn.autograd.tensor import Tensor, tensor
from tinygrad_rnn.nn.cells import Cell
from tinygrad_rnn.nn.recurrent import Recurrent
from tinygrad_rnn.nn.reduction import at_least_one, check_tensor

NEVER = -1e30  # log 0: sums of it are finite
MOST = 1 << 22  # zeros and ones by which gradients of labels are added up
ROUND = 8  # labels: targets are padded to a multiple of so many, so that few sizes are compiled


class CTCCell(Cell):
    """One step of CTC's forward recursion: the state is log α over the labels of a target with blanks between them.

        log α'(s) = log(α(s) + α(s - 1) + may_skip(s) α(s - 2)) + log p(label(s))

    x: (B, S), the log probabilities of these labels  state: (log α (B, S), 0 where a label may be reached from the one
    before the blank before it, else -1e30 (B, S))  y: the new log α
    Graves et al. (2006), equations 6 to 8.
    """

    def forward(self, x: Tensor, state: Any) -> tuple[Tensor, Any]:
        log_alpha, skip = state
        never = self.zeros(len(x), 1) + NEVER
        one_before = ops.concat([never, log_alpha[:, :-1]], 1)
        two_before = ops.concat([never, one_before[:, :-1]], 1) + skip
        largest = ops.maximum(ops.maximum(log_alpha, one_before), two_before).detach()
        total = ops.exp(log_alpha - largest) + ops.exp(one_before - largest) + ops.exp(two_before - largest)
        log_alpha = ops.maximum(largest + ops.log(total) + x, NEVER)
        return log_alpha, (log_alpha, skip)


_over_time = Recurrent(CTCCell())


def ctc_loss(
    log_probs: Tensor, targets: Any, input_lengths: Any, target_lengths: Any, *, blank: int = 0,
    reduction: str = "mean", zero_infinity: bool = False,
) -> Tensor:  # fmt: skip
    """-log P(target), where P is the sum over all alignments: sequences of labels and blanks, one a step, that are the
    target once repetitions are merged and blanks left out.

    log_probs: (T, B, V), of log_softmax  targets: (B, S) integers, of which target_lengths (B,) count; or all of them
    one behind the other (Σ target_lengths,)  input_lengths: (B,), from 0 to T
    reduction: "none" (B,), "sum", or "mean", which as PyTorch's divides each loss by its target's length first
    returns: in nats; infinite where no alignment is as short as the input, and the gradient is 0 there. With
    zero_infinity such a loss is 0. In float16 it is computed in float32.
    ValueError for lengths that do not fit, IndexError for a target that is not from 0 to V - 1 or is the blank.
    Graves, Fernández, Gomez and Schmidhuber (2006), Connectionist temporal classification, ICML.

    >>> import numpy as np
    >>> import tinygrad_rnn as tg
    >>> log_probs = tg.ops.log_softmax(tg.zeros(3, 1, 2), axis=-1)  # three steps, a blank and one label
    >>> loss = tg.nn.ctc_loss(log_probs, [[1]], [3], [1], reduction="sum")  # 6 of 8 sequences
    >>> round(float(np.exp(-loss.item())), 6)
    0.75
    """
    check_tensor(log_probs, "ctc_loss: log_probs")
    if log_probs.ndim != 3:
        raise ValueError(f"ctc_loss: log_probs must be (T, B, V), got {log_probs.shape}")
    if reduction not in ("none", "sum", "mean"):
        raise ValueError(f'ctc_loss: reduction must be "sum", "mean" or "none", got {reduction!r}')
    T, B, V = log_probs.shape
    steps = _lengths("input_lengths", input_lengths, B, T)
    rows = _targets(targets, _lengths("target_lengths", target_lengths, B), V, blank)
    dtype = np.dtype(np.float32 if log_probs.dtype == np.float16 else log_probs.dtype)
    labels, skip, ends = extended(rows, blank)
    loss = -_log_total(log_probs.astype(dtype), labels, skip, ends, steps)
    loss = ops.where(loss.detach() < -NEVER / 2, loss, 0.0 if zero_infinity else np.inf)
    if reduction == "mean":
        sizes = np.maximum([len(row) for row in rows], 1).astype(dtype)
        loss = (loss / tensor(sizes, device=loss.device)).sum() / at_least_one(B, dtype)
    elif reduction == "sum":
        loss = loss.sum()
    return loss.astype(log_probs.dtype)


def _log_total(log_probs: Tensor, labels: np.ndarray, skip: np.ndarray, ends: np.ndarray, steps: np.ndarray) -> Tensor:
    """log P of each sequence, NEVER or less where that is 0."""
    (B, S), make = labels.shape, lambda a: tensor(a.astype(log_probs.dtype), device=log_probs.device)
    first = np.full((B, S), NEVER)
    first[:, 0] = 0  # before the first step: from there its blank and its first label can be reached
    if len(log_probs) and B:
        xs = _of_labels(log_probs, at=xp(log_probs.array).asarray(labels + log_probs.shape[2] * np.arange(B)[:, None]))
        _, (log_alpha, _) = _over_time(xs, (make(first), make(skip)), lengths=steps)
    else:
        log_alpha = make(first) + log_probs.sum()
    return ops.logsumexp(log_alpha + make(np.where(ends, 0, NEVER)), -1)


@primitive
def _of_labels(log_probs: Array, *, at: Array) -> Array:
    """(T, B, S): those at places in the rows (B V,) of all steps. at: (B, S), the same at each step"""
    T, B, V = log_probs.shape
    return xp(log_probs).take(log_probs.reshape(T, B * V), at, axis=1)


def _of_labels_rule(g: Any, log_probs_shape: tuple[int, ...], at: Array) -> Any:
    """What comes to one label from several places is added up: by products with rows of zeros and a one, if few."""
    T, B, V = log_probs_shape
    lib = xp(at)
    if B * at.shape[1] * V > MOST:
        zeros = lib.zeros((T, B * V), g.dtype)
        return ops.scatter_add(zeros, lib.broadcast_to(at.ravel(), (T, at.size)), g.reshape(T, -1), 1).reshape(T, B, V)
    ones = lib.zeros((B, at.shape[1], V), g.dtype)
    ones[lib.arange(B)[:, None], lib.arange(at.shape[1]), at % V] = 1
    return ops.permute(ops.matmul(ops.permute(g, (1, 0, 2)), ones), (1, 0, 2))


_of_labels.vjp(log_probs=_of_labels_rule)


def extended(targets: Sequence[np.ndarray], blank: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Targets with blanks between and around their labels, (B, S) with S = 2 L + 1; 0 where the blank before may be
    skipped, else NEVER; and where an alignment may end."""
    longest = max([len(row) for row in targets], default=0)
    shape = len(targets), 2 * (-(-longest // ROUND) * ROUND) + 1
    labels, skip, ends = np.full(shape, blank), np.full(shape, NEVER), np.zeros(shape, bool)
    for i, row in enumerate(targets):
        n = 2 * len(row)
        labels[i, 1:n:2] = row
        skip[i, 3:n:2] = np.where(row[1:] != row[:-1], 0, NEVER)
        ends[i, max(n - 1, 0) : n + 1] = True
    return labels, skip, ends


def _lengths(name: str, given: Any, B: int, most: int | None = None) -> np.ndarray:
    """A number for each sequence, on the host."""
    found = _on_host(given)
    if found.shape != (B,) or (found.size and found.dtype.kind not in "iu"):
        raise ValueError(f"ctc_loss: {name} must be ({B},) integers, got {found.dtype} {found.shape}")
    if found.size and (found.min() < 0 or (most is not None and found.max() > most)):
        bound = "at least 0" if most is None else f"from 0 to {most}, the steps of log_probs"
        raise ValueError(f"ctc_loss: {name} must be {bound}, got {found.min()} to {found.max()}")
    return found.astype(np.int64)


def _targets(targets: Any, lengths: np.ndarray, V: int, blank: int) -> list[np.ndarray]:
    """The labels of each sequence, which are checked."""
    if not (isinstance(blank, (int, np.integer)) and 0 <= blank < V):
        raise IndexError(f"ctc_loss: blank must be from 0 to {V - 1}, got {blank}")
    ids = _on_host(targets)
    if ids.ndim == 1 and len(ids) == lengths.sum():
        rows = np.split(ids, np.cumsum(lengths)[:-1]) if len(lengths) else []
    elif ids.ndim == 2 and len(ids) == len(lengths) and ids.shape[1] >= lengths.max(initial=0):
        rows = [row[:n] for row, n in zip(ids, lengths, strict=True)]
    else:
        longest = lengths.max(initial=0)
        raise ValueError(
            f"ctc_loss: targets must be ({len(lengths)}, {longest} or more) or ({lengths.sum()},), got {ids.shape}"
        )
    together = np.concatenate(rows) if rows else ids.reshape(-1)[:0]
    if together.size and together.dtype.kind not in "iu":
        raise TypeError(f"ctc_loss: targets must be integers, got dtype {ids.dtype}")
    if together.size and (together.min() < 0 or together.max() >= V):
        raise IndexError(f"ctc_loss: targets must be from 0 to {V - 1}, got {together.min()} to {together.max()}")
    if (together == blank).any():
        raise IndexError(f"ctc_loss: no target may be the blank, {blank}")
    return [np.asarray(row, np.int64) for row in rows]


def _on_host(given: Any) -> np.ndarray:
    return given.numpy() if isinstance(given, Tensor) else np.asarray(given)
