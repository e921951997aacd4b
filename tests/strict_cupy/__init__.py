"""A strict stand-in for the module `cupy`, over NumPy: what CuPy 14 refuses, it refuses; what CuPy lacks, it lacks.

It computes in host memory, and so runs without a GPU, but an array of it is as far from NumPy as one on a device:
nothing converts it implicitly, and no operator, function or index takes it together with a numpy.ndarray. Functions
and methods have CuPy's parameters, reductions return arrays without axes, integer indices that are out of range wrap,
nothing warns, and arrays of a device other than the current one are refused. There are two devices.

Where CuPy is more generous than it should be relied on to be (it copies a numpy.ndarray that is used as an index to the
device, unasked), the stand-in refuses.
"""
# ruff: noqa: E402, F401

import math
import operator
import sys
import threading

from types import ModuleType, SimpleNamespace

import numpy as np

SCALARS = (bool, int, float, complex, np.generic)


class ndarray:
    """An array "on a device": a NumPy array that nobody else gets to see."""

    __slots__ = ("_device", "_host")
    __array_priority__ = 100
    __hash__ = None

    def __init__(self, host, device):
        self._host, self._device = host, device

    # ---- what it is -------------------------------------------------------------------------------------------------

    shape = property(lambda self: self._host.shape)
    ndim = property(lambda self: self._host.ndim)
    size = property(lambda self: self._host.size)
    dtype = property(lambda self: self._host.dtype)
    strides = property(lambda self: self._host.strides)
    nbytes = property(lambda self: self._host.nbytes)
    device = property(lambda self: Device(self._device))
    T = property(lambda self: self._view(self._host.T))
    __cuda_array_interface__ = property(lambda self: {"shape": self.shape, "version": 3})

    # ---- leaving the device -----------------------------------------------------------------------------------------

    def __array__(self, dtype=None, copy=None):
        raise TypeError(
            "Implicit conversion to a NumPy array is not allowed. "
            "Please use `.get()` to construct a NumPy array explicitly."
        )

    def get(self):
        return self._host.copy()

    def item(self):
        if self.size != 1:
            raise ValueError("can only convert an array of size 1 to a Python scalar")
        return self._host.item()

    def tolist(self):
        return self._host.tolist()

    def __bool__(self):
        return bool(self._host)

    def __int__(self):
        return int(self._host)

    def __float__(self):
        return float(self._host)

    def __len__(self):
        return len(self._host)

    def __iter__(self):
        return (self[i] for i in range(len(self)))

    def __repr__(self):
        return repr(self._host)

    def __dlpack_device__(self):
        return 2, self._device  # kDLCUDA

    # ---- NumPy's functions, called on it ----------------------------------------------------------------------------

    def __array_ufunc__(self, ufunc, method, *inputs, out=(), **kwargs):
        function = globals().get(ufunc.__name__)
        known = all(isinstance(x, (ndarray, np.ndarray, *SCALARS)) for x in (*inputs, *out))
        if method != "__call__" or not isinstance(function, _Ufunc) or not known:
            return NotImplemented
        return function(*inputs, **kwargs, **({"out": out[0]} if out else {}))

    def __array_function__(self, func, types, args, kwargs):
        function = globals().get(func.__name__)
        if function is None or function is func or not all(issubclass(t, ndarray) for t in types):
            return NotImplemented
        return function(*args, **kwargs)

    # ---- items ------------------------------------------------------------------------------------------------------

    def __getitem__(self, key):
        found = self._host[_key(key, self.shape)]
        return self._view(np.asarray(found))

    def __setitem__(self, key, value):
        self._host[_key(key, self.shape)] = _operand(value)

    # ---- methods, with CuPy's parameters ----------------------------------------------------------------------------

    def astype(self, dtype, order="K", casting=None, subok=None, copy=True):
        return _kernel(lambda a: a.astype(dtype, copy=copy), self)

    def copy(self, order="C"):
        return _kernel(np.copy, self)

    def fill(self, value):
        if not isinstance(value, SCALARS):
            raise TypeError(f"Unsupported type {type(value)}")
        self._host.fill(value)

    def reshape(self, *shape, order="C"):
        return self._view(self._host.reshape(*shape))

    def ravel(self, order="C"):
        return self._view(self._host.ravel())

    def transpose(self, *axes):
        return self._view(self._host.transpose(*axes))

    def swapaxes(self, axis1, axis2):
        return self._view(self._host.swapaxes(axis1, axis2))

    def squeeze(self, axis=None):
        return self._view(self._host.squeeze(axis))

    def sum(self, axis=None, dtype=None, out=None, keepdims=False):
        return _kernel(lambda a: a.sum(axis=axis, dtype=dtype, keepdims=keepdims), self)

    def mean(self, axis=None, dtype=None, out=None, keepdims=False):
        return _kernel(lambda a: a.mean(axis=axis, dtype=dtype, keepdims=keepdims), self)

    def max(self, axis=None, out=None, keepdims=False):
        return _kernel(lambda a: a.max(axis=axis, keepdims=keepdims), self)

    def min(self, axis=None, out=None, keepdims=False):
        return _kernel(lambda a: a.min(axis=axis, keepdims=keepdims), self)

    def all(self, axis=None, out=None, keepdims=False):
        return _kernel(lambda a: a.all(axis=axis, keepdims=keepdims), self)

    def any(self, axis=None, out=None, keepdims=False):
        return _kernel(lambda a: a.any(axis=axis, keepdims=keepdims), self)

    def argmax(self, axis=None, out=None, dtype=None, keepdims=False):
        return _kernel(lambda a: a.argmax(axis=axis, keepdims=keepdims), self)

    def cumsum(self, axis=None, dtype=None, out=None):
        return _kernel(lambda a: a.cumsum(axis=axis, dtype=dtype), self)

    def clip(self, min=None, max=None, out=None):
        return _kernel(lambda a: a.clip(_operand(min), _operand(max)), self)

    def _view(self, host):
        return ndarray(host, self._device)


def _kernel(function, *arrays):
    """function of the arrays' values, as a new array on the current device; no floating-point warnings on a GPU."""
    for a in arrays:
        _check_device(a)
    with np.errstate(all="ignore"):
        return ndarray(np.asarray(function(*(a._host for a in arrays))), _current.id)


def _check_device(a):
    if a._device != _current.id:
        raise ValueError(
            f"Array device must be same as the current device: array device = {a._device} while current = {_current.id}"
        )


def _operand(x):
    """The value of what may stand beside an array: another one, a Python or a NumPy scalar."""
    if isinstance(x, ndarray):
        return x._host
    if x is None or isinstance(x, SCALARS):
        return x
    raise TypeError(f"Unsupported type {type(x)}")


def _key(key, shape):
    """An index for the host array: integer arrays wrap, as CuPy's do; numpy arrays are refused."""
    parts = [_key_part(k) for k in (key if isinstance(key, tuple) else (key,))]
    used = sum(_axes_of(k) for k in parts)
    axis, wrapped = 0, []
    for k in parts:
        axes = len(shape) - used if k is Ellipsis else _axes_of(k)
        if isinstance(k, np.ndarray) and k.dtype.kind in "iu" and shape[axis] > 0:
            k = (k.astype(np.int64)) % shape[axis]
        wrapped.append(k)
        axis += axes
    return tuple(wrapped)


def _key_part(k):
    if isinstance(k, ndarray):
        return k._host
    if isinstance(k, list):
        array = np.array(k)
        return array if array.size else array.astype(np.int32)
    if isinstance(k, np.ndarray):
        raise TypeError(f"Unsupported type {type(k)}")
    return k


def _axes_of(k):
    """How many axes an index names."""
    if k is None or k is Ellipsis:
        return 0
    return k.ndim if isinstance(k, np.ndarray) and k.dtype == bool else 1


# ---- operators: CuPy hands them to NumPy's ufuncs, which ask each operand (NEP 13) ---------------------------------

_OPERATORS = {
    "add": np.add, "sub": np.subtract, "mul": np.multiply, "truediv": np.true_divide, "pow": np.power,
    "floordiv": np.floor_divide, "mod": np.remainder, "and": np.bitwise_and, "or": np.bitwise_or,
}  # fmt: skip
_COMPARISONS = {
    "lt": np.less, "le": np.less_equal, "gt": np.greater, "ge": np.greater_equal, "eq": np.equal, "ne": np.not_equal,
}  # fmt: skip


def _set_operators():
    for name, ufunc in {**_OPERATORS, **_COMPARISONS}.items():
        setattr(ndarray, f"__{name}__", lambda a, b, ufunc=ufunc: ufunc(a, b))
    for name, ufunc in _OPERATORS.items():
        setattr(ndarray, f"__r{name}__", lambda a, b, ufunc=ufunc: ufunc(b, a))
        setattr(ndarray, f"__i{name}__", lambda a, b, ufunc=ufunc: globals()[ufunc.__name__](a, b, out=a))
    for name, ufunc in {"neg": np.negative, "abs": np.absolute, "invert": np.invert}.items():
        setattr(ndarray, f"__{name}__", lambda a, ufunc=ufunc: ufunc(a))
    ndarray.__matmul__ = matmul
    ndarray.__rmatmul__ = lambda a, b: matmul(b, a)


class _Ufunc:
    """A function of elements: cupy.add, cupy.exp, …"""

    def __init__(self, ufunc):
        self.ufunc = ufunc

    def __call__(self, *args, out=None, dtype=None):
        values = [_operand(a) for a in args]
        arrays = [a for a in args if isinstance(a, ndarray)]
        if out is None:
            return _kernel(lambda *_: self.ufunc(*values, dtype=dtype), *arrays)
        if not isinstance(out, ndarray):
            raise TypeError(f"Unsupported type {type(out)}")
        _kernel(lambda *_: self.ufunc(*values, out=out._host), out, *arrays)
        return out

    def at(self, a, indices, b=None):
        if self.ufunc is not np.add:
            raise NotImplementedError(f"`{self.ufunc.__name__}.at` is not supported yet")
        if a.dtype.char not in "iIQefdL":
            raise TypeError("scatter_add only supports int32, float16, float32, float64, uint32, uint64")
        np.add.at(a._host, _key(indices, a.shape), _operand(b))


_UFUNCS = [
    "absolute", "add", "bitwise_and", "bitwise_or", "divide", "equal", "exp", "floor_divide", "greater",
    "greater_equal", "invert", "isfinite", "isnan", "less", "less_equal", "log", "log1p", "maximum", "minimum",
    "multiply", "negative", "not_equal", "power", "reciprocal", "remainder", "sign", "sqrt", "subtract", "tanh",
]  # fmt: skip
for _name in _UFUNCS:
    globals()[_name] = _Ufunc(getattr(np, _name))
true_divide, abs = globals()["divide"], globals()["absolute"]


# ---- functions, with CuPy's parameters -----------------------------------------------------------------------------


def _array(x):
    if not isinstance(x, ndarray):
        raise TypeError(f"Only cupy arrays are supported, got {type(x)}")
    return x


def array(obj, dtype=None, copy=True):
    host = np.array(obj._host if isinstance(obj, ndarray) else obj, dtype)
    if host.dtype.kind not in "fiubc":
        raise ValueError(f"Unsupported dtype {host.dtype}")
    return ndarray(host, _current.id)


def asarray(a, dtype=None, order=None):
    if isinstance(a, ndarray) and a._device == _current.id and (dtype is None or a.dtype == dtype):
        return a
    return array(a, dtype)


def ascontiguousarray(a, dtype=None):
    return _kernel(lambda host: np.ascontiguousarray(host, dtype), _array(a))


def zeros(shape, dtype=float):
    return ndarray(np.zeros(shape, dtype), _current.id)


def ones(shape, dtype=float):
    return ndarray(np.ones(shape, dtype), _current.id)


def full(shape, fill_value, dtype=None):
    return ndarray(np.full(shape, _operand(fill_value), dtype), _current.id)


def arange(start, stop=None, step=1, dtype=None):
    return ndarray(np.arange(*((start,) if stop is None else (start, stop, step)), dtype=dtype), _current.id)


def flatnonzero(a):
    return _kernel(np.flatnonzero, _array(a))


def eye(N, M=None, k=0, dtype=float):
    return ndarray(np.eye(N, M, k, dtype), _current.id)


def zeros_like(a, dtype=None):
    return _kernel(lambda host: np.zeros_like(host, dtype), _array(a))


def ones_like(a, dtype=None):
    return _kernel(lambda host: np.ones_like(host, dtype), _array(a))


def where(condition, x=None, y=None):
    return _kernel(lambda c, *_: np.where(c, _operand(x), _operand(y)), _array(condition), *_arrays(x, y))


def clip(a, a_min, a_max, out=None):
    return _array(a).clip(a_min, a_max)


def matmul(a, b):
    return _kernel(np.matmul, _array(a), _array(b))


def einsum(*operands, dtype=None, optimize=False):
    spec, *arrays = operands
    return _kernel(lambda *hosts: np.einsum(spec, *hosts, optimize=optimize), *map(_array, arrays))


def concatenate(tup, axis=0, out=None):
    return _kernel(lambda *hosts: np.concatenate(hosts, axis), *map(_array, tup))


def stack(tup, axis=0, out=None):
    return _kernel(lambda *hosts: np.stack(hosts, axis), *map(_array, tup))


def broadcast_to(array, shape):
    return _array(array)._view(np.broadcast_to(array._host, shape))


def flip(a, axis=None):
    return _array(a)._view(np.flip(a._host, axis))


def pad(array, pad_width, mode="constant", *, constant_values=0):
    return _kernel(lambda host: np.pad(host, pad_width, mode, constant_values=constant_values), _array(array))


def take_along_axis(a, indices, axis):
    return _kernel(
        lambda host, index: np.take_along_axis(host, index % host.shape[axis], axis), _array(a), _array(indices)
    )


def shape(a):
    return _array(a).shape


def _arrays(*args):
    return [a for a in args if isinstance(a, ndarray)]


inf, nan, pi = np.inf, np.nan, np.pi
_set_operators()


# ---- devices -------------------------------------------------------------------------------------------------------


class _Current(threading.local):
    id = 0


_current = _Current()


class Device:
    """A GPU, by number; as a context, the current one inside the block."""

    def __init__(self, device=None):
        self.id = _current.id if device is None else operator.index(device)
        self.outer = []

    def use(self):
        _current.id = self.id

    def __enter__(self):
        self.outer.append(_current.id)
        self.use()
        return self

    def __exit__(self, *_):
        _current.id = self.outer.pop()


from strict_cupy import counts
from strict_cupy.counts import counted
from strict_cupy.kernels import CompileException, ElementwiseKernel, RawKernel, RawModule

cuda = SimpleNamespace(
    compiler=SimpleNamespace(CompileException=CompileException),
    Device=Device,
    is_available=lambda: True,
    runtime=SimpleNamespace(getDeviceCount=lambda: 2, driverGetVersion=lambda: 13000, runtimeGetVersion=lambda: 13000),
)


def _erf(x):
    """cupyx.scipy.special.erf, whose loops are e->d, f->f, d->d: half precision comes back as double."""
    dtype = np.float64 if x.dtype == np.float16 else x.dtype
    return _kernel(lambda host: np.asarray(np.frompyfunc(math.erf, 1, 1)(host), dtype), _array(x))


def modules():
    """What stands in sys.modules where CuPy is installed, by name."""
    found = {"cupy": sys.modules[__name__]}
    for name in ("cupyx", "cupyx.scipy", "cupyx.scipy.special"):
        found[name] = ModuleType(name)
    found["cupyx.scipy.special"].erf = _erf
    return found
