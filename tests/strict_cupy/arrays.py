"""The array of the stand-in: its methods and operators, its indices, and what each of them costs."""

import sys

from types import SimpleNamespace

import numpy as np

from strict_cupy import counts, cuda

SCALARS = (bool, int, float, complex, np.generic)


class ndarray:
    """An array "on a device": a NumPy array that nobody else gets to see."""

    __slots__ = ("__weakref__", "_device", "_host")
    __array_priority__ = 100
    __hash__ = None

    def __init__(self, host, device):
        self._host, self._device = host, device

    # ---- what it is -------------------------------------------------------------------------------------------------

    shape = property(lambda self: self._host.shape)
    ndim = property(lambda self: self._host.ndim)
    size = property(lambda self: self._host.size)
    dtype = property(lambda self: self._host.dtype)
    itemsize = property(lambda self: self._host.itemsize)
    strides = property(lambda self: self._host.strides)
    nbytes = property(lambda self: self._host.nbytes)
    device = property(lambda self: cuda.Device(self._device))
    flags = property(lambda self: SimpleNamespace(c_contiguous=_contiguous(self), f_contiguous=_contiguous(self.T)))
    data = property(lambda self: SimpleNamespace(ptr=address(self._host), device_id=self._device))
    T = property(lambda self: self._view(self._host.T))
    __cuda_array_interface__ = property(lambda self: {"shape": self.shape, "version": 3})

    # ---- leaving the device, and coming to it -----------------------------------------------------------------------

    def __array__(self, dtype=None, copy=None):
        raise TypeError(
            "Implicit conversion to a NumPy array is not allowed. "
            "Please use `.get()` to construct a NumPy array explicitly."
        )

    def get(self, stream=None, order="C", out=None, blocking=True):
        out, values = np.empty(self.shape, self.dtype) if out is None else out, self._host.copy()
        if blocking:
            _wait("get")
            np.copyto(out, values)
        else:
            cuda.leave(lambda: np.copyto(out, values))
        return out

    def item(self):
        _wait("item")
        if self.size != 1:
            raise ValueError("can only convert an array of size 1 to a Python scalar")
        return self._host.item()

    def tolist(self):
        _wait("tolist")
        return self._host.tolist()

    def __bool__(self):
        _wait("bool")
        return bool(self._host)

    def __int__(self):
        _wait("int")
        return int(self._host)

    def __float__(self):
        _wait("float")
        return float(self._host)

    def set(self, arr, stream=None):
        """Copy a host array of the same shape and dtype to here, on a stream without waiting for it."""
        if not isinstance(arr, np.ndarray):
            raise TypeError("Only numpy.ndarray can be set to cupy.ndarray")
        if (arr.dtype, arr.shape) != (self.dtype, self.shape):
            raise ValueError(f"{arr.dtype} array {arr.shape} cannot be set to {self.dtype} array {self.shape}")
        if not _contiguous(self):
            raise RuntimeError("Cannot set to non-contiguous array")
        counts.copy("set")
        (stream or cuda.get_current_stream()).do_later(lambda: np.copyto(self._host, arr))
        if stream is None:
            _wait("set")

    def __len__(self):
        return len(self._host)

    def __iter__(self):
        return (self[i] for i in range(len(self)))

    def __repr__(self):
        _wait("repr")
        return repr(self._host)

    def __dlpack_device__(self):
        return 2, self._device  # kDLCUDA

    # ---- NumPy's functions, called on it ----------------------------------------------------------------------------

    def __array_ufunc__(self, ufunc, method, *inputs, out=(), **kwargs):
        function = _named(ufunc.__name__)
        known = all(isinstance(x, (ndarray, np.ndarray, *SCALARS)) for x in (*inputs, *out))
        if method != "__call__" or not hasattr(function, "ufunc") or not known:
            return NotImplemented
        return function(*inputs, **kwargs, **({"out": out[0]} if out else {}))

    def __array_function__(self, func, types, args, kwargs):
        function = _named(func.__name__)
        if function is None or not all(issubclass(t, ndarray) for t in types):
            return NotImplemented
        return function(*args, **kwargs)

    # ---- items ------------------------------------------------------------------------------------------------------

    def __getitem__(self, key):
        if _advanced(key):
            cuda.begin_work()
            _count_key(key)
        return self._view(np.asarray(self._host[host_key(key, self.shape)]))

    def __setitem__(self, key, value):
        cuda.begin_work()
        _count_key(key)
        at, host = host_key(key, self.shape), operand(value)
        if not _advanced(key):
            there = self._host[at]
            if isinstance(value, ndarray) and _same_place(there, host):
                return  # out[key] += g has written it already
            counts.launch("setitem", bool(there.size))
        elif not isinstance(value, ndarray):
            counts.copy("setitem of a number by an array of indices")
        self._host[at] = host

    # ---- methods, with CuPy's parameters ----------------------------------------------------------------------------

    def astype(self, dtype, order="K", casting=None, subok=None, copy=True):
        same = not copy and np.dtype(dtype) == self.dtype
        return compute("astype", lambda a: a.astype(dtype, copy=copy), self, launches=not same)

    def copy(self, order="C"):
        return compute("copy", lambda a: a.copy(order), self)

    def fill(self, value):
        if not isinstance(value, SCALARS):
            raise TypeError(f"Unsupported type {type(value)}")
        cuda.begin_work()
        counts.launch("fill")
        self._host.fill(value)

    def view(self, dtype=None):
        return self._view(self._host.view(dtype or self.dtype))

    def reshape(self, *shape, order="C"):
        return self._maybe_copied("reshape", self._host.reshape(*shape))

    def ravel(self, order="C"):
        return self._maybe_copied("ravel", self._host.ravel())

    def transpose(self, *axes):
        return self._view(self._host.transpose(*axes))

    def swapaxes(self, axis1, axis2):
        return self._view(self._host.swapaxes(axis1, axis2))

    def squeeze(self, axis=None):
        return self._view(self._host.squeeze(axis))

    def sum(self, axis=None, dtype=None, out=None, keepdims=False):
        return into(out, compute("sum", lambda a: _in_float("sum", a, axis, dtype, keepdims), self))

    def mean(self, axis=None, dtype=None, out=None, keepdims=False):
        return into(out, compute("mean", lambda a: _in_float("mean", a, axis, dtype, keepdims), self))

    def max(self, axis=None, out=None, keepdims=False):
        return into(out, compute("max", lambda a: a.max(axis=axis, keepdims=keepdims), self))

    def min(self, axis=None, out=None, keepdims=False):
        return into(out, compute("min", lambda a: a.min(axis=axis, keepdims=keepdims), self))

    def all(self, axis=None, out=None, keepdims=False):
        return into(out, compute("all", lambda a: a.all(axis=axis, keepdims=keepdims), self))

    def any(self, axis=None, out=None, keepdims=False):
        return into(out, compute("any", lambda a: a.any(axis=axis, keepdims=keepdims), self))

    def argmax(self, axis=None, out=None, dtype=None, keepdims=False):
        return into(out, compute("argmax", lambda a: a.argmax(axis=axis, keepdims=keepdims), self))

    def cumsum(self, axis=None, dtype=None, out=None):
        return into(out, compute("cumsum", lambda a: a.cumsum(axis=axis, dtype=dtype), self))

    def clip(self, min=None, max=None, out=None):
        return into(out, compute("clip", lambda a: a.clip(operand(min), operand(max)), self))

    def _view(self, host):
        return ndarray(host, self._device)

    def _maybe_copied(self, name, host):
        counts.launch(f"{name}, a copy", bool(self.size) and not np.may_share_memory(host, self._host))
        return self._view(host)


def _in_float(name, a, axis, dtype, keepdims):
    """CuPy adds halves in float, and rounds once: NumPy does so along the last axis only."""
    if a.dtype != np.float16 or dtype is not None:
        return getattr(a, name)(axis=axis, dtype=dtype, keepdims=keepdims)
    return getattr(a, name)(axis=axis, dtype=np.float32, keepdims=keepdims).astype(np.float16)


def compute(name, function, *arrays, launches=1):
    """function of the arrays' values, as a new array on the current device; no floating-point warnings on a GPU."""
    for a in arrays:
        cuda.check_device(a)
    cuda.begin_work()
    with np.errstate(all="ignore"):
        found = np.asarray(function(*(a._host for a in arrays)))
    counts.launch(name, launches if found.size else 0)
    return ndarray(found, cuda.current_device())


def into(out, found):
    """What was found, in the array that it should be written into, if there is one."""
    if out is None:
        return found
    if out.shape != found.shape:
        raise ValueError(f"Output array has an invalid shape: {out.shape}, not {found.shape}")
    np.copyto(out._host, found._host, casting="same_kind")
    return out


def _wait(name):
    """The host waits until the current stream has done its work."""
    counts.sync(name)
    cuda.wait()


def operand(x):
    """The value of what may stand beside an array: another one, a Python or a NumPy scalar."""
    if isinstance(x, ndarray):
        return x._host
    if x is None or isinstance(x, SCALARS):
        return x
    raise TypeError(f"Unsupported type {type(x)}")


def address(host):
    """Where the first element of a host array lies."""
    return host.__array_interface__["data"][0]


def _same_place(a, b):
    return a.shape == b.shape and a.strides == b.strides and address(a) == address(b)


def _contiguous(a):
    return a._host.flags.c_contiguous


def _named(name):
    """The function of the stand-in of that name."""
    return getattr(sys.modules["strict_cupy.functions"], name, None)


# ---- indices ---------------------------------------------------------------------------------------------------------


def host_key(key, shape):
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


def _advanced(key):
    """The parts of an index that are arrays."""
    return [k for k in (key if isinstance(key, tuple) else (key,)) if isinstance(k, (ndarray, list))]


def _count_key(key):
    """A kernel for an array of indices, one more for each of several; a mask is counted, and its number waited for."""
    found = _advanced(key)
    for k in found:
        if isinstance(k, list):
            counts.copy("a list as an index")
        elif k.dtype == bool:
            counts.launch("mask as an index", 2)
            counts.sync("mask as an index")
    counts.launch("take or scatter", len(found) + 2 if len(found) > 1 else len(found))


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
        setattr(ndarray, f"__i{name}__", lambda a, b, ufunc=ufunc: _named(ufunc.__name__)(a, b, out=a))
    for name, ufunc in {"neg": np.negative, "pos": np.positive, "abs": np.absolute, "invert": np.invert}.items():
        setattr(ndarray, f"__{name}__", lambda a, ufunc=ufunc: ufunc(a))
    ndarray.__matmul__ = lambda a, b: _named("matmul")(a, b)
    ndarray.__rmatmul__ = lambda a, b: _named("matmul")(b, a)


_set_operators()
