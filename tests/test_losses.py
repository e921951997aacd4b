"""Losses: their definitions, their derivatives, and PyTorch's; class weights, and a vector that is not learned."""

import numpy as np
import pytest

import tinygrad_rnn as tg

from tinygrad_rnn import nn, ops

RNG = np.random.default_rng(0)
SHAPE = 4, 3
SIGMOID = lambda x: 1 / (1 + np.exp(-x))
CLASSES = np.array([0.5, 2.0, 0.0, 1.5])
IDS = np.array([[0, 3, -100], [1, 2, 3]])

# by name: our loss of x and y, what it is by its definition, PyTorch's with its options, and y
ELEMENTWISE = {
    "mse": (nn.mse_loss, {}, lambda x, y: (x - y) ** 2, "mse_loss", "real"),
    "l1": (nn.l1_loss, {}, lambda x, y: np.abs(x - y), "l1_loss", "real"),
    "smooth l1": (
        nn.smooth_l1_loss, {"beta": 0.7},
        lambda x, y: np.where(np.abs(x - y) < 0.7, (x - y) ** 2 / 1.4, np.abs(x - y) - 0.35), "smooth_l1_loss", "real",
    ),
    "smooth l1 of no width": (nn.smooth_l1_loss, {"beta": 0.0}, lambda x, y: np.abs(x - y), "smooth_l1_loss", "real"),
    "huber": (
        nn.huber_loss, {"delta": 0.7},
        lambda x, y: np.where(np.abs(x - y) <= 0.7, (x - y) ** 2 / 2, 0.7 * (np.abs(x - y) - 0.35)),
        "huber_loss", "real",
    ),
    "binary": (
        nn.binary_cross_entropy_with_logits, {},
        lambda x, y: -y * np.log(SIGMOID(x)) - (1 - y) * np.log(SIGMOID(-x)),
        "binary_cross_entropy_with_logits", "unit",
    ),
    "binary, weighted": (
        nn.binary_cross_entropy_with_logits, {"weight": CLASSES[:3], "pos_weight": CLASSES[1:, None].T},
        lambda x, y: CLASSES[:3] * (-CLASSES[1:] * y * np.log(SIGMOID(x)) - (1 - y) * np.log(SIGMOID(-x))),
        "binary_cross_entropy_with_logits", "unit",
    ),
    "KL": (nn.kl_div, {}, lambda x, y: np.where(y > 0, y * np.log(np.where(y > 0, y, 1)), 0) - y * x, "kl_div", "unit"),
    "KL of logarithms": (nn.kl_div, {"log_target": True}, lambda x, y: np.exp(y) * (y - x), "kl_div", "real"),
}  # fmt: skip
TABLE = pytest.mark.parametrize("name", ELEMENTWISE)


def problem(kind, dtype="float64"):
    x, y = RNG.normal(size=SHAPE), RNG.normal(size=SHAPE)
    if kind == "unit":
        y = SIGMOID(3 * y)
        y[0] = 0, 1, 0.5
    return x.astype(dtype), y.astype(dtype)


@TABLE
def test_a_loss_is_what_its_definition_says(name):
    loss, options, definition, _, kind = ELEMENTWISE[name]
    x, y = problem(kind)
    each = definition(x, y)
    for target in (y, tg.tensor(y), y.tolist()):
        found = {r: loss(tg.tensor(x), target, reduction=r, **options).numpy() for r in ("none", "sum", "mean")}
        np.testing.assert_allclose(found["none"], each, rtol=1e-12, atol=1e-15)
        assert found["sum"] == pytest.approx(each.sum()) and found["mean"] == pytest.approx(each.mean())


@TABLE
def test_its_derivatives_are_right(name):
    loss, options, _, _, kind = ELEMENTWISE[name]
    x, y = problem(kind)
    if name == "KL":
        y = np.clip(y, 0.1, 0.9)
    tg.gradcheck(lambda x, y: loss(x, y, reduction="sum", **options), tg.tensor(x, requires_grad=True),
                 tg.tensor(y, requires_grad=True))  # fmt: skip


@TABLE
@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_it_keeps_the_dtype(name, dtype, device):
    loss, options, definition, _, kind = ELEMENTWISE[name]
    x, y = problem(kind, dtype)
    found = loss(tg.tensor(x), y, reduction="none", **options)
    assert found.dtype == dtype
    tolerance = {"float16": 5e-3, "float32": 1e-5, "float64": 1e-12}[dtype]
    np.testing.assert_allclose(found.numpy(), definition(x.astype(float), y.astype(float)), tolerance, tolerance)


def test_logits_of_any_size_give_numbers():
    x = tg.tensor([-1000.0, 1000.0, -1000.0, 1000.0, 0.0], requires_grad=True)
    loss = nn.binary_cross_entropy_with_logits(x, [0.0, 1.0, 1.0, 0.0, 1.0], reduction="none")
    np.testing.assert_allclose(loss.numpy(), [0, 0, 1000, 1000, np.log(2)], rtol=1e-6)
    loss.sum().backward()
    np.testing.assert_allclose(x.grad.numpy(), [0, 0, -1, 1, -0.5], atol=1e-6)


def test_kl_of_a_batch_is_the_mean_over_rows():
    p, q = (np.exp(a) / np.exp(a).sum(-1, keepdims=True) for a in RNG.normal(size=(2, *SHAPE)))
    found = nn.kl_div(tg.tensor(np.log(p)), q, reduction="batchmean").item()
    assert found == pytest.approx((q * np.log(q / p)).sum() / len(q))


# ---- classes ---------------------------------------------------------------------------------------------------------


def by_hand(logp, smoothing):
    """The loss of each position, and what it counts for."""
    counts = IDS >= 0
    ids = np.where(counts, IDS, 0)
    picked = -np.take_along_axis(logp, ids[..., None], -1)[..., 0] * CLASSES[ids]
    each = (1 - smoothing) * picked - smoothing / 4 * (logp * CLASSES).sum(-1)
    return np.where(counts, each, 0), np.where(counts, CLASSES[ids], 0)


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
@pytest.mark.parametrize("weight", [CLASSES, tg.tensor(CLASSES), CLASSES.tolist()], ids=["array", "tensor", "list"])
def test_classes_may_count_for_more_or_less(weight, smoothing):
    z = RNG.normal(size=(2, 3, 4))
    logp = z - np.log(np.exp(z).sum(-1, keepdims=True))
    each, counts = by_hand(logp, smoothing)
    expected = {"none": each, "sum": each.sum(), "mean": each.sum() / counts.sum()}
    for reduction, e in expected.items():
        options = {"weight": weight, "reduction": reduction}
        found = nn.cross_entropy(tg.tensor(z), IDS, label_smoothing=smoothing, **options)
        np.testing.assert_allclose(found.numpy(), e, rtol=1e-12, atol=1e-15)
        if not smoothing:
            np.testing.assert_allclose(nn.nll_loss(tg.tensor(logp), IDS, **options).numpy(), e, rtol=1e-12, atol=1e-15)
    tg.gradcheck(lambda z: nn.cross_entropy(z, IDS, weight=CLASSES, label_smoothing=smoothing),
                 tg.tensor(z, requires_grad=True))  # fmt: skip


def test_nll_of_log_softmax_is_cross_entropy():
    z = tg.tensor(RNG.normal(size=(2, 3, 4)), requires_grad=True)
    for reduction in ("none", "sum", "mean"):
        a = nn.nll_loss(ops.log_softmax(z), IDS, reduction=reduction)
        b = nn.cross_entropy(z, IDS, reduction=reduction)
        np.testing.assert_allclose(a.numpy(), b.numpy(), rtol=1e-13)
        np.testing.assert_allclose(tg.grad(a.sum(), z).numpy(), tg.grad(b.sum(), z).numpy(), atol=1e-14)


def test_where_nothing_counts_the_mean_is_zero():
    z = tg.tensor(RNG.normal(size=(3, 4)), requires_grad=True)
    for ids in ([-100] * 3, [2] * 3):  # none, and a class that counts for nothing
        loss = nn.cross_entropy(z, np.array(ids), weight=CLASSES)
        assert loss.item() == 0 and not tg.grad(loss, z).numpy().any()


# ---- a vector that is not learned ------------------------------------------------------------------------------------


@pytest.mark.parametrize("padding_idx, row", [(0, 0), (2, 2), (-1, 4)])
def test_a_vector_of_padding_is_zero_and_stays_so(padding_idx, row, device):
    table = nn.Embedding(5, 3, padding_idx=padding_idx)
    assert (np.abs(table.E.numpy()).sum(1) == 0).tolist() == [i == row for i in range(5)]
    ids = np.array([[row, 1], [3, row]])
    for given in (ids, ids.tolist(), tg.tensor(ids)):
        table.zero_grad()
        (table(given) * 2).sum().backward()
        assert table.E.grad.numpy()[:, 0].tolist() == [2.0 * (i in (1, 3)) for i in range(5)]
    with tg.no_grad():
        table.E += 1  # by hand
    assert (table([row]).numpy() == 1).all()


REFUSED = {
    "shapes": (lambda x: nn.l1_loss(x, np.zeros(3)), r"l1_loss: prediction and target must have one shape"),
    "beta": (lambda x: nn.smooth_l1_loss(x, x, beta=-1), "smooth_l1_loss: beta must be a finite number of at least 0"),
    "delta": (lambda x: nn.huber_loss(x, x, delta=0), "huber_loss: delta must be a finite number greater than 0"),
    "weights": (
        lambda x: nn.binary_cross_entropy_with_logits(x, x, weight=np.ones((2, 2, 3))),
        r"weights must broadcast to \(2, 3\)"
    ),
    "reduction": (lambda x: nn.kl_div(x, x, reduction="max"), 'kl_div: reduction must be "sum", "mean" or "none"'),
    "classes": (
        lambda x: nn.cross_entropy(x, [0, 1], weight=[1.0, 2.0]),
        r"weight must be \(3,\), a number for each class, got \(2,\)"
    ),
    "padding": (lambda x: nn.Embedding(3, 2, padding_idx=3), "padding_idx must be an id below 3, got 3"),
}  # fmt: skip


@pytest.mark.parametrize("call, message", REFUSED.values(), ids=REFUSED)
def test_what_does_not_fit_is_refused_in_a_sentence(call, message):
    with pytest.raises(ValueError, match=message):
        call(tg.tensor(np.zeros((2, 3))))


# ---- beside PyTorch --------------------------------------------------------------------------------------------------


@pytest.mark.oracle
@pytest.mark.filterwarnings("ignore:reduction")
@TABLE
@pytest.mark.parametrize("reduction", ["none", "sum", "mean"])
def test_it_is_pytorchs(name, reduction):
    import torch

    loss, options, _, theirs, kind = ELEMENTWISE[name]
    x, y = problem(kind)
    if name.startswith(("huber", "smooth")):
        x[0, 0], y[0, 0] = 1.0, 0.3  # where two formulas meet
    ours = [tg.tensor(a, requires_grad=True) for a in (x, y)]
    other = [torch.tensor(a, requires_grad=True) for a in (x, y)]
    converted = {k: torch.tensor(v) if isinstance(v, np.ndarray) else v for k, v in options.items()}
    a = loss(*ours, reduction=reduction, **options)
    b = getattr(torch.nn.functional, theirs)(*other, reduction=reduction, **converted)
    np.testing.assert_allclose(a.numpy(), b.detach().numpy(), rtol=1e-12, atol=1e-14)
    b.sum().backward()
    np.testing.assert_allclose(tg.grad(a.sum(), ours[0]).numpy(), other[0].grad.numpy(), rtol=1e-12, atol=1e-14)


@pytest.mark.oracle
@pytest.mark.parametrize("smoothing", [0.0, 0.3])
@pytest.mark.parametrize("reduction", ["none", "sum", "mean"])
def test_class_weights_are_pytorchs(reduction, smoothing):
    import torch

    z = RNG.normal(size=(2, 3, 4))
    x, t = tg.tensor(z, requires_grad=True), torch.tensor(z, requires_grad=True)
    options = {"reduction": reduction, "label_smoothing": smoothing}
    a = nn.cross_entropy(x, IDS, weight=CLASSES, **options)
    b = torch.nn.functional.cross_entropy(
        t.permute(0, 2, 1), torch.tensor(IDS), weight=torch.tensor(CLASSES), **options
    )
    np.testing.assert_allclose(a.numpy(), b.detach().numpy(), rtol=1e-12, atol=1e-14)
    b.sum().backward()
    np.testing.assert_allclose(tg.grad(a.sum(), x).numpy(), t.grad.numpy(), rtol=1e-12, atol=1e-14)


@pytest.mark.oracle
@pytest.mark.parametrize("padding_idx", [1, -2])
def test_padding_is_pytorchs(padding_idx):
    import torch

    ids = np.array([[0, 1, 3], [1, 2, 2]])
    ours, theirs = nn.Embedding(4, 3, padding_idx), torch.nn.Embedding(4, 3, padding_idx)
    assert not theirs.weight.detach().numpy()[padding_idx].any() and not ours.E.numpy()[padding_idx].any()
    ours(ids).sum().backward()
    theirs(torch.tensor(ids)).sum().backward()
    np.testing.assert_array_equal(ours.E.grad.numpy(), theirs.weight.grad.numpy())
