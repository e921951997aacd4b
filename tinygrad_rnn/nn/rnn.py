"""RNN, LSTM and GRU: layers of cells over sequences, in one direction or both, with PyTorch's arguments."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tinygrad_rnn import nest
from tinygrad_rnn.nn.cells import Cell, GRUCell, LSTMCell, LSTMState, RNNCell, Stack
from tinygrad_rnn.nn.layers import Dropout
from tinygrad_rnn.nn.module import Module
from tinygrad_rnn.nn.recurrent import Recurrent
from tinygrad_rnn.ops import concat, stack
from tinygrad_rnn.tensor import Tensor


class Bidirectional(Module):
    """Two cells over one sequence, one from the past, one from the future. Schuster and Paliwal (1997).

        f_t = forward_cell(x_t, f_{t-1})     b_t = backward_cell(x_t, b_{t+1})     y_t = [f_t, b_t]

    xs: (T, B, I)  state: that of each cell, as a pair, or None  lengths: (B,); each sequence's own end is where its
    second direction starts
    returns: ys (T, B, H_f + H_b) and a pair, f after step T-1 and b after step 0; with all_states after each step
    """

    def __init__(self, forward_cell: Cell, backward_cell: Cell, **options: Any):
        self.forwards = Recurrent(forward_cell, **options)
        self.backwards = Recurrent(backward_cell, reverse=True, **options)

    @property
    def cells(self) -> list[Cell]:
        """Its two cells."""
        return [self.forwards.cell, self.backwards.cell]

    def forward(
        self, xs: Tensor, state: Any = None, lengths: Any = None, *, all_states: bool = False
    ) -> tuple[Tensor, tuple[Any, Any]]:
        past, future = (None, None) if state is None else state
        fs, past = self.forwards(xs, past, lengths, all_states=all_states)
        bs, future = self.backwards(xs, future, lengths, all_states=all_states)
        return concat([fs, bs], axis=-1), (past, future)


class Layers(Module):
    """Layers of any cell; arguments and shapes as in `nn.RNN`. make: a function of input size and hidden size

    Layers in one direction are one stack of cells, which the compiler takes apart. With joined=False a call returns the
    states of the L·D cells as a list, in the order of `cells`.
    """

    def __init__(
        self, make: Callable[[int, int], Cell], input_size: int, hidden_size: int, num_layers: int = 1, *,
        bidirectional: bool = False, dropout: float = 0.0, engine: str = "auto", checkpoint_every: int | None = None,
    ):  # fmt: skip
        if num_layers < 1:
            raise ValueError(f"{type(self).__name__}: num_layers must be at least 1, got {num_layers}")
        self.input_size, self.hidden_size, self.num_layers = input_size, hidden_size, num_layers
        self.bidirectional, self.dropout = bidirectional, Dropout(dropout)
        options: dict[str, Any] = {"engine": engine, "checkpoint_every": checkpoint_every}
        inputs = [input_size] + [hidden_size * (2 if bidirectional else 1)] * (num_layers - 1)
        if bidirectional:
            pairs = [(make(i, hidden_size), make(i, hidden_size)) for i in inputs]
            self.layers: list[Any] = [Bidirectional(*pair, **options) for pair in pairs]
        else:
            cells = [make(i, hidden_size) for i in inputs]
            self.layers = [Recurrent(cells[0] if num_layers == 1 else Stack(cells, dropout=dropout), **options)]

    @property
    def cells(self) -> list[Cell]:
        """The L·D cells in the order of the state: layer by layer, the backward one after the forward one."""
        if self.bidirectional:
            return [cell for layer in self.layers for cell in layer.cells]
        cell = self.layers[0].cell
        return list(cell.cells) if isinstance(cell, Stack) else [cell]

    def initial_state(self, batch_size: int) -> Any:
        """The state before the first step, leaves (L·D, B, H)."""
        return _joined([cell.initial_state(batch_size) for cell in self.cells], axis=0)

    def forward(
        self, xs: Tensor, state: Any = None, lengths: Any = None, *, all_states: bool = False, joined: bool = True
    ) -> tuple[Tensor, Any]:
        given = [None] * len(self.cells) if state is None else self._separate(state)
        if self.bidirectional:
            ys, new = xs, []
            for i, layer in enumerate(self.layers):
                ys, pair = layer(
                    self.dropout(ys) if i else ys, given[2 * i : 2 * i + 2], lengths, all_states=all_states
                )
                new += pair
        else:
            below = given[0] if self.num_layers == 1 else None if state is None else tuple(given)
            ys, new = self.layers[0](xs, below, lengths, all_states=all_states)
            new = [new] if self.num_layers == 1 else new
        return ys, _joined(new, axis=1 if all_states else 0) if joined else list(new)

    def _separate(self, state: Any) -> list[Any]:
        """The state of each cell."""
        n = len(self.cells)
        for s in nest.leaves(state):
            if s.ndim < 2 or len(s) != n:
                raise ValueError(
                    f"{type(self).__name__}: state must have {n} rows, (layers · directions, B, …), got {s.shape}"
                )
        return [nest.map_leaves(lambda s, i=i: s[i], state) for i in range(n)]


def _joined(states: list[Any], axis: int) -> Any:
    """One state whose leaves hold those of all cells."""
    return nest.map_leaves(lambda *each: stack(each, axis=axis), *states)


class RNN(Layers):
    """Layers of vanilla recurrent cells, `nn.RNNCell`.

    xs: (T, B, I)  state: h (L·D, B, H), or None for zeros  lengths: (B,) integers, any order
    returns: ys (T, B, D·H) of the top layer, and the last h (L·D, B, H); with all_states=True h after each step,
    (T, L·D, B, H)
    L = num_layers; D = 2 with bidirectional, else 1: rows 2l and 2l + 1 are layer l from the past and from the future
    dropout: the share of each layer's output that is dropped on its way up, while training
    engine, checkpoint_every: as in `nn.Recurrent`
    """

    def __init__(
        self, input_size: int, hidden_size: int, num_layers: int = 1, *, nonlinearity: str = "tanh", **options: Any
    ):
        make = lambda i, h: RNNCell(i, h, nonlinearity=nonlinearity)
        super().__init__(make, input_size, hidden_size, num_layers, **options)


class LSTM(Layers):
    """Layers of `nn.LSTMCell`. Arguments and shapes as in `nn.RNN`; state: LSTMState(h, c), each (L·D, B, H)."""

    def __init__(self, input_size: int, hidden_size: int, num_layers: int = 1, **options: Any):
        super().__init__(LSTMCell, input_size, hidden_size, num_layers, **options)

    def _separate(self, state: Any) -> list[Any]:
        return super()._separate(LSTMState(*state))


class GRU(Layers):
    """Layers of `nn.GRUCell`. Arguments and shapes as in `nn.RNN`; reset="after" is PyTorch's nn.GRU."""

    def __init__(
        self, input_size: int, hidden_size: int, num_layers: int = 1, *, reset: str = "before", **options: Any
    ):
        make = lambda i, h: GRUCell(i, h, reset=reset)
        super().__init__(make, input_size, hidden_size, num_layers, **options)
