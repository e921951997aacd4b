"""The device that a test runs on: NumPy, and CuPy, or a strict stand-in for it where there is no GPU. And where the
machine code of the tests is kept."""

import gc
import importlib.util
import os
import signal
import sys

from pathlib import Path

import pytest
import strict_cupy

import tinygrad_rnn as tg

# Shared by the processes of a run, by runs after it, and by what tests start; never the user's own.
os.environ.setdefault("TINYGRAD_RNN_CACHE", str(Path(__file__).parents[1] / ".pytest_cache" / "machine-code"))


def pytest_configure(config):
    """Check every pass over every circuit, but not in the slow tests, most of which are cells drawn at random. And hear
    Ctrl-C, as what tests start does, also where a shell has put us into the background."""
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    os.environ.setdefault("TINYGRAD_RNN_VERIFY", "0" if config.option.markexpr == "slow" else "1")


@pytest.fixture
def without_pictures(monkeypatch):
    """Runs from the command line draw nothing at their end, which takes longer than they do."""
    monkeypatch.setattr("tinygrad_rnn.cli.language_model.draw_to", lambda *_, **__: None)
    monkeypatch.setattr("tinygrad_rnn.cli.training.loss_curve", lambda *_: None)


def _real_gpu():
    if importlib.util.find_spec("cupy") is None:
        return False
    import cupy

    return cupy.cuda.is_available()


REAL_GPU = _real_gpu()
GPU = pytest.param("gpu", id="gpu" if REAL_GPU else "stand-in")


@pytest.fixture
def cupy(monkeypatch):
    """The module cupy: the real one on a machine with a GPU, else the stand-in, for the length of a test."""
    if not REAL_GPU:
        for name, module in strict_cupy.modules().items():
            monkeypatch.setitem(sys.modules, name, module)
    return sys.modules["cupy"]


@pytest.fixture(params=["cpu", GPU])
def device(request):
    """ "cpu", then "gpu", as the default device of the test."""
    if request.param == "gpu":
        request.getfixturevalue("cupy")
    with tg.device(request.param):
        yield request.param


@pytest.fixture(params=[GPU])
def gpu(request, cupy):
    """The default device of the test is a GPU."""
    with tg.device("gpu"):
        yield "gpu"


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
    """Who computes on a GPU, or on the stand-in for one, is marked so: `pytest -m gpu` runs these."""
    for item in items:
        parameters = item.callspec.params if hasattr(item, "callspec") else {}
        if "cupy" in getattr(item, "fixturenames", ()) or parameters.get("device") == "gpu":
            item.add_marker("gpu")


@pytest.fixture
def default(cupy):
    """Afterwards the default device is what it was."""
    before = tg.default_device()
    yield
    tg.set_default_device(before)
    cupy.cuda.Device(0).use()


def pytest_collection_finish():
    """Modules and tests stay to the end: the search for garbage passes them over, and runs less often."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(10_000, 20, 20)


@pytest.fixture(autouse=True)
def seeded():
    """The same initial weights in every run of a test."""
    tg.manual_seed(0)
