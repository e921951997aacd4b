"""Kernels of a GPU for rows: softmax and its kin, layer normalisation, cross entropy. A block of threads for each row.

Each stands for what several operations would compute, and is tested against them. Arrays of rows are contiguous and of
float32 or float64; half precision is computed in float32.
"""

from __future__ import annotations

import functools
import math

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from tinygrad_rnn.autograd.arrays import Array, xp
from tinygrad_rnn.autograd.devices import load_cupy

SOURCE = """
struct Plus { __device__ T operator()(T a, T b) const { return a + b; } };
struct Larger { __device__ T operator()(T a, T b) const { return a > b || a != a ? a : b; } };

// v of all threads of a block, joined; `part`: shared memory that nobody reads any more.
template <class Join> __device__ inline T joined(T v, T* part, Join join) {
  for (int m = 16; m; m /= 2) v = join(v, __shfl_xor_sync(0xffffffffu, v, m));
  if (threadIdx.x % 32 == 0) part[threadIdx.x / 32] = v;
  __syncthreads();
  v = part[0];
  for (int w = 1; w < blockDim.x / 32; w++) v = join(v, part[w]);
  return v;
}

// The largest of a row: what is subtracted before exp. 0 in place of -inf, and of inf if so.
__device__ inline T shift(const T* x, int n, bool infinite, T* part) {
  const T inf = T(1) / T(0);
  T v = -inf;
  for (int j = threadIdx.x; j < n; j += blockDim.x) v = Larger()(v, x[j]);
  v = joined(v, part, Larger());
  return v == -inf || (infinite && v == inf) ? T(0) : v;
}

__device__ inline T total(const T* x, int n, T m, T* part) {
  T v = 0;
  for (int j = threadIdx.x; j < n; j += blockDim.x) v += EXP(x[j] - m);
  return joined(v, part, Plus());
}

extern "C" __global__ void softmax(const T* x, T* y, int n) {
  __shared__ T part[2][32];
  x += (long long)blockIdx.x * n, y += (long long)blockIdx.x * n;
  T m = shift(x, n, false, part[0]), s = total(x, n, m, part[1]);
  for (int j = threadIdx.x; j < n; j += blockDim.x) y[j] = EXP(x[j] - m) / (s == T(0) ? T(1) : s);
}

extern "C" __global__ void softmax_rule(const T* g, const T* y, T* dx, int n) {
  __shared__ T part[32];
  long long row = (long long)blockIdx.x * n;
  g += row, y += row, dx += row;
  T v = 0;
  for (int j = threadIdx.x; j < n; j += blockDim.x) v += g[j] * y[j];
  v = joined(v, part, Plus());
  for (int j = threadIdx.x; j < n; j += blockDim.x) dx[j] = y[j] * (g[j] - v);
}

extern "C" __global__ void log_softmax(const T* x, T* y, int n) {
  __shared__ T part[2][32];
  x += (long long)blockIdx.x * n, y += (long long)blockIdx.x * n;
  T m = shift(x, n, false, part[0]), s = total(x, n, m, part[1]);
  s = LOG(s == T(0) ? T(1) : s);
  for (int j = threadIdx.x; j < n; j += blockDim.x) y[j] = x[j] - m - s;
}

extern "C" __global__ void log_softmax_rule(const T* g, const T* y, T* dx, int n) {
  __shared__ T part[32];
  long long row = (long long)blockIdx.x * n;
  g += row, y += row, dx += row;
  T v = 0;
  for (int j = threadIdx.x; j < n; j += blockDim.x) v += g[j];
  v = joined(v, part, Plus());
  for (int j = threadIdx.x; j < n; j += blockDim.x) dx[j] = g[j] - EXP(y[j]) * v;
}

extern "C" __global__ void logsumexp(const T* x, T* y, int n) {
  __shared__ T part[2][32];
  x += (long long)blockIdx.x * n;
  T m = shift(x, n, true, part[0]), s = total(x, n, m, part[1]);
  if (threadIdx.x == 0) y[blockIdx.x] = s == T(0) ? -T(1) / T(0) : LOG(s) + m;
}

// -log P(target) of each row that counts, and log sum exp; `at`: the target's place among all rows
extern "C" __global__ void cross_entropy(const T* x, const long long* at, const bool* counts, T* y, T* m, T* s, int n) {
  __shared__ T part[2][32];
  long long row = blockIdx.x;
  T a = shift(x + row * n, n, false, part[0]), b = total(x + row * n, n, a, part[1]);
  if (threadIdx.x) return;
  m[row] = a;
  s[row] = b = LOG(b == T(0) ? T(1) : b);
  long long target = at[row] - row * n;  // one that is out of range is an error that the host sees later
  y[row] = counts[row] && 0 <= target && target < n ? -(x[at[row]] - a - b) : T(0);
}

extern "C" __global__ void cross_entropy_rule(const T* g, int each, const T* x, const long long* at, const bool* counts,
                                              const T* m, const T* s, T* dx, int n) {
  long long row = blockIdx.x, begin = row * n, target = at[row] - begin;
  T c = counts[row] ? g[each ? row : 0] : T(0);
  for (int j = threadIdx.x; j < n; j += blockDim.x)
    dx[begin + j] = c == T(0) ? T(0) : c * (EXP(x[begin + j] - m[row] - s[row]) - (j == target ? T(1) : T(0)));
}

// Of logits x + b: the loss of each row, and in their place its gradient (unless `only_loss`). In no row that counts
// not, which may be NaN, is anything else than 0. b, counts: may be none
extern "C" __global__ void softmax_loss(T* x, const T* b, const long long* targets, const bool* counts, T* y, int n,
                                        T smoothing, int only_loss) {
  __shared__ T part[3][32];
  long long row = blockIdx.x, target = targets[row];
  bool counted = !counts || counts[row];
  T m = -T(1) / T(0), s = 0, all = 0, uniform = smoothing / n;
  x += row * n;
  for (int j = threadIdx.x; j < n; j += blockDim.x) {
    T z = b ? x[j] + b[j] : x[j];
    x[j] = z = counted ? z : T(0);
    m = Larger()(m, z);
  }
  m = joined(m, part[0], Larger());
  for (int j = threadIdx.x; j < n; j += blockDim.x) s += EXP(x[j] - m), all += x[j] - m;
  s = joined(s, part[1], Plus());
  if (uniform != T(0)) all = joined(all, part[2], Plus());
  if (threadIdx.x == 0)
    y[row] = counted ? LOG(s) - (1 - smoothing) * (x[target] - m) - (uniform != T(0) ? uniform * all : T(0)) : T(0);
  if (only_loss) return;
  __syncthreads();
  for (int j = threadIdx.x; j < n; j += blockDim.x)
    x[j] = counted ? EXP(x[j] - m) / s - (j == target ? 1 - smoothing : T(0)) - uniform : T(0);
}

extern "C" __global__ void layer_norm(const T* x, const T* gain, const T* b, T* y, T* mean, T* scale, int n, T eps) {
  __shared__ T part[2][32];
  x += (long long)blockIdx.x * n, y += (long long)blockIdx.x * n;
  T v = 0, w = 0;
  for (int j = threadIdx.x; j < n; j += blockDim.x) v += x[j];
  T m = joined(v, part[0], Plus()) / n;
  for (int j = threadIdx.x; j < n; j += blockDim.x) w += (x[j] - m) * (x[j] - m);
  T r = SQRT(joined(w, part[1], Plus()) / n + eps);
  for (int j = threadIdx.x; j < n; j += blockDim.x) y[j] = (x[j] - m) / r * gain[j] + b[j];
  if (threadIdx.x == 0) mean[blockIdx.x] = m, scale[blockIdx.x] = r;
}

extern "C" __global__ void layer_norm_rule(const T* g, const T* x, const T* gain, const T* mean, const T* scale, T* dx,
                                           int n) {
  __shared__ T part[2][32];
  long long row = (long long)blockIdx.x * n;
  g += row, x += row, dx += row;
  T m = mean[blockIdx.x], r = scale[blockIdx.x], v = 0, w = 0;
  for (int j = threadIdx.x; j < n; j += blockDim.x) v += g[j] * gain[j], w += g[j] * gain[j] * (x[j] - m) / r;
  v = joined(v, part[0], Plus()) / n, w = joined(w, part[1], Plus()) / n;
  for (int j = threadIdx.x; j < n; j += blockDim.x) dx[j] = (g[j] * gain[j] - v - (x[j] - m) / r * w) / r;
}

// Sums over the rows: 32 columns for each block, in 32 shares of the rows.
extern "C" __global__ void layer_norm_weights(const T* g, const T* x, const T* mean, const T* scale, T* dgain, T* db,
                                              long long rows, int n) {
  __shared__ T a[32][33], c[32][33];
  int j = blockIdx.x * 32 + threadIdx.x;
  T v = 0, w = 0;
  for (long long i = threadIdx.y; j < n && i < rows; i += 32) {
    v += g[i * n + j] * (x[i * n + j] - mean[i]) / scale[i];
    w += g[i * n + j];
  }
  a[threadIdx.y][threadIdx.x] = v, c[threadIdx.y][threadIdx.x] = w;
  __syncthreads();
  if (threadIdx.y || j >= n) return;
  for (int k = 1; k < 32; k++) v += a[k][threadIdx.x], w += c[k][threadIdx.x];
  dgain[j] = v, db[j] = w;
}
"""
SPELT = {4: {"EXP": "expf", "LOG": "logf", "SQRT": "sqrtf"}, 8: {"EXP": "exp", "LOG": "log", "SQRT": "sqrt"}}
LONGEST = 1 << 18  # elements of a row up to which one block is enough
HALF, SINGLE = np.dtype(np.float16), np.dtype(np.float32)


def source(itemsize: int) -> str:
    """The kernels for float32 (4) or float64 (8)."""
    text = f"typedef {'float' if itemsize == 4 else 'double'} T;{SOURCE}"
    return functools.reduce(lambda s, pair: s.replace(*pair), SPELT[itemsize].items(), text)


@functools.cache
def _kernel(name: str, itemsize: int) -> Any:
    return load_cupy().RawKernel(source(itemsize), name)


def _launch(name: str, rows: int, n: int, arguments: Sequence[Any], dtype: np.dtype) -> None:
    """A block for each row, of as many threads as make up to four elements each."""
    threads = 32 * min(32, max(1, -(-n // 128)))
    _kernel(name, dtype.itemsize)((rows,), (threads,), tuple(arguments))


def _ready(x: Array) -> Array:
    """The array as kernels take it: contiguous, and not of half precision."""
    return xp(x).ascontiguousarray(x.astype(SINGLE) if x.dtype == HALF else x)


def _row_size(x: Array, axis: Sequence[int]) -> int:
    """How many elements a row has; 0 if the axes are not the last ones, or it is nothing or too much for a block."""
    last = tuple(range(x.ndim - len(axis), x.ndim))
    n = math.prod(x.shape[a] for a in axis)
    return n if x.size and tuple(axis) == last and n <= LONGEST else 0


# ---- each with the arguments of the operation or the rule that it stands for; None where it cannot ----


def by_rows(name: str) -> Callable[..., Array | None]:
    """The kernel `name` on arrays of one shape, row by row: of x and its axes, or of g, y and the axes."""
    return lambda *arrays, axis=None: _by_rows(name, arrays, axis) if axis else _by_rows(name, arrays[:-1], arrays[-1])


def _by_rows(name: str, arrays: Sequence[Array], axis: Sequence[int]) -> Array | None:
    x, n = arrays[0], _row_size(arrays[0], axis)
    if not n or any(a.shape != x.shape or a.dtype != x.dtype for a in arrays):
        return None
    ready = [_ready(a) for a in arrays]
    y = xp(x).empty(x.shape, ready[0].dtype)
    _launch(name, x.size // n, n, [*ready, y, np.int32(n)], y.dtype)
    return y.astype(x.dtype, copy=False)


def logsumexp(x: Array, *, axis: Sequence[int], keepdims: bool) -> Array | None:
    """log Σ exp(x), a number for each row."""
    n = _row_size(x, axis)
    if not n:
        return None
    ready = _ready(x)
    y = xp(x).empty(x.shape[: x.ndim - len(axis)] + (1,) * (len(axis) if keepdims else 0), ready.dtype)
    _launch("logsumexp", x.size // n, n, [ready, y, np.int32(n)], y.dtype)
    return y.astype(x.dtype, copy=False)


class CrossEntropy:
    """-log P(target) of rows of logits (..., V), and the gradient.

    at: the targets' places in the flat logits  counts: 0 where it is false  total: the sum, not each
    """

    def __init__(self, at: Array, counts: Array, total: bool):
        self.at, self.counts, self.total = at, counts, total
        self.kept: list[Array] = []  # what was subtracted before exp, and the logarithm of the sum

    def takes(self, x: Array) -> bool:
        """Is there something to compute?"""
        return x.size > 0 and x.dtype.kind == "f"

    def forward(self, x: Array) -> Array:
        """The loss of each row, or their sum."""
        n, lib, ready = x.shape[-1], xp(x), _ready(x)
        each, *self.kept = (lib.empty(x.shape[:-1], ready.dtype) for _ in range(3))
        _launch("cross_entropy", each.size, n, [ready, *self._targets(), each, *self.kept, np.int32(n)], ready.dtype)
        return (each.sum() if self.total else each).astype(x.dtype, copy=False)

    def backward(self, g: Array, x: Array, tracked: Sequence[bool]) -> list[Array]:
        """The gradient of the logits."""
        n, ready, g = x.shape[-1], _ready(x), _ready(g)
        dx, each = xp(x).empty(x.shape, ready.dtype), np.int32(not self.total)
        arguments = [g, each, ready, *self._targets(), *self.kept, dx, np.int32(n)]
        _launch("cross_entropy_rule", x.size // n, n, arguments, ready.dtype)
        return [dx.astype(x.dtype, copy=False)]

    def _targets(self) -> list[Array]:
        return [xp(a).ascontiguousarray(a) for a in (self.at, self.counts)]


def softmax_loss(z: Array, b: Array | None, at: Array, counts: Array | None, smoothing: float, grad: bool) -> Array:
    """The losses (N,) of rows of logits z + b, beside targets smoothed to (1 - smoothing) onehot + smoothing / V; z
    becomes their gradients, if those are wanted.

    z: (N, V), not of half precision, V at most LONGEST  at: (N,) from 0 to V - 1  counts: (N,) of bool, None for all
    """
    n, losses = z.shape[1], xp(z).empty(len(z), z.dtype)
    arguments = [z, b, at, counts, losses, np.int32(n), z.dtype.type(smoothing), np.int32(not grad)]
    if z.size:
        _launch("softmax_loss", len(z), n, arguments, z.dtype)
    return losses


class LayerNorm:
    """(x - mean) / √(var + eps) * gain + b over the last axis, and the gradients. gain, b: (D,)  x: (..., D)"""

    def __init__(self, eps: float):
        self.eps = eps
        self.kept: list[Array] = []  # mean and √(var + eps) of each row

    def takes(self, x: Array, gain: Array, b: Array) -> bool:
        """Is there something to compute, all of one dtype and fitting?"""
        fits = gain.shape == b.shape == x.shape[-1:] and x.dtype == gain.dtype == b.dtype
        return fits and x.size > 0 and x.dtype.kind == "f"

    def forward(self, x: Array, gain: Array, b: Array) -> Array:
        """y: (..., D)"""
        n, ready = x.shape[-1], [_ready(a) for a in (x, gain, b)]
        y, *self.kept = (xp(x).empty(shape, ready[0].dtype) for shape in (x.shape, x.shape[:-1], x.shape[:-1]))
        arguments = [*ready, y, *self.kept, np.int32(n), y.dtype.type(self.eps)]
        _launch("layer_norm", x.size // n, n, arguments, y.dtype)
        return y.astype(x.dtype, copy=False)

    def backward(self, g: Array, x: Array, gain: Array, b: Array, tracked: Sequence[bool]) -> list[Array | None]:
        """The gradients of x, gain and b that are tracked."""
        n, ready = x.shape[-1], [_ready(a) for a in (g, x, gain)]
        dx, dgain, db = (xp(x).empty(shape, ready[0].dtype) for shape in (x.shape, (n,), (n,)))
        rows = x.size // n
        if tracked[0]:
            _launch("layer_norm_rule", rows, n, [*ready, *self.kept, dx, np.int32(n)], dx.dtype)
        if tracked[1] or tracked[2]:
            kernel = _kernel("layer_norm_weights", dx.dtype.itemsize)
            kernel((-(-n // 32),), (32, 32), (*ready[:2], *self.kept, dgain, db, np.int64(rows), np.int32(n)))
        found = zip((dx, dgain, db), tracked, strict=True)
        return [d.astype(x.dtype, copy=False) if wanted else None for d, wanted in found]
