"""The cells of cells.py as a user of tinygrad_rnn writes them."""

from __future__ import annotations

import math

from typing import Any

import cells

import tinygrad_rnn as tg

from tinygrad_rnn import nn, ops
from tinygrad_rnn.nn import Parameter, init


def matrices(count: int, rows: int, columns: int) -> list[Parameter]:
    return [Parameter(init.uniform((rows, columns), 1 / math.sqrt(rows))) for _ in range(count)]


def biases(count: int, size: int) -> list[Parameter]:
    return [Parameter(init.zeros((size,))) for _ in range(count)]


class LSTM(nn.Cell):
    def __init__(self, I, H):
        self.H = H
        self.U_f, self.U_i, self.U_o, self.U_g = matrices(4, I, H)
        self.W_f, self.W_i, self.W_o, self.W_g = matrices(4, H, H)
        self.b_f, self.b_i, self.b_o, self.b_g = biases(4, H)

    def initial_state(self, batch_size):
        return self.zeros(batch_size, self.H), self.zeros(batch_size, self.H)

    def forward(self, x, state):
        h, c = state
        f = ops.sigmoid(x @ self.U_f + h @ self.W_f + self.b_f)
        i = ops.sigmoid(x @ self.U_i + h @ self.W_i + self.b_i)
        o = ops.sigmoid(x @ self.U_o + h @ self.W_o + self.b_o)
        g = ops.tanh(x @ self.U_g + h @ self.W_g + self.b_g)
        c = f * c + i * g
        h = o * ops.tanh(c)
        return h, (h, c)


class GRU(nn.Cell):
    def __init__(self, I, H):
        self.H = H
        self.U_z, self.U_r, self.U_h = matrices(3, I, H)
        self.W_z, self.W_r, self.W_h = matrices(3, H, H)
        self.b_z, self.b_r, self.b_h = biases(3, H)

    def initial_state(self, batch_size):
        return self.zeros(batch_size, self.H)

    def forward(self, x, h):
        z = ops.sigmoid(x @ self.U_z + h @ self.W_z + self.b_z)
        r = ops.sigmoid(x @ self.U_r + h @ self.W_r + self.b_r)
        h = (1 - z) * h + z * ops.tanh(x @ self.U_h + (r * h) @ self.W_h + self.b_h)
        return h, h


class RNN(nn.Cell):
    def __init__(self, I, H):
        self.H = H
        (self.U,), (self.W,), (self.b,) = matrices(1, I, H), matrices(1, H, H), biases(1, H)

    def initial_state(self, batch_size):
        return self.zeros(batch_size, self.H)

    def forward(self, x, h):
        h = ops.tanh(x @ self.U + h @ self.W + self.b)
        return h, h


class MGU(nn.Cell):
    def __init__(self, I, H):
        self.H = H
        self.U_f, self.U_h = matrices(2, I, H)
        self.W_f, self.W_h = matrices(2, H, H)
        self.b_f, self.b_h = biases(2, H)

    def initial_state(self, batch_size):
        return self.zeros(batch_size, self.H)

    def forward(self, x, h):
        f = ops.sigmoid(x @ self.U_f + h @ self.W_f + self.b_f)
        h = (1 - f) * h + f * ops.tanh(x @ self.U_h + (f * h) @ self.W_h + self.b_h)
        return h, h


class LayerNormLSTM(LSTM):
    def __init__(self, I, H):
        super().__init__(I, H)
        self.norm_f, self.norm_i, self.norm_o, self.norm_g, self.norm_c = (nn.LayerNorm(H) for _ in range(5))

    def forward(self, x, state):
        h, c = state
        f = ops.sigmoid(self.norm_f(x @ self.U_f + h @ self.W_f + self.b_f))
        i = ops.sigmoid(self.norm_i(x @ self.U_i + h @ self.W_i + self.b_i))
        o = ops.sigmoid(self.norm_o(x @ self.U_o + h @ self.W_o + self.b_o))
        g = ops.tanh(self.norm_g(x @ self.U_g + h @ self.W_g + self.b_g))
        c = f * c + i * g
        h = o * ops.tanh(self.norm_c(c))
        return h, (h, c)


class AttentionLSTM(LSTM):
    """A decoder step. memory: the encoder's states (B, S, H), to be set before the cell runs"""

    def __init__(self, I, H):
        super().__init__(I + H, H)
        (self.W_q,) = matrices(1, H, H)
        self.memory = None

    def forward(self, x, state):
        h, _ = state
        query = h @ self.W_q
        scores = (self.memory @ query.unsqueeze(2)).squeeze(2)
        attention = ops.softmax(scores, axis=-1)
        context = (attention.unsqueeze(1) @ self.memory).squeeze(1)
        return super().forward(ops.concat([x, context], axis=-1), state)


CELLS = {
    "lstm": LSTM,
    "gru": GRU,
    "rnn": RNN,
    "mgu": MGU,
    "layernorm-lstm": LayerNormLSTM,
    "attention-lstm": AttentionLSTM,
}


def recurrent(problem: cells.Problem, engine: str) -> tuple[nn.Recurrent, dict[str, tg.Tensor]]:
    """The cell over time, and the leaves that get a gradient: the inputs and the weights."""
    cell = CELLS[problem.cell](problem.size.I, problem.size.H)
    cell.load_state_dict(problem.weights)
    leaves = {name: tg.tensor(array, requires_grad=True) for name, array in problem.inputs.items()}
    if "memory" in leaves:
        cell.memory = leaves["memory"]
    return nn.Recurrent(cell, engine=engine), {**leaves, **dict(cell.named_parameters())}


def competitor(problem: cells.Problem, engine: str) -> cells.Competitor:
    rnn, leaves = recurrent(problem, engine)
    xs, gy, all_leaves = leaves["xs"], tg.tensor(problem.gy), list(leaves.values())

    def step() -> list[Any]:
        for leaf in all_leaves:
            leaf.grad = None
        ys, _ = rnn(xs)
        ys.backward(gy)
        return [ys, *(leaf.grad for leaf in all_leaves)]

    read = cells.reader(list(leaves))
    return cells.Competitor(step, lambda result: read([t.numpy() for t in result]), forward=lambda: rnn(xs))
