// Sums in the order of `reference/arithmetic/sums.py`, by a block of 512 threads: one thread for each number of
// a chunk. A chunk that is not full is filled with +0.0, which changes no bit.
#pragma once
#include "exact.cuh"

constexpr int CHUNK = 512;

// The sum of one chunk, for all threads of the block; each brings one number.
__device__ inline real fold(real mine) {
    __shared__ real numbers[CHUNK];
    numbers[threadIdx.x] = mine;
    __syncthreads();
    for (int width = CHUNK / 2; width > 0; width /= 2) {
        if (threadIdx.x < width)
            numbers[threadIdx.x] = add(numbers[threadIdx.x], numbers[threadIdx.x + width]);
        __syncthreads();
    }
    const real sum = numbers[0];
    __syncthreads();
    return sum;
}

// The sum of number(0) … number(count - 1), count ≤ 512³: chunks, chunks of their sums, and so on.
template <typename Number>
__device__ real tree_sum(integer count, Number number) {
    __shared__ real sums[CHUNK], sums_of_sums[CHUNK];
    const int thread = threadIdx.x;
    if (count <= CHUNK) return add(fold(thread < count ? number(thread) : real(0)), real(0));
    const integer chunks = (count + CHUNK - 1) / CHUNK;
    const integer groups = (chunks + CHUNK - 1) / CHUNK;
    for (integer group = 0; group < groups; ++group) {
        const integer inside = least(CHUNK, chunks - group * CHUNK);
        for (integer chunk = 0; chunk < inside; ++chunk) {
            const integer i = (group * CHUNK + chunk) * CHUNK + thread;
            const real sum = fold(i < count ? number(i) : real(0));
            if (thread == 0) sums[chunk] = sum;
        }
        __syncthreads();
        const real sum = fold(thread < inside ? sums[thread] : real(0));
        if (thread == 0) sums_of_sums[group] = sum;
    }
    __syncthreads();
    return add(fold(thread < groups ? sums_of_sums[thread] : real(0)), real(0));
}
