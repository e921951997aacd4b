"""Optimisers whose parameters do not get a gradient at each step, and clipping of what is not finite."""

import copy
import itertools
import math
import pickle

import numpy as np
import pytest

import tinygrad_rnn as tg

from tinygrad_rnn import nn, optim
from tinygrad_rnn.tasks.checkpoint import load_checkpoint, save_checkpoint

SHAPES = [(3, 2), (4,), (), (2, 1, 3)]
WHEN = [[True, False, False, True], [True, False, True, False], [True, True, False, True], [False, False, True, True],
        [True, True, True, True], [False, True, False, False], [True, True, True, True]]  # fmt: skip
OPTIONS = {
    "sgd": (optim.SGD, "SGD", {"lr": 0.1, "momentum": 0.9, "weight_decay": 0.01}),
    "nesterov": (optim.SGD, "SGD", {"lr": 0.1, "momentum": 0.9, "nesterov": True}),
    "rmsprop": (optim.RMSprop, "RMSprop", {"lr": 0.01, "alpha": 0.9}),
    "rmsprop with momentum": (optim.RMSprop, "RMSprop", {"lr": 0.01, "alpha": 0.9, "momentum": 0.5}),
    "adam": (optim.Adam, "Adam", {"lr": 0.01, "betas": (0.8, 0.95), "eps": 1e-6}),
    "adamw": (optim.AdamW, "AdamW", {"lr": 0.01, "betas": (0.8, 0.95), "eps": 1e-6, "weight_decay": 0.1}),
}
ADAMS = [k for k in OPTIONS if k.startswith("adam")]


def drawn(dtype="f8"):
    rng = np.random.default_rng(0)
    ps = [np.asarray(rng.standard_normal(s), dtype) for s in SHAPES]
    return ps, [[np.asarray(rng.standard_normal(s), dtype) for s in SHAPES] for _ in WHEN]


def step(optimizer, parameters, gs, when):
    for p, g, now in zip(parameters, gs, when, strict=True):
        p.grad = tg.tensor(g) if now else None
    optimizer.step()


@pytest.fixture(params=["machine code", "numpy"])
def way(request, monkeypatch):
    """How a step is made."""
    if request.param == "numpy":
        monkeypatch.setattr(optim.optimizers.engines, "has_formula", lambda *_: False)
    return request.param


@pytest.mark.parametrize("dtype", ["f4", "f8"])
@pytest.mark.parametrize("name", ADAMS)
def test_a_parameter_counts_the_steps_that_it_made(name, dtype, way):
    """Each goes as it would alone, with the steps that it sat out left out."""
    kind, _, options = OPTIONS[name]
    ps, gs = drawn(dtype)
    together = [nn.Parameter(p) for p in ps]
    optimizer = kind(together, **options)
    for g, when in zip(gs, WHEN, strict=True):
        step(optimizer, together, g, when)
    assert (optimizer.steps, optimizer.counts) == (7, [sum(w) for w in zip(*WHEN, strict=True)])
    for i, p in enumerate(ps):
        alone = nn.Parameter(p)
        one = kind([alone], **options)
        for g, when in zip(gs, WHEN, strict=True):
            if when[i]:
                step(one, [alone], [g[i]], [True])
        np.testing.assert_array_equal(together[i].numpy(), alone.numpy())


def test_the_first_step_of_a_late_one_is_as_long_as_any_first_step(way):
    early, late = nn.Parameter(np.zeros(2)), nn.Parameter(np.zeros(2))
    optimizer = optim.Adam([early, late], 0.1)
    for t in range(10):
        step(optimizer, [early, late], [np.ones(2)] * 2, [True, t == 9])
    np.testing.assert_allclose(late.numpy(), -0.1, rtol=1e-6)


@pytest.mark.parametrize("name", OPTIONS)
@pytest.mark.parametrize("form", ["state_dict", "file", "pickle", "copy"])
def test_a_saved_optimiser_goes_on_with_the_counts_of_each(name, form, way, tmp_path):
    kind, _, options = OPTIONS[name]
    ps, gs = drawn()
    parameters = [nn.Parameter(p) for p in ps]
    optimizer = kind(parameters, **options)
    for g, when in zip(gs[:4], WHEN[:4], strict=True):
        step(optimizer, parameters, g, when)
    if form in ("pickle", "copy"):
        for p in parameters:
            p.grad = None
        again = pickle.loads(pickle.dumps(optimizer)) if form == "pickle" else copy.deepcopy(optimizer)
    else:
        again = kind([nn.Parameter(p) for p in parameters], **options)
        values = optimizer.state_dict()
        if form == "file":
            save_checkpoint(tmp_path / "c", values, {})
            values = load_checkpoint(tmp_path / "c")[0]
        again.load_state_dict(values)
    for each in (optimizer, again):
        for g, when in zip(gs[4:], WHEN[4:], strict=True):
            step(each, each.parameters, g, when)
    assert again.counts == optimizer.counts
    for a, b in zip(again.parameters, optimizer.parameters, strict=True):
        np.testing.assert_array_equal(a.numpy(), b.numpy())


def test_a_state_of_an_older_version_has_made_all_steps():
    p, q = nn.Parameter(np.ones(2)), nn.Parameter(np.ones(3))
    optimizer = optim.Adam([p, q])
    optimizer.load_state_dict({"steps": np.array(5), "0.m": np.zeros(2), "0.s": np.ones(2)})
    assert (optimizer.steps, optimizer.counts) == (5, [5, 0])
    with pytest.raises(ValueError, match=r"Adam.load_state_dict: counts must be of 2 parameters, got 3"):
        optimizer.load_state_dict({"steps": np.array(5), "counts": np.array([1, 2, 3])})


def test_an_optimiser_of_ones_own_may_ask_for_the_step_of_the_parameter(way):
    class Slower(optim.Optimizer):
        """p ← p - η g / t"""

        formula = "p = p - rate * g"

        def numbers(self, lr):
            return {"rate": lr / self.t}

    p, q = nn.Parameter(np.zeros(1)), nn.Parameter(np.zeros(1))
    optimizer = Slower([p, q], 1.0)
    for when in ([True, False], [True, True], [False, True]):
        step(optimizer, [p, q], [np.ones(1)] * 2, when)
    assert (p.item(), q.item()) == (-1.5, -1.5)


# ---- clipping -------------------------------------------------------------------------------------------------------


def test_one_parameter_alone_is_clipped():
    for clip, expected in ((optim.clip_grad_norm_, [0.6, 0.8]), (optim.clip_grad_value_, [1, 1])):
        p = nn.Parameter(np.zeros(2))
        p.grad = tg.tensor([3.0, 4.0])
        assert clip(p, 1.0) in (5, None)
        np.testing.assert_allclose(p.grad.numpy(), expected, rtol=1e-6)


@pytest.mark.parametrize("form", [list, tuple, iter, set, lambda ps: (p for p in ps)])
def test_parameters_come_in_any_form(form):
    p, q = nn.Parameter(np.zeros(1)), nn.Parameter(np.zeros(1))
    p.grad, q.grad = tg.tensor([3.0]), tg.tensor([4.0])
    assert optim.clip_grad_norm_(form([p, q]), 1.0) == 5
    assert (p.grad.item(), q.grad.item()) == pytest.approx((0.6, 0.8), rel=1e-5)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("dtype", ["f2", "f4", "f8"])
def test_a_norm_that_is_not_finite_shows_in_all_gradients(bad, dtype):
    p, q = nn.Parameter(np.zeros(2, dtype)), nn.Parameter(np.zeros(1, dtype))
    p.grad, q.grad = tg.tensor(np.array([bad, 1], dtype)), tg.tensor(np.array([2], dtype))
    with pytest.raises(RuntimeError, match=r"^clip_grad_norm_: the norm of the gradients must be finite, got "):
        optim.clip_grad_norm_([p, q], 1.0, error_if_nonfinite=True)
    assert q.grad.item() == 2
    assert not math.isfinite(optim.clip_grad_norm_([p, q], 1.0))
    rest = math.nan if math.isnan(bad) else 0.0
    np.testing.assert_array_equal(p.grad.numpy(), [math.nan, rest])
    np.testing.assert_array_equal(q.grad.numpy(), [rest])


@pytest.mark.parametrize("p", [0.5, 1, 2, 3.0, math.inf])
@pytest.mark.parametrize("scale", [0.0, 1.0, 1e30])
def test_norms_of_other_powers(p, scale):
    ps = [nn.Parameter(np.zeros(n, "f4")) for n in ((2,), (), (0, 3), (1,))]
    for each, g in zip(ps, ([3, -4], -2, np.zeros((0, 3))), strict=False):
        each.grad = np.asarray(g, "f4") * np.float32(scale)
    norm = scale * (4 if p == math.inf else (3**p + 4**p + 2**p) ** (1 / p))
    assert float(optim.clip_grad_norm_(ps, 1.0, p)) == pytest.approx(norm, rel=1e-5)
    factor = min(1, 1 / norm) if norm else 1
    np.testing.assert_allclose(ps[0].grad.numpy(), np.array([3, -4]) * scale * factor, rtol=1e-5)
    assert ps[3].grad is None


# ---- PyTorch's ------------------------------------------------------------------------------------------------------


@pytest.mark.oracle
@pytest.mark.parametrize("name", OPTIONS)
@pytest.mark.parametrize("dtype", ["f4", "f8"])
def test_late_gradients_are_taken_as_by_pytorch(name, dtype, way):
    torch = pytest.importorskip("torch")
    kind, theirs, options = OPTIONS[name]
    ps, gs = drawn(dtype)
    parameters, tensors = [nn.Parameter(p) for p in ps], [torch.tensor(p, requires_grad=True) for p in ps]
    optimizer, other = kind(parameters, **options), getattr(torch.optim, theirs)(tensors, **options)
    for _, (g, when) in itertools.product(range(5), zip(gs, WHEN, strict=True)):
        step(optimizer, parameters, g, when)
        for t, each, now in zip(tensors, g, when, strict=True):
            t.grad = torch.tensor(each) if now else None
        other.step()
        for p, t in zip(parameters, tensors, strict=True):
            np.testing.assert_allclose(p.numpy(), t.numpy(force=True), rtol=1e-12 if dtype == "f8" else 3e-5, atol=1e-6)


@pytest.mark.oracle
@pytest.mark.parametrize("norm", [1, 2, 2.5, math.inf])
@pytest.mark.parametrize("values", [[3.0, 4.0], [0.1, 0.1], [math.nan, 1.0], [math.inf, 1.0], [-math.inf, math.inf]])
def test_clipping_is_pytorchs(values, norm):
    torch = pytest.importorskip("torch")
    p, t = nn.Parameter(np.zeros(2)), torch.zeros(2, dtype=torch.float64, requires_grad=True)
    p.grad, t.grad = tg.tensor(np.array(values)), torch.tensor(values, dtype=torch.float64)
    expected = torch.nn.utils.clip_grad_norm_(t, 1.0, norm).item()
    np.testing.assert_allclose(optim.clip_grad_norm_(p, 1.0, norm), expected)
    np.testing.assert_allclose(p.grad.numpy(), t.grad.numpy())
