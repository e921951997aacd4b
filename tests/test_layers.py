"""Modules, layers, initial values and losses."""

import math

import numpy as np
import pytest

import tinygrad_rnn as tg

from tinygrad_rnn import nn, ops

rng = np.random.default_rng(21)


def leaf(*shape):
    return tg.tensor(rng.standard_normal(shape), requires_grad=True)


# ---- the tree of a module ------------------------------------------------------------------------------------------


class Tree(nn.Module):
    """Parameters and modules as attributes, in lists, tuples and dicts; one is shared."""

    def __init__(self):
        self.z = nn.Parameter(nn.init.ones((2,)))
        self.layers = [nn.Linear(2, 3), (nn.Linear(3, 3, bias=False), nn.Dropout(0.5))]
        self.heads = {"b": nn.Linear(3, 1), "a": nn.Parameter(nn.init.zeros((1,)))}
        self.again = self.layers[0]
        self.tied = self.layers[0].W
        self.constant = tg.tensor([1.0])
        self.a = nn.Parameter(nn.init.ones((4,)))
        self.nothing = None


PATHS = ["z", "layers.0.W", "layers.0.b", "layers.1.0.W", "heads.b.W", "heads.b.b", "heads.a", "a"]


def test_parameters_are_named_in_the_order_of_definition_and_shared_ones_once():
    tree = Tree()
    assert [path for path, _ in tree.named_parameters()] == PATHS
    assert [id(p) for p in tree.parameters()] == [id(p) for _, p in tree.named_parameters()]
    assert tree.layers[0].W.name == "W"
    assert tree.z.name == "z"


def test_modules_are_named_by_their_paths():
    tree = Tree()
    assert [path for path, _ in tree.named_children()] == ["layers.0", "layers.1.0", "layers.1.1", "heads.b", "again"]
    assert next(tree.named_modules()) == ("", tree)
    assert len(list(tree.modules())) == 6


def test_what_is_added_to_a_list_later_is_found():
    tree = Tree()
    tree.layers.append(nn.Linear(1, 1))
    assert "layers.2.W" in dict(tree.named_parameters())


def test_an_attribute_that_is_set_again_keeps_its_place():
    tree = Tree()
    new = nn.Parameter(nn.init.zeros((2,)))
    tree.z = new
    assert [path for path, _ in tree.named_parameters()] == PATHS
    assert next(tree.parameters()) is new


def test_a_module_without_forward_says_so():
    with pytest.raises(NotImplementedError, match=r"^Tree: must define forward$"):
        Tree()(1)


def test_train_and_eval_reach_every_module_and_return_it():
    tree = Tree()
    assert all(m.training for m in tree.modules())
    assert tree.eval() is tree
    assert not any(m.training for m in tree.modules())
    assert tree.train() is tree
    assert all(m.training for m in tree.modules())
    assert not tree.train(False).layers[1][1].training


def test_zero_grad_forgets_the_gradients():
    model = nn.Linear(2, 3)
    model(tg.tensor([[1.0, 2.0]])).sum().backward()
    assert all(p.grad is not None for p in model.parameters())
    model.zero_grad()
    assert all(p.grad is None for p in model.parameters())


def test_to_a_dtype_casts_parameters_and_gradients_and_keeps_their_identity():
    model = nn.Linear(2, 3)
    parameters = list(model.parameters())
    model(tg.tensor([[1.0, 2.0]])).sum().backward()
    before = [p.grad.numpy() for p in parameters]
    assert model.to("float64") is model
    for p, same, g in zip(model.parameters(), parameters, before, strict=True):
        assert p is same
        assert p.dtype == p.grad.dtype == np.float64
        np.testing.assert_array_equal(p.grad.numpy(), g)
    model(tg.tensor(np.array([[1.0, 2.0]]))).sum().backward()
    for p, g in zip(parameters, before, strict=True):
        assert p.grad.dtype == np.float64
        np.testing.assert_allclose(p.grad.numpy(), 2 * g)
    assert {p.dtype for p in model.to(np.float16).parameters()} == {np.dtype(np.float16)}


def test_repr_shows_the_tree_with_shapes():
    assert repr(nn.Linear(2, 3)) == "Linear(\n  W: (2, 3)\n  b: (3,)\n)"
    assert repr(nn.Dropout(0.5)) == "Dropout()"
    assert "  layers.0: Linear(\n    W: (2, 3)\n    b: (3,)\n  )\n" in repr(Tree())


def test_a_parameter_takes_what_tensor_takes_and_can_be_frozen():
    for values in ([1.0, 2.0], np.array([1.0, 2.0], np.float32), tg.tensor([1.0, 2.0]), leaf(2)):
        p = nn.Parameter(values)
        assert p.requires_grad
        assert p.is_leaf
    frozen = nn.Parameter([1.0], requires_grad=False)
    assert not frozen.requires_grad
    model = nn.Linear(2, 2)
    model.W.requires_grad_(False)
    model(tg.tensor([[1.0, 2.0]])).sum().backward()
    assert model.W.grad is None
    assert model.b.grad is not None
    assert len(list(model.parameters())) == 2


# ---- saving and loading --------------------------------------------------------------------------------------------


def test_a_state_dict_is_a_copy_that_load_state_dict_puts_back():
    source, target = Tree(), Tree()
    for p in source.parameters():
        p.data = rng.standard_normal(p.shape)
    saved = source.state_dict()
    assert all(type(v) is np.ndarray for v in saved.values())
    kept = {k: v.copy() for k, v in saved.items()}
    identity = [id(p) for p in target.parameters()]
    target.load_state_dict(saved)
    assert [id(p) for p in target.parameters()] == identity
    for v in saved.values():
        v[...] = 0
    for found in (target.state_dict(), source.state_dict()):
        assert found.keys() == kept.keys()
        assert all((found[k] == kept[k]).all() for k in kept)
    assert target.again.W is target.tied


def test_loading_keeps_the_modules_dtype():
    model = nn.Linear(2, 3)
    model.load_state_dict({"W": np.ones((2, 3)), "b": [1, 2, 3]})
    assert model.W.dtype == model.b.dtype == np.float32
    assert model.b.tolist() == [1, 2, 3]


def without(name):
    return lambda values: values.pop(name)


REFUSED_STATES = {
    "a missing name": (without("heads.a"), ValueError, r"missing \['heads\.a'\], not in the module none"),
    "an unknown name": (lambda v: v.update(other=1), ValueError, r"missing none, not in the module \['other'\]"),
    "another shape": (lambda v: v.update(a=np.zeros(5)), ValueError, r"a must have shape \(4,\), got \(5,\)"),
    "no numbers": (lambda v: v.update(a=np.array(["x"] * 4)), (ValueError, TypeError), "a must"),
}


@pytest.mark.parametrize("spoil, kind, message", REFUSED_STATES.values(), ids=REFUSED_STATES)
def test_a_state_that_does_not_fit_is_refused_and_nothing_of_it_is_taken(spoil, kind, message):
    tree = Tree()
    before = tree.state_dict()
    values = {k: v + 1 for k, v in before.items()}
    spoil(values)
    with pytest.raises(kind, match=rf"^Tree\.load_state_dict: .*{message}"):
        tree.load_state_dict(values)
    assert all((v == before[k]).all() for k, v in tree.state_dict().items())


# ---- layers --------------------------------------------------------------------------------------------------------


def double(module):
    """The module in float64, its parameters random."""
    for p in module.to("float64").parameters():
        p.data = rng.standard_normal(p.shape)
    return module


def by_parameters(module, *inputs):
    """module(*inputs) as a function of its parameters' values, with these values: for gradcheck."""
    parameters = list(module.parameters())

    def f(*values):
        own = [(p.array, p.node) for p in parameters]
        for p, v in zip(parameters, values, strict=True):
            p.array, p.node = v.array, v.node
        try:
            return module(*inputs)
        finally:
            for p, (array, node) in zip(parameters, own, strict=True):
                p.array, p.node = array, node

    return f, [tg.tensor(p.numpy(), requires_grad=True) for p in parameters]


LAYERS = {
    "Linear": (lambda: nn.Linear(3, 2), leaf(4, 3), lambda m, x: x @ m.W.numpy() + m.b.numpy()),
    "Linear of many axes": (lambda: nn.Linear(3, 2), leaf(2, 5, 3), lambda m, x: x @ m.W.numpy() + m.b.numpy()),
    "Linear of a vector": (lambda: nn.Linear(3, 2), leaf(3), lambda m, x: x @ m.W.numpy() + m.b.numpy()),
    "Linear without bias": (lambda: nn.Linear(3, 2, bias=False), leaf(4, 3), lambda m, x: x @ m.W.numpy()),
    "LayerNorm": (
        lambda: nn.LayerNorm(5),
        leaf(4, 5),
        lambda m, x: (
            (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-5) * m.gain.numpy() + m.b.numpy()
        ),
    ),
    "LayerNorm of many axes": (
        lambda: nn.LayerNorm(5, eps=0.1),
        leaf(2, 3, 5),
        lambda m, x: (
            (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 0.1) * m.gain.numpy() + m.b.numpy()
        ),
    ),
}


@pytest.mark.parametrize("make, x, expected", LAYERS.values(), ids=LAYERS)
def test_a_layer_is_its_formula_and_its_gradients_are_those_of_differences(make, x, expected):
    layer = double(make())
    np.testing.assert_allclose(layer(x).numpy(), expected(layer, x.numpy()), rtol=1e-11, atol=1e-12)
    assert tg.gradcheck(layer, x)
    f, values = by_parameters(layer, x)
    assert tg.gradcheck(f, *values)


@pytest.mark.parametrize("make, x, expected", LAYERS.values(), ids=LAYERS)
def test_a_layer_keeps_float32(make, x, expected):
    layer = make()
    xs = tg.tensor(x.numpy().astype(np.float32), requires_grad=True)
    y = layer(xs)
    gradients = tg.grad(y.sum(), [xs, *layer.parameters()])
    assert {t.dtype for t in (y, *gradients)} == {np.dtype(np.float32)}


def test_layer_norm_of_a_constant_is_its_bias_and_of_large_numbers_finite():
    layer = double(nn.LayerNorm(4))
    np.testing.assert_allclose(layer(tg.tensor(np.full((2, 4), 3.0))).numpy(), np.broadcast_to(layer.b.numpy(), (2, 4)))
    y = nn.LayerNorm(4)(tg.tensor(np.array([[1e4, -1e4, 1e4, -1e4]], np.float32)))
    np.testing.assert_allclose(y.numpy(), [[1, -1, 1, -1]], rtol=1e-5)


def test_an_embedding_is_rows_of_its_table_and_repeated_ids_add_up():
    layer = double(nn.Embedding(5, 3))
    ids = np.array([[1, 4], [1, 1]])
    y = layer(ids)
    np.testing.assert_array_equal(y.numpy(), layer.E.numpy()[ids])
    u = rng.standard_normal(y.shape)
    (y * u).sum().backward()
    expected = np.zeros((5, 3))
    np.add.at(expected, ids, u)
    np.testing.assert_allclose(layer.E.grad.numpy(), expected)
    with pytest.raises(IndexError, match=r"^embedding: the index must be from 0 to 4, got 0 to 5$"):
        layer([0, 5])


def test_an_embedding_is_one_hot_times_its_table():
    layer = double(nn.Embedding(5, 3))
    ids = tg.tensor(np.array([1, 4, 1]))
    np.testing.assert_array_equal(layer(ids).numpy(), (ops.one_hot(ids, 5, np.float64) @ layer.E).numpy())


# ---- dropout -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("p", [0.1, 0.5, 0.9])
def test_dropout_drops_a_share_of_p_and_scales_the_rest(p, device):
    x = tg.tensor(np.ones((200, 500)), requires_grad=True)
    y = nn.Dropout(p, rng=np.random.default_rng(0))(x)
    values = y.numpy()
    np.testing.assert_allclose(np.unique(values), [0, 1 / (1 - p)])
    assert (values == 0).mean() == pytest.approx(p, abs=0.005)
    assert values.mean() == pytest.approx(1, abs=0.02)
    np.testing.assert_array_equal(tg.grad(y.sum(), x).numpy(), values)  # what was dropped passes no gradient


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_dropout_keeps_the_dtype(dtype):
    assert nn.Dropout(0.3)(tg.tensor(np.ones(5, dtype))).dtype == dtype


def test_dropout_does_nothing_in_evaluation_or_with_p_zero():
    x = leaf(5)
    assert nn.Dropout(0.9).eval()(x) is x
    assert nn.Dropout(0.0)(x) is x


def test_dropout_is_reproducible_by_the_librarys_seed_and_by_a_generator():
    x, layer = leaf(100), nn.Dropout(0.5)
    tg.manual_seed(1)
    first, second = layer(x).numpy(), layer(x).numpy()
    tg.manual_seed(1)
    np.testing.assert_array_equal(layer(x).numpy(), first)
    assert (first != second).any()
    state = tg.get_rng_state()
    own = [nn.Dropout(0.5, rng=np.random.default_rng(7))(x).numpy() for _ in range(2)]
    np.testing.assert_array_equal(*own)
    assert tg.get_rng_state() == state


@pytest.mark.parametrize("p", [-0.1, 1.0, 1.5])
def test_dropout_refuses_a_p_that_is_no_share(p):
    with pytest.raises(ValueError, match=f"^Dropout: p must be from 0 to less than 1, got {p}$"):
        nn.Dropout(p)


# ---- initial values ------------------------------------------------------------------------------------------------


def test_constant_initial_values_are_what_they_say(device):
    for t, value in [(nn.init.zeros((2, 3)), 0), (nn.init.ones((2, 3)), 1), (nn.init.constant((2, 3), 2.5), 2.5)]:
        np.testing.assert_array_equal(t.numpy(), np.full((2, 3), value))
        assert (t.dtype, t.device) == (np.float32, tg.default_device())


VARIANCES = {
    "uniform": (lambda rng: nn.init.uniform((300, 200), 0.3, rng), 0.3**2 / 3, 0.3),
    "normal": (lambda rng: nn.init.normal((300, 200), 0.2, rng), 0.04, None),
    "xavier_uniform": (lambda rng: nn.init.xavier_uniform((300, 200), rng=rng), 2 / 500, math.sqrt(6 / 500)),
    "xavier_uniform with gain": (
        lambda rng: nn.init.xavier_uniform((300, 200), 3, rng),
        9 * 2 / 500,
        3 * math.sqrt(6 / 500),
    ),
    "kaiming_uniform": (lambda rng: nn.init.kaiming_uniform((300, 200), rng=rng), 2 / 300, math.sqrt(6 / 300)),
    "kaiming_uniform with gain": (lambda rng: nn.init.kaiming_uniform((300, 200), 1, rng), 1 / 300, math.sqrt(3 / 300)),
}


@pytest.mark.parametrize("make, variance, bound", VARIANCES.values(), ids=VARIANCES)
def test_random_initial_values_have_their_variance_and_bound_and_come_from_the_generator(make, variance, bound):
    values = make(np.random.default_rng(0)).numpy()
    assert values.mean() == pytest.approx(0, abs=4 * math.sqrt(variance / values.size))
    assert values.var() == pytest.approx(variance, rel=0.03)
    assert bound is None or 0.99 * bound < np.abs(values).max() <= bound * (1 + 1e-6)
    np.testing.assert_array_equal(make(np.random.default_rng(0)).numpy(), values)
    tg.manual_seed(0)
    np.testing.assert_array_equal(make(None).numpy(), values)
    assert (make(None).numpy() != values).any()


@pytest.mark.parametrize("shape", [(4, 4), (6, 4), (4, 6), (1, 1), (5, 1)], ids=str)
def test_orthogonal_values_have_orthonormal_rows_or_columns(shape):
    W = nn.init.orthogonal(shape, 2.0, np.random.default_rng(0)).numpy().astype(float) / 2
    rows, columns = shape
    product = W.T @ W if rows >= columns else W @ W.T
    np.testing.assert_allclose(product, np.eye(min(shape)), atol=1e-6)


def test_gates_side_by_side_are_orthogonal_each_by_itself_and_differ():
    W = nn.init.orthogonal((4, 12), rng=np.random.default_rng(0)).numpy()
    blocks = np.split(W, 3, axis=1)
    for block in blocks:
        np.testing.assert_allclose(block.T @ block, np.eye(4), atol=1e-6)
    assert not np.allclose(blocks[0], blocks[1])


def test_orthogonal_values_are_drawn_from_all_directions():
    signs = [nn.init.orthogonal((2, 2), rng=np.random.default_rng(i)).numpy() for i in range(400)]
    np.testing.assert_allclose(np.mean(signs, axis=0), 0, atol=0.12)
    determinants = [np.linalg.det(W) for W in signs]
    assert 100 < sum(d > 0 for d in determinants) < 300


@pytest.mark.parametrize("make", [nn.init.xavier_uniform, nn.init.kaiming_uniform, nn.init.orthogonal])
def test_a_shape_without_two_axes_has_no_fan(make):
    with pytest.raises(ValueError, match=r"shape must .*, got \(3,\)$"):
        make((3,))


# ---- losses --------------------------------------------------------------------------------------------------------

V = 5


def losses(logits, targets, ignore=-100, smoothing=0.0):
    """-log P of each target, one by one, smoothed; 0 where ignored."""
    out = np.zeros(targets.shape)
    for place in np.ndindex(targets.shape):
        if targets[place] == ignore:
            continue
        z = logits[place]
        logp = z - np.log(np.exp(z).sum())
        wanted = (1 - smoothing) * np.eye(V)[targets[place]] + smoothing / V
        out[place] = -(wanted * logp).sum()
    return out


TARGETS = {
    "vector": np.array([0, 4, 2, 2]),
    "time and batch": np.array([[0, 4, 1], [3, 3, 2]]),
    "one": np.array(3),
    "ignored": np.array([[0, -100, 1], [-100, 3, -100]]),
}


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("targets", TARGETS.values(), ids=TARGETS)
def test_cross_entropy_is_its_formula_in_every_reduction(targets, smoothing, device):
    x = leaf(*targets.shape, V)
    expected = losses(x.numpy(), targets, smoothing=smoothing)
    loss = lambda x, reduction: nn.cross_entropy(x, tg.tensor(targets), reduction=reduction, label_smoothing=smoothing)
    np.testing.assert_allclose(loss(x, "none").numpy(), expected, rtol=1e-11, atol=1e-13)
    np.testing.assert_allclose(loss(x, "sum").item(), expected.sum(), rtol=1e-11)
    np.testing.assert_allclose(loss(x, "mean").item(), expected.sum() / (targets != -100).sum(), rtol=1e-11)
    for reduction in ("none", "sum", "mean"):
        assert tg.gradcheck(lambda x, reduction=reduction: loss(x, reduction), x)
    g = tg.grad(loss(x, "sum"), x).numpy()
    assert not g[targets == -100].any()


def test_cross_entropy_of_ignored_targets_only_is_zero_with_zero_gradient(device):
    x = leaf(3, V)
    for reduction in ("mean", "sum"):
        loss = nn.cross_entropy(x, tg.tensor(np.full(3, -100)), reduction=reduction)
        assert loss.item() == 0
        np.testing.assert_array_equal(tg.grad(loss, x).numpy(), np.zeros((3, V)))


def test_cross_entropy_ignores_the_index_that_it_is_told():
    x, targets = leaf(4, V), np.array([0, 1, 0, 2])
    loss = nn.cross_entropy(x, targets, ignore_index=0)
    np.testing.assert_allclose(loss.item(), losses(x.numpy(), targets, ignore=0).sum() / 2)


def test_the_gradient_of_cross_entropy_is_the_softmax_less_the_target():
    x, targets = leaf(4, V), np.array([0, 1, 4, 2])
    g = tg.grad(nn.cross_entropy(x, targets, reduction="sum"), x).numpy()
    p = np.exp(x.numpy()) / np.exp(x.numpy()).sum(1, keepdims=True)
    np.testing.assert_allclose(g, p - np.eye(V)[targets], rtol=1e-10, atol=1e-13)


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_cross_entropy_of_confident_logits_neither_overflows_nor_changes_the_dtype(dtype, device):
    x = tg.tensor(np.array([[1000, 0, -1000], [-1000, 0, 1000]], dtype), requires_grad=True)
    loss = nn.cross_entropy(x, tg.tensor(np.array([0, 1])))
    assert loss.item() == pytest.approx(500)
    g = tg.grad(loss, x)
    np.testing.assert_allclose(g.numpy(), [[0, 0, 0], [0, -0.5, 0.5]])
    assert loss.dtype == g.dtype == dtype


@pytest.mark.parametrize(
    "form",
    [list, np.array, lambda t: np.array(t, np.uint8), lambda t: np.array(t, np.uint64), tg.tensor],
    ids=["list", "array", "uint8", "uint64", "tensor"],
)
def test_targets_may_be_any_integers_on_every_device(form, device):
    x = leaf(3, V)
    found = nn.cross_entropy(x, form([0, 4, 2]), reduction="none")
    np.testing.assert_allclose(found.numpy(), losses(x.numpy(), np.array([0, 4, 2])))


def test_a_sequence_loss_is_the_sum_over_its_steps():
    x, targets = leaf(4, 2, V), rng.integers(0, V, (4, 2))
    whole = nn.cross_entropy(x, targets, reduction="sum")
    steps = sum(nn.cross_entropy(x[t], targets[t], reduction="sum") for t in range(4))
    np.testing.assert_allclose(whole.item(), steps.item())
    np.testing.assert_allclose(tg.grad(whole, x).numpy(), tg.grad(steps, x).numpy(), atol=1e-13)


BAD_LOSSES = {
    "a target above V": (lambda: nn.cross_entropy(leaf(2, V), [0, V]), IndexError, "from 0 to 4, got 0 to 5"),
    "a negative target": (lambda: nn.cross_entropy(leaf(2, V), [0, -1]), IndexError, "from 0 to 4, got -1 to 0"),
    "targets of another shape": (
        lambda: nn.cross_entropy(leaf(2, 3, V), [0, 1]),
        ValueError,
        r"^cross_entropy: targets must be \(2, 3\) for logits \(2, 3, 5\), got \(2,\)$",
    ),
    "targets of floats": (lambda: nn.cross_entropy(leaf(2, V), [0.0, 1.0]), TypeError, "integers, got dtype float64"),
    "a reduction": (
        lambda: nn.cross_entropy(leaf(2, V), [0, 1], reduction="max"),
        ValueError,
        '^cross_entropy: reduction must be "sum", "mean" or "none", got \'max\'$',
    ),
    "a reduction of mse": (
        lambda: nn.mse_loss(leaf(2), leaf(2), reduction=None),
        ValueError,
        "^mse_loss: reduction must be",
    ),
    "mse of two shapes": (
        lambda: nn.mse_loss(leaf(2), leaf(2, 1)),
        ValueError,
        r"^mse_loss: prediction and target must have one shape, got \(2,\) and \(2, 1\)$",
    ),
}


@pytest.mark.parametrize("call, kind, message", BAD_LOSSES.values(), ids=BAD_LOSSES)
def test_a_loss_refuses_what_does_not_fit_in_one_line(call, kind, message):
    with pytest.raises(kind, match=message) as caught:
        call()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("reduction, reduce", [("none", lambda d: d), ("sum", np.sum), ("mean", np.mean)])
def test_the_squared_error_is_its_formula(reduction, reduce, device):
    x, target = leaf(3, 4), leaf(3, 4)
    loss = lambda x, target: nn.mse_loss(x, target, reduction=reduction)
    expected = reduce((x.numpy() - target.numpy()) ** 2)
    np.testing.assert_allclose(loss(x, target).numpy(), expected)
    np.testing.assert_allclose(loss(x, target.numpy()).numpy(), expected)
    assert tg.gradcheck(loss, x, target)


def test_losses_of_nothing_are_zero():
    assert nn.cross_entropy(leaf(0, V), np.zeros(0, int)).item() == 0
    assert nn.mse_loss(leaf(0), leaf(0)).item() == 0


def test_a_module_is_saved_and_loaded(tmp_path, device):
    path, model, other = tmp_path / "weights.safetensors", nn.LSTM(3, 4, num_layers=2), nn.LSTM(3, 4, num_layers=2)
    model.to("float64")
    model.register_buffer("steps", np.array([3, 4]))
    other.register_buffer("steps", np.array([0, 0]))
    model.save(path)
    other.to("float64").load(str(path))
    for name, value in model.state_dict().items():
        np.testing.assert_array_equal(other.state_dict()[name], value, err_msg=name)
        assert other.state_dict()[name].dtype == value.dtype
    with pytest.raises(ValueError, match=r"load_state_dict: the names must be the same"):
        nn.Linear(3, 4).load(path)
    path.write_bytes(b"not this")
    with pytest.raises(ValueError, match=r"^LSTM.load: '.*' is no safetensors file of arrays"):
        other.load(path)
    with pytest.raises(FileNotFoundError):
        other.load(tmp_path / "nothing")
