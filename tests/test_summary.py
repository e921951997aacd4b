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
