"""Convolutions in a step: each engine computes what the eager one does, of whatever strides, margins and sizes."""

import importlib.util

import cuda_on_cpu
import numpy as np
import pytest

from conftest import REAL_GPU

import tinygrad_rnn as tg

from tinygrad_rnn import nn, ops

T, B = 4, 3
ENGINES = [
    "numpy",
    pytest.param("llvm", marks=pytest.mark.skipif(importlib.util.find_spec("llvmlite") is None, reason="llvmlite")),
    pytest.param("cuda", marks=pytest.mark.skipif(not REAL_GPU and cuda_on_cpu.missing() is not None, reason="g++")),
]  # fmt: skip
FORMS = {  # (C, H, W), (K, kh, kw), options
    "plain": ((2, 5, 6), (3, 3, 2), {}),
    "same": ((2, 4, 20), (9, 3, 3), {"padding": "same"}),
    "same, even": ((1, 4, 5), (2, 2, 4), {"padding": "same"}),
    "strides": ((3, 9, 21), (5, 3, 3), {"stride": 2, "padding": 1}),
    "strides of which one is longer than the kernel": ((2, 8, 9), (2, 2, 2), {"stride": (3, 1)}),
    "margins wider than the kernel": ((2, 3, 4), (2, 1, 2), {"padding": (2, 3)}),
    "margins and strides": ((2, 7, 5), (2, 2, 1), {"padding": 3, "stride": (2, 3)}),
    "dilation": ((2, 7, 35), (3, 3, 3), {"dilation": (1, 2), "padding": (0, 2)}),
    "all": ((2, 11, 17), (3, 3, 2), {"dilation": (2, 3), "padding": (3, 1), "stride": (3, 2)}),
    "many channels": ((17, 3, 4), (37, 3, 3), {"padding": 1}),
    "single numbers": ((4, 1, 1), (3, 1, 1), {}),
}


class Step(nn.Cell):
    """h' = tanh(conv(x) + h V), a convolution of what comes in; then one of the state."""

    def __init__(self, form):
        (C, H, W), (K, *size), self.options = FORMS[form]
        rng = np.random.default_rng(2)
        draw = lambda *shape: nn.Parameter(rng.standard_normal(shape) / np.sqrt(np.prod(shape[1:])))
        self.W, self.b, self.U = draw(K, C, *size), draw(K), draw(K, K, 3, 3)
        like = np.zeros((1, C, H, W)), np.zeros((K, C, *size))
        self.shape = ops.conv2d(*like, **self.options).shape[1:]

    def initial_state(self, batch_size):
        return self.zeros(batch_size, *self.shape)

    def forward(self, x, h):
        h = ops.tanh(ops.conv2d(x, self.W, self.b, **self.options) + 0.5 * ops.conv2d(h, self.U, padding="same"))
        return h, h


class Rows(nn.Cell):
    """h' = tanh(conv1d(h) + x w), with a gate of channels each."""

    def __init__(self, dtype="float64"):
        rng = np.random.default_rng(2)
        self.U, self.b = nn.Parameter(rng.standard_normal((8, 4, 3)) / 3), nn.Parameter(rng.standard_normal(8))
        self.w = nn.Parameter(rng.standard_normal((4, 1)))

    def initial_state(self, batch_size):
        return self.zeros(batch_size, 4, 7)

    def forward(self, x, h):
        f, g = ops.chunk(ops.conv1d(h, self.U, self.b, padding=1), 2, 1)
        f = ops.sigmoid(f + x[:, None])
        h = f * h + (1 - f) * ops.tanh(g + self.w * x[:, None])
        return h, h


class Shared(Step):
    """The weight of the convolution is computed anew at each step."""

    def forward(self, x, h):
        W, U = self.W * h.mean(), self.U
        h = ops.tanh(ops.conv2d(x, W, self.b, **self.options) + ops.conv2d(h, U, padding="same") + 1)
        return h, h


class Views(Step):
    """What is convolved lies in memory in other ways: every second column, turned; and the rows of a batch meet."""

    def forward(self, x, h):
        wide = ops.concat([x, x], 3)[:, :, :, ::2]  # as wide as x
        high = ops.swapaxes(x, 2, 3)
        a = ops.conv2d(wide, self.W, self.b, **self.options) + 0.5 * ops.conv2d(h, self.U, padding="same")
        b = ops.conv2d(high, self.W, self.b, **self.options)
        h = ops.tanh(a - a.mean(0) + b.mean((2, 3), keepdims=True))
        return h, h


class Ones(Step):
    """Gradients that are broadcast, and weights that are views of one."""

    def forward(self, x, h):
        U = ops.swapaxes(self.U, 0, 1)
        y = ops.conv2d(x, self.W, **self.options).sum((1, 2, 3), keepdims=True) + self.b.sum()
        h = ops.tanh(0.1 * y + ops.conv2d(h, U, padding="same"))
        return h, h


@pytest.fixture
def there(engine, request):
    """Where an engine runs."""
    if engine == "cuda":
        request.getfixturevalue("cupy")
    with tg.device("gpu" if engine == "cuda" else "cpu"):
        yield


def outcome(cell, engine, xs, dtype="float64", tracked=True):
    layer = nn.Recurrent(cell, engine=engine).to(dtype)
    layer.zero_grad()
    x = tg.tensor(xs.astype(dtype), requires_grad=tracked)
    ys, state = layer(x)
    ((ys * ys).sum() + (state * state * state).sum()).backward()
    plan = None if engine == "eager" else layer.plan(x)
    found = (ys, state, *([x.grad] if tracked else []), *(p.grad for p in layer.parameters()))
    return [t.numpy() for t in found], plan


def compare(make, xs, engine, tracked=True):
    expected, _ = outcome(make(), "eager", xs, tracked=tracked)
    for dtype, tolerance in (("float64", 1e-11), ("float32", 1e-4)):
        found, plan = outcome(make(), engine, xs, dtype, tracked)
        assert plan.engine == engine, plan
        for a, b in zip(found, expected, strict=True):
            np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance * np.abs(b).max())


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("form", FORMS)
def test_an_engine_computes_what_the_eager_one_does(form, engine, there):
    compare(lambda: Step(form), np.random.default_rng(0).standard_normal((T, B, *FORMS[form][0])), engine)


@pytest.mark.parametrize("engine", ENGINES)
def test_rows_and_gates_of_channels(engine, there):
    compare(Rows, np.random.default_rng(0).standard_normal((T, B, 7)), engine)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("kind, form", [(Views, "same"), (Views, "strides"), (Ones, "same"), (Ones, "strides")])
def test_what_lies_otherwise_in_memory(kind, form, engine, there):
    xs = np.random.default_rng(0).standard_normal((T, B, *FORMS[form][0]))
    compare(lambda: kind(form), xs, engine, tracked=kind is Ones)


@pytest.mark.parametrize("engine", ENGINES)
def test_a_weight_that_moves(engine, there):
    xs = np.random.default_rng(0).standard_normal((T, B, *FORMS["same"][0]))
    if engine == "llvm":
        with pytest.raises(ValueError, match=r"cannot run Shared: .*correlate"):
            outcome(Shared("same"), engine, xs)
        return
    compare(lambda: Shared("same"), xs, engine)


def test_second_derivatives_of_a_compiled_call_are_those_of_the_eager_one():
    xs = np.random.default_rng(0).standard_normal((T, B, *FORMS["strides"][0]))
    found = []
    for engine in ("eager", "numpy"):
        cell = Step("strides")
        x = tg.tensor(xs, requires_grad=True)
        ys, _ = nn.Recurrent(cell, engine=engine)(x)
        (g,) = tg.grad((ys * ys).sum(), [x], create_graph=True)
        found.append([t.numpy() for t in tg.grad((g * g).sum(), [cell.W, cell.U, x])])
    for a, b in zip(*found, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-10)


class Still(Step):
    """An image that is the same at every step, and a weight of it: one gradient for all steps."""

    def __init__(self, form):
        super().__init__(form)
        rng = np.random.default_rng(3)
        self.image, self.V = (
            nn.Parameter(rng.standard_normal((1, 2, 6, 7))),
            nn.Parameter(self.W.numpy()[:, :2, :2, :2]),
        )

    def forward(self, x, h):
        _, h = super().forward(x, h)
        h = h + 0.1 * ops.conv2d(self.image, self.V).sum((2, 3), keepdims=True)
        return h, h


@pytest.mark.parametrize("engine", ENGINES)
def test_an_image_that_does_not_move(engine, there):
    compare(lambda: Still("same"), np.random.default_rng(0).standard_normal((T, B, *FORMS["same"][0])), engine)


@pytest.mark.skipif(importlib.util.find_spec("llvmlite") is None, reason="llvmlite")
@pytest.mark.parametrize("B", [1, 2, 3, 9])
@pytest.mark.parametrize("threads", [1, 2])
def test_images_are_shared_out_to_workers(threads, B, monkeypatch):
    """A batch of as few images as there are workers is shared out: a row of images is much work."""
    from tinygrad_rnn.compiler.llvm import table, workers

    parts, count = [], workers.count
    monkeypatch.setenv("OMP_NUM_THREADS", str(threads))
    monkeypatch.setattr(table.workers, "count", lambda *args: parts.append(count(*args)) or parts[-1])
    xs = np.random.default_rng(0).standard_normal((T, B, *FORMS["strides"][0]))
    compare(lambda: Step("strides"), xs, "llvm")
    assert set(parts) == {min(threads, B, count(1 << 30))}


@pytest.mark.parametrize("engine", ["eager", "numpy"])
def test_a_convolution_has_the_dtype_that_a_product_has(engine):
    """Of images and weights of any dtypes, and its gradients those of what they are of."""
    dtypes = ["int8", "int64", "float16", "float32", "float64"]
    rng = np.random.default_rng(0)
    x, W = rng.integers(-3, 4, (T, B, 2, 5)) / 2, rng.integers(-3, 4, (3, 2, 2)) / 2
    for of_x, of_W in ((a, b) for a in dtypes for b in dtypes):
        images, weight = tg.tensor(x.astype(of_x)), tg.tensor(W.astype(of_W))
        for t in (images, weight):
            t.requires_grad_(t.dtype.kind == "f")

        class Of(nn.Cell):
            def initial_state(self, batch_size):
                return self.zeros(batch_size, 1)

            def forward(self, x, h):
                return ops.conv1d(x, weight), h  # noqa: B023 (it is run at once)

        ys, _ = nn.Recurrent(Of(), engine=engine)(images, tg.zeros(B, 1))
        windows = np.lib.stride_tricks.sliding_window_view(images.numpy(), 2, 3)
        expected = np.einsum("tncpi,kci->tnkp", windows, weight.numpy())
        assert ys.dtype == (images[0] @ tg.tensor(np.zeros((5, 1), of_W))).dtype
        assert ops.conv1d(images.numpy()[0], weight.numpy()).dtype == expected.dtype, "of arrays NumPy's"
        np.testing.assert_allclose(ys.numpy(), expected, 1e-3)
        if ys.requires_grad:
            ys.sum().backward()
            for t in (images, weight):
                assert t.grad is None or t.grad.dtype == t.dtype
            if images.grad is not None:
                whole = np.zeros(x.shape)
                for i in range(2):
                    whole[..., i : i + 4] += weight.numpy().astype(float).sum(0)[:, i, None]
                np.testing.assert_allclose(images.grad.numpy(), whole, 1e-3)
            if weight.grad is not None:
                sums = np.broadcast_to(windows.astype(float).sum((0, 1, 3)), W.shape)
                np.testing.assert_allclose(weight.grad.numpy(), sums, 5e-3)
