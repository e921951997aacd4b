"""Small networks round a cell, recorded so that they can be drawn. Their weights are as they were initialised."""

from __future__ import annotations

import numpy as np

from tinygrad_rnn import nn
from tinygrad_rnn.autograd.graph import scope
from tinygrad_rnn.autograd.tensor import Tensor, tensor
from tinygrad_rnn.tasks.cells_by_name import MakeCell, stacked

SIZE = 3  # of an input
CLASSES = 2


def predictor(make: MakeCell, hidden: int, steps: int, layers: int = 1) -> Tensor:
    """L = Σ Lₜ: a stack of cells with a read-out and a loss at each step."""
    cell, output = stacked(make, SIZE, hidden, layers), nn.Linear(hidden, CLASSES)
    state, losses = cell.initial_state(1), []
    for t, x in enumerate(_inputs(steps)):
        with scope(t):
            y, state = cell(x, state)
            losses.append(nn.cross_entropy(output(y), np.zeros(1, np.int64), reduction="sum"))
    return sum(losses[1:], losses[0])


def classifier(make: MakeCell, hidden: int, steps: int, layers: int = 1) -> Tensor:
    """One loss, of the last output: all gradients come from the end."""
    ys, _ = nn.Recurrent(stacked(make, SIZE, hidden, layers))(tensor(np.stack([x.array for x in _inputs(steps)])))
    return nn.cross_entropy(nn.Linear(hidden, CLASSES)(ys[-1]), np.zeros(1, np.int64), reduction="sum")


def bidirectional(make: MakeCell, hidden: int, steps: int, layers: int = 1) -> Tensor:
    """Layers of two cells each, one from the past and one from the future, over embedded tokens; one loss."""
    ids = np.arange(steps)[:, None] % CLASSES
    ys, size = nn.Embedding(CLASSES, SIZE)(ids), SIZE
    for _ in range(layers):
        ys, _ = nn.Bidirectional(make(size, hidden), make(size, hidden))(ys)
        size = 2 * hidden
    return nn.cross_entropy(nn.Linear(size, CLASSES)(ys), ids)


def attention(make: MakeCell, hidden: int, source: int, target: int) -> Tensor:
    """An encoder, and a decoder that looks back at its states: α_t = softmax(hᵀ s), c_t = Σ α_t h."""
    hs, _ = nn.Recurrent(make(SIZE, hidden))(tensor(np.stack([x.array for x in _inputs(source)])))
    decoder, output = make(hidden, hidden), nn.Linear(hidden, CLASSES)
    state, y, losses = decoder.initial_state(1), hs[-1], []
    for t in range(target):
        with scope(t):
            alpha = (hs * y).sum(-1).softmax(0)  # (S, B)
            context = (alpha.unsqueeze(-1) * hs).sum(0)
            y, state = decoder(context, state)
            losses.append(nn.cross_entropy(output(y), np.zeros(1, np.int64), reduction="sum"))
    return sum(losses[1:], losses[0])


def _inputs(steps: int) -> list[Tensor]:
    """Unlike each other, so that attention has something to choose from."""
    rng = np.random.default_rng(0)
    return [tensor(rng.normal(size=(1, SIZE)).astype(np.float32)) for _ in range(steps)]
