// How fast can products be subtracted if none is fused? Nothing but registers is used.
#include "exact.cuh"

// Eight chains c ← c - c·f a thread, so that the units need not wait for a result. The last lines
// only keep the chains from being left out.
extern "C" __global__ void subtract_in_registers(real *out, real factor, integer turns) {
    constexpr int CHAINS = 8;
    real c[CHAINS];
#pragma unroll
    for (int h = 0; h < CHAINS; ++h) c[h] = real(1 + h);
    for (integer turn = 0; turn < turns; ++turn)
#pragma unroll
        for (int h = 0; h < CHAINS; ++h) c[h] = subtract(c[h], multiply(c[h], factor));
    real sum = 0;
#pragma unroll
    for (int h = 0; h < CHAINS; ++h) sum = add(sum, c[h]);
    out[thread_number()] = sum;
}
