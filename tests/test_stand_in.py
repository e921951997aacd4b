"""The stand-in for CuPy: kernels that g++ compiles are called, typed, ordered and refused as on a GPU."""

import cuda_on_cpu
import numpy as np
import pytest

from conftest import REAL_GPU

PAIRS = [("float32", "float"), ("float64", "double"), ("float16", "__half"), ("int32", "int"), ("int64", "long long")]
FEW = np.array([[1, 2, 3], [4, 5, 6]])


@pytest.fixture
def stand_in(cupy):
    if REAL_GPU:
        pytest.skip("about the stand-in")
    return cupy


# ---- RawKernel -------------------------------------------------------------------------------------------------------

ADD = """
extern "C" __global__ void add(const T* x, T* y, long long n) {
  long long i = (long long)blockIdx.x * blockDim.x + threadIdx.x;
  if (i < n) y[i] = y[i] + x[i];
}"""


@pytest.mark.parametrize("dtype, c", PAIRS)
def test_a_kernel_adds(dtype, c, cupy):
    add = cupy.RawKernel(f"#include <cuda_fp16.h>\ntypedef {c} T;{ADD}", "add")
    x, y = cupy.asarray(FEW.astype(dtype)), cupy.asarray((10 * FEW).astype(dtype))
    add((2,), (4,), (x, y, 6))
    assert y.tolist() == (11 * FEW).tolist()


# One block a row: warps add by shuffles, and show each other the sums in shared memory
ROW_SUMS = """
__device__ __forceinline__ float warp_sum(float v) {
  for (int m = 16; m; m /= 2) v += __shfl_xor_sync(0xffffffffu, v, m);
  return v;
}
extern "C" __global__ void sums(const float* __restrict__ x, float* out, int n) {
  extern __shared__ __align__(16) float part[];
  __shared__ float total;
  float v = 0;
  for (int i = threadIdx.x; i < n; i += blockDim.x) v += x[blockIdx.x * n + i];
  v = warp_sum(v);
  if (threadIdx.x % 32 == 0) part[threadIdx.x / 32] = v;
  FIRST
  if (threadIdx.x == 0) { total = 0; for (int w = 0; w < blockDim.x / 32; w++) total += part[w]; }
  SECOND
  out[blockIdx.x * blockDim.x + threadIdx.x] = total;
}"""
ORDERS = ["in order", "reversed", 1, 2, 3]
SYNC = "__syncthreads();"


def row_sums(cupy, first=SYNC, second=SYNC):
    kernel = cupy.RawKernel(ROW_SUMS.replace("FIRST", first).replace("SECOND", second), "sums")
    x = np.random.default_rng(0).integers(0, 9, (5, 200)).astype(np.float32)
    out = cupy.zeros((5, 96), np.float32)
    kernel((5,), (96,), (cupy.asarray(x), out, np.int32(200)), shared_mem=12)
    return bool((out.get() == x.sum(1, keepdims=True)).all())


@pytest.mark.parametrize("order", ORDERS)
def test_a_block_waits_at_its_barriers_in_any_order_of_its_threads(order, cupy):
    with cuda_on_cpu.turns(order):
        assert row_sums(cupy)


@pytest.mark.parametrize("without", [{"first": ""}, {"second": ""}], ids=["first", "second"])
def test_a_barrier_that_is_missing_shows_in_some_order(without, stand_in):
    found = []
    for order in ORDERS:
        with cuda_on_cpu.turns(order):
            found.append(row_sums(stand_in, **without))
    assert not all(found)


RACE = 'extern "C" __global__ void last(int* out) { *out = blockIdx.x * blockDim.x + threadIdx.x; }'


def test_the_order_of_threads_and_blocks_is_the_one_that_was_chosen(stand_in):
    found = []
    for order in ORDERS:
        out = stand_in.zeros((), np.int32)
        with cuda_on_cpu.turns(order):
            stand_in.RawKernel(RACE, "last")((4,), (8,), (out,))
        found.append(out.item())
    assert found[:2] == [31, 0] and len(set(found)) > 2


WARP = """
extern "C" __global__ void warp(int* out) {
  int i = threadIdx.x;
  out[i] = __shfl_down_sync(0xffffffffu, i, 3);
  out[40 + i] = __shfl_up_sync(0xffffffffu, i, 3);
  out[80 + i] = __shfl_sync(0xffffffffu, i, 5, 8);
  out[120 + i] = __ballot_sync(0xffffffffu, i % 32 == 3);
}"""


def test_lanes_of_a_warp_see_each_other(stand_in):
    out = stand_in.zeros(160, np.int32)
    stand_in.RawKernel(WARP, "warp")((1,), (40,), (out,))
    down, up, from_fifth, ballot = out.get().reshape(4, 40)
    assert down[:32].tolist() == [*range(3, 32), 29, 30, 31]
    assert up[:32].tolist() == [0, 1, 2, *range(29)]
    assert from_fifth[:32].tolist() == [8 * (i // 8) + 5 for i in range(32)]
    assert down[32:37].tolist() == [35, 36, 37, 38, 39] and down[37] == -1  # beyond the block: undefined
    assert set(ballot) == {8}


ATOMIC = """
extern "C" __global__ void histogram(const int* x, int* counts, double* sum) {
  atomicAdd(&counts[x[threadIdx.x]], 1);
  atomicAdd(sum, x[threadIdx.x] * 0.5);
  atomicMax(&counts[4], x[threadIdx.x]);
}"""


def test_atomic_operations_add_up(cupy):
    counts, total = cupy.zeros(5, np.int32), cupy.zeros((), np.float64)
    cupy.RawKernel(ATOMIC, "histogram")((1,), (6,), (cupy.asarray(np.int32([0, 1, 1, 3, 1, 0])), counts, total))
    assert (counts.tolist(), total.item()) == ([2, 3, 0, 1, 3], 3)


MODULE = """
template <class T> __global__ void twice(T* x) { x[threadIdx.x] = x[threadIdx.x] + x[threadIdx.x]; }
extern "C" __global__ void filled(float* x) { x[threadIdx.x] = VALUE; }
__global__ void mangled(float* x) {}
"""


def test_a_module_has_its_kernels_by_name(cupy):
    module = cupy.RawModule(code=MODULE, options=("-DVALUE=7.0f",), name_expressions=["twice<float>", "twice<int>"])
    x = cupy.zeros(3, np.float32)
    module.get_function("filled")((1,), (3,), (x,))
    module.get_function("twice<float>")((1,), (2,), (x,))
    assert x.tolist() == [14, 14, 7]
    with pytest.raises(RuntimeError, match="CUDA_ERROR_NOT_FOUND"):
        module.get_function("mangled")


HALF = """
#include <cuda_fp16.h>
extern "C" __global__ void half_sum(const __half* x, __half* each, __half* once, int n) {
  __half h = 0.0f; float f = 0;
  for (int i = 0; i < n; i++) { h += x[i]; f += (float)x[i]; }
  *each = h; *once = f;
}"""


def test_half_rounds_after_each_operation_and_float_once(cupy):
    x = np.full(3000, 1.0, np.float16)
    each, once = cupy.zeros((), np.float16), cupy.zeros((), np.float16)
    cupy.RawKernel(HALF, "half_sum")((1,), (1,), (cupy.asarray(x), each, once, np.int32(3000)))
    assert (each.item(), once.item()) == (2048, 3000)


def test_a_half_is_the_nearest_half_of_every_float(stand_in):
    to = '#include <cuda_fp16.h>\nextern "C" __global__ void to(const float* x, __half* h, float* back, int n) {'
    to += " for (int i = 0; i < n; i++) { h[i] = x[i]; back[i] = h[i]; } }"
    halves = np.arange(0x7C00, dtype=np.uint16).view(np.float16).astype(np.float32)  # all that are finite, from 0 up
    between = (halves[1:] + halves[:-1]) / 2  # ties
    numbers = np.concatenate([halves, between, np.nextafter(between, 1), np.float32([65519, 65520, np.inf, np.nan])])
    numbers = np.concatenate([numbers, -numbers])
    h, back = stand_in.zeros(numbers.size, np.float16), stand_in.zeros(numbers.size, np.float32)
    stand_in.RawKernel(to, "to")((1,), (1,), (stand_in.asarray(numbers), h, back, np.int32(numbers.size)))
    with np.errstate(over="ignore"):
        expected = numbers.astype(np.float16)
    np.testing.assert_array_equal(h.get(), expected)
    np.testing.assert_array_equal(back.get(), expected.astype(np.float32))


# ---- what a RawKernel refuses ----------------------------------------------------------------------------------------

MIXED = 'extern "C" __global__ void mixed(const float* x, int n, float a, bool b) {}'
WRONG = {
    "an array of another type": lambda c, x: (c.zeros(3, np.float64), np.int32(3), np.float32(1), np.bool_(1)),
    "a Python integer for an int": lambda c, x: (x, 3, np.float32(1), np.bool_(1)),
    "a Python number for a float": lambda c, x: (x, np.int32(3), 1.0, np.bool_(1)),
    "a Python bool": lambda c, x: (x, np.int32(3), np.float32(1), True),
    "another C type": lambda c, x: (x, np.int64(3), np.float32(1), np.bool_(1)),
    "an array for a number": lambda c, x: (x, x, np.float32(1), np.bool_(1)),
    "a numpy array": lambda c, x: (np.ones(3, np.float32), np.int32(3), np.float32(1), np.bool_(1)),
    "too few": lambda c, x: (x, np.int32(3), np.float32(1)),
}


@pytest.mark.parametrize("arguments", WRONG.values(), ids=WRONG)
def test_arguments_of_another_type_than_the_kernels_are_refused(arguments, stand_in):
    kernel = stand_in.RawKernel(MIXED, "mixed")
    kernel((1,), (1,), (stand_in.zeros(3, np.float32), np.int32(3), np.float32(1), np.bool_(1)))
    with pytest.raises(TypeError):
        kernel((1,), (1,), arguments(stand_in, stand_in.zeros(3, np.float32)))


def test_an_array_of_another_device_is_refused(stand_in):
    with stand_in.cuda.Device(1):
        there = stand_in.zeros(3, np.float32)
    with pytest.raises(ValueError, match="device"):
        stand_in.RawKernel(RACE, "last")((1,), (1,), (there,))


NO_CUDA = {
    "no C": "extern 'C'",
    "a header of the host": "#include <cmath>\n" + RACE,
    "a type of the host": RACE.replace("int*", "int32_t*"),
    "a name of the host": RACE.replace("*out =", "*out = std::max(1, 2) +"),
    "a half beside a float": 'extern "C" __global__ void last(__half* x) { x[0] = x[0] * 2.0f; }',
}


@pytest.mark.parametrize("source", NO_CUDA.values(), ids=NO_CUDA)
def test_what_nvrtc_does_not_compile_is_refused(source, stand_in):
    with pytest.raises(stand_in.cuda.compiler.CompileException):
        stand_in.RawKernel(source, "last").compile()


GONE_WRONG = {
    "for ever": ("if (threadIdx.x) __syncthreads(); else __syncwarp();", {}),
    "different __syncthreads": ("if (threadIdx.x % 2) { __syncthreads(); } else { __syncthreads(); }", {}),
    "behind the shared memory": ("extern __shared__ int s[]; s[threadIdx.x] = 0;", {"shared_mem": 4}),
    "bytes of shared memory": ("", {"shared_mem": 50_000}),
}


@pytest.mark.parametrize("said", GONE_WRONG)
def test_a_kernel_that_goes_wrong_says_how(said, stand_in):
    body, options = GONE_WRONG[said]
    kernel = stand_in.RawKernel(f'extern "C" __global__ void bad() {{ {body} }}', "bad")
    with pytest.raises(RuntimeError, match=said):
        kernel((1,), (64,), (), **options)


PART = 'extern "C" __global__ void part(float* x, int at) { x[at] += 1; }'


@pytest.mark.parametrize("at", [-101, -6, -5, 4, 5, 104])
def test_a_kernel_may_write_into_the_array_its_argument_is_a_part_of_and_no_further(at, stand_in):
    whole = stand_in.zeros(10, np.float32)
    write = lambda: stand_in.RawKernel(PART, "part")((1,), (1,), (whole[5:8], np.int32(at)))
    if -5 <= at < 5:
        write()
        assert whole.get()[5 + at] == 1
    else:
        with pytest.raises(RuntimeError, match="outside"):
            write()


def test_what_lies_behind_an_array_is_not_zero(stand_in):
    found = stand_in.zeros(1, np.float32)
    read = 'extern "C" __global__ void peek(const double* x, float* found) { found[0] = x[3]; }'
    stand_in.RawKernel(read, "peek")((1,), (1,), (stand_in.zeros(3), found))
    assert found.item() != 0


@pytest.mark.parametrize(
    "made, in_rows",
    [
        (lambda cupy, a: a.copy(), True),
        (lambda cupy, a: cupy.ascontiguousarray(a), True),
        (lambda cupy, a: a.reshape(-1), True),
        (lambda cupy, a: a.ravel(), True),
        (lambda cupy, a: a + 1, True),  # CuPy 14.2, seen on a GPU
        (lambda cupy, a: a.astype("float64"), False),  # in the order of its operand
    ],
    ids=["copy", "ascontiguousarray", "reshape", "ravel", "a sum", "astype"],
)
def test_results_lie_in_memory_as_cupy_s_do(made, in_rows, cupy):
    assert made(cupy, cupy.zeros((2, 3), "float32").T).flags.c_contiguous == in_rows


def test_a_launch_that_is_too_large_is_refused(stand_in):
    with pytest.raises(RuntimeError, match="invalid argument"):
        stand_in.RawKernel(RACE, "last")((1,), (1025,), (stand_in.zeros((), np.int32),))


# ---- ElementwiseKernel -----------------------------------------------------------------------------------------------


def test_an_elementwise_kernel_broadcasts_and_makes_its_outputs(cupy):
    kernel = cupy.ElementwiseKernel("T x, T y, float64 a", "T sum, bool more", "sum = x + T(a) * y; more = x > y")
    x, y = cupy.asarray(FEW.astype(np.float32)), cupy.asarray(np.float32([[3], [1]]))
    total, more = kernel(x.T, y.T, 2)
    np.testing.assert_array_equal(total.get(), FEW.T + 2 * np.array([[3, 1]]))
    np.testing.assert_array_equal(more.get(), np.array([[3, 1]]) < FEW.T)
    assert (total.dtype, more.dtype) == (np.float32, np.bool_)
    twice = "__device__ void twice(float& y) { y *= 2; }"
    out = cupy.zeros((3, 4), np.float32)
    cupy.ElementwiseKernel("float32 x", "float32 y", "y += x; twice(y)", preamble=twice)(3.0, out[:, ::2])
    np.testing.assert_array_equal(out.get(), [[6, 0, 6, 0]] * 3)


def test_a_raw_parameter_is_indexed_by_the_kernel(cupy):
    kernel = cupy.ElementwiseKernel("raw T x, raw int64 at", "T y", "y = x[at[i]] + x.size()")
    x, at = cupy.asarray(np.arange(6.0).reshape(2, 3).T), cupy.asarray([1, 0, 4])
    assert kernel(x, at, size=3).tolist() == [9, 6, 8]


def test_an_elementwise_kernel_computes_halves_in_float(cupy):
    x = cupy.asarray(np.float16([-12, 0, 12]))
    found = cupy.ElementwiseKernel("T x", "T y", "y = 1 / (1 + exp(-x))", "sigmoid")(x)
    np.testing.assert_array_equal(found.get(), (1 / (1 + np.exp(-np.float32([-12, 0, 12])))).astype(np.float16))


NOT_ELEMENTWISE = {
    "two dtypes for a letter": lambda c, k, x: k(x, x.astype(np.float64)),
    "a numpy array": lambda c, k, x: k(x, np.ones((2, 3), np.float32)),
    "an output of another shape": lambda c, k, x: k(x, x, c.zeros(3, np.float32)),
    "an output of another dtype": lambda c, k, x: k(x, x, c.zeros((2, 3))),
    "scalars only": lambda c, k, x: k(1.0, 2.0),
    "too many": lambda c, k, x: k(x, x, x, x),
    "a size": lambda c, k, x: k(x, x, size=6),
}


@pytest.mark.parametrize("call", NOT_ELEMENTWISE.values(), ids=NOT_ELEMENTWISE)
def test_an_elementwise_kernel_refuses(call, cupy):
    kernel = cupy.ElementwiseKernel("T x, T y", "T z", "z = x + y")
    with pytest.raises((TypeError, ValueError)):
        call(cupy, kernel, cupy.zeros((2, 3), np.float32))


# ---- the marker ------------------------------------------------------------------------------------------------------


def test_who_asks_for_cupy_is_marked(cupy, request):
    assert request.node.get_closest_marker("gpu")


def test_who_asks_for_a_gpu_is_marked(gpu, request):
    assert request.node.get_closest_marker("gpu")


def test_who_asks_for_each_device_is_marked_on_the_gpu(device, request):
    assert bool(request.node.get_closest_marker("gpu")) == (device == "gpu")
