// The arithmetic of the contract: every operation is rounded on its own, to nearest even.
//
// A product and a sum written as `a * b + c` may become one fused multiply-add, whoever compiles.
// The functions below name the rounding, and nothing fuses or reorders them. All kernels are written
// on `real`; every file is compiled once for float64 and once for float32.
#pragma once

#ifdef WATERLEVEL_FLOAT32

typedef float real;
typedef double other_real;
typedef unsigned int word;  // as wide as a real: what moves numbers does not look at them

__device__ inline real add(real x, real y) { return __fadd_rn(x, y); }
__device__ inline real subtract(real x, real y) { return __fsub_rn(x, y); }
__device__ inline real multiply(real x, real y) { return __fmul_rn(x, y); }
__device__ inline real divide(real x, real y) { return __fdiv_rn(x, y); }
__device__ inline real root(real x) { return __fsqrt_rn(x); }
__device__ inline real nearest_integer(real x) { return rintf(x); }
__device__ inline real magnitude(real x) { return fabsf(x); }

#else

typedef double real;
typedef float other_real;
typedef unsigned long long word;

__device__ inline real add(real x, real y) { return __dadd_rn(x, y); }
__device__ inline real subtract(real x, real y) { return __dsub_rn(x, y); }
__device__ inline real multiply(real x, real y) { return __dmul_rn(x, y); }
__device__ inline real divide(real x, real y) { return __ddiv_rn(x, y); }
__device__ inline real root(real x) { return __dsqrt_rn(x); }
__device__ inline real nearest_integer(real x) { return rint(x); }
__device__ inline real magnitude(real x) { return fabs(x); }

#endif

// Every whole number that a kernel is handed is an `integer`; the host passes nothing else.
typedef long long integer;

__device__ inline bool is_nan(real x) { return x != x; }
__device__ inline bool is_finite(real x) { return subtract(x, x) == 0; }  // ∞ - ∞ is a NaN
__device__ inline integer least(integer x, integer y) { return x < y ? x : y; }

// The number of this thread among all threads of a one-dimensional launch.
__device__ inline integer thread_number() {
    return static_cast<integer>(blockIdx.x) * blockDim.x + threadIdx.x;
}
