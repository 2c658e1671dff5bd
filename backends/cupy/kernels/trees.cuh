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

// The upper levels of a tree whose numbers lie in the registers of one thread; the sum is held[0].
//
// Recursion instead of a loop, which the compiler would not unroll in full: numbers at an index that
// it does not know cannot stay in registers.
template <int COUNT, int HELD>
__device__ inline void fold_held(real (&held)[HELD]) {
    if constexpr (COUNT > 0) {
#pragma unroll
        for (int s = 0; s < COUNT; ++s) held[s] = add(held[s], held[s + COUNT]);
        fold_held<COUNT / 2>(held);
    }
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
