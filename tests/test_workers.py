"""The threads that share out work: one team however many ask for it, and none at work when nobody waits."""

import ctypes
import subprocess
import sys
import time

import numpy as np
import pytest

pytest.importorskip("llvmlite")

from tinygrad_rnn.compiler.llvm import formula, machine, shared_products, workers

needs_two = pytest.mark.skipif(workers.count(1 << 30) < 2, reason="one processor")

AT_ONCE = """
import threading, numpy as np
from tinygrad_rnn import nn, tensor
models = [nn.LSTM(4, 8, engine="llvm") for _ in range(2)]
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


def assert_falls_asleep(team):
    end = time.monotonic() + 20
    while any(w.awake.value for w in team.workers) and time.monotonic() < end:
        time.sleep(0.01)
    assert not any(w.awake.value for w in team.workers)


@pytest.fixture
def asleep():
    """The team, all of which sleep."""
    assert_falls_asleep(workers._team())
    return workers._team()


def interrupting(call, function=lambda job: None):
    """The function, interrupted at the first call, or the second, …; and the calls."""
    calls = []

    def interrupted(*args):
        calls.append(args)
        if len(calls) == call:
            raise KeyboardInterrupt
        function(*args)

    return interrupted, calls


def long_job(n):
    """A job of two phases, p = 1 and q = 2 p for n elements in two parts; the results, and what must live as long."""
    p, q = np.zeros(n), np.zeros(n)
    lines = {"p = log(exp(log(exp(g))))": (np.ones(n), p), "p = g + g": (p, q)}
    formulas = [formula.formula(line, ("g",), ("p",), np.dtype("f8")) for line in lines]
    tables = []
    for f, (g, out) in zip(formulas, lines.values(), strict=True):
        entries = f.table(2, [(n, g.ctypes.data, out.ctypes.data)])
        tables.append((ctypes.c_int64 * len(entries))(*entries))
    phases = [f.phase(ctypes.addressof(table), 2) for f, table in zip(formulas, tables, strict=True)]
    return workers.Job(*phases), p, q, (lines, tables)


@needs_two
def test_each_phase_of_a_job_sees_what_all_did_in_the_one_before(asleep):
    job, p, q, _held = long_job(100_001)
    for _ in range(3):  # the workers sleep, and do not
        p[:] = q[:] = 0
        workers.run(job)
        assert (p == 1).all()
        assert (q == 2).all()
    p[:] = q[:] = 0
    job.alone()
    assert (q == 2).all()


@needs_two
def test_who_interrupts_a_job_gets_the_processor_when_all_parts_are_done(asleep, monkeypatch):
    n = 300_000
    job, p, _, _held = long_job(n)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(asleep, "lead", interrupting(1)[0])
        workers.run(job)
    assert (p[n // 2 :] == 1).all()
    assert not asleep.lock.locked()
    workers.run(job)
    assert (p == 1).all()


@needs_two
def test_who_interrupts_before_all_are_awake_wakes_them(asleep, monkeypatch):
    job, _, _, _held = long_job(1000)
    wake, calls = interrupting(1, asleep.wake)
    monkeypatch.setattr(asleep, "wake", wake)
    with pytest.raises(KeyboardInterrupt):
        workers.run(job)
    assert len(calls) == 2


@needs_two
def test_who_interrupts_at_the_end_still_waits_for_all(asleep, monkeypatch):
    job, p, _, _held = long_job(300_000)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(asleep, "wake", interrupting(2, asleep.wake)[0])
        workers.run(job)
    assert (p == 1).all()
    assert not asleep.lock.locked()
    assert_falls_asleep(asleep)  # nothing keeps them awake


def test_a_shared_product_outlives_the_cache_of_machine_code(monkeypatch):
    a = np.random.default_rng(0).standard_normal((70, 70))
    workers._team()
    expected = shared_products.product(a, a)
    machine._compiled.cache_clear()
    np.testing.assert_array_equal(shared_products.product(a, a), expected)
    np.testing.assert_allclose(expected, a @ a, rtol=1e-10)
