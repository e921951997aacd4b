"""Copies: deepcopy and pickle of tensors, states, modules and optimisers; and calls that are thrown away."""

import copy
import pickle

import numpy as np
import pytest

import tinygrad_rnn as tg

from tinygrad_rnn import nn, ops, optim
from tinygrad_rnn.autograd import nest
from tinygrad_rnn.compiler.runtime.call import Call

rng = np.random.default_rng(5)
ways = pytest.mark.parametrize(
    "copied", [copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))], ids=["deep", "pickle"]
)
engines = pytest.mark.parametrize("engine", ["eager", "numpy"])


def leaf(*shape):
    return tg.tensor(rng.normal(size=shape), requires_grad=True)


def chain(x, steps):
    for _ in range(steps):
        x = ops.tanh(x) + 0
    return x


COMPUTED = {
    "one operation": lambda x: x * 2,
    "a long history": lambda x: chain(x, 700),
    "an output of several": lambda x: ops.unbind(x)[1],
    "under no_grad": lambda x: tg.no_grad()(lambda: x * 2)(),
    "with a name": lambda x: x.detach() * 1,
}


@ways
@pytest.mark.parametrize("make", COMPUTED.values(), ids=COMPUTED)
def test_a_computed_tensor_is_copied_without_its_history(make, copied):
    x = leaf(2, 3)
    y = make(x)
    z = copied(y)
    np.testing.assert_array_equal(z.numpy(), y.numpy())
    assert z.is_leaf
    assert not z.requires_grad
    if y.requires_grad:
        y.sum().backward()  # the original has all of it
        assert x.grad is not None
    assert z.requires_grad_().requires_grad


@ways
def test_a_leaf_is_copied_with_its_gradient_but_without_its_hooks(copied):
    x, seen = leaf(3), []
    x.register_hook(seen.append)
    x.grad = tg.grad((x * x * x).sum(), x, create_graph=True)  # which has a history itself
    seen.clear()
    y = copied(x)
    assert y.requires_grad
    assert y.is_leaf
    np.testing.assert_array_equal(y.grad.numpy(), x.grad.numpy())
    (y * 2).sum().backward()
    np.testing.assert_allclose(y.grad.numpy(), x.grad.numpy() + 2)
    assert not seen


@engines
def test_a_copy_within_a_step_keeps_the_gradient_or_is_refused(engine):
    class Copies(nn.Cell):
        def __init__(self, copied):
            self.W, self.copied = nn.Parameter(np.eye(3)), copied

        def initial_state(self, batch_size):
            return self.zeros(batch_size, 3)

        def forward(self, x, h):
            h = ops.tanh(x @ self.W + self.copied(h))
            return h, h

    xs = leaf(5, 2, 3)
    slopes = [
        tg.grad(nn.Recurrent(Copies(each), engine=engine)(xs)[0].sum(), xs).numpy() for each in (copy.copy, lambda h: h)
    ]
    np.testing.assert_allclose(*slopes, rtol=1e-12)
    deep = nn.Recurrent(Copies(copy.deepcopy), engine=engine)
    with pytest.raises(RuntimeError, match=r"^Tensor: a deep copy has no history, no gradient would flow"):
        deep(xs)
    with tg.no_grad():
        found = deep(xs)[0].numpy()
    np.testing.assert_allclose(found, nn.Recurrent(Copies(copy.copy), engine=engine)(xs)[0].numpy(), rtol=1e-12)


@ways
@engines
@pytest.mark.parametrize("kind", [nn.LSTM])
def test_a_carried_state_is_copied_and_carried_on(kind, engine, copied):
    rnn = kind(3, 4, engine=engine)
    _, state = rnn(tg.tensor(rng.normal(size=(100, 2, 3)).astype("f")))
    again = copied(state)
    assert nest.describe(again) == nest.describe(state)
    xs = tg.tensor(rng.normal(size=(5, 2, 3)).astype("f"))
    np.testing.assert_array_equal(rnn(xs, again)[0].numpy(), rnn(xs, state)[0].numpy())


class Keeps(nn.Module):
    """It keeps what it computed."""

    def __init__(self, engine):
        self.rnn = nn.GRU(3, 4, engine=engine)

    def forward(self, xs):
        self.ys, self.last = self.rnn(xs)
        self.loss = (self.ys * self.ys).sum()
        return self.loss


@engines
@ways
def test_a_module_that_keeps_an_output_is_copied(copied, engine):
    module, xs = Keeps(engine), tg.tensor(rng.normal(size=(60, 2, 3)).astype("f"))
    module(xs)
    other = copied(module)
    np.testing.assert_array_equal(other.ys.numpy(), module.ys.numpy())
    module.loss.backward()
    assert other(xs).item() == pytest.approx(module.loss.item())
    other.loss.backward()


SCHEDULES = {
    "a number": lambda: 1e-3,
    "constant": lambda: optim.constant(1e-3),
    "step_decay": lambda: optim.step_decay(1e-3, 2, 0.5),
    "cosine": lambda: optim.cosine(1e-3, 10, 1e-5),
    "warmup": lambda: optim.warmup(1e-3, 4),
    "warmup of cosine": lambda: optim.warmup(optim.cosine(1e-3, 10), 4),
}


@ways
@pytest.mark.parametrize("kind", [optim.SGD, optim.Adam])
@pytest.mark.parametrize("make", SCHEDULES.values(), ids=SCHEDULES)
def test_an_optimiser_with_a_schedule_is_copied_and_goes_on(make, kind, copied):
    model = nn.Linear(2, 2)
    optimizer = kind(model.parameters(), make())
    rates = []
    for _ in range(3):
        model(tg.tensor([[1.0, 2.0]])).sum().backward()
        optimizer.step()
    other = copied(optimizer)
    for each in (optimizer, other):
        rates.append([])
        each.steps = 3
        for _ in range(9):
            rates[-1].append(each.lr)
            each.steps += 1
    assert rates[0] == rates[1]


def test_the_schedules_are_their_formulas():
    steps = range(12)
    assert [optim.constant(0.5)(t) for t in steps] == [0.5] * 12
    assert [optim.step_decay(1.0, 5, 0.1)(t) for t in steps] == pytest.approx([0.1 ** (t // 5) for t in steps])
    half = [0.1 + 0.45 * (1 + np.cos(np.pi * min(t / 8, 1))) for t in steps]
    assert [optim.cosine(1.0, 8, 0.1)(t) for t in steps] == pytest.approx(half)
    up = [min((t + 1) / 4, 1) for t in steps]
    assert [optim.warmup(2.0, 4)(t) for t in steps] == pytest.approx([2 * u for u in up])
    assert optim.cosine(1.0, 0)(0) == optim.cosine(1.0, 0)(1) * 0 + 1.0
    assert optim.warmup(1.0, 0)(0) == 1.0


# ---- calls that are thrown away -------------------------------------------------------------------------------------


def test_nothing_runs_when_a_call_ends():
    """In a `__del__` an error is printed and Ctrl-C is lost."""
    assert not hasattr(Call, "__del__")
    with pytest.raises(TypeError):
        Call()


@pytest.mark.parametrize("engine", ["numpy", "auto"])
def test_the_memory_of_a_call_that_is_thrown_away_is_used_again(engine):
    rnn, xs = nn.Recurrent(nn.GRUCell(3, 4), engine=engine), leaf(6, 2, 3).astype("float32")
    ys = None
    for _ in range(5):
        ys = rnn(xs)[0]  # the one before ends only now
        assert ys.requires_grad
    assert len(rnn._recordings.arenas.arenas) == 2
    del ys
    (rnn(xs)[0] * 2).sum().backward()
    assert not rnn._recordings.arenas.lent


def test_a_call_that_fails_gives_its_memory_back(monkeypatch):
    rnn, xs = nn.Recurrent(nn.GRUCell(3, 4), engine="numpy"), leaf(6, 2, 3)
    rnn.to("float64")(xs)
    rnn._recordings.arenas.collect()
    layer = next(iter(rnn._recordings.by_key.values()))[0].compiled
    program = layer.programs.free[0]

    def stop(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(type(program), "forward", stop)
        for _ in range(3):
            with pytest.raises(KeyboardInterrupt):
                rnn(xs)
    rnn(xs)
    assert len(rnn._recordings.arenas.arenas) <= 2
