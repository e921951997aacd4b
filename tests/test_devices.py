"""Devices: choosing one, moving to it, and what is said when there is none."""

import os
import subprocess
import sys
import threading

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from conftest import REAL_GPU

import tinygrad_rnn as tg

from tinygrad_rnn import nn, ops

ROOT = Path(tg.__file__).parent.parent
TESTS = Path(__file__).parent


@pytest.fixture
def two_gpus(cupy):
    if cupy.cuda.runtime.getDeviceCount() < 2:
        pytest.skip("needs two GPUs")


def run(code, **environment):
    """What a fresh Python prints, and the last line of its error."""
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=False,
        env={**os.environ, "PYTHONPATH": str(TESTS), **environment},
    )
    return done.stdout.strip(), (done.stderr.strip().splitlines() or [""])[-1]


# ---- choosing ------------------------------------------------------------------------------------------------------


def test_without_a_choice_tensors_are_on_the_cpu_and_cupy_is_not_imported():
    out, error = run(
        "import sys, tinygrad_rnn as tg; from tinygrad_rnn import nn\n"
        "rnn = nn.Recurrent(nn.LSTMCell(2, 3)); ys, _ = rnn(tg.tensor([[[1.0, 2.0]]])); ys.sum().backward()\n"
        "print(ys.device, tg.default_device(), [m for m in sys.modules if m.partition('.')[0] in ('cupy', 'cupyx')])",
        TINYGRAD_RNN_DEVICE="",
    )
    assert (out, error) == ("cpu cpu []", "")


def test_the_environment_sets_the_default_device():
    code = (
        "import sys, strict_cupy; sys.modules.update(strict_cupy.modules())\n"
        "import tinygrad_rnn as tg; print(tg.tensor([1.0]).device, tg.default_device())"
    )
    assert run(code, TINYGRAD_RNN_DEVICE="cuda:1") == ("gpu:1 gpu:1", "")
    assert run(code, TINYGRAD_RNN_DEVICE="cpu") == ("cpu cpu", "")


def test_a_device_of_the_environment_that_cannot_be_used_is_an_error_in_one_line():
    code = "import sys; sys.modules['cupy'] = None\nimport tinygrad_rnn as tg; tg.tensor([1.0])"
    assert run(code, TINYGRAD_RNN_DEVICE="gpu")[1].startswith('RuntimeError: device "gpu": CuPy is not installed;')
    assert run(code, TINYGRAD_RNN_DEVICE="tpu")[1] == 'ValueError: device: must be "cpu", "gpu" or "gpu:N", got \'tpu\''


@pytest.mark.parametrize("bad", ["tpu", "", "gpu:x", "gpu:-1", "cpu:0", "gpu:1:2", None, 0])
@pytest.mark.parametrize("door", [tg.set_default_device, lambda d: tg.device(d).__enter__()], ids=["default", "block"])
def test_what_is_no_device_is_refused(door, bad):
    with pytest.raises(ValueError, match=r'^device: must be "cpu", "gpu" or "gpu:N", got'):
        door(bad)
    assert tg.default_device() == "cpu"


def test_the_default_device_is_where_new_tensors_go(default):
    tg.set_default_device("gpu")
    assert tg.default_device() == "gpu:0"
    made = [
        tg.tensor([1.0]),
        tg.tensor(np.ones(2)),
        nn.Linear(2, 3).W,
        nn.init.zeros((2,)),
        nn.LSTMCell(2, 3).initial_state(1).h,
    ]
    assert {t.device for t in made} == {"gpu:0"}
    assert tg.tensor([1.0], device="cpu").device == "cpu"
    tg.set_default_device("cpu")
    assert tg.tensor([1.0]).device == "cpu"


def test_cuda_is_another_name_for_gpu(default):
    tg.set_default_device("cuda")
    assert tg.tensor([1.0]).device == "gpu:0"
    assert tg.tensor([1.0], device="cuda:0").to("cuda").device == "gpu:0"
    assert tg.tensor([1.0], device="cpu").to("cuda:0").device == "gpu:0"


def test_a_block_sets_the_device_for_its_length_also_when_it_fails(cupy):
    with tg.device("gpu"):
        with tg.device("cpu"):
            assert tg.tensor([1.0]).device == "cpu"
        assert tg.tensor([1.0]).device == "gpu:0"
    assert tg.tensor([1.0]).device == "cpu"
    with pytest.raises(ZeroDivisionError), tg.device("gpu"):
        1 / 0  # noqa: B018
    assert tg.default_device() == "cpu"


def test_a_block_is_for_its_own_thread_only(cupy):
    found = []
    with tg.device("gpu"):
        thread = threading.Thread(target=lambda: found.append(tg.default_device()))
        thread.start()
        thread.join()
    assert found == ["cpu"]


def test_a_second_gpu_computes_inside_its_block(two_gpus):
    with tg.device("gpu:1"):
        x = tg.tensor(np.arange(3.0), requires_grad=True)
        (ops.softmax(x * 2) ** 2).sum().backward()
        assert x.grad.device == "gpu:1"
    y = tg.tensor(np.arange(3.0), requires_grad=True)
    (ops.softmax(y * 2) ** 2).sum().backward()
    np.testing.assert_allclose(x.grad.numpy(), y.grad.numpy())


# ---- moving --------------------------------------------------------------------------------------------------------


def test_a_tensor_goes_to_a_device_and_back_with_its_values_and_gradient(cupy):
    x = tg.tensor(np.arange(3.0), requires_grad=True)
    there = x.to("gpu")
    assert (there.device, there.dtype) == ("gpu:0", np.float64)
    back = (there * there).to("cpu")
    np.testing.assert_array_equal(back.numpy(), [0, 1, 4])
    back.sum().backward()
    assert x.grad.device == "cpu"
    np.testing.assert_array_equal(x.grad.numpy(), [0, 2, 4])
    assert tg.gradcheck(lambda x: x.to("gpu").exp().to("cpu") * x, x)


def test_to_the_same_device_or_dtype_is_the_tensor_itself(cupy):
    x = tg.tensor([1.0])
    assert x.to("cpu") is x
    assert x.to("float32") is x
    assert x.to("gpu").to("gpu:0").device == "gpu:0"


def test_tensors_move_between_gpus(two_gpus):
    x = tg.tensor(np.arange(3.0), device="gpu:0")
    there = x.to("gpu:1")
    assert there.device == "gpu:1"
    np.testing.assert_array_equal(there.to("gpu:0").numpy(), [0, 1, 2])


def test_a_new_tensor_goes_where_device_says_else_an_array_stays_and_lists_go_to_the_default(gpu, cupy):
    array = cupy.asarray(np.arange(3.0))
    with tg.device("cpu"):
        assert tg.tensor(array).device == "gpu:0"
        assert tg.tensor(array, device="cpu").device == "cpu"
        assert tg.tensor(tg.tensor(array)).device == "gpu:0"
    copied = tg.tensor(array)
    array[...] = 0
    assert copied.tolist() == [0, 1, 2]
    assert tg.tensor(np.ones(2)).device == "gpu:0"
    assert tg.tensor(np.ones(2), device="cpu").device == "cpu"


def test_a_module_goes_to_a_device_and_back_with_its_values_gradients_and_identity(cupy):
    model = nn.Recurrent(nn.Stack([nn.LSTMCell(2, 3), nn.GRUCell(3, 2)]))
    xs = np.random.default_rng(0).standard_normal((4, 2, 2)).astype(np.float32)
    ys, _ = model(tg.tensor(xs))
    ys.sum().backward()
    parameters, state = list(model.parameters()), model.state_dict()
    grads = [p.grad.numpy() for p in parameters]
    assert model.to("gpu") is model
    assert {p.device for p in model.parameters()} == {p.grad.device for p in parameters} == {"gpu:0"}
    assert all(type(v) is np.ndarray for v in model.state_dict().values())
    there, _ = model(tg.tensor(xs, device="gpu"))
    assert there.device == "gpu:0"
    np.testing.assert_allclose(there.numpy(), ys.numpy(), rtol=1e-5, atol=1e-6)
    there.sum().backward()
    model.to("cpu")
    assert all(a is b for a, b in zip(parameters, model.parameters(), strict=True))
    for p, g in zip(parameters, grads, strict=True):
        np.testing.assert_allclose(p.grad.numpy(), 2 * g, rtol=1e-4, atol=1e-6)
    for path, value in model.state_dict().items():
        np.testing.assert_array_equal(value, state[path])


def test_a_module_on_a_gpu_loads_what_was_saved_on_the_cpu(gpu):
    source, target = (nn.Linear(2, 3) for _ in range(2))
    target.load_state_dict(source.to("cpu").state_dict())
    assert target.W.device == "gpu:0"
    np.testing.assert_array_equal(target.W.numpy(), source.W.numpy())


def test_updates_in_no_grad_stay_on_the_device(gpu):
    w = tg.tensor([1.0, 2.0], requires_grad=True)
    (w * w).sum().backward()
    with tg.no_grad():
        w -= 0.5 * w.grad
        w.data = np.array([3.0, 4.0]) * w.numpy() + 1
    assert (w.device, w.tolist()) == ("gpu:0", [1, 1])


# ---- reading -------------------------------------------------------------------------------------------------------


def test_a_tensor_on_a_gpu_gives_numbers_and_host_arrays_when_asked(gpu):
    t = tg.tensor(np.array([1.5, 2.5]))
    assert type(t.numpy()) is np.ndarray
    assert t.tolist() == [1.5, 2.5]
    assert (t[0].item(), float(t[1]), bool(t[0] > 1), int(t[1])) == (1.5, 2.5, True, 2)
    assert ["a", "b"][tg.tensor(1)] == "b"
    assert repr(t) == 'tensor([1.5, 2.5], dtype=float64, device="gpu:0")'
    assert [x.item() for x in t] == [1.5, 2.5]
    assert t.__dlpack_device__() == (2, 0)


def test_numpy_does_not_read_a_gpu_unasked(gpu):
    with pytest.raises(TypeError, match=r"^Tensor: it is on gpu:0.*\.numpy\(\)"):
        np.asarray(tg.tensor([1.0]))


# ---- mixing --------------------------------------------------------------------------------------------------------

MIXED = {
    "add": lambda a, b: a + b,
    "mul": lambda a, b: a * b,
    "div": lambda a, b: b / a,
    "pow": lambda a, b: a**b,
    "greater": lambda a, b: a > b,
    "maximum": ops.maximum,
    "matmul": lambda a, b: a @ b,
    "where": lambda a, b: ops.where(a > 0, b, 0),
    "where ": lambda a, b: ops.where(b > 0, b, a),
    "concat": lambda a, b: ops.concat([a, b]),
    "stack": lambda a, b: ops.stack([a, b]),
    "einsum": lambda a, b: ops.einsum("ij,jk->ik", a, b),
}


@pytest.mark.parametrize("raw", [False, True], ids=["tensor", "numpy array"])
@pytest.mark.parametrize("name", MIXED)
def test_mixing_devices_names_both_in_one_line(name, raw, cupy):
    a = np.ones((2, 2)) if raw and not name.startswith(("concat", "stack")) else tg.tensor(np.ones((2, 2)))
    b = tg.tensor(np.ones((2, 2)), device="gpu", requires_grad=True)
    with pytest.raises(
        ValueError, match=rf"^{name.strip()}: operands must be on one device, got (cpu and gpu:0|gpu:0 and cpu)"
    ):
        MIXED[name](a, b)


def test_mixing_devices_names_both_for_a_tensor_without_axes(cupy):
    with pytest.raises(ValueError, match=r"^mul: operands must be on one device, got cpu and gpu:0"):
        tg.tensor(2.0) * tg.tensor([1.0, 2.0], device="gpu")


def test_mixing_two_gpus_names_both(two_gpus):
    with pytest.raises(ValueError, match=r"^add: operands must be on one device, got gpu:0 and gpu:1"):
        tg.tensor([1.0, 2.0], device="gpu:0") + tg.tensor([1.0, 2.0], device="gpu:1")


def test_numbers_of_python_and_numpy_go_with_every_device(gpu):
    x = tg.tensor(np.array([1.0, 2.0]), requires_grad=True)
    y = np.float64(2) * x + 1 - x / np.float64(4) + x**2 + 2**x + np.float64(1)
    np.testing.assert_allclose(y.numpy(), [6.75, 13.5])
    np.testing.assert_allclose(tg.grad(y.sum(), x).numpy(), [1.75 + 2 + 2 * np.log(2), 1.75 + 4 + 4 * np.log(2)])


# ---- no GPU --------------------------------------------------------------------------------------------------------


def broken(available, driver, runtime, compute=None):
    """A module cupy whose GPU cannot be used."""

    def version(number):
        if isinstance(number, Exception):
            raise number
        return number

    def ones(*_):
        raise compute

    versions = SimpleNamespace(
        driverGetVersion=lambda: version(driver), runtimeGetVersion=lambda: version(runtime), getDeviceCount=lambda: 1
    )
    return SimpleNamespace(
        cuda=SimpleNamespace(is_available=lambda: available, runtime=versions), ones=ones, ndarray=int
    )


INSTALL = r'pip install "tinygrad-rnn\[cuda13\]"'
CAUSES = {
    "CuPy is not installed": (None, f"CuPy is not installed; {INSTALL}"),
    "no driver": (broken(False, 0, 13000), 'no NVIDIA driver or no GPU on this machine; .* use device "cpu"$'),
    "the driver cannot be asked": (broken(False, OSError("no"), 13000), "no NVIDIA driver or no GPU on this machine; "),
    "no GPU": (broken(False, 13000, 13000), 'no NVIDIA driver or no GPU on this machine; .* use device "cpu"$'),
    "the driver is too old": (
        broken(False, 12020, 13010),
        r"the NVIDIA driver is too old \(it serves CUDA 12\.2, CuPy needs 13\.1\); update the driver",
    ),
    "a library is missing": (
        broken(True, 13000, 13000, ImportError("libcublas.so.13: cannot open\nmore")),
        rf"CUDA libraries are missing or do not fit \(libcublas\.so\.13: cannot open\); {INSTALL}",
    ),
    "an error without words": (
        broken(True, 13000, 13000, RuntimeError()),
        r"CUDA libraries are missing or do not fit \(RuntimeError\); ",
    ),
}
DOORS = {
    "set_default_device": lambda: tg.set_default_device("gpu"),
    "device": lambda: tg.device("gpu").__enter__(),
    "tensor": lambda: tg.tensor([1.0], device="gpu"),
    "Tensor.to": lambda: tg.tensor([1.0]).to("gpu"),
    "Module.to": lambda: nn.Linear(1, 1).to("cuda"),
}


@pytest.mark.parametrize("door", DOORS.values(), ids=DOORS)
@pytest.mark.parametrize("module, message", CAUSES.values(), ids=CAUSES)
def test_without_a_gpu_every_door_says_why_and_what_to_do_in_one_line(module, message, door, monkeypatch):
    monkeypatch.setitem(sys.modules, "cupy", module)
    with pytest.raises(RuntimeError, match=f'^device "gpu": {message}') as caught:
        door()
    assert "\n" not in str(caught.value)
    assert tg.default_device() == "cpu"


def test_a_cupy_that_cannot_be_imported_says_so(monkeypatch, tmp_path):
    (tmp_path / "cupy.py").write_text("raise ImportError('libnvrtc.so.13: no such file')")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "cupy", raising=False)
    with pytest.raises(RuntimeError, match=rf'^device "gpu": CUDA libraries are missing \(libnvrtc.*\); {INSTALL}'):
        tg.set_default_device("gpu")


def test_a_package_that_cupy_misses_is_not_taken_for_cupy(monkeypatch, tmp_path):
    (tmp_path / "cupy.py").write_text("import a_package_that_nobody_has")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "cupy", raising=False)
    with pytest.raises(RuntimeError, match="a_package_that_nobody_has"):
        tg.set_default_device("gpu")


def test_a_gpu_that_is_not_there_is_named(cupy):
    with pytest.raises(RuntimeError, match=r'^device "gpu:99": this machine has \d+ GPU\(s\), numbered from 0$'):
        tg.tensor([1.0], device="gpu:99")


# ---- the stand-in is as strict as CuPy -----------------------------------------------------------------------------

REFUSED = {
    "conversion": lambda c, a: np.asarray(a),
    "an operator with a numpy array": lambda c, a: a + np.ones(3),
    "an operator on a numpy array": lambda c, a: np.ones(3) * a,
    "an update by a numpy array": lambda c, a: a.__iadd__(np.ones(3)),
    "NumPy's function with a numpy array": lambda c, a: np.maximum(a, np.ones(3)),
    "NumPy's join with a numpy array": lambda c, a: np.concatenate([a, np.ones(3)]),
    "CuPy's join of numpy arrays": lambda c, a: c.concatenate([np.ones(3), np.ones(3)]),
    "a function with a numpy array": lambda c, a: c.where(a > 0, a, np.ones(3)),
    "matmul with a numpy array": lambda c, a: a @ np.ones(3),
    "max with an initial value": lambda c, a: a.max(initial=0),
    "flags": lambda c, a: a.setflags(write=False),
    "objects": lambda c, a: c.asarray(["text"]),
    "an index": lambda c, a: [1, 2][c.asarray(1)],
    "a condition that is no array": lambda c, a: c.where(True, a, a),
}


@pytest.mark.parametrize("call", REFUSED.values(), ids=REFUSED)
def test_cupy_refuses(call, cupy):
    with pytest.raises((TypeError, AttributeError, ValueError)):
        call(cupy, cupy.asarray(np.ones(3)))


@pytest.mark.skipif(
    REAL_GPU, reason="CuPy takes it; the stand-in does not, for elsewhere NumPy's function is asked first"
)
def test_the_stand_in_refuses_the_method_at_of_numpy(cupy):
    with pytest.raises((TypeError, AttributeError, ValueError)):
        np.add.at(cupy.asarray(np.ones(3)), cupy.asarray([0]), 1.0)


def test_cupy_wraps_indices_and_returns_arrays_of_reductions(cupy):
    a = cupy.asarray(np.arange(3.0))
    assert a[cupy.asarray([4, -1])].tolist() == [1, 2]
    assert isinstance(a.sum(), cupy.ndarray)
    assert isinstance(np.exp(a), cupy.ndarray)
    assert isinstance(np.float64(2) * a, cupy.ndarray)
    assert isinstance(a[0], cupy.ndarray)


@pytest.mark.parametrize("make, value", [(tg.zeros, 0), (tg.ones, 1)])
def test_filled_tensors_have_the_shape_dtype_and_device_that_are_asked_for(make, value, device):
    for made, shape in (make(2, 3), (2, 3)), (make((2, 3)), (2, 3)), (make(), ()), (make(4), (4,)):
        assert (made.shape, made.dtype, made.device) == (shape, np.float32, tg.default_device())
        np.testing.assert_array_equal(made.numpy(), np.full(shape, value))
    assert make(2, dtype="float64", device="cpu").dtype == np.float64
