// The Hadamard transform of `reference/bases/hadamard.py`: a launch for each distance, one for the base.
#include "exact.cuh"

// (x, y) → (x + y, x - y) for all pairs at this distance, in place.
extern "C" __global__ void butterflies(real *matrix, integer distance, integer pairs) {
    const integer e = thread_number();
    if (e >= pairs) return;
    real *x = matrix + e / distance * 2 * distance + e % distance, *y = x + distance;
    const real sum = add(*x, *y), difference = subtract(*x, *y);
    *x = sum;
    *y = difference;
}

// A row is m runs of equal length; run j of the result is +0.0 ± run 0 ± run 1 …
extern "C" __global__ void mix_runs(real *out, const real *in, const signed char *base, integer m,
                                    integer length, integer count) {
    const integer e = thread_number();
    if (e >= count) return;
    const integer place = e % length, j = e / length % m, row = e / length / m;
    real sum = 0;
    for (integer k = 0; k < m; ++k) {
        const real x = in[(row * m + k) * length + place];
        sum = base[k * m + j] > 0 ? add(sum, x) : subtract(sum, x);
    }
    out[e] = sum;
}
