"""The threads that share out work: one team however many ask for it, and none at work when nobody waits."""

import ctypes
import subprocess
import sys

import numpy as np
import pytest

pytest.importorskip("llvmlite")

from tinygrad_rnn.compiler import formula, gemm, llvm, workers

needs_two = pytest.mark.skipif(workers.count(1 << 30) < 2, reason="one processor")

AT_ONCE = """
import threading, numpy as np
from tinygrad_rnn import nn, tensor
models = [nn.LSTM(4, 8, engine="fast") for _ in range(2)]
few, many = (tensor(np.ones((5, B, 4), "f4")) for B in (8, 32))
for model in models:
    model(few)  # one worker's rows: there is no team yet
bar = threading.Barrier(2)
def go(model):
    bar.wait()
    for _ in range(30):
        model(many)
threads = [threading.Thread(target=go, args=(model,)) for model in models]
[t.start() for t in threads]
[t.join() for t in threads]
print(sum(t.name == "tinygrad_rnn-1" for t in threading.enumerate()))
"""


@needs_two
def test_two_threads_that_call_at_once_make_one_team():
    for _ in range(3):
        done = subprocess.run([sys.executable, "-c", AT_ONCE], capture_output=True, text=True)
        assert (done.returncode, done.stdout.strip()) == (0, "1"), done.stderr


@needs_two
def test_who_interrupts_a_job_gets_the_processor_when_all_parts_are_done(monkeypatch):
    n = 300_000
    f = formula.formula("p = log(exp(log(exp(g))))", ("g",), ("p",), np.dtype("f8"))
    g, out = np.ones(n), np.zeros(n)
    entries = [1, 2, *[0] * len(f.names), n, g.ctypes.data, out.ctypes.data]
    table = (ctypes.c_int64 * len(entries))(*entries)

    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(workers._team(), "lead", interrupted)
    with pytest.raises(KeyboardInterrupt):
        workers.run(workers.Job(f.phase(ctypes.addressof(table), 2)))
    assert (out[n // 2 :] == 1).all()
    assert not workers._team().lock.locked()


def test_a_shared_product_outlives_the_cache_of_machine_code(monkeypatch):
    a = np.random.default_rng(0).standard_normal((70, 70))
    workers._team()
    expected = gemm.product(a, a)
    llvm._compiled.cache_clear()
    np.testing.assert_array_equal(gemm.product(a, a), expected)
    np.testing.assert_allclose(expected, a @ a, rtol=1e-10)
