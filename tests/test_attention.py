"""Attention: each kind by its formula in NumPy, the cells that use it, and what the compiler makes of them."""

import importlib.util
import math

import numpy as np
import pytest

from comparing import all_close, by_parameters

import tinygrad_rnn as tg

from tinygrad_rnn import nn, ops
from tinygrad_rnn.autograd import nest
from tinygrad_rnn.autograd.graph import all_parents, ancestors
from tinygrad_rnn.nn.attention_cells import hidden

S, B, Q, V, T, I = 5, 3, 4, 6, 4, 2
KINDS = {
    "dot": lambda q, v: nn.DotAttention(),
    "scaled": lambda q, v: nn.ScaledDotAttention(),
    "general": lambda q, v: nn.GeneralAttention(q, v),
    "additive": lambda q, v: nn.AdditiveAttention(q, v, 3),
    "multihead": lambda q, v: nn.MultiheadAttention(q, 2, kdim=v, vdim=v),
}
every_kind = pytest.mark.parametrize("kind", KINDS)

without_llvmlite = pytest.mark.skipif(importlib.util.find_spec("llvmlite") is None, reason="llvmlite is not installed")
LLVM = pytest.param("llvm", marks=without_llvmlite)
compiled = pytest.mark.parametrize("engine", ["numpy", LLVM])


# ---- helpers -------------------------------------------------------------------------------------------------------


def normal(*shape, seed=1):
    return np.random.default_rng((seed, *shape)).standard_normal(shape)


def randomised(module, seed=0):
    """The module in float64 with every parameter random, biases too."""
    rng = np.random.default_rng(seed)
    for p in module.to("float64").parameters():
        p.data = rng.standard_normal(p.shape) * 0.7
    return module


def made(kind, query=Q, value=None):
    """Attention of a kind for queries and values of these sizes; where they must be equal, they are."""
    value = value or (query if kind in ("dot", "scaled") else V)
    return randomised(KINDS[kind](query, value)), query, value


def variable(array):
    return tg.tensor(array, requires_grad=True)


def weighted(tensors, seed=3):
    """Σ by fixed random weights."""
    rng = np.random.default_rng(seed)
    return sum((t * tg.tensor(rng.standard_normal(t.shape))).sum() for t in tensors)


def outcome(results, sources):
    """The results as arrays, and the gradients of a weighted sum of them by the sources."""
    found = tg.grad(weighted(results), sources, allow_unused=True, retain_graph=True)
    return [t.numpy() for t in (*results, *found)]


# ---- the formulas, in NumPy: one query, one key at a time ----------------------------------------------------------


def mixture(scores, values, mask):
    """Σ α v and α, over what may be attended to. scores: (S,)  values: (S, V)  mask: (S,) of bool"""
    e = np.array([math.exp(s) if m else 0.0 for s, m in zip(scores, mask, strict=True)])
    alpha = e / e.sum() if e.any() else e
    return alpha @ values, alpha


SCORES = {
    "dot": lambda p, q, v: q @ v,
    "scaled": lambda p, q, v: q @ v / math.sqrt(len(q)),
    "general": lambda p, q, v: q @ (v @ p["W"]),
    "additive": lambda p, q, v: np.tanh(q @ p["W"] + v @ p["U"] + p["b"]) @ p["a"],
}


def heads(p, q, ks, vs, mask, N=2):
    """The context of one query, and its weights (N, S). ks: (S, K)  vs: (S, V)"""
    q, ks, vs = q @ p["q.W"] + p["q.b"], ks @ p["k.W"] + p["k.b"], vs @ p["v.W"] + p["v.b"]
    D = len(q) // N
    parts = [slice(n * D, (n + 1) * D) for n in range(N)]
    found = [mixture([q[i] @ k[i] / math.sqrt(D) for k in ks], vs[:, i], mask) for i in parts]
    return np.concatenate([c for c, _ in found]) @ p["out.W"] + p["out.b"], np.stack([a for _, a in found])


def attend(kind, p, query, values, mask=None):
    """Context and weights of a batch. query: (B, Q)  values: (S, B, V)  mask: (B, S)"""
    S, B, _ = values.shape
    mask = np.ones((B, S), bool) if mask is None else mask
    found = []
    for b in range(B):
        q, vs = query[b], values[:, b]
        if kind == "multihead":
            found.append(heads(p, q, vs, vs, mask[b]))
        else:
            found.append(mixture([SCORES[kind](p, q, v) for v in vs], vs, mask[b]))
    return np.stack([c for c, _ in found]), np.stack([a for _, a in found])


# ---- each kind -----------------------------------------------------------------------------------------------------

MASKS = {
    "all": lambda S, B: {},
    "lengths": lambda S, B: {"lengths": np.random.default_rng(0).integers(1, S + 1, B)},
    "mask": lambda S, B: {"mask": np.arange(S) % 2 == np.arange(B)[:, None] % 2 * (S > 1)},
}


def as_mask(options, S):
    if "lengths" in options:
        return np.arange(S) < options["lengths"][:, None]
    return options.get("mask")


@every_kind
@pytest.mark.parametrize("masked", MASKS)
@pytest.mark.parametrize(("steps", "batch"), [(S, B), (1, B), (S, 1), (1, 1), (9, 2)])
def test_a_kind_of_attention_is_its_formula(kind, masked, steps, batch):
    attention, query, value = made(kind)
    q, values, options = normal(batch, query), normal(steps, batch, value), MASKS[masked](steps, batch)
    mask = as_mask(options, steps)
    memory = attention.remember(tg.tensor(values), **options)
    found = attention(tg.tensor(q), memory)
    expected = attend(kind, attention.state_dict(), q, values, mask)
    all_close(found, expected, 1e-12)
    np.testing.assert_allclose(found[1].numpy().sum(-1), 1, rtol=1e-12)
    assert mask is None or not found[1].numpy().swapaxes(0, -2)[..., ~mask].any()
    context, weights = attention.nothing(memory)
    assert [t.shape for t in (context, weights)] == [t.shape for t in found]
    assert {t.dtype for t in (context, weights)} == {np.dtype("float64")}
    assert not context.numpy().any()
    assert not weights.numpy().any()


@every_kind
@pytest.mark.parametrize("mask", [None, [[1, 0, 1], [0, 0, 0]]], ids=["all", "masked"])
def test_the_derivatives_of_a_kind_are_what_differences_give(kind, mask):
    attention, query, value = made(kind)
    mask = None if mask is None else np.array(mask, bool)
    run, parameters = by_parameters(
        attention, lambda q, values: list(attention(q, attention.remember(values, mask=mask)))
    )
    assert tg.gradcheck(run, *parameters, variable(normal(2, query)), variable(normal(3, 2, value)), order=2)


@every_kind
def test_a_sequence_that_is_masked_throughout_gives_weights_and_gradients_of_zero(kind):
    attention, query, value = made(kind)
    q, values, parameters = variable(normal(B, query)), variable(normal(S, B, value)), list(attention.parameters())
    for lengths in [0, 3, 0], [0, 0, 0]:
        context, weights = attention(q, attention.remember(values, lengths=lengths))
        results = [weights] if kind == "multihead" else [context, weights]
        gradients = tg.grad(weighted(results), [q, values, *parameters], allow_unused=True)
        arrays = [t.numpy() for t in (*results, *gradients)]
        assert all(np.isfinite(a).all() for a in arrays)
        for a in (*results, gradients[0], gradients[1].swapaxes(0, 1)):
            assert not a.numpy()[[0, 2]].any()
            assert a.numpy()[1].any() == (lengths[1] > 0)
        if not any(lengths):
            assert not any(g.numpy().any() for g in gradients)


@pytest.mark.parametrize("kind", ["dot", "scaled", "general", "additive"])
def test_a_memory_of_no_steps_gives_a_context_of_zero(kind):
    attention, query, value = made(kind)
    context, weights = attention(tg.tensor(normal(B, query)), attention.remember(tg.zeros(0, B, value)))
    assert weights.shape == (B, 0)
    np.testing.assert_array_equal(context.numpy(), np.zeros((B, value)))


def test_several_heads_give_a_context_of_zero_where_all_is_masked():
    attention, query, value = made("multihead")
    q, values = variable(normal(B, query)), variable(normal(S, B, value))
    context, _ = attention(q, attention.remember(values, lengths=[0, 3, 0]))
    gradient = tg.grad(context[[0, 2]].sum(), list(attention.parameters()), allow_unused=True)
    assert not context.numpy()[[0, 2]].any()
    assert not any(g.numpy().any() for g in gradient)


@every_kind
@pytest.mark.parametrize("garbage", [-7.0, 1e6, 1e290])
def test_what_stands_behind_a_mask_changes_nothing(kind, garbage):
    attention, query, value = made(kind)
    q, mask, found = variable(normal(B, query)), np.array([[1, 1, 0, 0, 0], [1] * 5, [0] * 5], bool), []
    for filler in 0.0, garbage:
        values = normal(S, B, value)
        values[~mask.T] = filler
        values = variable(values)
        results = attention(q, attention.remember(values, mask=mask))
        found.append(outcome(results, [q, values, *attention.parameters()]))
    for clean, dirty in zip(*found, strict=True):
        np.testing.assert_array_equal(clean, dirty)
    assert not found[1][3].swapaxes(0, 1)[~mask].any()
    assert found[1][3].swapaxes(0, 1)[mask].all()


FORMS = {"list": list, "tuple": tuple, "array": np.array, "uint8": lambda n: np.array(n, "uint8"), "tensor": tg.tensor}


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_lengths_may_be_any_integers_and_are_a_mask(form):
    attention, query, value = made("general")
    q, values = tg.tensor(normal(B, query)), tg.tensor(normal(S, B, value))
    mask = np.arange(S) < np.array([[2], [5], [0]])
    expected = attention(q, attention.remember(values, mask=tg.tensor(mask)))
    all_close(attention(q, attention.remember(values, mask=mask)), expected, 0)
    all_close(attention(q, attention.remember(values, lengths=form([2, 5, 0]))), expected, 0)
    assert attention.remember(values).mask is None


def test_single_precision_is_kept():
    for kind in KINDS:
        attention, query, value = made(kind)
        attention.to("float32")
        q, values = (variable(a.astype("float32")) for a in (normal(B, query), normal(S, B, value)))
        memory = attention.remember(values, lengths=[2, 5, 0])
        context, weights = attention(q, memory)
        gradients = tg.grad(context.sum() + weights.sum(), [q, values, *attention.parameters()], allow_unused=True)
        assert {t.dtype for t in (context, weights, *gradients, *attention.nothing(memory))} == {np.dtype("float32")}


def test_the_units_of_additive_attention_are_as_many_as_a_query_has():
    assert nn.AdditiveAttention(4, 6).a.shape == (4,)
    assert nn.AdditiveAttention(4, 6, 5).a.shape == (5,)


@pytest.mark.parametrize("kind", nn.ATTENTIONS)
def test_attention_is_made_by_its_name(kind):
    sizes = (8, 8) if kind in ("dot", "scaled") else (8, 6)
    attention = nn.ATTENTIONS[kind](*sizes).to("float64")
    values = tg.tensor(normal(S, B, sizes[1]))
    context, weights = attention(tg.tensor(normal(B, 8)), attention.remember(values))
    assert context.shape == ((B, 8) if kind == "multihead" else (B, sizes[1]))
    assert weights.shape == ((B, 4, S) if kind == "multihead" else (B, S))
    assert set(nn.ATTENTIONS) == set(KINDS)


# ---- several heads, several queries --------------------------------------------------------------------------------


@pytest.mark.parametrize("masked", ["none", "keys", "queries", "both"])
def test_several_queries_at_once_are_the_formula_for_each(masked):
    attention = randomised(nn.MultiheadAttention(6, 2, kdim=5, vdim=3))
    q, ks, vs = normal(T, B, 6), normal(S, B, 5), normal(S, B, 3, seed=2)
    of_keys = np.arange(S) < np.array([[2], [5], [1]]) if masked in ("keys", "both") else None
    of_queries = np.tril(np.ones((T, S), bool)) if masked in ("queries", "both") else None
    memory = attention.remember(tg.tensor(vs), tg.tensor(ks), mask=of_keys)
    context, weights = attention(tg.tensor(q), memory, of_queries)
    p = attention.state_dict()
    for t in range(T):
        for b in range(B):
            mask = np.ones(S, bool) if of_keys is None else of_keys[b]
            mask = mask if of_queries is None else mask & of_queries[t]
            expected = heads(p, q[t, b], ks[:, b], vs[:, b], mask)
            all_close([context.numpy()[t, b], weights.numpy()[t, b]], expected, 1e-12)
        if of_queries is None:
            all_close(attention(tg.tensor(q[t]), memory), [context[t], weights[t]], 1e-12)


def test_the_derivatives_of_several_queries_are_what_differences_give():
    attention = randomised(nn.MultiheadAttention(4, 2, kdim=3, vdim=2))
    keys, queries = np.array([[1, 1, 0], [1, 1, 1]], bool), np.array([[1, 0, 0], [0, 1, 1]], bool)
    run, parameters = by_parameters(
        attention, lambda q, ks, vs: list(attention(q, attention.remember(vs, ks, mask=keys), queries))
    )
    inputs = [variable(normal(*shape)) for shape in ((2, 2, 4), (3, 2, 3), (3, 2, 2))]
    assert tg.gradcheck(run, *parameters, *inputs)


# ---- a cell with attention -----------------------------------------------------------------------------------------

MODES = {
    "output, fed": {"query": "output"},
    "output": {"query": "output", "feed": False},
    "previous": {"query": "previous"},
    "context": {"query": "context"},
}
every_mode = pytest.mark.parametrize("mode", MODES)
LENGTHS = np.array([5, 2, 3])
sigma = lambda a: 1 / (1 + np.exp(-a))


def lstm(p, x, state):
    """One step of an LSTM, in NumPy."""
    h, c = state
    i, f, g, o = np.split(x @ p["cell.U"] + h @ p["cell.W"] + p["cell.b"], 4, axis=-1)
    c = sigma(f) * c + sigma(i) * np.tanh(g)
    h = sigma(o) * np.tanh(c)
    return h, (h, c)


def cell_of(kind, mode, engine="eager"):
    """A decoder of H = Q units with attention to values of V = Q numbers, in a Recurrent."""
    cell = nn.AttentionCell(nn.LSTMCell(I + (0 if mode == "output" else Q), Q), KINDS[kind](Q, Q), **MODES[mode])
    return nn.Recurrent(randomised(cell), engine=engine)


def sources_of(batch=B, steps=T):
    """xs, values, h and c: random, and asking for gradients."""
    shapes = (steps, batch, I), (S, batch, Q), (batch, Q), (batch, Q)
    return [variable(normal(*shape, seed=i)) for i, shape in enumerate(shapes)]


def run_cell(rnn, xs, values, h, c, lengths=LENGTHS, **options):
    """Outputs, the weights after each step, and the last state of a decoder."""
    cell = rnn.cell
    state = cell.start(nn.LSTMState(h, c), cell.attention.remember(values, lengths=lengths))
    ys, last = rnn(xs, state, **options)
    return [ys, last.weights, last.cell.h, last.cell.c]


@every_kind
@every_mode
@pytest.mark.parametrize("lengths", [None, LENGTHS], ids=["all", "lengths"])
def test_a_cell_with_attention_is_the_loop_that_its_docstring_writes(kind, mode, lengths):
    rnn = cell_of(kind, mode)
    xs, values, h, c = inputs = sources_of()
    found, _, *last = run_cell(rnn, *inputs, lengths=lengths)
    cell = rnn.cell
    _, states = rnn(
        xs,
        cell.start(nn.LSTMState(h, c), cell.attention.remember(values, lengths=lengths)),
        all_states=True,
    )
    p = cell.state_dict()
    a = {name.removeprefix("attention."): v for name, v in p.items()}
    mask = None if lengths is None else np.arange(S) < lengths[:, None]
    look = lambda query: attend(kind, a, query, values.numpy(), mask)
    state, seen, y = (h.numpy(), c.numpy()), np.zeros((B, Q)), h.numpy()
    for t, x in enumerate(xs.numpy()):
        if mode in ("output", "output, fed"):
            y, state = lstm(p, x if mode == "output" else np.concatenate([x, seen], axis=1), state)
            seen, alpha = look(y)
        else:
            seen, alpha = look(y if mode == "previous" else seen)
            y, state = lstm(p, np.concatenate([x, seen], axis=1), state)
        all_close([found[t], states.weights[t]], [np.concatenate([y, seen], axis=1), alpha], 1e-12)
        if mode == "output":
            assert states.context is None
        else:
            all_close([states.context[t]], [seen], 1e-12)
        assert (states.query is not None) == (mode == "previous")
    all_close(last, state, 1e-12)


def each_day(chosen):
    """(kind, mode): all of them, of which those that are not chosen by their places in the tables are slow."""
    return [
        pytest.param(kind, mode, marks=[] if chosen(i, j) else pytest.mark.slow)
        for i, kind in enumerate(KINDS)
        for j, mode in enumerate(MODES)
    ]


def assert_equals_eager(kind, mode, engine, targets=None):
    """Values and all gradients; one of the sources is empty."""
    found = []
    for name in "eager", engine:
        rnn, (xs, values, h, c) = cell_of(kind, mode, name), sources_of()
        cell = rnn.cell
        state = cell.start(nn.LSTMState(h, c), cell.attention.remember(values, lengths=[5, 2, 0]))
        ys, last = rnn(xs, state, targets)
        assert rnn.plan(xs, state, targets).engine == name
        found.append(outcome([ys, last.weights, *last.cell], [xs, values, h, c, *cell.parameters()]))
    assert all(np.isfinite(a).all() for a in found[1])
    all_close(found[1], found[0])


@pytest.mark.parametrize(("kind", "mode"), each_day(lambda i, j: (i + j) % 2 == 0))
def test_a_cell_with_attention_under_the_engine_numpy_equals_eager(kind, mode):
    assert_equals_eager(kind, mode, "numpy")


@without_llvmlite
@pytest.mark.parametrize(("kind", "mode"), each_day(lambda i, j: i % 4 == j))
def test_a_cell_with_attention_under_the_engine_llvm_equals_eager(kind, mode):
    assert_equals_eager(kind, mode, "llvm")


@compiled
def test_a_cell_with_attention_and_ragged_targets_equals_eager(engine):
    assert_equals_eager("additive", "previous", engine, targets=[4, 1, 0])


@compiled
def test_all_states_and_hooks_of_a_cell_with_attention_equal_eager(engine):
    found = []
    for options in {"engine": "eager"}, {"engine": engine, "checkpoint_every": 2}:
        rnn, (xs, values, h, c), seen = nn.Recurrent(cell_of("dot", "previous").cell, **options), sources_of(), []
        rnn.register_state_hook(seen.append)
        cell = rnn.cell
        state = cell.start(nn.LSTMState(h, c), cell.attention.remember(values, lengths=LENGTHS))
        ys, states = rnn(xs, state, [4, 1, 0], all_states=True)
        floats = [s for s in nest.leaves(states) if s.dtype.kind == "f"]
        assert {s.shape[:2] for s in floats} == {(T, B)}
        found.append(outcome([ys, *floats], [xs, values, h, c, *cell.parameters()]))
        found[-1] += [g.numpy() for g in nest.leaves(seen[0])]
    all_close(found[1], found[0])


@every_mode
@pytest.mark.parametrize("kind", ["general", "additive"])
def test_a_batch_of_ragged_sources_and_targets_is_its_sequences_alone(kind, mode):
    rnn, inputs, targets = cell_of(kind, mode), sources_of(), [4, 1, 2]
    (xs, values, *first), cell = inputs, rnn.cell
    ys, last = rnn(xs, cell.start(nn.LSTMState(*first), cell.attention.remember(values, lengths=LENGTHS)), targets)
    found = [ys, last.weights, *last.cell]
    alone, rng = [np.zeros(t.shape) for t in found], np.random.default_rng(3)
    us, total = [rng.standard_normal(t.shape) for t in found], 0
    for b, n in enumerate(targets):
        memory = cell.attention.remember(values[: LENGTHS[b], b : b + 1])
        y, end = rnn(xs[:n, b : b + 1], cell.start(nn.LSTMState(*(s[b : b + 1] for s in first)), memory))
        places = [np.s_[:n, b : b + 1], np.s_[b : b + 1, : LENGTHS[b]], np.s_[b : b + 1], np.s_[b : b + 1]]
        for whole, u, part, place in zip(alone, us, [y, end.weights, *end.cell], places, strict=True):
            whole[place] = part.numpy()
            total = total + (part * tg.tensor(u[place])).sum()
    all_close(found, alone, 1e-12)
    sources = [*inputs, *rnn.parameters()]
    all_close(tg.grad(weighted(found), sources), [g.numpy() for g in tg.grad(total, sources)])


@pytest.mark.parametrize(
    ("kind", "mode"),
    [("additive", "output, fed"), ("scaled", "output"), ("general", "previous"), ("additive", "context")],
)
def test_gradients_flow_through_attention_to_what_is_attended_to(kind, mode):
    rnn = cell_of(kind, mode, "numpy")
    run, parameters = by_parameters(rnn, lambda *inputs: run_cell(rnn, *inputs, lengths=[5, 3]))
    inputs = sources_of(2, 3)
    assert tg.gradcheck(run, *parameters, *inputs, order=1)
    gradients = tg.grad(weighted(run_cell(rnn, *inputs, lengths=[5, 3])[:1]), [*inputs, *rnn.parameters()])
    xs, values, *rest = (g.numpy() for g in gradients)
    assert all(g.any() for g in (xs, *rest))
    assert values[:, 0].all()
    assert values[:3, 1].all()
    assert not values[3:, 1].any()


def test_what_it_asks_with_first_is_the_hidden_state_or_what_is_given():
    lower, upper = nn.GRUCell(I + Q, 3), nn.LSTMCell(3, Q)
    cell = randomised(nn.AttentionCell(nn.Stack([lower, upper]), nn.GeneralAttention(Q, Q), query="previous"))
    state = nest.map_leaves(lambda s: tg.tensor(normal(*s.shape)), cell.cell.initial_state(B))
    state = (state[0], nn.LSTMState(state[1].h, state[1].c * 2))
    values, x, other = tg.tensor(normal(S, B, Q)), tg.tensor(normal(B, I)), tg.tensor(normal(B, Q, seed=9))
    memory = cell.attention.remember(values)
    assert hidden(cell.cell, state) is state[1].h
    for query, given in (state[1].h, {}), (other, {"query": other}):
        expected, alpha = cell.attention(query, memory)
        y, new = cell(x, cell.start(state, memory, **given))
        all_close([y[:, Q:], new.weights, new.query], [expected, alpha, y[:, :Q]], 1e-13)
    cell = randomised(nn.AttentionCell(nn.GRUCell(I + Q, Q), nn.GeneralAttention(Q, Q), query="context"))
    memory = cell.attention.remember(values)
    for query, given in (tg.tensor(np.zeros((B, Q))), {}), (other, {"query": other}):
        _, alpha = cell.attention(query, memory)
        _, new = cell(x, cell.start(cell.cell.initial_state(B), memory, **given))
        all_close([new.weights], [alpha], 1e-13)


def test_the_keys_are_made_once_for_all_steps():
    rnn = cell_of("additive", "output, fed")
    ys, *_ = run_cell(rnn, *sources_of())
    products = [n for n in ancestors([ys.node], all_parents) if n.op is not None and n.op.name == "matmul"]
    count = lambda p: sum(any(p.node in ancestors([i], all_parents) for i in all_parents(n)[1:2]) for n in products)
    cell = rnn.cell
    assert count(cell.attention.U) == 1
    assert count(cell.attention.W) == T


@compiled
def test_a_compiled_step_is_given_the_keys(engine):
    for kind, weight in ("additive", "attention.U"), ("general", "attention.W"), ("multihead", "attention.k.W"):
        rnn = cell_of(kind, "output, fed", engine)
        xs, values, h, c = sources_of()
        state = rnn.cell.start(nn.LSTMState(h, c), rnn.cell.attention.remember(values, lengths=LENGTHS))
        circuit = rnn.plan(xs, state).circuit
        names = {v.name for v in circuit.captured}
        assert weight not in names
        assert {"memory.keys", "memory.values", "memory.mask", "cell.U"} <= names
        assert circuit.roots["dcaptured"][[v.name for v in circuit.captured].index("memory.keys")] is not None


@without_llvmlite
def test_the_gates_of_an_attended_cell_are_read_where_they_are():
    rnn = cell_of("general", "output, fed", "llvm")
    xs, values, h, c = sources_of()
    state = rnn.cell.start(nn.LSTMState(h, c), rnn.cell.attention.remember(values))
    assert "\n  once:" not in str(rnn.plan(xs, state))  # rows of W for the context, put together gate by gate


@pytest.mark.parametrize(
    ("kind", "engine"),
    [("general", "numpy"), ("multihead", "numpy"), pytest.param("additive", "llvm", marks=without_llvmlite)],
)
def test_attention_that_is_not_fed_back_is_no_part_of_the_recurrence(kind, engine):
    for mode, inside in ("output, fed", True), ("output", False):
        rnn = cell_of(kind, mode, engine)
        xs, values, h, c = sources_of()
        state = rnn.cell.start(nn.LSTMState(h, c), rnn.cell.attention.remember(values, lengths=LENGTHS))
        plan = rnn.plan(xs, state)
        assert plan.engine == engine
        lines = str(plan).split("backward")[0].splitlines()
        steps = " ".join(line for line in lines if "at each step" in line)
        at_once = " ".join(line for line in lines if "for all steps at once" in line)
        work = "softmax" if engine == "numpy" else "exp"
        assert "sigmoid" in steps
        assert (work in steps) == inside
        assert (work in at_once) != inside


# ---- a stack, and what finds the weights ---------------------------------------------------------------------------


@compiled
def test_attention_may_be_in_a_stack_and_its_weights_are_found(engine):
    found = []
    for name in "eager", engine:
        lower = nn.AttentionCell(nn.RNNCell(I + Q, Q), nn.AdditiveAttention(Q, Q))
        stack = randomised(nn.Stack([nn.RNNCell(I, I), lower, nn.RNNCell(2 * Q, 3)]))
        xs, values, h, _ = sources_of()
        below, above = (variable(normal(B, n)) for n in (I, 3))
        state = (below, lower.start(h, lower.attention.remember(values, lengths=LENGTHS)), above)
        rnn = nn.Recurrent(stack, engine=name)
        ys, last = rnn(xs, state)
        assert rnn.plan(xs, state).engine == name
        weights = nn.attention_weights(last)
        assert weights is last[1].weights
        found.append(outcome([ys, weights], [xs, values, h, below, above, *stack.parameters()]))
    all_close(found[1], found[0])
    x, s = xs, state
    for x in xs:
        _, s = stack(x, s)
    all_close([found[1][1]], [s[1].weights])
    assert (found[1][1][[1, 2], [1, 2]] > 0).all()
    assert not found[1][1][1, 2:].any()


def test_the_weights_are_found_however_deep_they_are_and_none_where_there_are_none():
    cell = nn.AttentionCell(nn.GRUCell(I + Q, Q), nn.DotAttention())
    state = cell.start(cell.cell.initial_state(B), cell.attention.remember(tg.zeros(S, B, Q)))
    other = nn.LSTMState(tg.zeros(B, Q), tg.zeros(B, Q))
    for nested in state, (other, [None, {"a": other, "b": (state,)}]), [state, other]:
        assert nn.attention_weights(nested) is state.weights
    for nested in other, None, tg.zeros(B, Q), (), {"a": [None]}, nn.ContextState(other, tg.zeros(B, Q)):
        assert nn.attention_weights(nested) is None


# ---- a cell that reads one vector ------------------------------------------------------------------------------------


def test_a_cell_with_a_context_reads_it_at_every_step():
    cell = randomised(nn.ContextCell(nn.LSTMCell(I + V, Q)))
    xs, _, h, c = (t.numpy() for t in sources_of())
    context = normal(B, V)
    ys, last = nn.Recurrent(cell, engine="eager")(
        tg.tensor(xs), cell.start(nn.LSTMState(tg.tensor(h), tg.tensor(c)), tg.tensor(context))
    )
    state, p = (h, c), cell.state_dict()
    for x, y in zip(xs, ys.numpy(), strict=True):
        expected, state = lstm(p, np.concatenate([x, context], axis=1), state)
        np.testing.assert_allclose(y, expected, rtol=1e-12)
    assert type(last) is nn.ContextState
    all_close([*last.cell, last.context], [*state, context], 1e-12)


@compiled
def test_a_cell_with_a_context_under_every_engine_equals_eager(engine):
    found = []
    for name in "eager", engine:
        cell = randomised(nn.ContextCell(nn.LSTMCell(I + V, Q)))
        (xs, _, h, c), context, mine = sources_of(), variable(normal(B, V)), []
        rnn = nn.Recurrent(cell, engine=name)
        for lengths in None, [4, 0, 1]:
            state = cell.start(nn.LSTMState(h, c), context)
            ys, last = rnn(xs, state, lengths)
            mine += outcome([ys, *last.cell], [xs, h, c, context, *cell.parameters()])
        assert rnn.plan(xs, state).engine == name
        found.append(mine)
    all_close(found[1], found[0])
    assert all(a.any() for a in found[1])


def test_the_derivatives_of_a_cell_with_a_context_are_what_differences_give():
    cell = randomised(nn.ContextCell(nn.GRUCell(I + V, Q)))
    rnn = nn.Recurrent(cell, engine="numpy")
    run, parameters = by_parameters(cell, lambda xs, h, context: rnn(xs, cell.start(h, context))[0])
    inputs = [variable(normal(*shape)) for shape in ((3, 2, I), (2, Q), (2, V))]
    assert tg.gradcheck(run, *parameters, *inputs)


# ---- several rows for each sequence, under the engine llvm -----------------------------------------------------------


class Rows(nn.Cell):
    """h' = tanh(x U + f(E) + c),   E = tanh(h W + k_s), with s rows of A numbers for each sequence; state: h and k."""

    A, K = 3, 5

    def __init__(self):
        draw = lambda *shape: nn.Parameter(nn.init.normal(shape))
        self.U, self.W, self.c = draw(I, self.A), draw(self.A, self.A), draw(self.A)

    def forward(self, x, state):
        h, keys = state
        E = ops.tanh((h @ self.W).unsqueeze(1) + keys)  # (B, S, A)
        h = ops.tanh(x @ self.U + self.read(E) + self.c)
        return h, (h, keys)


class TimesMatrix(Rows):
    """f(E) = Σ_s tanh(E P) R"""

    def __init__(self):
        super().__init__()
        self.P, self.R = nn.Parameter(nn.init.normal((self.A, self.K))), nn.Parameter(nn.init.normal((self.K, self.A)))

    def read(self, E):
        return ops.tanh(E @ self.P).sum(1) @ self.R


class TimesVector(Rows):
    """f(E) = Σ_s tanh(E a)_s E_s"""

    def __init__(self):
        super().__init__()
        self.a = nn.Parameter(nn.init.normal((self.A,)))

    def read(self, E):
        return (ops.tanh(E @ self.a).unsqueeze(1) @ E).squeeze(1)


class TimesBoth(TimesMatrix):
    """f(E) = Σ_s tanh(E a + E P + b) R"""

    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Parameter(nn.init.normal((self.A,))), nn.Parameter(nn.init.normal((self.K,)))

    def read(self, E):
        return ops.tanh((E @ self.a).unsqueeze(-1) + E @ self.P + self.b).sum(1) @ self.R


def assert_rows_equal_eager(cell, batch, rows, lengths=None, steps=(1, 4)):
    """Values and all gradients, for several numbers of steps."""
    found = []
    for engine in "eager", "llvm":
        rnn, mine = nn.Recurrent(randomised(cell()), engine=engine), []
        state = variable(normal(batch, cell.A)), variable(normal(batch, rows, cell.A))
        for T in steps:
            xs, ends = variable(normal(T, batch, I)), None if lengths is None else np.minimum(lengths, T)
            ys, last = rnn(xs, state, ends)
            mine += outcome([ys, last[0]], [xs, *state, *rnn.parameters()])
        assert rnn.plan(xs, state, ends).engine == engine
        found.append(mine)
    assert all(a.any() for a in found[1])
    all_close(found[1], found[0])


@without_llvmlite
@pytest.mark.parametrize("batch", [1, 2, 3, 4])
@pytest.mark.parametrize("cell", [TimesMatrix, TimesVector])
def test_gradients_of_products_with_several_rows_for_each_sequence_equal_eager(cell, batch):
    for rows in (1, 4) if batch in (1, 3) else (2,):
        assert_rows_equal_eager(cell, batch, rows)


@without_llvmlite
@pytest.mark.parametrize("cell", [TimesMatrix, TimesVector, TimesBoth])
def test_gradients_of_products_with_several_rows_and_lengths_equal_eager(cell):
    assert_rows_equal_eager(cell, 4, 2, lengths=[3, 0, 5, 1], steps=(1, 5))


@without_llvmlite
@pytest.mark.parametrize("cell", [TimesMatrix, TimesVector])
@pytest.mark.parametrize("batch", [3, 17])
def test_gradients_of_products_with_several_rows_equal_eager_when_two_share_a_batch(cell, batch, monkeypatch):
    from tinygrad_rnn.compiler.llvm import workers

    teams, count, run = [], workers.count, workers.run
    two = lambda B, *least: 2 if batch == B else max(2, count(B))  # also of all threads
    monkeypatch.setattr(workers, "count", two)
    monkeypatch.setattr(workers, "run", lambda job: (teams.append(job.parts), run(job)))
    for lengths in None, np.arange(batch) * 2 % 5:
        assert_rows_equal_eager(cell, batch, 3, lengths)
    assert 2 in teams


# ---- bad input -------------------------------------------------------------------------------------------------------

VALUES = np.zeros((S, B, V), np.float32)
BAD = {
    "values of two axes": (
        lambda: nn.DotAttention().remember(tg.tensor(VALUES[0])),
        r"^DotAttention: values must be \(S, B, V\), got \(3, 6\)$",
    ),
    "values of two axes for several heads": (
        lambda: nn.MultiheadAttention(6, 2).remember(tg.tensor(VALUES[0])),
        r"^MultiheadAttention: values must be \(S, B, V\), got \(3, 6\)$",
    ),
    "a mask with time first": (
        lambda: nn.GeneralAttention(Q, V).remember(tg.tensor(VALUES), mask=np.ones((S, B), bool)),
        r"^GeneralAttention: mask must be \(3, 5\) of bool, got \(5, 3\) of bool$",
    ),
    "a mask of integers": (
        lambda: nn.AdditiveAttention(Q, V).remember(tg.tensor(VALUES), mask=np.ones((B, S), int)),
        r"^AdditiveAttention: mask must be \(3, 5\) of bool, got \(3, 5\) of int64$",
    ),
    "too few lengths": (
        lambda: nn.ScaledDotAttention().remember(tg.tensor(VALUES), lengths=[1, 2]),
        r"^ScaledDotAttention: lengths must be \(3,\) integers, got \(2,\) of dtype int64$",
    ),
    "a length beyond the end": (
        lambda: nn.DotAttention().remember(tg.tensor(VALUES), lengths=[1, 6, 2]),
        "^DotAttention: lengths must be from 0 to S = 5, got 1 to 6$",
    ),
    "lengths and a mask": (
        lambda: nn.DotAttention().remember(tg.tensor(VALUES), lengths=[1, 1, 2], mask=np.ones((3, 5), bool)),
        r"^DotAttention: give lengths or a mask, not both$",
    ),
    "heads that do not divide": (
        lambda: nn.MultiheadAttention(6, 4),
        "^MultiheadAttention: embed_dim must be a multiple of num_heads, got 6 and 4$",
    ),
    "no heads": (lambda: nn.MultiheadAttention(6, 0), "^MultiheadAttention: .* got 6 and 0$"),
    "a query": (
        lambda: nn.AttentionCell(nn.GRUCell(2, 2), nn.DotAttention(), query="input"),
        '^AttentionCell: query must be "output", "previous" or "context", .* got \'input\' and feed=True$',
    ),
    "a previous output that is not fed": (
        lambda: nn.AttentionCell(nn.GRUCell(2, 2), nn.DotAttention(), query="previous", feed=False),
        "^AttentionCell: .* got 'previous' and feed=False$",
    ),
}


@pytest.mark.parametrize("call, message", BAD.values(), ids=BAD)
def test_bad_input_is_refused_in_one_line(call, message):
    with pytest.raises(ValueError, match=message) as caught:
        call()
    assert "\n" not in str(caught.value)


def test_masks_of_keys_and_queries_go_to_the_values_device(gpu):
    attention, (values, queries) = nn.MultiheadAttention(4, 2), (tg.tensor(np.ones((n, 2, 4), "f4")) for n in (3, 5))
    causal, known = np.tril(np.ones((5, 3), bool)), np.ones((2, 3), bool)
    _, weights = attention(queries, attention.remember(values, mask=known), mask=causal)
    np.testing.assert_array_equal(weights.numpy()[:, 0, 0] > 0, causal)
    _, same = attention(queries, attention.remember(values, mask=tg.tensor(known)), mask=tg.tensor(causal))
    np.testing.assert_array_equal(weights.numpy(), same.numpy())
