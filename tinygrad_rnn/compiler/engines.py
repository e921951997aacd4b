"""The compiled engines by name, the fastest first."""

from __future__ import annotations

import functools
import importlib
import warnings

from collections.abc import Callable
from importlib.util import find_spec
from types import ModuleType
from typing import Any

from tinygrad_rnn.compiler.runtime.backend import Backend

NAMES = ("auto", "eager", "compiled", "numpy", "llvm")
ALIASES = {"fast": "llvm"}  # what an engine was called before
INSTALL = 'pip install "tinygrad-rnn[fast]"'


def named(name: str) -> str:
    """The engine's name, of its name or an alias. ValueError if there is none, RuntimeError if a package that it needs
    is missing."""
    name = ALIASES.get(name, name)
    if name not in NAMES:
        raise ValueError(f"Recurrent: engine must be one of {', '.join(map(repr, NAMES))}, got {name!r}")
    if name == "llvm" and not has_llvm():
        raise RuntimeError(f"Recurrent: the engine 'llvm' needs llvmlite, {missing()}")
    return name


def why(asked: str, found: str, slower: str) -> list[str]:
    """Why it is not a faster engine, in a line or none."""
    if asked == found or found == "llvm":
        return []
    if not has_llvm():
        return [f'  "llvm" needs llvmlite, {missing()}']
    return [f'  "llvm" cannot run it: {slower}']


def has_llvm() -> bool:
    """Is the compiler that the engine "llvm" needs there?"""
    return not missing()


@functools.cache
def missing() -> str:
    """Why it is not, and what to do; or nothing."""
    if find_spec("llvmlite") is None:
        return f"which is not installed; {INSTALL}"
    try:
        importlib.import_module("llvmlite.binding")
    except (ImportError, OSError) as error:  # installed for another machine, or without a library of the system's
        return f"which cannot be loaded ({' '.join(str(error).split())}); pip install --force-reinstall llvmlite"
    return ""


@functools.cache
def find(name: str) -> tuple[Backend, ...]:
    """The backend of an engine and, unless it was asked for by its name, of those that take over where it cannot run a
    step."""
    from tinygrad_rnn.compiler.numpy import program as by_numpy  # noqa: PLC0415

    name = ALIASES.get(name, name)
    if name == "numpy" or not has_llvm():
        if name != "numpy" and find_spec("llvmlite"):
            warnings.warn(f'Recurrent: "llvm" needs llvmlite, {missing()}; "numpy" runs meanwhile', stacklevel=2)
        return (by_numpy.backend,)
    from tinygrad_rnn.compiler.llvm import program as by_llvm  # noqa: PLC0415

    return (by_llvm.backend,) if name == "llvm" else (by_llvm.backend, by_numpy.backend)


@functools.cache
def has_formula(lines: str) -> bool:
    """Can lines of maths be machine code? They must be assignments of what elementwise operations are written in."""
    if not has_llvm():
        return False
    return _formulas().is_formula(lines)


def formula(lines: str, reads: tuple[str, ...], writes: tuple[str, ...], dtype: Any) -> Any:
    """Lines of maths on arrays as machine code (see llvm.formula), for which there must be "llvm"."""
    return _formulas().formula(lines, reads, writes, dtype)


@functools.cache
def _formulas() -> ModuleType:
    from tinygrad_rnn.compiler.llvm import formula  # noqa: PLC0415

    return formula


def cross_entropy() -> Callable[..., Any] | None:
    """Logits, cross entropy and gradients as machine code (see llvm.cross_entropy), if there is "llvm"."""
    return _cross_entropy() if has_llvm() else None


@functools.cache
def _cross_entropy() -> Callable[..., Any]:
    from tinygrad_rnn.compiler.llvm import cross_entropy  # noqa: PLC0415

    find("llvm")  # which sees to it that BLAS has one thread beside the workers
    return cross_entropy.in_blocks
