"""Weights of Keras's layers: both ways, and beside Keras."""

import os
import re

import numpy as np
import pytest

import tinygrad_rnn as tg

from tinygrad_rnn import keras_weights, nn

T, B, I, H, V = 5, 3, 4, 6, 11
rng = np.random.default_rng(0)
sigmoid = lambda x: 1 / (1 + np.exp(-x))


def simple(x, h, kernel, recurrent, bias):
    return np.tanh(x @ kernel + h @ recurrent + bias)


def gru_before(x, h, kernel, recurrent, bias):
    """Keras's GRU with reset_after=False: z keeps."""
    xz, xr, xh = np.split(x @ kernel + bias, 3, -1)
    Wz, Wr, Wh = np.split(recurrent, 3, -1)
    z, r = sigmoid(xz + h @ Wz), sigmoid(xr + h @ Wr)
    return z * h + (1 - z) * np.tanh(xh + (r * h) @ Wh)


def gru_after(x, h, kernel, recurrent, bias):
    xz, xr, xh = np.split(x @ kernel + bias[0], 3, -1)
    hz, hr, hh = np.split(h @ recurrent + bias[1], 3, -1)
    z, r = sigmoid(xz + hz), sigmoid(xr + hr)
    return z * h + (1 - z) * np.tanh(xh + r * hh)


def lstm(x, h, kernel, recurrent, bias):
    h, c = h if isinstance(h, tuple) else (h, h)
    i, f, g, o = np.split(x @ kernel + h @ recurrent + bias, 4, -1)
    c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
    return sigmoid(o) * np.tanh(c), c


LAYERS = {
    "SimpleRNN": (lambda **o: nn.RNNCell(I, H, **o), simple, 1, 1),
    "LSTM": (lambda **o: nn.LSTMCell(I, H, **o), lstm, 4, 1),
    "GRU before": (lambda **o: nn.GRUCell(I, H, **o), gru_before, 3, 1),
    "GRU after": (lambda **o: nn.GRUCell(I, H, reset="after", **o), gru_after, 3, 2),
}


def drawn(gates, biases):
    shapes = (I, gates * H), (H, gates * H), ((biases, gates * H) if biases == 2 else (gates * H,))
    return [rng.standard_normal(shape) for shape in shapes]


@pytest.mark.parametrize("biases", [1, 2])
@pytest.mark.parametrize("name", LAYERS)
def test_a_layer_computes_what_keras_equations_say(name, biases):
    make, step, *sizes = LAYERS[name]
    weights = drawn(*sizes)
    rnn = keras_weights.load(nn.Recurrent(make(biases=biases)).to("float64"), weights)
    xs, state = rng.standard_normal((T, B, I)), np.zeros((B, H))
    ys = rnn(tg.tensor(xs))[0].numpy()
    for x, y in zip(xs, ys, strict=True):
        state = step(x, state, *weights)
        np.testing.assert_allclose(y, state[0] if isinstance(state, tuple) else state, 1e-10, 1e-12)
    back = keras_weights.load(nn.Recurrent(make()).to("float64"), keras_weights.export(rnn))
    np.testing.assert_allclose(back(tg.tensor(xs))[0].numpy(), ys, 1e-10, 1e-12)
    if sizes[1] == 1 or biases == 2:
        for a, b in zip(keras_weights.export(rnn), weights, strict=True):
            np.testing.assert_allclose(a, b)


class Model(nn.Module):
    def __init__(self):
        self.embedding = nn.Embedding(V, I)
        self.rnn = nn.LSTM(I, H, 2, bidirectional=True)
        self.output, self.more = nn.Linear(2 * H, V), nn.Linear(V, 2, bias=False)


def test_a_model_goes_layer_by_layer_and_in_both_directions():
    model = Model()
    found = keras_weights.export(model)
    gates = 4 * H
    both = lambda size: [(size, gates), (H, gates), (gates,)] * 2
    assert [a.shape for a in found] == [(V, I), *both(I), *both(2 * H), (2 * H, V), (V,), (V, 2)]
    other = keras_weights.load(Model(), [a + 1 for a in found])
    for a, b in zip(model.parameters(), other.parameters(), strict=True):
        np.testing.assert_allclose(b.numpy(), a.numpy() + 1)


BAD = {
    "too few": (lambda: nn.LSTM(I, H), lambda w: w[:2], "load: there must be 3 arrays, got 2"),
    "a shape": (
        lambda: nn.LSTM(I, H),
        lambda w: [w[0].T, *w[1:]],
        "load: array 0, of layers.0.cell, must be (4, 24), got (24, 4)",
    ),
    "no Keras": (
        lambda: nn.Recurrent(nn.PeepholeLSTMCell(I, H)),
        None,
        "export: cell must be what Keras has, got PeepholeLSTMCell",
    ),
    "itself": (lambda: nn.LayerNorm(3), None, "export: it must be what Keras has, got LayerNorm"),
    "no output gate": (lambda: nn.LSTMCell(I, H, output_gate=False), None, "export: LSTMCell has no output gate"),
}


@pytest.mark.parametrize("name", BAD)
def test_what_does_not_fit_is_told_and_nothing_changes(name):
    make, change, line = BAD[name]
    module = make()
    before = [p.numpy().copy() for p in module.parameters()]
    with pytest.raises(ValueError, match=f"^keras_weights.{re.escape(line)}"):
        weights = keras_weights.export(module)
        keras_weights.load(module, change([w + 1 for w in weights]))
    for p, a in zip(module.parameters(), before, strict=True):
        np.testing.assert_array_equal(p.numpy(), a)


@pytest.mark.oracle
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_keras_computes_the_same():
    os.environ.setdefault("KERAS_BACKEND", "torch")
    keras = pytest.importorskip("keras")
    xs = rng.standard_normal((T, B, I)).astype("f")
    for ours, theirs in (
        (nn.RNN(I, H), keras.layers.SimpleRNN(H, return_sequences=True)),
        (nn.LSTM(I, H), keras.layers.LSTM(H, return_sequences=True)),
        (nn.GRU(I, H, reset="after"), keras.layers.GRU(H, return_sequences=True)),
        (nn.GRU(I, H), keras.layers.GRU(H, return_sequences=True, reset_after=False)),
        (nn.LSTM(I, H, bidirectional=True), keras.layers.Bidirectional(keras.layers.LSTM(H, return_sequences=True))),
    ):
        for p in ours.parameters():
            p.data = rng.standard_normal(p.shape)
        theirs.build((B, T, I))
        theirs.set_weights(keras_weights.export(ours))
        found = theirs(xs.swapaxes(0, 1)).detach().numpy().swapaxes(0, 1)
        np.testing.assert_allclose(ours(tg.tensor(xs))[0].numpy(), found, 1e-4, 1e-5)
        again = keras_weights.load(type(ours)(I, H, **_options(ours)), theirs.get_weights())
        np.testing.assert_allclose(again(tg.tensor(xs))[0].numpy(), found, 1e-4, 1e-5)


def _options(layer):
    cell = layer.cells[0]
    return {"bidirectional": layer.bidirectional, **({"reset": cell.reset} if isinstance(cell, nn.GRUCell) else {})}
