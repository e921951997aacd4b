"""What stands for many operations gives each argument its own derivative, though they depend on each other."""

import numpy as np
import pytest

import tinygrad_rnn as tg

from tinygrad_rnn import nn
from tinygrad_rnn.nn import LSTMState, losses

T, B, H = 4, 2, 3
draw = np.random.default_rng(0).standard_normal
xs, M = draw((T, B, H)), draw((H, 5))


def gradients(function, values):
    """The gradient of the sum of squares, recorded; and that of its square."""
    x = tg.tensor(values, requires_grad=True)
    y = function(x)
    (dx,) = tg.grad((y * y).sum(), [x], create_graph=True)
    return dx.numpy(), tg.grad((dx * dx).sum(), [x])[0].numpy()


def layer(cell, engine):
    tg.manual_seed(0)
    made = nn.Recurrent(cell(H, H), engine=engine)
    for p in made.parameters():
        p.array = p.array.astype("f8")
    return made


# How the initial state is computed from what the layer reads
STATES = {
    "its mean": (nn.RNNCell, lambda x: x.mean(0)),
    "its last step": (nn.GRUCell, lambda x: x[-1]),
    "twice the same": (nn.LSTMCell, lambda x: LSTMState(*[x.mean(0)] * 2)),
    "one from the other": (nn.LSTMCell, lambda x: LSTMState(h := x[0], h * h)),
}


@pytest.mark.parametrize("name", STATES)
def test_a_compiled_layer_whose_state_is_computed_from_its_inputs(name):
    cell, state = STATES[name]
    found, expected = (
        gradients(lambda x, rnn=rnn: rnn(x, state(x))[0], xs)
        for rnn in (layer(cell, engine) for engine in ("compiled", "eager"))
    )
    np.testing.assert_allclose(found, expected, rtol=1e-9)


def test_a_linear_layer_and_its_loss_whose_bias_is_computed_from_its_weights(monkeypatch):
    monkeypatch.setattr(losses, "SMALL", 0)
    x, targets = tg.tensor(xs[0]), np.array([0, 4])
    found = gradients(lambda W: nn.linear_cross_entropy(x, W, W.sum(0), targets), M)
    expected = gradients(lambda W: nn.cross_entropy(x @ W + W.sum(0), targets), M)
    np.testing.assert_allclose(found, expected, rtol=1e-9)
