"""LLVM through llvmlite: machine code of a module's text, and a cache of it.

Code is written for vectors of `lanes` numbers, as wide as the machine's registers. Nothing is left to LLVM's own
vectoriser: what a loop reads and writes is in one array, and it would have to prove that nothing overlaps.
"""

from __future__ import annotations

import ctypes
import functools
import hashlib
import threading

from collections.abc import Callable
from typing import Any

import llvmlite
import llvmlite.binding as llvm

from tinygrad_rnn.compiler.llvm import cache
from tinygrad_rnn.compiler.llvm.host import machine

LOCK = threading.RLock()  # a cache that two threads fill at once keeps one of two results, and the other one goes


# ---- compiling ------------------------------------------------------------------------------------------------------


class Machine:
    """Machine code of a module: functions of integers and addresses, called without Python's lock."""

    def __init__(self, source: str, *, thorough: bool = False):
        cpu, features, _, _ = machine()
        target = llvm.Target.from_default_triple().create_target_machine(cpu=cpu, features=features, opt=3)
        known = [source, cpu, features, llvmlite.__version__, str(LIGHT if not thorough else "")]
        key = hashlib.sha256("\n".join(known).encode()).hexdigest()[:32]
        code = cache.read(key)
        module = llvm.parse_assembly(source if code is None else "")  # there is nothing to read where there is code
        if code is None:
            module.verify()
            _optimise(module, target, thorough)
        self.engine = llvm.create_mcjit_compiler(module, target)
        self.engine.set_object_cache(lambda _, made: cache.write(key, made), lambda _: code)
        self.engine.finalize_object()

    def publish(self, name: str) -> None:
        """Let code that is compiled later call a function by its name."""
        llvm.add_symbol(name, self.address(name))

    def address(self, name: str) -> int:
        """Where a function is."""
        return self.engine.get_function_address(name)

    def function(self, name: str, arguments: int) -> Callable[..., None]:
        """A function of so many 64-bit integers. The machine code lives as long as it does."""
        found: Any = ctypes.CFUNCTYPE(None, *[ctypes.c_int64] * arguments)(self.engine.get_function_address(name))
        found.machine = self
        return found


def compiled(source: str, *, thorough: bool = False) -> Machine:
    """The machine code of a module's text; the same text is compiled once.

    thorough: all that LLVM knows, which takes ten times as long: for the inner loops of kernels
    """
    with LOCK:
        return _compiled(source, thorough)


@functools.lru_cache(256)
def _compiled(source: str, thorough: bool) -> Machine:
    return Machine(source, thorough=thorough)


def _optimise(module: Any, target: Any, thorough: bool) -> None:
    options = llvm.create_pipeline_tuning_options(speed_level=2)
    options.loop_vectorization = options.slp_vectorization = False
    builder = llvm.create_pass_builder(target, options)
    passes = builder.getModulePassManager() if thorough else llvm.create_new_module_pass_manager()
    for name in () if thorough else LIGHT:
        getattr(passes, f"add_{name}_pass")()
    passes.run(module, builder)


# What code that is written for vectors still needs: no stack slots, no repetition, no double loops.
LIGHT = ("sroa", "simplify_cfg", "instruction_combine", "loop_rotate", "new_gvn", "instruction_combine", "simplify_cfg")
