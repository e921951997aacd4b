"""The functions of the calculus on vectors of float32: polynomials and fractions, accurate to the last bits."""

from __future__ import annotations

import math

from typing import Any

import numpy as np

from tinygrad_rnn.compiler.llvm.assembly import I16, I32, constant, vector
from tinygrad_rnn.compiler.llvm.builder import Code

# ---- functions ------------------------------------------------------------------------------------------------------

# tanh x = x P(x²) / Q(x²) for |x| ≤ 8.5, fitted to least relative error (3.5e-9) by weighted least squares
TANH_P = (0.9999999964614218, 0.13104762008168247, 0.003127251716446586, 1.1402236547014253e-05,
          -2.126495634035308e-08, 5.802552484829005e-11, -9.9137071240045e-14)  # fmt: skip
TANH_Q = (1.0, 0.46438091863816067, 0.02458761499978903, 0.0002580298771759124)


def _horner(code: Code, coefficients: tuple[float, ...], x: Any) -> Any:
    total = code.constant(coefficients[-1])
    for c in reversed(coefficients[:-1]):
        total = code.fma(total, x, code.constant(c))
    return total


def tanh(code: Code, x: Any) -> Any:
    """tanh: within 6 units in the last place in float32, the C library's in float64."""
    if code.item == 8:
        return code.each("tanh", x)
    b = code.b
    x = _clamped(code, x, -8.5, 8.5)
    u = b.fmul(x, x)
    return b.fdiv(b.fmul(x, _horner(code, TANH_P, u)), _horner(code, TANH_Q, u))


def exp(code: Code, x: Any) -> Any:
    """exp: 2ⁿ eʳ with x = n log 2 + r and |r| ≤ log(2)/2, eʳ by its Taylor series; the C library's in float64."""
    if code.item == 8:
        return code.each("exp", x)
    b = code.b
    x = _clamped(code, x, -104.0, 89.0)
    magic = 1.5 * 2**23  # added to a small number, it leaves the nearest integer in the last bits
    shifted = code.fma(x, code.constant(1 / math.log(2)), code.constant(magic))
    n = b.fsub(shifted, code.constant(magic))
    high = 0.693145751953125  # log 2 in two parts: n times the first has no rounding error
    r = code.fma(n, code.constant(-high), x)
    r = code.fma(n, code.constant(high - math.log(2)), r)
    y = _horner(code, tuple(1 / math.factorial(k) for k in range(8)), r)
    if code.lanes * code.item == 64:  # AVX-512 has an instruction for it
        kinds = [code.vector, code.vector, code.vector, I16, I32]
        scale = code.intrinsic("x86.avx512.mask.scalef.ps.512", code.vector, kinds)
        return b.call(scale, [y, n, y, constant(I16, -1), constant(I32, 4)])
    ints = vector(I32, code.lanes)
    all_of = lambda k: constant(ints, k)
    whole = b.sub(b.bitcast(shifted, ints), all_of(int(np.float32(magic).view(np.int32))))
    half = b.ashr(whole, all_of(1))  # in two factors: 2ⁿ itself may be too large, or too small to be normal
    power = lambda k: b.bitcast(b.shl(b.add(k, all_of(127)), all_of(23)), code.vector)
    return b.fmul(b.fmul(y, power(half)), power(b.sub(whole, half)))


def _clamped(code: Code, x: Any, low: float, high: float) -> Any:
    """x, at least low and at most high; NaN stays."""
    b = code.b
    x = b.select(b.fcmp_ordered("<", x, code.constant(low)), code.constant(low), x)
    return b.select(b.fcmp_ordered(">", x, code.constant(high)), code.constant(high), x)


def sign(code: Code, x: Any) -> Any:
    """-1, 0 or 1; NaN stays."""
    b = code.b
    one = code.binary("copysign", code.constant(1.0), x)
    return b.select(
        b.fcmp_ordered("==", x, code.constant(0.0)), code.constant(0.0), b.select(b.fcmp_unordered("uno", x, x), x, one)
    )


FUNCTIONS: dict[str, Any] = {
    "tanh": tanh,
    "exp": exp,
    "sign": sign,
    "abs": lambda code, x: code.unary("fabs", x),
    "sqrt": lambda code, x: code.unary("sqrt", x),
    "log": lambda code, x: code.each("log", x),
    **{name: lambda code, x, name=name: code.each(name, x) for name in ("cos", "expm1", "log1p", "sin")},
    "floor": lambda code, x: code.unary("floor", x),
    "rint": lambda code, x: code.unary("rint", x),
    "fmod": lambda code, a, b: code.each("fmod", a, b),
    "erf": lambda code, x: code.each("erf", x),
    "pow": lambda code, a, b: code.each("pow", a, b),
    "fmax": lambda code, a, b: code.binary("maximum", a, b),
    "fmin": lambda code, a, b: code.binary("minimum", a, b),
}
