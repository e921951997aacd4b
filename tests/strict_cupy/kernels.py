"""Kernels of one's own: CuPy's RawKernel, RawModule and ElementwiseKernel, compiled by g++ and run on the CPU.

CuPy hands a kernel the bytes of its arguments, whatever the kernel takes them for: a Python int is a long long, a float
a double. Here an argument that is not of its parameter's type is refused, and so is an array of another device.
"""

import contextlib
import ctypes
import functools
import math
import re

import cuda_on_cpu
import numpy as np
import pytest

from strict_cupy import counts, cuda
from strict_cupy.arrays import address, ndarray

_ANY = ("void*", "int8*", "uint8*")  # char*, unsigned char*: bytes of whatever
_SCALARS = (np.generic, int, float)

REGISTERS = 1 << 16  # that the threads of a block share
registers = 32  # that a thread of each kernel uses: g++ does not know; a test may say more


class RawKernel:
    """One kernel of a source text. `kernel(grid, block, args, shared_mem=0)` runs it."""

    def __init__(self, code, name, options=(), backend="nvrtc", *, enable_cooperative_groups=False, _expressions=()):
        if enable_cooperative_groups:
            raise NotImplementedError("the stand-in has no cooperative groups")
        self.code, self.name, self.options, self.backend = code, name, _options(options), backend
        self.max_dynamic_shared_size_bytes = cuda_on_cpu.SHARED_UNASKED
        self._expressions = _expressions

    @property
    def kernel(self):
        return _kernel(self.code, self.name, self.options, self._expressions)

    @property
    def max_threads_per_block(self):
        _ = self.kernel
        return min(cuda_on_cpu.MAX_THREADS, REGISTERS // registers)

    def compile(self, log_stream=None):
        _ = self.kernel

    def __call__(self, grid, block, args, *, shared_mem=0):
        kernel, memory = self.kernel, _Memory()
        values, most = _values(kernel, args, memory), self.max_dynamic_shared_size_bytes
        if self.max_threads_per_block < math.prod(_three(block)) <= cuda_on_cpu.MAX_THREADS:
            raise RuntimeError("CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES: too many resources requested for launch")
        if memory.copies and cuda.get_current_stream().graph is not None:
            raise NotImplementedError("the stand-in records a kernel that is given addresses, but not arrays")

        def work():
            kernel(_three(grid), _three(block), values, shared_mem, most)
            memory.bring_back(self.name)

        cuda.launch(self.name, work)


class RawModule:
    """The kernels of a source text, by name: `get_function(name)`."""

    def __init__(self, *, code=None, options=(), backend="nvrtc", name_expressions=None):
        if code is None:
            raise TypeError("the stand-in compiles `code`; it reads no file")
        self.code, self.options, self.backend = code, _options(options), backend
        self.name_expressions = None if name_expressions is None else tuple(name_expressions)

    def compile(self, log_stream=None):
        _library(self.code, self.options, self.name_expressions or ())

    def get_function(self, name):
        expressions = self.name_expressions or ()
        _kernel(self.code, name, self.options, expressions)
        return RawKernel(self.code, name, self.options, self.backend, _expressions=expressions)


class ElementwiseKernel:
    """A kernel of one line of CUDA for each element: arrays broadcast, outputs are made unless they are given."""

    def __init__(
        self, in_params, out_params, operation, name="kernel", reduce_dims=True, preamble="", no_return=False,
        return_tuple=False, *, options=(), loop_prep="", after_loop="",
    ):  # fmt: skip
        if not re.fullmatch(r"[a-zA-Z_]\w*", name):
            raise ValueError(f'Invalid kernel name: "{name}"')
        self.inputs, self.outputs = _parameters(in_params), _parameters(out_params)
        self.parameters = [*self.inputs, *self.outputs]
        if "i" in (p.name for p in self.parameters):
            raise ValueError("Can not use 'i' as a parameter name")
        self.name, self.options = name, _options(options)
        self.parts = preamble, loop_prep, operation, after_loop
        self.no_return, self.return_tuple = no_return, return_tuple

    def __call__(self, *args, size=None, block_size=128, stream=None):
        if len(args) not in (len(self.inputs), len(self.parameters)):
            raise TypeError(
                f"Wrong number of arguments for {self.name!r}. It must be either {len(self.inputs)} or "
                f"{len(self.parameters)} (with outputs), but given {len(args)}."
            )
        shape = self._shape(args, size)
        types = self._types(args)
        outs = self._outs(args[len(self.inputs) :], shape, types, size)
        if 0 not in shape:
            self._launch([*args[: len(self.inputs)], *outs], shape, types, block_size)
        if self.no_return:
            return None
        return outs[0] if len(outs) == 1 and not self.return_tuple else tuple(outs)

    def _shape(self, args, size):
        """What the arrays broadcast to; (size,) where they are raw."""
        for a in args:
            _check(a)
        shapes = [a.shape for p, a in zip(self.parameters, args, strict=False) if _is_array(a) and not p.raw]
        if size is not None:
            if shapes:
                raise ValueError("Specified 'size' can be used only if all of the ndarray are 'raw'.")
            return (size,)
        if not shapes:
            raise ValueError("Loop size is undecided.")
        return np.broadcast_shapes(*shapes)

    def _types(self, args):
        """The dtype of each letter."""
        found = {}
        n = len(self.inputs)
        given = [*zip(self.outputs, args[n:], strict=False), *zip(self.inputs, args[:n], strict=True)]
        for p, a in given:
            if not _is_array(a):
                continue
            expected = p.dtype or found.setdefault(p.letter, a.dtype)
            if expected != a.dtype:
                raise TypeError(f"Type is mismatched. {p.name} {a.dtype} {expected} {p.letter}")
        return found

    def _outs(self, given, shape, types, size):
        for p, a in zip(self.outputs, given, strict=False):
            if not _is_array(a):
                raise TypeError("Output arguments type must be cupy.ndarray")
            if not p.raw and a.shape != shape:
                raise ValueError("Out shape is mismatched")
        if given:
            return list(given)
        if size is None and any(p.raw for p in self.outputs):
            raise ValueError("Output array size is Undecided")
        dtypes = [p.dtype or types[p.letter] for p in self.outputs]
        return [ndarray(cuda.poisoned(shape, dtype), cuda.current_device()) for dtype in dtypes]

    def _launch(self, args, shape, types, block_size):
        source = self._source(args, types)
        kernel = _kernel(source, self.name, self.options)
        arrays = [a for p, a in zip(self.parameters, args, strict=True) if _is_array(a) and not p.raw]
        if all(a.shape == shape and a.flags.c_contiguous for a in arrays):
            shape = (math.prod(shape),)  # one axis will do
        indexer = _indexer(shape)
        blocks = min(-(-indexer.size // block_size), 8)  # a thread takes every so-manieth element
        with _launching(self.name) as memory:
            values = [_element_value(p, a, shape, types, memory) for p, a in zip(self.parameters, args, strict=True)]
            kernel((blocks, 1, 1), (min(block_size, indexer.size), 1, 1), [*values, indexer])

    def _source(self, args, types):
        preamble, loop_prep, operation, after_loop = self.parts
        typedefs = "".join(f"typedef {_C[t.char]} {letter};\n" for letter, t in sorted(types.items()))
        declared, named = [], []
        for p, a in zip(self.parameters, args, strict=True):
            c, const = _C[p.dtype.char] if p.dtype else p.letter, "const " if p in self.inputs else ""
            if not _is_array(a):
                declared.append(f"{const}{c} {p.name}")
                continue
            declared.append(f"{const}CArray<{c}> {p.name if p.raw else '_raw_' + p.name}")
            if not p.raw:
                named.append(f"{const}{c}& {p.name} = _raw_{p.name}[_ind.get()];")
        declared.append("CIndexer _ind")
        return (
            f'{typedefs}{preamble}\nextern "C" __global__ void {self.name}({", ".join(declared)}) {{\n{loop_prep};\n'
            f"CUPY_FOR(i, _ind.size()) {{\n_ind.set(i);\n{' '.join(named)}\n{operation};\n}}\n{after_loop};\n}}\n"
        )


class _Parameter:
    """ "raw T x": its name, its letter or its dtype, and whether the kernel indexes it by itself."""

    def __init__(self, text):
        *words, kind, self.name = text.split()
        if set(words) - {"raw"}:
            raise ValueError(f'Unknown keyword "{words[0]}"')
        self.raw = "raw" in words
        self.letter = kind
        self.dtype = None if len(kind) == 1 else np.dtype(kind)


def _parameters(text):
    return [_Parameter(part) for part in text.split(",")] if text.strip() else []


# ---- C types of arguments --------------------------------------------------------------------------------------------

_C = {
    "?": "bool", "b": "signed char", "h": "short", "i": "int", "l": "long long", "q": "long long", "B": "unsigned char",
    "H": "unsigned short", "I": "unsigned int", "L": "unsigned long long", "Q": "unsigned long long", "e": "float16",
    "f": "float", "d": "double",
}  # fmt: skip
_AXES = 16


class _CArray(ctypes.Structure):
    _fields_ = [
        ("data", ctypes.c_void_p),
        *((n, ctypes.c_ssize_t) for n in ("size", "ndim")),
        *((n, ctypes.c_ssize_t * _AXES) for n in ("shape", "strides")),
    ]


class _CIndexer(ctypes.Structure):
    _fields_ = [
        *((n, ctypes.c_ssize_t) for n in ("size", "ndim")),
        *((n, ctypes.c_ssize_t * _AXES) for n in ("shape", "index")),
    ]


def _axes(values):
    return (ctypes.c_ssize_t * _AXES)(*values)


def _indexer(shape):
    return _CIndexer(math.prod(shape), len(shape), _axes(shape), _axes(()))


def _element_value(p, a, shape, types, memory):
    """An argument of an ElementwiseKernel: an array with its strides, or a scalar of the parameter's type."""
    if not _is_array(a):
        return _bytes_of(np.asarray(a).astype(p.dtype or types[p.letter])[()])
    host = a._host if p.raw or a.shape == shape else _spread(a._host, shape)
    return _CArray(memory.address(host), host.size, host.ndim, _axes(host.shape), _axes(host.strides))


def _spread(host, shape):
    """It broadcasts to the shape, or it is contiguous and as large."""
    return host.reshape(shape) if len(shape) == 1 and host.size == shape[0] else np.broadcast_to(host, shape)


def _bytes_of(scalar):
    return (ctypes.c_char * scalar.nbytes).from_buffer_copy(scalar.tobytes())


def _values(kernel, args, memory):
    """The arguments of a RawKernel as C values, each of its parameter's type."""
    if len(args) != len(kernel.types):
        raise TypeError(
            f"{kernel.name}: takes {len(kernel.types)} arguments ({', '.join(kernel.types)}), got {len(args)}"
        )
    return [_value(kernel.name, n, a, c, memory) for n, (a, c) in enumerate(zip(args, kernel.types, strict=True))]


def _value(name, n, a, c, memory):
    _check(a)
    if a is None and c.endswith("*"):
        return ctypes.c_void_p(None)
    if _is_array(a):
        if c in _ANY or c == f"{a.dtype.name}*":
            return ctypes.c_void_p(memory.address(a._host))
    elif isinstance(a, np.ndarray):  # a struct, by value
        if c == f"struct{a.nbytes}":
            return _bytes_of(a)
    else:
        scalar = np.int64(a) if type(a) is int else np.float64(a) if type(a) is float else a
        if isinstance(scalar, np.generic) and scalar.dtype.name == c:
            return _bytes_of(scalar)
    got = f"an array of {a.dtype}" if _is_array(a) else f"{a!r} ({type(a).__name__})"
    raise TypeError(f"{name}: argument {n} must be {c}, got {got}; CuPy would pass its bytes as they are")


def _is_array(a):
    return isinstance(a, ndarray)


def _check(a):
    if not (a is None or isinstance(a, (ndarray, np.ndarray, *_SCALARS))):
        raise TypeError(f"Unsupported type {type(a)}")
    if isinstance(a, np.ndarray) and a.size != 1:
        raise TypeError(f"a numpy.ndarray of size 1 goes to a kernel by value, got one of size {a.size}")
    if _is_array(a):
        cuda.check_device(a)


# ---- memory ----------------------------------------------------------------------------------------------------------

_GUARD = 1024  # bytes; a multiple of what CuPy aligns arrays to
_NOBODYS = 0x3F  # each of them: 0.7 as a float, and whatever is added to it changes it


class _Memory:
    """What a launch may touch: each array's whole buffer, as a copy between guards: numbers that nobody wrote."""

    def __init__(self):
        self.copies = {}

    def address(self, host):
        """Where an array begins in the copy of its buffer."""
        root = host
        while isinstance(root.base, np.ndarray):
            root = root.base
        _, copy, begin = self.copies.get(id(root)) or self._copy(root)
        return address(copy) + begin + address(host) - address(root)

    def _copy(self, root):
        copy = np.full(root.nbytes + 3 * _GUARD, _NOBODYS, np.uint8)
        begin = _GUARD + -address(copy) % _GUARD
        ctypes.memmove(address(copy) + begin, address(root), root.nbytes)
        self.copies[id(root)] = root, copy, begin
        return self.copies[id(root)]

    def bring_back(self, name):
        """Everything that was written; RuntimeError if some of it lies outside of the buffers."""
        for root, copy, begin in self.copies.values():
            ctypes.memmove(address(root), address(copy) + begin, root.nbytes)
            around = np.concatenate([copy[:begin], copy[begin + root.nbytes :]])
            if (around != _NOBODYS).any():
                raise RuntimeError(f"{name}: it wrote outside of an array, or of what the array is a part of")


@contextlib.contextmanager
def _launching(name):
    cuda.begin_work()
    counts.launch(name)
    memory = _Memory()
    yield memory
    memory.bring_back(name)


# ---- compiling -------------------------------------------------------------------------------------------------------


def _library(code, options, expressions=()):
    if why := cuda_on_cpu.missing():
        pytest.skip(why)
    return cuda_on_cpu.library(code, options, expressions)


@functools.cache
def _kernel(code, name, options, expressions=()):
    try:
        return _library(code, options, expressions).kernel(name)
    except KeyError:
        raise RuntimeError(f'CUDA_ERROR_NOT_FOUND: named symbol not found: {name}; is it extern "C"?') from None


def _options(options):
    if not isinstance(options, tuple):
        raise TypeError(f"Argument 'options' has incorrect type (expected tuple, got {type(options).__name__})")
    return options


def _three(sizes):
    """As CuPy takes a grid and a block: missing sizes are 1, and so is zero."""
    if not isinstance(sizes, tuple):
        raise TypeError(f"Expected tuple, got {type(sizes).__name__}")
    return tuple(max(1, n) for n in (*sizes, 1, 1)[:3])
