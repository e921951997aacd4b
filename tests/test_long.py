"""Ten thousand steps: memory grows linearly, checkpoints keep it small, and the gradient stays exact."""

import numpy as np
import pytest

from comparing import some

import tinygrad_rnn as tg

from tinygrad_rnn import nn, optim

B, I, H = 2, 2, 8


@pytest.mark.parametrize("engine", ["numpy", "llvm"])
def test_memory_is_linear_in_the_number_of_steps(engine):
    if engine == "llvm":
        pytest.importorskip("llvmlite")
    layer = nn.Recurrent(nn.LSTMCell(I, H), engine=engine)
    nbytes = [layer.plan(tg.zeros(T, B, I)).nbytes for T in (1000, 2000, 3000)]
    assert nbytes[2] - nbytes[1] == nbytes[1] - nbytes[0] > 0
    assert nbytes[2] < 3.1 * nbytes[0]


def test_with_checkpoints_it_grows_by_the_kept_states_alone():
    whole, parts = (nn.Recurrent(nn.LSTMCell(I, H), checkpoint_every=k) for k in (None, 100))
    xs = tg.zeros(10_000, B, I)
    assert parts.plan(xs).nbytes < whole.plan(xs).nbytes / 30
    more = parts.plan(tg.zeros(20_000, B, I)).nbytes - parts.plan(xs).nbytes
    assert more == 100 * 2 * B * H * 4  # h and c before each hundred steps, float32


@pytest.mark.parametrize("engine", some(["llvm", "numpy"]))
def test_ten_thousand_steps_train_with_checkpoints_as_without(engine):
    if engine == "llvm":
        pytest.importorskip("llvmlite")
    xs = tg.tensor(np.random.default_rng(0).random((10_000, B, I)))
    target = tg.tensor(np.random.default_rng(1).random((B, H)))
    losses = []
    for every in None, 100:
        tg.manual_seed(0)
        layer = nn.Recurrent(nn.LSTMCell(I, H), engine=engine, checkpoint_every=every).to("float64")
        optimizer, found = optim.Adam(layer.parameters(), lr=0.05), []
        for _ in range(4):
            ys, _ = layer(xs)
            loss = ((ys[-1] - target) ** 2).mean() + (ys[0] * ys[0]).mean()  # the first step takes part
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            found.append(loss.item())
        losses.append(found)
    np.testing.assert_allclose(losses[1], losses[0], rtol=1e-10)
    assert losses[0][-1] < 0.8 * losses[0][0]
