"""What tests of whole layers share: results beside results, and a module as a function of its parameters."""

import numpy as np
import pytest

import tinygrad_rnn as tg


def values(a):
    """Those of a tensor, with or without a gradient, or of an array."""
    return a.numpy() if isinstance(a, tg.Tensor) else np.asarray(a)


def all_close(found, expected, tolerance=1e-10):
    assert [np.shape(a) for a in found] == [np.shape(a) for a in expected]
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_allclose(values(a), values(b), rtol=tolerance, atol=tolerance)


def by_parameters(module, function):
    """function(*others), as a function of (*values of the parameters, *others)."""
    parameters = list(module.parameters())

    def run(*inputs):
        for p, t in zip(parameters, inputs, strict=False):
            p.array, p.node = t.array, t.node
        return function(*inputs[len(parameters) :])

    return run, [tg.tensor(p.numpy(), requires_grad=True) for p in parameters]


def some(values, *, one_in=2):
    """Parameters of a test, of which one in so many is for each day, and the others for `make slow`."""
    row = lambda v: v if isinstance(v, tuple) else (v,)
    marks = lambda i: [pytest.mark.slow] if i % one_in else []
    return [pytest.param(*row(v), marks=marks(i)) for i, v in enumerate(values)]
