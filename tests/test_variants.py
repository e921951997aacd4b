"""The variants of cells and the cells around cells: equations, derivatives, every engine, dropping and keeping."""

import numpy as np
import pytest

from cells import H, I, gates, rnn_step, sigma
from comparing import some
from test_compiler import (
    TOLERANCE,
    close,
    equals_eager,
    every_engine,
    made,
    outcome,
    random_state,
    sequence,
    shared,
    values,
    weighted,
    without_llvmlite,
)

import tinygrad_rnn as tg

from tinygrad_rnn import nn, ops
from tinygrad_rnn.autograd import nest
from tinygrad_rnn.nn.cell_wrappers import ResidualCell, VariationalDropoutCell, VariationalState, Wrapper, ZoneoutCell
from tinygrad_rnn.nn.cells import LSTMState
from tinygrad_rnn.nn.more_cells import (
    CoupledLSTMCell,
    IndRNNCell,
    LayerNormLSTMCell,
    MGUCell,
    PeepholeLSTMCell,
    ProjectedLSTMCell,
    irnn_cell,
)

T, B, P = 4, 3, 2


# ---- the equations, gate by gate, in NumPy ---------------------------------------------------------------------------


def split_gates(p, x, state, names):
    return {name: z for name, (z, *_) in gates(x, state[0], p, names).items()}


def lstm_step(p, x, state):
    z = split_gates(p, x, state, "ifgo")
    c = sigma(z["f"]) * state[1] + sigma(z["i"]) * np.tanh(z["g"])
    h = sigma(z["o"]) * np.tanh(c)
    return h, (h, c)


def peephole_step(p, x, state):
    _, c = state
    z = split_gates(p, x, state, "ifgo")
    i, f = sigma(z["i"] + p["p_i"] * c), sigma(z["f"] + p["p_f"] * c)
    new = f * c + i * np.tanh(z["g"])
    h = sigma(z["o"] + p["p_o"] * new) * np.tanh(new)
    return h, (h, new)


def coupled_step(p, x, state):
    z = split_gates(p, x, state, "fgo")
    keep = sigma(z["f"])
    c = keep * state[1] + (1 - keep) * np.tanh(z["g"])
    h = sigma(z["o"]) * np.tanh(c)
    return h, (h, c)


def normed(p, name, z):
    scaled = (z - z.mean(-1, keepdims=True)) / np.sqrt(z.var(-1, keepdims=True) + 1e-5)
    return scaled * p[f"{name}.gain"] + p[f"{name}.b"]


def layer_norm_step(p, x, state):
    h, c = state
    z = normed(p, "norm_x", x @ p["U"]) + normed(p, "norm_h", h @ p["W"]) + p["b"]
    i, f, g, o = (z[:, k * H : (k + 1) * H] for k in range(4))
    c = sigma(f) * c + sigma(i) * np.tanh(g)
    h = sigma(o) * np.tanh(normed(p, "norm_c", c))
    return h, (h, c)


def projected_step(p, x, state):
    long, (_, c) = lstm_step(p, x, state)
    h = long @ p["R"]
    return h, (h, c)


def mgu_step(p, x, h):
    z = gates(x, h, p, "fn")
    f = sigma(z["f"][0])
    _, U, W, b = z["n"]
    h = (1 - f) * h + f * np.tanh(x @ U + (f * h) @ W + b)
    return h, h


def indrnn_step(p, x, h):
    new = np.array([[x[b] @ p["U"][:, k] + p["w"][k] * h[b, k] + p["b"][k] for k in range(H)] for b in range(len(x))])
    new = np.maximum(new, 0)
    return new, new


def inside(step):
    """The step of the cell in a wrapper."""
    return lambda p, x, state: step({k.removeprefix("cell."): v for k, v in p.items()}, x, state)


def residual_step(p, x, state):
    y, state = inside(lstm_step)(p, x, state)
    return x + y, state


def zoneout_step(p_h, p_c):
    """In evaluation."""

    def step(p, x, state):
        _, (h, c) = inside(lstm_step)(p, x, state)
        h, c = p_h * state[0] + (1 - p_h) * h, p_c * state[1] + (1 - p_c) * c
        return h, (h, c)

    return step


def variational_step(p, x, state):
    """In training."""
    (h, c), x_mask, h_mask = state
    y, new = inside(lstm_step)(p, x * x_mask, (h * h_mask, c))
    return y, (new, x_mask, h_mask)


def dropless_step(p, x, state):
    """In evaluation, of a state with masks."""
    y, new = inside(lstm_step)(p, x, state[0])
    return y, (new, *state[1:])


# ---- the table: how each is made, and its step -----------------------------------------------------------------------

relu_step = rnn_step(lambda a: np.maximum(a, 0))
VARIANTS = {
    "peephole": (lambda: PeepholeLSTMCell(I, H), peephole_step),
    "coupled": (lambda: CoupledLSTMCell(I, H), coupled_step),
    "layer norm": (lambda: LayerNormLSTMCell(I, H), layer_norm_step),
    "projected": (lambda: ProjectedLSTMCell(I, H, P), projected_step),
    "MGU": (lambda: MGUCell(I, H), mgu_step),
    "IndRNN": (lambda: IndRNNCell(I, H), indrnn_step),
    "IRNN": (lambda: irnn_cell(I, H), relu_step),
}
lstm = lambda: nn.LSTMCell(I, H)
around = lambda wrapper, *p: lambda: wrapper(lstm(), *p)
by_leaf = LSTMState(0.3, 0.6)
WRAPPERS = {
    "residual": (lambda: ResidualCell(nn.LSTMCell(I, I)), None),
    "zoneout": (around(ZoneoutCell, 0.4), None),
    "zoneout by leaf": (around(ZoneoutCell, by_leaf), None),
    "zoneout of c alone": (around(ZoneoutCell, LSTMState(0, 0.5)), None),
    "zoneout of a stack": (lambda: ZoneoutCell(nn.Stack([lstm(), nn.GRUCell(H, H)]), (0.2, 0.5)), None),
    "variational": (around(VariationalDropoutCell, 0.3, 0.5), variational_step),
    "variational of x": (around(VariationalDropoutCell, 0.5), None),
    "variational of h": (around(VariationalDropoutCell, 0.0, 0.5), None),
    "all three": (lambda: ResidualCell(ZoneoutCell(VariationalDropoutCell(nn.LSTMCell(I, I), 0.3, 0.5), 0.4)), None),
    "residual in evaluation": (lambda: ResidualCell(nn.LSTMCell(I, I)).eval(), residual_step),
    "zoneout in evaluation": (lambda: ZoneoutCell(lstm(), 0.4).eval(), zoneout_step(0.4, 0.4)),
    "zoneout by leaf in evaluation": (lambda: ZoneoutCell(lstm(), by_leaf).eval(), zoneout_step(0.3, 0.6)),
    "variational in evaluation": (lambda: VariationalDropoutCell(lstm(), 0.3, 0.5).eval(), None),
}
ALL = VARIANTS | WRAPPERS
STOCHASTIC = [name for name in WRAPPERS if "evaluation" not in name and name != "residual"]
every_variant = pytest.mark.parametrize("name", ALL)
with_equations = pytest.mark.parametrize("name", [name for name, (_, step) in ALL.items() if step])
all_engines = pytest.mark.parametrize("engine", ["eager", "numpy", pytest.param("llvm", marks=without_llvmlite)])


def arrays(state):
    return nest.map_leaves(lambda t: t.numpy(), state)


def follows(rnn, step, state):
    """Check that a Recurrent computes what the step in NumPy does."""
    xs = sequence(T, B)
    ys, last = rnn(xs, state)
    p, s = {k.removeprefix("cell."): v for k, v in rnn.state_dict().items()}, arrays(state)
    for t in range(T):
        y, s = step(p, xs.numpy()[t], s)
        np.testing.assert_allclose(ys.numpy()[t], y, rtol=1e-12, atol=1e-12)
    assert len(nest.leaves(last)) == len(nest.leaves(s))
    for found, expected in zip(nest.leaves(last), nest.leaves(s), strict=True):
        np.testing.assert_allclose(found.numpy(), expected, rtol=1e-12, atol=1e-12)


# ---- values and gradients --------------------------------------------------------------------------------------------


@with_equations
@all_engines
def test_each_computes_its_equations(name, engine):
    make, step = ALL[name]
    rnn = shared(make, engine)
    follows(rnn, step, random_state(rnn.cell, B))


@pytest.mark.parametrize("name", VARIANTS)
def test_a_variant_starts_from_zeros_of_its_sizes(name):
    state = made(ALL[name][0], "eager").cell.initial_state(B)
    assert nest.leaves(state)
    for i, leaf in enumerate(nest.leaves(state)):
        size = P if name == "projected" and i == 0 else H
        np.testing.assert_array_equal(leaf.numpy(), np.zeros((B, size)))
        assert leaf.dtype == np.float64


@every_variant
@pytest.mark.parametrize("engine", ["eager", "numpy"])
def test_first_and_second_derivatives_are_what_differences_give(name, engine):
    rnn = made(ALL[name][0], engine)
    parameters, state = list(rnn.parameters()), random_state(rnn.cell, 2)

    def run(xs, *rest):
        """Outputs and last state, with `rest` in place of the state's leaves and of the parameters."""
        leaves = iter(rest)
        start = nest.map_leaves(lambda _: next(leaves), state)
        for p, t in zip(parameters, leaves, strict=True):
            p.array, p.node = t.array, t.node
        tg.manual_seed(5)
        ys, last = rnn(xs, start)
        return [ys, *nest.leaves(last)]

    own = [tg.tensor(p.numpy(), requires_grad=True) for p in parameters]
    assert tg.gradcheck(run, sequence(3, 2), *nest.leaves(state), *own)


@pytest.mark.slow
@every_variant
@every_engine
def test_every_size_and_length_compiled_equals_eager(name, engine):
    """One Recurrent for all: they change between calls."""

    def play(rnn):
        found = {}
        for steps in (1, 4, 5):
            for lengths in ([steps], [steps - 1], [steps] * 3, [steps // 2, 0, steps]):
                state = random_state(rnn.cell, len(lengths)) if min(lengths) < steps else None
                results = outcome(rnn, sequence(steps, len(lengths), seed=steps), state, lengths)
                found |= {f"{steps} steps, lengths {lengths}: {key}": array for key, array in results.items()}
        return found

    equals_eager(play, ALL[name][0], engine, rtol=1e-10)


@pytest.mark.parametrize("name", some(ALL))
@without_llvmlite
def test_the_llvm_engine_itself_runs_each_in_single_precision_and_equals_eager(name):
    """In double precision it leaves what draws random numbers, which are float32, to the engine "numpy"."""
    xs, results = sequence(5, B).detach().astype("float32").requires_grad_(), []
    for engine in ("eager", "llvm"):
        rnn = made(ALL[name][0], engine, "float32")
        assert rnn.plan(xs).engine == engine
        tg.manual_seed(7)
        results.append(outcome(rnn, xs, random_state(rnn.cell, B), [5, 0, 3]))
    close(*results[::-1], TOLERANCE["float32"])


@pytest.mark.slow
@every_variant
@every_engine
def test_all_states_and_checkpoints_equal_eager(name, engine):
    def play(rnn):
        xs, state = sequence(5, B), random_state(rnn.cell, B)
        ys, states = rnn(xs, state, [5, 0, 3], all_states=True)
        leaves = nest.leaves(states)
        wrt = [xs, *nest.leaves(state), *rnn.parameters()]
        found = [ys, *leaves, *tg.grad(weighted([ys, *leaves]), wrt, allow_unused=True)]
        return {str(i): t.numpy() for i, t in enumerate(found)}

    equals_eager(play, ALL[name][0], engine, rtol=1e-10, checkpoint_every=2)


# Each day a variant has one precision by each engine, and the next variant the other; the rest is slow.
PRECISIONS = [
    pytest.param(name, dtype, engine, marks=[] if (i + j + k) % 2 == 0 else pytest.mark.slow)
    for i, name in enumerate(ALL)
    for j, dtype in enumerate(["float32", "float16"])
    for k, engine in enumerate(["eager", "numpy"])
]


@pytest.mark.parametrize("name, dtype, engine", PRECISIONS)
def test_single_and_half_precision_are_kept(name, dtype, engine):
    rnn = made(ALL[name][0], engine, dtype)
    xs = tg.tensor(sequence(T, B).numpy().astype(dtype), requires_grad=True)
    ys, last = rnn(xs, lengths=[T, 1, 0])
    gradients = tg.grad(weighted([ys]), [xs, *rnn.parameters()])
    assert {t.dtype for t in (ys, *nest.leaves(last), *gradients)} == {np.dtype(dtype)}


@every_variant
def test_the_gpu_gives_the_cpus_numbers(name, cupy):
    results = []
    for device in ("cpu", "gpu"):
        with tg.device(device):
            rnn = made(ALL[name][0], "eager")
            tg.manual_seed(5)
            results.append(outcome(rnn, sequence(T, B), None, [2, 0, T]))
            assert {t.device for t in nest.leaves(rnn.cell.initial_state(B))} == {tg.default_device()}
    close(*results)


@pytest.mark.parametrize("name", STOCHASTIC)
def test_masks_are_drawn_on_the_device_of_the_cell_even_if_it_is_not_the_default(name, cupy):
    rnn = made(ALL[name][0], "eager")
    results = []
    for device in ("cpu", "gpu"):
        tg.manual_seed(5)
        ys, last = rnn.to(device)(sequence(T, B).to(device))
        assert {t.device.partition(":")[0] for t in (ys, *nest.leaves(last))} == {device}
        results.append(ys.numpy())
    np.testing.assert_allclose(*results, rtol=1e-12)


# ---- initial values --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "make, gate, count",
    [
        (PeepholeLSTMCell, 1, 4),
        (CoupledLSTMCell, 0, 3),
        (LayerNormLSTMCell, 1, 4),
        (lambda *sizes, **options: ProjectedLSTMCell(*sizes, P, **options), 1, 4),
    ],
    ids=["peephole", "coupled", "layer norm", "projected"],
)
def test_an_lstm_starts_with_its_forget_gates_open_and_no_other_bias(make, gate, count):
    for options, bias in (({}, 1.0), ({"forget_bias": 2.5}, 2.5)):
        cell = make(I, H, **options)
        np.testing.assert_array_equal(cell.b.numpy(), np.repeat(np.arange(count) == gate, H) * bias)


@pytest.mark.parametrize("make", [PeepholeLSTMCell, CoupledLSTMCell, LayerNormLSTMCell, MGUCell])
def test_recurrent_weights_start_orthogonal_gate_by_gate(make):
    W = make(I, H).W.numpy()
    for block in np.split(W, W.shape[1] // H, axis=1):
        np.testing.assert_allclose(block.T @ block, np.eye(H), atol=1e-5)


def test_peepholes_start_closed_and_the_three_are_apart():
    cell = PeepholeLSTMCell(I, H)
    holes = [cell.p_i, cell.p_f, cell.p_o]
    assert not any(p.numpy().any() for p in holes)
    holes[0].data = np.ones(H)
    assert not cell.p_f.numpy().any()
    assert not cell.p_o.numpy().any()


def test_the_weights_of_a_projection_start_by_their_fan_in_and_the_projection_orthonormal():
    cell = ProjectedLSTMCell(100, 40, 25)
    for W, rows in ((cell.U, 100), (cell.W, 25)):
        assert W.shape == (rows, 160)
        assert 0.98 * rows**-0.5 < np.abs(W.numpy()).max() <= rows**-0.5
    np.testing.assert_allclose(cell.R.numpy().T @ cell.R.numpy(), np.eye(25), atol=1e-5)


def test_the_weights_of_an_indrnn_start_between_0_and_1():
    cell = IndRNNCell(16, 1000)
    w = cell.w.numpy()
    assert 0 <= w.min() < 0.02
    assert 0.98 < w.max() <= 1
    assert abs(w.mean() - 0.5) < 0.05
    assert 0.24 < np.abs(cell.U.numpy()).max() <= 0.25


def test_an_irnn_starts_as_an_integrator_of_small_inputs():
    cell = irnn_cell(50, 200, 0.5)
    assert type(cell) is nn.RNNCell
    np.testing.assert_array_equal(cell.W.numpy(), 0.5 * np.eye(200))
    np.testing.assert_array_equal(irnn_cell(2, 3).W.numpy(), np.eye(3))
    np.testing.assert_allclose(cell.U.numpy().std(), 0.001, rtol=0.05)
    assert not cell.b.numpy().any()
    h = np.abs(sequence(1, B, 200).numpy()[0])
    y, _ = cell(tg.zeros(B, 50), tg.tensor(h))
    np.testing.assert_allclose(y.numpy(), 0.5 * h, rtol=1e-6)


# ---- zoneout ---------------------------------------------------------------------------------------------------------


class Echo(nn.Cell):
    """The first state is x, the second is 2 x, and y is x - 1, which is no leaf of the state."""

    def initial_state(self, batch_size):
        return (self.zeros(batch_size, I), self.zeros(batch_size, I))

    def forward(self, x, state):
        return x - 1, (x, 2 * x)


def of_ones(*shape):
    return tg.tensor(np.ones(shape, np.float32))


@all_engines
def test_zoneout_keeps_the_share_p_of_each_leaf_anew_at_each_step(engine):
    rnn = nn.Recurrent(ZoneoutCell(Echo(), (0.2, 0.7)), engine=engine)
    xs = tg.tensor(np.broadcast_to(np.arange(1, 5, dtype=np.float32)[:, None, None], (4, 3000, I)).copy())
    ys, (a, b) = rnn(xs, all_states=True)
    np.testing.assert_array_equal(ys.numpy(), xs.numpy() - 1)
    for leaf, factor, p in ((a.numpy(), 1, 0.2), (b.numpy(), 2, 0.7)):
        before = np.concatenate([np.zeros((1, 3000, I), np.float32), leaf[:-1]])
        kept = leaf == before
        np.testing.assert_array_equal(leaf, np.where(kept, before, factor * xs.numpy()))
        assert np.abs(kept.mean((1, 2)) - p).max() < 0.03  # 5 standard deviations
        assert np.abs(kept.mean((0, 1)) - p).max() < 0.03
        both = (kept[1:] & kept[:-1]).mean()  # steps are drawn apart
        assert abs(both - p * p) < 0.03
    together = ((a.numpy()[0] == 0) & (b.numpy()[0] == 0)).mean()  # and so are leaves
    assert abs(together - 0.2 * 0.7) < 0.03


@all_engines
@pytest.mark.parametrize("p, rates", [(0.4, (0.4, 0.4)), (by_leaf, (0.3, 0.6))], ids=["one", "by leaf"])
def test_zoneout_while_training_follows_its_equations_on_the_librarys_numbers(p, rates, engine):
    rnn = made(around(ZoneoutCell, p), engine)
    rng, seen = np.random.default_rng(9), []

    def step(weights, x, state):
        _, new = inside(lstm_step)(weights, x, state)
        masks = [rng.random((B, H), np.float32) < rate for rate in rates]
        seen.extend(masks)
        h, c = (np.where(keep, old, n) for keep, old, n in zip(masks, state, new, strict=True))
        return h, (h, c)

    tg.manual_seed(9)
    follows(rnn, step, random_state(rnn.cell, B))
    assert 0 < np.mean(seen) < 1


@pytest.mark.parametrize("training", [True, False])
def test_an_output_that_is_a_leaf_of_the_state_is_the_zoned_out_one(training):
    cell = ZoneoutCell(lstm(), 0.5).train(training)
    state = LSTMState(of_ones(B, H), of_ones(B, H))
    y, new = cell(of_ones(B, I), state)
    assert y is new.h
    assert y is not cell.cell(of_ones(B, I), state)[0]


@pytest.mark.parametrize("training", [True, False])
def test_zoneout_by_0_is_the_cell_and_draws_nothing_and_by_1_is_no_change(training):
    x, state = sequence(1, B)[0], random_state(made(lstm, "eager").cell, B)
    cell = made(lstm, "eager").cell
    tg.manual_seed(4)
    y, new = ZoneoutCell(cell, 0).train(training)(x, state)
    assert tg.ops.uniform(3).numpy().tolist() == np.random.default_rng(4).random(3, np.float32).tolist()
    expected, after = cell(x, state)
    for found, wanted in zip((y, *new), (expected, *after), strict=True):
        np.testing.assert_array_equal(found.numpy(), wanted.numpy())
    y, new = ZoneoutCell(cell, 1).train(training)(x, state)
    for found, wanted in zip((y, *new), (state.h, *state), strict=True):
        np.testing.assert_array_equal(found.numpy(), wanted.numpy())


@pytest.mark.parametrize("training", [True, False])
def test_zoneout_leaves_integers_and_what_is_handed_on_alone(training):
    class Counting(nn.Cell):
        def initial_state(self, batch_size):
            return (tg.tensor(np.zeros(batch_size, np.int64)), self.zeros(batch_size, H), None)

        def forward(self, x, state):
            return x, (state[0] + 1, state[1], None)

    cell = ZoneoutCell(Counting(), 0.9).train(training)
    state = cell.initial_state(100)
    for _ in range(3):
        old = state
        _, state = cell(of_ones(100, I), old)
        assert state[1] is old[1]
        assert state[2] is None
    assert state[0].dtype == np.int64
    np.testing.assert_array_equal(state[0].numpy(), np.full(100, 3))


# ---- variational dropout ---------------------------------------------------------------------------------------------


class Shown(nn.Cell):
    """y is x and the first state side by side; the state is ones, and a second one that y shows as it is."""

    def __init__(self):
        self.input_size = I

    def initial_state(self, batch_size):
        return {"h": self.zeros(batch_size, H) + 1, "c": self.zeros(batch_size, H) + 1}

    def forward(self, x, state):
        y = ops.concat([x, state["h"], state["c"]], axis=1)
        return y, {"h": 0 * state["h"] + 1, "c": 0 * state["c"] + 1}


@all_engines
def test_variational_dropout_uses_one_mask_for_all_steps_of_a_sequence(engine):
    rnn = nn.Recurrent(VariationalDropoutCell(Shown(), 0.2, 0.75), engine=engine)
    batch = 3000
    ys, last = rnn(of_ones(T, batch, I))
    np.testing.assert_array_equal(ys.numpy(), np.broadcast_to(ys.numpy()[0], ys.shape))
    x_mask, h_mask, c = np.split(ys.numpy()[0], [I, I + H], axis=1)
    for mask, p in ((x_mask, 0.2), (h_mask, 0.75)):
        np.testing.assert_array_equal(np.unique(mask), np.array([0, 1 / (1 - p)], np.float32))
        assert np.abs((mask == 0).mean(0) - p).max() < 0.04  # 5 standard deviations
        assert abs(((mask[1:] == 0) & (mask[:-1] == 0)).mean() - p * p) < 0.04  # sequences are drawn apart
    np.testing.assert_array_equal(c, np.ones((batch, H)))
    np.testing.assert_array_equal(last.x_mask.numpy(), x_mask)
    np.testing.assert_array_equal(last.h_mask.numpy(), h_mask)
    np.testing.assert_array_equal(last.state["h"].numpy(), np.ones((batch, H)))
    again, _ = rnn(of_ones(T, batch, I))
    assert (again.numpy() != ys.numpy()).any()


@all_engines
@pytest.mark.parametrize("name", STOCHASTIC)
def test_the_same_seed_gives_the_same_numbers_and_another_one_others(name, engine):
    rnn, xs = shared(ALL[name][0], engine), sequence(T, B)
    runs = []
    for seed in (1, 1, 2):
        tg.manual_seed(seed)
        runs.append(rnn(xs)[0].numpy())
    np.testing.assert_array_equal(runs[0], runs[1])
    assert (runs[0] != runs[2]).any()


@every_engine
@pytest.mark.parametrize("name", some(STOCHASTIC))
def test_call_after_call_the_numbers_are_those_of_eager_and_planning_draws_none(name, engine):
    def play(rnn):
        rnn.plan(sequence(5, B))
        found = {}
        for turn, lengths in enumerate([None, [5, 0, 2], None]):
            results = outcome(rnn, sequence(5, B), None, lengths)
            found |= {f"{turn}: {key}": array for key, array in results.items()}
        with tg.no_grad():
            found["without a graph"] = rnn(sequence(5, B), lengths=[1, 5, 0])[0].numpy()
        assert (found["0: ys"] != found["2: ys"]).any()
        return found | {"next": nn.init.normal((3,)).numpy()}

    equals_eager(play, ALL[name][0], engine, rtol=1e-10, make=shared)


@all_engines
@pytest.mark.parametrize("name", [name for name in WRAPPERS if "evaluation" in name])
def test_evaluation_draws_nothing(name, engine):
    rnn = shared(ALL[name][0], engine)
    tg.manual_seed(3)
    rnn(sequence(T, B))
    assert ops.uniform(3).numpy().tolist() == np.random.default_rng(3).random(3, np.float32).tolist()


@all_engines
def test_a_state_that_is_carried_over_brings_its_masks_along(engine):
    rnn, xs = made(around(VariationalDropoutCell, 0.5, 0.5), engine), sequence(T, B)
    state = rnn.cell.initial_state(B)
    ys, last = rnn(xs, state)
    first, middle = rnn(xs[:1], state)
    second, end = rnn(xs[1:], nn.detached(middle))
    np.testing.assert_allclose(np.concatenate([first.numpy(), second.numpy()]), ys.numpy(), rtol=1e-12)
    for mask, found in zip(state[1:], (*last[1:], *end[1:]), strict=False):
        np.testing.assert_array_equal(found.numpy(), mask.numpy())
    others = rnn.cell.initial_state(B)._replace(state=middle.state)
    anew, _ = rnn(xs[1:], others)
    assert (anew.numpy() != second.numpy()).any()


@all_engines
@pytest.mark.parametrize("lengths", [None, [T, 0, 2]], ids=["full", "ragged"])
def test_variational_dropout_in_evaluation_is_the_cell_whatever_masks_the_state_has(lengths, engine):
    rnn, xs = made(around(VariationalDropoutCell, 0.5, 0.5), engine), sequence(T, B)
    begun_in_training = rnn.cell.initial_state(B)
    rnn.eval()
    begun_in_evaluation = rnn.cell.initial_state(B)
    assert begun_in_evaluation[1:] == (None, None)
    plain, _ = nn.Recurrent(rnn.cell.cell, engine=engine)(xs, None, lengths)
    for state in (None, begun_in_training, begun_in_evaluation):
        ys, last = rnn(xs, state, lengths)
        np.testing.assert_allclose(ys.numpy(), plain.numpy(), rtol=1e-12)
        assert nest.describe(last) == nest.describe(begun_in_evaluation if state is None else state)
    rnn.train()
    ys, _ = rnn(xs, begun_in_evaluation, lengths)
    np.testing.assert_allclose(ys.numpy(), plain.numpy(), rtol=1e-12)
    ys, _ = rnn(xs, begun_in_training, lengths)
    assert np.abs(ys.numpy() - plain.numpy()).max() > 0.01


@all_engines
def test_variational_dropout_in_evaluation_follows_the_equations_of_its_cell(engine):
    rnn = made(around(VariationalDropoutCell, 0.3, 0.5), engine)
    state = random_state(rnn.cell, B)
    follows(rnn.eval(), dropless_step, state)


@pytest.mark.parametrize("training", [True, False])
def test_a_step_hands_on_the_very_masks_that_it_was_given(training):
    cell = VariationalDropoutCell(lstm(), 0.5, 0.5)
    state = cell.initial_state(B)
    _, new = cell.train(training)(of_ones(B, I), state)
    assert new.x_mask is state.x_mask is not None
    assert new.h_mask is state.h_mask is not None


def test_a_mask_that_drops_nothing_is_none():
    make = lambda *p: VariationalDropoutCell(lstm(), *p).initial_state(B)
    assert make(0.0, 0.0)[1:] == (None, None)
    assert make(0.5).h_mask is None
    assert make(0.5).x_mask.shape == (B, I)
    assert make(0.0, 0.5).x_mask is None
    assert make(0.0, 0.5).h_mask.shape == (B, H)


def test_the_size_of_x_is_the_cells_or_that_of_the_first_cell_in_it_or_what_is_said():
    stack = nn.Stack([nn.GRUCell(5, H), nn.GRUCell(H, 4)])
    mask_of = lambda *args, **options: VariationalDropoutCell(*args, **options).initial_state(B).x_mask
    assert mask_of(lstm(), 0.5).shape == (B, I)
    assert mask_of(stack, 0.5).shape == (B, 5)
    assert mask_of(ResidualCell(ZoneoutCell(lstm(), 0.1)), 0.5).shape == (B, I)
    assert mask_of(Echo(), 0.5, input_size=7).shape == (B, 7)
    assert mask_of(Echo(), state=0.5) is None


# ---- wrappers --------------------------------------------------------------------------------------------------------


def test_a_wrapper_starts_as_its_cell_does():
    class Started(Echo):
        def initial_state(self, batch_size):
            return (self.zeros(batch_size, I) + 2, self.zeros(batch_size, I) + 3)

    for wrapped in (ResidualCell(Started()), ZoneoutCell(Started(), 0.5), VariationalDropoutCell(Started()).eval()):
        state = wrapped.initial_state(4)
        a, b = state.state if isinstance(state, VariationalState) else state
        np.testing.assert_array_equal(a.numpy(), np.full((4, I), 2))
        np.testing.assert_array_equal(b.numpy(), np.full((4, I), 3))


@every_engine
def test_switching_between_training_and_evaluation_equals_eager(engine):
    def play(rnn):
        found = {}
        for turn, mode in enumerate([True, False, True, False]):
            rnn.train(mode)
            results = outcome(rnn, sequence(T, B), None, [T, 0, 2])
            found |= {f"{turn}: {key}": array for key, array in results.items()}
        assert (found["1: ys"] == found["3: ys"]).all()
        assert (found["0: ys"] != found["2: ys"]).any()
        return found

    equals_eager(play, ALL["all three"][0], engine, rtol=1e-10)


@every_engine
@pytest.mark.parametrize("name", ["variational", "all three", "variational in evaluation"])
def test_a_state_hook_sees_what_it_sees_eagerly(name, engine):
    def play(rnn):
        shown = []
        rnn.register_state_hook(lambda grads: shown.append(nest.leaves(grads)))
        xs, state = sequence(T, B), random_state(rnn.cell, B)  # of which all leaves ask for a gradient
        weighted([rnn(xs, state, [T, 0, 2])[0]]).backward()
        (leaves,) = shown
        return values({str(i): g for i, g in enumerate(leaves)})

    equals_eager(play, ALL[name][0], engine, rtol=1e-10)


# ---- bad input -------------------------------------------------------------------------------------------------------

X = np.zeros((B, I), np.float32)


def step(cell):
    return cell(tg.tensor(X), cell.initial_state(B))


BAD = {
    "a residual of another size": (
        lambda: step(ResidualCell(lstm())),
        ValueError,
        r"^ResidualCell: x and the cell's y must have one shape, got \(3, 2\) and \(3, 3\)$",
    ),
    "a residual of another size, compiled": (
        lambda: nn.Recurrent(ResidualCell(lstm()), engine="numpy")(tg.tensor(X[None])),
        ValueError,
        r"^ResidualCell: x and the cell's y must have one shape, got \(3, 2\) and \(3, 3\)$",
    ),
    "a residual that would be broadcast": (
        lambda: step(ResidualCell(nn.GRUCell(I, 1))),
        ValueError,
        r"got \(3, 2\) and \(3, 1\)$",
    ),
    "zoneout above 1": (
        lambda: ZoneoutCell(lstm(), 2),
        ValueError,
        "^ZoneoutCell: p must be from 0 to 1, got 2$",
    ),
    "zoneout below 0 in a nest": (
        lambda: ZoneoutCell(lstm(), LSTMState(0.5, -0.1)),
        ValueError,
        "^ZoneoutCell: p must be from 0 to 1, got -0.1$",
    ),
    "zoneout by NaN": (lambda: ZoneoutCell(lstm(), float("nan")), ValueError, "got nan$"),
    "zoneout by another nest": (
        lambda: step(ZoneoutCell(lstm(), {"h": 0.1, "c": 0.2})),
        ValueError,
        r"^ZoneoutCell: p must be a number, or numbers nested as the state is, got \{'h': float, 'c': float\} for a "
        r"state LSTMState\(\(3, 3\), \(3, 3\)\)$",
    ),
    "zoneout by too few numbers": (
        lambda: step(ZoneoutCell(nn.Stack([lstm(), nn.GRUCell(H, H)]), (0.1,))),
        ValueError,
        "^ZoneoutCell: p must be a number, or numbers nested",
    ),
    "zoneout by a nest where the state has none": (
        lambda: step(ZoneoutCell(nn.GRUCell(I, H), (0.1, 0.2))),
        ValueError,
        r"got \(float, float\) for a state \(3, 3\)$",
    ),
    "zoneout by no number": (
        lambda: step(ZoneoutCell(lstm(), LSTMState(0.1, None))),
        ValueError,
        r"got LSTMState\(float, NoneType\) for a state",
    ),
    "all of x dropped": (
        lambda: VariationalDropoutCell(lstm(), 1),
        ValueError,
        "^VariationalDropoutCell: input must be from 0 to less than 1, got 1$",
    ),
    "a negative share of the state": (
        lambda: VariationalDropoutCell(lstm(), 0.5, -0.5),
        ValueError,
        "^VariationalDropoutCell: state must be from 0 to less than 1, got -0.5$",
    ),
    "an unknown size of x": (
        lambda: VariationalDropoutCell(Echo(), 0.5),
        ValueError,
        "^VariationalDropoutCell: Echo must tell its input_size, got none; pass input_size=…$",
    ),
    "a projection to nothing": (
        lambda: ProjectedLSTMCell(I, H, 0),
        ValueError,
        "^ProjectedLSTMCell: proj_size must be from 1 to hidden_size = 3, got 0$",
    ),
    "a projection upwards": (lambda: ProjectedLSTMCell(I, H, 4), ValueError, "got 4$"),
    **{
        f"{wrapper.__name__} around no cell": (
            lambda wrapper=wrapper: wrapper(nn.Linear(2, 2), *[0.1] * (wrapper is ZoneoutCell)),
            TypeError,
            f"^{wrapper.__name__}: cell must be an nn.Cell, got Linear$",
        )
        for wrapper in (ResidualCell, ZoneoutCell, VariationalDropoutCell)
    },
    "a wrapper that does nothing": (
        lambda: step(Wrapper(lstm())),
        NotImplementedError,
        "^Wrapper: must define forward",
    ),
}


@pytest.mark.parametrize("call, kind, message", BAD.values(), ids=BAD)
def test_bad_input_is_refused_in_one_line(call, kind, message):
    with pytest.raises(kind, match=message) as caught:
        call()
    assert "\n" not in str(caught.value)
