"""The processor that machine code is made for: this one, or one of fewer instructions that it can play."""

from __future__ import annotations

import ctypes
import functools
import os

from typing import NamedTuple

import llvmlite.binding as llvm

YIELD = "sched_yield" if os.name != "nt" else "SwitchToThread"  # gives the processor to another thread


class Pretended(NamedTuple):
    """A processor that others can play, what it takes to play it, and the bytes of its vector registers."""

    needs: frozenset[str]
    width: int


V2 = frozenset(("cx16", "popcnt", "sahf", "sse3", "sse4.1", "sse4.2", "ssse3"))
V3 = V2 | {"avx", "avx2", "bmi", "bmi2", "f16c", "fma", "lzcnt", "movbe"}
PRETENDED = {"x86-64-v2": Pretended(V2, 16), "x86-64-v3": Pretended(V3, 32)}
HEIGHTS = {16: (6, 4, 2, 1), 32: (6, 4, 2, 1), 64: (8, 4, 2, 1)}  # of tiles of products, by the bytes of a register


@functools.cache
def machine() -> tuple[str, str, int, tuple[int, ...]]:
    """The processor, its features, the bytes of a vector register, and heights of GEMM tiles that fit the registers.

    It is this one, or the one that TINYGRAD_RNN_HOST names when machine code is first asked for.
    """
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    for name in ("tanh", "exp", "log", "log1p", "pow", "erf", "cos", "sin", "expm1", "fmod", "floor", "rint"):
        for suffix in ("", "f"):
            llvm.add_symbol(name + suffix, _address_of(name + suffix))
    llvm.add_symbol(YIELD, _address_of(YIELD))
    asked = os.environ.get("TINYGRAD_RNN_HOST") or "native"
    cpu, features, width = _native() if asked == "native" else _pretended(asked)
    return cpu, features, width, HEIGHTS[width]


def _native() -> tuple[str, str, int]:
    features = llvm.get_host_cpu_features()
    width = 64 if features.get("avx512f") else 32 if features.get("avx") else 16
    return llvm.get_host_cpu_name(), features.flatten(), width


def _pretended(name: str) -> tuple[str, str, int]:
    if name not in PRETENDED:
        known = ", ".join(("native", *PRETENDED))
        raise ValueError(f"TINYGRAD_RNN_HOST: must be one of {known}, got {name!r}")
    features = llvm.get_host_cpu_features()
    missing = sorted(need for need in PRETENDED[name].needs if not features.get(need))
    if missing:
        raise RuntimeError(f"TINYGRAD_RNN_HOST: this processor cannot run code for {name}: it lacks {missing[0]}")
    return name, "", PRETENDED[name].width


def _address_of(name: str) -> int:
    library = ctypes.CDLL(None if os.name != "nt" else "kernel32" if name == YIELD else "ucrtbase")
    try:
        return ctypes.cast(getattr(library, name), ctypes.c_void_p).value or 0
    except AttributeError:  # not linked into the interpreter
        return ctypes.cast(getattr(ctypes.CDLL("libm.so.6"), name), ctypes.c_void_p).value or 0
