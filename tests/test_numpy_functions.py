"""NumPy's functions on tensors: each is recorded by an op, or refused where a gradient would be lost."""

import numpy as np
import pytest

import tinygrad_rnn as tg

from tinygrad_rnn import nn, ops

A, B = (np.random.default_rng(seed).normal(size=(2, 3)).astype("f") for seed in (0, 1))

RECORDED = {
    "concatenate": lambda t, u: np.concatenate([t, u]),
    "concatenate along an axis": lambda t, u: np.concatenate((t, u), axis=1),
    "concatenate with a list": lambda t, u: np.concatenate([t, [[1.0, 2.0, 3.0]]], axis=0) * u[:1],
    "concatenate of all": lambda t, u: np.concatenate([t, u], axis=None),
    "concatenate with an array": lambda t, u: np.concatenate([A, t * u], axis=-1),
    "stack": lambda t, u: np.stack([t, u], 1),
    "hstack": lambda t, u: np.hstack([t, u]),
    "hstack of vectors": lambda t, u: np.hstack([t[0], u[1], t[0, 0]]),
    "vstack": lambda t, u: np.vstack([t, u, t[0]]),
    "where": lambda t, u: np.where(A > 0, t, u),
    "where with a tensor": lambda t, u: np.where(t > 0, t, 2 * u),
    "dot": lambda t, u: np.dot(t, u.T),
    "dot of vectors": lambda t, u: np.dot(t[0], u[1]),
    "dot with a number": lambda t, u: np.dot(t, 2.0) + u,
    "dot of an array": lambda t, u: np.dot(A.T, t * u),
    "matmul": lambda t, u: np.matmul(t, u.T),
    "einsum": lambda t, u: np.einsum("ij,kj->ik", t, u),
    "outer": lambda t, u: np.outer(t[0], u),
    "sum": lambda t, u: np.sum(t * u),
    "sum along an axis": lambda t, u: np.sum(t * u, axis=0),
    "sum with its axis kept": lambda t, u: np.sum(t * u, 1, keepdims=True),
    "mean": lambda t, u: np.mean(t * u, axis=(0, 1)),
    "max": lambda t, u: np.max(t, axis=1) * np.amax(u),
    "min": lambda t, u: np.min(t) + np.amin(u, 0),
    "var": lambda t, u: np.var(t * u, axis=1),
    "var of a sample": lambda t, u: np.var(t * u, ddof=1),
    "std": lambda t, u: np.std(t * u, 0, keepdims=True),
    "cumsum": lambda t, u: np.cumsum(t * u),
    "cumsum along an axis": lambda t, u: np.cumsum(t * u, axis=1),
    "clip": lambda t, u: np.clip(t * u, -0.5, 0.5),
    "reshape": lambda t, u: np.reshape(t * u, (3, 2)),
    "ravel": lambda t, u: np.ravel(t * u),
    "transpose": lambda t, u: np.transpose(t * u),
    "transpose of named axes": lambda t, u: np.transpose((t * u)[None], (2, 0, 1)),
    "swapaxes": lambda t, u: np.swapaxes(t * u, 0, 1),
    "expand_dims": lambda t, u: np.expand_dims(t * u, 0),
    "squeeze": lambda t, u: np.squeeze((t * u)[:, None]),
    "broadcast_to": lambda t, u: np.broadcast_to(t * u, (4, 2, 3)),
    "flip": lambda t, u: np.flip(t * u),
    "flip of an axis": lambda t, u: np.flip(t, 1) * u,
    "take": lambda t, u: np.take(t * u, [1, 0], axis=0),
    "take of all": lambda t, u: np.take(t * u, [4, 0]),
    "take_along_axis": lambda t, u: np.take_along_axis(t * u, np.array([[0], [2]]), 1),
    "prod": lambda t, u: np.prod(t * u, axis=1) + np.prod(u),
    "cumprod": lambda t, u: np.cumprod(t * u) * np.cumprod(u, axis=1).sum(),
    "norm": lambda t, u: np.linalg.norm(t * u) + np.linalg.norm(u, axis=1) + np.linalg.norm(u[0], 3),
    "sort": lambda t, u: np.sort(t * u, axis=0) * np.sort(u, axis=None)[0],
    "roll": lambda t, u: np.roll(t, 1, axis=1) * np.roll(u, 2),
    "tile": lambda t, u: np.tile(t, (2, 1)) * np.tile(u, (2, 1, 1)).sum(0)[:1],
    "waves": lambda t, u: np.sin(t) * np.cos(u) + np.expm1(t) * np.log1p(u * u),
    "remainder": lambda t, u: np.mod(t, 0.7) * np.remainder(u, -0.3) + t % 0.5,
    "whole": lambda t, u: np.round(3 * t) * u + np.floor(3 * u) * t + np.rint(t) * u,
    "logaddexp": lambda t, u: np.logaddexp(t, u),
    "tanh": lambda t, u: np.tanh(t) * np.exp(u),
    "maximum": lambda t, u: np.maximum(t, u),
    "likes": lambda t, u: (t + np.ones_like(u)) * np.full_like(u, 2.0) + np.zeros_like(t),
}


@pytest.mark.parametrize("name", RECORDED)
def test_a_function_is_recorded_and_gives_numpys_numbers(name):
    call = RECORDED[name]
    t, u = tg.tensor(A, "float64", requires_grad=True), tg.tensor(B, "float64", requires_grad=True)
    y = call(t, u)
    assert isinstance(y, tg.Tensor) and y.requires_grad
    np.testing.assert_allclose(y.numpy(), call(A.astype(float), B.astype(float)), rtol=1e-12, atol=1e-12)
    tg.gradcheck(lambda t, u: call(t, u).sum(), t.detach(), u.detach())


REFUSED = {
    "np.median": lambda t: np.median(t),
    "np.linalg.norm": lambda t: np.linalg.norm(t, 1),
    "np.linalg.norm, two axes": lambda t: np.linalg.norm(t, 2, (0, 1)),
    "np.sort": lambda t: np.sort(t, axis=0, order="x"),
    "np.sum": lambda t: np.sum(t, where=A > 0),
    "np.concatenate": lambda t: np.concatenate([t, t], dtype="float64"),
    "np.mean": lambda t: np.mean(t, dtype="float64"),
    "np.copyto": lambda t: np.copyto(np.zeros((2, 3)), t),
    "np.sinh": lambda t: np.sinh(t),
    "np.add": lambda t: np.add.reduce(t),
    "np.dot": lambda t: np.dot(t, np.zeros((1, 3, 2))),
}


@pytest.mark.parametrize("name", REFUSED)
def test_any_other_function_of_what_requires_a_gradient_is_refused_by_name(name):
    t = tg.tensor(A, requires_grad=True)
    with pytest.raises(TypeError) as caught:
        REFUSED[name](t)
    assert str(caught.value) == (
        f"Tensor: {name.partition(',')[0]} cannot be recorded; use tinygrad_rnn.ops, or .numpy() to leave the graph"
    )


def test_truth_positions_and_text_need_no_gradient():
    t = tg.tensor(A, requires_grad=True)
    assert np.isfinite(t).all() and not np.isinf(t).any() and np.array_equal(np.signbit(t), np.signbit(A))
    assert np.allclose(t, A) and np.array_equal(t, A) and np.all(t == A) and not np.any(t != A)
    np.testing.assert_array_equal(np.argsort(t, axis=1), np.argsort(A, axis=1))
    np.testing.assert_array_equal(np.where(t > 0)[0], np.where(A > 0)[0])
    assert (np.shape(t), np.ndim(t), np.size(t), np.size(t, 1)) == ((2, 3), 2, 6, 3)
    assert np.argmax(t).item() == A.argmax()
    assert np.result_type(t, np.float64) == np.float64


def test_where_nothing_is_recorded_every_function_computes_with_the_values():
    data, p = tg.tensor(A), nn.Parameter(A)
    assert np.median(data) == np.median(A) and np.linalg.norm(data) == np.linalg.norm(A)
    with tg.no_grad():
        assert np.median(p) == np.median(A)
        np.testing.assert_array_equal(np.asarray(p), A)
        np.testing.assert_array_equal(np.array([p, p]), np.array([A, A]))
        np.testing.assert_array_equal(tg.tensor(p).numpy(), A)


LEAVES = {
    "asarray": lambda t: np.asarray(t),
    "array": lambda t: np.array(t),
    "an array of several": lambda t: np.array([t, t]),
    "assigning": lambda t: np.zeros((4, 2, 3)).__setitem__(0, t),
    "tensor": lambda t: tg.tensor(t),
    "a tensor of several": lambda t: tg.tensor([t, t]),
    "the sum of several": lambda t: np.mean([t, t]),
}


@pytest.mark.parametrize("name", LEAVES)
def test_a_tensor_that_requires_a_gradient_does_not_become_an_array_unnoticed(name):
    t = tg.tensor(A, requires_grad=True)
    with pytest.raises(TypeError, match=r"of a tensor that requires a gradient would leave the graph; use"):
        LEAVES[name](t * 2)
    LEAVES[name](t.detach())
    LEAVES[name](t.numpy())


def test_copies_that_are_asked_for_are_made():
    t = tg.tensor(A, requires_grad=True)
    p = nn.Parameter(t * 2)
    assert p.is_leaf and p.requires_grad
    layer, other = nn.Linear(3, 2), nn.Linear(3, 2)
    layer.load_state_dict(dict(other.named_parameters()))
    np.testing.assert_array_equal(layer.W.numpy(), other.W.numpy())


class Joins(nn.Cell):
    """[x, h] by a function of NumPy's."""

    def __init__(self):
        self.W = nn.Parameter(np.random.default_rng(2).normal(size=(7, 4)).astype("f"))

    def initial_state(self, batch_size):
        return self.zeros(batch_size, 4)

    def forward(self, x, h):
        h = np.tanh(np.concatenate([x, h], axis=1) @ self.W) + np.zeros_like(h)
        return np.where(h > 0, h, 0.1 * h), h


@pytest.mark.parametrize("engine", ["eager", "numpy", "llvm"])
def test_a_cell_may_be_written_in_numpys_functions(engine):
    class Ours(Joins):
        def forward(self, x, h):
            h = ops.tanh(ops.concat([x, h], axis=1) @ self.W)
            return ops.where(h > 0, h, 0.1 * h), h

    found = []
    for cell in (Joins(), Ours()):
        x = tg.tensor(np.random.default_rng(3).normal(size=(6, 2, 3)).astype("f"), requires_grad=True)
        ys, h = nn.Recurrent(cell, engine=engine)(x, lengths=[6, 4])
        ((ys * ys).sum() + h.sum()).backward()
        found.append([ys.numpy(), x.grad.numpy(), cell.W.grad.numpy()])
    for a, b in zip(*found, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("engine", ["numpy", "llvm"])
def test_a_recorded_step_reads_no_value_by_a_function_of_numpys(engine):
    class Reads(Joins):
        def forward(self, x, h):
            return h * float(np.median(h.detach())), h

    with pytest.raises(TypeError, match="a recorded step cannot read a value"):
        nn.Recurrent(Reads(), engine=engine)(tg.zeros(6, 2, 3))
