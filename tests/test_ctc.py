"""CTC: the loss beside all alignments one by one, on every engine; decoding beside all labellings."""

import itertools

import cuda_on_cpu
import numpy as np
import pytest

from conftest import REAL_GPU

import tinygrad_rnn as tg

from tinygrad_rnn import decode, nn, ops
from tinygrad_rnn.nn import ctc

needs_gxx = pytest.mark.skipif(not REAL_GPU and cuda_on_cpu.missing() is not None, reason="needs g++")


def log_probs(T, B, V, seed=0, dtype="float64"):
    z = np.random.default_rng(seed).normal(size=(T, B, V)) * 2
    return (z - np.log(np.exp(z).sum(-1, keepdims=True))).astype(dtype)


def labelling(path, blank):
    return tuple(k for k, _ in itertools.groupby(path) if k != blank)


def labellings(rows, blank):
    """P of each labelling of (T, V): the sum over all V^T paths."""
    found = {}
    for path in itertools.product(range(rows.shape[1]), repeat=len(rows)):
        key = labelling(path, blank)
        found[key] = found.get(key, 0.0) + np.exp(rows[np.arange(len(rows)), list(path)].sum())
    return found


TARGETS = [(), (1,), (2, 1), (1, 1), (2, 2, 1), (1, 2, 1), (1, 1, 2, 2)]


@pytest.mark.parametrize("blank", [0, 2])
def test_it_is_the_sum_over_all_alignments(blank):
    T, B, V = 5, len(TARGETS), 3
    logp, rng = log_probs(T, B, V), np.random.default_rng(1)
    targets = [tuple((label + blank) % V for label in row) for row in TARGETS]
    steps = np.array([5, 3, 2, 3, 5, 4, 5])
    padded = rng.integers(0, V, (B, 6))  # what is behind a target may be anything
    for i, row in enumerate(targets):
        padded[i, : len(row)] = row
    found = nn.ctc_loss(tg.tensor(logp), padded, steps, [len(row) for row in targets], blank=blank, reduction="none")
    sums = [labellings(logp[:n, i], blank).get(targets[i], 0) for i, n in enumerate(steps)]
    assert sums.count(0) == 1  # two pairs of one label each need six steps
    with np.errstate(divide="ignore"):
        np.testing.assert_allclose(found.numpy(), -np.log(sums), rtol=1e-12)


def test_its_derivatives_are_those_of_finite_differences():
    x = tg.tensor(np.random.default_rng(0).normal(size=(5, 3, 4)), requires_grad=True)
    loss = lambda x: nn.ctc_loss(ops.log_softmax(x), [1, 1, 2, 3, 2, 1], [5, 4, 5], [2, 1, 3])
    tg.gradcheck(loss, x)


def test_the_gradient_is_minus_the_probability_of_each_label_at_each_step():
    logp = tg.tensor(log_probs(4, 1, 3), requires_grad=True)
    nn.ctc_loss(logp, [[1, 2]], [4], [2], reduction="sum").backward()
    np.testing.assert_allclose(logp.grad.numpy().sum(-1), -1, rtol=1e-12)


ENGINES = ["eager", "numpy", "llvm", pytest.param("cuda", marks=needs_gxx)]


@pytest.mark.parametrize("dtype, tolerance", [("float64", 1e-10), ("float32", 2e-4)])
@pytest.mark.parametrize("engine", ENGINES)
def test_every_engine_computes_the_same(engine, dtype, tolerance, monkeypatch, request):
    if engine == "llvm":
        pytest.importorskip("llvmlite")
    if engine == "cuda":
        request.getfixturevalue("cupy")
    rng = np.random.default_rng(3)
    sizes, steps = [9, 0, 3, 8, 1], [20, 1, 20, 12, 0]
    z, targets = rng.normal(size=(20, 5, 6)), rng.integers(1, 6, sum(sizes))
    found = {}
    for of, kind in (("eager", "float64"), (engine, dtype)):
        monkeypatch.setattr(ctc._over_time, "engine", of)
        with tg.device("gpu" if of == "cuda" else "cpu"):
            x = tg.tensor(z.astype(kind), requires_grad=True)
            loss = nn.ctc_loss(ops.log_softmax(x), targets, steps, sizes, reduction="none", zero_infinity=True)
            loss.sum().backward()
            assert loss.dtype == x.grad.dtype == kind
            found[of] = loss.numpy(), x.grad.numpy()
    for a, b in zip(found[engine], found["eager"], strict=True):
        np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("most", [0, 1 << 22], ids=["places", "products"])
def test_labels_that_come_again_get_the_gradients_of_all(most, device, monkeypatch):
    monkeypatch.setattr(ctc, "MOST", most)
    x = tg.tensor(log_probs(4, 2, 3), requires_grad=True)
    at = tg.autograd.arrays.from_numpy(np.array([[0, 1, 0, 0], [4, 3, 4, 5]]))
    g = np.random.default_rng(0).normal(size=(4, 2, 4))
    (ctc._of_labels(x, at=at) * tg.tensor(g)).sum().backward()
    expected = np.zeros((4, 2, 3))
    for b, row in enumerate([[0, 1, 0, 0], [1, 0, 1, 2]]):
        for s, label in enumerate(row):
            expected[:, b, label] += g[:, b, s]
    np.testing.assert_allclose(x.grad.numpy(), expected, rtol=1e-12)


def test_half_precision_is_computed_in_single():
    logp = log_probs(60, 2, 5, dtype="float16")
    given = [1, 2, 3, 1, 1], [60, 60], [3, 2]
    half = nn.ctc_loss(tg.tensor(logp), *given, reduction="sum")
    single = nn.ctc_loss(tg.tensor(logp.astype("float32")), *given, reduction="sum")
    assert half.dtype == np.float16 and half.numpy() == single.numpy().astype("float16")


def test_what_no_alignment_is_short_enough_for_costs_infinitely_much_and_teaches_nothing():
    for options, expected in (({}, np.inf), ({"zero_infinity": True}, 0)):
        logp = tg.tensor(log_probs(3, 3, 3), requires_grad=True)
        loss = nn.ctc_loss(logp, [1, 1, 2, 1, 2, 1], [3, 2, 3], [2, 1, 3], reduction="none", **options)
        again = nn.ctc_loss(logp, [1, 1, 1], [3, 2, 3], [2, 1, 0], reduction="none", **options)  # 1 _ 1 fits in three
        loss = ops.concat([loss, nn.ctc_loss(logp, [[1, 1]] * 3, [2, 1, 0], [2, 2, 2], reduction="none", **options)])
        assert np.isfinite(loss.numpy()[:3]).all() and np.isfinite(again.numpy()).all()
        np.testing.assert_array_equal(loss.numpy()[3:], expected)
        loss[3:].sum().backward()
        assert not logp.grad.numpy().any()


def test_a_label_that_is_ruled_out_is_no_nan():
    logp = log_probs(4, 1, 3)
    logp[1, 0, 1] = -np.inf
    x = tg.tensor(logp, requires_grad=True)
    loss = nn.ctc_loss(x, [[1, 2]], [4], [2], reduction="sum")
    loss.backward()
    assert loss.item() == pytest.approx(-np.log(labellings(logp[:, 0], 0)[1, 2]), rel=1e-12)
    assert np.isfinite(x.grad.numpy()).all()


@pytest.mark.parametrize("T, B", [(0, 2), (3, 0), (0, 0)])
def test_nothing_may_be_given(T, B):
    x = tg.tensor(np.zeros((T, B, 4)), requires_grad=True)
    loss = nn.ctc_loss(x, np.zeros((B, 0), int), [T] * B, [0] * B)
    loss.backward()
    assert loss.item() == 0 and x.grad.shape == (T, B, 4)


def test_the_mean_is_over_labels_then_over_sequences():
    given = tg.tensor(log_probs(6, 3, 4)), [1, 2, 3, 1], [6, 5, 4], [3, 1, 0]
    each = nn.ctc_loss(*given, reduction="none").numpy()
    assert nn.ctc_loss(*given).item() == pytest.approx((each / [3, 1, 1]).mean(), rel=1e-14)
    assert nn.ctc_loss(*given, reduction="sum").item() == pytest.approx(each.sum(), rel=1e-14)


REFUSED = {
    "one sequence": ({"log_probs": (4, 3)}, ValueError, r"log_probs must be \(T, B, V\), got \(4, 3\)"),
    "an array": ({"log_probs": None}, TypeError, "log_probs must be a tensor, got ndarray"),
    "too many steps": ({"input_lengths": [5, 4]}, ValueError, "input_lengths must be from 0 to 4, the steps of"),
    "lengths of fewer": (
        {"input_lengths": [4]},
        ValueError,
        r"input_lengths must be \(2,\) integers, got int64 \(1,\)",
    ),
    "half steps": ({"input_lengths": [1.5, 2]}, ValueError, "input_lengths must be"),
    "a negative length": ({"target_lengths": [-1, 2]}, ValueError, "target_lengths must be at least 0, got -1 to 2"),
    "too few labels": ({"target_lengths": [3, 3]}, ValueError, r"must be \(2, 3 or more\) or \(6,\), got \(2, 2\)"),
    "the blank": ({"targets": [[1, 0], [1, 2]]}, IndexError, "no target may be the blank, 0"),
    "a label too large": ({"targets": [[1, 3], [1, 2]]}, IndexError, "targets must be from 0 to 2, got 1 to 3"),
    "numbers": ({"targets": [[1.0, 2.0]] * 2}, TypeError, "targets must be integers, got dtype float64"),
    "another blank": ({"blank": 3}, IndexError, "blank must be from 0 to 2, got 3"),
    "a reduction": ({"reduction": "max"}, ValueError, "reduction must be"),
}


@pytest.mark.parametrize("wrong, error, message", REFUSED.values(), ids=REFUSED)
def test_what_does_not_fit_is_refused_in_a_sentence(wrong, error, message):
    given = {"log_probs": (4, 2, 3), "targets": [[1, 2], [2, 1]], "input_lengths": [4, 4], "target_lengths": [2, 2]}
    given |= wrong
    shape = given["log_probs"]
    given["log_probs"] = np.zeros((4, 2, 3)) if shape is None else tg.tensor(np.zeros(shape))
    with pytest.raises(error, match=f"^ctc_loss: .*{message}"):
        nn.ctc_loss(**given)


# ---- decoding --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("blank", [0, 2])
@pytest.mark.parametrize("seed", range(4))
def test_a_wide_search_finds_the_likeliest_labellings(seed, blank):
    logp = log_probs(5, 2, 3, seed)
    found = decode.ctc_beam_search(logp, [5, 4], blank=blank, width=200, n_best=6)
    for i, n in enumerate((5, 4)):
        ranked = sorted(labellings(logp[:n, i], blank).items(), key=lambda pair: -pair[1])[:6]
        assert [tuple(h.tokens) for h in found[i]] == [labels for labels, _ in ranked]
        np.testing.assert_allclose([h.log_prob for h in found[i]], np.log([p for _, p in ranked]), rtol=1e-12)


def test_a_narrow_search_finds_no_more_than_there_is():
    logp = log_probs(9, 3, 4)
    wide, narrow = (decode.ctc_beam_search(logp, width=width) for width in (500, 3))
    assert all(0 >= w[0].log_prob >= n[0].log_prob for w, n in zip(wide, narrow, strict=True))


def test_the_best_path_is_the_likeliest_label_of_each_step():
    logp = log_probs(7, 3, 4)
    for i, h in enumerate(decode.ctc_greedy(tg.tensor(logp), [7, 3, 0], blank=1)):
        rows = logp[: [7, 3, 0][i], i]
        assert tuple(h.tokens) == labelling(rows.argmax(-1), 1)
        assert h.log_prob == pytest.approx(rows.max(-1).sum())


def test_a_bonus_is_earned_by_each_label_once():
    logp = log_probs(5, 1, 3)
    prior = {1: -0.3, 2: 0.9}
    plain = {tuple(h.tokens): h.log_prob for h in decode.ctc_beam_search(logp, width=300, n_best=300)[0]}
    asked = []

    def bonus(labels, label):
        asked.append(labels)
        return prior[label] * (1 + len(labels))

    found = decode.ctc_beam_search(logp, width=300, n_best=300, bonus=bonus)[0]
    assert all(isinstance(labels, tuple) for labels in asked)
    for h in found:
        earned = sum(prior[label] * (1 + i) for i, label in enumerate(h.tokens))
        assert h.log_prob == pytest.approx(plain[tuple(h.tokens)], abs=1e-9)
        assert h.score == pytest.approx(h.log_prob + earned, abs=1e-9)
    assert [h.score for h in found] == sorted([h.score for h in found], reverse=True)


def test_labels_that_are_ruled_out_are_not_found():
    logp = np.log(np.array([[[0.5, 0.5, 0]], [[0, 1, 0]]]), where=np.array([[[1, 1, 0]], [[0, 1, 0]]]) > 0,
                  out=np.full((2, 1, 3), -np.inf))  # fmt: skip
    assert [h.tokens for h in decode.ctc_beam_search(logp, n_best=10)[0]] == [[1]]
    assert decode.ctc_beam_search(logp)[0][0].log_prob == pytest.approx(0)


WRONG = {
    "one sequence": (np.zeros((4, 3)), {}, r"log_probs must be \(T, B, V\)"),
    "NaN": (np.full((2, 1, 3), np.nan), {}, "log_probs must be numbers or -inf"),
    "lengths": (np.zeros((4, 2, 3)), {"lengths": [4, 5]}, r"lengths must be \(2,\) integers from 0 to 4"),
    "blank": (np.zeros((4, 2, 3)), {"blank": 3}, "blank must be from 0 to 2, got 3"),
}


@pytest.mark.parametrize("search", [decode.ctc_greedy, decode.ctc_beam_search])
@pytest.mark.parametrize("logp, options, message", WRONG.values(), ids=WRONG)
def test_decoding_refuses_in_a_sentence(search, logp, options, message):
    with pytest.raises(ValueError, match=f"^{search.__name__}: {message}"):
        search(logp, **options)


def test_a_search_without_width_is_refused():
    with pytest.raises(ValueError, match=r"^ctc_beam_search: width must be at least 1, got 0"):
        decode.ctc_beam_search(np.zeros((1, 1, 2)), width=0)


# ---- beside PyTorch --------------------------------------------------------------------------------------------------


@pytest.mark.oracle
@pytest.mark.parametrize("reduction", ["none", "mean", "sum"])
@pytest.mark.parametrize("together", [False, True])
def test_it_is_pytorchs(reduction, together):
    import torch

    T, B, V = 60, 16, 27
    rng = np.random.default_rng(0)
    z, sizes, steps = rng.normal(size=(T, B, V)), rng.integers(0, 20, B), rng.integers(20, T + 1, B)
    steps[:3], sizes[:3] = (0, 3, 60), (4, 9, 20)  # impossible ones, and a whole one
    padded = rng.integers(1, V, (B, 20))
    targets = np.concatenate([row[:n] for row, n in zip(padded, sizes, strict=True)]) if together else padded
    x, t = tg.tensor(z, requires_grad=True), torch.tensor(z, requires_grad=True)
    options = {"reduction": reduction, "zero_infinity": True}
    ours = nn.ctc_loss(ops.log_softmax(x), targets, steps, sizes, **options)
    theirs = torch.nn.functional.ctc_loss(
        t.log_softmax(-1), torch.tensor(targets), torch.tensor(steps), torch.tensor(sizes), **options
    )
    weights = rng.normal(size=ours.shape)
    (ours * tg.tensor(weights)).sum().backward()
    (theirs * torch.tensor(weights)).sum().backward()
    np.testing.assert_allclose(ours.numpy(), theirs.detach().numpy(), rtol=1e-9)
    np.testing.assert_allclose(x.grad.numpy(), t.grad.numpy(), rtol=1e-9, atol=1e-9)
