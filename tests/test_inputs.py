"""What a layer takes: arrays and lists, other dtypes, other sizes; the same in every engine, or one sentence."""

import copy
import pickle
import warnings

import numpy as np
import pytest

import tinygrad_rnn as tg

from tinygrad_rnn import nn, ops
from tinygrad_rnn.autograd import nest

pytestmark = pytest.mark.filterwarnings("ignore:.* runs slower than it might:UserWarning")  # told once for a class
T, B, I, H = 6, 2, 3, 4
XS = np.random.default_rng(0).normal(size=(T, B, I))
every = pytest.mark.parametrize("engine", ["eager", "numpy", "auto"])
engines = pytest.mark.parametrize("engine", ["eager", "numpy", "llvm"])
LAYERS = {
    "RNN": lambda engine: nn.RNN(I, H, engine=engine),
    "LSTM": lambda engine: nn.LSTM(I, H, engine=engine),
    "GRU": lambda engine: nn.GRU(I, H, 2, bidirectional=True, engine=engine),
    "a cell": lambda engine: nn.Recurrent(nn.ResidualCell(nn.ZoneoutCell(nn.MGUCell(I, I), 0.0)), engine=engine),
    "two cells": lambda engine: nn.Bidirectional(nn.IndRNNCell(I, H), nn.PeepholeLSTMCell(I, H), engine=engine),
}
WARNING = (
    "{}: xs is {} and the parameters are {}: it is converted, at each call; "
    'pass xs.astype("{}"), or make the layer .to("{}")'
)
WHO = {"a cell": "Recurrent", "two cells": "Bidirectional", **{name: f"nn.{name}" for name in ("RNN", "LSTM", "GRU")}}


def made(name, engine, dtype="float32"):
    tg.manual_seed(0)
    return LAYERS[name](engine).to(dtype)


def run(layer, xs, state=None, **ways):
    """Outputs, states and gradients as arrays, and what was warned of."""
    x = xs if not isinstance(xs, tg.Tensor) or xs.dtype.kind != "f" else xs.detach().requires_grad_()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        ys, last = layer(x, state, **ways)
    found = [*nest.leaves(ys), *nest.leaves(last)]
    sum((t * t).sum() for t in found).backward()
    grads = [p.grad for p in layer.parameters()]
    layer.zero_grad()
    return [t.numpy() for t in (*found, *grads)], getattr(x, "grad", None), [str(w.message) for w in caught]


def assert_same(found, expected, tolerance=1e-5):
    for a, b in zip(found, expected, strict=True):
        assert a.dtype == b.dtype
        np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance)


# ---- dtypes ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("engine", ["eager", "numpy", pytest.param("llvm", marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("ways", [{}, {"lengths": [6, 3]}, {"all_states": True}], ids=["", "ragged", "all"])
def test_data_of_another_precision_become_the_layers_with_one_warning(engine, name, ways):
    layer, x = made(name, engine), tg.tensor(XS)
    expected, dx, none = run(layer, x.astype("float32"), **ways)
    found, dx64, told = run(layer, x, **ways)
    assert none == [] and told == [WARNING.format(WHO[name], "float64", "float32", "float32", "float64")]
    assert_same(found, expected)
    assert dx64.dtype == np.float64 and dx.dtype == np.float32
    np.testing.assert_allclose(dx64.numpy(), dx.numpy(), rtol=1e-5, atol=1e-6)
    assert run(layer, x, **ways)[2] == []  # it is said once


@every
@pytest.mark.parametrize("cell", ["float16", "float32", "float64"])
@pytest.mark.parametrize("came", ["float16", "float32", "float64"])
def test_each_dtype_meets_each(engine, cell, came):
    layer, x = made("LSTM", engine, cell), tg.tensor(XS).astype(came)
    expected = run(layer, x.astype(cell))[0]
    found, _, told = run(layer, x)
    assert_same(found, expected)
    assert bool(told) == (cell != came) and all(a.dtype == cell for a in found)


def test_another_order_of_bytes_is_no_other_precision():
    layer, x = made("LSTM", "eager"), XS.astype("f")
    expected, _, _ = run(layer, x)
    found, _, told = run(layer, tg.tensor(x.astype(">f4")))
    assert told == []
    assert_same(found, expected)


@every
def test_a_state_of_another_precision_is_converted_too(engine):
    layer, x = made("LSTM", engine), tg.tensor(XS).astype("float32")
    h = np.random.default_rng(1).normal(size=(2, 1, B, H))
    expected, _, _ = run(layer, x, tuple(map(tg.tensor, h.astype("f"))))
    h64 = tuple(tg.tensor(s, requires_grad=True) for s in h)
    found, _, told = run(layer, x, h64)
    assert_same(found, expected)
    assert h64[0].grad.dtype == np.float64
    assert len(told) == 1 and told[0].startswith("nn.LSTM: state is float64 and the parameters are float32")
    assert_same(run(layer, x, tuple(h))[0], expected)  # arrays


@every
def test_a_layer_knows_its_dtype_at_once_however_it_came_to_it(engine):
    layer, x32 = made("LSTM", engine), tg.tensor(XS).astype("float32")
    assert run(layer, x32)[2] == []
    layer.to("float64")
    found, _, told = run(layer, x32)
    assert len(told) == 1 and found[0].dtype == np.float64
    assert run(copy.deepcopy(layer), x32)[0][0].dtype == np.float64
    assert run(pickle.loads(pickle.dumps(layer)), tg.tensor(XS))[2] == []
    layer = nn.Recurrent(nn.RNNCell(I, H), engine=engine)
    assert run(layer, x32)[2] == []
    layer.cell = nn.RNNCell(I, H).to("float64")
    assert len(run(layer, x32)[2]) == 1


class TwoPrecisions(nn.Cell):
    """A state that is float32 whatever the parameters are."""

    def __init__(self):
        self.U = nn.Parameter(np.random.default_rng(2).normal(size=(I, H)))

    def initial_state(self, batch_size):
        return self.zeros(batch_size, H), self.zeros(batch_size, H).astype("float32")

    def forward(self, x, state):
        h, slow = state
        slow = (0.9 * slow.astype(h.dtype) + 0.1 * h).astype("float32")
        return h, (ops.tanh(x @ self.U + slow.astype(h.dtype)), slow)


@every
def test_a_state_that_is_carried_over_comes_in_the_dtypes_that_the_cell_gave_it(engine):
    layer, x = nn.Recurrent(TwoPrecisions(), engine=engine), tg.tensor(XS)
    whole, _ = layer(x)
    first, state = layer(x[:4])
    assert [s.dtype for s in state] == [np.float64, np.float32]
    second, _ = layer(x[4:], nn.detached(state))  # no warning, which would be an error
    np.testing.assert_allclose(ops.concat([first, second]).numpy(), whole.numpy(), rtol=1e-6)


class Mixed(TwoPrecisions):
    def __init__(self):
        super().__init__()
        self.b = nn.Parameter(np.zeros(H, "f"))


class Without(nn.Cell):
    def initial_state(self, batch_size):
        return self.zeros(batch_size, I)

    def forward(self, x, h):
        h = 0.5 * h + x
        return h, h


@every
def test_parameters_of_several_dtypes_or_none_change_nothing(engine):
    for cell in (Mixed(), Without()):
        for dtype in ("float32", "float64"):
            ys, _ = nn.Recurrent(cell, engine=engine)(tg.tensor(XS).astype(dtype))
            assert ys.dtype == (np.float64 if isinstance(cell, Mixed) else dtype)


class Embeds(nn.Cell):
    def __init__(self):
        self.E, self.cell = nn.Embedding(5, I), nn.GRUCell(I, H)

    def initial_state(self, batch_size):
        return self.cell.initial_state(batch_size)

    def forward(self, x, h):
        return self.cell(self.E(x[:, 0]), h)


@every
@pytest.mark.parametrize("dtype", ["uint8", "int64"])
def test_ids_are_for_the_cell_to_read_and_numbers_for_those_of_the_library(engine, dtype):
    ids = np.random.default_rng(3).integers(0, 5, (T, B, 1)).astype(dtype)
    cell = Embeds()
    ys, _ = nn.Recurrent(cell, engine=engine)(ids)
    table = cell.E.E.numpy()
    expected, _ = nn.Recurrent(cell.cell, engine=engine)(table[ids[:, :, 0]])
    np.testing.assert_allclose(ys.numpy(), expected.numpy(), rtol=1e-5, atol=1e-6)
    hot = np.eye(I)[ids[:, :, 0] % I]
    layer = nn.LSTM(I, H, engine=engine)
    for x in (hot.astype(dtype), hot.astype(bool)):
        found, _ = layer(x)
        np.testing.assert_allclose(found.numpy(), layer(hot.astype("f"))[0].numpy(), rtol=1e-5)
        assert found.dtype == np.float32


# ---- kinds -----------------------------------------------------------------------------------------------------------


@every
@pytest.mark.parametrize("T", [1, 3, 4])
def test_arrays_and_lists_are_taken_whatever_the_length(engine, T):
    xs = XS[:T].astype("f")
    layers = [made(name, engine) for name in (LAYERS if engine == "eager" or T == 1 else ["LSTM", "two cells"])]
    for layer in layers:
        expected = layer(tg.tensor(xs))[0].numpy()
        for given in (xs, xs.tolist(), list(xs), [tg.tensor(x) for x in xs], np.asfortranarray(xs), xs[::-1][::-1]):
            np.testing.assert_allclose(layer(given)[0].numpy(), expected, rtol=1e-6, atol=1e-7)


def test_a_list_of_tensors_keeps_its_history_and_a_plan_takes_what_a_call_takes():
    steps = [tg.tensor(x, "float32", requires_grad=True) for x in XS]
    layer = nn.Recurrent(nn.LSTMCell(I, H))
    layer(steps)[0].sum().backward()
    assert all(x.grad is not None for x in steps)
    xs = XS.astype("f")
    assert "LSTMCell, 6 steps of x (2, 3)" in str(layer.plan(xs)) and "engine" in str(layer.plan(xs.tolist()))


@every
def test_a_layer_may_read_nothing(engine):
    for make in (nn.RNN, nn.LSTM, nn.GRU):
        layer = make(0, H, engine=engine)
        found = run(layer, np.zeros((T, B, 0), "f"), lengths=[6, 3])[0]
        assert found[0].shape == (T, B, H)


# ---- what does not fit -----------------------------------------------------------------------------------------------

X = XS.astype("f")
REFUSED = {
    "features of a layer": (lambda e: nn.LSTM(I, H, engine=e)(X[:, :, :2]), "nn.LSTM: x must have 3 features, got 2"),
    "features of a second direction": (
        lambda e: nn.GRU(5, H, 2, bidirectional=True, engine=e)(X), "nn.GRU: x must have 5 features, got 3",
    ),
    "features of a class of one's own": (lambda e: Mine(5, H, engine=e)(X), "Mine: x must have 5 features, got 3"),
    "features of a cell": (
        lambda e: nn.Recurrent(nn.MGUCell(5, H), engine=e)(X), "Recurrent: x must have 5 features, got 3",
    ),
    "features of cells in a cell": (
        lambda e: nn.Recurrent(nn.Stack([nn.ZoneoutCell(nn.LSTMCell(5, H), 0.1)]), engine=e)(X),
        "Recurrent: x must have 5 features, got 3",
    ),
    "no c": (
        lambda e: nn.LSTM(I, H, engine=e)(X, tg.zeros(1, B, H)),
        "nn.LSTM: state must be (h, c), each (L·D, B, H), got (1, 2, 4)",
    ),
    "no c of a cell": (
        lambda e: nn.Recurrent(nn.LSTMCell(I, H), engine=e)(X, tg.zeros(B, H)),
        "Recurrent: state must be (h, c), got (2, 4)",
    ),
    "a pair for a GRU": (
        lambda e: nn.GRU(I, H, engine=e)(X, (tg.zeros(1, B, H), tg.zeros(1, B, H))),
        "nn.GRU: state must be h, got ((2, 4), (2, 4))",
    ),
    "no units": (lambda e: nn.LSTM(I, -1, engine=e), "nn.LSTM: input_size must be at least 0 and hidden_size at "
        "least 1, got 3 and -1"),
    "no units of a cell": (
        lambda e: nn.ProjectedLSTMCell(-1, 4, 2),
        "ProjectedLSTMCell: input_size must be at least 0 and hidden_size at least 1, got -1 and 4",
    ),
    "two axes": (lambda e: nn.RNN(I, H, engine=e)(X[0]), "nn.RNN: xs must be (T, B, I), got (2, 3)"),
    "words": (
        lambda e: nn.RNN(I, H, engine=e)([["a"]]),
        "tensor: values must be floats, integers or booleans, got dtype <U1",
    ),
}  # fmt: skip


class Mine(nn.LSTM):
    """A layer of a user's own."""


@engines
@pytest.mark.parametrize("name", REFUSED)
def test_what_does_not_fit_is_refused_by_the_class_that_was_called(engine, name):
    call, message = REFUSED[name]
    with pytest.raises((ValueError, TypeError)) as caught:
        call(engine)
    assert str(caught.value) == message
