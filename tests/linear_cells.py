"""Cells without a product in their loop: each sees its own state element by element.

Their maths is written once, as a function of a library (tinygrad_rnn.ops, or torch), the weights, x and the state.
"""

import numpy as np

from tinygrad_rnn import nn, ops

T, B, I, H, N = 6, 3, 4, 5, 3
FUNCTIONS = ["exp", "relu", "sigmoid", "sqrt", "tanh"]  # besides softplus


class Elementwise(nn.Cell):
    """A cell of one of the functions below, with random weights.

    shapes  of its weights, by name
    states  of its states, without the batch
    """

    def __init__(self, maths, states, **shapes):
        super().__init__()
        self.input_size, self.maths, self.states, self.shapes = I, maths, states, shapes
        rng = np.random.default_rng(5)
        for name, shape in shapes.items():
            setattr(self, name, nn.Parameter(rng.standard_normal(shape).astype("float32") / 2))

    def initial_state(self, batch_size):
        states = tuple(self.zeros(batch_size, *shape) for shape in self.states)
        return states if len(states) > 1 else states[0]

    def forward(self, x, state):
        return self.maths(ops, self, x, state)


def sru(f, p, x, c):
    """Lei et al. (2018), whose gates do not see the state: linear in it."""
    forget, reset = f.sigmoid(x @ p.F + p.bf), f.sigmoid(x @ p.R + p.br)
    c = forget * c + (1 - forget) * (x @ p.W)
    return reset * f.tanh(c) + (1 - reset) * (x @ p.S), c


def sru_with_peepholes(f, p, x, c):
    """The same, whose gates see the state: not linear in it."""
    forget, reset = f.sigmoid(x @ p.F + p.vf * c), f.sigmoid(x @ p.R + p.vr * c)
    c = forget * c + (1 - forget) * (x @ p.W)
    return reset * f.tanh(c) + (1 - reset) * (x @ p.S), c


def min_gru(f, p, x, h):
    """Feng et al. (2024)."""
    z = f.sigmoid(x @ p.Z + p.b)
    h = (1 - z) * h + z * (x @ p.W)
    return h, h


def ind_rnn(f, p, x, h):
    """Li et al. (2018): not linear."""
    h = f.relu(x @ p.W + p.w * h + p.b)
    return h, h


def lru(f, p, x, state):
    """Orvieto et al. (2023): each element is a complex number that turns and shrinks, in two states."""
    a, b = state
    size, length = f.exp(-f.exp(p.nu)), f.sqrt(p.u * p.u + p.v * p.v)
    re, im, gain = size * p.u / length, size * p.v / length, f.sqrt(1 - size * size)
    a, b = re * a - im * b + gain * (x @ p.A), re * b + im * a + gain * (x @ p.B)
    return a @ p.C - b @ p.D, (a, b)


def selective_ssm(f, p, x, h):
    """Gu and Dao (2023): N states for each channel, whose decay and input depend on x."""
    u, dt = x @ p.U, f.softplus(x @ p.T + p.b)
    h = f.exp(-f.exp(p.A) * dt[:, :, None]) * h + (dt * u)[:, :, None] * (x @ p.B)[:, None, :]
    return (h * (x @ p.C)[:, None, :]).sum(2) + p.D * u, h


def gated_linear_attention(f, p, x, s):
    """Katharopoulos et al. (2020), with one gate for each row: the state is a matrix of N keys."""
    key, value, query, gate = x @ p.K, x @ p.V, x @ p.Q, f.sigmoid(x @ p.G)
    s = gate[:, :, None] * s + key[:, :, None] * value[:, None, :]
    return (query[:, :, None] * s).sum(1), s


def two_leaks(f, p, x, state):
    """Two states that do not see each other, each with a rate of its own."""
    a, b = state
    a, b = f.sigmoid(p.a) * a + x @ p.A, b / (1 + f.exp(p.b)) - x @ p.B
    return f.tanh(a) * b, (a, b)


CELLS = {
    "SRU": lambda: Elementwise(sru, [(H,)], F=(I, H), R=(I, H), W=(I, H), S=(I, H), bf=(H,), br=(H,)),
    "SRU with peepholes": lambda: Elementwise(
        sru_with_peepholes, [(H,)], F=(I, H), R=(I, H), W=(I, H), S=(I, H), vf=(H,), vr=(H,)
    ),
    "minimal GRU": lambda: Elementwise(min_gru, [(H,)], Z=(I, H), W=(I, H), b=(H,)),
    "IndRNN": lambda: Elementwise(ind_rnn, [(H,)], W=(I, H), w=(H,), b=(H,)),
    "LRU": lambda: Elementwise(
        lru, [(H,), (H,)], nu=(H,), u=(H,), v=(H,), A=(I, H), B=(I, H), C=(H, H), D=(H, H)
    ),
    "selective SSM": lambda: Elementwise(
        selective_ssm, [(H, N)], U=(I, H), T=(I, H), b=(H,), A=(H, N), B=(I, N), C=(I, N), D=(H,)
    ),
    "linear attention": lambda: Elementwise(
        gated_linear_attention, [(N, H)], K=(I, N), V=(I, H), Q=(I, N), G=(I, 1)
    ),
    "two leaks": lambda: Elementwise(two_leaks, [(H,), (H,)], a=(H,), b=(H,), A=(I, H), B=(I, H)),
}  # fmt: skip
