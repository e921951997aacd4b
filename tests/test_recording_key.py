"""What a recorded step is recorded for: all that its code can reach. Each cell here is changed between two calls."""

import collections
import copy
import dataclasses
import datetime
import enum
import functools
import importlib
import importlib.util
import itertools
import logging
import operator
import os
import random
import re
import secrets
import sys
import threading
import time
import types
import typing
import warnings

from pathlib import Path

import numpy as np
import pytest

import tinygrad_rnn as tg

from tinygrad_rnn import nn, ops, optim
from tinygrad_rnn.autograd.primitive import primitive
from tinygrad_rnn.nn import recordings as lookup
from tinygrad_rnn.nn.capture.walk import Walk

T, B, I, H = 5, 2, 3, 4
pytestmark = pytest.mark.filterwarnings("ignore:Recurrent. .* runs slower than it might")

without_llvmlite = pytest.mark.skipif(importlib.util.find_spec("llvmlite") is None, reason="llvmlite is not installed")
every_engine = pytest.mark.parametrize(
    "engine", ["numpy", pytest.param("llvm", marks=[without_llvmlite, pytest.mark.slow])]
)


@pytest.fixture(autouse=True)
def names_of_this_module():
    """The tests change what stands here."""
    before = dict(globals())
    yield
    globals().clear()
    globals().update(before)


class Base(nn.Cell):
    """tanh(x U + h W), and what `turned` makes of it."""

    def __init__(self):
        rng = np.random.default_rng(1)
        self.U = nn.Parameter(rng.normal(size=(I, H)))
        self.W = nn.Parameter(0.5 * rng.normal(size=(H, H)))

    def initial_state(self, batch_size):
        return self.zeros(batch_size, H)

    def forward(self, x, h):
        h = self.turned(ops.tanh(x @ self.U + h @ self.W))
        return h, h

    def turned(self, h):
        raise NotImplementedError


def cell(turned, **attributes):
    """A cell whose `turned` is a function of (self, h), with attributes of its own."""
    made = type("Made", (Base,), {"turned": turned})()
    for name, value in attributes.items():
        setattr(made, name, value)
    return made


def sequence(seed=0, steps=T):
    return tg.tensor(np.random.default_rng(seed).normal(size=(steps, B, I)), requires_grad=True)


# ---- what modules hold ----------------------------------------------------------------------------------------------

NUMBER, ARRAY, TENSOR = 0.9, np.ones(H), tg.tensor(np.ones(H))
RATES = {"first": [1.0, 0.5]}
config = types.ModuleType("config")


def helper(h):
    return second_helper(h) * 0.5


def second_helper(h):
    return h * NUMBER


FIRST = helper


def module_cell(turned, **names):
    """A cell that reads these names in its module; they are set anew for each test."""
    globals().update(names)
    return cell(turned)


def set_global(name, value):
    return lambda _: globals().__setitem__(name, value)


def set_attribute(path, value):
    """Set an attribute at a path from the cell, or an item in square brackets."""

    def change(thing):
        *way, last = path
        for name in way:
            thing = getattr(thing, name)
        setattr(thing, last, value) if isinstance(last, str) else thing.__setitem__(*last, value)

    return change


def write(thing, value):
    thing[...] = value


def a_number():
    return module_cell(lambda self, h: h * NUMBER, NUMBER=0.9), set_global("NUMBER", 0.3)


def a_number_that_loses_its_sign():
    turned = lambda self, h: h * (2.0 if np.signbit(NUMBER) else 1.0)
    return module_cell(turned, NUMBER=0.0), set_global("NUMBER", -0.0)


def an_array():
    return module_cell(lambda self, h: h * ARRAY, ARRAY=np.ones(H)), set_global("ARRAY", np.arange(H) / H)


def an_array_that_is_written():
    return module_cell(lambda self, h: h * ARRAY, ARRAY=np.ones(H)), lambda _: write(ARRAY, 0.25)


def an_item_of_an_array():
    return module_cell(lambda self, h: h * float(ARRAY[1]), ARRAY=np.ones(H)), lambda _: write(ARRAY, 0.25)


def an_item_of_a_large_array():
    turned = lambda self, h: h * ARRAY[2, :H]
    return module_cell(turned, ARRAY=np.ones((3, 1 << 14))), lambda _: write(ARRAY[2], 0.25)


def a_number_in_a_large_array():
    turned = lambda self, h: h * float(self.table[5, 7])
    return cell(turned, table=np.ones((9, 1 << 14))), lambda cell: write(cell.table, 0.25)


def a_large_array():
    turned = lambda self, h: (h.unsqueeze(-1) * self.table).sum(-1)
    return cell(turned, table=np.ones((H, 1 << 14))), lambda cell: write(cell.table, 0.25)


def a_tensor():
    new = tg.tensor(np.arange(H) / H)
    return module_cell(lambda self, h: h * TENSOR, TENSOR=tg.tensor(np.ones(H))), set_global("TENSOR", new)


def a_tensor_that_was_computed():
    turned = lambda self, h: h * TENSOR
    one, other = (tg.tensor(np.ones(H), requires_grad=True) * k for k in (2.0, 0.5))
    return module_cell(turned, TENSOR=one), set_global("TENSOR", other)


def a_number_deep_in_a_dict():
    turned = lambda self, h: h * RATES["first"][1]
    return module_cell(turned, RATES={"first": [1.0, 0.5]}), lambda _: RATES["first"].__setitem__(1, 2.0)


def a_number_of_another_module():
    config.ALPHA = 0.9
    return cell(lambda self, h: h * config.ALPHA), lambda _: setattr(config, "ALPHA", 0.2)


def a_number_of_another_module_by_a_computed_name():
    config.ALPHA = 0.9
    return cell(lambda self, h: h * getattr(config, "AL" + "PHA")), lambda _: setattr(config, "ALPHA", 0.2)


def what_a_helper_reads():
    return module_cell(lambda self, h: helper(h), NUMBER=0.9), set_global("NUMBER", 0.3)


def a_helper():
    return module_cell(lambda self, h: helper(h), helper=FIRST), set_global("helper", lambda h: h * h)


def what_a_comprehension_reads():
    turned = lambda self, h: sum([h * NUMBER for _ in range(2)])
    return module_cell(turned, NUMBER=0.9), set_global("NUMBER", 0.3)


class Pair(typing.NamedTuple):
    h: object
    rate: float


def what_a_named_tuple_made_in_the_step_reads():
    turned = lambda self, h: Pair(h, NUMBER).h * Pair(h, NUMBER).rate
    return module_cell(turned, NUMBER=0.9), set_global("NUMBER", 0.3)


class Sharp(nn.Attention):
    """The library's forward calls a method of the user's."""

    def scores(self, query, keys):
        return super().scores(query, keys) * NUMBER


def what_a_method_reads_that_the_library_calls():
    memory = tg.tensor(np.random.default_rng(3).normal(size=(B, 6, H)))
    turned = lambda self, h: self.attend(h, nn.Memory(self.memory, self.memory, None))[0]
    globals()["NUMBER"] = 0.9
    return cell(turned, attend=Sharp(), memory=memory), set_global("NUMBER", 0.3)


class Scaled(nn.GRUCell):
    """A cell of the library's with an output of its own."""

    def forward(self, x, state):
        y, state = super().forward(x, state)
        return y * NUMBER, state


def what_a_cell_derived_from_the_library_s_reads():
    globals()["NUMBER"] = 0.9
    tg.manual_seed(0)
    return Scaled(I, H).to("float64"), set_global("NUMBER", 0.3)


@primitive
def cube(x):
    """x³, whose derivative reads a number."""
    return x * x * x


cube.vjp(x=lambda g, x: g * 3 * x * x * NUMBER)


def a_variable_of_the_environment():
    os.environ["TEST_RECORDING_KEY"] = "0.9"
    turned = lambda self, h: h * float(os.environ.get("TEST_RECORDING_KEY", "1"))
    return cell(turned), lambda _: os.environ.pop("TEST_RECORDING_KEY")


def a_module_imported_in_the_step():
    def turned(self, h):
        from test_recording_key import config as here

        return h * here.ALPHA

    sys.modules.setdefault("test_recording_key", sys.modules[__name__])
    config.ALPHA = 0.9
    return cell(turned), lambda _: setattr(config, "ALPHA", 0.2)


def what_a_class_made_in_the_step_reads():
    class Gate:
        def __init__(self, h):
            self.h = h * NUMBER

        def open(self):
            return self.h * 0.5

    return module_cell(lambda self, h: Gate(h).open(), NUMBER=0.9), set_global("NUMBER", 0.3)


# ---- classes --------------------------------------------------------------------------------------------------------


class WithRate(Base):
    rate = 0.9

    def turned(self, h):
        return h * self.rate


class Child(WithRate):
    pass


class WithProperty(Base):
    @property
    def rate(self):
        return NUMBER

    def turned(self, h):
        return h * self.rate


class WithStatic(Base):
    @staticmethod
    def twice(h):
        return h * NUMBER

    @classmethod
    def thrice(cls, h):
        return h * cls.factor

    factor = 3.0

    def turned(self, h):
        return self.twice(h) + self.thrice(h)


class WithSuper(WithRate):
    def turned(self, h):
        return super().turned(h) * 0.5


def fresh(kind):
    """A class derived from this one, so that a change of it stays in one test."""
    return type(kind.__name__, (kind,), dict(vars(kind)) if kind.__name__ != "WithSuper" else {})


def a_number_of_a_class():
    kind = fresh(WithRate)
    return kind(), lambda _: setattr(kind, "rate", 0.3)


def a_number_of_a_base_class():
    base = fresh(WithRate)
    kind = type("Child", (base,), {})
    return kind(), lambda _: setattr(base, "rate", 0.3)


def a_number_that_a_class_gets():
    kind = type("Child", (fresh(WithRate),), {})
    return kind(), lambda _: setattr(kind, "rate", 0.3)


def a_number_that_hides_a_class_s():
    return fresh(WithRate)(), lambda cell: setattr(cell, "rate", 0.3)


def what_a_property_reads():
    globals()["NUMBER"] = 0.9
    return WithProperty(), set_global("NUMBER", 0.3)


def what_a_static_method_reads():
    globals()["NUMBER"] = 0.9
    return WithStatic(), set_global("NUMBER", 0.3)


def what_a_class_method_reads():
    kind = fresh(WithStatic)
    return kind(), lambda _: setattr(kind, "factor", 1.0)


def what_super_reads():
    kind = type("Child", (WithSuper,), {"rate": 0.9})
    return kind(), lambda _: setattr(kind, "rate", 0.3)


def a_method():
    kind = fresh(WithRate)
    return kind(), lambda _: setattr(kind, "turned", lambda self, h: h * h)


def a_method_of_one_object():
    return WithRate(), lambda cell: setattr(cell, "turned", types.MethodType(lambda self, h: h * h, cell))


def the_code_of_a_function():
    def turned(self, h):
        return h * 0.5

    def other(self, h):
        return h * h

    return cell(turned), lambda _: setattr(turned, "__code__", other.__code__)


# ---- what functions hold --------------------------------------------------------------------------------------------


def a_variable_of_an_outer_function():
    rate = 0.9

    def change(_):
        nonlocal rate
        rate = 0.3

    return cell(lambda self, h: h * rate), change


def parameters_outside_of_the_cell():
    p = {"W": nn.Parameter(0.5 * np.eye(H))}
    return cell(lambda self, h: h @ p["W"]), lambda _: p.update(W=nn.Parameter(np.ones((H, H))))


def a_default_argument():
    def turned(self, h, rate=0.9):
        return h * rate

    return cell(turned), lambda _: setattr(turned, "__defaults__", (0.3,))


def a_variable_of_an_outer_function_that_is_set_later():
    def made():
        def turned(self, h):
            try:
                return h * late
            except NameError:
                return h * 0.9

        def change(_):
            nonlocal late
            late = 0.3

        if turned is None:
            late = 0.0
        return turned, change

    turned, change = made()
    return cell(turned), change


def a_list_as_default_argument():
    rates = [0.9]

    def turned(self, h, *, rates=rates):
        return h * rates[0]

    return cell(turned), lambda _: write_item(rates, 0, 0.3)


def write_item(thing, key, value):
    thing[key] = value


def an_attribute_of_a_function():
    def rate():
        return rate.value

    rate.value = 0.9
    return cell(lambda self, h: h * rate()), lambda _: setattr(rate, "value", 0.3)


def a_partial():
    rates = [0.9]
    return cell(
        lambda self, h: self.turn(h), turn=functools.partial(lambda r, h: h * r[0], rates)
    ), lambda _: write_item(rates, 0, 0.3)


def a_decorated_method():
    def scaled(function):
        @functools.wraps(function)
        def inner(self, h):
            return function(self, h) * NUMBER

        return inner

    return module_cell(scaled(lambda self, h: h * h), NUMBER=0.9), set_global("NUMBER", 0.3)


# ---- objects --------------------------------------------------------------------------------------------------------


class Annealed:
    def __init__(self):
        self.t = 0

    def __call__(self):
        return 0.5**self.t

    def value(self):
        return 0.5**self.t


class Slotted:
    __slots__ = ("t",)

    def __init__(self):
        self.t = 0

    def value(self):
        return 0.5**self.t


@dataclasses.dataclass
class Settings:
    t: int = 0
    inner: object = None


class AttributeDict(dict):
    __getattr__ = dict.__getitem__


class Number:
    def __init__(self, value):
        self.value = value

    def __mul__(self, h):
        return h * self.value


def a_schedule_that_is_called():
    return cell(lambda self, h: h * self.rate(), rate=Annealed()), set_attribute(["rate", "t"], 3)


def a_schedule_with_a_method():
    return cell(lambda self, h: h * self.rate.value(), rate=Annealed()), set_attribute(["rate", "t"], 3)


def a_bound_method():
    rate = Annealed()
    return cell(lambda self, h: h * self.rate(), rate=rate.value), lambda _: setattr(rate, "t", 3)


def a_schedule_in_slots():
    return cell(lambda self, h: h * self.rate.value(), rate=Slotted()), set_attribute(["rate", "t"], 3)


def a_schedule_of_an_optimiser():
    def change(cell):
        cell.t = 5

    return cell(lambda self, h: h * self.rate(self.t), rate=optim.cosine(1.0, 10), t=0), change


def a_namespace():
    space = types.SimpleNamespace(t=0.9)
    return cell(lambda self, h: h * self.space.t, space=space), set_attribute(["space", "t"], 0.3)


def a_namespace_in_the_module():
    globals()["space"] = types.SimpleNamespace(t=0.9)
    return cell(lambda self, h: h * space.t), lambda _: setattr(space, "t", 0.3)


space = None


def a_dataclass():
    return cell(lambda self, h: h * 0.5**self.s.inner.t, s=Settings(0, Settings(0))), set_attribute(
        ["s", "inner", "t"], 3
    )


def a_dict_of_attributes():
    return cell(lambda self, h: h * self.s.t, s=AttributeDict(t=0.9)), lambda cell: cell.s.update(t=0.3)


def an_operand_of_a_class_of_its_own():
    return cell(lambda self, h: self.k * h, k=Number(0.9)), set_attribute(["k", "value"], 0.3)


def a_set():
    return cell(lambda self, h: h * len(self.s), s={1, 2}), lambda cell: cell.s.add(3)


def a_frozen_set():
    return cell(lambda self, h: h * sum(self.s), s=frozenset({1, 2})), set_attribute(["s"], frozenset({5}))


def a_deque():
    return cell(lambda self, h: h * sum(self.s), s=collections.deque([1, 2], 2)), lambda cell: cell.s.append(7)


def a_bytearray():
    return cell(lambda self, h: h * self.s[0], s=bytearray([1, 2])), lambda cell: write_item(cell.s, 0, 3)


def a_counter_in_a_numpy_array():
    return cell(lambda self, h: h * int(self.n[0]), n=np.ones(1, int)), lambda cell: write(cell.n, 3)


def a_getter_made_elsewhere():
    globals()["getter"] = operator.attrgetter("inner.t")
    return cell(lambda self, h: h * 0.5 ** getter(self.s), s=Settings(0, Settings(0))), set_attribute(
        ["s", "inner", "t"], 3
    )


def a_caller_made_elsewhere():
    globals()["getter"] = operator.methodcaller("value")
    return cell(lambda self, h: h * getter(self.rate), rate=Annealed()), set_attribute(["rate", "t"], 3)


getter = None


def a_partial_that_looks_up():
    rate = Annealed()
    return cell(lambda self, h: h * 0.5 ** self.get(), get=functools.partial(getattr, rate, "t")), lambda _: setattr(
        rate, "t", 3
    )


class Gate(enum.Enum):
    SCALED = 0.9

    def __init__(self, rate):
        self.rate = rate

    def __call__(self, h):
        return h * NUMBER * self.rate


def what_a_member_of_an_enumeration_reads():
    globals()["NUMBER"] = 0.9
    return cell(lambda self, h: self.gate(h), gate=Gate.SCALED), set_global("NUMBER", 0.3)


def what_a_member_of_an_enumeration_has():
    Gate.SCALED.rate = 0.9
    return cell(lambda self, h: self.gate(h), gate=Gate.SCALED), lambda _: setattr(Gate.SCALED, "rate", 0.3)


def metaclass():
    return type("Meta", (type,), {"rate": 0.9, "now": property(lambda cls: cls.rate * NUMBER)})


def a_number_of_a_metaclass():
    meta = metaclass()
    kind = meta("Made", (Base,), {"turned": lambda self, h: h * type(self).rate})
    return kind(), lambda _: setattr(meta, "rate", 0.3)


def what_a_property_of_a_metaclass_reads():
    globals().update(NUMBER=0.9, space=metaclass()("Config", (), {}))
    return cell(lambda self, h: h * space.now), set_global("NUMBER", 0.3)


def what_a_module_finds_by_code():
    config.__getattr__ = lambda name: RATES["first"][1] * (name == "BETA")
    return module_cell(lambda self, h: h * config.BETA, RATES={"first": [1.0, 0.5]}), lambda _: RATES[
        "first"
    ].__setitem__(1, 2.0)


def what_a_module_of_a_class_of_its_own_reads():
    kind = type("Config", (types.ModuleType,), {"BETA": property(lambda self: NUMBER)})
    globals().update(NUMBER=0.9, space=kind("made"))
    return cell(lambda self, h: h * space.BETA), set_global("NUMBER", 0.3)


def a_variable_of_the_environment_by_getenv():
    os.environ["TEST_RECORDING_KEY"] = "0.9"
    turned = lambda self, h: h * float(os.getenv("TEST_RECORDING_KEY", "1"))
    return cell(turned), lambda _: os.environ.pop("TEST_RECORDING_KEY")


def the_class_of_a_cell():
    one, other = (type("Made", (Base,), {"turned": lambda self, h, k=k: h * k}) for k in (0.9, 0.3))
    return one(), lambda cell: setattr(cell, "__class__", other)


def the_class_of_an_object():
    rate = Annealed()
    other = type("Other", (Annealed,), {"value": lambda self: 0.3})
    return cell(lambda self, h: h * self.rate.value(), rate=rate), lambda _: setattr(rate, "__class__", other)


def an_attribute_that_a_function_gets():
    def rate():
        return 0.9

    return cell(lambda self, h: h * getattr(rate, "value", 0.9)), lambda _: setattr(rate, "value", 0.3)


def a_number_that_takes_the_place_of_another_name():
    kind = type("Child", (fresh(WithRate),), {"other": 1})

    def change(_):
        del kind.other
        kind.rate = 0.3

    return kind(), change


def what_hides_a_function_of_python():
    def change(_):
        globals().pop("other_name", None)
        globals()["abs"] = lambda x: 0.3

    globals().pop("abs", None)
    return module_cell(lambda self, h: h * abs(-0.9), other_name=1), change


def a_copy_of_a_tensor(copied):
    def case():
        return cell(lambda self, h: h * copied(self.v), v=nn.Parameter(np.ones(H))), set_attribute(
            ["v", "data"], np.arange(H) / H
        )

    case.__name__ = "a copy"
    return case


COPIES = [
    a_copy_of_a_tensor(copied)
    for copied in (
        lambda t: tg.tensor(t.detach()),
        lambda t: copy.deepcopy(t.detach()),
        lambda t: copy.copy(t).detach(),
    )
]


def a_set_of_equal_numbers():
    def change(cell):
        cell.s.clear()
        cell.s.add(True)

    return cell(lambda self, h: h * (0.3 if True in [k is True for k in self.s] else 0.9), s={1}), change


def a_dict_of_equal_keys():
    def change(cell):
        cell.s.clear()
        cell.s[True] = 0

    return cell(lambda self, h: h * (0.3 if True in [k is True for k in self.s] else 0.9), s={1: 0}), change


def all_attributes_of_an_object():
    rate = Annealed()
    return cell(lambda self, h: h * self.rate(), rate=rate), lambda _: setattr(rate, "__dict__", {"t": 3})


def all_attributes_of_a_cell():
    return WithRate(), lambda cell: setattr(cell, "__dict__", {**vars(cell), "rate": 0.3})


class Tempered(nn.Parameter):
    """A parameter with a method of its own."""

    rate = 0.9

    def turned(self):
        return self * self.rate * NUMBER


def a_method_of_a_parameter():
    globals()["NUMBER"] = 0.9
    return cell(lambda self, h: h * self.p.turned(), p=Tempered(np.ones(H))), set_global("NUMBER", 0.3)


def an_attribute_of_a_parameter():
    return cell(lambda self, h: h * self.p.turned(), p=Tempered(np.ones(H))), set_attribute(["p", "rate"], 0.3)


def a_plain_tensor_attribute():
    return cell(lambda self, h: h * self.v, v=tg.tensor(np.ones(H))), set_attribute(["v"], tg.tensor(np.full(H, 0.3)))


CHANGES = [
    a_number, a_number_that_loses_its_sign, an_array, an_array_that_is_written, an_item_of_an_array,
    an_item_of_a_large_array, a_number_in_a_large_array, a_large_array, a_tensor, a_tensor_that_was_computed,
    a_number_deep_in_a_dict, a_number_of_another_module, a_number_of_another_module_by_a_computed_name,
    what_a_helper_reads, a_helper, what_a_comprehension_reads, what_a_class_made_in_the_step_reads,
    what_a_named_tuple_made_in_the_step_reads, what_a_method_reads_that_the_library_calls,
    what_a_cell_derived_from_the_library_s_reads, a_variable_of_the_environment, a_module_imported_in_the_step,
    a_number_of_a_class, a_number_of_a_base_class, a_number_that_a_class_gets, a_number_that_hides_a_class_s,
    what_a_property_reads, what_a_static_method_reads, what_a_class_method_reads, what_super_reads, a_method,
    a_method_of_one_object, the_code_of_a_function, a_variable_of_an_outer_function, parameters_outside_of_the_cell,
    a_default_argument, a_list_as_default_argument, an_attribute_of_a_function, a_partial, a_decorated_method,
    a_schedule_that_is_called, a_schedule_with_a_method, a_bound_method, a_schedule_in_slots,
    a_schedule_of_an_optimiser, a_namespace, a_namespace_in_the_module, a_dataclass, a_dict_of_attributes,
    an_operand_of_a_class_of_its_own, a_set, a_frozen_set, a_deque, a_bytearray, a_counter_in_a_numpy_array,
    a_plain_tensor_attribute, a_getter_made_elsewhere, a_caller_made_elsewhere, a_partial_that_looks_up,
    what_a_member_of_an_enumeration_reads, what_a_member_of_an_enumeration_has, a_number_of_a_metaclass,
    what_a_property_of_a_metaclass_reads, what_a_module_finds_by_code, what_a_module_of_a_class_of_its_own_reads,
    a_variable_of_the_environment_by_getenv, the_class_of_a_cell, the_class_of_an_object,
    an_attribute_that_a_function_gets, a_number_that_takes_the_place_of_another_name, what_hides_a_function_of_python,
    a_method_of_a_parameter, an_attribute_of_a_parameter, *COPIES, a_set_of_equal_numbers, a_dict_of_equal_keys,
    a_variable_of_an_outer_function_that_is_set_later, all_attributes_of_an_object, all_attributes_of_a_cell,
]  # fmt: skip
changes = pytest.mark.parametrize("case", CHANGES, ids=lambda case: case.__name__)


def played(case, engine):
    """Outputs and gradients before a change and after it, and those of a pass back that comes after the change."""
    cell, change = case()
    rnn, found = nn.Recurrent(cell, engine=engine), []
    for call in range(4):
        xs = sequence(call // 2)
        ys, _ = rnn(xs)
        if call == 1:
            change(cell)
        found += [ys.numpy(), tg.grad((ys * ys).sum(), xs).numpy()]
    return found


@every_engine
@changes
def test_what_changes_between_two_calls_is_seen(case, engine):
    expected, found = played(case, "eager"), played(case, engine)
    assert np.abs(expected[0] - played_again(case)).max() > 1e-3
    for e, f in zip(expected, found, strict=True):
        np.testing.assert_allclose(f, e, rtol=1e-9, atol=1e-12)


def played_again(case):
    """The first call's outputs, had the change come before it."""
    cell, change = case()
    change(cell)
    return nn.Recurrent(cell, engine="eager")(sequence(0))[0].numpy()


@pytest.fixture
def recordings(monkeypatch):
    """The recordings that are made."""
    made, record = [], lookup.record
    monkeypatch.setattr(lookup, "record", lambda *args: made.append(1) or record(*args))
    return made


@changes
def test_what_stays_as_it_is_is_recorded_once(case, recordings):
    cell, _ = case()
    rnn = nn.Recurrent(cell, engine="numpy")
    for _ in range(3):
        rnn(sequence())
    assert len(recordings) == 1
    held, _ = rnn._recordings.last
    assert held.unchanged(cell)


def test_tensors_that_are_replaced_by_others_are_not_recorded_for(recordings):
    """The functional style: parameters in a dict, new ones after each update."""
    p = {"W": nn.Parameter(0.5 * np.eye(H))}
    rnn, losses = nn.Recurrent(cell(lambda self, h: h @ p["W"]), engine="numpy"), []
    for _ in range(4):
        ys, _ = rnn(sequence())
        loss = (ys * ys).sum()
        losses.append(loss.item())
        p["W"] = (p["W"] - 0.01 * tg.grad(loss, p["W"])).detach().requires_grad_()
    assert losses == sorted(losses, reverse=True)
    assert len(set(losses)) == 4
    assert len(recordings) == 1


def test_a_second_derivative_is_that_of_the_call_though_a_number_has_changed_since():
    def second(engine):
        globals()["NUMBER"] = 0.9
        made = cell(lambda self, h: h * NUMBER * self.rate, rate=1.5)
        xs = sequence()
        ys, _ = nn.Recurrent(made, engine=engine)(xs)
        globals()["NUMBER"], made.rate = 0.1, 7.0
        first = tg.grad((ys * ys).sum(), xs, create_graph=True)
        assert (NUMBER, made.rate) == (0.1, 7.0)
        return tg.grad((first * first).sum(), xs).numpy()

    np.testing.assert_allclose(second("numpy"), second("eager"), rtol=1e-9)


def test_what_a_derivative_rule_reads_is_seen():
    def slopes(engine):
        rnn, found = nn.Recurrent(cell(lambda self, h: cube(h)), engine=engine), []
        for number in (0.9, 0.3):
            globals()["NUMBER"] = number
            xs = sequence()
            found.append(tg.grad(rnn(xs)[0].sum(), xs).numpy())
        return found

    np.testing.assert_allclose(slopes("numpy"), slopes("eager"), rtol=1e-9)


# ---- what is refused, and what a recording leaves behind -----------------------------------------------------------


@functools.lru_cache
def table(n):
    return ops.softmax(tg.tensor(np.arange(n, dtype=float)))


class WithCache(Base):
    @functools.cache  # noqa: B019
    def table(self):
        return self.W.sum(0)

    def turned(self, h):
        return h * self.table()


def iterator():
    return cell(lambda self, h: h * next(self.rates), rates=itertools.cycle([1.0, 0.5]))


def generator():
    return cell(lambda self, h: h * next(self.rates), rates=(1 / k for k in itertools.count(1)))


def iterator_by_its_method():
    step = itertools.count(1).__next__
    return cell(lambda self, h: h / step())


def iterator_of_the_module():
    globals()["space"] = itertools.count(1)
    return cell(lambda self, h: h / next(space))


def iterator_of_an_outer_function():
    rates = iter([1 / k for k in range(1, 100)])
    return cell(lambda self, h: h * next(rates))


def cached():
    table.cache_clear()
    return cell(lambda self, h: h * table(H))


def clock():
    return cell(lambda self, h: h * (time.time() > 0))


def date():
    return cell(lambda self, h: h * (datetime.datetime.now().year > 0))


def file():
    return cell(lambda self, h: h * len(Path(__file__).read_text()[:1]))


def opened():
    def turned(self, h):
        with open(__file__) as lines:  # noqa: PTH123
            return h * len(lines.read(1))

    return cell(turned)


def generator_made_in_the_step():
    return cell(lambda self, h: h * np.random.default_rng(self.seed).random(), seed=0)


def imported():
    return cell(lambda self, h: h * importlib.import_module("test_recording_key").NUMBER)


def bare_array():
    return cell(lambda self, h: h * float(self.p.array[0]), p=nn.Parameter(np.ones(H)))


def bare_array_of_one_of_several():
    return cell(lambda self, h: h * float(self.ps[1].array[0]), ps=[nn.Parameter(np.ones(H)) for _ in range(2)])


class Renames:
    """Nothing that Python asks every object for is found."""

    def __getattribute__(self, name):
        return object.__getattribute__(self, "_" + name)


def object_that_cannot_be_looked_into():
    renames = Renames()
    object.__setattr__(renames, "_rate", 0.9)
    return cell(lambda self, h: h * renames.rate)


def secret():
    return cell(lambda self, h: h if secrets.randbelow(2) < 5 else -h)


def evaluated():
    return cell(lambda self, h: h * eval("NUM" + "BER", globals()))


def python_branch():
    random.seed(0)
    return cell(lambda self, h: h if random.random() < 0.5 else -h)


def numpy_legacy():
    np.random.seed(0)  # noqa: NPY002
    return cell(lambda self, h: h * np.random.rand())  # noqa: NPY002


def own_generator():
    return cell(lambda self, h: h * self.rng.random(), rng=np.random.default_rng(0))


def own_python_generator():
    return cell(lambda self, h: h * self.rng.choice([1.0, 0.5]), rng=random.Random(0))


def generator_of_the_module():
    globals()["space"] = np.random.default_rng(0)
    return cell(lambda self, h: h + tg.tensor(space.normal(size=H)))


def generator_of_the_library():
    tg.manual_seed(0)
    return cell(lambda self, h: h * nn.init.normal((H,)))


class Counting(Base):
    count, made = 0, None

    def __init__(self, turned):
        super().__init__()
        self.array, self.items, self.kept, self.queue = np.zeros(1), [0], {"n": 0}, collections.deque([0])
        self.elements, self.frozen, self.slots = {0}, nn.Parameter(np.zeros(1), requires_grad=False), Slotted()
        self.big = np.zeros(20_000)
        self.steps = turned

    def turned(self, h):
        self.steps(self)
        return (
            h * float(self.count + self.array[0] + self.items[0] + self.kept["n"] + self.queue[0] + self.slots.t) * 0.1
        )


def global_counter(self):
    global NUMBER
    NUMBER += 1


def array_counter(self):
    self.array += 1


def big_array_counter(self):
    self.big[7] += 1


def item_counter(self):
    self.items[0] += 1


def dict_counter(self):
    self.kept["n"] += 1


def queue_counter(self):
    self.queue.appendleft(self.queue[0] + 1)


def class_counter(self):
    type(self).count += 1


def slot_counter(self):
    self.slots.t += 1


def set_counter(self):
    self.elements.add(len(self.elements))


def number_of_a_frozen_parameter(self):
    self.frozen += 1


def values_of_a_frozen_parameter(self):
    self.frozen.data = np.ones(1)


def first_global(self):
    global FRESH
    FRESH = self


def first_class_attribute(self):
    type(self).fresh_attribute = 1


def counting(steps):
    globals()["NUMBER"] = 0.0
    kind = type("Counting", (Counting,), {})
    return lambda: kind(steps)


COUNTERS = [
    global_counter, array_counter, big_array_counter, item_counter, dict_counter, queue_counter, class_counter,
    slot_counter, set_counter, number_of_a_frozen_parameter, values_of_a_frozen_parameter, first_global,
    first_class_attribute,
]  # fmt: skip
REFUSED = {
    iterator: "'rates', which gives another value each time",
    generator: "'rates', which gives another value each time",
    iterator_by_its_method: "'step', which gives another value each time",
    iterator_of_the_module: "'space', which gives another value each time",
    iterator_of_an_outer_function: "'rates', which gives another value each time",
    cached: "reads 'table', a function whose results functools keeps",
    WithCache: "'table', a function whose results functools keeps",
    clock: "'time', which gives another value each time",
    secret: "'randbelow', which gives another value each time",
    date: "'datetime', which gives another value each time",
    file: "calls read_text, and what that reads cannot be told from its code",
    opened: "'open', which gives another value each time",
    generator_made_in_the_step: "'default_rng', which gives another value each time",
    imported: "calls import_module, and what that reads cannot be told from its code",
    bare_array: "reads the array of a tensor, which has other values at each call",
    bare_array_of_one_of_several: "reads the array of a tensor, which has other values at each call",
    object_that_cannot_be_looked_into: "reads 'renames', which cannot be looked into: AttributeError",
    evaluated: "calls eval, and what that reads cannot be told from its code",
    python_branch: "draws random numbers by itself",
    numpy_legacy: "draws random numbers by itself",
    own_generator: "draws random numbers by itself",
    own_python_generator: "draws random numbers by itself",
    generator_of_the_module: "draws random numbers by itself",
    generator_of_the_library: "draws random numbers by itself",
    **dict.fromkeys(COUNTERS, "its step sets"),
}


def made(make):
    return counting(make)() if make in COUNTERS else make()


@pytest.mark.parametrize("make", REFUSED, ids=lambda make: make.__name__)
def test_what_cannot_be_recorded_runs_eagerly_from_where_it_was(make):
    """The numbers of the engine "auto" are those of "eager" from the first call on: trying to record moves nothing."""
    found = {}
    for engine in ("eager", "auto"):
        cell = made(make)
        rnn = nn.Recurrent(cell, engine=engine)
        if engine == "auto":
            assert "engine 'eager'" in str(rnn.plan(sequence()))
        found[engine] = [rnn(sequence(seed))[0].numpy() for seed in range(3)]
    np.testing.assert_array_equal(found["auto"], found["eager"])


@pytest.mark.parametrize("make", REFUSED, ids=lambda make: make.__name__)
def test_what_cannot_be_recorded_is_named_in_one_line(make):
    rnn = nn.Recurrent(made(make), engine="numpy")
    with pytest.raises(ValueError, match='use engine="eager"') as caught:
        rnn(sequence())
    assert "\n" not in str(caught.value)
    assert REFUSED[make] in str(caught.value)


def test_a_cell_that_counts_its_steps_is_seldom_tried_again_but_is(recordings):
    """It is another cell at each call: to try each time would cost more than to run it."""
    counter = made(class_counter)
    rnn = nn.Recurrent(counter)
    for _ in range(60):
        rnn(sequence())
    assert len(recordings) == 1 + 8 + 2  # after 16 and 32 calls
    counter.steps = lambda self: None
    for _ in range(5):
        rnn(sequence())
    assert "engine 'eager'" not in str(rnn.plan(sequence()))


def test_draws_of_other_threads_are_none_of_the_steps():
    stop = threading.Event()

    def shuffle():
        while not stop.is_set():
            random.random()

    other = threading.Thread(target=shuffle)
    other.start()
    try:
        for _ in range(3):
            assert "engine 'eager'" not in str(nn.Recurrent(cell(lambda self, h: h * 0.5)).plan(sequence()))
    finally:
        stop.set()
        other.join()


INSTALLED = """
from {where} import nn
RATE = 0.9
def scaled(h):
    return h * RATE
"""


@pytest.mark.parametrize("shape", ["{}.py", "{}/__init__.py"], ids=["module", "package"])
@pytest.mark.parametrize("listed", [None, True, False], ids=["site-packages", "listed", "not listed"])
@pytest.mark.parametrize("where, followed", [("tinygrad_rnn", True), ("types", False)])
def test_an_installed_package_is_followed_if_it_knows_this_library(
    tmp_path, monkeypatch, where, followed, listed, shape
):
    """It is installed if it stands in site-packages, or is on the list that `pip install --target` leaves beside it."""
    folder = tmp_path / ("site-packages" if listed is None else "libraries")
    name = f"package_{tmp_path.parent.name}_{tmp_path.name}".replace("-", "_")
    file = folder / shape.format(name)
    file.parent.mkdir(parents=True)
    file.write_text(INSTALLED.format(where=where).replace("types import nn", "types import CodeType"))
    if listed is not None:
        (folder / "some-1.0.dist-info").mkdir()
        names = ["other.py", file.relative_to(folder).as_posix() if listed else f"x{name}.py"]
        (folder / "some-1.0.dist-info" / "RECORD").write_text("".join(f"{n},sha256=,1\n" for n in names))
        followed |= not listed
    monkeypatch.syspath_prepend(str(folder))
    package = importlib.import_module(name)
    rnn = nn.Recurrent(cell(lambda self, h: package.scaled(h)), engine="numpy")
    before = rnn(sequence())[0].numpy()
    package.RATE = 0.3
    assert np.array_equal(rnn(sequence())[0].numpy(), before) is not followed


UNREADABLE = """
from tinygrad_rnn import nn
gain = 1.0
class Mine(nn.GRUCell):
    def forward(self, x, h):
        y, h = super().forward(x, h)
        return y * gain, h
"""


@pytest.mark.parametrize("where", ["RECORD is a folder", "", "/", "__init__.py", "/__init__.py", "no such file.py"])
def test_a_module_whose_place_cannot_be_told_is_followed(tmp_path, monkeypatch, where):
    name = f"mine_{tmp_path.name}".replace("-", "_")
    (tmp_path / f"{name}.py").write_text(UNREADABLE)
    monkeypatch.syspath_prepend(str(tmp_path))
    mine = importlib.import_module(name)
    if where == "RECORD is a folder":
        (tmp_path / "x-1.0.dist-info" / "RECORD").mkdir(parents=True)
    else:
        mine.__file__ = where
    rnn = nn.Recurrent(mine.Mine(I, H).to("float64"))
    before = rnn(sequence())[0].numpy()
    mine.gain = 2.0
    np.testing.assert_allclose(rnn(sequence())[0].numpy(), 2 * before, rtol=1e-6)


def test_a_cell_that_cannot_be_looked_into_is_not_compiled(monkeypatch):
    """Else it would be compiled once and for all."""
    made = cell(lambda self, h: h * 0.5)
    monkeypatch.setattr(Walk, "_look_at", lambda *_: 1 / 0)
    assert "engine 'eager'" in str(nn.Recurrent(made).plan(sequence()))


def test_a_cache_holds_no_tensor_of_a_recording():
    nn.Recurrent(cached())(sequence())
    assert table(H).numpy().sum() == pytest.approx(1)


def test_what_no_code_names_does_not_keep_a_step_from_being_compiled():
    other = cell(lambda self, h: h * 0.5, batches=iter([1, 2]), log=Path(__file__).open())  # noqa: SIM115
    with other.log:
        assert "engine 'eager'" not in str(nn.Recurrent(other).plan(sequence()))


class Annotated(tuple):
    """A state in a class with the functions that give a class its annotations, made by hand for older Pythons."""

    names = iter(())
    __annotate__ = (lambda names: lambda form: dict(names))(names)
    __annotate_func__ = __annotate__


def test_the_annotations_of_a_state_do_not_keep_a_step_from_being_compiled():
    """Python 3.14 computes them by a function, which reads what cannot be looked into."""
    made = cell(lambda self, h: Annotated([h])[0])
    assert "engine 'eager'" not in str(nn.Recurrent(made).plan(sequence()))


class Chatty(Base):
    """A step that writes to a log, warns, holds a lock and looks for words."""

    lock, log, words = threading.Lock(), logging.getLogger(__name__), re.compile("a")

    def turned(self, h):
        self.log.debug("h is %s", h.shape)
        with self.lock, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            warnings.warn("a word", stacklevel=1)
            if h.ndim > 5:
                print(h.shape, file=sys.stderr)  # noqa: T201
        return h if self.words.match("a") else -h


def test_what_every_program_has_does_not_keep_a_step_from_being_compiled():
    assert "engine 'eager'" not in str(nn.Recurrent(Chatty()).plan(sequence()))


def test_objects_nested_too_deeply_run_eagerly():
    chain = []
    for _ in range(10_000):
        chain = [chain]
    made = cell(lambda self, h: h * len(chain))
    assert "nested too deeply" in str(nn.Recurrent(made).plan(sequence()))
    while chain:
        chain = chain.pop()


def test_a_generator_that_a_dropout_draws_from_is_no_reason_to_run_eagerly():
    drop = nn.Dropout(0.5, np.random.default_rng(0))
    assert "engine 'eager'" not in str(nn.Recurrent(cell(lambda self, h: self.drop(h), drop=drop)).plan(sequence()))
