"""Networks that tests draw: encoders and decoders of several kinds, and cells whose states are of many kinds."""

from typing import NamedTuple

import numpy as np

import tinygrad_rnn as tg

from tinygrad_rnn import nn, ops

B, I, H, V = 2, 3, 4, 12


def inputs(steps, size=I, seed=0):
    return tg.tensor(np.random.default_rng(seed).normal(size=(steps, B, size)).astype(np.float32))


def zeros(*shape):
    return tg.tensor(np.zeros(shape, np.float32))


weights = lambda *shape: nn.Parameter(np.random.default_rng(len(shape)).normal(size=shape).astype(np.float32))


@tg.primitive
def cos(x):
    return np.cos(x)


@tg.primitive
def sin(x):
    return np.sin(x)


cos.vjp(x=lambda g, x: -g * sin(x))
sin.vjp(x=lambda g, x: g * cos(x))

# ---- cells ----------------------------------------------------------------------------------------------------------


class Pair(NamedTuple):
    slow: tg.Tensor
    fast: tg.Tensor


class TwoSpeeds(nn.Cell):
    """A state of two named parts."""

    def __init__(self, input_size=I, hidden_size=H):
        self.input_size, self.hidden_size = input_size, hidden_size
        self.U, self.W, self.R = weights(input_size, H), weights(H, H), weights(H, H)

    def initial_state(self, batch_size):
        return Pair(self.zeros(batch_size, self.hidden_size), self.zeros(batch_size, self.hidden_size))

    def forward(self, x, state):
        fast = ops.tanh(x @ self.U + state.fast @ self.W + state.slow @ self.R)
        slow = 0.9 * state.slow + 0.1 * fast
        return fast, Pair(slow, fast)


class InADict(TwoSpeeds):
    """The same in a dict."""

    def initial_state(self, batch_size):
        return super().initial_state(batch_size)._asdict()

    def forward(self, x, state):
        y, new = super().forward(x, Pair(**state))
        return y, new._asdict()


class Nested(nn.Cell):
    """A state of states: a small cell makes the gate of the other, as in a HyperLSTM."""

    def __init__(self, input_size=I, hidden_size=H):
        self.input_size = input_size
        self.small, self.main = nn.LSTMCell(input_size + hidden_size, 2), nn.LSTMCell(input_size, hidden_size)
        self.P = weights(2, hidden_size)

    def initial_state(self, batch_size):
        return {"small": self.small.initial_state(batch_size), "main": self.main.initial_state(batch_size)}

    def forward(self, x, state):
        z, small = self.small(ops.concat([x, state["main"].h], -1), state["small"])
        y, main = self.main(x, nn.LSTMState(state["main"].h * ops.sigmoid(z @ self.P), state["main"].c))
        return y, {"small": small, "main": main}


class HyperLSTM(nn.Cell):
    """Ha et al. (2016), in short: the weights' scales are computed by a small LSTM, in one module."""

    def __init__(self, input_size=I, hidden_size=H):
        self.input_size, self.hidden_size = input_size, hidden_size
        self.Ux, self.Wx, self.P = weights(input_size + H, 8), weights(2, 8), weights(2, 4 * H)
        self.U, self.W = weights(input_size, 4 * H), weights(H, 4 * H)

    def initial_state(self, batch_size):
        pair = lambda n: nn.LSTMState(self.zeros(batch_size, n), self.zeros(batch_size, n))
        return pair(self.hidden_size), pair(2)

    def forward(self, x, state):
        (h, c), (hh, hc) = state
        hh, hc = gated(ops.concat([x, h], -1) @ self.Ux + hh @ self.Wx, hc)
        h, c = gated((x @ self.U + h @ self.W) * (hh @ self.P), c)
        return h, (nn.LSTMState(h, c), nn.LSTMState(hh, hc))


def gated(a, c):
    i, f, g, o = ops.chunk(a, 4, -1)
    c = ops.sigmoid(f) * c + ops.sigmoid(i) * ops.tanh(g)
    return ops.sigmoid(o) * ops.tanh(c), c


class QRNN(nn.Cell):
    """Bradbury et al. (2016): a convolution over this input and the one before, which is a part of the state."""

    def __init__(self, input_size=I, hidden_size=H):
        self.input_size, self.hidden_size = input_size, hidden_size
        self.Wz, self.Vz, self.Wf, self.Vf, self.Wo, self.Vo = (weights(input_size, hidden_size) for _ in range(6))

    def initial_state(self, batch_size):
        return self.zeros(batch_size, self.input_size), self.zeros(batch_size, self.hidden_size)

    def forward(self, x, state):
        last, c = state
        z = ops.tanh(x @ self.Wz + last @ self.Vz)
        f = ops.sigmoid(x @ self.Wf + last @ self.Vf)
        o = ops.sigmoid(x @ self.Wo + last @ self.Vo)
        c = f * c + (1 - f) * z
        return o * c, (x, c)


class Window(nn.Cell):
    """It keeps its last two inputs."""

    def __init__(self, input_size=I, hidden_size=H):
        self.input_size = input_size
        self.A, self.B, self.C = (weights(input_size, hidden_size) for _ in range(3))

    def initial_state(self, batch_size):
        return self.zeros(batch_size, self.input_size), self.zeros(batch_size, self.input_size)

    def forward(self, x, state):
        return ops.tanh(x @ self.A + state[0] @ self.B + state[1] @ self.C), (x, state[0])


class PhasedLSTM(nn.Cell):
    """Neil et al. (2016): the state has a clock, which no gradient flows to."""

    def __init__(self, input_size=I, hidden_size=H):
        self.input_size, self.hidden_size = input_size, hidden_size
        self.cell = nn.LSTMCell(input_size, hidden_size)
        self.tau, self.shift = nn.Parameter(np.full(H, 4, np.float32)), nn.Parameter(np.ones(H, np.float32))

    def initial_state(self, batch_size):
        return *self.cell.initial_state(batch_size), self.zeros(batch_size, 1)

    def forward(self, x, state):
        h, c, timer = state
        timer = timer + 1
        k = ops.sigmoid((timer - self.shift) / self.tau)
        _, new = self.cell(x, nn.LSTMState(h, c))
        h, c = k * new.h + (1 - k) * h, k * new.c + (1 - k) * c
        return h, (h, c, timer)


class SLSTM(nn.Cell):
    """The scalar cell of the xLSTM, Beck et al. (2024): four states."""

    def __init__(self, input_size=I, hidden_size=H):
        self.input_size, self.hidden_size = input_size, hidden_size
        self.U, self.W = weights(input_size, 4 * hidden_size), weights(hidden_size, 4 * hidden_size)

    def initial_state(self, batch_size):
        return tuple(self.zeros(batch_size, self.hidden_size) for _ in range(4))

    def forward(self, x, state):
        h, m, c, n = state
        i, f, z, o = ops.chunk(x @ self.U + h @ self.W, 4, -1)
        m1 = ops.maximum(f + m, i)
        i, f = ops.exp(i - m1), ops.exp(f + m - m1)
        c, n = f * c + i * ops.tanh(z), f * n + i
        h = ops.sigmoid(o) * c / n
        return h, (h, m1, c, n)


class LRU(nn.Cell):
    """Orvieto et al. (2023): a diagonal recurrence of complex numbers, in two real parts."""

    def __init__(self, input_size=I, hidden_size=H):
        self.input_size, self.hidden_size = input_size, hidden_size
        self.nu, self.theta, self.D = weights(H), weights(H), weights(input_size)
        self.Br, self.Bi, self.Cr, self.Ci = *(weights(input_size, H) for _ in "ri"), *(weights(H, I) for _ in "ri")

    def initial_state(self, batch_size):
        return self.zeros(batch_size, H), self.zeros(batch_size, H)

    def forward(self, x, state):
        a, b = state
        size, angle = ops.exp(-ops.exp(self.nu)), ops.exp(self.theta)
        re, im, gain = size * cos(angle), size * sin(angle), ops.sqrt(1 - size * size)
        a, b = re * a - im * b + gain * (x @ self.Br), re * b + im * a + gain * (x @ self.Bi)
        return a @ self.Cr - b @ self.Ci + self.D * x, (a, b)


# ---- networks -------------------------------------------------------------------------------------------------------


def per_step(cell, steps=4, engine="auto"):
    """A loss at each step of a loop."""
    state, loss = cell.initial_state(B), 0
    for t, x in enumerate(inputs(steps)):
        with tg.scope(t):
            y, state = cell(x, state)
            loss = loss + nn.mse_loss(y, zeros(*y.shape))
    return loss


def over_time(cell, steps=4, engine="auto"):
    """One loss of all outputs of a layer."""
    ys, _ = nn.Recurrent(cell, engine=engine)(inputs(steps, cell.input_size))
    return nn.mse_loss(ys, zeros(*ys.shape))


def encoder_decoder(make=nn.RNNCell, source=3, target=4, engine="auto"):
    """The encoder's last state is the decoder's first."""
    enc, dec, out = make(I, H), make(I, H), nn.Linear(H, V)
    _, state = nn.Recurrent(enc, engine=engine)(inputs(source))
    ys, _ = nn.Recurrent(dec, engine=engine)(inputs(target, seed=1), state)
    return nn.cross_entropy(out(ys), np.zeros((target, B), int))


def bridged(make=nn.RNNCell, source=3, target=4, attention=None, bidirectional=False):
    """Embeddings, an encoder, a bridge, a decoder."""
    encoder = {nn.RNNCell: nn.RNN, nn.LSTMCell: nn.LSTM, nn.GRUCell: nn.GRU}[make](I, H, bidirectional=bidirectional)
    width = H * (1 + bidirectional)
    decoder = make(I, H) if attention is None else nn.AttentionCell(make(I + width, H), attention(width))
    model = nn.EncoderDecoder(
        nn.Embedding(V, I), encoder, nn.Bridge(nn.state_size(encoder.cells), getattr(decoder, "cell", decoder)),
        nn.Embedding(V, I), decoder, nn.Linear(H if attention is None else H + width, V),
    )  # fmt: skip
    ids = lambda n: np.arange(n * B).reshape(n, B) % V
    return nn.cross_entropy(model(ids(source), ids(target)), ids(target))


def spelled(make=nn.GRUCell, target=4, form="forced", engine=None):
    """An image's code is the first state of a decoder, which reads the letters that are said, or its own."""
    image, cell, out, letters = nn.Linear(6, H), make(I, H), nn.Linear(H, V), nn.Embedding(V, I)
    h = ops.tanh(image(zeros(B, 6) + 1))
    state, loss, fed = nn.LSTMState(h, zeros(B, H)) if make is nn.LSTMCell else h, 0, letters(np.zeros(B, int))
    for t in range(target):
        with tg.scope(t):
            fed = letters(np.full(B, t)) if form == "forced" else fed
            y, state = cell(fed, state)
            logits = out(y)
            loss = loss + nn.cross_entropy(logits, np.full(B, t))
            if form == "soft":
                fed = ops.softmax(logits, -1) @ letters.E
            elif form == "free":
                fed = letters(logits.argmax(-1))
    return loss
