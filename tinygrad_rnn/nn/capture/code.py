"""What a piece of code names, found in its instructions, and whose code is followed: the user's."""

from __future__ import annotations

import builtins
import dis
import functools
import sys
import sysconfig

from collections.abc import Iterator
from pathlib import Path
from types import CodeType
from typing import Any, NamedTuple

LOOKS_UP = {"getattr", "vars", "dir", "attrgetter", "methodcaller", "asdict", "astuple", "__dict__"}  # by any name
HIDES = {"eval", "exec", "globals", "__import__"}  # what it reads stands in no instruction
HIDE = {"import_module", "read_text", "read_bytes"}  # nor what these read, of whatever object they are asked
GLOBALS = ("LOAD_GLOBAL", "STORE_GLOBAL", "DELETE_GLOBAL", "LOAD_NAME", "LOAD_FROM_DICT_OR_GLOBALS")
ATTRIBUTES = ("LOAD_ATTR", "LOAD_METHOD", "DELETE_ATTR", "LOAD_SUPER_ATTR", "IMPORT_FROM")
KINDS: dict[str, tuple[str, ...]] = dict.fromkeys(GLOBALS, ("globals",))
KINDS |= dict.fromkeys(ATTRIBUTES, ("attributes",))
KINDS |= {"STORE_ATTR": ("attributes", "sets"), "IMPORT_NAME": ("imports",)}
OURS = __name__.partition(".")[0]
INSTALLED = {"site-packages", "dist-packages"}
ZIPPED = "python{}{}.zip".format(*sys.version_info)  # Python's own modules in a browser, and in Windows' embeddable one
PYTHON = tuple({sysconfig.get_paths()[key] for key in ("stdlib", "platstdlib")})


class Reach(NamedTuple):
    """What code names, that of the functions inside it included.

    globals     names that it reads or sets in its module
    attributes  names of attributes of whatever objects, and strings that may be such names
    sets        those of them that it sets
    imports     modules that it imports when it runs
    arrays      attributes that it reads `.array` of, as a tensor has one; "" for anything else but a variable of its
                module, and self
    anything    does it look names up that it computes?
    """

    globals: frozenset[str]
    attributes: frozenset[str]
    sets: frozenset[str]
    imports: frozenset[str]
    arrays: frozenset[str]
    anything: bool


@functools.lru_cache(1 << 12)
def reach(code: CodeType) -> Reach:
    """The names in a code object, by how they are looked up (see Reach); computed once for each."""
    found: dict[str, set[str]] = {kind: set() for kind in Reach._fields if kind != "anything"}
    before = None
    for instruction in dis.get_instructions(code):
        for kind in KINDS.get(instruction.opname, ()):
            found[kind].add(instruction.argval)
        if before and instruction.opname in ATTRIBUTES and instruction.argval == "array":
            found["arrays"].update(_owner(before))
        before = before if instruction.opname == "COPY" else instruction  # of x in `x.array += 1`
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            inner = reach(constant)
            for kind, names in found.items():
                names |= getattr(inner, kind)
        elif isinstance(constant, str) and constant.isidentifier():
            found["attributes"].add(constant)
    anything = not LOOKS_UP.isdisjoint(found["globals"] | found["attributes"])
    return Reach(**{kind: frozenset(names) for kind, names in found.items()}, anything=anything)


def _owner(before: dis.Instruction) -> Iterator[str]:
    """Whose attribute it is that is read after an instruction: see Reach.arrays."""
    if before.opname not in GLOBALS and before.argval != "self":
        yield before.argval if before.opname in ATTRIBUTES else ""


@functools.lru_cache(1 << 12)
def is_ours(module: str) -> bool:
    """Is it a module of this library?"""
    return module.partition(".")[0] == OURS


@functools.lru_cache(1 << 12)
def is_library(module: str | None) -> bool:
    """Is it a module of Python, of this library, or of an installed package that knows nothing of this library?

    What these do is not followed.
    """
    top = (module or "").partition(".")[0]
    if is_ours(top) or top == "__main__":  # whatever file it stands in: python -m PACKAGE
        return top != "__main__"
    file = getattr(sys.modules.get(top), "__file__", None)
    if file is None:
        return top == builtins.__name__ or top in sys.stdlib_module_names
    if _is_installed(Path(file)):
        return not _knows_us(top)
    return file.startswith(PYTHON) or (top in sys.stdlib_module_names and ZIPPED in Path(file).parts)


def _is_installed(file: Path) -> bool:
    """Does it stand where packages are installed, or is it in the list of an installed package's files beside it?

    The list is what `pip install --target` leaves, in a folder that may hold the user's own modules too.
    """
    if not INSTALLED.isdisjoint(file.parts):
        return True
    folder = file.parent.parent if file.name == "__init__.py" else file.parent
    line = f"\n{file.relative_to(folder).as_posix()},"
    return any(line in f"\n{_text_of(record)}" for record in folder.glob("*.dist-info/RECORD"))


def _text_of(file: Path) -> str:
    """Nothing of what cannot be read: then it is followed, which is never wrong."""
    try:
        return file.read_text("utf-8", "replace")
    except OSError:
        return ""


def _knows_us(top: str) -> bool:
    """Has a package imported anything of this library?"""
    modules = [m for name, m in list(sys.modules.items()) if name == top or name.startswith(f"{top}.")]
    values = [value for m in modules for value in list(getattr(m, "__dict__", {}).values())]
    names = [getattr(value, "__module__", None) or getattr(value, "__name__", None) for value in values]
    return any(isinstance(name, str) and is_ours(name) for name in names)


def module_of(function: Any) -> str | None:
    """The name of the module in whose file a function stands, whatever a decorator says."""
    return function.__globals__.get("__name__")
