"""Every public object says what it is: `help`, and the reference that is made of it, have no gap."""

import importlib
import inspect

import pytest

import tinygrad_rnn as tg

PARTS = ["ops", "nn", "nn.init", "optim", "data", "decode", "metrics", "export", "torch_weights", "keras_weights"]
MODULES = ["tinygrad_rnn", *(f"tinygrad_rnn.{part}" for part in [*PARTS, "tasks", "parallel"]), "viz"]


def gaps(cls):
    """The public methods and properties of a class, those from our other classes too, that have no docstring."""
    ours = [base for base in cls.__mro__ if base.__module__.partition(".")[0] in ("tinygrad_rnn", "viz")]
    parts = {name: part for base in ours for name, part in vars(base).items() if not name.startswith("_")}
    kinds = property | classmethod | staticmethod
    called = [n for n, part in parts.items() if inspect.isroutine(part) or isinstance(part, kinds)]
    return [name for name in called if not inspect.getdoc(getattr(cls, name))]


@pytest.mark.parametrize("name", MODULES)
def test_every_public_object_has_a_docstring(name):
    module = importlib.import_module(name)
    assert module.__doc__
    public = {n: getattr(module, n) for n in module.__all__}
    kinds = [n for n, thing in public.items() if inspect.isclass(thing) or inspect.isroutine(thing)]
    assert [n for n in kinds if not inspect.getdoc(public[n])] == []


@pytest.mark.parametrize("name", MODULES)
def test_every_public_method_has_a_docstring(name):
    module = importlib.import_module(name)
    classes = {n: thing for n in module.__all__ if inspect.isclass(thing := getattr(module, n))}
    assert {n: found for n, cls in classes.items() if (found := gaps(cls))} == {}


def test_a_method_of_one_line_has_the_docstring_of_the_op_that_it_calls():
    assert tg.Tensor.topk.__doc__.endswith(tg.ops.topk.__doc__)
    assert tg.Tensor.expand.__doc__.startswith("`ops.broadcast_to` of this tensor.")


def test_a_gap_is_found():
    class Bare(tg.nn.Cell):
        def unsaid(self):
            return self

    Bare.__module__ = "tinygrad_rnn.tests"
    assert gaps(Bare) == ["unsaid"]
