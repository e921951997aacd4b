"""Encoder–decoder networks: P(y₁ … y_T | x), for sequences of unequal length, or for a vector and a sequence."""

from __future__ import annotations

import itertools
import math

from collections.abc import Iterable
from typing import Any

from tinygrad_rnn.autograd import nest
from tinygrad_rnn.autograd.tensor import Tensor
from tinygrad_rnn.nn.attention_cells import AttentionCell, ContextCell
from tinygrad_rnn.nn.cells import Cell
from tinygrad_rnn.nn.layers import Dropout, Linear
from tinygrad_rnn.nn.module import Module
from tinygrad_rnn.nn.recurrent import Recurrent
from tinygrad_rnn.nn.rnn import Layers
from tinygrad_rnn.ops import concat, split, tanh


class Bridge(Module):
    """The first state of a cell from a vector: each part tanh(v W + b). Bahdanau et al. (2014), arXiv:1409.0473.

    v: (B, D)  W: (D, N)  b: (N,), N the numbers in the state of one sequence  returns: a state of `cell`
    """

    def __init__(self, size: int, cell: Cell):
        initial = cell.initial_state(1)
        count = itertools.count()
        self.shapes = [s.shape[1:] for s in nest.leaves(initial)]
        self.structure = nest.map_leaves(lambda _: next(count), initial)
        self.linear = Linear(size, sum(map(math.prod, self.shapes)))

    def forward(self, v: Tensor) -> Any:
        parts = split(tanh(self.linear(v)), [math.prod(shape) for shape in self.shapes], axis=-1)
        pairs = zip(parts, self.shapes, strict=True)
        leaves = [p if len(shape) == 1 else p.reshape((len(v), *shape)) for p, shape in pairs]
        return nest.map_leaves(leaves.__getitem__, self.structure)


class EncoderDecoder(Module):
    """An encoder reads x, a decoder writes y: P(y | x) = Π P(y_t | y_1 … y_{t-1}, x).

    source     from what is given to what the encoder reads: an embedding of ids; None if it is read as it is
    encoder    nn.RNN, nn.LSTM, nn.GRU, nn.Bidirectional, nn.Recurrent; None: a vector is given, and starts the decoder
    bridge     from what the encoder ends with (its whole last state, side by side) to the decoder's first state
    target     an embedding of the ids y
    decoder    a cell: nn.ContextCell reads C, what the encoder ends with, at each step; nn.AttentionCell looks at all
               its outputs; any other has to remember what the bridge gave. Sutskever et al. (2014), arXiv:1409.3215
    output     from what the decoder returns to logits
    dropout    the share that is dropped of what the encoder and the decoder read and return, in training
    """

    def __init__(
        self, source: Module | None, encoder: Module | None, bridge: Module, target: Module, decoder: Cell,
        output: Module, *, dropout: float = 0.0, engine: str = "auto",
    ):  # fmt: skip
        if encoder is None and isinstance(decoder, AttentionCell):
            raise ValueError("EncoderDecoder: attention looks at the outputs of an encoder, there is none")
        self.source, self.encoder, self.bridge, self.target = source, encoder, bridge, target
        self.decoder, self.output, self.dropout = Recurrent(decoder, engine=engine), output, Dropout(dropout)

    def encode(self, xs: Any, lengths: Any = None) -> Any:
        """The decoder's state before its first step. xs: (S, B) ids, (S, B, I), or (B, D) without encoder"""
        xs = xs if self.source is None else self.source(xs)
        hs: Any = None
        end = xs
        if self.encoder is not None:
            hs, end = self._read(self.dropout(xs), lengths)
        cell, state = self.decoder.cell, self.bridge(end)
        if isinstance(cell, AttentionCell):
            return cell.start(state, cell.attention.remember(hs, lengths=lengths))
        return cell.start(state, end) if isinstance(cell, ContextCell) else state

    def _read(self, xs: Tensor, lengths: Any) -> tuple[Tensor, Tensor]:
        """What the encoder says of each step (S, B, V), and all that it ends with, side by side (B, D)."""
        encoder: Any = self.encoder
        if type(encoder).forward is Layers.forward:
            hs, states = encoder(xs, lengths=lengths, joined=False)
            leaves = [s for each in zip(*map(nest.leaves, states), strict=True) for s in each]
        else:
            hs, state = encoder(xs, lengths=lengths)
            leaves = nest.leaves(state)
            if isinstance(encoder, Layers):  # (L·D, B, H)
                leaves = [s.swapaxes(0, 1) for s in leaves]
        flat = [s if s.ndim == 2 else s.reshape((len(s), -1)) for s in leaves]
        return self.dropout(hs), flat[0] if len(flat) == 1 else concat(flat, axis=-1)

    def forward(self, xs: Any, ys: Any, lengths: Any = None) -> Tensor:
        """Teacher forcing. ys: (T, B), the ids before those to be said  returns: logits (T, B, V) of these"""
        return self.output(self.decode(xs, ys, lengths))

    def decode(self, xs: Any, ys: Any, lengths: Any = None) -> Tensor:
        """What the output layer is given, (T, B, H), by teacher forcing."""
        outputs, _ = self.decoder(self.dropout(self.target(ys)), self.encode(xs, lengths))
        return self.dropout(outputs)

    def step(self, ids: Any, state: Any) -> tuple[Tensor, Any]:
        """One step of the decoder. ids: (B,), the ones before  returns: logits (B, V), the new state"""
        y, state = self.decoder.cell(self.dropout(self.target(ids)), state)
        return self.output(self.dropout(y)), state


def state_size(cells: Iterable[Cell]) -> int:
    """The numbers in the states of cells, for one sequence: what a bridge is given."""
    return sum(math.prod(s.shape[1:]) for cell in cells for s in nest.leaves(cell.initial_state(1)))
