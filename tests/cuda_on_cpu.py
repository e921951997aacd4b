"""CUDA C without a GPU: source text is compiled by g++ behind cuda_shim.h, and its kernels run on the CPU.

Threads take their turns in an order that a test may choose (`turns`), or a whole run: CUDA_TURNS=reversed, or a number
as the seed. A kernel whose result changes with it has a race.
What NVRTC would not compile is refused: headers of the host, its types and names.
"""

import contextlib
import ctypes
import functools
import hashlib
import mmap
import os
import platform
import re
import shutil
import subprocess
import tempfile
import threading

from pathlib import Path

SHIM = Path(__file__).with_name("cuda_shim.h")
CACHE = Path(__file__).parents[1] / ".pytest_cache" / "cuda"
FLAGS = ("-O1", "-std=c++17", "-fPIC", "-w", "-ffp-contract=off", "-U_FORTIFY_SOURCE")

MAX_THREADS, MAX_SHARED, SHARED_UNASKED = 1024, 227 * 1024, 48 * 1024  # of a block, on compute capability 9.0

ORDERS = {"in order": 0, "reversed": 1}
_turns = os.environ.get("CUDA_TURNS", "in order")  # of all tests that say nothing else
_turns = int(_turns) if _turns.isdecimal() else _turns


class CompileError(Exception):
    """What the compiler says, and the source."""


def missing():
    """Why kernels cannot run here; None where they can."""
    if platform.system() != "Linux":
        return "kernels run through g++ on Linux only"
    return None if shutil.which("g++") else "needs g++"


@contextlib.contextmanager
def turns(order):
    """Within the block threads run "in order", "reversed", or at random from a number as the seed."""
    global _turns
    before, _turns = _turns, order
    try:
        yield
    finally:
        _turns = before


_STACK = 128 * 1024
_stacks = mmap.mmap(-1, MAX_THREADS * _STACK)  # pages are there once they are used
_STACKS = ctypes.addressof(ctypes.c_char.from_buffer(_stacks))
_one_at_a_time = threading.Lock()


class _How(ctypes.Structure):
    _fields_ = [
        ("shared", ctypes.c_uint), ("barriers", ctypes.c_int), ("order", ctypes.c_int), ("seed", ctypes.c_uint64),
        ("stacks", ctypes.c_void_p), ("stack_size", ctypes.c_size_t),
    ]  # fmt: skip


class Library:
    """The kernels of a source text: those that are extern "C", by name, and those of `expressions` (k<float>, …)."""

    def __init__(self, source, options=(), expressions=()):
        self.source, self.barriers = source, bool(_BARRIER.search(source))
        self.names = [*dict.fromkeys([*_kernels(source), *expressions])]
        self.loaded = ctypes.CDLL(str(_compiled(self.text(), tuple(o for o in options if o.startswith("-D")))))
        self.expressions = frozenset(expressions)

    def text(self):
        wrappers = [f"SHIM_KERNEL({i}, {name})" for i, name in enumerate(self.names)]
        return "\n".join(['#include "cuda_shim.h"', "#line 1", _prepared(self.source), *wrappers, ""])

    def kernel(self, name):
        """The kernel of that name. KeyError where the module that CUDA loads would have none."""
        if name not in self.names or not (name in self.expressions or hasattr(self.loaded, name)):
            raise KeyError(name)
        return Kernel(self, name)


class Kernel:
    """A kernel: the types of its parameters, and a call with one C value for each."""

    def __init__(self, library, name):
        number = library.names.index(name)
        self.library, self.name = library, name
        self.run = library.loaded[f"shim_launch_{number}"]
        self.run.argtypes = [ctypes.c_void_p] * 3
        types = library.loaded[f"shim_types_{number}"]
        types.restype = ctypes.c_char_p
        self.types = [t for t in types().decode().split(",") if t]

    def __call__(self, grid, block, values, shared=0, most=SHARED_UNASKED):
        """Run it; `values` are ctypes objects. RuntimeError for a launch that CUDA refuses, and for what goes wrong."""
        size = [*grid, *block]
        self._check(size, shared, most)
        pointers = (ctypes.c_void_p * max(len(values), 1))(*(ctypes.addressof(v) for v in values))
        order, seed = (ORDERS[_turns], 0) if _turns in ORDERS else (2, _turns)
        how = _How(shared, self.library.barriers, order, seed, _STACKS, _STACK)
        with _one_at_a_time:
            failed = self.run(pointers, (ctypes.c_uint * 6)(*size), ctypes.byref(how))
        if failed:
            said = self.library.loaded.shim_message
            said.restype = ctypes.c_char_p
            raise RuntimeError(f"{self.name}: {said().decode()}")

    def _check(self, size, shared, most):
        x, y, z = size[3:]
        fixed = self.library.loaded.shim_shared_bytes()
        if x * y * z > MAX_THREADS or z > 64 or max(size[1:3]) > 65535 or size[0] >= 2**31:
            raise RuntimeError(f"CUDA_ERROR_INVALID_VALUE: invalid argument: grid {size[:3]}, block {size[3:]}")
        if shared + fixed > min(most, MAX_SHARED) or fixed > SHARED_UNASKED:
            raise RuntimeError(
                f"CUDA_ERROR_INVALID_VALUE: invalid argument: {shared} + {fixed} bytes of shared memory, of {most}"
            )


# ---- source ----------------------------------------------------------------------------------------------------------

_BARRIER = re.compile(r"__(sync(threads|warp)|shfl|ballot|any_sync|all_sync)")
_BOUNDS = r"(?:__launch_bounds__\s*\([^)]*\)\s*)?"
_KERNEL = re.compile(rf"(template\s*<[^{{}};]*>\s*)?__global__\s+{_BOUNDS}(?:static\s+)?void\s+{_BOUNDS}(\w+)\s*\(")
_DYNAMIC = re.compile(r"extern\s+__shared__\s+(?:__align__\s*\(\d+\)\s*)?([\w\s]+?)\s*\b(\w+)\s*\[\s*\]\s*;")
_INCLUDE = re.compile(r"^[ \t]*#\s*include\s*[<\"]([^>\"]+)[>\"].*$", re.M)
_OF_CUDA = ("cuda_fp16.h", "cuda_bf16.h", "cupy/carray.cuh")
_STD = re.compile(r"\bstd::\w+|\bu?int(?:8|16|32|64)_t\b")
_OPTION = re.compile(
    r"--?(std=c\+\+\d\d|D\w+(=.*)?|arch=\w+|use_fast_math|fmad=\w+|lineinfo|device-int128|default-device|restrict|I.*)"
)


def _without_comments(source):
    return re.sub(r"//[^\n]*|/\*.*?\*/", lambda m: "\n" * m[0].count("\n"), source, flags=re.S)


def _kernels(source):
    """The names of the kernels that are no templates."""
    return [name for template, name in _KERNEL.findall(_without_comments(source)) if not template]


def _prepared(source):
    """The source as g++ takes it: CUDA's headers are in the shim, dynamic shared memory has an address."""
    source = _INCLUDE.sub("", _without_comments(source))
    return _DYNAMIC.sub(r"static \1* const \2 = (\1*)shim::dynamic;", source)


def check_source(source, options=()):
    """CompileError for what NVRTC refuses and g++ would take."""
    for option in options:
        if not _OPTION.fullmatch(option):
            raise CompileError(f"nvrtc: error: invalid value for --gpu-architecture or unknown option: {option}")
    text = _without_comments(source)
    for header in _INCLUDE.findall(text):
        if header not in _OF_CUDA:
            raise CompileError(f'cannot open source file "{header}": NVRTC has no headers of the host')
    for word in _STD.findall(text):
        if not re.search(rf"typedef[^;]*\b{re.escape(word)}\s*;|using\s+{re.escape(word)}\b", text):
            raise CompileError(f'identifier "{word}" is undefined: NVRTC has no headers of the host')
    if re.search(r"\b__int128\b", text) and not any("device-int128" in o for o in options):
        raise CompileError("__int128 needs the option -device-int128")


@functools.cache
def library(source, options=(), expressions=()):
    """The library of a source text, compiled once, and once only for later runs."""
    check_source(source, options)
    return Library(source, options, expressions)


# ---- the compiler ----------------------------------------------------------------------------------------------------


@functools.cache
def _folder():
    """Where libraries are kept that this compiler made with this shim; the shim is there too, compiled beforehand."""
    compiler = subprocess.run(["g++", "--version"], capture_output=True, check=True).stdout
    key = hashlib.sha256(SHIM.read_bytes() + compiler + " ".join(FLAGS).encode() + platform.machine().encode())
    folder = CACHE / key.hexdigest()[:16]
    if not (folder / "cuda_shim.h.gch").exists():
        folder.mkdir(parents=True, exist_ok=True)
        _made(folder / SHIM.name, lambda to: to.write_bytes(SHIM.read_bytes()))
        _made(folder / f"{SHIM.name}.gch", lambda to: _gcc(["-x", "c++-header", SHIM, "-o", to]))
    return folder


def shared_library(text):
    """The path of a shared library of C++."""
    return _compiled(text, ())


def _compiled(text, defines):
    """The path of the shared library, compiled unless it is there."""
    name = hashlib.sha256("\0".join([text, *defines]).encode()).hexdigest()[:32]
    found = _folder() / f"{name}.so"
    if not found.exists():
        source = _made(found.with_suffix(".cc"), lambda to: to.write_text(text))
        _made(found, lambda to: _gcc(["-shared", "-Wl,-Bsymbolic", *defines, "-I", _folder(), source, "-o", to]))
    return found


def _made(path, make):
    """A file that gets its name when it is whole: other processes look for it too."""
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        make(Path(folder) / path.name)
        (Path(folder) / path.name).replace(path)
    return path


def _gcc(arguments):
    done = subprocess.run(["g++", *FLAGS, *map(str, arguments)], capture_output=True, text=True, check=False)
    if done.returncode:
        raise CompileError(done.stderr)
