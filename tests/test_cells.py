"""Every cell, unrolled by Recurrent: its values, backpropagation through time, lengths, and the edges."""

import functools
import math

import numpy as np
import pytest

from cells import CELLS, H, I
from comparing import some
from comparing import values as numbers

import tinygrad_rnn as tg

from tinygrad_rnn import nn
from tinygrad_rnn.autograd import nest
from tinygrad_rnn.autograd.graph import all_parents, ancestors

T, B = 4, 3
every_cell = pytest.mark.parametrize("case", CELLS.values(), ids=CELLS)
textbook = pytest.mark.parametrize(
    "case", [c for c in CELLS.values() if c.step], ids=[name for name, c in CELLS.items() if c.step]
)
every_engine = pytest.mark.parametrize("engine", ["eager", "numpy"])


def unrolled(case, dtype="float64", seed=0, engine="auto"):
    """The cell in a Recurrent, every parameter random, biases too."""
    rng = np.random.default_rng(seed)
    rnn = nn.Recurrent(case.make(), engine=engine).to(dtype)
    for p in rnn.parameters():
        p.data = rng.standard_normal(p.shape) * 0.7
    return rnn


@functools.cache
def shared(case, engine):
    """One for all tests that leave it as it is: its step is compiled once."""
    return unrolled(case, engine=engine)


def sequence(*shape, seed=1, dtype=np.float64, requires_grad=True):
    return tg.tensor(np.random.default_rng(seed).standard_normal(shape).astype(dtype), requires_grad=requires_grad)


def random_state(rnn, batch, seed=2):
    """A state as the cell's initial one, of random numbers that ask for gradients."""
    rng = np.random.default_rng(seed)
    random = lambda t: tg.tensor(rng.standard_normal(t.shape).astype(t.dtype) * 0.5, requires_grad=True)
    return nest.map_leaves(random, rnn.cell.initial_state(batch))


def arrays(state):
    return nest.map_leaves(lambda t: t.numpy(), state)


def weighted(tensors, seed=3):
    """Σ by fixed random weights."""
    rng = np.random.default_rng(seed)
    return sum((t * tg.tensor(rng.standard_normal(t.shape).astype(t.dtype))).sum() for t in tensors)


def everything(rnn, xs, state, lengths=None):
    """Outputs, last state, and the gradients of xs, of the first state and of the parameters."""
    ys, last = rnn(xs, state, lengths)
    values = [ys, *nest.leaves(last)]
    wrt = [xs, *nest.leaves(state), *rnn.parameters()]
    return values, tg.grad(weighted(values), wrt, allow_unused=True)


def all_close(found, expected, rtol=1e-10, atol=1e-11):
    assert len(found) == len(expected)
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_allclose(numbers(a), numbers(b), rtol=rtol, atol=atol)


def numpys(tensors):
    return [t.numpy() for t in tensors]


# ---- values and gradients ------------------------------------------------------------------------------------------


@textbook
@every_engine
def test_a_textbook_cell_computes_its_equations(case, engine):
    rnn = shared(case, engine)
    xs, state = sequence(T, B, I), random_state(rnn, B)
    ys, last = rnn(xs, state)
    p, s = {k.removeprefix("cell."): v for k, v in rnn.state_dict().items()}, arrays(state)
    for t in range(T):
        y, s = case.step(p, xs.numpy()[t], s)
        np.testing.assert_allclose(ys.numpy()[t], y, rtol=1e-12, atol=1e-13)
    all_close(numpys(nest.leaves(last)), nest.leaves(s))


@textbook
def test_a_textbook_cell_starts_from_zeros(case):
    cell = unrolled(case).cell
    for leaf in nest.leaves(cell.initial_state(B)):
        np.testing.assert_array_equal(leaf.numpy(), np.zeros((B, H)))


@every_cell
@every_engine
def test_bptt_is_what_differences_give_by_inputs_first_state_and_every_parameter(case, engine):
    rnn = unrolled(case, engine=engine)
    parameters, state = list(rnn.parameters()), random_state(rnn, 2)
    own = [(p.array, p.node) for p in parameters]

    def run(xs, *rest):
        """Outputs and last state, with `rest` in place of the state's leaves and of the parameters."""
        leaves = iter(rest)
        start = nest.map_leaves(lambda _: next(leaves), state)
        for p, t in zip(parameters, leaves, strict=True):
            p.array, p.node = t.array, t.node
        ys, last = rnn(xs, start)
        return [ys, *nest.leaves(last)]

    inputs = [sequence(3, 2, I), *nest.leaves(state), *(tg.tensor(p.numpy(), requires_grad=True) for p in parameters)]
    assert tg.gradcheck(run, *inputs)
    for p, (array, node) in zip(parameters, own, strict=True):
        p.array, p.node = array, node


@every_cell
@every_engine
def test_two_halves_that_pass_the_state_on_are_the_whole(case, engine):
    rnn = shared(case, engine)
    xs, state = sequence(T, B, I), random_state(rnn, B)
    values, gradients = everything(rnn, xs, state)
    first, middle = rnn(xs[:1], state)
    second, last = rnn(xs[1:], middle)
    joined = [tg.ops.concat([first, second]), *nest.leaves(last)]
    all_close(numpys(joined), numpys(values))
    found = tg.grad(weighted(joined), [xs, *nest.leaves(state), *rnn.parameters()], allow_unused=True)
    all_close(numpys(found), numpys(gradients))


@every_cell
@every_engine
def test_a_detached_state_carries_values_and_no_gradient(case, engine):
    rnn = shared(case, engine)
    xs, state = sequence(2, B, I), random_state(rnn, B)
    _, middle = rnn(xs[:1], state)
    cut = nn.detached(middle)
    assert type(cut) is type(middle)
    all_close(numpys(nest.leaves(cut)), numpys(nest.leaves(middle)))
    ys, _ = rnn(xs[1:], cut)
    g = tg.grad(weighted([ys]), [xs, *nest.leaves(state)], allow_unused=True)
    assert g[0].numpy()[1].any()
    assert not g[0].numpy()[0].any()
    assert not any(s.numpy().any() for s in g[1:])


@every_cell
@pytest.mark.parametrize("dtype", ["float32", "float16"])
@every_engine
def test_single_and_half_precision_are_kept(case, dtype, engine):
    rnn = unrolled(case, dtype, engine=engine)
    for state in (None, random_state(rnn, B)):
        xs = sequence(T, B, I, dtype=dtype)
        ys, last = rnn(xs, state, [T, 0, 2])
        values = [ys, *nest.leaves(last)]
        gradients = tg.grad(weighted(values), [xs, *rnn.parameters()])
        assert {t.dtype for t in (*values, *gradients)} == {np.dtype(dtype)}
        doubles = None if state is None else nest.map_leaves(lambda t: t.detach().to("float64"), state)
        exact, _ = unrolled(case, engine="eager")(xs.detach().to("float64"), doubles, [T, 0, 2])
        np.testing.assert_allclose(ys.numpy(), exact.numpy(), atol=1e-5 if dtype == "float32" else 3e-2)


@every_cell
@pytest.mark.parametrize("lengths", [None, [2, 0, T]], ids=["full", "ragged"])
def test_the_gpu_gives_the_cpus_numbers(case, lengths, cupy):
    results = []
    for device in ("cpu", "gpu"):
        with tg.device(device):
            rnn = shared(case, "auto") if device == "cpu" else unrolled(case)
            values, gradients = everything(rnn, sequence(T, B, I), random_state(rnn, B), lengths)
            assert {t.device for t in (*values, *gradients)} == {tg.default_device()}
            results.append(numpys([*values, *gradients]))
    all_close(*results)


# ---- lengths -------------------------------------------------------------------------------------------------------

RAGGED = [[2, 4, 0], [4, 4, 4], [0, 0, 0], [1, 3, 4]]
ragged = pytest.mark.parametrize("lengths", RAGGED, ids=str)


@every_cell
@ragged
@every_engine
def test_a_masked_batch_is_each_sequence_run_alone_and_cut_to_its_length(case, lengths, engine):
    rnn = shared(case, engine)
    xs, state = sequence(T, B, I), random_state(rnn, B)
    values, gradients = everything(rnn, xs, state, lengths)
    alone, total = [np.zeros(v.shape) for v in values], 0
    us = np.random.default_rng(3)
    weights = [us.standard_normal(v.shape) for v in values]
    for b, n in enumerate(lengths):
        ys, last = rnn(xs[:n, b : b + 1], nest.map_leaves(lambda s, b=b: s[b : b + 1], state))
        alone[0][:n, b] = ys.numpy()[:, 0]
        total = total + (ys * weights[0][:n, b : b + 1]).sum()
        for i, leaf in enumerate(nest.leaves(last), 1):
            alone[i][b] = leaf.numpy()[0]
            total = total + (leaf * weights[i][b : b + 1]).sum()
    all_close(numpys(values), alone)
    found = tg.grad(total, [xs, *nest.leaves(state), *rnn.parameters()], allow_unused=True)
    all_close(numpys(gradients), numpys(found))
    for b, n in enumerate(lengths):
        assert not gradients[0].numpy()[n:, b].any()


@every_cell
@ragged
@pytest.mark.parametrize("filler", some([math.nan, math.inf, 1e300]), ids=["NaN", "infinity", "large"])
@pytest.mark.filterwarnings("error")
@every_engine
def test_what_stands_behind_the_end_changes_nothing(case, lengths, filler, engine):
    rnn = shared(case, engine)
    clean = np.random.default_rng(1).standard_normal((T, B, I))
    dirty = clean.copy()
    for b, n in enumerate(lengths):
        dirty[n:, b] = filler
    state = random_state(rnn, B)
    expected = everything(rnn, tg.tensor(clean, requires_grad=True), state, lengths)
    found = everything(rnn, tg.tensor(dirty, requires_grad=True), state, lengths)
    for mine, theirs in zip(found, expected, strict=True):
        assert all(np.isfinite(t.numpy()).all() for t in mine)
        all_close(numpys(mine), numpys(theirs))


@pytest.mark.parametrize(
    "form",
    [list, tuple, np.array, lambda n: np.array(n, np.int32), lambda n: np.array(n, np.uint8), lambda n: tg.tensor(n)],
    ids=["list", "tuple", "array", "int32", "uint8", "tensor"],
)
def test_lengths_may_be_any_integers(form, device):
    rnn = unrolled(CELLS["LSTM"])
    xs = sequence(T, B, I)
    ys, _ = rnn(xs, lengths=form([2, 4, 0]))
    full, _ = rnn(xs)
    np.testing.assert_array_equal(ys.numpy()[:2, 0], full.numpy()[:2, 0])
    np.testing.assert_array_equal(ys.numpy()[:, 1], full.numpy()[:, 1])
    assert not ys.numpy()[2:, 0].any()
    assert not ys.numpy()[:, 2].any()


def test_full_lengths_record_no_mask():
    rnn = unrolled(CELLS["LSTM"], engine="eager")
    xs = sequence(T, B, I)
    count = lambda lengths: len(ancestors([rnn(xs, lengths=lengths)[0].node], all_parents))
    assert count([T] * B) == count(None) < count([T, T, T - 1])


# ---- edges ---------------------------------------------------------------------------------------------------------


@every_cell
@pytest.mark.parametrize("lengths", [None, [0, 0, 0]], ids=["no lengths", "lengths"])
def test_no_steps_give_no_outputs_and_the_state_as_it_was(case, lengths):
    rnn = unrolled(case)
    state = random_state(rnn, B)
    ys, last = rnn(sequence(0, B, I), state, lengths)
    assert (ys.shape, ys.dtype) == ((0, B, H), np.float64)
    all_close(numpys(nest.leaves(last)), numpys(nest.leaves(state)), 0, 0)
    total = sum(t.sum() for t in nest.leaves(last)) + ys.sum()
    for g in tg.grad(total, nest.leaves(state)):
        np.testing.assert_array_equal(g.numpy(), np.ones(g.shape))


@every_cell
def test_one_step_is_one_call_of_the_cell(case):
    rnn = unrolled(case)
    xs, state = sequence(1, B, I), random_state(rnn, B)
    ys, last = rnn(xs, state)
    y, new = rnn.cell(xs[0], state)
    all_close(numpys([ys[0], *nest.leaves(last)]), numpys([y, *nest.leaves(new)]), 0, 0)


@every_cell
@every_engine
def test_a_batch_is_its_sequences_one_by_one(case, engine):
    rnn = shared(case, engine)
    xs = sequence(T, B, I)
    ys, _ = rnn(xs)
    for b in range(B):
        alone, _ = rnn(xs[:, b : b + 1])
        assert alone.shape == (T, 1, H)
        np.testing.assert_allclose(alone.numpy()[:, 0], ys.numpy()[:, b], rtol=1e-12, atol=1e-14)


@every_cell
def test_an_empty_batch_goes_through(case):
    rnn = unrolled(case)
    xs = sequence(T, 0, I)
    ys, _ = rnn(xs, lengths=np.zeros(0, int))
    assert ys.shape == (T, 0, H)
    for g in tg.grad(ys.sum(), list(rnn.parameters())):
        assert not g.numpy().any()


def test_a_long_sequence_does_not_recurse():
    rnn = unrolled(CELLS["RNN tanh"])
    xs = sequence(2000, 1, I)
    ys, _ = rnn(xs)
    g = tg.grad(ys[-1].sum(), xs).numpy()
    assert g[-1].any()
    assert np.isfinite(g).all()


def test_a_state_that_holds_none_keeps_it():
    class Forgetful(nn.Cell):
        def initial_state(self, batch_size):
            return (self.zeros(batch_size, I), None)

        def forward(self, x, state):
            return x + state[0], (x, None)

    ys, last = nn.Recurrent(Forgetful())(sequence(T, B, I, dtype=np.float32), lengths=[1, 2, 4])
    assert last[1] is None
    assert ys.dtype == np.float32


def test_the_cell_may_be_shared_by_two_drivers():
    cell = unrolled(CELLS["GRU"]).cell
    xs = sequence(T, B, I)
    one, two = nn.Recurrent(cell), nn.Recurrent(cell)
    total = (one(xs)[0] + two(xs)[0]).sum()
    g = tg.grad(total, cell.W)
    np.testing.assert_allclose(g.numpy(), 2 * tg.grad(one(xs)[0].sum(), cell.W).numpy(), rtol=1e-12)


# ---- the graph -----------------------------------------------------------------------------------------------------


@every_cell
def test_every_step_is_a_scope_with_its_number(case):
    ys, _ = unrolled(case, engine="eager")(sequence(T, B, I), lengths=[T, 0, 2])
    scopes = [n.scope for n in ancestors([ys.node], all_parents) if n.op is not None and n.scope]
    steps = {s[1] for s in scopes if len(s) > 1}
    assert steps == set(range(T))
    assert {s[0] for s in scopes} == {"Recurrent"}
    inside = [s for s in scopes if len(s) > 2]
    assert inside
    assert {s[2] for s in inside} == {"cell"}


def test_the_cells_of_a_stack_are_scopes_of_their_own():
    ys, _ = unrolled(CELLS["Stack of LSTM and GRU"])(sequence(1, B, I))
    scopes = {n.scope[3:] for n in ancestors([ys.node], all_parents) if len(n.scope) > 2}
    assert {("cells.0",), ("cells.1",)} <= scopes


# ---- dropout between the cells of a stack --------------------------------------------------------------------------


def test_a_stack_drops_between_its_cells_while_training_only():
    stack = nn.Stack([nn.RNNCell(I, H), nn.RNNCell(H, H)], dropout=0.5)
    rnn, xs = nn.Recurrent(stack), sequence(T, 200, I, dtype=np.float32)
    tg.manual_seed(0)
    first = rnn(xs)[0].numpy()
    tg.manual_seed(0)
    assert (rnn(xs)[0].numpy() == first).all()
    assert (rnn(xs)[0].numpy() != first).any()
    rnn.eval()
    plain = rnn(xs)[0].numpy()
    assert (rnn(xs)[0].numpy() == plain).all()
    assert (plain != first).any()
    rnn.train()
    below = nn.Recurrent(stack.cells[0])(xs)[0].numpy()
    _, (kept, _) = rnn(xs)
    np.testing.assert_array_equal(kept.numpy(), below[-1])  # its own state is not dropped


# ---- initial values ------------------------------------------------------------------------------------------------


def test_an_lstm_starts_with_its_forget_gates_open():
    b = nn.LSTMCell(2, 3).b.numpy()
    np.testing.assert_array_equal(b, [0] * 3 + [1] * 3 + [0] * 6)
    np.testing.assert_array_equal(
        nn.LSTMCell(2, 3, output_gate=False, forget_bias=2.5).b.numpy(), [0] * 3 + [2.5] * 3 + [0] * 3
    )


@pytest.mark.parametrize("name", ["RNN tanh", "LSTM", "LSTM without output gate", "GRU", "GRU reset after"])
def test_recurrent_weights_start_orthogonal_gate_by_gate_and_biases_finite(name):
    cell = CELLS[name].make()
    W = cell.W.numpy()
    for block in np.split(W, W.shape[1] // H, axis=1):
        np.testing.assert_allclose(block.T @ block, np.eye(H), atol=1e-5)
    assert np.abs(cell.U.numpy()).max() <= 1 / math.sqrt(I)
    assert cell.U.numpy().std() > 0.1


def test_the_same_seed_makes_the_same_cell():
    make = CELLS["Stack of LSTM and GRU"].make
    tg.manual_seed(5)
    first = make().state_dict()
    tg.manual_seed(5)
    second = make().state_dict()
    assert first.keys() == second.keys()
    assert all((first[k] == second[k]).all() for k in first)
    assert any((first[k] != v).any() for k, v in make().state_dict().items())


# ---- bad input -----------------------------------------------------------------------------------------------------


class NoPair(nn.Cell):
    def initial_state(self, batch_size):
        return self.zeros(batch_size, I)

    def forward(self, x, state):
        return x


class OtherState(NoPair):
    def forward(self, x, state):
        return x, (x, x)


class OtherKeys(nn.Cell):
    def initial_state(self, batch_size):
        return {"a": self.zeros(batch_size, I)}

    def forward(self, x, state):
        return x, {"b": x}


def lstm():
    return nn.Recurrent(nn.LSTMCell(I, H))


XS = np.zeros((T, B, I), np.float32)
BAD = {
    "xs of two axes": (
        lambda: lstm()(tg.tensor(XS[0])),
        ValueError,
        r"^Recurrent: xs must be \(T, B, I\), got \(3, 2\)$",
    ),
    "xs of another input size": (
        lambda: lstm()(tg.tensor(np.zeros((T, B, 5), np.float32))),
        ValueError,
        "x must have 2 features, got 5$",
    ),
    "too few lengths": (
        lambda: lstm()(tg.tensor(XS), lengths=[1, 2]),
        ValueError,
        r"^Recurrent: lengths must be \(3,\) integers, got \(2,\) of dtype int64$",
    ),
    "lengths of floats": (
        lambda: lstm()(tg.tensor(XS), lengths=[1.0, 2.0, 3.0]),
        ValueError,
        r"^Recurrent: lengths must be \(3,\) integers, got \(3,\) of dtype float64$",
    ),
    "lengths of booleans": (lambda: lstm()(tg.tensor(XS), lengths=[True] * 3), ValueError, "dtype bool$"),
    "a length above T": (
        lambda: lstm()(tg.tensor(XS), lengths=[0, 5, 1]),
        ValueError,
        "^Recurrent: lengths must be from 0 to T = 4, got 0 to 5$",
    ),
    "a negative length": (lambda: lstm()(tg.tensor(XS), lengths=[0, -1, 1]), ValueError, "got -1 to 1$"),
    "a cell that returns no pair": (
        lambda: nn.Recurrent(NoPair())(tg.tensor(XS)),
        TypeError,
        r"^NoPair: forward\(x, state\) must return \(y, state\), got \(3, 2\)$",
    ),
    "a state of another structure": (
        lambda: nn.Recurrent(OtherState())(tg.tensor(XS), lengths=[0, 2, 3]),
        ValueError,
        ": its state must keep its structure, it was ",
    ),
    "a state with other keys": (
        lambda: nn.Recurrent(OtherKeys())(tg.tensor(XS), lengths=[0, 2, 3]),
        ValueError,
        ": its state must keep its structure, it was ",
    ),
    "no cell": (lambda: nn.Recurrent(nn.Linear(2, 2)), TypeError, "^Recurrent: cell must be an nn.Cell, got Linear$"),
    "a nonlinearity": (
        lambda: nn.RNNCell(2, 2, nonlinearity="sin"),
        ValueError,
        "^RNNCell: nonlinearity must be .* got 'sin'$",
    ),
    "a reset": (lambda: nn.GRUCell(2, 2, reset="never"), ValueError, "^GRUCell: reset must be .* got 'never'$"),
    "an empty stack": (lambda: nn.Stack([]), ValueError, "^Stack: there must be at least one cell, got none$"),
    "no initial_state": (
        lambda: nn.Recurrent(nn.Cell())(tg.tensor(XS)),
        NotImplementedError,
        "^Cell: must define initial_state",
    ),
}


@pytest.mark.parametrize("call, kind, message", BAD.values(), ids=BAD)
def test_bad_input_is_refused_in_one_line(call, kind, message):
    with pytest.raises(kind, match=message) as caught:
        call()
    assert "\n" not in str(caught.value)


def test_a_cell_without_parameters_has_float32_states():
    assert NoPair().zeros(2, 3).dtype == np.float32
