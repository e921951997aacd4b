"""What CUDA C calls the dtypes, and how it says half precision without a header."""

from __future__ import annotations

from typing import Any

import numpy as np

from tinygrad_rnn.compiler.schedule.schedule import NotFusable

TYPES = {
    "bool": "bool", "int8": "i8", "int16": "i16", "int32": "int", "int64": "i64", "uint8": "u8", "uint16": "u16",
    "uint32": "u32", "uint64": "u64", "float16": "half16", "float32": "float", "float64": "double",
}  # fmt: skip

INTEGERS = """
typedef signed char i8; typedef short i16; typedef long long i64;
typedef unsigned char u8; typedef unsigned short u16; typedef unsigned u32; typedef unsigned long long u64;
"""

# A float16 as it is stored: it is computed with as a float, and rounded when it becomes one again.
HALF = """
struct half16 {
  unsigned short bits;
  half16() = default;
#ifdef __CUDA_ARCH__
  __device__ half16(float x) { asm("cvt.rn.f16.f32 %0, %1;" : "=h"(bits) : "f"(x)); }
  __device__ operator float() const { float x; asm("cvt.f32.f16 %0, %1;" : "=f"(x) : "h"(bits)); return x; }
#else
  half16(float x) { _Float16 h = x; __builtin_memcpy(&bits, &h, 2); }
  operator float() const { _Float16 h; __builtin_memcpy(&h, &bits, 2); return h; }
#endif
};
"""


def c_type(dtype: Any) -> str:
    """The C type of elements of a dtype. NotFusable if there is none."""
    name = np.dtype(dtype).name
    if name not in TYPES or not np.dtype(dtype).isnative:
        raise NotFusable(f"numbers of {np.dtype(dtype)} have no form in CUDA")
    return TYPES[name]
