"""Hooks of leaves are called when the gradient is complete; where somebody waits for them, layers run one by one."""

import copy
import pickle

import numpy as np
import pytest

import tinygrad_rnn as tg

from tinygrad_rnn import nn, ops
from tinygrad_rnn.autograd.graph import context

rng = np.random.default_rng(3)


@pytest.fixture
def early(monkeypatch):
    monkeypatch.setattr(context, "early", True)


def leaf(*shape):
    return tg.tensor(rng.normal(size=shape), requires_grad=True)


def chain(calls):
    """y = ((x a) b) a, each leaf with a hook; `calls` gets their names, and those of what is computed."""
    leaves = {"a": leaf(3, 3), "b": leaf(3, 3), "x": leaf(2, 3), "unused": leaf(2)}
    first = leaves["x"] @ leaves["a"]
    second = first @ leaves["b"]
    y = (second @ leaves["a"]).sum()
    for name, t in {**leaves, "first": first, "second": second}.items():
        t.register_hook(lambda g, name=name: calls.append(name))
    return leaves, y


def test_a_leafs_hook_is_called_as_soon_as_nothing_more_can_come():
    calls = []
    _, y = chain(calls)
    y.backward()
    assert calls == ["second", "b", "first", "x", "a"] or calls == ["second", "b", "first", "a", "x"]


@pytest.mark.parametrize("create_graph", [False, True])
def test_it_sees_all_of_the_gradient_and_may_change_it(create_graph):
    seen = {}
    leaves, y = chain([])
    for name in "a", "b", "x":
        leaves[name].register_hook(lambda g, name=name: seen.setdefault(name, g.numpy()) is None or g * 2)
    y.backward(create_graph=create_graph)
    a, b, x = (leaves[n].numpy() for n in "abx")
    ones = np.ones((2, 3))
    wanted = {"a": x.T @ (ones @ a.T @ b.T) + (x @ a @ b).T @ ones, "b": (x @ a).T @ (ones @ a.T)}
    for name, g in wanted.items():
        np.testing.assert_allclose(seen[name], g, rtol=1e-12)
        np.testing.assert_allclose(leaves[name].grad.numpy(), 2 * g, rtol=1e-12)
    assert leaves["unused"].grad is None


def test_a_gradient_that_is_asked_for_is_shown_and_others_are_not():
    calls = []
    leaves, y = chain(calls)
    (g,) = tg.grad(y, [leaves["b"]])
    assert [c for c in calls if c in leaves] == ["b"] and g.shape == (3, 3)


def test_a_leaf_that_is_read_in_products_put_off_and_otherwise_is_complete():
    W, seen = leaf(3, 3), []
    W.register_hook(lambda g: seen.append(g.numpy()))
    h = leaf(2, 3)
    for _ in range(3):
        h = ops.tanh(h @ W)
    ((h @ W.T).sum() + (W * W).sum()).backward()
    assert len(seen) == 1
    np.testing.assert_array_equal(seen[0], W.grad.numpy())
    tg.gradcheck(lambda W: (ops.tanh(ops.tanh(h.detach() @ W) @ W) @ W.T).sum() + (W * W).sum(), W)


def test_a_leaf_that_is_the_root_is_shown():
    t, seen = leaf(1), []
    t.register_hook(lambda g: seen.append(g.item()))
    t.sum().backward()
    (t * 1).backward(tg.tensor(np.ones(1)))
    assert seen == [1.0, 1.0]


# ---- layer by layer ------------------------------------------------------------------------------------------------


def layers_of(name, engine="auto", reverse=False):
    cells = {
        "lstm": lambda: [nn.LSTMCell(3, 4), nn.LSTMCell(4, 5), nn.GRUCell(5, 4)],
        "one": lambda: [nn.LSTMCell(3, 4)],
        "nested": lambda: [nn.GRUCell(3, 4), nn.Stack([nn.RNNCell(4, 4), nn.RNNCell(4, 5)])],
    }[name]()
    return nn.Recurrent(nn.Stack(cells), engine=engine, reverse=reverse).to("float64")


def results(layer, early, lengths=None, all_states=False, given=False):
    layer.cell.parameters()
    xs = tg.tensor(np.random.default_rng(0).normal(size=(7, 3, 3)), requires_grad=True)
    state = None
    if given:
        leaves = tg.autograd.nest.leaves(layer.cell.initial_state(3))
        values = iter([tg.tensor(np.random.default_rng(1).normal(size=t.shape)) for t in leaves])
        state = tg.autograd.nest.map_leaves(lambda t: next(values), layer.cell.initial_state(3))
    order = []
    removes = [p.register_hook(lambda g, path=path: order.append(path)) for path, p in layer.cell.named_parameters()]
    context.early = early
    try:
        ys, new = layer(xs, state, lengths, all_states=all_states)
        leaves = tg.autograd.nest.leaves(new)
        (ys * ys).sum().backward(retain_graph=True)
    finally:
        context.early = False
    grads = [xs.grad.numpy(), *(p.grad.numpy() for p in layer.cell.parameters())]
    for remove in removes:
        remove()
    for p in layer.cell.parameters():
        p.grad = None
    return [ys.numpy(), *(t.numpy() for t in leaves), *grads], order


@pytest.mark.parametrize("engine", ["auto", *(pytest.param(e, marks=pytest.mark.slow) for e in ("eager", "numpy"))])
@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("options", [{}, {"lengths": [7, 0, 4]}, {"all_states": True}, {"given": True}], ids=str)
@pytest.mark.parametrize("name", ["lstm", "one", "nested"])
def test_a_stack_computes_the_same_layer_by_layer(name, engine, reverse, options):
    layer = layers_of(name, engine, reverse)
    plain, _ = results(layer, False, **options)
    separate, order = results(layer, True, **options)
    for a, b in zip(plain, separate, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-12)
    ranks = [int(path.split(".")[1]) for path in order]
    assert ranks == sorted(ranks, reverse=True)  # the last layer first


def test_what_a_layer_consists_of_does_not_change(early):
    layer = layers_of("lstm")
    before = [path for path, _ in layer.named_parameters()], [*layer.state_dict()], len(list(layer.modules()))
    layer(np.zeros((5, 2, 3)))
    assert before == ([path for path, _ in layer.named_parameters()], [*layer.state_dict()], len(list(layer.modules())))
    for other in copy.deepcopy(layer), pickle.loads(pickle.dumps(layer)):
        other.cell.cells[0].b.data = other.cell.cells[0].b.data + 1
        ys, _ = other(np.ones((5, 2, 3)))
        assert abs(ys.numpy() - layer(np.ones((5, 2, 3)))[0].numpy()).max() > 1e-3


def test_a_layer_sees_cells_that_change(early):
    layer = layers_of("lstm")
    xs = np.ones((5, 2, 3))
    before = layer(xs)[0].numpy()
    layer.cell.cells[1] = nn.LSTMCell(4, 5).to("float64")
    assert abs(layer(xs)[0].numpy() - before).max() > 1e-6
    layer.engine = "eager"
    layer(xs)
    assert {each.engine for each in layer._layers.layers} == {"eager"}


def test_a_stack_that_drops_or_is_watched_runs_as_one(early):
    stack = nn.Stack([nn.LSTMCell(3, 4), nn.LSTMCell(4, 4)], dropout=0.5)
    layer = nn.Recurrent(stack)
    layer(np.ones((5, 2, 3), "f"))
    assert not layer._layers.layers
    layer.eval()
    layer(np.ones((5, 2, 3), "f"))
    assert len(layer._layers.layers) == 2
    other = layers_of("lstm")
    other.register_state_hook(lambda g: None)
    other(np.ones((5, 2, 3)))
    assert not other._layers.layers
