"""ONE table of cells: the library's, with their equations in NumPy, and three of a user's own."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

import tinygrad_rnn as tg

from tinygrad_rnn import nn, ops

I, H = 2, 3


# ---- the equations, gate by gate, in NumPy -------------------------------------------------------------------------

sigma = lambda x: 1 / (1 + np.exp(-x))


def gates(x, h, p, names):
    """x U + h W + b for each gate by itself, by its name."""
    parts = zip(*(np.split(p[k], len(names), axis=-1) for k in ("U", "W", "b")), strict=True)
    return {name: (x @ U + h @ W + b, U, W, b) for name, (U, W, b) in zip(names, parts, strict=True)}


def rnn_step(f):
    def step(p, x, h):
        h = f(x @ p["U"] + h @ p["W"] + p["b"])
        return h, h

    return step


def lstm_step(p, x, state):
    h, c = state
    names = "ifgo" if p["U"].shape[1] == 4 * H else "ifg"
    a = {name: z for name, (z, *_) in gates(x, h, p, names).items()}
    c = sigma(a["f"]) * c + sigma(a["i"]) * np.tanh(a["g"])
    h = sigma(a["o"]) * np.tanh(c) if "o" in a else np.tanh(c)
    return h, (h, c)


def gru_step(p, x, h):
    a = gates(x, h, p, "zrn")
    z, r = sigma(a["z"][0]), sigma(a["r"][0])
    _, U, W, b = a["n"]
    n = np.tanh(x @ U + b + r * (h @ W + p["b_hn"])) if "b_hn" in p else np.tanh(x @ U + (r * h) @ W + b)
    h = (1 - z) * h + z * n
    return h, h


def stack_step(p, x, state):
    below = {k.removeprefix("cells.0."): v for k, v in p.items() if k.startswith("cells.0.")}
    above = {k.removeprefix("cells.1."): v for k, v in p.items() if k.startswith("cells.1.")}
    x, first = lstm_step(below, x, state[0])
    y, second = gru_step(above, x, state[1])
    return y, (first, second)


# ---- cells of a user's own -----------------------------------------------------------------------------------------


class MGU(nn.Cell):
    """The minimal gated unit (Zhou et al., 2016), with a weight for each gate."""

    def __init__(self, input_size, hidden_size):
        self.hidden_size = hidden_size
        self.Uf, self.Un = (nn.Parameter(nn.init.xavier_uniform((input_size, hidden_size))) for _ in range(2))
        self.Wf, self.Wn = (nn.Parameter(nn.init.orthogonal((hidden_size, hidden_size))) for _ in range(2))

    def initial_state(self, batch_size):
        return self.zeros(batch_size, self.hidden_size)

    def forward(self, x, h):
        f = ops.sigmoid(x @ self.Uf + h @ self.Wf)
        n = ops.tanh(x @ self.Un + (f * h) @ self.Wn)
        h = (1 - f) * h + f * n
        return h, h


class Pair(NamedTuple):
    fast: tg.Tensor
    slow: tg.Tensor


class Nested(nn.Cell):
    """Its state is a dict of a named tuple and a list; one leaf has three axes; its output is no part of its state."""

    def __init__(self, input_size, hidden_size):
        self.hidden_size = hidden_size
        self.weights = {"x": nn.Linear(input_size, hidden_size), "h": [nn.Linear(hidden_size, hidden_size, bias=False)]}

    def initial_state(self, batch_size):
        zeros = self.zeros(batch_size, self.hidden_size)
        return {"pair": Pair(zeros, zeros), "outer": [self.zeros(batch_size, 2, self.hidden_size)]}

    def forward(self, x, state):
        fast, slow = state["pair"]
        fast = ops.tanh(self.weights["x"](x) + self.weights["h"][0](fast) + state["outer"][0].sum(1))
        slow = 0.9 * slow + 0.1 * fast
        outer = ops.stack([fast * 0.2, slow * fast], axis=1)
        return fast - slow, {"pair": Pair(fast, slow), "outer": [outer]}


class Normed(nn.Cell):
    """A recurrent cell with layer normalisation (Ba et al., 2016)."""

    def __init__(self, input_size, hidden_size):
        self.hidden_size = hidden_size
        self.U = nn.Parameter(nn.init.xavier_uniform((input_size, hidden_size)))
        self.W = nn.Parameter(nn.init.orthogonal((hidden_size, hidden_size)))
        self.norm = nn.LayerNorm(hidden_size)

    def initial_state(self, batch_size):
        return self.zeros(batch_size, self.hidden_size) + 0.1 * tg.tensor(np.arange(self.hidden_size), self.U.dtype)

    def forward(self, x, h):
        h = ops.tanh(self.norm(x @ self.U + h @ self.W))
        return h, h


class Case(NamedTuple):
    make: Callable
    step: Callable | None = None  # its equations in NumPy: (parameters, x, state) -> (y, state)


CELLS = {
    "RNN tanh": Case(lambda: nn.RNNCell(I, H), rnn_step(np.tanh)),
    "RNN relu": Case(lambda: nn.RNNCell(I, H, nonlinearity="relu"), rnn_step(lambda a: np.maximum(a, 0))),
    "LSTM": Case(lambda: nn.LSTMCell(I, H), lstm_step),
    "LSTM without output gate": Case(lambda: nn.LSTMCell(I, H, output_gate=False), lstm_step),
    "GRU": Case(lambda: nn.GRUCell(I, H), gru_step),
    "GRU reset after": Case(lambda: nn.GRUCell(I, H, reset="after"), gru_step),
    "Stack of LSTM and GRU": Case(lambda: nn.Stack([nn.LSTMCell(I, H), nn.GRUCell(H, H, reset="after")]), stack_step),
    "MGU": Case(lambda: MGU(I, H)),
    "nested state": Case(lambda: Nested(I, H)),
    "layer norm": Case(lambda: Normed(I, H)),
}
