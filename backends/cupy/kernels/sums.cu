// Sums by `tree_sum`: along the rows of a matrix, a block for each, or down its columns.
#include "codebooks.cuh"
#include "trees.cuh"

extern "C" __global__ __launch_bounds__(CHUNK) void row_inner(
    real *sums, const real *left, const real *right, integer columns) {
    const real *a = left + blockIdx.x * columns, *b = right + blockIdx.x * columns;
    const real sum = tree_sum(columns, [=](integer j) { return multiply(a[j], b[j]); });
    if (threadIdx.x == 0) sums[blockIdx.x] = sum;
}

// Σ d·d·√d, d = |s·(q - zero) - x|, with q the code of x on the affine grid of its row.
extern "C" __global__ __launch_bounds__(CHUNK) void grid_error(
    real *sums, const real *matrix, integer columns, const real *scales, const int *zeros,
    integer maximum) {
    const real *x = matrix + blockIdx.x * columns, scale = scales[blockIdx.x];
    const int zero = zeros[blockIdx.x];
    const real sum = tree_sum(columns, [=](integer j) {
        const real level = affine_level(x[j], scale, zero, maximum);
        const real value = multiply(scale, subtract(level, static_cast<real>(zero)));
        const real d = magnitude(subtract(value, x[j]));
        return multiply(multiply(d, d), root(d));
    });
    if (threadIdx.x == 0) sums[blockIdx.x] = sum;
}

// The chunk of 512 rows that belongs to this block, folded for 32 columns: a thread has 32 rows of
// one column, 16 apart, so that all folds but the last four stay in its registers.
constexpr int WIDTH = 32, LANES = 16, HELD = CHUNK / LANES;

template <typename Number>
__device__ void fold_columns(real *sums, integer rows, integer columns, Number number) {
    __shared__ real lanes[LANES][WIDTH];
    const int lane = threadIdx.y, x = threadIdx.x;
    const integer j = static_cast<integer>(blockIdx.x) * WIDTH + x;
    const integer top = static_cast<integer>(blockIdx.y) * CHUNK;
    real held[HELD];
#pragma unroll
    for (int s = 0; s < HELD; ++s) {
        const integer i = top + lane + LANES * s;
        held[s] = i < rows && j < columns ? number(i * columns + j) : real(0);
    }
    fold_held<HELD / 2>(held);
    lanes[lane][x] = held[0];
    __syncthreads();
    for (int width = LANES / 2; width > 0; width /= 2) {
        if (lane < width) lanes[lane][x] = add(lanes[lane][x], lanes[lane + width][x]);
        __syncthreads();
    }
    if (lane == 0 && j < columns) sums[blockIdx.y * columns + j] = lanes[0][x];
}

extern "C" __global__ __launch_bounds__(WIDTH * LANES) void fold_column_products(
    real *sums, const real *left, const real *right, integer rows, integer columns) {
    fold_columns(sums, rows, columns, [=](integer e) { return multiply(left[e], right[e]); });
}

extern "C" __global__ __launch_bounds__(WIDTH * LANES) void fold_column_sums(
    real *sums, const real *values, integer rows, integer columns) {
    fold_columns(sums, rows, columns, [=](integer e) { return values[e]; });
}
