"""Sequences of x of any number of axes: numbers, vectors, matrices, images; in every engine."""

import importlib.util

import cuda_on_cpu
import numpy as np
import pytest

from conftest import REAL_GPU

import tinygrad_rnn as tg
import viz

from tinygrad_rnn import nn, ops

T, B = 6, 3
SHAPES = {"numbers": (), "vectors": (4,), "matrices": (2, 3), "images": (2, 4, 5)}
ENGINES = [
    "numpy",
    pytest.param("llvm", marks=pytest.mark.skipif(importlib.util.find_spec("llvmlite") is None, reason="llvmlite")),
    pytest.param("cuda", marks=pytest.mark.skipif(not REAL_GPU and cuda_on_cpu.missing() is not None, reason="g++")),
]  # fmt: skip


class Mean(nn.Cell):
    """h' = tanh(a x + u h + b), element by element: u is a number, or one for each element."""

    def __init__(self, *shape):
        self.a, self.b = nn.Parameter(np.full(shape or (1,), 0.7)), nn.Parameter(np.full((1,), 0.1))
        self.u = nn.Parameter(np.linspace(0.1, 0.9, int(np.prod(shape))).reshape(shape or (1,)))
        self.shape = shape

    def initial_state(self, batch_size):
        return self.zeros(batch_size, *self.shape)

    def forward(self, x, h):
        h = ops.tanh(x * self.a + h * self.u + self.b)
        return h, h


class Conv(nn.Cell):
    """h' = tanh(conv(x) + conv(h))"""

    def __init__(self, C, K):
        rng = np.random.default_rng(3)
        self.W, self.U = (nn.Parameter(rng.standard_normal((K, n, 3, 3)) / 3) for n in (C, K))
        self.b = nn.Parameter(rng.standard_normal(K))
        self.K = K

    def initial_state(self, batch_size):
        return self.zeros(batch_size, self.K, *SHAPES["images"][1:])

    def forward(self, x, h):
        h = ops.tanh(ops.conv2d(x, self.W, self.b, padding=1) + ops.conv2d(h, self.U, padding="same"))
        return h, h


def cells():
    return {**{name: Mean(*shape) for name, shape in SHAPES.items()}, "convolved images": Conv(2, 3)}


def given(name):
    return np.random.default_rng(1).standard_normal((T, B, *SHAPES[name.removeprefix("convolved ")]))


def outcome(layer, xs, **options):
    """Values and gradients of all that there is, on whatever device."""
    layer.zero_grad()
    x = tg.tensor(xs, requires_grad=True)
    ys, state = layer(x, **options)
    leaves = [state] if isinstance(state, tg.Tensor) else list(state)
    (ys * ys).sum().backward(retain_graph=True)
    sum(((s * s * s).sum() for s in leaves), tg.tensor(0.0, dtype="float64")).backward()
    return [t.numpy() for t in (ys, *leaves, x.grad, *(p.grad for p in layer.parameters()))]


@pytest.fixture
def there(engine, request):
    """Where an engine runs."""
    if engine == "cuda":
        request.getfixturevalue("cupy")
    with tg.device("gpu" if engine == "cuda" else "cpu"):
        yield


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("lengths", [None, [6, 2, 4]], ids=["whole", "ragged"])
@pytest.mark.parametrize("name", cells())
def test_an_engine_runs_what_the_eager_one_runs(name, lengths, engine, there):
    xs = given(name)
    if lengths is not None:
        xs[np.arange(T)[:, None] >= np.array(lengths)] = np.nan  # behind an end
    for reverse in (False, True):
        cell = cells()[name]
        expected = outcome(nn.Recurrent(cell, engine="eager", reverse=reverse), xs, lengths=lengths)
        layer = nn.Recurrent(cell, engine=engine, reverse=reverse)
        for found, want in zip(outcome(layer, xs, lengths=lengths), expected, strict=True):
            np.testing.assert_allclose(found, want, rtol=1e-9, atol=1e-11)
        plan = layer.plan(xs, lengths=lengths)
        assert plan.engine == engine, plan
        assert f"{T} steps of x {(B, *xs.shape[2:])}" in str(plan)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("name", cells())
def test_states_checkpoints_and_batches_of_other_sizes(name, engine, there):
    xs = given(name)
    cell = cells()[name]
    eager, layer = nn.Recurrent(cell, engine="eager"), nn.Recurrent(cell, engine=engine, checkpoint_every=2)
    for some in (xs, xs[:4], np.concatenate([xs, xs[:, :2]], 1), xs[:, :1], xs[:1]):
        for all_states in (False, True):
            expected, found = (outcome(each, some, all_states=all_states) for each in (eager, layer))
            for a, b in zip(found, expected, strict=True):
                np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-11)
    seen = []
    for each in (eager, layer):
        remove = each.register_state_hook(lambda g: seen.append(g.numpy()))
        outcome(each, xs)
        remove()
    half = len(seen) // 2
    for a, b in zip(seen[:half], seen[half:], strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-11)
    ys = layer(xs[:0])[0]
    assert ys.shape == (0, *eager(xs)[0].shape[1:])


@pytest.mark.parametrize("name", cells())
def test_both_directions_are_joined_behind_the_batch(name):
    xs = given(name)
    one, other = cells()[name], cells()[name]
    layer = nn.Bidirectional(one, other)
    ys, (last, first) = layer(xs, lengths=[6, 2, 4])
    fs, bs = (
        nn.Recurrent(one)(xs, lengths=[6, 2, 4])[0],
        nn.Recurrent(other, reverse=True)(xs, lengths=[6, 2, 4])[0],
    )
    joined = np.stack if name == "numbers" else np.concatenate
    np.testing.assert_allclose(ys.numpy(), joined([fs.numpy(), bs.numpy()], 2))
    np.testing.assert_allclose(first.numpy(), bs.numpy()[0])
    np.testing.assert_allclose(last.numpy()[1], fs.numpy()[1, 1])


def test_layers_of_cells_of_images():
    layers = nn.Layers(Conv, 2, 3, num_layers=2, bidirectional=True)
    ys, state = layers(given("images"))
    assert ys.shape == (T, B, 6, 4, 5) and state.shape == (4, B, 3, 4, 5)
    stack = nn.Layers(Conv, 2, 3, num_layers=2)
    assert stack(given("images"))[0].shape == (T, B, 3, 4, 5)


@pytest.mark.parametrize("name", cells())
def test_it_is_drawn(name):
    layer = nn.Recurrent(cells()[name])
    for view in ("ops", "cells", "circuit"):
        picture = viz.draw((layer(given(name))[0] ** 2).sum(), view=view).svg()
        assert "W" in picture or "u" in picture
    assert ("convolve" in str(tg.circuit(layer.cell, tg.tensor(given(name)[0])))) == name.startswith("convolved")


def test_what_has_no_batch_is_refused():
    with pytest.raises(ValueError, match=r"^Recurrent: xs must be \(T, B, …\), got \(6,\)$"):
        nn.Recurrent(Mean())(np.zeros(6))
    with pytest.raises(ValueError, match=r"^Recurrent: xs must be \(T, B, I\), got \(6, 3, 2, 3\)$"):
        nn.Recurrent(nn.RNNCell(3, 2))(given("matrices"))
