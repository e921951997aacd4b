"""The stand-in beside CuPy itself, where that is installed; what it has can be asked for without a GPU."""

import inspect
import itertools
import re
import types

import numpy as np
import pytest
import strict_cupy

from strict_cupy import cuda, functions

OWN = {"counted", "modules", "ModuleType"}
OFFERED = {
    name: thing
    for name, thing in vars(strict_cupy).items()
    if not name.startswith("_") and name not in OWN and not isinstance(thing, types.ModuleType)
}
UFUNCS = {name: f for name, f in OFFERED.items() if isinstance(f, functions.Ufunc)}
FUNCTIONS = {name: f for name, f in OFFERED.items() if isinstance(f, types.FunctionType)}
DOORS = [
    "Device", "Event", "Stream", "alloc_pinned_memory", "compiler", "get_current_stream", "get_device_id",
    "is_available", "memory", "nvrtc", "runtime",
]  # fmt: skip
METHODS = {name: f for name, f in vars(strict_cupy.ndarray).items() if not name.startswith("_")}


@pytest.fixture
def real():
    return pytest.importorskip("cupy")


def parameters(function):
    """Their names, from the signature or, for what is compiled, from its first line of help."""
    try:
        return set(inspect.signature(function).parameters)
    except ValueError:
        found = re.match(r"[\w.]+\((.*?)\)(?: ->|$)", function.__doc__.split("\n")[0])
        return {part.split("=")[0].split()[-1].strip("*") for part in found[1].split(",")}


def test_the_stand_in_has_nothing_that_cupy_lacks(real):
    assert [name for name in OFFERED if not hasattr(real, name)] == []
    assert [name for name in METHODS if not hasattr(real.ndarray, name)] == []
    assert [name for name in DOORS if not hasattr(real.cuda, name)] == []
    assert [name for name in vars(cuda.runtime) if not hasattr(real.cuda.runtime, name)] == []


def test_functions_and_methods_have_cupys_parameters(real):
    unknown = {}
    for module, mine in (real, FUNCTIONS), (real.ndarray, {n: f for n, f in METHODS.items() if callable(f)}):
        for name, function in mine.items():
            theirs = parameters(getattr(module, name))
            if not theirs & {"args", "kwargs"}:
                unknown[name] = parameters(function) - theirs
    assert {name: more for name, more in unknown.items() if more} == {}


def test_results_have_cupys_dtypes(real):
    """NumPy's loops are CuPy's: of the first loop to whose types all operands can be cast."""
    for name, ufunc in UFUNCS.items():
        loops = [loop.split("->") for loop in getattr(real, name).types]
        for dtypes in itertools.product("bBhHiIlLefd", repeat=ufunc.ufunc.nin):
            expected = next((out for given, out in loops if all(map(np.can_cast, dtypes, given))), None)
            if expected is not None:
                with np.errstate(all="ignore"):
                    found = ufunc.ufunc(*(np.ones(2, dtype) for dtype in dtypes)).dtype
                assert found == np.dtype(expected[0]), (name, dtypes)
