"""The compiled engines by name: what each needs, where it runs, and why it cannot."""

from __future__ import annotations

import functools
import importlib
import warnings

from collections.abc import Callable, Collection
from importlib.util import find_spec
from typing import Any, NamedTuple

from tinygrad_rnn.compiler.cuda.functions import FUNCTIONS
from tinygrad_rnn.compiler.ir.formula import is_formula
from tinygrad_rnn.compiler.runtime.backend import Backend


def _llvm() -> Backend:
    from tinygrad_rnn.compiler.llvm.program import backend  # noqa: PLC0415

    return backend


def _numpy() -> Backend:
    from tinygrad_rnn.compiler.numpy.program import backend  # noqa: PLC0415

    return backend


def _cuda() -> Backend:
    from tinygrad_rnn.compiler.cuda.program import backend  # noqa: PLC0415

    return backend


class Engine(NamedTuple):
    """An engine, whose backend is imported when it is first asked for: what it needs may be missing.

    device  where its arrays are: "cpu" or "gpu"
    needs   the module that it cannot do without, or nothing
    extra   the extra of this package that brings it
    """

    load: Callable[[], Backend]
    device: str
    needs: str = ""
    extra: str = ""


ENGINES = {
    "llvm": Engine(_llvm, "cpu", "llvmlite.binding", "fast"),
    "numpy": Engine(_numpy, "cpu"),
    "cuda": Engine(_cuda, "gpu"),
}  # the fastest first
NAMES = ("auto", "eager", "compiled", *reversed(ENGINES))
ALIASES = {"fast": "llvm"}  # what an engine was called before


def named(name: str) -> str:
    """The engine's name, of its name or an alias. ValueError if there is none, RuntimeError if a package that it needs
    is missing."""
    name = ALIASES.get(name, name)
    if name not in NAMES:
        raise ValueError(f"Recurrent: engine must be one of {', '.join(map(repr, NAMES))}, got {name!r}")
    if name in ENGINES and (reason := missing(name)):
        raise RuntimeError(f"Recurrent: the engine {name!r} needs {reason}")
    return name


@functools.cache
def missing(name: str) -> str:
    """What an engine needs that is not there, why, and what to do; or nothing."""
    needs, package = ENGINES[name].needs, _package(name)
    if not needs:
        return ""
    if find_spec(package) is None:
        return f'{package}, which is not installed; pip install "tinygrad-rnn[{ENGINES[name].extra}]"'
    try:
        importlib.import_module(needs)
    except (ImportError, OSError) as error:  # installed for another machine, or without a library of the system's
        why = " ".join(str(error).split())
        return f"{package}, which cannot be loaded ({why}); pip install --force-reinstall {package}"
    return ""


def _package(name: str) -> str:
    return ENGINES[name].needs.partition(".")[0]


@functools.cache
def find(name: str, device: str = "cpu") -> tuple[Backend, ...]:
    """The backends that may run a step on a device, the fastest first; of an engine asked for by its name, that one
    only. None if all of them run elsewhere."""
    name = ALIASES.get(name, name)
    here = [n for n in ENGINES if ENGINES[n].device == device.partition(":")[0]]
    asked = [n for n in here if name in (n, "auto", "compiled")]
    found = [n for n in asked if not missing(n)]
    if asked and not found:  # asked for on another machine, where it was not missing
        found = [n for n in here if not missing(n)]
    for n in asked:
        if found and missing(n) and find_spec(_package(n)):
            warnings.warn(f'Recurrent: "{n}" needs {missing(n)}; "{found[0]}" runs meanwhile', stacklevel=2)
    return tuple([ENGINES[n].load() for n in found])


def elsewhere(asked: str) -> str:
    """Why no compiled engine, or not the one asked for, runs a step on its device: where they run."""
    asked = ALIASES.get(asked, asked)
    if asked in ENGINES:
        return f'the engine "{asked}" runs on the {ENGINES[asked].device.upper()}'
    kinds = dict.fromkeys(engine.device.upper() for engine in ENGINES.values())
    return f"the compiled engines run on the {' or the '.join(kinds)}"


def why(asked: str, found: str, slower: str) -> list[str]:
    """Why it is no faster engine, a line for each of those. slower: what the first one that was tried cannot do"""
    if asked == found:
        return []
    device, names = ENGINES[found].device, list(ENGINES)
    faster = [n for n in names[: names.index(found)] if ENGINES[n].device == device]
    return [f'  "{n}" needs {missing(n)}' if missing(n) else f'  "{n}" cannot run it: {slower}' for n in faster]


# ---- what else is machine code --------------------------------------------------------------------------------------


def has_llvm() -> bool:
    """Is the compiler that the engine "llvm" needs there?"""
    return not missing("llvm")


@functools.cache
def has_formula(lines: str, device: str = "cpu") -> bool:
    """Can lines of maths be machine code? They must be assignments of what elementwise operations are written in.

    device: "cpu", which needs the compiler of "llvm", or "gpu"
    """
    if device == "cpu" and not has_llvm():
        return False
    return is_formula(lines, _functions(device))


def formula(lines: str, reads: tuple[str, ...], writes: tuple[str, ...], dtype: Any, device: str = "cpu") -> Any:
    """Lines of maths on arrays as machine code, if there can be (see llvm.formula and cuda.formula)."""
    return _formulas(device)(lines, reads, writes, dtype)


@functools.cache
def _formulas(device: str) -> Callable[..., Any]:
    if device == "gpu":
        from tinygrad_rnn.compiler.cuda.formula import formula_kernel  # noqa: PLC0415

        return formula_kernel
    from tinygrad_rnn.compiler.llvm.formula import formula  # noqa: PLC0415

    return formula


def _functions(device: str) -> Collection[str]:
    """The functions that machine code for a device can compute, by name."""
    if device == "gpu":
        return FUNCTIONS
    from tinygrad_rnn.compiler.llvm import functions  # noqa: PLC0415

    return functions.FUNCTIONS


def cross_entropy() -> Callable[..., Any] | None:
    """Logits, cross entropy and gradients as machine code (see llvm.cross_entropy), if there is "llvm"."""
    return _cross_entropy() if has_llvm() else None


@functools.cache
def _cross_entropy() -> Callable[..., Any]:
    from tinygrad_rnn.compiler.llvm import cross_entropy  # noqa: PLC0415

    find("llvm")  # which sees to it that BLAS has one thread beside the workers
    return cross_entropy.in_blocks
