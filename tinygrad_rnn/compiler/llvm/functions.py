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


# π/2 in three parts: a whole number up to 2^17 times each of the first two has no rounding error in an fma; there are
# fewer quarter turns in an x up to that
HALF_PI = (1.5707963705062866, -4.371138828673793e-08, -1.7151245100058819e-15)
LARGEST = 1 << 17
SINE = tuple((-1) ** k / math.factorial(2 * k + 1) for k in range(5))  # sin x = x P(x²), cos x = Q(x²) for |x| ≤ π/4
COSINE = tuple((-1) ** k / math.factorial(2 * k) for k in range(6))


def _circular(name: str, quarters: int) -> Any:
    """sin (x + quarters π/2): of x = n π/2 + r, ± sin r or ± cos r, by their Taylor series; the C library's in float64
    and where x is too large to be reduced."""

    def function(code: Code, x: Any) -> Any:
        if code.item == 8:
            return code.each(name, x)
        b, ints = code.b, vector(I32, code.lanes)
        magic = 1.5 * 2**23  # as in exp
        shifted = code.fma(x, code.constant(2 / math.pi), code.constant(magic))
        n, r = b.fsub(shifted, code.constant(magic)), x
        for part in HALF_PI:
            r = code.fma(n, code.constant(-part), r)
        u = b.fmul(r, r)
        quarter = b.add(b.bitcast(shifted, ints), constant(ints, quarters))
        bit = lambda k: b.icmp_signed("!=", b.and_(quarter, constant(ints, k)), constant(ints, 0))
        y = b.select(bit(1), _horner(code, COSINE, u), b.fmul(r, _horner(code, SINE, u)))
        y = b.select(bit(2), b.fneg(y), y)
        size = code.unary("fabs", x)
        large = b.fcmp_unordered(">", size, code.constant(LARGEST))
        return code.rarely(large, y, lambda: code.each(name, x))

    return function


def expm1(code: Code, x: Any) -> Any:
    """exp x - 1 = 2t / (1 - t), t = tanh(x/2), and plainly from 1 on; the C library's in float64."""
    if code.item == 8:
        return code.each("expm1", x)
    b, one = code.b, code.constant(1.0)
    t = tanh(code, b.fmul(x, code.constant(0.5)))
    small = b.fdiv(b.fadd(t, t), b.fsub(one, t))
    return b.select(b.fcmp_ordered(">=", x, one), b.fsub(exp(code, x), one), small)


def fmod(code: Code, x: Any, y: Any) -> Any:
    """x - n y of the sign of x, n whole: exact, for an n that is right or one too large is seen by the sign; the C
    library's where n is too large for that."""
    b = code.b
    size, by = code.unary("fabs", x), code.unary("fabs", y)
    n = code.unary("floor", b.fdiv(size, by))
    m = code.fma(b.fneg(n), by, size)
    m = b.select(b.fcmp_ordered("<", m, code.constant(0.0)), b.fadd(m, by), m)
    far = b.or_(
        b.fcmp_unordered(">=", n, code.constant(2.0 ** (22 if code.item == 4 else 51))),
        b.fcmp_ordered("==", by, code.constant(math.inf)),
    )
    m = code.rarely(far, m, lambda: code.each("fmod", size, by))
    return code.binary("copysign", m, x)


FUNCTIONS: dict[str, Any] = {
    "tanh": tanh,
    "exp": exp,
    "expm1": expm1,
    "sin": _circular("sin", 0),
    "cos": _circular("cos", 1),
    "fmod": fmod,
    "sign": sign,
    "abs": lambda code, x: code.unary("fabs", x),
    "sqrt": lambda code, x: code.unary("sqrt", x),
    "log": lambda code, x: code.each("log", x),
    "log1p": lambda code, x: code.each("log1p", x),
    "floor": lambda code, x: code.unary("floor", x),
    "rint": lambda code, x: code.unary("rint", x),
    "erf": lambda code, x: code.each("erf", x),
    "pow": lambda code, a, b: code.each("pow", a, b),
    "fmax": lambda code, a, b: code.binary("maximum", a, b),
    "fmin": lambda code, a, b: code.binary("minimum", a, b),
}
