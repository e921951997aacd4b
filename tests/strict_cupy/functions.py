"""The functions of the stand-in, with CuPy's parameters, and the kernels that CuPy launches for each."""

import math

import numpy as np

from strict_cupy import counts, cuda
from strict_cupy.arrays import SCALARS, compute, host_key, ndarray, operand


class Ufunc:
    """A function of elements: cupy.add, cupy.exp, …"""

    def __init__(self, ufunc):
        self.ufunc = ufunc

    def __call__(self, *args, out=None, dtype=None):
        values = [operand(a) for a in args]
        arrays = [a for a in args if isinstance(a, ndarray)]
        if out is None:
            return compute(self.ufunc.__name__, lambda *_: self.ufunc(*values, dtype=dtype, order="C"), *arrays)
        if not isinstance(out, ndarray):
            raise TypeError(f"Unsupported type {type(out)}")
        compute(self.ufunc.__name__, lambda *_: self.ufunc(*values, out=out._host), out, *arrays)
        return out

    def at(self, a, indices, b=None):
        if self.ufunc is not np.add:
            raise NotImplementedError(f"`{self.ufunc.__name__}.at` is not supported yet")
        if a.dtype.char not in "iIQefdL":
            raise TypeError("scatter_add only supports int32, float16, float32, float64, uint32, uint64")
        cuda.begin_work()
        counts.launch("add.at")
        np.add.at(a._host, host_key(indices, a.shape), operand(b))


_UFUNCS = [
    "absolute", "add", "bitwise_and", "bitwise_or", "cos", "divide", "equal", "exp", "expm1", "floor", "floor_divide",
    "fmod", "greater", "greater_equal", "invert", "isfinite", "isnan", "less", "less_equal", "log", "log1p", "maximum",
    "minimum", "multiply", "negative", "not_equal", "positive", "power", "reciprocal", "remainder", "rint", "sign",
    "sin", "sqrt", "subtract", "tanh",
]  # fmt: skip
for _name in _UFUNCS:
    globals()[_name] = Ufunc(getattr(np, _name))
true_divide, abs = globals()["divide"], globals()["absolute"]


def _array(x):
    if not isinstance(x, ndarray):
        raise TypeError(f"Only cupy arrays are supported, got {type(x)}")
    return x


def _arrays(*args):
    return [a for a in args if isinstance(a, ndarray)]


# ---- making arrays ---------------------------------------------------------------------------------------------------


def array(obj, dtype=None, copy=True):
    if isinstance(obj, ndarray) and obj._device == cuda.current_device():
        return compute("array", lambda host: np.array(host, dtype), obj)
    host = np.array(obj._host if isinstance(obj, ndarray) else obj, dtype)
    if host.dtype.kind not in "fiubc":
        raise ValueError(f"Unsupported dtype {host.dtype}")
    counts.copy("array")
    there = cuda.poisoned(host.shape, host.dtype)
    cuda.get_current_stream().do_later(lambda: np.copyto(there, host))
    return ndarray(there, cuda.current_device())


def asarray(a, dtype=None, order=None):
    if isinstance(a, ndarray) and a._device == cuda.current_device() and (dtype is None or a.dtype == dtype):
        return a
    return array(a, dtype)


def asnumpy(a, stream=None, order="C", out=None, *, blocking=True):
    return a.get(stream, order, out, blocking) if isinstance(a, ndarray) else np.asarray(a)


def ascontiguousarray(a, dtype=None):
    copied = not _array(a)._host.flags.c_contiguous or (dtype is not None and a.dtype != dtype)
    return compute("ascontiguousarray", lambda host: np.ascontiguousarray(host, dtype), a, launches=copied)


def _made(name, host, launches=1):
    cuda.get_default_memory_pool().allocate(host.nbytes)
    counts.launch(name, launches)
    return ndarray(host, cuda.current_device())


def empty(shape, dtype=float):
    return _made("empty", cuda.poisoned(shape, dtype), 0)


def empty_like(prototype, dtype=None):
    return empty(_array(prototype).shape, dtype or prototype.dtype)


def zeros(shape, dtype=float):
    return _made("zeros", np.zeros(shape, dtype))


def ones(shape, dtype=float):
    return _made("ones", np.ones(shape, dtype))


def full(shape, fill_value, dtype=None):
    return _made("full", np.full(shape, operand(fill_value), dtype))


def arange(start, stop=None, step=1, dtype=None):
    return _made("arange", np.arange(*((start,) if stop is None else (start, stop, step)), dtype=dtype))


def eye(N, M=None, k=0, dtype=float):
    return _made("eye", np.eye(N, M, k, dtype), 2)


def zeros_like(a, dtype=None):
    return compute("zeros_like", lambda host: np.zeros_like(host, dtype), _array(a))


def ones_like(a, dtype=None):
    return compute("ones_like", lambda host: np.ones_like(host, dtype), _array(a))


def empty_pinned(shape, dtype=float):
    """cupyx.empty_pinned: a host array that a stream can copy from while the host goes on."""
    return cuda.poisoned(shape, dtype)


# ---- computing -------------------------------------------------------------------------------------------------------


def copyto(dst, src, casting="same_kind", where=None):
    if not isinstance(src, (ndarray, *SCALARS)):
        raise TypeError(f"Unsupported type {type(src)}")
    compute(
        "copyto", lambda *_: np.copyto(dst._host, operand(src), casting, True if where is None else where._host), dst
    )


def flatnonzero(a):
    counts.sync("flatnonzero")
    return compute("flatnonzero", np.flatnonzero, _array(a), launches=3)


def nonzero(a):
    cuda.begin_work()
    counts.sync("nonzero")
    counts.launch("nonzero", 3)
    return tuple(ndarray(host, a._device) for host in np.nonzero(_array(a)._host))


def where(condition, x=None, y=None):
    return compute("where", lambda c, *_: np.where(c, operand(x), operand(y)), _array(condition), *_arrays(x, y))


def clip(a, a_min, a_max, out=None):
    return _array(a).clip(a_min, a_max)


def vdot(a, b):
    return compute("vdot", np.vdot, _array(a), _array(b), launches=2)


def matmul(a, b, out=None):
    launches = 1
    if max(_array(a).ndim, _array(b).ndim) > 2:  # copies what is not contiguous; two matrices are read as they lie
        launches += sum(not x._host.flags.c_contiguous for x in (a, b))
    if out is None:
        return compute("matmul", np.matmul, a, b, launches=launches)
    if (out.dtype, out.shape) != (np.result_type(a.dtype, b.dtype), np.matmul(a._host, b._host).shape):
        raise ValueError("Output array has an invalid size or dtype")
    launches += not out._host.flags.c_contiguous
    compute("matmul", lambda x, y, o: np.copyto(o, np.matmul(x, y)), a, b, out, launches=launches)
    return out


def einsum(*operands, dtype=None, optimize=False):
    spec, *arrays = operands
    find = lambda *hosts: np.einsum(spec, *hosts, optimize=optimize)
    return compute("einsum", find, *map(_array, arrays), launches=2)


def concatenate(tup, axis=0, out=None):
    return compute("concatenate", lambda *hosts: np.concatenate(hosts, axis), *map(_array, tup), launches=_each(tup))


def stack(tup, axis=0, out=None):
    return compute("stack", lambda *hosts: np.stack(hosts, axis), *map(_array, tup), launches=_each(tup))


def _each(arrays):
    return len(arrays) if len(arrays) <= 8 else 1


def broadcast_to(array, shape):
    return _array(array)._view(np.broadcast_to(array._host, shape))


def argsort(a, axis=-1, kind=None):
    if kind not in (None, "stable"):
        raise ValueError("kind can only be None or 'stable'")
    return compute("argsort", lambda host: np.argsort(host, axis, kind="stable"), _array(a), launches=4)


def take(a, indices, axis=None):
    """Indices that are out of range wrap."""
    return compute("take", lambda host, at: np.take(host, at, axis, mode="wrap"), _array(a), _array(indices))


def flip(a, axis=None):
    return _array(a)._view(np.flip(a._host, axis))


def pad(array, pad_width, mode="constant", *, constant_values=0):
    padded = lambda host: np.pad(host, pad_width, mode, constant_values=constant_values)
    return compute("pad", padded, _array(array), launches=4)


def take_along_axis(a, indices, axis):
    taken = lambda host, index: np.take_along_axis(host, index % host.shape[axis], axis)
    return compute("take_along_axis", taken, _array(a), _array(indices), launches=2 * a.ndim)


def shape(a):
    return _array(a).shape


def erf(x):
    """cupyx.scipy.special.erf, whose loops are e->d, f->f, d->d: half precision comes back as double."""
    dtype = np.float64 if x.dtype == np.float16 else x.dtype
    return compute("erf", lambda host: np.asarray(np.frompyfunc(math.erf, 1, 1)(host), dtype), _array(x))
