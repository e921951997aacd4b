// CUDA's words for g++: a kernel that is compiled after this header runs on the CPU, one thread at a time.
//
// The blocks of a grid run one after the other. Where the kernel has barriers each thread of a block is a fiber, which
// gives way at a barrier until the others have come; else threads are turns of a loop. Threads and blocks take their
// turns in order, from the last to the first, or at random. Shared memory is full of NaN when a block begins.
#pragma once
#include <math.h>
#include <setjmp.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <type_traits>
#include <ucontext.h>
#include <utility>

#define __global__
#define __device__
#define __host__
#define __constant__
#define __noinline__ __attribute__((noinline))
#define __forceinline__ inline __attribute__((always_inline))
#define __launch_bounds__(...)
#define __align__(n) __attribute__((aligned(n)))
#define __shared__ static __attribute__((section("shim_shared")))  // one block at a time: it may be static

struct uint3 { unsigned x, y, z; };
struct dim3 {
  unsigned x, y, z;
  dim3(unsigned x = 1, unsigned y = 1, unsigned z = 1) : x(x), y(y), z(z) {}
};
static uint3 threadIdx, blockIdx;
static dim3 blockDim, gridDim;
static const int warpSize = 32;

#define SHIM_VECTOR(T, name) \
  struct name##2 { T x, y; }; \
  struct __align__(4 * sizeof(T) > 16 ? 16 : 4 * sizeof(T)) name##4 { T x, y, z, w; }; \
  static inline name##2 make_##name##2(T x, T y) { return {x, y}; } \
  static inline name##4 make_##name##4(T x, T y, T z, T w) { return {x, y, z, w}; }
SHIM_VECTOR(float, float)
SHIM_VECTOR(double, double)
SHIM_VECTOR(int, int)
SHIM_VECTOR(unsigned, uint)

// ---- half precision, as in cuda_fp16.h: each operation of two halves rounds to half ----------------------------------

namespace shim {
static inline uint32_t bits_of(float x) { uint32_t u; memcpy(&u, &x, 4); return u; }
static inline float float_of(uint32_t u) { float x; memcpy(&x, &u, 4); return x; }

static inline uint16_t to_half(float x) {  // to the nearest, ties to even
  uint32_t u = bits_of(x), sign = u >> 16 & 0x8000, a = u & 0x7fffffff;
  if (a > 0x7f800000) return 0x7fff;
  if (a >= 0x477ff000) return sign | 0x7c00;  // 65520 and above
  if (a < 0x38800000) return sign | (uint16_t)nearbyintf(float_of(a) * 16777216.0f);  // below 2^-14: in units of 2^-24
  a += 0xfff + (a >> 13 & 1);
  return sign | (a - 0x38000000) >> 13;
}
static inline float from_half(uint16_t h) {
  uint32_t sign = (uint32_t)(h & 0x8000) << 16, e = h >> 10 & 31, m = h & 0x3ff;
  if (!e) return (sign ? -1 : 1) * (m / 16777216.0f);
  return float_of(sign | (e == 31 ? 0x7f800000 : (e + 112) << 23) | m << 13);
}
}  // namespace shim

struct __half_raw { unsigned short x; };
struct __half {
  unsigned short x;
  __half() = default;
  __half(const __half_raw& raw) : x(raw.x) {}
#define SHIM_FROM(T) __half(T v) : x(shim::to_half((float)v)) {}
  SHIM_FROM(float) SHIM_FROM(double) SHIM_FROM(short) SHIM_FROM(unsigned short) SHIM_FROM(int) SHIM_FROM(unsigned)
  SHIM_FROM(long) SHIM_FROM(unsigned long) SHIM_FROM(long long) SHIM_FROM(unsigned long long)
#undef SHIM_FROM
  operator __half_raw() const { return {x}; }
  operator float() const { return shim::from_half(x); }
  operator bool() const { return x & 0x7fff; }
#define SHIM_TO(T) operator T() const { return (T)shim::from_half(x); }
  SHIM_TO(char) SHIM_TO(signed char) SHIM_TO(unsigned char) SHIM_TO(short) SHIM_TO(unsigned short) SHIM_TO(int)
  SHIM_TO(unsigned) SHIM_TO(long) SHIM_TO(unsigned long) SHIM_TO(long long) SHIM_TO(unsigned long long)
#undef SHIM_TO
};
typedef __half half;
static inline float __half2float(__half h) { return shim::from_half(h.x); }
static inline __half __float2half(float f) { return __half(f); }
static inline __half __float2half_rn(float f) { return __half(f); }
#define SHIM_ARITHMETIC(op, name) \
  static inline __half operator op(const __half& a, const __half& b) { return __half((float)a op (float)b); } \
  static inline __half& operator op##=(__half& a, const __half& b) { return a = a op b; } \
  static inline __half name(__half a, __half b) { return a op b; }
SHIM_ARITHMETIC(+, __hadd)
SHIM_ARITHMETIC(-, __hsub)
SHIM_ARITHMETIC(*, __hmul)
SHIM_ARITHMETIC(/, __hdiv)
#define SHIM_COMPARISON(op, name) \
  static inline bool operator op(const __half& a, const __half& b) { return __half2float(a) op __half2float(b); } \
  static inline bool name(__half a, __half b) { return a op b; }
SHIM_COMPARISON(==, __heq)
SHIM_COMPARISON(!=, __hne)
SHIM_COMPARISON(<, __hlt)
SHIM_COMPARISON(<=, __hle)
SHIM_COMPARISON(>, __hgt)
SHIM_COMPARISON(>=, __hge)
static inline __half operator-(const __half& a) { return __half(__half_raw{(unsigned short)(a.x ^ 0x8000)}); }
static inline __half operator+(const __half& a) { return a; }
static inline __half __hneg(__half a) { return -a; }
static inline __half __hfma(__half a, __half b, __half c) { return __half(fma((double)(float)a, (float)b, (float)c)); }
static inline bool __hisnan(__half a) { return (a.x & 0x7fff) > 0x7c00; }
#define SHIM_HALF_FUNCTION(name, f) static inline __half name(__half a) { return __half(f(__half2float(a))); }
SHIM_HALF_FUNCTION(hexp, expf)
SHIM_HALF_FUNCTION(hlog, logf)
SHIM_HALF_FUNCTION(hsqrt, sqrtf)
SHIM_HALF_FUNCTION(hrsqrt, 1 / sqrtf)
SHIM_HALF_FUNCTION(hrcp, 1 / )
SHIM_HALF_FUNCTION(htanh, tanhf)
SHIM_HALF_FUNCTION(__habs, fabsf)

struct __nv_bfloat16 { unsigned short x; };
static inline __nv_bfloat16 __float2bfloat16(float f) {
  uint32_t u = shim::bits_of(f);
  if (f != f) return {0x7fff};
  return {(unsigned short)((u + 0x7fff + (u >> 16 & 1)) >> 16)};
}
static inline float __bfloat162float(__nv_bfloat16 b) { return shim::float_of((uint32_t)b.x << 16); }

// CuPy's own half, the T of an ElementwiseKernel: it computes in float, and rounds when it is stored
class float16 {
  __half value;
public:
  float16() = default;
  float16(float v) : value(v) {}
  template <class T, class = std::enable_if_t<std::is_arithmetic<T>::value && !std::is_same<T, float>::value>>
  explicit float16(T v) : value((float)v) {}
  explicit float16(const __half& v) : value(v) {}
  operator float() const { return __half2float(value); }
#define SHIM_UPDATE(op) template <class T> float16& operator op##=(const T& v) { return *this = *this op v; }
  SHIM_UPDATE(+) SHIM_UPDATE(-) SHIM_UPDATE(*) SHIM_UPDATE(/)
#undef SHIM_UPDATE
};
static inline float16 min(float16 a, float16 b) { return fminf(a, b); }
static inline float16 max(float16 a, float16 b) { return fmaxf(a, b); }
static inline bool isnan(float16 a) { return isnan((float)a); }
static inline bool isinf(float16 a) { return isinf((float)a); }
static inline bool isfinite(float16 a) { return isfinite((float)a); }

// ---- arithmetic ------------------------------------------------------------------------------------------------------

#define __expf(x) expf(x)  // macros: glibc has functions of these names
#define __exp10f(x) exp10f(x)
#define __logf(x) logf(x)
#define __log2f(x) log2f(x)
#define __powf(x, y) powf(x, y)
#define __sinf(x) sinf(x)
#define __cosf(x) cosf(x)
#define __tanhf(x) tanhf(x)
#define rsqrtf shim_rsqrtf  // glibc has these since C23
#define rsqrt shim_rsqrt
static inline float rsqrtf(float x) { return 1 / sqrtf(x); }
static inline double rsqrt(double x) { return 1 / sqrt(x); }
static inline float rsqrt(float x) { return rsqrtf(x); }
static inline float __fdividef(float a, float b) { return a / b; }
static inline float __saturatef(float x) { return x > 0 ? x < 1 ? x : 1 : 0; }
#define SHIM_ROUNDED(T, c) \
  static inline T __##c##add_rn(T a, T b) { return a + b; } \
  static inline T __##c##sub_rn(T a, T b) { return a - b; } \
  static inline T __##c##mul_rn(T a, T b) { return a * b; } \
  static inline T __##c##div_rn(T a, T b) { return a / b; } \
  static inline T __##c##rcp_rn(T a) { return 1 / a; } \
  static inline T __##c##sqrt_rn(T a) { return sqrt(a); }
SHIM_ROUNDED(float, f)
SHIM_ROUNDED(double, d)
static inline float __fmaf_rn(float a, float b, float c) { return fmaf(a, b, c); }
static inline double __fma_rn(double a, double b, double c) { return fma(a, b, c); }
template <class A, class B, class T = std::common_type_t<A, B>>
using shim_common = std::enable_if_t<std::is_arithmetic<A>::value && std::is_arithmetic<B>::value, T>;
#define SHIM_CHOICE(name, of_floats, test) \
  template <class A, class B, class T = shim_common<A, B>> static inline T name(A a, B b) { \
    if constexpr (std::is_floating_point<T>::value) return of_floats((T)a, (T)b); \
    else return (T)a test (T)b ? (T)a : (T)b; \
  }
SHIM_CHOICE(max, fmax, >)
SHIM_CHOICE(min, fmin, <)
template <class To, class From> static inline To shim_same_bits(From v) {
  static_assert(sizeof(To) == sizeof(From), "");
  To found; memcpy(&found, &v, sizeof v); return found;
}
#define __float_as_int(x) shim_same_bits<int>((float)(x))
#define __float_as_uint(x) shim_same_bits<unsigned>((float)(x))
#define __int_as_float(x) shim_same_bits<float>((int)(x))
#define __uint_as_float(x) shim_same_bits<float>((unsigned)(x))
#define __double_as_longlong(x) shim_same_bits<long long>((double)(x))
#define __longlong_as_double(x) shim_same_bits<double>((long long)(x))
static inline int __popc(unsigned x) { return __builtin_popcount(x); }
static inline int __clz(int x) { return x ? __builtin_clz(x) : 32; }
static inline int __ffs(int x) { return __builtin_ffs(x); }
static inline unsigned __umulhi(unsigned a, unsigned b) { return (uint64_t)a * b >> 32; }
typedef unsigned long long shim_u64;
static inline shim_u64 __umul64hi(shim_u64 a, shim_u64 b) { return (unsigned __int128)a * b >> 64; }

// ---- memory ----------------------------------------------------------------------------------------------------------

template <class T> static inline T __ldg(const T* p) { return *p; }
template <class T> static inline T __ldcg(const T* p) { return *p; }
template <class T> static inline T __ldcs(const T* p) { return *p; }
template <class T> static inline void __stcg(T* p, std::common_type_t<T> v) { *p = v; }
template <class T> static inline void __stcs(T* p, std::common_type_t<T> v) { *p = v; }
static inline void __threadfence() {}
static inline void __threadfence_block() {}
#define SHIM_ATOMIC(name, expression) \
  template <class T> static inline T name(T* p, std::common_type_t<T> v) { T old = *p; *p = expression; return old; }
SHIM_ATOMIC(atomicAdd, old + v)
SHIM_ATOMIC(atomicSub, old - v)
SHIM_ATOMIC(atomicMax, old < v ? v : old)
SHIM_ATOMIC(atomicMin, v < old ? v : old)
SHIM_ATOMIC(atomicOr, old | v)
SHIM_ATOMIC(atomicAnd, old & v)
SHIM_ATOMIC(atomicExch, v)
template <class T> static inline T atomicCAS(T* p, std::common_type_t<T> expected, std::common_type_t<T> v) {
  T old = *p; if (old == expected) *p = v; return old;
}

// ---- threads ---------------------------------------------------------------------------------------------------------

extern "C" char __start_shim_shared[] __attribute__((weak, visibility("hidden")));
extern "C" char __stop_shim_shared[] __attribute__((weak, visibility("hidden")));

namespace shim {
enum { MAX_THREADS = 1024, MAX_SHARED = 227 * 1024, GUARD = 1024 };
enum Waits { FOR_NOTHING, FOR_BLOCK, FOR_WARP };
struct Fiber {
  jmp_buf place;
  ucontext_t beginning;
  bool begun, done;
  uint3 index;
  Waits waits;
  unsigned lanes;  // of its warp, that it waits for
  int site;        // the barrier in the source
  uint64_t given;  // to the other lanes
};
static Fiber fibers[MAX_THREADS];
static Fiber* current;
static int threads;
static bool by_fibers;
static char* stacks;  // those of all libraries' fibers: one launch at a time
static size_t stack_size;
static jmp_buf scheduler, failure;
static char message[200];
alignas(128) static unsigned char dynamic[MAX_SHARED + GUARD];
static void (*kernel)(void**);
static void** arguments;

[[noreturn]] static void fail(const char* what) { snprintf(message, sizeof message, "%s", what); _longjmp(failure, 1); }

// Whose turn is next of n: in order, the other way round, or at random
struct Turns {
  uint64_t n, step, at;
  static uint64_t seed;
  static uint64_t random() { seed ^= seed << 13; seed ^= seed >> 7; return seed ^= seed << 17; }
  static uint64_t gcd(uint64_t a, uint64_t b) { return b ? gcd(b, a % b) : a; }
  Turns(uint64_t n, int order) : n(n), step(order == 1 ? n - 1 : 1), at(order == 1 ? n - 1 : 0) {
    if (order != 2 || n < 2) return;
    at = random() % n;
    do step = random() % n; while (gcd(step, n) != 1);
  }
  uint64_t next() {
    uint64_t now = at;
    at += step;
    if (at >= n) at -= n;
    return now;
  }
};
uint64_t Turns::seed;

static void give_way() { if (!_setjmp(current->place)) _longjmp(scheduler, 1); }
static void live() { for (;;) { kernel(arguments); current->done = true; give_way(); } }
static void begin(Fiber& f) {
  getcontext(&f.beginning);
  f.beginning.uc_stack.ss_sp = stacks + (&f - fibers) * stack_size;
  f.beginning.uc_stack.ss_size = stack_size;
  f.beginning.uc_link = nullptr;
  makecontext(&f.beginning, live, 0);
  f.begun = true;
  setcontext(&f.beginning);
}
static void go_on(Fiber& f) {
  current = &f; threadIdx = f.index;
  if (_setjmp(scheduler)) return;
  if (f.begun) _longjmp(f.place, 1);
  begin(f);
}
static void wait(Waits what, unsigned lanes, int site) {
  if (!by_fibers) fail("a barrier in a kernel that was taken for one without");
  current->waits = what; current->lanes = lanes; current->site = site;
  give_way();
}
static bool release_block() {
  Fiber* one = nullptr;
  for (Fiber* f = fibers; f < fibers + threads; f++) {
    if (f->done) continue;
    if (f->waits != FOR_BLOCK) return false;
    if (one && one->site != f->site) fail("threads of a block wait at different __syncthreads");
    one = f;
  }
  for (Fiber* f = fibers; f < fibers + threads; f++) f->waits = FOR_NOTHING;
  return one;
}
static bool release_lanes(Fiber* warp, int width, unsigned lanes) {
  for (int i = 0; i < width; i++)
    if (lanes >> i & 1 && !warp[i].done && (warp[i].waits != FOR_WARP || warp[i].lanes != lanes)) return false;
  for (int i = 0; i < width; i++) if (lanes >> i & 1) warp[i].waits = FOR_NOTHING;
  return true;
}
static bool release_warps() {
  bool any = false;
  for (int w = 0; w < threads; w += 32) {
    int width = threads - w < 32 ? threads - w : 32;
    for (Fiber* f = fibers + w; f < fibers + w + width; f++)
      if (!f->done && f->waits == FOR_WARP) any |= release_lanes(fibers + w, width, f->lanes);
  }
  return any;
}
// Each thread that waits for nothing runs to its next barrier; where turns are at random, half of them do
static bool round_of_turns(int order) {
  bool any = false;
  Turns turns(threads, order);
  for (int k = 0; k < threads; k++) {
    Fiber& f = fibers[turns.next()];
    if (f.done || f.waits) continue;
    any = true;
    if (order == 2 && Turns::random() >> 40 & 1) continue;
    go_on(f);
  }
  return any;
}
static void run_block(int order) {
  if (!by_fibers) {
    Turns turns(threads, order);
    for (int k = 0; k < threads; k++) { threadIdx = fibers[turns.next()].index; kernel(arguments); }
    return;
  }
  for (int i = 0; i < threads; i++) { fibers[i].done = false; fibers[i].waits = FOR_NOTHING; }
  for (;;) {
    bool any = round_of_turns(order);
    any |= release_warps();
    any |= release_block();
    if (any) continue;
    for (int i = 0; i < threads; i++) if (!fibers[i].done) fail("threads wait for each other at barriers, for ever");
    return;
  }
}
struct How { unsigned shared; int barriers, order; uint64_t seed; char* stacks; size_t stack_size; };
static int launch(void (*k)(void**), void** a, const unsigned* size, How how) {
  unsigned shared = how.shared;
  int order = how.order;
  kernel = k; arguments = a; by_fibers = how.barriers; Turns::seed = how.seed * 0x9e3779b97f4a7c15 + 1;
  stacks = how.stacks; stack_size = how.stack_size;
  gridDim = dim3(size[0], size[1], size[2]); blockDim = dim3(size[3], size[4], size[5]);
  threads = size[3] * size[4] * size[5];
  for (unsigned i = 0; i < (unsigned)threads; i++) {
    fibers[i].index = {i % size[3], i / size[3] % size[4], i / size[3] / size[4]};
    fibers[i].begun = false;
  }
  if (_setjmp(failure)) return 1;
  memset(dynamic + shared, 0x5a, GUARD);
  Turns turns((uint64_t)size[0] * size[1] * size[2], order);
  for (uint64_t b = 0; b < turns.n; b++) {
    uint64_t at = turns.next();
    blockIdx = {(unsigned)(at % size[0]), (unsigned)(at / size[0] % size[1]), (unsigned)(at / size[0] / size[1])};
    memset(dynamic, 0xff, shared);
    if (__start_shim_shared) memset(__start_shim_shared, 0xff, __stop_shim_shared - __start_shim_shared);
    run_block(order);
  }
  for (int g = 0; g < GUARD; g++)
    if (dynamic[shared + g] != 0x5a) fail("it wrote behind the shared memory that the launch asked for");
  return 0;
}

// A warp's threads show each other a value
static inline int lane() { return (current - fibers) % 32; }
static inline bool takes_part(unsigned lanes, int lane) {
  Fiber* f = current - shim::lane() + lane;
  return lanes >> lane & 1 && f < fibers + threads && !f->done;
}
template <class T> static T from_lane(unsigned lanes, T v, int lane) {
  static_assert(sizeof(T) <= 8, "");
  Fiber* warp = current - shim::lane();
  memcpy(&current->given, &v, sizeof v);
  wait(FOR_WARP, lanes, 0);
  T found;
  memset(&found, 0xff, sizeof found);  // of a lane that takes no part the value is undefined
  if (takes_part(lanes, lane)) memcpy(&found, &warp[lane].given, sizeof v);
  wait(FOR_WARP, lanes, 0);
  return found;
}
}  // namespace shim

#define __syncthreads() shim::wait(shim::FOR_BLOCK, 0, __COUNTER__ + 1)
static inline void __syncwarp(unsigned lanes = 0xffffffffu) { shim::wait(shim::FOR_WARP, lanes, 0); }
template <class T> static inline T __shfl_sync(unsigned lanes, T v, int lane, int width = 32) {
  return shim::from_lane(lanes, v, (shim::lane() & ~(width - 1)) + (lane & (width - 1)));
}
template <class T> static inline T __shfl_xor_sync(unsigned lanes, T v, int mask, int width = 32) {
  int to = shim::lane() ^ mask;
  return shim::from_lane(lanes, v, (to & ~(width - 1)) > (shim::lane() & ~(width - 1)) ? shim::lane() : to);
}
template <class T> static inline T __shfl_down_sync(unsigned lanes, T v, unsigned by, int width = 32) {
  int to = shim::lane() + by;
  return shim::from_lane(lanes, v, (int)by + (shim::lane() & (width - 1)) >= width ? shim::lane() : to);
}
template <class T> static inline T __shfl_up_sync(unsigned lanes, T v, unsigned by, int width = 32) {
  int to = shim::lane() - (int)by;
  return shim::from_lane(lanes, v, (shim::lane() & (width - 1)) < (int)by ? shim::lane() : to);
}
static inline unsigned __ballot_sync(unsigned lanes, int predicate) {
  unsigned all = 0;
  for (int i = 0; i < 32; i++) {
    bool there = shim::takes_part(lanes, i);
    if (shim::from_lane(lanes, predicate, i) && there) all |= 1u << i;
  }
  return all;
}
static inline int __any_sync(unsigned lanes, int predicate) { return __ballot_sync(lanes, predicate) != 0; }
static inline int __all_sync(unsigned lanes, int predicate) { return __ballot_sync(lanes, !predicate) == 0; }

// ---- what CuPy hands to an ElementwiseKernel -------------------------------------------------------------------------

enum { SHIM_AXES = 16 };
struct CIndexer {
  ptrdiff_t count, ndim, shape[SHIM_AXES], index[SHIM_AXES];
  ptrdiff_t size() const { return count; }
  void set(ptrdiff_t i) {
    for (ptrdiff_t d = ndim - 1; d > 0; d--) { index[d] = i % shape[d]; i /= shape[d]; }
    index[0] = i;
  }
  typedef ptrdiff_t Index[SHIM_AXES];
  const Index& get() const { return index; }
};
template <class T> struct CArray {
  char* data;
  ptrdiff_t count, ndim, extents[SHIM_AXES], steps[SHIM_AXES];
  ptrdiff_t size() const { return count; }
  const ptrdiff_t* shape() const { return extents; }
  const ptrdiff_t* strides() const { return steps; }
  template <class Int, size_t n> T& operator[](const Int (&index)[n]) const {
    ptrdiff_t at = 0;
    for (ptrdiff_t d = 0; d < ndim; d++) at += index[d] * steps[d];
    return *(T*)(data + at);
  }
  T& operator[](ptrdiff_t i) const {
    ptrdiff_t at = 0;
    for (ptrdiff_t d = ndim - 1; d > 0; d--) { at += i % extents[d] * steps[d]; i /= extents[d]; }
    return *(T*)(data + (ndim ? at + i * steps[0] : 0));
  }
};
#define CUPY_FOR(i, n) \
  for (ptrdiff_t i = (ptrdiff_t)blockIdx.x * blockDim.x + threadIdx.x; i < (n); i += (ptrdiff_t)blockDim.x * gridDim.x)

// ---- what Python calls -----------------------------------------------------------------------------------------------

namespace shim {
template <class T> struct Name {
  static void write(char*& to) {
    if (std::is_floating_point<T>::value) to += sprintf(to, "float%d", (int)sizeof(T) * 8);
    else if (std::is_same<T, bool>::value) to += sprintf(to, "bool");
    else if (!std::is_integral<T>::value) to += sprintf(to, "struct%d", (int)sizeof(T));
    else to += sprintf(to, "%sint%d", std::is_signed<T>::value ? "" : "u", (int)sizeof(T) * 8);
  }
};
template <> struct Name<void> { static void write(char*& to) { to += sprintf(to, "void"); } };
template <> struct Name<__half> { static void write(char*& to) { to += sprintf(to, "float16"); } };
template <> struct Name<float16> { static void write(char*& to) { to += sprintf(to, "float16"); } };
template <class T> struct Name<const T> : Name<T> {};
template <class T> struct Name<volatile T> : Name<T> {};
template <class T> struct Name<T*> { static void write(char*& to) { Name<T>::write(to); *to++ = '*'; } };

template <auto f> struct Kernel;
template <class... A, void (*f)(A...)> struct Kernel<f> {
  static void run(void** a) { call(a, std::index_sequence_for<A...>{}); }
  template <size_t... k> static void call(void** a, std::index_sequence<k...>) { f(*(A*)a[k]...); }
  static const char* types() {  // "float32*,int64,…"
    static char text[40 * sizeof...(A) + 1];
    char* to = text;
    (void)std::initializer_list<int>{(Name<A>::write(to), *to++ = ',', 0)...};
    if (to > text) to--;
    *to = 0;
    return text;
  }
};
}  // namespace shim
extern "C" const char* shim_message() { return shim::message; }
extern "C" long shim_shared_bytes() { return __start_shim_shared ? __stop_shim_shared - __start_shim_shared : 0; }
#define SHIM_KERNEL(number, ...) \
  extern "C" const char* shim_types_##number() { return shim::Kernel<__VA_ARGS__>::types(); } \
  extern "C" int shim_launch_##number(void** a, const unsigned* size, const shim::How* how) { \
    return shim::launch(shim::Kernel<__VA_ARGS__>::run, a, size, *how); \
  }
