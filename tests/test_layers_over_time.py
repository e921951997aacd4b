"""Layers over time: the reversed direction, both directions, and layers on top of each other."""

import importlib.util
import inspect
import math

from typing import NamedTuple

import numpy as np
import pytest

from cells import CELLS, H, I, Nested
from comparing import all_close

import tinygrad_rnn as tg

from tinygrad_rnn import nn, ops
from tinygrad_rnn.autograd import nest

T, B = 5, 3
RAGGED = [2, 5, 0]

without_llvmlite = pytest.mark.skipif(importlib.util.find_spec("llvmlite") is None, reason="llvmlite is not installed")
LLVM = pytest.param("llvm", marks=without_llvmlite)
every_engine = pytest.mark.parametrize("engine", ["eager", "numpy", LLVM])
compiled = pytest.mark.parametrize("engine", ["numpy", LLVM])
some_cells = pytest.mark.parametrize("name", ["RNN tanh", "LSTM", "GRU reset after", "nested state"])
LENGTHS = [None, RAGGED, [1, 4, 3], [0, 0, 0]]


class Means(NamedTuple):
    fast: tg.Tensor
    slow: tg.Tensor


class Averaging(nn.Cell):
    """A cell of one's own: its state is a dict of a named tuple and a tensor, its output no part of it."""

    def __init__(self, input_size, hidden_size):
        self.hidden_size, self.affine = hidden_size, nn.Linear(input_size + hidden_size, hidden_size)

    def initial_state(self, batch_size):
        zeros = self.zeros(batch_size, self.hidden_size)
        return {"means": Means(zeros, zeros), "last": zeros}

    def forward(self, x, state):
        a = ops.tanh(self.affine(ops.concat([x, state["means"].slow], axis=-1)))
        means = Means(0.5 * state["means"].fast + 0.5 * a, 0.9 * state["means"].slow + 0.1 * state["last"])
        return means.fast * a, {"means": means, "last": a}


LAYERS = {
    "RNN": lambda *sizes, **o: nn.RNN(*sizes, **o),
    "RNN with relu": lambda *sizes, **o: nn.RNN(*sizes, nonlinearity="relu", **o),
    "LSTM": lambda *sizes, **o: nn.LSTM(*sizes, **o),
    "GRU": lambda *sizes, **o: nn.GRU(*sizes, **o),
    "GRU reset after": lambda *sizes, **o: nn.GRU(*sizes, reset="after", **o),
    "a cell of one's own": lambda *sizes, **o: nn.Layers(Averaging, *sizes, **o),
}
directions = pytest.mark.parametrize("bidirectional", [False, True], ids=["one way", "both ways"])


# ---- helpers -------------------------------------------------------------------------------------------------------


def randomised(module, seed=0, dtype="float64"):
    """The module with every parameter random, biases too."""
    rng = np.random.default_rng(seed)
    for p in module.to(dtype).parameters():
        p.data = rng.standard_normal(p.shape) * 0.7
    return module


def sequence(*shape, seed=1):
    return tg.tensor(np.random.default_rng(seed).standard_normal(shape), requires_grad=True)


def like(state, seed=2):
    """A state of these shapes, of random numbers that ask for gradients."""
    rng = np.random.default_rng(seed)
    return nest.map_leaves(lambda s: tg.tensor(rng.standard_normal(s.shape) * 0.5, requires_grad=True), state)


def weights(tensors, seed=3):
    """A random number for each element."""
    rng = np.random.default_rng(seed)
    return [tg.tensor(rng.standard_normal(t.shape)) for t in tensors]


def weighted(tensors):
    """Σ by fixed random weights."""
    return sum((t * w).sum() for t, w in zip(tensors, weights(tensors), strict=True))


def outcome(results, sources):
    """The results as arrays, and the gradients of a weighted sum of them by the sources."""
    total = weighted(results)
    if total.requires_grad:
        found = tg.grad(total, sources, allow_unused=True, retain_graph=True)
    else:
        found = [t.detach() * 0 for t in sources]
    return [t.numpy() for t in (*results, *found)]


def row(state, b):
    return nest.map_leaves(lambda s: s[b : b + 1], state)


def by_hand(cell, xs, state, lengths, reverse):
    """A loop over each sequence by itself: ys, the last state, and the state after each step (also behind its end)."""
    T, B = xs.shape[:2]
    ys, last, states = [], [], []
    for b in range(B):
        n = T if lengths is None else lengths[b]
        s, y, after = row(state, b), [tg.zeros(1, H, dtype="float64")] * T, [row(state, b)] * T
        for t in reversed(range(n)) if reverse else range(n):
            y[t], s = cell(xs[t, b : b + 1], s)
            after[t] = s
        if not reverse:
            after[n:] = [s] * (T - n)
        ys.append(y)
        last.append(s)
        states.append(after)
    side_by_side = lambda parts: nest.map_leaves(lambda *each: ops.concat(each, axis=0), *parts)
    per_step = [side_by_side([states[b][t] for b in range(B)]) for t in range(T)]
    return (
        ops.stack([ops.concat([y[t] for y in ys]) for t in range(T)]),
        side_by_side(last),
        nest.map_leaves(lambda *each: ops.stack(each), *per_step),
        states,
    )


def assert_nothing_is_read_behind_the_ends(layer, state):
    """Whatever stands there, values and gradients are the same."""
    found = []
    for filler in 0.0, math.nan, math.inf, 1e300:
        xs = sequence(T, B, I).numpy()
        for b, n in enumerate(RAGGED):
            xs[n:, b] = filler
        xs = tg.tensor(xs, requires_grad=True)
        ys, last = layer(xs, state, RAGGED)
        found.append(outcome([ys, last], [xs, state, *layer.parameters()]))
    ys, gradient = found[0][0], found[0][2]
    assert all(a.any() for a in found[0])
    for b, n in enumerate(RAGGED):
        assert ys[:n, b].all()
        assert gradient[:n, b].all()
        assert not ys[n:, b].any()
        assert not gradient[n:, b].any()
    for other in found[1:]:
        all_close(other, found[0], 0)


# ---- one layer, from the last step to the first --------------------------------------------------------------------


@some_cells
@every_engine
def test_a_reversed_layer_is_each_sequence_by_itself_from_its_own_end(name, engine):
    rnn = randomised(nn.Recurrent(CELLS[name].make(), engine=engine, reverse=True))
    xs, state = sequence(T, B, I), like(rnn.cell.initial_state(B))
    sources = [xs, *nest.leaves(state), *rnn.parameters()]
    for lengths in LENGTHS:
        ys, last, states, _ = by_hand(rnn.cell, xs, state, lengths, reverse=True)
        found, end = rnn(xs, state, lengths)
        all_close(outcome([found, *nest.leaves(end)], sources), outcome([ys, *nest.leaves(last)], sources))
        found, after = rnn(xs, state, lengths, all_states=True)
        all_close(outcome([found, *nest.leaves(after)], sources), outcome([ys, *nest.leaves(states)], sources))


@every_engine
@pytest.mark.parametrize("batch", [1, 3])
def test_a_reversed_layer_is_a_forward_one_over_the_flipped_sequence(engine, batch):
    cell = randomised(nn.Stack([nn.LSTMCell(I, H), nn.GRUCell(H, H)]))
    there, back = nn.Recurrent(cell, engine="eager"), nn.Recurrent(cell, engine=engine, reverse=True)
    for steps in 0, 1, 5:
        xs, state = sequence(steps, batch, I), like(cell.initial_state(batch))
        sources = [xs, *nest.leaves(state), *cell.parameters()]
        for all_states in False, True:
            ys, expected = there(xs.flip(0), state, all_states=all_states)
            expected = nest.map_leaves(lambda s: s.flip(0), expected) if all_states else expected
            wanted = outcome([ys.flip(0), *nest.leaves(expected)], sources)
            assert wanted[0].shape == (steps, batch, H)
            assert all(a.any() for a in wanted) == (steps > 0)
            ys, found = back(xs, state, all_states=all_states)
            assert nest.describe(found) == nest.describe(expected)
            all_close(outcome([ys, *nest.leaves(found)], sources), wanted)


@every_engine
def test_hooks_of_a_reversed_layer_are_shown_gradients_by_step(engine):
    rnn = randomised(nn.Recurrent(nn.LSTMCell(I, H), engine=engine, reverse=True))
    xs, state, seen = sequence(T, B, I), like(rnn.cell.initial_state(B)), []
    remove = rnn.register_state_hook(seen.append)
    for lengths in LENGTHS:
        ys, last, _, states = by_hand(rnn.cell, xs, state, lengths, reverse=True)
        loss = weighted([ys, *last])
        expected = nn.LSTMState(np.zeros((T, B, H)), np.zeros((T, B, H)))
        for b in range(B):
            for t in range(T if lengths is None else lengths[b]):
                for whole, g in zip(expected, tg.grad(loss, [*states[b][t]], retain_graph=True), strict=True):
                    whole[t, b] = g.numpy()[0]
        ys, last = rnn(xs, state, lengths)
        weighted([ys, *last]).backward()
        found = seen.pop()
        assert not seen
        assert type(found) is nn.LSTMState
        all_close([g.numpy() for g in found], expected)
        assert found.h.numpy().any() == (lengths != [0, 0, 0])
    remove()
    ys, last = rnn(xs, state)
    weighted([ys, *last]).backward()
    assert not seen


@pytest.mark.parametrize(
    ("engine", "every"), [("numpy", 1), ("numpy", 7), pytest.param("llvm", 2, marks=without_llvmlite)]
)
def test_a_reversed_layer_may_compute_from_checkpoints(engine, every):
    whole = randomised(nn.Recurrent(nn.LSTMCell(I, H), engine="eager", reverse=True))
    parts = nn.Recurrent(whole.cell, engine=engine, checkpoint_every=every, reverse=True)
    xs, state = sequence(T, B, I), like(whole.cell.initial_state(B))
    sources = [xs, *state, *whole.parameters()]
    for lengths in None, RAGGED:
        found = []
        for rnn in whole, parts:
            seen = []
            remove = rnn.register_state_hook(seen.append)
            ys, states = rnn(xs, state, lengths, all_states=True)
            found.append([*outcome([ys, *states], sources), *(g.numpy() for g in seen[0])])
            remove()
        all_close(found[1], found[0])


@every_engine
def test_nan_behind_the_ends_changes_nothing_in_a_reversed_layer(engine):
    rnn = randomised(nn.Recurrent(nn.GRUCell(I, H), engine=engine, reverse=True))
    assert_nothing_is_read_behind_the_ends(rnn, like(rnn.cell.initial_state(B)))


# ---- both directions -------------------------------------------------------------------------------------------------


def both(engine="auto", **options):
    """An LSTM from the past and a GRU from the future."""
    return randomised(nn.Bidirectional(nn.LSTMCell(I, H), nn.GRUCell(I, H), engine=engine, **options))


def both_states(layer, batch):
    return like(tuple(cell.initial_state(batch) for cell in layer.cells))


SIZES = [(0, 3, None), (1, 3, None), (5, 3, RAGGED), (5, 3, [0, 0, 0]), (1, 3, [0, 1, 1]), (4, 1, None)]


@every_engine
def test_both_directions_are_loops_from_both_ends_of_each_sequence(engine):
    layer = both(engine)
    for steps, batch, lengths in SIZES:
        xs, state = sequence(steps, batch, I), both_states(layer, batch)
        sources = [xs, *nest.leaves(state), *layer.parameters()]
        if steps:
            (fs, past, pasts, _), (bs, future, futures, _) = (
                by_hand(cell, xs, s, lengths, reverse)
                for cell, s, reverse in zip(layer.cells, state, [False, True], strict=True)
            )
            expected = outcome([ops.concat([fs, bs], axis=-1), *past, future], sources)
            each = outcome([*pasts, futures], sources)
        else:
            nothing = tg.zeros(0, batch, H, dtype="float64")
            expected = outcome([ops.concat([nothing] * 2, axis=-1), *nest.leaves(state)], sources)
            each = outcome([nothing] * 3, sources)
        ys, last = layer(xs, state, lengths)
        assert type(last) is tuple
        assert type(last[0]) is nn.LSTMState
        all_close(outcome([ys, *nest.leaves(last)], sources), expected)
        if steps != 1:
            _, found = layer(xs, state, lengths, all_states=True)
            all_close(outcome(nest.leaves(found), sources), each)


@every_engine
def test_both_directions_with_lengths_are_each_sequence_alone_without_padding(engine):
    layer, one = both(engine), both("eager")
    xs, state, lengths = sequence(T, B, I), both_states(layer, B), [2, 5, 1]
    ys, last = layer(xs, state, lengths)
    found = [ys, *nest.leaves(last)]
    alone, us = [np.zeros(t.shape) for t in found], weights(found)
    total = 0
    for b, n in enumerate(lengths):
        y, end = one(xs[:n, b : b + 1], row(state, b))
        alone[0][:n, b : b + 1] = y.numpy()
        total = total + (y * us[0][:n, b : b + 1]).sum()
        for whole, u, leaf in zip(alone[1:], us[1:], nest.leaves(end), strict=True):
            whole[b : b + 1] = leaf.numpy()
            total = total + (leaf * u[b : b + 1]).sum()
    all_close([t.numpy() for t in found], alone)
    first = [xs, *nest.leaves(state)]
    expected = tg.grad(total, [*first, *one.parameters()])
    all_close(tg.grad(weighted(found), [*first, *layer.parameters()]), [g.numpy() for g in expected])


@every_engine
def test_nan_behind_the_ends_changes_nothing_in_both_directions_of_two_layers(engine):
    layers = randomised(nn.RNN(I, H, 2, bidirectional=True, engine=engine))
    assert_nothing_is_read_behind_the_ends(layers, like(layers.initial_state(B)))


def test_both_directions_start_from_zeros_and_have_two_hooks():
    layer, xs, seen = both("eager"), sequence(T, B, I), {}
    layer.forwards.register_state_hook(lambda g: seen.update(past=g.h.numpy()))
    layer.backwards.register_state_hook(lambda g: seen.update(future=g.numpy()))
    ys, last = layer(xs)
    zeros = nest.map_leaves(lambda s: tg.tensor(np.zeros(s.shape)), both_states(layer, B))
    expected, end = layer(xs, zeros)
    all_close([t.numpy() for t in (ys, *nest.leaves(last))], [t.numpy() for t in (expected, *nest.leaves(end))])
    ys[1:3].sum().backward()
    assert [bool(g.any()) for g in seen["past"]] == [True, True, True, False, False]
    assert [bool(g.any()) for g in seen["future"]] == [False, True, True, True, True]


# ---- layers on top of each other -----------------------------------------------------------------------------------


def composed(layers, xs, states, lengths, all_states=False):
    """The layers one by one, each a Recurrent of its own: ys, and the state of each cell."""
    last = []
    states = iter(states)
    if layers.bidirectional:
        for layer in layers.layers:
            ways = [
                nn.Recurrent(cell, engine="eager", reverse=way)(xs, next(states), lengths, all_states=all_states)
                for way, cell in enumerate((layer.forwards.cell, layer.backwards.cell))
            ]
            xs, last = ops.concat([ys for ys, _ in ways], axis=-1), [*last, *(s for _, s in ways)]
        return xs, last
    (recurrent,) = layers.layers
    for cell in recurrent.cell.cells if isinstance(recurrent.cell, nn.Stack) else [recurrent.cell]:
        xs, s = nn.Recurrent(cell, engine="eager")(xs, next(states), lengths, all_states=all_states)
        last.append(s)
    return xs, last


@pytest.mark.parametrize("name", LAYERS)
@directions
@pytest.mark.parametrize("n", [1, 3])
def test_layers_are_recurrents_on_top_of_each_other(name, bidirectional, n):
    D = 2 if bidirectional else 1
    layers = randomised(LAYERS[name](I, H, n, bidirectional=bidirectional, engine="eager"))
    assert len(layers.cells) == n * D
    xs, state = sequence(T, B, I), like(layers.initial_state(B))
    assert {s.shape[:2] for s in nest.leaves(state)} == {(n * D, B)}
    sources = [xs, *nest.leaves(state), *layers.parameters()]
    each = lambda i: nest.map_leaves(lambda s: s[i], state)
    for lengths in None, RAGGED:
        for all_states in False, True:
            ys, last = composed(layers, xs, map(each, range(n * D)), lengths, all_states)
            joined = nest.map_leaves(lambda *s: ops.stack(s, axis=1 if all_states else 0), *last)  # noqa: B023
            found, mine = layers(xs, state, lengths, all_states=all_states)
            assert found.shape == (T, B, D * H)
            assert nest.describe(mine) == nest.describe(joined)
            all_close(
                outcome([found, *nest.leaves(mine)], sources), outcome([ys, *nest.leaves(joined)], sources), 1e-12
            )


@pytest.mark.parametrize(
    ("name", "engine"), [("a cell of one's own", "numpy"), pytest.param("LSTM", "llvm", marks=without_llvmlite)]
)
@directions
def test_layers_under_every_engine_equal_eager(engine, name, bidirectional):
    found = []
    for kind in "eager", engine:
        layers = randomised(LAYERS[name](I, H, 2, bidirectional=bidirectional, engine=kind))
        xs, state = sequence(T, B, I), like(layers.initial_state(B))
        ys, last = layers(xs, state, RAGGED)
        found.append(outcome([ys, *nest.leaves(last)], [xs, *nest.leaves(state), *layers.parameters()]))
        inner = layers.layers[0].backwards if bidirectional else layers.layers[0]
        assert inner.plan(xs, lengths=RAGGED).engine == kind
    all_close(found[1], found[0])
    assert all(a.any() for a in found[1])


@compiled
def test_layers_compute_from_checkpoints_and_show_all_states(engine):
    found = []
    for options in {"engine": "eager"}, {"engine": engine, "checkpoint_every": 2}:
        layers = randomised(nn.RNN(I, H, 2, bidirectional=True, **options))
        xs, state = sequence(T, B, I), like(layers.initial_state(B))
        ys, states = layers(xs, state, RAGGED, all_states=True)
        found.append(outcome([ys, states], [xs, state, *layers.parameters()]))
    all_close(found[1], found[0])


@pytest.mark.parametrize("name", LAYERS)
@directions
def test_the_last_state_is_that_of_all_states_where_each_direction_ends(name, bidirectional):
    layers = randomised(LAYERS[name](I, H, 2, bidirectional=bidirectional, engine="eager"))
    xs, state = sequence(T, B, I), like(layers.initial_state(B))
    for lengths in None, [2, 5, 1]:
        (ys, last), (same, states) = layers(xs, state, lengths), layers(xs, state, lengths, all_states=True)
        all_close([same], [ys])
        ends = [T - 1, 0, T - 1, 0] if bidirectional else [T - 1] * 2
        for s, each in zip(nest.leaves(last), nest.leaves(states), strict=True):
            assert each.shape == (T, *s.shape)
            np.testing.assert_array_equal(s.numpy(), [each.numpy()[t, i] for i, t in enumerate(ends)])
            if lengths:  # the state of its own last step is kept behind an end
                np.testing.assert_array_equal(s.numpy()[0], [each.numpy()[n - 1, 0, b] for b, n in enumerate(lengths)])


@pytest.mark.parametrize("name", ["RNN", "LSTM", "GRU"])
@directions
def test_the_top_rows_of_the_state_hold_the_outputs(name, bidirectional):
    layers = randomised(LAYERS[name](I, H, 3, bidirectional=bidirectional, engine="eager"))
    ys, last = layers(sequence(T, B, I))
    h = (last.h if name == "LSTM" else last).numpy()
    if bidirectional:
        np.testing.assert_array_equal(h[4], ys.numpy()[-1, :, :H])
        np.testing.assert_array_equal(h[5], ys.numpy()[0, :, H:])
    else:
        np.testing.assert_array_equal(h[2], ys.numpy()[-1])


def test_a_first_state_reaches_its_own_layer_and_those_above():
    layers = randomised(nn.GRU(I, H, 2, bidirectional=True, engine="eager"))
    xs, state = sequence(T, B, I), like(layers.initial_state(B))
    _, last = layers(xs, state)
    reached = []
    for i in range(4):
        (g,) = tg.grad(weighted([last[i]]), [state], retain_graph=True)
        reached.append([bool(row.any()) for row in g.numpy()])
    assert reached == [[1, 0, 0, 0], [0, 1, 0, 0], [1, 1, 1, 0], [1, 1, 0, 1]]


@pytest.mark.parametrize("name", ["RNN", "LSTM", "a cell of one's own"])
@directions
def test_no_state_is_the_initial_one_and_it_is_zero(name, bidirectional):
    layers, xs = randomised(LAYERS[name](I, H, 2, bidirectional=bidirectional, engine="eager")), sequence(T, B, I)
    initial = layers.initial_state(B)
    assert {s.dtype for s in nest.leaves(initial)} == {np.dtype("float64")}
    assert not any(s.numpy().any() for s in nest.leaves(initial))
    (ys, last), (expected, end) = layers(xs), layers(xs, initial)
    all_close([ys, *nest.leaves(last)], [expected, *nest.leaves(end)], 0)


def test_an_lstm_takes_its_state_as_a_plain_pair():
    for n in 1, 2:
        layers, xs = randomised(nn.LSTM(I, H, n, engine="eager")), sequence(T, B, I)
        state = like(layers.initial_state(B))
        (ys, last), (expected, _) = layers(xs, tuple(state)), layers(xs, state)
        assert type(last) is nn.LSTMState
        all_close([ys], [expected], 0)


@pytest.mark.parametrize("name", ["RNN", "LSTM", "GRU"])
@directions
@pytest.mark.parametrize(("steps", "batch"), [(0, 3), (1, 1), (4, 0)])
def test_layers_run_over_few_steps_and_sequences(name, bidirectional, steps, batch):
    layers = randomised(LAYERS[name](I, H, 2, bidirectional=bidirectional, engine="eager"))
    xs, state, D = sequence(steps, batch, I), like(layers.initial_state(batch)), 2 if bidirectional else 1
    ys, last = layers(xs, state)
    assert ys.shape == (steps, batch, D * H)
    each = lambda i: nest.map_leaves(lambda s: s[i], state)
    expected, ends = composed(layers, xs, map(each, range(2 * D)), None)
    all_close([ys, *nest.leaves(last)], [expected, *nest.leaves(nest.map_leaves(lambda *s: ops.stack(s), *ends))])
    if not steps:
        all_close(nest.leaves(last), nest.leaves(state), 0)
    _, states = layers(xs, state, all_states=True)
    assert {s.shape for s in nest.leaves(states)} == {(steps, 2 * D, batch, H)}


@directions
def test_layers_keep_single_precision(bidirectional):
    layers = randomised(nn.LSTM(I, H, 2, bidirectional=bidirectional, engine="eager"), dtype="float32")
    xs = tg.tensor(sequence(T, B, I).numpy().astype("float32"), requires_grad=True)
    ys, last = layers(xs, lengths=RAGGED)
    gradients = tg.grad(ys.sum() + last.c.sum(), [xs, *layers.parameters()])
    assert {t.dtype for t in (ys, *last, *gradients)} == {np.dtype("float32")}


def test_layers_take_the_state_they_give_whatever_its_shape():
    layers, xs = randomised(nn.Layers(Nested, I, H, 2)), sequence(T, B, I)  # a leaf of its state is (B, 2, H)
    ys, _ = layers(xs)
    _, middle = layers(xs[:2])
    again, _ = layers(xs[2:], middle)
    all_close([again], [ys[2:]])


# ---- derivatives -----------------------------------------------------------------------------------------------------


@every_engine
def test_the_derivatives_of_two_layers_both_ways_are_what_differences_give(engine):
    layers = randomised(nn.RNN(2, 2, 2, bidirectional=True, engine=engine))
    parameters = list(layers.parameters())

    def run(xs, state, *values):
        for p, t in zip(parameters, values, strict=True):
            p.array, p.node = t.array, t.node
        return layers(xs, state, [3, 1])

    inputs = [
        sequence(3, 2, 2),
        like(layers.initial_state(2)),
        *(tg.tensor(p.numpy(), requires_grad=True) for p in parameters),
    ]
    assert tg.gradcheck(run, *inputs)


# ---- dropout between layers ------------------------------------------------------------------------------------------


def test_two_layers_drop_the_outputs_of_the_lower_one_step_by_step():
    layers, xs = randomised(nn.GRU(I, H, 2, dropout=0.4, engine="eager")), sequence(T, B, I)
    tg.manual_seed(3)
    ys, last = layers(xs)
    tg.manual_seed(3)
    drop = nn.Dropout(0.4)
    lower, upper = layers.cells
    a, b, expected = lower.initial_state(B), upper.initial_state(B), []
    for x in xs:
        y, a = lower(x, a)
        y, b = upper(drop(y), b)
        expected.append(y)
    all_close([ys, last[0], last[1]], [ops.stack(expected), a, b], 1e-12)


def test_two_layers_both_ways_drop_what_the_lower_one_gives_and_nothing_else():
    layers, xs = randomised(nn.GRU(I, H, 2, bidirectional=True, dropout=0.4, engine="eager")), sequence(T, B, I)
    tg.manual_seed(3)
    ys, last = layers(xs, lengths=RAGGED)
    tg.manual_seed(3)
    lower, upper = layers.layers
    below, ends = lower(xs, lengths=RAGGED)
    expected, tops = upper(nn.Dropout(0.4)(below), lengths=RAGGED)
    all_close([ys, *last], [expected, *ends, *tops], 1e-12)


@directions
def test_dropout_is_for_training_and_for_more_than_one_layer(bidirectional):
    xs = sequence(T, B, I)
    for n in 1, 2:
        found = []
        for dropout in 0.5, 0.0:
            layers = nn.GRU(I, H, n, bidirectional=bidirectional, dropout=dropout, engine="eager")
            randomised(layers)
            found.append(layers(xs)[0].numpy())
            found.append(layers.eval()(xs)[0].numpy())
        dropped, evaluated, plain, same = found
        all_close([evaluated, same], [plain, plain], 1e-13)
        assert np.allclose(dropped, plain) == (n == 1)


# ---- bad input -------------------------------------------------------------------------------------------------------

XS = np.zeros((T, B, I), np.float32)
BAD = {
    "no layers": (lambda: nn.LSTM(I, H, 0), ValueError, "^nn.LSTM: num_layers must be at least 1, got 0$"),
    "no layers of one's own": (lambda: nn.Layers(Nested, I, H, -1), ValueError, "^nn.Layers: num_layers .* got -1$"),
    "a state of too few rows": (
        lambda: nn.GRU(I, H, 2, bidirectional=True)(tg.tensor(XS), tg.zeros(2, B, H)),
        ValueError,
        r"^nn.GRU: state must have 4 rows, \(layers · directions, B, …\), got \(2, 3, 3\)$",
    ),
    "a state without layers": (
        lambda: nn.RNN(I, H)(tg.tensor(XS), tg.zeros(B, H)),
        ValueError,
        r"^nn.RNN: state must have 1 rows, \(layers · directions, B, …\), got \(3, 3\)$",
    ),
    "a memory of too few rows": (
        lambda: nn.LSTM(I, H, 2)(tg.tensor(XS), (tg.zeros(2, B, H), tg.zeros(1, B, H))),
        ValueError,
        r"^nn.LSTM: state must have 2 rows, .* got \(1, 3, 3\)$",
    ),
    "inputs of two axes": (
        lambda: nn.GRU(I, H, 2, bidirectional=True)(tg.tensor(XS[0])),
        ValueError,
        r"^nn.GRU: xs must be \(T, B, I\), got \(3, 2\)$",
    ),
    "a length above T": (
        lambda: nn.GRU(I, H, bidirectional=True)(tg.tensor(XS), lengths=[1, 2, 6]),
        ValueError,
        "^nn.GRU: lengths must be from 0 to T = 5, got 1 to 6$",
    ),
    "too few lengths": (
        lambda: nn.Bidirectional(nn.GRUCell(I, H), nn.GRUCell(I, H))(tg.tensor(XS), lengths=[1]),
        ValueError,
        r"^Bidirectional: lengths must be \(3,\) integers, got \(1,\) of dtype int64$",
    ),
    "checkpoints of the eager engine": (
        lambda: nn.LSTM(I, H, engine="eager", checkpoint_every=2),
        ValueError,
        "^Recurrent: checkpoint_every must be .*, got 2 and 'eager'$",
    ),
    "an engine": (
        lambda: nn.GRU(I, H, bidirectional=True, engine="steam"),
        ValueError,
        "^Recurrent: engine must be one of .* got 'steam'$",
    ),
    "a layer as a cell": (
        lambda: nn.Bidirectional(nn.GRUCell(I, H), nn.Linear(I, H)),
        TypeError,
        "^Recurrent: cell must be an nn.Cell, got Linear$",
    ),
    "a nonlinearity": (lambda: nn.RNN(I, H, nonlinearity="sin"), ValueError, "^RNNCell: nonlinearity .* got 'sin'$"),
    "a reset": (lambda: nn.GRU(I, H, reset="never"), ValueError, "^GRUCell: reset must be .* got 'never'$"),
    "a share to drop": (lambda: nn.GRU(I, H, 2, dropout=1.0), ValueError, "^Dropout: p must be .* got 1.0$"),
}


@pytest.mark.parametrize("call, kind, message", BAD.values(), ids=BAD)
def test_bad_input_is_refused_in_one_line(call, kind, message):
    with pytest.raises(kind, match=message) as caught:
        call()
    assert "\n" not in str(caught.value)


# ---- what a layer of layers tells --------------------------------------------------------------------------------


def parts_of(layers):
    """The layers of one cell, or one stack of cells, in one direction."""
    return [part for layer in layers.layers for part in getattr(layer, "layers", [layer])]


@directions
@pytest.mark.parametrize("n", [1, 2])
@pytest.mark.parametrize("engine", ["eager", "numpy"])
def test_a_hook_is_shown_the_gradients_of_all_cells_as_their_state_is_built(engine, n, bidirectional):
    layers = randomised(nn.LSTM(I, H, n, bidirectional=bidirectional, engine=engine))
    seen, each = [], {}
    remove = layers.register_state_hook(seen.append)
    for i, part in enumerate(parts_of(layers)):
        part.register_state_hook(lambda g, i=i: each.update({i: g}))
    ys, state = layers(sequence(T, B, I), lengths=RAGGED)
    weighted([ys, *state]).backward()
    (found,) = seen
    assert type(found) is nn.LSTMState
    single = [g for i in sorted(each) for g in (each[i] if n > 1 and not bidirectional else [each[i]])]
    all_close([found.h[:, k].numpy() for k in range(len(layers.cells))], [g.h.numpy() for g in single])
    all_close([found.c[:, k].numpy() for k in range(len(layers.cells))], [g.c.numpy() for g in single])
    remove()
    weighted([layers(sequence(T, B, I))[0]]).backward()
    assert len(seen) == 1


def test_a_cell_to_which_no_gradient_came_shows_zeros_or_none():
    xs, seen = sequence(T, B, I), []
    layers = randomised(nn.GRU(I, H, bidirectional=True))
    layers.register_state_hook(seen.append)
    layers(xs)[0][..., :H].sum().backward()
    assert seen[0][:, 0].numpy().any() and not seen[0][:, 1].numpy().any()
    pair = nn.Bidirectional(*layers.cells)
    pair.register_state_hook(seen.append)
    pair(xs)[1][1].sum().backward()
    assert seen[1][0] is None and seen[1][1].shape == (T, B, H)


def test_two_calls_of_a_layer_are_shown_one_after_the_other():
    layers, seen = randomised(nn.GRU(I, H, bidirectional=True, engine="numpy")), []
    layers.register_state_hook(seen.append)
    (layers(sequence(T, B, I))[0].sum() + layers(sequence(T + 1, B, I))[0].sum()).backward()
    assert sorted(g.shape for g in seen) == [(T, 2, B, H), (T + 1, 2, B, H)]


@directions
@pytest.mark.parametrize("n", [1, 3])
@pytest.mark.parametrize("engine", ["eager", "numpy"])
def test_a_plan_tells_of_all_parts(engine, n, bidirectional):
    layers, xs = nn.GRU(I, H, n, bidirectional=bidirectional, engine=engine), tg.zeros(T, B, I)
    plan, parts = layers.plan(xs, tg.zeros(n * (1 + bidirectional), B, H), RAGGED), parts_of(layers)
    assert plan.engine == engine and str(plan).count(f"{T} steps of x") == len(parts)
    assert str(plan).count(f"of x ({B}, {I})") == 1 + bidirectional
    assert plan.nbytes >= parts[0].plan(xs).nbytes * (1 + bidirectional)
    pair = nn.Bidirectional(nn.GRUCell(I, H), nn.LSTMCell(I, H), engine=engine).plan(xs)
    assert "GRUCell" in str(pair) and "LSTMCell" in str(pair)


@pytest.mark.parametrize("kind", [nn.RNN, nn.LSTM, nn.GRU, nn.Layers])
def test_options_are_told_by_help(kind):
    parameters = inspect.signature(kind).parameters
    assert {"bidirectional", "dropout", "engine", "checkpoint_every"} <= {*parameters}
    assert {"engine", "checkpoint_every"} <= {*inspect.signature(nn.Bidirectional).parameters}
