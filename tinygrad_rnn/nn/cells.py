"""Cells: one time step each. cell(x, state) -> (y, state).

Letters: x (B, I) the input, h (B, H) the hidden state, c (B, H) the memory, σ the sigmoid, ⊙ the product of elements.
A weight that acts on x is called U, one that acts on h is W; both stand to the right: x U + h W + b. Gates that
read the same operands have their weights side by side in one matrix, in the order that the class names.
"""

from __future__ import annotations

import math

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from tinygrad_rnn.autograd import nest
from tinygrad_rnn.autograd.arrays import xp
from tinygrad_rnn.autograd.tensor import Parameter, Tensor
from tinygrad_rnn.nn import init
from tinygrad_rnn.nn.layers import Dropout, check_whole
from tinygrad_rnn.nn.module import Module
from tinygrad_rnn.ops import chunk, relu, sigmoid, tanh


class Cell(Module):
    """One time step. A cell of your own defines two methods; running it over time, training and drawing it follow.

    class Leaky(nn.Cell):
        def __init__(self, input_size, hidden_size):
            self.hidden_size = hidden_size
            self.U = nn.Parameter(nn.init.xavier_uniform((input_size, hidden_size)))

        def initial_state(self, batch_size):
            return self.zeros(batch_size, self.hidden_size)

        def forward(self, x, h):
            h = 0.9 * h + ops.tanh(x @ self.U)
            return h, h
    """

    def initial_state(self, batch_size: int) -> Any:
        """The state before the first step: any nest of tensors, each (B, ...)."""
        raise NotImplementedError(f"{type(self).__name__}: must define initial_state(batch_size) -> state")

    def forward(self, x: Tensor, state: Any) -> tuple[Tensor, Any]:
        """x: (B, I)  state: a nest of (B, ...)  returns: y (B, H) and the new state, of the same shapes."""
        raise NotImplementedError(f"{type(self).__name__}: must define forward(x, state) -> (y, state)")

    def zeros(self, *shape: int) -> Tensor:
        """Zeros of the dtype and on the device of the cell's parameters, for `initial_state`."""
        for like in self.__dict__.values():
            if isinstance(like, Parameter):
                break
        else:
            like = next(iter(self.parameters()), None)
        array = init.zeros(()).array if like is None else like.array
        return Tensor(xp(array).zeros(shape, array.dtype))


class HiddenCell(Cell):
    """What the cells share whose state is h (B, H) alone. They set hidden_size."""

    hidden_size: int

    def initial_state(self, batch_size: int) -> Tensor:
        """h = 0, (B, H), in the dtype and on the device of the parameters."""
        return self.zeros(batch_size, self.hidden_size)


class RNNCell(HiddenCell):
    """The vanilla recurrent cell. Elman (1990).

        h' = tanh(x U + h W + b)      y = h'

    U: (I, H)  W: (H, H)  b: (H,)  state: h (B, H)  nonlinearity: "tanh" or "relu"
    biases: 2 adds a second one to b, b_h: (H,), as PyTorch's bias_hh to its bias_ih; their sum learns twice as fast
    """

    def __init__(self, input_size: int, hidden_size: int, *, nonlinearity: str = "tanh", biases: int = 1):
        if nonlinearity not in ("tanh", "relu"):
            raise ValueError(f'RNNCell: nonlinearity must be "tanh" or "relu", got {nonlinearity!r}')
        self.input_size, self.hidden_size, self.nonlinearity = input_size, hidden_size, nonlinearity
        self.U, self.W, self.b = _weights(self, 1)
        self.b_h = _second(self, biases)

    def forward(self, x: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        activation: Callable = tanh if self.nonlinearity == "tanh" else relu
        h = activation(x @ self.U + state @ self.W + _bias(self))
        return h, h


class LSTMState(NamedTuple):
    """The state of an LSTM. h: (B, H), what it puts out  c: (B, H), its memory"""

    h: Tensor
    c: Tensor


class MemoryCell(Cell):
    """What the cells share whose state is LSTMState(h, c). They set hidden_size."""

    hidden_size: int

    def initial_state(self, batch_size: int) -> LSTMState:
        """h = c = 0, each (B, H), in the dtype and on the device of the parameters."""
        return LSTMState(self.zeros(batch_size, self.hidden_size), self.zeros(batch_size, self.hidden_size))


class LSTMCell(MemoryCell):
    """Long short-term memory with a forget gate. Gers, Schmidhuber and Cummins (2000), without peepholes.

        f, i, o = σ(x U + h W + b), each with its own U, W, b
        c' = f ⊙ c + i ⊙ tanh(x U + h W + b)
        h' = o ⊙ tanh(c')             y = h'

    With output_gate=False there is no o, and h' = tanh(c').

    U: (I, 4H)  W: (H, 4H)  b: (4H,), gates in the order i, f, g (the tanh), o; 3H without the output gate
    state: LSTMState(h, c)
    forget_bias: the initial bias of f; 1 keeps early gradients alive. Gers et al. (2000); Jozefowicz et al. (2015).
    biases: 2 adds a second one, b_h, of the size of b, as in `RNNCell`
    """

    def __init__(
        self, input_size: int, hidden_size: int, *, output_gate: bool = True, forget_bias: float = 1.0, biases: int = 1
    ):
        self.input_size, self.hidden_size, self.output_gate = input_size, hidden_size, output_gate
        self.U, self.W, self.b = _weights(self, 4 if output_gate else 3)
        bias = self.b.numpy()
        bias[hidden_size : 2 * hidden_size] = forget_bias
        self.b.data = bias
        self.b_h = _second(self, biases)

    def forward(self, x: Tensor, state: LSTMState) -> tuple[Tensor, LSTMState]:
        h, c = state
        i, f, g, *o = chunk(x @ self.U + h @ self.W + _bias(self), 4 if self.output_gate else 3, axis=-1)
        f, i, g = sigmoid(f), sigmoid(i), tanh(g)
        c = f * c + i * g
        o = [sigmoid(part) for part in o]
        h = o[0] * tanh(c) if o else tanh(c)
        return h, LSTMState(h, c)


class GRUCell(HiddenCell):
    """The gated recurrent unit.

        z = σ(x U_z + h W_z + b_z)
        r = σ(x U_r + h W_r + b_r)
        n = tanh(x U_n + (r ⊙ h) W_n + b_n)             reset="before": Cho et al. (2014), arXiv:1406.1078
        n = tanh(x U_n + b_n + r ⊙ (h W_n + b_hn))      reset="after": PyTorch's and cuDNN's
        h' = (1 - z) ⊙ h + z ⊙ n      y = h'

    PyTorch's z is 1 - z here: its h' = (1 - z) ⊙ n + z ⊙ h.

    U: (I, 3H)  W: (H, 3H)  b: (3H,), in the order z, r, n; b_hn: (H,) with reset="after"
    state: h (B, H)
    biases: 2 adds a second one, b_h: (3H,), as in `RNNCell`; with reset="after" its last third is b_hn
    """

    def __init__(self, input_size: int, hidden_size: int, *, reset: str = "before", biases: int = 1):
        if reset not in ("before", "after"):
            raise ValueError(f'GRUCell: reset must be "before" or "after" the product with W_n, got {reset!r}')
        self.input_size, self.hidden_size, self.reset = input_size, hidden_size, reset
        self.U, self.W, self.b = _weights(self, 3)
        self.b_h = _second(self, biases)
        if reset == "after" and biases == 1:
            self.b_hn = Parameter(init.zeros((hidden_size,)))

    def forward(self, x: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        h, two = state, 2 * self.hidden_size
        if self.reset == "after":
            xU, hW = x @ self.U + self.b, h @ self.W if self.b_h is None else h @ self.W + self.b_h
            z, r = chunk(sigmoid(xU[:, :two] + hW[:, :two]), 2, axis=-1)
            n = tanh(xU[:, two:] + r * (hW[:, two:] + self.b_hn if self.b_h is None else hW[:, two:]))
        else:
            xU = x @ self.U + _bias(self)
            z, r = chunk(sigmoid(xU[:, :two] + h @ self.W[:, :two]), 2, axis=-1)
            n = tanh(xU[:, two:] + (r * h) @ self.W[:, two:])
        h = (1 - z) * h + z * n
        return h, h


class Stack(Cell):
    """Cells on top of each other, as one cell: each reads the output of the one below it at the same step.

    state: a tuple with the state of each cell, lowest first
    dropout: the share of each output that is dropped on its way up (not after the last cell), while training
    """

    def __init__(self, cells: Sequence[Cell], *, dropout: float = 0.0):
        if not isinstance(cells, (list, tuple)):
            raise TypeError(f"Stack: must get a list of cells, got {type(cells).__name__}")
        if not cells:
            raise ValueError("Stack: there must be at least one cell, got none")
        self.cells = list(cells)
        self.dropout = Dropout(dropout)

    def initial_state(self, batch_size: int) -> tuple:
        """The initial state of each cell, as a tuple, lowest first."""
        return tuple(cell.initial_state(batch_size) for cell in self.cells)

    def forward(self, x: Tensor, state: tuple) -> tuple[Tensor, tuple]:
        new: list[Any] = []
        for cell, s in zip(self.cells, state, strict=True):
            y, s = cell(self.dropout(x) if new else x, s)
            new.append(s)
            x = y
        return x, tuple(new)


def check_sizes(who: str, input_size: int, hidden_size: int) -> None:
    """ValueError for a layer without units."""
    check_whole(who, input_size=input_size, hidden_size=hidden_size)
    if input_size < 0 or hidden_size < 1:
        raise ValueError(
            f"{who}: input_size must be at least 0 and hidden_size at least 1, got {input_size} and {hidden_size}"
        )


def _weights(cell: Any, gates: int) -> tuple[Parameter, Parameter, Parameter]:
    """U uniform by its fan-in, W orthogonal gate by gate, b zero; of the sizes that the cell has."""
    input_size, hidden_size = cell.input_size, cell.hidden_size
    check_sizes(type(cell).__name__, input_size, hidden_size)
    U = init.uniform((input_size, gates * hidden_size), 1 / math.sqrt(max(input_size, 1)))
    W = init.orthogonal((hidden_size, gates * hidden_size))
    return Parameter(U), Parameter(W), Parameter(init.zeros((gates * hidden_size,)))


def _second(cell: Any, biases: int) -> Parameter | None:
    """PyTorch's second bias, if there are to be two."""
    if biases not in (1, 2):
        raise ValueError(f"{type(cell).__name__}: biases must be 1 or 2, got {biases}")
    return Parameter(init.zeros(cell.b.shape)) if biases == 2 else None


def _bias(cell: Any) -> Tensor:
    """The bias that a cell adds: b, with PyTorch's second one if it has that."""
    return cell.b if cell.b_h is None else cell.b + cell.b_h


def detached(state: Any) -> Any:
    """A state cut off from its history: where truncated backpropagation through time stops."""
    return nest.map_leaves(lambda t: t.detach() if isinstance(t, Tensor) else t, state)
