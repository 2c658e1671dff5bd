// What is looked for in a matrix: a block of 256 threads finds it in one row, the host in the rows.
#include "exact.cuh"

constexpr int THREADS = 256;

// One value from all threads of the block, by a choice that does not depend on the order.
template <typename Value, typename Choose>
__device__ Value choose_one(Value mine, Choose choose) {
    __shared__ Value candidates[THREADS];
    candidates[threadIdx.x] = mine;
    __syncthreads();
    for (int width = THREADS / 2; width > 0; width /= 2) {
        if (threadIdx.x < width)
            candidates[threadIdx.x] =
                choose(candidates[threadIdx.x], candidates[threadIdx.x + width]);
        __syncthreads();
    }
    const Value chosen = candidates[0];
    __syncthreads();
    return chosen;
}

// The first column that holds a NaN or an infinity, or `columns`.
extern "C" __global__ void first_nonfinite(integer *found, const real *matrix, integer columns) {
    const real *row = matrix + blockIdx.x * columns;
    integer first = columns;
    for (integer j = threadIdx.x; j < columns; j += THREADS)
        if (!is_finite(row[j])) first = least(first, j);
    first = choose_one(first, [](integer x, integer y) { return least(x, y); });
    if (threadIdx.x == 0) found[blockIdx.x] = first;
}

// Least and largest value of columns start … stop-1 (at least one); a NaN if there is one.
extern "C" __global__ void row_extrema(real *low, real *high, const real *matrix, integer columns,
                                       integer start, integer stop) {
    const real *row = matrix + blockIdx.x * columns;
    const auto lower = [](real x, real y) { return is_nan(x) || x < y ? x : y; };
    const auto higher = [](real x, real y) { return is_nan(x) || x > y ? x : y; };
    real least_found = row[start], largest_found = row[start];
    for (integer j = start + threadIdx.x; j < stop; j += THREADS) {
        least_found = lower(least_found, row[j]);
        largest_found = higher(largest_found, row[j]);
    }
    least_found = choose_one(least_found, lower);
    largest_found = choose_one(largest_found, higher);
    if (threadIdx.x == 0) {
        low[blockIdx.x] = least_found;
        high[blockIdx.x] = largest_found;
    }
}

// Where in 64 neighbouring columns (a tile of a product) the rows that are not all zeros begin and
// end: in a triangular factor half of the steps can be left out.
extern "C" __global__ void nonzero_steps(integer *begin, integer *end, const real *matrix,
                                         integer rows, integer columns) {
    constexpr int TILE = 64;
    const integer column = static_cast<integer>(blockIdx.x) * TILE + threadIdx.x % TILE;
    integer first = rows, last = 0;
    if (column < columns)
        for (integer k = threadIdx.x / TILE; k < rows; k += THREADS / TILE)
            if (matrix[k * columns + column] != 0) {
                first = least(first, k);
                last = k + 1;
            }
    first = choose_one(first, [](integer x, integer y) { return least(x, y); });
    last = choose_one(last, [](integer x, integer y) { return x > y ? x : y; });
    if (threadIdx.x == 0) {
        begin[blockIdx.x] = first;
        end[blockIdx.x] = last;
    }
}

struct Place {
    real value;
    integer column;
};

// |h_ij - h_ji| where it is largest in row i, or a NaN; the first of equals.
extern "C" __global__ void row_asymmetry(real *values, integer *columns, const real *h, integer n) {
    const integer i = blockIdx.x;
    const auto worse = [](Place x, Place y) {
        if (is_nan(x.value) != is_nan(y.value)) return is_nan(x.value) ? x : y;
        if (x.value > y.value) return x;
        if (x.value < y.value) return y;
        return x.column < y.column ? x : y;
    };
    Place found = {real(-1), n};
    for (integer j = threadIdx.x; j < n; j += THREADS)
        found = worse(found, Place{magnitude(subtract(h[i * n + j], h[j * n + i])), j});
    found = choose_one(found, worse);
    if (threadIdx.x == 0) {
        values[i] = found.value;
        columns[i] = found.column;
    }
}
