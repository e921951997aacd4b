"""What a piece of code names, found in its instructions, and whose code is followed: the user's."""

from __future__ import annotations

import builtins
import dis
import functools
import sys
import sysconfig

from pathlib import Path
from types import CodeType
from typing import Any, NamedTuple

LOOKS_UP = {"getattr", "vars", "dir", "attrgetter", "methodcaller", "asdict", "astuple", "__dict__"}  # by any name
HIDES = {"eval", "exec", "globals"}  # what it reads stands in no instruction
GLOBALS = ("LOAD_GLOBAL", "STORE_GLOBAL", "DELETE_GLOBAL", "LOAD_NAME", "LOAD_FROM_DICT_OR_GLOBALS")
ATTRIBUTES = ("LOAD_ATTR", "LOAD_METHOD", "DELETE_ATTR", "LOAD_SUPER_ATTR", "IMPORT_FROM")
KINDS: dict[str, tuple[str, ...]] = dict.fromkeys(GLOBALS, ("globals",))
KINDS |= dict.fromkeys(ATTRIBUTES, ("attributes",))
KINDS |= {"STORE_ATTR": ("attributes", "sets"), "IMPORT_NAME": ("imports",)}
OURS = ("tinygrad_rnn", "viz")


class Reach(NamedTuple):
    """What code names, that of the functions inside it included.

    globals     names that it reads or sets in its module
    attributes  names of attributes of whatever objects, and strings that may be such names
    sets        those of them that it sets
    imports     modules that it imports when it runs
    anything    does it look names up that it computes?
    """

    globals: frozenset[str]
    attributes: frozenset[str]
    sets: frozenset[str]
    imports: frozenset[str]
    anything: bool


@functools.lru_cache(1 << 12)
def reach(code: CodeType) -> Reach:
    """What a code object names."""
    found: dict[str, set[str]] = {"globals": set(), "attributes": set(), "sets": set(), "imports": set()}
    for instruction in dis.get_instructions(code):
        for kind in KINDS.get(instruction.opname, ()):
            found[kind].add(instruction.argval)
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            inner = reach(constant)
            for kind, names in found.items():
                names |= getattr(inner, kind)
        elif isinstance(constant, str) and constant.isidentifier():
            found["attributes"].add(constant)
    anything = not LOOKS_UP.isdisjoint(found["globals"] | found["attributes"])
    return Reach(**{kind: frozenset(names) for kind, names in found.items()}, anything=anything)


@functools.cache
def _library_folders() -> tuple[str, ...]:
    paths = sysconfig.get_paths()
    return tuple({str(Path(paths[key])) for key in ("stdlib", "platstdlib", "purelib", "platlib")})


@functools.lru_cache(1 << 12)
def is_ours(module: str) -> bool:
    """Is it a module of this library?"""
    return module.partition(".")[0] in OURS


@functools.lru_cache(1 << 12)
def is_library(module: str | None) -> bool:
    """Is it a module of Python, of an installed package, or of this library? What these do is not followed."""
    top = (module or "").partition(".")[0]
    if is_ours(top):
        return True
    file = getattr(sys.modules.get(top), "__file__", None)
    if file is None:
        return top == builtins.__name__ or top in sys.stdlib_module_names
    return file.startswith(_library_folders())


def module_of(function: Any) -> str | None:
    """The name of the module in whose file a function stands, whatever a decorator says."""
    return function.__globals__.get("__name__")
