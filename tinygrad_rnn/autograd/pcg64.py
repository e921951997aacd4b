"""NumPy's generator on a GPU: the numbers of a seed are the same on every device, and none is copied there.

PCG64 steps by s ← a s + c in 128 bits, so that n steps are one step with another a and c: each thread jumps to where
its words begin (Brown, 1994). The generator itself stays in host memory, and is moved on by arithmetic.
"""

from __future__ import annotations

import functools
import math

from typing import Any

import numpy as np

from tinygrad_rnn.autograd.arrays import Array
from tinygrad_rnn.autograd.devices import device_number, load_cupy

WORDS = 8  # of 64 bits that a thread makes: a jump costs as much as some fifty of them
THREADS = 128  # of a block
LOW = (1 << 64) - 1

# O'Neill (2014), "PCG": the multiplier, and the output function XSL-RR. `halves` are those of the words in turn.
SOURCE = (
    """
typedef unsigned int u32;
typedef unsigned long long u64;
typedef unsigned __int128 u128;
struct Start { u64 state1, state0, step1, step0; };

__device__ inline u128 factor() { return (u128)2549297995355413924ULL << 64 | 4865540595714422341ULL; }

__device__ inline u128 ahead(u128 state, u128 step, u64 n) {
  u128 a = 1, c = 0, b = factor(), d = step;
  for (; n; n >>= 1, d *= b + 1, b *= b)
    if (n & 1) { a *= b; c = c * b + d; }
  return a * state + c;
}

__device__ inline u64 output(u128 s) {
  u64 x = (u64)(s >> 64) ^ (u64)s;
  int r = (int)(s >> 122);
  return x >> r | x << (-r & 63);
}

template <class Draw> __device__ inline void words(long long n, Start s, Draw draw) {
  long long first = WORDS * ((long long)blockIdx.x * blockDim.x + threadIdx.x);
  if (first >= n) return;
  u128 step = (u128)s.step1 << 64 | s.step0, state = ahead((u128)s.state1 << 64 | s.state0, step, first);
  for (long long w = first; w < n && w < first + WORDS; w++) {
    state = state * factor() + step;
    draw(w, output(state));
  }
}

template <class Draw> __device__ inline void halves(long long n, Start s, int held, u32 half, Draw draw) {
  if (held && n && !blockIdx.x && !threadIdx.x) draw(0, half);
  words((n - held + 1) / 2, s, [=](long long w, u64 x) {
    long long at = held + 2 * w;
    draw(at, (u32)x);
    if (at + 1 < n) draw(at + 1, (u32)(x >> 32));
  });
}

__device__ inline float fraction(u32 x) { return (x >> 8) * (1.0f / 16777216.0f); }

extern "C" __global__ void uniform8(double* out, long long n, u64 s1, u64 s0, u64 c1, u64 c0) {
  words(n, Start{s1, s0, c1, c0}, [=](long long at, u64 x) { out[at] = (x >> 11) * (1.0 / 9007199254740992.0); });
}

extern "C" __global__ void uniform4(float* out, long long n, u64 s1, u64 s0, u64 c1, u64 c0, int held, u32 half) {
  halves(n, Start{s1, s0, c1, c0}, held, half, [=](long long at, u32 x) { out[at] = fraction(x); });
}
""".replace("WORDS", str(WORDS))
    + "".join(
        f"""
extern "C" __global__ void mask{size}(void* to, long long n, u64 s1, u64 s0, u64 c1, u64 c0, int held, u32 half,
                                 double p, {bits} kept) {{
  {bits}* out = ({bits}*)to;
  halves(n, Start{{s1, s0, c1, c0}}, held, half, [=](long long at, u32 x) {{ out[at] = fraction(x) >= p ? kept : 0; }});
}}
"""
        for size, bits in ((2, "unsigned short"), (4, "u32"), (8, "u64"))
    )
)


def can_draw(rng: np.random.Generator) -> bool:
    """Is it a generator whose numbers a GPU can make?"""
    return type(rng.bit_generator) is np.random.PCG64


def uniform(shape: tuple[int, ...], rng: np.random.Generator, dtype: np.dtype, device: str) -> Array:
    """rng.random(shape, dtype) on a GPU, float32 or float64."""
    take = _words if dtype.itemsize == 8 else _halves
    return _launched(f"uniform{dtype.itemsize}", shape, dtype, device, take(rng, math.prod(shape)))


def mask(shape: tuple[int, ...], p: float, kept: Any, rng: np.random.Generator, device: str) -> Array:
    """`kept`, a NumPy scalar of floats, where rng.random(shape, float32) is at least p, else 0; on a GPU."""
    start, bits = _halves(rng, math.prod(shape)), kept.view(f"u{kept.itemsize}")
    return _launched(f"mask{kept.itemsize}", shape, kept.dtype, device, [*start, np.float64(p), bits])


def _launched(name: str, shape: tuple[int, ...], dtype: np.dtype, device: str, arguments: list[Any]) -> Array:
    cupy = load_cupy()
    with cupy.cuda.Device(device_number(device)):
        out = cupy.empty(shape, dtype)
        if out.size:
            blocks = -(-out.size // (WORDS * THREADS))  # where a word makes two numbers, half of them have no work
            _kernel(name)((blocks,), (THREADS,), (out, np.int64(out.size), *arguments))
    return out


@functools.cache
def _kernel(name: str) -> Any:
    return load_cupy().RawKernel(SOURCE, name, options=("-device-int128",))


# ---- where the generator is, and where it will be ----


def _words(rng: np.random.Generator, n: int) -> list[Any]:
    """Move the generator on by n words of 64 bits; where it was, for the kernel."""
    generator: Any = rng.bit_generator
    with generator.lock:
        before = generator.state
        generator.advance(n)  # it forgets the half word
        generator.state = {**before, "state": generator.state["state"]}
    return _start(before)


def _halves(rng: np.random.Generator, n: int) -> list[Any]:
    """The same by n halves of words: the second half of a word that was begun comes first, an odd one is kept."""
    generator: Any = rng.bit_generator
    with generator.lock:
        before = generator.state
        held, half = before["has_uint32"], before["uinteger"]
        words = (n - held + 1) // 2
        generator.advance(words)
        after = {**before, "state": generator.state["state"], "has_uint32": (n - held) % 2}
        generator.state = {**after, "uinteger": _output(after["state"]["state"]) >> 32} if words else after
    return [*_start(before), np.int32(held), np.uint32(half)]


def _start(state: dict[str, Any]) -> list[Any]:
    numbers = state["state"]
    return [np.uint64(part) for n in (numbers["state"], numbers["inc"]) for part in (n >> 64, n & LOW)]


def _output(state: int) -> int:
    """The word that the generator makes on coming to a state."""
    x, r = (state >> 64 ^ state) & LOW, state >> 122
    return (x >> r | x << (-r & 63)) & LOW
