"""Walk: all that a cell's step may read, found from its module and from its code."""

from __future__ import annotations

import builtins
import importlib

from array import array
from collections import deque
from contextlib import suppress
from enum import Enum
from types import FunctionType, MappingProxyType, ModuleType
from typing import Any

import numpy as np

from tinygrad_rnn.autograd.graph import context
from tinygrad_rnn.autograd.rules import Primitive
from tinygrad_rnn.autograd.tensor import Parameter, Tensor
from tinygrad_rnn.compiler.record.trace import SMALL
from tinygrad_rnn.nn.capture import kinds
from tinygrad_rnn.nn.capture.code import HIDE, HIDES, is_library, is_ours, module_of, reach
from tinygrad_rnn.nn.capture.found import Named, Objects, Values
from tinygrad_rnn.nn.capture.generators import is_generator
from tinygrad_rnn.nn.capture.places import (
    MISSING,
    PLAIN,
    Attributes,
    Bag,
    Content,
    Place,
    Queue,
    Space,
    Table,
    Variable,
    content_of,
    plain,
)
from tinygrad_rnn.nn.module import Module

MOST = 1000  # modules, classes and objects to look names up in
CONTAINERS = (list, tuple, dict, set, frozenset, deque, MappingProxyType)
MADE = {"__init__", "__new__", "__post_init__"}  # what runs when an object of a class is made
NOT_CALLED = {*MADE, "__init_subclass__", "__class_getitem__", "__set_name__", "__del__", "__reduce__", "__reduce_ex__"}
NOT_CALLED |= {"__getstate__", "__setstate__", "__copy__", "__deepcopy__", "__dir__", "__sizeof__", "__subclasshook__"}
NOT_CALLED |= {"__annotate__", "__annotate_func__"}  # what tells the annotations of a class, from Python 3.14 on
RANDOM = {"random", "numpy.random"}
TENSORS = {Tensor, Parameter}


class Walk:
    """What a module and the modules below it hold, and what the code of a step names: see `nn.Recurrent`.

    parts       of what a recording is found by: they change when any of that changes, other than the values of tensors
    others      what the parts know by identity: it must live as long as they do
    places      what can be changed, each with what it held
    values      what is read anew at each call
    objects     and functions that are looked into
    named       what code names
    generators  of random numbers
    unseen      what cannot be looked into: the name that leads to it, and why
    spaces      modules, classes and objects in which only what is named counts; bases: of the library, to classes
    seen        the number of each object that was met, by its id
    """

    def __init__(self, module: Module) -> None:
        self.parts: list[Any] = []
        self.others: list[Any] = []
        self.places: list[Place] = []
        self.values, self.objects, self.named = Values(), Objects(), Named()
        self.generators: list[Any] = []
        self.unseen: list[tuple[str, str]] = []
        self.spaces: dict[int, Space] = {}
        self.bases: set[type] = set()
        self.seen: dict[int, int] = {}
        self.recording = context.recording
        try:
            self._add(module, "")
            self._follow()
        except RecursionError:
            self.unseen.append(("forward", "can reach objects that are nested too deeply to be looked through"))

    # ---- what is held -----------------------------------------------------------------------------------------------

    def _add(self, x: Any, name: str) -> None:
        """Add an object. name: of the attribute or the variable that leads to it"""
        try:
            self._look_at(x, name)
        except RecursionError:
            raise
        except Exception as error:  # of code of the object's own, such as its __getattribute__
            self.unseen.append((name, f"reads {name!r}, which cannot be looked into: {type(error).__name__}"))

    def _look_at(self, x: Any, name: str) -> None:
        key = self.parts
        if isinstance(x, Tensor):
            at = self.seen.setdefault(id(x), len(self.values.tensors))
            if at == len(self.values.tensors):
                self.values.add(x, name, self.recording)
                self._add_tensors_class(x)
            key.append((at, self.values.kinds[at]))
        elif type(x) in PLAIN:
            key.append(plain(x))
        elif isinstance(x, (np.generic, np.dtype)):
            key.append((type(x), x.tobytes() if isinstance(x, np.generic) else x))
        elif id(x) in self.seen:
            key.append(self.seen[id(x)])
        else:
            self.seen[id(x)] = -len(self.seen) - 1
            self._look_into(x, name)

    def _look_into(self, x: Any, name: str) -> None:
        if isinstance(x, Module):
            self._add_object(x)
        elif isinstance(x, CONTAINERS):
            self._add_items(x, name)
        elif isinstance(x, np.ndarray):
            self._add_array(x, name)
        elif isinstance(x, FunctionType):
            self._add_function(x)
        elif isinstance(x, type):
            self._known(x)
            if kinds.is_clock(x):
                self._refuse(x, name)
            self._add_class(x, made=not issubclass(x, Module))
        elif isinstance(x, ModuleType):
            self._add_module(x)
        else:
            self._add_other(x, name)

    def _add_other(self, x: Any, name: str) -> None:
        self._known(x)
        inner = kinds.wrapped(x)
        self.named.attributes.update(kinds.asks_for(x) or ())
        self.named.anything |= any(x is function for function in kinds.ASKS)
        if inner is not None:
            for part in inner:
                self._add(part, name)
        elif is_generator(x):
            self.generators.append(x)
            self.named.draws = True
        elif isinstance(x, Primitive):
            self._add(x.rules, name)  # what it computes forward is computed anew at each call
            self._add(x.joint_rule, name)
        elif isinstance(x, (bytearray, array)):
            self._add_content(x)
        elif kinds.is_hidden(x.__class__) and not kinds.is_fixed(x):
            self._refuse(x, name)
        elif not kinds.is_fixed(x):
            self._add_object(x)

    def _refuse(self, x: Any, name: str) -> None:
        self.unseen.append((name, f"reads {name!r}, {kinds.in_words(x)}"))

    def _known(self, x: Any) -> int:
        self.others.append(x)
        self.parts.append(id(x))
        return id(x)

    def _add_content(self, x: Any) -> None:
        place = Content(x)
        self.places.append(place)
        self.parts.append(place.was)

    def _add_array(self, x: np.ndarray, name: str) -> None:
        self.parts.append((type(x), x.shape, x.dtype))
        if x.dtype.hasobject or type(x) not in (np.ndarray, np.memmap):
            self._refuse(x, name)
        elif x.nbytes <= SMALL:
            self._add_content(x)
        else:
            self._known(x)
            self.values.large.append((name, x))

    def _add_items(self, x: Any, name: str) -> None:
        self.parts.append((type(x), len(x)))
        if isinstance(x, (dict, MappingProxyType)):
            self._add_table(x, name)
        else:
            if not isinstance(x, (tuple, frozenset)):
                self.places.append((Bag if isinstance(x, set) else Queue if isinstance(x, deque) else Place)(x))
            for value in x:
                self._add(value, name)
        if type(x) not in CONTAINERS:
            self._add_object(x)

    def _add_table(self, table: Any, name: str = "") -> None:
        """Add a dict; without a name that leads to it, the values are attributes."""
        self.places.append(Table(table))
        for key, value in table.items():
            if type(key) in PLAIN:
                self.parts.append(key if type(key) is str else plain(key))
            else:
                self._known(key)
            self._add(value, name or str(key))

    def _add_tensors_class(self, x: Tensor) -> None:
        """Add the methods and attributes that a tensor of a class of the user's has beside every tensor's."""
        if type(x) not in TENSORS:
            self.parts.append(type(x))
            self._add_class(type(x))
            self._add_table(getattr(x, "__dict__", {}))

    def _add_object(self, x: Any) -> None:
        """Add what an object has as attributes: all of it, or what is named if only the user's code works on it."""
        anatomy = kinds.anatomy(x.__class__)
        self.parts.append(type(x))
        table = self.objects.add(x)
        if isinstance(x, (int, float, complex, str, bytes)):
            self.parts.append(x)
        self._add_class(type(x))
        if anatomy.is_open and table is not None:
            self._space(x, table, everywhere=True)
        elif table is not None:
            self._add_table(table)
        if anatomy.slots:
            self.places.append(Attributes(x, anatomy.slots))
            for slot in anatomy.slots:
                self._add(getattr(x, slot, None), slot)

    # ---- what code names --------------------------------------------------------------------------------------------

    def _add_function(self, function: FunctionType) -> None:
        """Add a function: its defaults, what it holds of outer functions, and, if it is the user's, what it names."""
        if kinds.is_clock(function):
            self._refuse(function, function.__name__)
        if is_library(function.__module__) and "<locals>" not in function.__qualname__:
            self._known(function)
            return
        code = function.__code__
        self.others.append(code)
        self.parts.append(id(code))
        self.objects.add_function(function)
        self.named.variables.update(code.co_freevars, [function.__name__])
        for name, cell in zip(code.co_freevars, function.__closure__ or (), strict=True):
            self._add_variable(name, cell)
        self._add(function.__defaults__, function.__name__)
        self._add(function.__kwdefaults__, function.__name__)
        if not is_library(module_of(function)):
            self._add_code(function)
        if vars(function) or function.__name__ in reach(code).globals:
            self._add(vars(function), function.__name__)

    def _add_variable(self, name: str, cell: Any) -> None:
        content = content_of(cell)
        if name == "__class__":  # what `super()` reads
            self._add_class(content)
            return
        self.places.append(Variable(cell, name))
        if content is MISSING:
            self.parts.append(MISSING)
        else:
            self._add(content, name)

    def _add_code(self, function: FunctionType) -> None:
        named, variables = reach(function.__code__), function.__globals__
        self.named.attributes |= named.attributes
        self.named.variables |= named.globals
        self.named.anything |= named.anything
        self.named.bare |= named.arrays
        for name in sorted(HIDES & named.globals | HIDE & (named.globals | named.attributes)):
            self.unseen.append((name, f"calls {name}, and what that reads cannot be told from its code"))
        if "data" in named.sets:
            self.unseen.append(("data", "sets 'data', the values of a tensor, which are no part of its state"))
        self._space(variables, variables).names |= named.globals
        theirs = vars(builtins)
        self._space(theirs, theirs, fixed=True).names |= named.globals - variables.keys()
        for name in sorted(named.imports):
            with suppress(ImportError):  # it is about to import it itself
                self._add(importlib.import_module(name), name)

    def _add_class(self, kind: type, *, made: bool = False) -> None:
        """Add the classes that an object's methods come from. made: are objects of it made?"""
        anatomy = kinds.anatomy(kind)
        self.bases |= anatomy.library
        if not is_library(type(kind).__module__):
            self._add_class(type(kind))
        for c in anatomy.users:
            space = self._space(c, vars(c), everywhere=True)
            special = {n for n, x in vars(c).items() if n.startswith("__") and isinstance(x, FunctionType)}
            space.names |= special - NOT_CALLED
            if made:
                space.names |= special & MADE
            if issubclass(c, Enum):
                space.names |= set(c.__members__)

    def _add_module(self, module: ModuleType) -> None:
        self._known(module)
        self.named.draws |= module.__name__ in RANDOM
        if not is_ours(module.__name__):
            table = vars(module)
            space = self._space(table, table, everywhere=True, fixed=is_library(module.__name__))
            if not space.fixed:
                space.names.add("__getattr__")
                self._add_class(type(module))

    def _space(self, owner: Any, table: Any, *, everywhere: bool = False, fixed: bool = False) -> Space:
        if id(owner) not in self.spaces:
            self.spaces[id(owner)] = Space(owner, table, len(self.spaces), fixed)
        space = self.spaces[id(owner)]
        space.everywhere |= everywhere
        return space

    def _follow(self) -> None:
        """Add what code names in modules, classes and objects, until it names nothing new."""
        known: Any = None
        while self.spaces and known != (known := self._known_names()):
            for kind in self.bases:
                methods = kinds.methods(kind)
                for name in methods.keys() & self.named.attributes:
                    self.named.attributes |= methods[name]
            for space in list(self.spaces.values()):
                self._look_up(space)
            if len(self.spaces) > MOST:
                self.unseen.append(("forward", "can reach too much to be looked through"))
                break
        for space in self.spaces.values():
            space.close()
            if not space.fixed:
                self.places.append(space)

    def _known_names(self) -> tuple:
        own = sum(len(s.names) + s.everywhere for s in self.spaces.values())
        return len(self.spaces), len(self.bases), len(self.named.attributes), self.named.anything, own

    def _look_up(self, space: Space) -> None:
        for name, value in space.found(
            self.named.attributes - MADE, self.named.anything
        ):  # `super().__init__` is in a class that is made
            if not space.fixed:
                self.parts.append((space.number, name))
                self._add(value, name)
            elif kinds.is_clock(value):
                self._refuse(value, name)
            elif isinstance(value, FunctionType) and value in kinds.READS:
                self._add(kinds.READS[value], "")
            elif isinstance(value, ModuleType) or not (callable(value) or kinds.is_hidden(value.__class__)):
                self._add(value, "")
