"""Buffers: tensors and arrays of a module that nobody trains, in state_dict, in files, and wherever it is moved."""

import copy
import pickle

import numpy as np
import pytest

import tinygrad_rnn as tg

from tinygrad_rnn import nn, ops, torch_weights
from tinygrad_rnn.tasks.checkpoint import load_checkpoint, save_checkpoint

rng = np.random.default_rng(3)


class Kept(nn.Module):
    """Buffers of every kind, beside what is none."""

    def __init__(self):
        self.W = nn.Parameter(np.ones((2, 2), np.float32))
        self.mean = tg.zeros(2)
        self.steps = tg.tensor(0)
        self.mask = np.ones(2, np.float32)
        self.seen = np.zeros(2, bool)
        self.fixed = np.broadcast_to(np.float32(1.0), (2,))  # cannot be written
        self.parts = [tg.zeros(3), (np.zeros(1), None)]
        self.table = {"a": tg.zeros(1, dtype=np.float64)}
        self.memory, self.number, self.words = None, np.float64(3.0), np.array(["a"])
        self._cache = tg.zeros(2)
        self.register_buffer("draft", tg.zeros(2), persistent=False)
        self.register_buffer("late", None)

    def forward(self, x):
        self.last = x.detach()
        return x @ self.W


BUFFERS = ["mean", "steps", "mask", "seen", "fixed", "parts.0", "parts.1.0", "table.a"]


class Outer(nn.Module):
    def __init__(self):
        self.inner = [Kept()]
        self.scale = np.full((1, 2), 2.0)

    def forward(self, x):
        self.inner[0].memory = x.detach() * 2
        return self.inner[0](x)


def test_buffers_stand_in_state_dict_behind_the_parameters_and_are_no_parameters():
    module = Kept()
    assert list(module.state_dict()) == ["W", *BUFFERS]
    assert [path for path, _ in module.named_parameters()] == ["W"]
    assert [path for path, _ in module.named_buffers()] == [*BUFFERS, "_cache", "draft"]
    assert len(list(module.buffers())) == len(BUFFERS) + 2
    assert list(Outer().state_dict()) == ["inner.0.W", "scale", *(f"inner.0.{name}" for name in BUFFERS)]
    assert all(type(a) is np.ndarray for a in module.state_dict().values())


def test_what_a_call_leaves_behind_or_sets_for_a_batch_does_not_change_the_names():
    module = Outer()
    before = list(module.state_dict())
    module(tg.zeros(1, 2))
    module.inner[0].memory = tg.zeros(4)
    assert list(module.state_dict()) == before
    Outer().load_state_dict(module.state_dict())


def test_a_buffer_declared_as_none_is_saved_once_it_is_set():
    module = Kept()
    module.late = tg.zeros(1)
    assert "late" in module.state_dict()
    module.draft = tg.ones(2)
    assert "draft" not in module.state_dict()
    module.register_buffer("_own", tg.ones(1))
    assert "_own" in module.state_dict()


def drawn(module):
    """The same state with random values."""
    return {k: np.asarray(rng.normal(size=v.shape) * 9).astype(v.dtype) for k, v in module.state_dict().items()}


@pytest.mark.parametrize("way", ["dict", "file", "copy", "pickle"])
def test_buffers_are_loaded_as_what_they_are(way, tmp_path):
    source, target = Outer(), Outer()
    values = drawn(source)
    source.load_state_dict(values)
    if way == "file":
        save_checkpoint(tmp_path / "m.safetensors", source.state_dict(), {})
        target.load_state_dict(load_checkpoint(tmp_path / "m.safetensors")[0])
    elif way == "dict":
        mask, mean = target.inner[0].mask, target.inner[0].mean
        target.load_state_dict(values)
        assert target.inner[0].mask is mask
        assert target.inner[0].mean is mean
    else:
        target = copy.deepcopy(source) if way == "copy" else pickle.loads(pickle.dumps(source))
    inner = target.inner[0]
    kinds = [type(getattr(inner, name)) for name in ("mean", "steps", "mask", "seen", "fixed", "parts", "table")]
    assert kinds == [tg.Tensor, tg.Tensor, np.ndarray, np.ndarray, np.ndarray, list, dict]
    assert isinstance(inner.parts[1], tuple)
    for name, value in target.state_dict().items():
        np.testing.assert_array_equal(value, values[name])
        assert value.dtype == values[name].dtype


def test_what_is_loaded_is_a_copy():
    module = Kept()
    values = drawn(module)
    module.load_state_dict(values)
    kept = module.state_dict()
    for a in values.values():
        a[...] = 0
    for name, a in module.state_dict().items():
        np.testing.assert_array_equal(a, kept[name])


def test_a_cast_leaves_integers_and_booleans_as_they_are():
    module = Kept().to("float64")
    dtypes = {name: a.dtype.name for name, a in module.state_dict().items()}
    assert dtypes == dict.fromkeys(["W", *BUFFERS], "float64") | {"steps": "int64", "seen": "bool"}
    assert type(module.mask) is np.ndarray
    assert module._cache.dtype == module.draft.dtype == np.float64
    assert module.parts[1][1] is None
    assert module.number.dtype == np.float64


def test_a_buffer_of_another_shape_is_refused_and_nothing_is_taken():
    module = Kept()
    before, values = module.state_dict(), drawn(module)
    values["parts.1.0"] = np.zeros(2)
    with pytest.raises(ValueError, match=r"^Kept\.load_state_dict: parts\.1\.0 must have shape \(1,\), got \(2,\)$"):
        module.load_state_dict(values)
    for name, a in module.state_dict().items():
        np.testing.assert_array_equal(a, before[name])
    with pytest.raises(
        TypeError, match=r"^Kept\.register_buffer: 'x' must be a tensor, an array or None, got a float$"
    ):
        module.register_buffer("x", 1.0)


@pytest.mark.filterwarnings("ignore:Recurrent. .* runs slower than it might")
def test_a_buffer_stays_one_through_updates_in_a_step_and_in_every_engine():
    class Normed(nn.Cell):
        def __init__(self):
            self.U = nn.Parameter(np.random.default_rng(0).normal(size=(3, 4)))
            self.mean = tg.zeros(4, dtype=np.float64)

        def initial_state(self, batch_size):
            return self.zeros(batch_size, 4)

        def forward(self, x, h):
            z = x @ self.U
            if self.training:
                self.mean = 0.9 * self.mean + 0.1 * z.mean(0).detach()
            h = ops.tanh(h + z - self.mean)
            return h, h

    xs = tg.tensor(rng.normal(size=(5, 2, 3)))
    found = []
    for engine in ("eager", "auto"):
        trained, loaded = (nn.Recurrent(Normed(), engine=engine) for _ in range(2))
        trained(xs)
        loaded.load_state_dict(trained.state_dict())
        assert list(trained.state_dict()) == ["cell.U", "cell.mean"]
        found += [trained.eval()(xs)[0].numpy(), loaded.eval()(xs)[0].numpy()]
    for a in found[1:]:
        np.testing.assert_allclose(a, found[0], rtol=1e-12)


def test_a_counter_without_axes_stays_a_buffer_though_numpy_makes_it_a_scalar():
    module = Kept()
    module.count = np.zeros((), int)
    names = list(module.state_dict())
    module.count = module.count + 1
    module.count += 1
    assert list(module.state_dict()) == names
    other = Kept()
    other.count = np.zeros((), int)
    other.load_state_dict(module.state_dict())
    assert other.count == 2
    assert other.count.dtype == int


def test_pytorchs_weights_may_lack_a_buffer():
    module = nn.Linear(2, 3)
    module.scale = np.full(3, 2.0, np.float32)
    values = {"weight": np.ones((3, 2), np.float32), "bias": np.ones(3, np.float32)}
    torch_weights.load(nn.Linear(2, 3), values)

    class Two(nn.Module):
        def __init__(self):
            self.first, self.scale = nn.Linear(2, 3), np.full(3, 2.0, np.float32)

    two = Two()
    torch_weights.load(two, {f"first.{name}": a for name, a in values.items()})
    assert two.scale.tolist() == [2, 2, 2]
    assert two.first.b.tolist() == [1, 1, 1]
    torch_weights.load(two, torch_weights.export(two) | {"scale": np.zeros(3)})
    assert two.scale.tolist() == [0, 0, 0]


def test_a_parameter_is_not_replaced_by_a_tensor_that_was_computed():
    linear, table = nn.Linear(4, 5, bias=False), nn.Embedding(5, 4)
    with pytest.raises(TypeError, match=r"^Linear\.W: a parameter must be an nn\.Parameter or None, got a tensor"):
        linear.W = table.E.T
    assert isinstance(linear.W, nn.Parameter)
    for value in (nn.Parameter(np.ones((4, 5))), None, nn.Parameter(table.E.T)):
        linear.W = value
        assert linear.W is value
