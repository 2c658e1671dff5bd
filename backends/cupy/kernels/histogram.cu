// Histograms of columns of codes, whatever their range: sort each column, then list its runs.
#include "exact.cuh"

constexpr int THREADS = 256;

// Column by column, each filled up to a power of two with the largest code. What was filled in is
// sorted to the end, where nobody reads it: an equal code in its place is the same code.
extern "C" __global__ void fill_columns(int *out, const int *codes, integer rows, integer columns,
                                        integer length) {
    const integer e = thread_number(), column = e / length, row = e % length;
    if (column < columns) out[e] = row < rows ? codes[row * columns + column] : 2147483647;
}

// One step of a bitonic sort of every column: pairs at this distance in runs of `size` are put in
// order, ascending and descending by turns.
extern "C" __global__ void exchange(int *values, integer length, integer size, integer distance,
                                    integer pairs) {
    const integer e = thread_number();
    if (e >= pairs) return;
    int *x = values + e / distance * 2 * distance + e % distance, *y = x + distance;
    const bool ascending = ((x - values) % length & size) == 0;
    if ((*x > *y) == ascending) {
        const int larger = *x;
        *x = *y;
        *y = larger;
    }
}

// What a thread looks at: its share of the sorted column of its block.
struct Share {
    const int *column;
    integer start, stop;

    __device__ Share(const int *values, integer length, integer rows)
        : column(values + blockIdx.x * length),
          start(rows * threadIdx.x / THREADS),
          stop(rows * (threadIdx.x + 1) / THREADS) {}

    __device__ bool begins(integer i) const { return i == 0 || column[i] != column[i - 1]; }

    __device__ integer runs() const {
        integer count = 0;
        for (integer i = start; i < stop; ++i) count += begins(i);
        return count;
    }
};

// How many runs begin before the share of this thread; with `last`, at its end.
__device__ inline integer runs_before(integer mine, bool last) {
    __shared__ integer counts[THREADS];
    counts[threadIdx.x] = mine;
    __syncthreads();
    integer before = 0;
    for (unsigned t = 0; t < threadIdx.x + (last ? 1 : 0); ++t) before += counts[t];
    return before;
}

extern "C" __global__ void count_runs(integer *counts, const int *values, integer length,
                                      integer rows) {
    const integer runs = runs_before(Share(values, length, rows).runs(), true);
    if (threadIdx.x == THREADS - 1) counts[blockIdx.x] = runs;
}

// The code of each run, and where in all columns one after the other it begins.
extern "C" __global__ void list_runs(int *symbols, integer *firsts, const integer *offsets,
                                     const int *values, integer length, integer rows) {
    const Share share(values, length, rows);
    integer next = offsets[blockIdx.x] + runs_before(share.runs(), false);
    for (integer i = share.start; i < share.stop; ++i)
        if (share.begins(i)) {
            symbols[next] = share.column[i];
            firsts[next] = blockIdx.x * rows + i;
            ++next;
        }
}
