"""Products beside compiled layers: shared out without a change of their values, unless somebody said otherwise."""

import os
import subprocess
import sys

import numpy as np
import pytest

from tinygrad_rnn.autograd import blas

pytest.importorskip("threadpoolctl")

SHAPES = [
    (300, 400, 500),
    (40, 50, 600),
    (7, 4000, 700),
    (700, 4000, 7),
    (1, 2000, 2000),
    (2000, 2000, 1),
    (3, 4, 5),
    (0, 4, 5),
]


@pytest.fixture
def shared(monkeypatch):
    """Products by the kernels of compiled layers, however small."""
    pytest.importorskip("llvmlite")
    from tinygrad_rnn.compiler.llvm import shared_products, workers

    workers._team()
    monkeypatch.setattr(shared_products, "FEW", 0)
    monkeypatch.setattr(blas, "LARGE", 0)
    monkeypatch.setattr(blas.Shared, "multiply", shared_products.product)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("dtypes", [("f4", "f4"), ("f8", "f8"), ("f4", "f8")], ids=str)
def test_a_shared_product_is_the_product(shared, shape, dtypes):
    m, k, n = shape
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal((m, k)).astype(dtypes[0]), rng.standard_normal((k, n)).astype(dtypes[1])
    rtol = 1e-4 if dtypes[0] == dtypes[1] == "f4" else 1e-10
    spread, wide = np.repeat(np.repeat(a, 2, 0), 3, 1)[::2, ::3], np.hstack([a, a])[:, :k]
    for left in a, np.asfortranarray(a), spread, wide:
        for right in b, np.asfortranarray(b), np.hstack([b, b])[:, :n]:
            found = blas.matmul(left, right)
            assert found.dtype == (a @ b).dtype
            np.testing.assert_allclose(found, a @ b, rtol=rtol, atol=rtol * 100)


def test_a_product_that_cannot_be_says_what_numpy_says(shared):
    with pytest.raises(ValueError, match="mismatch"):
        blas.matmul(np.ones((300, 4)), np.ones((5, 300)))


def test_what_is_no_product_of_two_matrices_is_left_alone(shared):
    rng = np.random.default_rng(0)
    stacked, matrix = rng.standard_normal((4, 3, 2)), rng.standard_normal((2, 5))
    np.testing.assert_array_equal(blas.matmul(stacked, matrix), stacked @ matrix)
    np.testing.assert_array_equal(blas.matmul(np.eye(2, dtype=int), np.eye(2, dtype=int)), np.eye(2))


CODE = """
import numpy as np, tinygrad_rnn as tg
from threadpoolctl import threadpool_info
from tinygrad_rnn import nn
from tinygrad_rnn.compiler.llvm import workers
threads = lambda: [p["num_threads"] for p in threadpool_info() if p["user_api"] == "blas"]
np.ones((2, 2)) @ np.ones((2, 2))
before = threads()
nn.Recurrent(nn.RNNCell(2, 3), engine="llvm")(tg.zeros(5, 64, 2))
print(before == threads(), set(threads()) == {1}, workers.count(64))
"""


@pytest.mark.parametrize("said", [None, "2"])
def test_blas_has_one_thread_beside_compiled_layers_unless_somebody_said_how_many(said):
    pytest.importorskip("llvmlite")
    environment = {k: v for k, v in os.environ.items() if k not in (*blas.SETTINGS, "OMP_NUM_THREADS")}
    environment |= {"OPENBLAS_NUM_THREADS": said} if said else {}
    done = subprocess.run([sys.executable, "-c", CODE], env=environment, capture_output=True, text=True, check=True)
    same, one, count = done.stdout.split()
    if int(count) < 2:
        pytest.skip("one processor")
    assert (same, one) == (("True", "False") if said else ("False", "True"))
