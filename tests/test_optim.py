"""Optimisers against their equations, clipping, schedules."""

import copy
import math

import numpy as np
import pytest

import tinygrad_rnn as tg

from tinygrad_rnn import nn, optim

rng = np.random.default_rng(0)
P, GS = rng.standard_normal((3, 2)), rng.standard_normal((6, 3, 2))


def sgd(p, gs, lr=0.1, momentum=0.0, nesterov=False, weight_decay=0.0):
    v = None
    for g in gs:
        g = g + weight_decay * p
        v = g if v is None else momentum * v + g
        p = p - lr * (g + momentum * v if nesterov else v)
    return p


def rmsprop(p, gs, lr=0.01, alpha=0.9, eps=1e-8, momentum=0.0):
    s, v = 0, 0
    for g in gs:
        s = alpha * s + (1 - alpha) * g**2
        v = momentum * v + g / (np.sqrt(s) + eps)
        p = p - lr * v
    return p


def adam(p, gs, lr=0.01, betas=(0.8, 0.95), eps=1e-6, weight_decay=0.0):
    m, s = 0, 0
    for t, g in enumerate(gs, 1):
        p = p * (1 - lr * weight_decay)
        m, s = betas[0] * m + (1 - betas[0]) * g, betas[1] * s + (1 - betas[1]) * g**2
        p = p - lr * (m / (1 - betas[0] ** t)) / (np.sqrt(s / (1 - betas[1] ** t)) + eps)
    return p


TABLE = {
    "sgd": (optim.SGD, sgd, {"lr": 0.1}),
    "sgd with momentum and decay": (optim.SGD, sgd, {"lr": 0.1, "momentum": 0.9, "weight_decay": 0.01}),
    "nesterov": (optim.SGD, sgd, {"lr": 0.1, "momentum": 0.9, "nesterov": True}),
    "rmsprop": (optim.RMSprop, rmsprop, {"lr": 0.01, "alpha": 0.9}),
    "rmsprop with momentum": (optim.RMSprop, rmsprop, {"lr": 0.01, "alpha": 0.9, "momentum": 0.5}),
    "adam": (optim.Adam, adam, {"lr": 0.01, "betas": (0.8, 0.95), "eps": 1e-6}),
    "adamw": (optim.AdamW, adam, {"lr": 0.01, "betas": (0.8, 0.95), "eps": 1e-6, "weight_decay": 0.1}),
}


def walk(optimizer, parameter, gs):
    for g in gs:
        parameter.grad = tg.tensor(g)
        optimizer.step()
    return parameter.numpy()


@pytest.mark.parametrize("cls, expected, options", TABLE.values(), ids=TABLE)
def test_steps_follow_the_equations(cls, expected, options):
    p = nn.Parameter(P)
    np.testing.assert_allclose(walk(cls([p], **options), p, GS), expected(P, GS, **options), rtol=1e-13)


@pytest.mark.parametrize("cls, expected, options", TABLE.values(), ids=TABLE)
def test_a_saved_state_goes_on_bit_for_bit(cls, expected, options):
    whole, first = nn.Parameter(P), nn.Parameter(P)
    half = cls([first], **options)
    walk(half, first, GS[:3])
    second = nn.Parameter(first)
    resumed = cls([second], **options)
    resumed.load_state_dict(half.state_dict())
    np.testing.assert_array_equal(walk(resumed, second, GS[3:]), walk(cls([whole], **options), whole, GS))


@pytest.mark.parametrize("cls, expected, options", TABLE.values(), ids=TABLE)
def test_dtype_is_kept_and_old_values_are_not_written_over(cls, expected, options):
    p = nn.Parameter(P.astype(np.float32))
    before = p.data
    copy = before.copy()
    assert walk(cls([p], **options), p, GS.astype(np.float32)).dtype == np.float32
    np.testing.assert_array_equal(before, copy)


@pytest.mark.parametrize("cls, expected, options", TABLE.values(), ids=TABLE)
@pytest.mark.parametrize("dtype, rtol", [("f8", 1e-13), ("f4", 3e-5)], ids=str)
def test_one_pass_over_parameters_of_many_sizes_is_a_step_of_each(cls, expected, options, dtype, rtol):
    shapes = [(), (1,), (0, 3), (16,), (5, 7), (300, 100), (33,)]
    ps = [np.asarray(rng.standard_normal(s), dtype) for s in shapes]
    gs = [np.asarray(rng.standard_normal((3, *s)), dtype) for s in shapes]
    parameters = [nn.Parameter(p) for p in ps]
    turned = nn.Parameter(ps[4])
    turned.array = np.asfortranarray(ps[4])  # not as machine code wants it
    optimizer = cls([*parameters, turned], **options)
    for t in range(3):
        for p, g in zip([*parameters, turned], [*gs, gs[4]], strict=True):
            p.grad = tg.tensor(g[t] if p is not turned else np.asfortranarray(g[t]))
        optimizer.step()
    for p, start, g in zip([*parameters, turned], [*ps, ps[4]], [*gs, gs[4]], strict=True):
        assert p.shape == start.shape
        np.testing.assert_allclose(p.numpy(), expected(start, g, **options), rtol=rtol, atol=rtol)


def test_a_step_holds_without_llvmlite(monkeypatch):
    monkeypatch.setattr(optim.optimizers.engines, "has_llvm", lambda: False)
    for cls, expected, options in TABLE.values():
        p = nn.Parameter(P)
        np.testing.assert_allclose(walk(cls([p], **options), p, GS), expected(P, GS, **options), rtol=1e-13)


def test_an_optimiser_can_change_its_mind():
    p = nn.Parameter(P)
    optimizer = optim.SGD([p], 0.1)
    walk(optimizer, p, GS[:1])
    optimizer.momentum = 0.9
    assert walk(optimizer, p, GS[1:3]) == pytest.approx(sgd(P - 0.1 * GS[0], GS[1:3], momentum=0.9), rel=1e-12)


def test_a_subclass_says_a_formula_or_an_update():
    class Signs(optim.Optimizer):
        """p ← p - η sign(m), m a running mean"""

        memory, formula = ("m",), "m = 0.5 * m + (1 - 0.5) * g\np = p - lr * sign(m)"

    class Halves(optim.Optimizer):
        def update(self, p, g, state, lr):
            return p / 2

    p = nn.Parameter(P)
    m = 0.5 * (0.5 * GS[0]) + 0.5 * GS[1]
    expected = P - 0.1 * np.sign(GS[0]) - 0.1 * np.sign(m)
    np.testing.assert_allclose(walk(Signs([p], 0.1), p, GS[:2]), expected, rtol=1e-12)
    np.testing.assert_array_equal(walk(Halves([p], 0.1), p, GS[:2]), expected / 4)


def test_an_update_of_ones_own_has_the_last_word():
    class Halves(optim.SGD):
        def update(self, p, g, state, lr):
            return super().update(p, g, state, lr) / 2

    p = nn.Parameter(P)
    np.testing.assert_allclose(walk(Halves([p], 0.1), p, GS[:1]), (P - 0.1 * GS[0]) / 2, rtol=1e-13)


@pytest.mark.parametrize(
    "formula", ["p = p - lr * (+g)", "p = p + lr * -g", "p -= lr * g ** 1", "p = p - lr * abs(g) * sign(g)"]
)
def test_a_formula_means_what_python_means_by_it(formula):
    p = nn.Parameter(P)
    optimizer = type("Mine", (optim.Optimizer,), {"formula": formula})([p], 0.1)
    np.testing.assert_allclose(walk(optimizer, p, GS[:1]), P - 0.1 * GS[0], rtol=1e-13)


def test_clipping_of_huge_gradients_warns_of_nothing():
    p = nn.Parameter(np.ones(3, np.float32))
    p.grad = tg.tensor(np.full(3, 1e25, np.float32))
    assert float(optim.clip_grad_norm_([p], 1.0)) == pytest.approx(math.sqrt(3) * 1e25)


def test_parameters_without_a_gradient_stay():
    p, q = nn.Parameter(P), nn.Parameter(P)
    optimizer = optim.AdamW([p, q], lr=0.1)
    p.grad = tg.tensor(GS[0])
    optimizer.step()
    np.testing.assert_array_equal(q.numpy(), P)
    assert (p.numpy() != P).all()


def test_zero_grad_forgets():
    p = nn.Parameter(P)
    p.grad = tg.tensor(GS[0])
    optim.SGD([p], 0.1).zero_grad()
    assert p.grad is None


def test_clipping_by_norm_scales_all_gradients_by_one_factor():
    p, q = nn.Parameter(P), nn.Parameter(P)
    p.grad, q.grad = tg.tensor(GS[0]), tg.tensor(GS[1])
    norm = math.sqrt((GS[:2] ** 2).sum())
    assert float(optim.clip_grad_norm_([p, q], 0.5)) == pytest.approx(norm, rel=1e-12)
    np.testing.assert_allclose(p.grad.numpy(), GS[0] * 0.5 / norm, rtol=1e-5)
    np.testing.assert_allclose(q.grad.numpy(), GS[1] * 0.5 / norm, rtol=1e-5)
    assert float(optim.clip_grad_norm_([p, q], 100)) == pytest.approx(0.5, rel=1e-5)
    np.testing.assert_allclose(p.grad.numpy(), GS[0] * 0.5 / norm, rtol=1e-5)


def test_clipping_by_value_limits_each_element():
    p = nn.Parameter(P)
    p.grad = tg.tensor(GS[0])
    optim.clip_grad_value_([p], 0.3)
    np.testing.assert_array_equal(p.grad.numpy(), GS[0].clip(-0.3, 0.3))


def test_schedules_at_their_corners():
    assert [optim.constant(0.5)(n) for n in (0, 9)] == [0.5, 0.5]
    assert [optim.step_decay(1.0, 10, 0.5)(n) for n in (0, 9, 10, 25)] == [1, 1, 0.5, 0.25]
    cosine = optim.cosine(1.0, 100, 0.2)
    assert [cosine(n) for n in (0, 50, 100, 200)] == pytest.approx([1, 0.6, 0.2, 0.2])
    cycle = optim.one_cycle(1.0, 11, pct_start=0.5, div_factor=10, final_div_factor=5)
    assert [cycle(n) for n in (0, 10, 99)] == pytest.approx([0.1, 0.02, 0.02])
    assert max(map(cycle, range(11))) == pytest.approx(1, abs=0.03)
    warm = optim.warmup(cosine, 4)
    assert [warm(n) for n in (0, 1, 3)] == pytest.approx([0.25, 0.5 * cosine(1), cosine(3)])
    assert warm(60) == cosine(60)


def test_an_optimizer_follows_its_schedule():
    p = nn.Parameter(np.zeros(1))
    optimizer = optim.SGD([p], optim.step_decay(1.0, 2, 0.1))
    seen = []
    for _ in range(4):
        p.grad = tg.tensor(np.ones(1))
        before = p.item()
        optimizer.step()
        seen.append(before - p.item())
    assert seen == pytest.approx([1, 1, 0.1, 0.1])


def test_bad_input_is_named():
    p = nn.Parameter(P)
    with pytest.raises(ValueError, match="Adam: there must be at least one parameter"):
        optim.Adam([])
    with pytest.raises(ValueError, match="SGD: lr must be at least 0, got -1"):
        optim.SGD([p], -1)
    with pytest.raises(ValueError, match="nesterov needs a momentum"):
        optim.SGD([p], 1, nesterov=True)
    with pytest.raises(ValueError, match=r"0.m must have shape \(3, 2\), got \(5,\)"):
        optim.Adam([p]).load_state_dict({"steps": np.array(1), "0.m": np.zeros(5)})
    with pytest.raises(ValueError, match=r"no parameter for '3.m'"):
        optim.Adam([p]).load_state_dict({"steps": np.array(1), "3.m": np.zeros(5)})


@pytest.mark.oracle
@pytest.mark.parametrize("steps, start", [(10, 0.3), (100, 0.3), (7, 0.5), (50, 0.1)])
def test_one_cycle_is_pytorchs(steps, start):
    import torch

    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0, momentum=0.9)
    theirs = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.5, total_steps=steps, pct_start=start)
    ours, found = optim.one_cycle(0.5, steps, start), []
    for _ in range(steps):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        if len(found) < steps:
            theirs.step()
    assert [ours(n) for n in range(steps)] == pytest.approx(found, rel=1e-12)


@pytest.mark.oracle
@pytest.mark.parametrize("patience, threshold", [(0, 0.0), (1, 1e-4), (2, 0.1), (3, 0.0)])
def test_a_plateau_is_pytorchs(patience, threshold):
    import torch

    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    theirs = torch.optim.lr_scheduler.ReduceLROnPlateau(
        optimizer, factor=0.5, patience=patience, threshold=threshold, eps=0
    )
    ours, losses = optim.Plateau(1.0, 0.5, patience, threshold), []
    for loss in np.random.default_rng(patience).integers(1, 30, 60) / 10 + 3 / np.arange(1, 61):
        losses.append(loss)
        theirs.step(loss)
        ours.report(losses)
        assert ours(0) == optimizer.param_groups[0]["lr"]


# ---- groups ---------------------------------------------------------------------------------------------------------

HALVED = optim.step_decay(0.5, 2, 0.5)
GROUPS = {
    "sgd": (optim.SGD, 0.1, {"lr": HALVED, "momentum": 0.9}, {"weight_decay": 0.1}),
    "rmsprop": (optim.RMSprop, 0.01, {"alpha": 0.5}, {"lr": 0.2, "momentum": 0.5}),
    "adam": (optim.Adam, HALVED, {"lr": 0.01}, {"betas": (0.5, 0.7)}),
    "adamw": (optim.AdamW, 0.02, {"weight_decay": 0.0}, {"eps": 1e-3, "weight_decay": 0.5, "lr": HALVED}),
}


@pytest.mark.parametrize("name", GROUPS)
def test_each_group_is_updated_as_by_an_optimiser_of_its_own(name, device):
    make, lr, *options = GROUPS[name]

    def stepped(optimizers, parameters):
        for i, gs in enumerate(GS):
            for k, p in enumerate(parameters):
                p.grad = tg.tensor(gs * (k + 1)) if (i, k) != (2, 1) else None  # one sits a step out
            for optimizer in optimizers:
                optimizer.step()
        return [p.numpy() for p in parameters]

    alone = [nn.Parameter(P.copy()) for _ in range(3)]
    single = [make([p], **{"lr": lr, **of}) for p, of in zip(alone, [{}, *options], strict=True)]
    together = [nn.Parameter(P.copy()) for _ in range(3)]
    groups = [together[0], *({"params": p, **of} for p, of in zip(together[1:], options, strict=True))]
    optimizer = make(groups, lr)
    for a, b in zip(stepped([optimizer], together), stepped(single, alone), strict=True):
        np.testing.assert_allclose(a, b, 1e-12)
    again = make(groups, lr)
    again.load_state_dict(optimizer.state_dict())
    assert again.counts == optimizer.counts == [6, 5, 6]
    for a, b in zip(again.states, optimizer.states, strict=True):
        assert a.keys() == b.keys()
    optim.ZeroRedundancyOptimizer(make(groups, lr)).load_state_dict(optimizer.state_dict())


def test_the_learning_rate_of_a_group_can_be_set_later_and_copies_learn():
    ps = [nn.Parameter(np.ones(2)) for _ in range(2)]
    optimizer = optim.SGD([ps[0], {"params": ps[1], "lr": 0.5}], 1.0)
    optimizer.groups[1]["lr"] = 0.01
    for made in (lambda: (ps, optimizer), lambda: copy.deepcopy((ps, optimizer))):
        these, own = made()
        for p in these:
            p.data, p.grad = np.ones(2), tg.tensor(np.ones(2))
        own.step()
        assert [p.numpy()[0] for p in these] == [0.0, 0.99]
    shared = optim.ZeroRedundancyOptimizer(optim.SGD(ps, 1.0))
    these, own = copy.deepcopy((ps, shared))
    for p in these:
        p.data, p.grad = np.ones(2), tg.tensor(np.ones(2))
    own.all_reduce()
    own.step()
    assert [p.numpy()[0] for p in these] == [0.0, 0.0]


def test_zero_redundancy_keeps_groups():
    make, lr, *options = GROUPS["sgd"]
    ways = []
    for wrap in (lambda o: o, optim.ZeroRedundancyOptimizer):
        ps = [nn.Parameter(P.copy()) for _ in range(2)]
        optimizer = wrap(make([{"params": [p], **of} for p, of in zip(ps, options, strict=True)], lr))
        for gs in GS:
            for p in ps:
                p.grad = tg.tensor(gs.copy())
            if wrap is optim.ZeroRedundancyOptimizer:
                optimizer.all_reduce()
            optimizer.step()
            optimizer.zero_grad()
        ways.append([p.numpy() for p in ps] + [optimizer.state_dict()])
    for a, b in zip(*(way[:2] for way in ways), strict=True):
        np.testing.assert_allclose(a, b, 1e-12)
    assert ways[0][2].keys() == ways[1][2].keys()


@pytest.mark.parametrize(
    ("groups", "error", "line"),
    [
        ([{"lr": 1}], ValueError, r"SGD: a group must be a dict with \"params\", got one of \['lr'\]"),
        ([{"params": [], "rate": 1}], ValueError, "SGD: a group may have lr, momentum, .*, got 'rate'"),
        (lambda p: [{"params": p, "momentum": -1}], ValueError, "SGD: momentum must be at least 0, got -1"),
        (lambda p: [{"params": p, "nesterov": True}], ValueError, "SGD: nesterov needs a momentum greater than 0"),
        (lambda p: [p, {"params": p}], ValueError, r"SGD: a parameter must be in one group, one of shape \(3, 2\)"),
        (lambda p: [{"params": p}, p], ValueError, r"SGD: a parameter must be in one group, one of shape \(3, 2\)"),
        (lambda p: [{"params": p}, {"params": p}], ValueError, "SGD: a parameter must be in one group"),
        ([{"params": []}], ValueError, "SGD: there must be at least one parameter"),
    ],
)
def test_a_group_that_is_none_is_refused(groups, error, line):
    with pytest.raises(error, match=f"^{line}"):
        optim.SGD(groups(nn.Parameter(P)) if callable(groups) else groups, 0.1)


def test_a_group_is_checked_with_what_the_others_have_and_one_that_comes_twice_is_updated_once():
    p = nn.Parameter(np.ones(2))
    optimizer = optim.SGD([{"params": [p, p], "nesterov": True}], 0.5, momentum=0.5)
    p.grad = tg.tensor(np.ones(2))
    optimizer.step()
    assert p.numpy().tolist() == [0.25, 0.25]  # 1 - 0.5 (1 + 0.5)
    with pytest.raises(ValueError, match=r"^SGD: nesterov needs a momentum"):
        optim.SGD([{"params": p, "momentum": 0}], 0.5, momentum=0.5, nesterov=True)


def test_a_group_of_an_optimiser_of_ones_own_may_have_what_it_hands_on():
    class Scaled(optim.Optimizer):
        def __init__(self, parameters, lr, scale=1.0, kept=0.0):
            super().__init__(parameters, lr, scale=scale)
            self.kept = kept

        def update(self, p, g, state, lr):
            return p - self.steps * self.scale * g

    ps = [nn.Parameter(np.zeros(1)) for _ in range(2)]
    optimizer = Scaled([ps[0], {"params": ps[1], "scale": 10.0}], 1.0)
    for p in ps:
        p.grad = tg.tensor(np.ones(1))
    for _ in range(2):
        optimizer.step()
    assert [p.numpy()[0] for p in ps] == [-3.0, -30.0]
    with pytest.raises(ValueError, match=r"^Scaled: a group may have lr, scale, got 'kept'$"):
        Scaled([{"params": ps, "kept": 1.0}], 1.0)


@pytest.mark.oracle
def test_groups_are_pytorchs():
    import torch

    theirs = [torch.tensor(P.copy(), requires_grad=True) for _ in range(2)]
    ours = [nn.Parameter(P.copy()) for _ in range(2)]
    more = {"lr": 0.05, "weight_decay": 0.3}
    a = optim.AdamW([{"params": ours[:1]}, {"params": ours[1:], **more}], 0.01)
    b = torch.optim.AdamW([{"params": theirs[:1]}, {"params": theirs[1:], **more}], 0.01)
    for gs in GS:
        for p, q in zip(ours, theirs, strict=True):
            p.grad, q.grad = tg.tensor(gs), torch.tensor(gs)
        a.step()
        b.step()
    for p, q in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(p.numpy(), q.detach().numpy(), 1e-10)


# ---- averages -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_averages_follow_their_equation_and_are_put_in_and_taken_out(dtype, device):
    p = nn.Parameter(P.astype(dtype))
    average, expected = optim.ExponentialMovingAverage([p], 0.8), P
    for g in GS:
        p.data = g.astype(dtype)
        average.update()
        expected = 0.8 * expected + 0.2 * g
    with pytest.raises(KeyError), average.applied():
        np.testing.assert_allclose(p.numpy(), expected, 1e-5 if dtype == "float32" else 1e-12)
        assert p.dtype == dtype
        raise KeyError
    np.testing.assert_array_equal(p.numpy(), GS[-1].astype(dtype))
    other = nn.Parameter(np.zeros_like(P, dtype))
    again = optim.ExponentialMovingAverage([other], 0.8)
    again.load_state_dict(average.state_dict())
    again.copy_to_parameters()
    again.update()  # into the averages, not into the parameter
    with average.applied():
        np.testing.assert_array_equal(other.numpy(), p.numpy())
    with pytest.raises(ValueError, match=r"load_state_dict: '0' must be \(3, 2\), got None"):
        again.load_state_dict({})
    with pytest.raises(ValueError, match="decay must be from 0 to less than 1, got 1"):
        optim.ExponentialMovingAverage([p], 1)


def test_averages_follow_their_parameters_to_another_dtype_and_device(device):
    with tg.device("cpu"):
        layer = nn.Linear(2, 2)
    average, before = optim.ExponentialMovingAverage(layer.parameters(), 0.5), layer.W.numpy()
    layer.to("float64").to(device)
    with average.applied():
        assert layer.W.dtype == np.float64
        assert layer.W.device == layer.b.device == tg.tensor(0.0).device
    layer.W.data = layer.W.data + 2
    average.update()
    with average.applied():
        np.testing.assert_allclose(layer.W.numpy(), before.astype(float) + 1, 1e-12)


@pytest.mark.parametrize(
    ("given", "error", "line"),
    [
        (nn.Parameter(P), TypeError, "must get several parameters, such as model.parameters\\(\\), got a Parameter"),
        (iter(()), ValueError, "there must be at least one parameter, got none"),
        ([P], TypeError, "parameters must be leaf tensors, such as model.parameters\\(\\), got ndarray"),
    ],
)
def test_an_average_of_what_is_no_list_of_parameters_is_refused(given, error, line):
    with pytest.raises(error, match=f"^ExponentialMovingAverage: {line}$"):
        optim.ExponentialMovingAverage(given)
