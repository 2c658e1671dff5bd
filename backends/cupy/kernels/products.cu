// Products whose chains run in the order of k: c_ij ← c_ij ± a_ik·b_kj for k = 0, 1, 2, …
//
// A block of 16×16 threads owns a tile of 64×64 elements of C, a thread 4×4 of them in registers.
// A and B pass through shared memory 16 steps at a time. An element belongs to one thread, which
// takes its steps in ascending k: the tile changes no bit. Two blocks share a multiprocessor, so that
// one calculates while the other one loads: the compiler is held to the registers for that. Strides say where a_ik and b_kj lie, so
// that a transposed factor, or one that is walked backwards, is the same kernel.
#include "exact.cuh"

constexpr int TILE = 64, DEPTH = 16, THREADS = 16, EACH = TILE / THREADS;

struct Operand {
    const real *start;
    integer outer;  // from one row of A, or one column of B, to the next
    integer step;   // from one k to the next
};

struct Add {
    static constexpr bool weighted = false;
    static __device__ real next(real c, real a, real b, real) { return add(c, multiply(a, b)); }
};

struct Subtract {
    static constexpr bool weighted = false;
    static __device__ real next(real c, real a, real b, real) { return subtract(c, multiply(a, b)); }
};

struct AddWeighted {
    static constexpr bool weighted = true;
    static __device__ real next(real c, real a, real b, real weight) {
        return add(c, multiply(weight, multiply(a, b)));
    }
};

// tile[k][i] = operand(first + i, k0 + k) for the indices that exist, 0 elsewhere. Neighbouring
// threads read neighbouring addresses, whichever way the operand lies.
__device__ inline void load(real (*tile)[TILE + 1], Operand operand, integer first, integer count,
                            integer k0, integer depth) {
    const bool along_k = operand.step == 1 || operand.step == -1;
    for (int e = threadIdx.y * THREADS + threadIdx.x; e < TILE * DEPTH; e += THREADS * THREADS) {
        const int k = along_k ? e % DEPTH : e / TILE;
        const int i = along_k ? e / DEPTH : e % TILE;
        const bool inside = first + i < count && k0 + k < depth;
        tile[k][i] = inside ? operand.start[(first + i) * operand.outer + (k0 + k) * operand.step]
                            : real(0);
    }
}

// Steps that may be left out, because B has zeros there in all columns of a tile: they change no bit
// where C begins at +0.0 and the rows of A are finite.
struct Zeros {
    const integer *begin, *end;  // by tile of columns: the steps that are not all zeros
    const integer *nonfinite;    // by row of A: the first step that is not finite, or the depth
};

// The steps that a tile has to take, by all threads of its block.
__device__ inline void nonzero_steps(Zeros zeros, integer top, integer rows, integer tile,
                                     integer depth, integer &begin, integer &end) {
    __shared__ int finite[TILE];
    const int thread = threadIdx.y * THREADS + threadIdx.x;
    if (thread < TILE) finite[thread] = top + thread >= rows || zeros.nonfinite[top + thread] == depth;
    __syncthreads();
    for (int r = 0; r < TILE; ++r)
        if (!finite[r]) return;
    begin = zeros.begin[tile];
    end = zeros.end[tile];
}

template <typename Chain>
__device__ void extend(real *c, integer c_row, Operand a, Operand b, const real *weights,
                       integer rows, integer columns, integer depth, bool lower, Zeros zeros = {}) {
    __shared__ real left[DEPTH][TILE + 1], right[DEPTH][TILE + 1], weight[DEPTH];
    const integer across = (columns + TILE - 1) / TILE;
    const integer top = blockIdx.x / across * TILE, first = blockIdx.x % across * TILE;
    if (lower && first > top) return;  // the whole tile lies above the diagonal
    integer begin = 0, end = depth;
    if (zeros.begin != nullptr)
        nonzero_steps(zeros, top, rows, blockIdx.x % across, depth, begin, end);

    real element[EACH][EACH];
    for (int r = 0; r < EACH; ++r)
        for (int s = 0; s < EACH; ++s) {
            const integer i = top + threadIdx.y + THREADS * r;
            const integer j = first + threadIdx.x + THREADS * s;
            element[r][s] = i < rows && j < columns ? c[i * c_row + j] : real(0);
        }

    for (integer k0 = begin; k0 < end; k0 += DEPTH) {
        load(left, a, top, rows, k0, end);
        load(right, b, first, columns, k0, end);
        if (Chain::weighted && threadIdx.y == 0 && k0 + threadIdx.x < end)
            weight[threadIdx.x] = weights[k0 + threadIdx.x];
        __syncthreads();
        const int steps = static_cast<int>(least(DEPTH, end - k0));
#pragma unroll 4
        for (int k = 0; k < steps; ++k) {
            real x[EACH], y[EACH];
#pragma unroll
            for (int r = 0; r < EACH; ++r) {
                x[r] = left[k][threadIdx.y + THREADS * r];
                y[r] = right[k][threadIdx.x + THREADS * r];
            }
            const real w = Chain::weighted ? weight[k] : real(1);
#pragma unroll
            for (int r = 0; r < EACH; ++r)
#pragma unroll
                for (int s = 0; s < EACH; ++s)
                    element[r][s] = Chain::next(element[r][s], x[r], y[s], w);
        }
        __syncthreads();
    }

    for (int r = 0; r < EACH; ++r)
        for (int s = 0; s < EACH; ++s) {
            const integer i = top + threadIdx.y + THREADS * r;
            const integer j = first + threadIdx.x + THREADS * s;
            if (i < rows && j < columns && (!lower || j <= i)) c[i * c_row + j] = element[r][s];
        }
}

extern "C" __global__ __launch_bounds__(THREADS * THREADS, 2) void add_products(real *c, integer c_row, const real *a, integer a_row,
                                        integer a_step, const real *b, integer b_column,
                                        integer b_step, integer rows, integer columns,
                                        integer depth, const integer *begin, const integer *end,
                                        const integer *nonfinite) {
    extend<Add>(c, c_row, {a, a_row, a_step}, {b, b_column, b_step}, nullptr, rows, columns, depth,
                false, {begin, end, nonfinite});
}

extern "C" __global__ __launch_bounds__(THREADS * THREADS, 2) void add_weighted_products(real *c, integer c_row, const real *a,
                                                 integer a_row, integer a_step, const real *b,
                                                 integer b_column, integer b_step, integer rows,
                                                 integer columns, integer depth,
                                                 const real *weights) {
    extend<AddWeighted>(c, c_row, {a, a_row, a_step}, {b, b_column, b_step}, weights, rows, columns,
                        depth, false);
}

// With `lower`, C is square and only its elements on and below the diagonal are touched.
extern "C" __global__ __launch_bounds__(THREADS * THREADS, 2) void subtract_products(real *c, integer c_row, const real *a, integer a_row,
                                             integer a_step, const real *b, integer b_column,
                                             integer b_step, integer rows, integer columns,
                                             integer depth, integer lower) {
    extend<Subtract>(c, c_row, {a, a_row, a_step}, {b, b_column, b_step}, nullptr, rows, columns,
                     depth, lower != 0);
}
