"""Several inputs at each step: a tuple or a dict of tensors, in every engine, beside the same inputs in one tensor."""

import importlib.util

from typing import NamedTuple

import cuda_on_cpu
import numpy as np
import pytest

from conftest import REAL_GPU

import tinygrad_rnn as tg
import viz

from tinygrad_rnn import nn, ops

T, B, H = 6, 3, 4
rng = np.random.default_rng(0)


@pytest.fixture(params=["eager", "numpy", "llvm", "cuda"])
def engine(request):
    """Each engine, on its device."""
    if request.param == "llvm":
        pytest.importorskip("llvmlite")
    if request.param == "cuda":
        if not REAL_GPU and cuda_on_cpu.missing() is not None:
            pytest.skip("needs g++")
        request.getfixturevalue("cupy")
    with tg.device("gpu" if request.param == "cuda" else "cpu"):
        yield request.param


class Pair(NamedTuple):
    seen: object
    told: object


class Reader(nn.Cell):
    """h' = tanh(a U + Σ over rows of c V + s w + h W)   a: (B, 2)  c: (B, 2, 3), or its rows in one  s: (B,)"""

    def __init__(self, parts):
        draw = lambda *shape: nn.Parameter(rng.standard_normal(shape).astype("f") / 2)
        self.U, self.V, self.w, self.W, self.parts = draw(2, H), draw(3, H), draw(H), draw(H, H), parts

    def initial_state(self, batch_size):
        return self.zeros(batch_size, H)

    def forward(self, x, h):
        a, c, s = self.parts(x)
        c = c.sum(1) if c.ndim == 3 else c[:, :3] + c[:, 3:]
        h = ops.tanh(a @ self.U + c @ self.V + s[:, None] * self.w + h @ self.W)
        return h, h


def arrays(steps=T, batch=B, dtype="f", flat=False):
    draw = lambda *rest: np.random.default_rng(len(rest)).standard_normal((steps, batch, *rest)).astype(dtype)
    c = draw(2, 3)
    return draw(2), c.reshape(steps, batch, 6) if flat else c, draw()


NESTS = {
    "tuple": (lambda a, c, s: (a, c, s), lambda x: x),
    "dict": (lambda a, c, s: {"s": s, "a": a, "c": c}, lambda x: (x["a"], x["c"], x["s"])),
    "nested": (lambda a, c, s: Pair((a, s), {"c": c}), lambda x: (x.seen[0], x.told["c"], x.seen[1])),
}
every_nest = pytest.mark.parametrize("nest", NESTS)


def in_one(x):
    """The same in one tensor."""
    return x[:, :2], x[:, 2:8].reshape(len(x), 2, 3), x[:, 8]


def outcome(cell, xs, inputs, engine, lengths=None, **options):
    rnn = nn.Recurrent(cell, engine=engine, **options)
    ys, state = rnn(xs, lengths=lengths)
    for p in cell.parameters():
        p.grad = None
    ((ys * ys).sum() + state.sum()).backward()
    return [t.numpy() for t in (ys, state, *(x.grad for x in inputs), *(p.grad for p in cell.parameters()))]


@every_nest
@pytest.mark.parametrize("lengths", [None, [6, 2, 0]])
def test_they_compute_what_one_tensor_of_them_does(engine, nest, lengths):
    make, parts = NESTS[nest]
    cell = Reader(parts)
    given = [tg.tensor(a, requires_grad=True) for a in arrays(flat=engine == "llvm")]  # which has no form for a reshape
    found = outcome(cell, make(*given), given, engine, lengths)
    cell.parts = in_one
    whole = tg.tensor(np.concatenate([a.reshape(T, B, -1) for a in arrays()], -1), requires_grad=True)
    expected = outcome(cell, whole, [whole], "eager", lengths)
    dx = np.concatenate([g.reshape(T, B, -1) for g in found[2:5]], -1)
    for a, b in zip([*found[:2], dx, *found[5:]], expected, strict=True):
        np.testing.assert_allclose(a, b, 2e-5, 2e-6)


def test_forms_of_one_size_are_told_apart(engine):
    """(B, 2) and (B, 3), then (B, 3) and (B, 2): as many numbers."""

    class First(nn.RNNCell):
        def forward(self, x, h):
            h = ops.tanh(x[0].sum(1, keepdims=True) + 0.1 * x[1].sum(1, keepdims=True) + h @ self.W)
            return h, h

    cell = First(1, H)
    rnn, eager = nn.Recurrent(cell, engine=engine), nn.Recurrent(cell, engine="eager")
    for shapes in ((2, 3), (3, 2), (2, 3)):
        xs = tuple(tg.tensor(rng.standard_normal((T, B, n)).astype("f")) for n in shapes)
        np.testing.assert_allclose(rnn(xs)[0].numpy(), eager(xs)[0].numpy(), 2e-5, 2e-6)
        expected = np.tanh(xs[0].numpy()[0].sum(-1) + 0.1 * xs[1].numpy()[0].sum(-1))
        np.testing.assert_allclose(rnn(xs)[0].numpy()[0, :, 0], expected, 2e-5, 2e-6)


def test_directions_layers_plans_second_derivatives_and_no_steps(tmp_path):
    make, parts = NESTS["dict"]
    both = nn.Bidirectional(Reader(parts), Reader(parts))
    given = [tg.tensor(a) for a in arrays(flat=True)]
    ys, _ = both(make(*given), lengths=[6, 2, 0])
    one, _ = both.forwards(make(*given), lengths=[6, 2, 0])
    np.testing.assert_allclose(ys.numpy()[..., :H], one.numpy(), 1e-6)
    stack = nn.Recurrent(nn.Stack([Reader(parts), nn.GRUCell(H, H)]))
    assert stack(make(*given))[0].shape == (T, B, H) and stack.plan(make(*given)).engine in ("llvm", "numpy")
    assert stack(make(*(a[:0] for a in given)))[0].shape == (0, B, H)
    few = [tg.tensor(a.astype("float64")) for a in arrays(2, 2)]
    cell = Reader(parts).to("float64")
    tg.gradcheck(lambda a, c, s: nn.Recurrent(cell, engine="numpy")(make(a, c, s))[0], *few)
    if importlib.util.find_spec("graphviz"):
        viz.draw(stack(make(*given))[0].sum(), tmp_path / "several.svg")


def test_dtypes_follow_the_parameters_with_a_word():
    make, parts = NESTS["tuple"]
    rnn = nn.Recurrent(Reader(parts))
    with pytest.warns(UserWarning, match="xs is float64 and the parameters are float32"):
        ys, _ = rnn(make(*arrays(dtype="float64", flat=True)))
    assert ys.dtype == np.float32


BAD = {
    "lengths": (lambda a, c, s: (a, c[:3], s), r"each be \(T, B, …\) with the same T and B, got \(\(6, 3, 2\), \(3,"),
    "dtypes": (lambda a, c, s: (a, c, s > 0), "of one dtype, got bool, float32; make them numbers of one, embed ids"),
    "axes": (lambda a, c, s: (a, c, s[0]), r"each be \(T, B, …\)"),
}


@pytest.mark.parametrize("name", BAD)
def test_what_does_not_fit_is_told(name):
    make, line = BAD[name]
    with pytest.raises(ValueError, match=f"^Recurrent: several xs must .*{line}"):
        nn.Recurrent(Reader(None))(make(*arrays()))


def test_a_cell_of_ones_own_that_reads_one_input_says_so():
    class One(nn.Cell):
        def __init__(self):
            self.U = nn.Parameter(np.ones((2, H), np.float32))

        def initial_state(self, batch_size):
            return self.zeros(batch_size, H)

        def forward(self, x, h):
            return x @ self.U + h, h

    steps = tuple(tg.zeros(T, B, 2) for _ in range(2))
    with pytest.raises(TypeError, match="matmul: operands must be tensors, got a tuple of tensors; stack them first"):
        nn.Recurrent(One())(steps)


def test_a_cell_of_one_input_says_so():
    with pytest.raises(ValueError, match=r"^nn.LSTM: xs must be one tensor for LSTMCell, got \(\(6, 3, 2\)"):
        nn.LSTM(2, 3)(arrays())
