// Moves: no bit is looked at, so numbers of any kind travel as words of their width.
#include "exact.cuh"

// out[i, j] = in[i, j] for i < rows, j < columns, each at i·row + j·column of its own strides.
extern "C" __global__ void copy(word *out, integer out_row, integer out_column, const word *in,
                                integer in_row, integer in_column, integer rows, integer columns) {
    const integer e = thread_number(), i = e / columns, j = e % columns;
    if (i < rows) out[i * out_row + j * out_column] = in[i * in_row + j * in_column];
}

// out[i, j] = in[take_rows[i], take_columns[j]]; an index of -1 stands for a zero.
extern "C" __global__ void gather(word *out, const word *in, integer in_row,
                                  const integer *take_rows, const integer *take_columns,
                                  integer rows, integer columns) {
    const integer e = thread_number();
    if (e >= rows * columns) return;
    const integer i = take_rows[e / columns], j = take_columns[e % columns];
    out[e] = i < 0 || j < 0 ? word(0) : in[i * in_row + j];
}

// The elements on and below the diagonal; zeros above it.
extern "C" __global__ void lower_triangle(word *out, const word *in, integer n, integer count) {
    const integer e = thread_number();
    if (e < count) out[e] = e % n <= e / n ? in[e] : word(0);
}

// out[j, i] = in[i, j] through a tile of 32×32, so that reads and writes both run along rows.
extern "C" __global__ void transpose(word *out, integer out_row, const word *in, integer in_row,
                                     integer rows, integer columns) {
    constexpr int SIDE = 32;
    __shared__ word tile[SIDE][SIDE + 1];
    const integer across = (columns + SIDE - 1) / SIDE;
    const integer top = blockIdx.x / across * SIDE, left = blockIdx.x % across * SIDE;
    for (int r = threadIdx.y; r < SIDE; r += blockDim.y)
        if (top + r < rows && left + threadIdx.x < columns)
            tile[r][threadIdx.x] = in[(top + r) * in_row + left + threadIdx.x];
    __syncthreads();
    for (int r = threadIdx.y; r < SIDE; r += blockDim.y)
        if (left + r < columns && top + threadIdx.x < rows)
            out[(left + r) * out_row + top + threadIdx.x] = tile[threadIdx.x][r];
}
