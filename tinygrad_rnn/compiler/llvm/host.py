"""The processor that machine code is made for."""

from __future__ import annotations

import ctypes
import functools
import os

import llvmlite.binding as llvm

YIELD = "sched_yield" if os.name != "nt" else "SwitchToThread"  # gives the processor to another thread


# ---- the machine ----------------------------------------------------------------------------------------------------


@functools.cache
def machine() -> tuple[str, str, int, tuple[int, ...]]:
    """The processor, its features, the bytes of a vector register, and heights of GEMM tiles that fit the registers."""
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    features = llvm.get_host_cpu_features()
    cpu = llvm.get_host_cpu_name()
    for name in ("tanh", "exp", "log", "log1p", "pow", "erf"):
        for suffix in ("", "f"):
            llvm.add_symbol(name + suffix, _address_of(name + suffix))
    llvm.add_symbol(YIELD, _address_of(YIELD))
    if features.get("avx512f"):
        return cpu, features.flatten(), 64, (8, 4, 2, 1)
    if features.get("avx"):
        return cpu, features.flatten(), 32, (6, 4, 2, 1)
    return cpu, features.flatten(), 16, (6, 4, 2, 1)


def _address_of(name: str) -> int:
    library = ctypes.CDLL(None if os.name != "nt" else "kernel32" if name == YIELD else "ucrtbase")
    try:
        return ctypes.cast(getattr(library, name), ctypes.c_void_p).value or 0
    except AttributeError:  # not linked into the interpreter
        return ctypes.cast(getattr(ctypes.CDLL("libm.so.6"), name), ctypes.c_void_p).value or 0
