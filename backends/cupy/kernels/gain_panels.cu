// A panel of WaterSIC's cancellation in one launch: blocks meet in it once for each column.
//
// A block has 512 rows, which are a chunk of the sum, and a thread the panel's columns of one row, in
// registers. The columns are taken in the order of the chain, and closed one after the other:
//
//     z = rint(y_q / c);   γ = ⟨z, y_q⟩ / ⟨z, z⟩ / c over all rows;   x_q = z·(γ·α)
//     y_p ← y_p - x_q·l_pq for every p that is still open
//
// So an element loses its terms in the order of `gains.cu`, which does the same with a launch for each
// column. For the two sums of a column the first warp folds what the block brings, tells it to the
// other blocks, waits until all have told theirs, and folds those: every block finds the same gain.
// Blocks that wait for each other must all be on the device; the host sees to it.
#include "codebooks.cuh"
#include "trees.cuh"

constexpr int PANEL = 32, WARP = 32, HELD = CHUNK / WARP;
constexpr unsigned EVERY_LANE = 0xffffffff;

// The sum of number(0) … number(511) by the tree of `trees.cuh`, in the first lane of a warp.
template <typename Number>
__device__ real fold_by_warp(Number number) {
    const int lane = threadIdx.x % WARP;
    real held[HELD];
#pragma unroll
    for (int s = 0; s < HELD; ++s) held[s] = number(lane + WARP * s);
    fold_held<HELD / 2>(held);
    real sum = held[0];
#pragma unroll
    for (int width = WARP / 2; width > 0; width /= 2)
        sum = add(sum, __shfl_down_sync(EVERY_LANE, sum, width));
    return sum;
}

// By the first warp: all that blocks wrote before is there when they have met so many times.
__device__ inline void meet(unsigned *arrived, integer meetings) {
    if (threadIdx.x == 0) {
        __threadfence();
        atomicAdd(arrived, 1u);
        const unsigned all = static_cast<unsigned>(meetings * gridDim.x);
        while (*static_cast<volatile unsigned *>(arrived) < all) __nanosleep(20);
        __threadfence();
    }
    __syncwarp();
}

extern "C" __global__ __launch_bounds__(CHUNK) void gain_panel(
    real *panel, integer rows, const real *l, integer to, integer from, int *codes,
    integer code_stride, integer first_column, integer *overflow_column, real *overflow_value,
    real step, const real *spacing, real *gains, real *sums, integer columns, unsigned *arrived,
    integer met) {
    __shared__ real factor[PANEL][PANEL], squares[CHUNK], products[CHUNK], gain_found;
    const integer row = thread_number(), chunks = gridDim.x;
    const bool inside = row < rows;
    const Codes written{codes, code_stride, first_column, overflow_column, overflow_value};

    if (l != nullptr)
        for (int e = threadIdx.x; e < PANEL * PANEL; e += CHUNK) {
            const int p = e / PANEL, q = e % PANEL;
            if (p < columns && q < p) factor[p][q] = l[p * to + q * from];
        }
    real y[PANEL];
#pragma unroll
    for (int p = 0; p < PANEL; ++p) y[p] = inside && p < columns ? panel[row - p * rows] : real(0);
    __syncthreads();

#pragma unroll
    for (int q = 0; q < PANEL; ++q) {
        if (q >= columns) break;
        const real level = nearest_integer(divide(y[q], step));
        const real z = inside ? static_cast<real>(written.write_level(row, q, level)) : real(0);
        squares[threadIdx.x] = multiply(z, z);
        products[threadIdx.x] = multiply(z, y[q]);
        __syncthreads();
        if (threadIdx.x < WARP) {
            real energy = fold_by_warp([&](int i) { return squares[i]; });
            real product = fold_by_warp([&](int i) { return products[i]; });
            if (chunks > 1) {
                real *all = sums + (q % 2) * 2 * chunks;
                if (threadIdx.x == 0) {
                    all[blockIdx.x] = energy;
                    all[chunks + blockIdx.x] = product;
                }
                meet(arrived, met + q + 1);
                energy = fold_by_warp([=](int i) { return i < chunks ? all[i] : real(0); });
                product = fold_by_warp([=](int i) { return i < chunks ? all[chunks + i] : real(0); });
            }
            if (threadIdx.x == 0) {
                energy = add(energy, real(0));
                product = add(product, real(0));
                gain_found = energy > 0 ? divide(divide(product, energy), step) : real(0);
                if (blockIdx.x == 0) gains[first_column - q] = gain_found;
            }
        }
        __syncthreads();
        y[q] = multiply(z, multiply(gain_found, spacing[first_column - q]));
        if (l != nullptr)
#pragma unroll
            for (int p = q + 1; p < PANEL; ++p)
                if (p < columns) y[p] = subtract(y[p], multiply(y[q], factor[p][q]));
    }

#pragma unroll
    for (int p = 0; p < PANEL; ++p)
        if (inside && p < columns) panel[row - p * rows] = y[p];
}
