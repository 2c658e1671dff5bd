// Element by element: a thread for each, the formulas of `reference/operations/operations.py`.
#include "exact.cuh"

extern "C" __global__ void symmetrize(real *out, const real *h, integer n, integer count) {
    const integer e = thread_number();
    if (e < count) out[e] = divide(add(h[e], h[e % n * n + e / n]), real(2));
}

extern "C" __global__ void combine(real *out, real f, const real *a, real g, const real *b,
                                   integer count) {
    const integer e = thread_number();
    if (e < count) out[e] = add(multiply(f, a[e]), multiply(g, b[e]));
}

extern "C" __global__ void multiply_elements(real *out, const real *a, const real *b,
                                             integer count) {
    const integer e = thread_number();
    if (e < count) out[e] = multiply(a[e], b[e]);
}

extern "C" __global__ void divide_elements(real *out, const real *a, real divisor, integer count) {
    const integer e = thread_number();
    if (e < count) out[e] = divide(a[e], divisor);
}

extern "C" __global__ void scale_rows(real *out, const real *factors, const real *a,
                                      integer columns, integer count) {
    const integer e = thread_number();
    if (e < count) out[e] = multiply(factors[e / columns], a[e]);
}

extern "C" __global__ void scale_columns(real *out, const real *a, const real *factors,
                                         integer columns, integer count) {
    const integer e = thread_number();
    if (e < count) out[e] = multiply(a[e], factors[e % columns]);
}

extern "C" __global__ void convert_float(real *out, const other_real *a, integer count) {
    const integer e = thread_number();
    if (e < count) out[e] = static_cast<real>(a[e]);
}

extern "C" __global__ void convert_from_int(real *out, const int *a, integer count) {
    const integer e = thread_number();
    if (e < count) out[e] = static_cast<real>(a[e]);
}

extern "C" __global__ void convert_to_int(int *out, const real *a, integer count) {
    const integer e = thread_number();
    if (e < count) out[e] = static_cast<int>(a[e]);
}
