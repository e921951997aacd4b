"""More cells: known variants of the LSTM and the GRU, and recurrent cells with rectifiers.

Letters as in cells.py: x (B, I) the input, h (B, H) the hidden state, c (B, H) the memory, σ the sigmoid, ⊙ the product
of elements; U acts on x and W on h, both from the right; a lower-case weight is a vector.
"""

from __future__ import annotations

import math

import numpy as np

from tinygrad_rnn.autograd.tensor import Parameter, Tensor
from tinygrad_rnn.nn import init
from tinygrad_rnn.nn.cells import (
    Cell,
    HiddenCell,
    LSTMState,
    MemoryCell,
    RNNCell,
    _bias,
    _second,
    _weights,
    check_sizes,
)
from tinygrad_rnn.nn.layers import LayerNorm, check_whole
from tinygrad_rnn.ops import chunk, relu, sigmoid, tanh


class PeepholeLSTMCell(MemoryCell):
    """An LSTM whose gates see the memory. Gers, Schraudolph and Schmidhuber (2002), Learning Precise Timing.

        i = σ(x U_i + h W_i + b_i + p_i ⊙ c)
        f = σ(x U_f + h W_f + b_f + p_f ⊙ c)
        c' = f ⊙ c + i ⊙ tanh(x U_g + h W_g + b_g)
        o = σ(x U_o + h W_o + b_o + p_o ⊙ c')
        h' = o ⊙ tanh(c')             y = h'

    U: (I, 4H)  W: (H, 4H)  b: (4H,), in the order i, f, g, o  p_i, p_f, p_o: (H,), 0 at first
    state: LSTMState(h, c)  forget_bias: the initial b_f
    """

    def __init__(self, input_size: int, hidden_size: int, *, forget_bias: float = 1.0):
        self.input_size, self.hidden_size = input_size, hidden_size
        self.U, self.W, self.b = _weights(self, 4)
        _open(self.b, 1, hidden_size, forget_bias)
        self.p_i, self.p_f, self.p_o = (Parameter(init.zeros((hidden_size,))) for _ in range(3))

    def forward(self, x: Tensor, state: LSTMState) -> tuple[Tensor, LSTMState]:
        h, c = state
        i, f, g, o = chunk(x @ self.U + h @ self.W + self.b, 4, axis=-1)
        f, i, g = sigmoid(f + self.p_f * c), sigmoid(i + self.p_i * c), tanh(g)
        c = f * c + i * g
        o = sigmoid(o + self.p_o * c)
        h = o * tanh(c)
        return h, LSTMState(h, c)


class CoupledLSTMCell(MemoryCell):
    """An LSTM that lets in as much as it forgets: i = 1 - f. Greff et al. (2017), arXiv:1503.04069: CIFG, no peepholes.

        f, o = σ(x U + h W + b), each with its own U, W, b
        c' = f ⊙ c + (1 - f) ⊙ tanh(x U + h W + b)
        h' = o ⊙ tanh(c')             y = h'

    U: (I, 3H)  W: (H, 3H)  b: (3H,), in the order f, g (the tanh), o
    state: LSTMState(h, c)  forget_bias: the initial bias of f
    """

    def __init__(self, input_size: int, hidden_size: int, *, forget_bias: float = 1.0):
        self.input_size, self.hidden_size = input_size, hidden_size
        self.U, self.W, self.b = _weights(self, 3)
        _open(self.b, 0, hidden_size, forget_bias)

    def forward(self, x: Tensor, state: LSTMState) -> tuple[Tensor, LSTMState]:
        h, c = state
        f, g, o = chunk(x @ self.U + h @ self.W + self.b, 3, axis=-1)
        f, g, o = sigmoid(f), tanh(g), sigmoid(o)
        c = f * c + (1 - f) * g
        h = o * tanh(c)
        return h, LSTMState(h, c)


class LayerNormLSTMCell(MemoryCell):
    """An LSTM with layer normalisation. Ba, Kiros and Hinton (2016), arXiv:1607.06450, equations 20 to 22.

        z = LN(x U) + LN(h W) + b, each LN over all 4H numbers with its own gain and bias
        i, f, g, o = the quarters of z
        c' = σ(f) ⊙ c + σ(i) ⊙ tanh(g)
        h' = σ(o) ⊙ tanh(LN(c'))      y = h'

    U: (I, 4H)  W: (H, 4H)  b: (4H,)  norm_x, norm_h: LayerNorm(4H)  norm_c: LayerNorm(H)
    state: LSTMState(h, c)  forget_bias: the initial b of f  eps: that of each LN
    """

    def __init__(self, input_size: int, hidden_size: int, *, forget_bias: float = 1.0, eps: float = 1e-5):
        self.input_size, self.hidden_size = input_size, hidden_size
        self.U, self.W, self.b = _weights(self, 4)
        _open(self.b, 1, hidden_size, forget_bias)
        self.norm_x, self.norm_h = LayerNorm(4 * hidden_size, eps), LayerNorm(4 * hidden_size, eps)
        self.norm_c = LayerNorm(hidden_size, eps)

    def forward(self, x: Tensor, state: LSTMState) -> tuple[Tensor, LSTMState]:
        h, c = state
        i, f, g, o = chunk(self.norm_x(x @ self.U) + self.norm_h(h @ self.W) + self.b, 4, axis=-1)
        c = sigmoid(f) * c + sigmoid(i) * tanh(g)
        h = sigmoid(o) * tanh(self.norm_c(c))
        return h, LSTMState(h, c)


class ProjectedLSTMCell(Cell):
    """An LSTM that passes on a projection of its output. Sak et al. (2014), arXiv:1402.1128, without peepholes.

        i, f, o = σ(x U + h W + b), each with its own U, W, b
        c' = f ⊙ c + i ⊙ tanh(x U + h W + b)
        h' = (o ⊙ tanh(c')) R         y = h'

    Letter P: proj_size, PyTorch's name. y and h are (B, P), c is (B, H).

    U: (I, 4H)  W: (P, 4H)  b: (4H,), in the order i, f, g (the tanh), o  R: (H, P)
    state: LSTMState(h, c)  forget_bias: the initial bias of f  biases: as in `RNNCell`
    """

    def __init__(self, input_size: int, hidden_size: int, proj_size: int, *, forget_bias: float = 1.0, biases: int = 1):
        check_whole("ProjectedLSTMCell", proj_size=proj_size, hidden_size=hidden_size)
        if not 1 <= proj_size <= hidden_size:
            raise ValueError(
                f"ProjectedLSTMCell: proj_size must be from 1 to hidden_size = {hidden_size}, got {proj_size}"
            )
        check_sizes("ProjectedLSTMCell", input_size, hidden_size)
        self.input_size, self.hidden_size, self.proj_size = input_size, hidden_size, proj_size
        self.U, self.W = _by_fan_in(input_size, 4 * hidden_size), _by_fan_in(proj_size, 4 * hidden_size)
        self.b = Parameter(init.zeros((4 * hidden_size,)))
        _open(self.b, 1, hidden_size, forget_bias)
        self.b_h = _second(self, biases)
        self.R = Parameter(init.orthogonal((hidden_size, proj_size)))

    def initial_state(self, batch_size: int) -> LSTMState:
        """h = 0, (B, P), and c = 0, (B, H)."""
        return LSTMState(self.zeros(batch_size, self.proj_size), self.zeros(batch_size, self.hidden_size))

    def forward(self, x: Tensor, state: LSTMState) -> tuple[Tensor, LSTMState]:
        h, c = state
        i, f, g, o = chunk(x @ self.U + h @ self.W + _bias(self), 4, axis=-1)
        f, i, g, o = sigmoid(f), sigmoid(i), tanh(g), sigmoid(o)
        c = f * c + i * g
        h = (o * tanh(c)) @ self.R
        return h, LSTMState(h, c)


class MGUCell(HiddenCell):
    """The minimal gated unit: a GRU with one gate. Zhou et al. (2016), arXiv:1603.09420.

        f = σ(x U_f + h W_f + b_f)
        n = tanh(x U_n + (f ⊙ h) W_n + b_n)
        h' = (1 - f) ⊙ h + f ⊙ n      y = h'

    U: (I, 2H)  W: (H, 2H)  b: (2H,), in the order f, n
    state: h (B, H)
    """

    def __init__(self, input_size: int, hidden_size: int):
        self.input_size, self.hidden_size = input_size, hidden_size
        self.U, self.W, self.b = _weights(self, 2)

    def forward(self, x: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        h, one = state, self.hidden_size
        xU = x @ self.U + self.b
        f = sigmoid(xU[:, :one] + h @ self.W[:, :one])
        n = tanh(xU[:, one:] + (f * h) @ self.W[:, one:])
        h = (1 - f) * h + f * n
        return h, h


class IndRNNCell(HiddenCell):
    """The independently recurrent cell: each unit sees itself only. Li et al. (2018), arXiv:1803.04831.

        h' = relu(x U + w ⊙ h + b)    y = h'

    U: (I, H)  w: (H,), uniform from 0 to 1 at first  b: (H,)  state: h (B, H)
    """

    def __init__(self, input_size: int, hidden_size: int):
        check_sizes("IndRNNCell", input_size, hidden_size)
        self.input_size, self.hidden_size = input_size, hidden_size
        self.U = _by_fan_in(input_size, hidden_size)
        self.w = Parameter(init.uniform((hidden_size,), 0.5) + 0.5)
        self.b = Parameter(init.zeros((hidden_size,)))

    def forward(self, x: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        h = relu(x @ self.U + self.w * state + self.b)
        return h, h


def irnn_cell(input_size: int, hidden_size: int, scale: float = 1.0) -> RNNCell:
    """An RNNCell of rectifiers that starts as an integrator. Le, Jaitly and Hinton (2015), arXiv:1504.00941.

        h' = relu(x U + h W + b)      W = scale · identity, U normal with standard deviation 0.001, b = 0 at first

    scale: less than 1 forgets
    """
    cell = RNNCell(input_size, hidden_size, nonlinearity="relu")
    cell.W.data = scale * np.eye(hidden_size)
    cell.U.data = init.normal((input_size, hidden_size), 0.001)
    return cell


def _open(b: Parameter, gate: int, hidden_size: int, forget_bias: float) -> None:
    """Set the biases of the forget gate. gate: its number in b, from 0"""
    bias = b.numpy()
    bias[gate * hidden_size : (gate + 1) * hidden_size] = forget_bias
    b.data = bias


def _by_fan_in(rows: int, columns: int) -> Parameter:
    """A weight, uniform from -1/√n to 1/√n, n the number of its rows."""
    return Parameter(init.uniform((rows, columns), 1 / math.sqrt(max(rows, 1))))
