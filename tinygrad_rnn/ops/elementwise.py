"""One formula per element, with its derivative: the calculus of the library on one screen.

A rule's first parameter g is d loss / dy.
"""

from __future__ import annotations

import math

from typing import Any

import numpy as np

from tinygrad_rnn.autograd.arrays import Array, move, xp
from tinygrad_rnn.autograd.dtypes import real_dtype
from tinygrad_rnn.autograd.operands import agreed, floating
from tinygrad_rnn.autograd.primitive import operation, primitive
from tinygrad_rnn.autograd.tensor import Tensor
from tinygrad_rnn.ops.formulas import elementwise
from tinygrad_rnn.ops.kernels import on_gpu


@on_gpu
def _tanh_rule(g: Any, y: Any) -> Any:
    return g - g * y * y


add = elementwise("add", "a + b", a=lambda g: g, b=lambda g: g)
sub = elementwise("sub", "a - b", a=lambda g: g, b=lambda g: -g)
mul = elementwise("mul", "a * b", a=lambda g, b: g * b, b=lambda g, a: g * a)
div = elementwise("div", "a / b", a=lambda g, b: g / b, b=lambda g, y, b: -g * y / b)
neg = elementwise("neg", "-x", x=lambda g: -g)
exp = elementwise("exp", "exp(x)", x=lambda g, y: g * y)
expm1 = elementwise("expm1", "expm1(x)", x=lambda g, y: g * (y + 1))
log1p = elementwise("log1p", "log1p(x)", x=lambda g, x: g / (1 + x))
log = elementwise("log", "log(x)", x=lambda g, x: g / x)
sqrt = elementwise("sqrt", "sqrt(x)", x=lambda g, y: g / (y + y))
abs = elementwise("abs", "abs(x)", x=lambda g, x: g * sign(x))
sign: Any = elementwise("sign", "sign(x)")
erf = elementwise("erf", "erf(x)", x=lambda g, x: g * (2 / math.sqrt(math.pi)) * exp(-x * x))
tanh = elementwise("tanh", "tanh(x)", x=_tanh_rule)
relu = elementwise("relu", "fmax(x, 0)", x=lambda g, y: g * (y > 0))
softplus = elementwise("softplus", "fmax(x, 0) + log1p(exp(-abs(x)))", x=lambda g, x: g * sigmoid(x))

sin: Any = elementwise("sin", "sin(x)", x=lambda g, x: g * cos(x))
cos: Any = elementwise("cos", "cos(x)", x=lambda g, x: -g * sin(x))
_floor = elementwise("floor", "floor(x)")  # steps: no derivative, as of sign
_round = elementwise("round", "rint(x)")
fmod = elementwise("fmod", "fmod(a, b)", a=lambda g: g, b=lambda g, y, a, b: -g * round((a - y) / b))  # sign of a


def floor(x: Any) -> Any:
    """The largest whole number that is not larger; integers and booleans are as they are."""
    return x if _is_whole(x) else _floor(x)


def round(x: Any) -> Any:
    """The nearest whole number, of halves the even one; integers and booleans are as they are."""
    return x if _is_whole(x) else _round(x)


def _is_whole(x: Any) -> bool:
    return getattr(x, "dtype", np.dtype(float)).kind in "iub"


greater = elementwise("greater", "a > b")
greater_equal = elementwise("greater_equal", "a >= b")
less = elementwise("less", "a < b")
less_equal = elementwise("less_equal", "a <= b")
equal = elementwise("equal", "a == b")
not_equal = elementwise("not_equal", "a != b")
isnan = elementwise("isnan", "x != x")
logical_and = elementwise("logical_and", "(a != 0) & (b != 0)")
logical_or = elementwise("logical_or", "(a != 0) | (b != 0)")
logical_not = elementwise("logical_not", "x == 0")

detach = elementwise("detach", "x")  # no rule: gradients stop here

# Where a and b are equal, each gets half, as in PyTorch.
maximum = elementwise("maximum", "fmax(a, b)", a=lambda g, a, b: _share(g, a, b), b=lambda g, a, b: _share(g, b, a))
minimum = elementwise("minimum", "fmin(a, b)", a=lambda g, a, b: _share(g, b, a), b=lambda g, a, b: _share(g, a, b))


def _share(g: Any, a: Any, b: Any) -> Any:
    return where(a < b, 0, where(a == b, 0.5 * g, g))


@on_gpu
def _sigmoid(x: Array) -> Array:
    """sigmoid(x) = 1 / (1 + exp(-x)), as exp(x) / (1 + exp(x)): each digit is right in the far negative tail too."""
    if type(x) is not np.ndarray or x.dtype not in _SIGMOID:  # numbers, or bytes in another order
        native = np.dtype(getattr(x, "dtype", float)).newbyteorder("=")
        x = np.asarray(x, native if native in _SIGMOID else np.float64)
    largest, one = _SIGMOID[x.dtype]
    e = np.minimum(x, largest)
    if not x.ndim:  # e is a NumPy scalar, which cannot be written into
        e = np.exp(e)
        return e / (e + one)
    np.exp(e, out=e)
    return np.divide(e, np.add(e, one), out=e)


# For each dtype the largest x whose exp does not overflow, and 1: as arrays, which cost less in a ufunc than numbers.
_SIGMOID = {
    np.dtype(t): (np.array(math.floor(math.log(np.finfo(t).max)), t), np.array(1, t))
    for t in (np.float16, np.float32, np.float64)
}


@on_gpu
def _sigmoid_rule(g: Any, y: Any) -> Any:
    return g * (y - y * y)


sigmoid: Any = operation(_sigmoid, "1 / (1 + exp(-x))", floats=True)
sigmoid.vjp(x=_sigmoid_rule)


@primitive
def pow(a: Array, b: Array) -> Array:
    """aᵇ; da = g b aᵇ⁻¹, and 0 for b = 0; db = g aᵇ log a, and 0 for a = 0."""
    return a**b


pow.op.mixes = 0
pow.vjp(
    a=lambda g, a, b: _pow_base(g, a, b),
    b=lambda g, y, a, b: g * y * _log_of_base(a, b),
)


def _pow_base(g: Any, a: Any, b: Any) -> Any:
    if isinstance(b, (int, float)):
        return g * (b * a ** (b - 1)) if b != 0 else g * 0
    return g * where(b == 0, 0, b * a ** where(b == 0, 1, b - 1))


def _log_of_base(a: Any, b: Any) -> Any:
    """log a, and 0 for 0ᵇ with b ≥ 0."""
    if isinstance(a, (int, float)):  # a number too, as exact as any
        return math.log(a) if a > 0 else math.nan if a < 0 else where(b < 0, -math.inf, 0.0)
    return log(where(logical_or(b < 0, a != 0), a, 1))


@primitive
def _where(c: Array, a: Array, b: Array) -> Array:
    """a where c is true, else b."""
    lib = next((xp(v) for v in (c, a, b) if xp(v) is not np), np)
    return lib.where(c, a, b)


_where.op.mixes = 1
_where.vjp(a=lambda g, c: where(c, g, 0), b=lambda g, c: where(c, 0, g))


def where(condition: Any, a: Any, b: Any) -> Any:
    """a where condition is true, else b; all three broadcast. No gradient flows from the side that is not taken,
    not even NaN."""
    if condition is None:
        raise TypeError("where: the condition must be a mask, got None")
    return _where(condition, a, b)


def gelu(x: Any, approximate: str = "none") -> Any:
    """x Φ(x), Φ the normal distribution function; approximate="tanh": 0.5 x (1 + tanh(√(2/π) (x + 0.044715 x³))).

    Hendrycks and Gimpel (2016), arXiv:1606.08415.
    """
    if approximate in ("none", "tanh") and getattr(x, "dtype", None) == np.float16:  # 1 + erf(x) would lose all digits
        return cast(gelu(cast(x, np.float32), approximate), np.float16)
    if approximate == "tanh":
        return mul(0.5, x) * (1 + tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x * x * x)))
    if approximate != "none":
        raise ValueError(f'gelu: approximate must be "none" or "tanh", got {approximate!r}')
    return mul(0.5, x) * (1 + erf(mul(x, math.sqrt(0.5))))


@primitive
def _clip(x: Array, *, min: float | None, max: float | None) -> Array:
    """x, but at least min and at most max."""
    return xp(x).clip(x, min, max)


_clip.vjp(x=lambda g, x, min, max: g * _inside(x, min, max))


def _inside(x: Any, low: float | None, high: float | None) -> Any:
    if low is None:
        return x <= high
    return x >= low if high is None else (x >= low) & (x <= high)


def clip(x: Any, min: Any = None, max: Any = None) -> Any:
    """x, but at least `min` and at most `max` (numbers, or tensors that broadcast; either may be None).

    The gradient is x's from min to max, both included, else that of the border that is taken. NaN stays, and a border
    of NaN gives NaN.
    """
    if min is None and max is None:
        raise ValueError("clip: one of min and max must be given, got neither")
    low, high = (min, max) if type(min) in BORDERS and type(max) in BORDERS else (_border(min), _border(max))
    if type(low) in BORDERS and type(high) in BORDERS:
        return _clip(floating(x) if float in (type(low), type(high)) else x, min=low, max=high)
    if low is not None and high is not None:
        _, x, low, high = agreed(_where.op, (None, x, low, high))
    x = x if low is None else where(logical_or(x >= low, isnan(x)), x, low)
    return x if high is None else where(logical_or(x <= high, isnan(x)), x, high)


BORDERS = frozenset((int, float, bool, type(None)))


def _border(value: Any) -> Any:
    """A number, also from NumPy's scalars and arrays without axes, or a tensor."""
    if isinstance(value, (str, bytes, dict)):
        raise TypeError(f"clip: min and max must be numbers or tensors, got {type(value).__name__}")
    return value.item() if isinstance(value, (np.generic, np.ndarray)) and not value.ndim else value


def masked_fill(x: Any, mask: Any, value: float) -> Any:
    """x with `value` where mask is true."""
    return where(mask, value, x)


@primitive
def _cast(x: Array, *, dtype: np.dtype) -> Array:
    """x in another dtype."""
    return x.astype(dtype)


_cast.vjp(x=lambda g, x_dtype: g.astype(x_dtype))


def cast(x: Any, dtype: Any) -> Any:
    """x in another dtype. Gradients flow between floating-point dtypes, and stop where it becomes another one."""
    dtype = real_dtype(dtype, "cast")
    if not hasattr(x, "astype"):
        raise TypeError(f"cast: it must get a tensor or an array, got {type(x).__name__}; make it one by tensor(…)")
    ends = isinstance(x, Tensor) and dtype.kind != "f" and x.dtype.kind == "f"
    return _cast(x.detach() if ends else x, dtype=dtype)


@primitive
def transfer(x: Array, *, device: str, source: str) -> Array:
    """x on another device."""
    return move(x, device)


transfer.vjp(x=lambda g, device, source: transfer(g, device=source, source=device))
