"""What an object is to somebody who looks for what may change in it."""

from __future__ import annotations

import array
import builtins
import datetime
import functools
import operator
import os
import random
import threading
import time
import types
import weakref

from collections import deque, namedtuple
from enum import Enum
from typing import Any, NamedTuple

import numpy as np

from tinygrad_rnn.nn.capture.code import is_library, reach

HEAP, IMMUTABLE, CLOSED = 1 << 9, 1 << 8, 1 << 7  # of a class's flags: made by a statement or by C; C's own two marks
SEEN_INTO = {object, int, float, complex, str, bytes, list, tuple, dict, set, frozenset, deque, types.SimpleNamespace}
SEEN_INTO |= {type, BaseException, Exception, bytearray, array.array}
NEUTRAL = {"builtins", "abc", "typing"}  # classes to inherit from that keep nothing of their own
FIXED = {"logging", "re", "pathlib", "datetime", "decimal", "fractions", "zoneinfo", "typing", "ast", "inspect", "abc"}
FIXED |= {
    "tinygrad_rnn.autograd.graph",
    "tinygrad_rnn.nn.recording",
    "tinygrad_rnn.nn.recordings",
    "tinygrad_rnn.nn.entrance",
    "tinygrad_rnn.nn.state_hooks",
}
CONSTANT: tuple[type, ...] = (
    np.ufunc, types.CodeType, types.GenericAlias, types.UnionType, types.WrapperDescriptorType,
    types.MethodDescriptorType, types.ClassMethodDescriptorType, types.GetSetDescriptorType,
    types.MemberDescriptorType, operator.attrgetter, operator.itemgetter, operator.methodcaller,
    type(threading.Lock()), type(threading.RLock()), type(vars(namedtuple("Any", "field"))["field"]),
)  # fmt: skip
TIMES = {"time", "monotonic", "perf_counter", "process_time", "thread_time", "localtime", "gmtime", "ctime", "strftime"}
CLOCKS: set[Any] = {f for name, f in vars(time).items() if name.removesuffix("_ns") in TIMES}  # a browser lacks some
CLOCKS |= {datetime.datetime, datetime.date, os.urandom, open, np.load, np.loadtxt, np.genfromtxt, np.fromfile}
CLOCKS |= {np.random.default_rng, np.random.RandomState, np.random.SeedSequence, random.Random}  # begin anew each time
READS = {os.getenv: os.environ}  # functions of Python that read what may change
ASKS = {getattr, vars, dir}  # and those that look up any name
AT_ONCE = frozenset(map(id, CLOCKS))  # an object of the user's may have no hash
ENTROPY = {"secrets", "uuid"}  # modules of Python whose functions do too
CACHED = type(functools.lru_cache(len))


def is_fixed(x: Any) -> bool:
    """Does it do the same for ever, so that nothing of it need be looked at?"""
    module = getattr(type(x), "__module__", "")
    if isinstance(x, Enum):
        return is_library(module)
    return isinstance(x, CONSTANT) or module in FIXED or module.partition(".")[0] in FIXED


@functools.lru_cache(1 << 12)
def is_hidden(kind: Any) -> bool:
    """Do objects of a class hold what only machine code can see?"""
    return any(_is_of_c(c) for c in kind.__mro__ if c not in SEEN_INTO)


def _is_of_c(kind: type) -> bool:
    flags = kind.__flags__
    made = vars(kind).get("__new__")
    return not flags & HEAP or bool(flags & (IMMUTABLE | CLOSED)) or isinstance(made, types.BuiltinFunctionType)


class Anatomy(NamedTuple):
    """What a class is made of.

    users    its classes whose code is followed; library: the others, where they have methods in Python
    is_open  does all that its methods do stand in code that is followed?
    slots    the names of what its objects hold in slots
    """

    users: tuple[type, ...]
    library: frozenset[type]
    is_open: bool
    slots: tuple[str, ...]


@functools.lru_cache(1 << 12)
def anatomy(kind: Any) -> Anatomy:
    """The parts of a class that decide what its instances do and hold; computed once for each class."""
    library = {c for c in kind.__mro__ if is_library(c.__module__)}
    slots = [n for c in kind.__mro__ for n, x in vars(c).items() if isinstance(x, types.MemberDescriptorType)]
    is_open = all(c.__module__ in NEUTRAL for c in library)
    return Anatomy(
        tuple(c for c in kind.__mro__ if c not in library),
        frozenset(c for c in library if methods(c)),
        is_open,
        tuple(slots),
    )


@functools.lru_cache(1 << 12)
def methods(kind: Any) -> dict[str, frozenset[str]]:
    """For each method of a class of a library: the attributes that it names, the user's methods among them."""
    functions = {name: getattr(x, "fget", getattr(x, "__func__", x)) for name, x in vars(kind).items()}
    return {n: reach(f.__code__).attributes for n, f in functions.items() if isinstance(f, types.FunctionType)}


def is_clock(x: Any) -> bool:
    """Is it a function that returns another value each time, and nothing tells why?"""
    if isinstance(x, types.FunctionType) and x.__module__ in ENTROPY:
        return True
    return id(x) in AT_ONCE


def wrapped(x: Any) -> tuple | None:
    """What a wrapper of functions or a reference stands for; None for anything else."""
    if isinstance(x, functools.partial | functools.partialmethod):
        return x.func, x.args, x.keywords
    if isinstance(x, types.MethodType):
        return x.__func__, x.__self__
    if isinstance(x, types.MethodWrapperType):
        return (x.__self__,)
    if isinstance(x, staticmethod | classmethod):
        return (x.__func__,)
    if isinstance(x, property):
        return x.fget, x.fset
    if isinstance(x, weakref.ref):
        return (x(),)
    if isinstance(x, types.BuiltinFunctionType) and not is_clock(x):
        owner = x.__self__
        return () if isinstance(owner, types.ModuleType | type) else (owner,)
    return None


def asks_for(x: Any) -> list[str] | None:
    """The attributes that a function of `operator` asks objects for; None for anything else."""
    if isinstance(x, operator.attrgetter):
        return [name for path in x.__reduce__()[1] for name in path.split(".")]
    if isinstance(x, operator.methodcaller):
        made, args = tuple(x.__reduce__())
        return [made.args[0] if isinstance(made, functools.partial) else args[0]]
    return None


def in_words(x: Any) -> str:
    """What to call an object that cannot be looked into."""
    if isinstance(x, CACHED):
        return "a function whose results functools keeps: call it in __init__, and set what it returns on the cell"
    if hasattr(x, "__next__") or is_clock(x):
        return "which gives another value each time"
    kind = type(x)
    name = kind.__qualname__ if kind.__module__ == builtins.__name__ else f"{kind.__module__}.{kind.__qualname__}"
    return f"an object of kind {name}, whose content cannot be seen"
