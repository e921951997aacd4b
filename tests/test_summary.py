"""nn.summary: parts, shapes, parameters, multiplications."""

import numpy as np
import pytest

import tinygrad_rnn as tg

from tinygrad_rnn import nn, ops

T, B, I, H, V = 5, 3, 4, 6, 11
XS = np.zeros((T, B, I), np.float32)
IDS = np.zeros((T, B), np.int64)


def by_path(model, *xs):
    return {part.path: part for part in nn.summary(model, *xs).parts}


MULTIPLICATIONS = {
    "LSTM": (lambda: nn.LSTM(I, H), 4 * H * (I + H)),
    "GRU of two layers": (lambda: nn.GRU(I, H, 2), 3 * H * (I + H) + 3 * H * 2 * H),
    "both directions": (lambda: nn.RNN(I, H, bidirectional=True), 2 * H * (I + H)),
    "projection": (lambda: nn.LSTM(I, H, proj_size=2), 4 * H * (I + 2) + H * 2),
    "linear": (lambda: nn.Linear(I, V), I * V),
}


@pytest.mark.parametrize(("make", "expected"), MULTIPLICATIONS.values(), ids=MULTIPLICATIONS)
def test_a_step_multiplies_as_often_as_its_equations_say(make, expected):
    model = make()
    found = nn.summary(model, XS)
    assert found.parts[0].multiplications == expected
    assert found.parts[0].parameters == sum(p.size for p in model.parameters()) == found.trainable
    assert found.nbytes == 4 * found.trainable


def test_the_batch_and_the_number_of_steps_change_nothing():
    class Looking(nn.Module):
        def __init__(self):
            self.rnn = nn.Recurrent(nn.AttentionCell(nn.GRUCell(I + H, H), nn.ScaledDotAttention(H, H)))

        def forward(self, xs, memory):
            cell = self.rnn.cell
            return self.rnn(xs, cell.start(cell.cell.initial_state(xs.shape[1]), cell.attention.remember(memory)))

    model = Looking()
    found = [nn.summary(model, np.zeros((t, b, I), "f"), np.zeros((7, b, H), "f")) for t, b in ((3, 2), (8, 5))]
    assert found[0].parts[0].multiplications == found[1].parts[0].multiplications
    assert found[0].parts[0].multiplications >= 3 * H * (I + 2 * H) + 2 * 7 * H


def test_a_translator_has_a_line_for_each_part():
    encoder = nn.GRU(I, H // 2, bidirectional=True)
    decoder = nn.AttentionCell(nn.GRUCell(I + H, H), nn.AdditiveAttention(H, H))
    bridge = nn.Bridge(nn.state_size(encoder.cells), decoder.cell)
    model = nn.EncoderDecoder(nn.Embedding(9, I), encoder, bridge, nn.Embedding(V, I), decoder, nn.Linear(2 * H, V))
    parts = by_path(model, np.zeros((7, B), np.int64), IDS)
    assert list(parts) == [path for path, _ in model.named_modules()]
    assert parts[""].shape == (T, B, V) and parts["encoder"].shape == (7, B, H)
    assert parts["decoder.cell.cell"].shape == (B, H)
    assert parts["encoder"].multiplications == 2 * 3 * (H // 2) * (I + H // 2)
    assert parts["decoder.cell.cell"].multiplications == 3 * H * (I + H + H)
    assert parts["output"].multiplications == 2 * H * V and parts["source"].multiplications == 0


class Twice(nn.Module):
    """A module in a list, called twice; one that is never called; dropout, and a frozen weight."""

    def __init__(self):
        self.parts = [nn.Linear(I, I)]
        self.unused, self.drop = nn.LSTMCell(I, H), nn.Dropout(0.5)
        self.parts[0].W.requires_grad = False
        self.calls = 0

    def forward(self, x):
        return ops.tanh(self.parts[0](self.drop(self.parts[0](x))))


def test_nothing_of_the_model_changes():
    model = Twice()
    before, state = {k: type(v) for k, v in vars(model).items()}, tg.get_rng_state()
    found = nn.summary(model, XS[0])
    assert found.parts[0].multiplications == 2 * I * I
    assert {k: type(v) for k, v in vars(model).items()} == before and model.training and model.drop.training
    assert not model.parts[0].W.requires_grad and all(p.grad is None for p in model.parameters())
    np.testing.assert_equal(tg.get_rng_state(), state)
    unused = next(part for part in found.parts if part.path == "unused")
    assert unused.shape is None and unused.multiplications == 0
    rnn = nn.LSTM(I, H)
    nn.summary(rnn, XS)
    assert rnn(XS)[0].shape == (T, B, H) and rnn.layers[0].engine == "auto"


def test_a_layer_that_is_called_again_and_one_in_two_places():
    class Again(nn.Module):
        def __init__(self):
            self.rnn, self.a = nn.Recurrent(nn.GRUCell(I, I)), nn.Linear(I, V)
            self.b = self.a

        def forward(self, xs):
            ys, h = self.rnn(xs)
            more, _ = self.rnn(ys[:2], h)
            return self.a(more) + self.b(more)

    parts = by_path(Again(), XS)
    assert parts["rnn"].multiplications == 3 * I * 2 * I
    assert parts["a"].multiplications == parts["b"].multiplications == 2 * I * V


class Result:
    """A class of ones own."""

    def __init__(self, y):
        self.y = y


class Conv(nn.Cell):
    def __init__(self):
        self.W = nn.Parameter(np.zeros((8, 1, 3, 3), np.float32))

    def initial_state(self, batch_size):
        return self.zeros(batch_size, 1, 5, 5)

    def forward(self, x, h):
        y = ops.conv2d(x + h, self.W, padding=1)
        return y, y.sum(1, keepdims=True)


class Einsum(nn.Cell):
    """Products of two operands and of three; noise that is drawn in evaluation too."""

    def __init__(self):
        self.U, self.W = nn.Parameter(np.zeros((I, H), np.float32)), nn.Parameter(np.zeros((H, H), np.float32))

    def initial_state(self, batch_size):
        return self.zeros(batch_size, H)

    def forward(self, x, h):
        y = ops.einsum("bi,ij->bj", x, self.U) + ops.einsum("bi,bj,ij->bj", h, h, self.W)
        y = ops.dropout(y, 0.5, training=True)
        return y, y


class Nested(nn.Cell):
    """A layer over the features of x, in each step of another one."""

    def __init__(self):
        self.rnn = nn.Recurrent(nn.RNNCell(1, H))

    def initial_state(self, batch_size):
        return self.zeros(batch_size, H)

    def forward(self, x, h):
        ys, _ = self.rnn(ops.permute(x[:, :, None], (1, 0, 2)), h)
        return ys[-1], ys[-1]


MORE = {
    "conv": (lambda: nn.Recurrent(Conv()), (2, 3, 1, 5, 5), 8 * 9 * 25),
    "einsum": (lambda: nn.Recurrent(Einsum()), (T, B, I), I * H + 2 * H * H),
    "nested": (lambda: nn.Recurrent(Nested()), (T, B, I), H * (1 + H)),
    "several axes": (lambda: nn.Linear(I, V), (2, 3, B, I), I * V),
}


@pytest.mark.parametrize("name", MORE)
def test_convolutions_sums_of_products_and_layers_in_layers_are_counted(name):
    make, shape, expected = MORE[name]
    model, state = make(), tg.get_rng_state()
    assert nn.summary(model, np.ones(shape, np.float32)).parts[0].multiplications == expected
    np.testing.assert_equal(tg.get_rng_state(), state)


@pytest.mark.parametrize(
    "returned", [lambda a, b: Result(a), lambda a, b: a.detach(), lambda a, b: None, lambda a, b: (a, b)]
)
def test_what_a_model_computes_counts_whatever_it_returns(returned):
    class Two(nn.Module):
        def __init__(self):
            self.a, self.b = nn.Linear(I, H), nn.Linear(I, V)

        def forward(self, x):
            return returned(self.a(x), self.b(x))

    assert nn.summary(Two(), XS[0]).parts[0].multiplications == I * (H + V)


def test_it_is_printed_as_a_table():
    lines = str(nn.summary(Twice(), XS[0])).splitlines()
    assert lines[0].split() == ["module", "output", "parameters", "multiplications", "a", "step"]
    assert lines[3].split() == ["parts.0", "Linear", "(3,", "4)", "20", "32"]
    assert lines[-1].startswith("284 parameters, 16 of them frozen, 1.14 kB")
    assert len({len(line) for line in lines[:2]}) == 1


def test_what_is_no_model_is_refused():
    with pytest.raises(TypeError, match=r"^summary: must get an nn.Module .* got list$"):
        nn.summary([], XS)
    with pytest.raises(TypeError, match=r"^summary: .* got nothing to call it with$"):
        nn.summary(nn.Linear(2, 3))
