"""A backend is a folder and a line in a table: one for another device needs nothing else."""

import dataclasses

import numpy as np
import pytest

import tinygrad_rnn as tg

from tinygrad_rnn import nn, ops
from tinygrad_rnn.compiler import engines
from tinygrad_rnn.compiler.numpy.program import backend as by_numpy
from tinygrad_rnn.compiler.runtime.memory import Arena
from tinygrad_rnn.compiler.runtime.steps import Steps

T, B, I, H = 7, 3, 4, 5


class Remote:
    """A program whose arrays are on the device: what it computes with is another program, on copies."""

    def __init__(self, program, xp):
        self.program, self.xp = program, xp

    def __getattr__(self, name):
        return getattr(self.program, name)

    def there(self, arrays):
        assert all(isinstance(a, self.xp.ndarray) for a in arrays)
        return [a.get() for a in arrays]

    def back(self, arrays):
        return [a if a is None else self.xp.asarray(a) for a in arrays]

    def forward(self, inputs, state):
        ys, new = self.program.forward(self.there(inputs), self.there(state))
        return self.back(ys), self.back(new)

    def backward(self, dys, dstate):
        found = self.program.backward(self.there(dys), self.there(dstate))
        return {name: self.back(arrays) for name, arrays in found.items()}


class RemoteCode:
    def __init__(self, code, xp):
        self.c, self.code, self.xp = code.c, code, xp

    def program(self, steps, batch, arena):
        return Remote(self.code.program(steps, batch, Arena()), self.xp)  # its own memory is the host's


@pytest.fixture
def remote(gpu, cupy, monkeypatch):
    """The engine "remote", for arrays on the device."""
    code = lambda c, batch: RemoteCode(by_numpy.code(c, batch), cupy)
    backend = dataclasses.replace(by_numpy, name="remote", device="gpu", code=code)
    monkeypatch.delitem(engines.ENGINES, "cuda")
    monkeypatch.setitem(engines.ENGINES, "remote", engines.Engine(lambda: backend, "gpu"))
    engines.find.cache_clear()
    yield
    engines.find.cache_clear()


class Dropping(nn.LSTMCell):
    """Draws random numbers."""

    def forward(self, x, state):
        y, state = super().forward(x, state)
        return ops.where(ops.uniform(y.shape) < 0.5, y, 0.0), state


CALLS = {
    "whole sequences": ({}, None),
    "lengths": ({}, [7, 2, 0]),
    "in parts": ({"checkpoint_every": 3}, [7, 2, 5]),
    "from the end": ({"reverse": True}, [7, 2, 5]),
}


@pytest.mark.parametrize("options, lengths", CALLS.values(), ids=CALLS)
@pytest.mark.parametrize("cell", [nn.LSTMCell, Dropping])
def test_a_backend_of_another_device_runs_what_is_there(remote, cell, options, lengths):
    found = {}
    for engine in ("compiled", "eager"):
        tg.manual_seed(3)
        more = {k: v for k, v in options.items() if engine == "compiled" or k != "checkpoint_every"}
        rnn = nn.Recurrent(cell(I, H), engine=engine, **more)
        xs = tg.tensor(np.random.default_rng(0).standard_normal((T, B, I)).astype(np.float32), requires_grad=True)
        tg.manual_seed(4)
        ys, (h, c) = rnn(xs, lengths=lengths)
        (ys * ys + h * c).sum().backward()
        assert rnn.plan(xs).engine == {"compiled": "remote"}.get(engine, engine)
        found[engine] = {"ys": ys, "c": c, "dxs": xs.grad, **{name: p.grad for name, p in rnn.named_parameters()}}
    for name, tensor in found["compiled"].items():
        assert tensor.device == "gpu:0"
        np.testing.assert_allclose(tensor.numpy(), found["eager"][name].numpy(), 1e-4, 1e-6, err_msg=name)


def test_without_one_the_step_runs_eagerly_and_the_plan_says_where_it_would_not(gpu, monkeypatch):
    monkeypatch.delitem(engines.ENGINES, "cuda")
    engines.find.cache_clear()
    plan = nn.Recurrent(nn.LSTMCell(I, H), engine="compiled").plan(tg.zeros(T, B, I))
    engines.find.cache_clear()
    assert plan.engine == "eager" and "the compiled engines run on the CPU" in str(plan)


@pytest.mark.parametrize("engine, where, runs_on", [("llvm", "gpu", "CPU"), ("cuda", "cpu", "GPU")])
def test_an_engine_asked_for_on_another_device_says_where_it_runs(cupy, engine, where, runs_on):
    with tg.device(where):
        plan = nn.Recurrent(nn.LSTMCell(I, H), engine=engine).plan(tg.zeros(T, B, I))
    assert plan.engine == "eager" and f'the engine "{engine}" runs on the {runs_on}' in str(plan)


def test_each_engine_is_that_of_its_name():
    for name in engines.ENGINES:
        if not engines.missing(name):
            (backend,) = engines.find(name, engines.ENGINES[name].device)
            assert (backend.name, backend.device) == (name, engines.ENGINES[name].device)


def test_what_depends_on_the_number_of_steps_is_made_once_for_each():
    steps, made, used = Steps(4), [], []

    def make():
        made.append(steps.T)
        return f"for {steps.T}"

    steps.depends(make, used.append)
    for T in (2, 4, 3, 2):
        steps.aim(T)
    assert made == [4, 2, 3]
    assert used == ["for 4", "for 2", "for 4", "for 3", "for 2"]
