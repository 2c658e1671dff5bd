// The triangular part of everything triangular: a panel of at most 32 columns, row by row.
//
// The columns of a panel are taken in the order of the chain, ascending in `solve` and `cholesky`,
// descending in `solve_reversed` and `sic`; strides tell which. For the p-th of them
//
//     y_p ← y_p - x_q·l_pq for q = 0 … p-1, one after the other;   x_p = decision(y_p, l_pp)
//
// A row is one thread's, from the first column to the last, so rows never wait for each other. What
// the columns outside the panel lose is a product (`products.cu`), one launch for each panel.
#include "codebooks.cuh"

constexpr int PANEL = 32, ROWS = 64;

struct Panel {
    real *y;
    integer row_stride, step;  // from one row, one column of the chain, to the next
    const real *l;  // l_pq lies at l + p·to + q·from; without l columns do not touch each other
    integer to, from;
    integer rows, columns;
};

template <typename Decision>
__device__ void decide(Panel panel, Decision decision) {
    __shared__ real open[PANEL][ROWS + 1], factor[PANEL][PANEL + 1];
    const integer top = static_cast<integer>(blockIdx.x) * ROWS;
    const int columns = static_cast<int>(panel.columns);
    const bool coupled = panel.l != nullptr;

    for (int e = threadIdx.x; e < ROWS * PANEL; e += ROWS) {
        const int r = e / PANEL, p = e % PANEL;
        if (p < columns && top + r < panel.rows)
            open[p][r] = panel.y[(top + r) * panel.row_stride + p * panel.step];
    }
    if (coupled)
        for (int e = threadIdx.x; e < PANEL * PANEL; e += ROWS) {
            const int p = e / PANEL, q = e % PANEL;
            if (p < columns && q <= p) factor[p][q] = panel.l[p * panel.to + q * panel.from];
        }
    __syncthreads();

    const int r = threadIdx.x;
    if (top + r < panel.rows)
        for (int p = 0; p < columns; ++p) {
            real y = open[p][r];
            if (coupled)
                for (int q = 0; q < p; ++q) y = subtract(y, multiply(open[q][r], factor[p][q]));
            open[p][r] = decision(y, coupled ? factor[p][p] : real(1), top + r, p);
        }
    __syncthreads();

    for (int e = threadIdx.x; e < ROWS * PANEL; e += ROWS) {
        const int s = e / PANEL, p = e % PANEL;
        if (p < columns && top + s < panel.rows)
            panel.y[(top + s) * panel.row_stride + p * panel.step] = open[p][s];
    }
}

extern "C" __global__ void solve_panel(real *y, integer row_stride, integer step, const real *l,
                                       integer to, integer from, integer rows, integer columns) {
    decide(Panel{y, row_stride, step, l, to, from, rows, columns}, Quotient{});
}

extern "C" __global__ void uniform_panel(real *y, integer row_stride, integer step, const real *l,
                                         integer to, integer from, integer rows, integer columns,
                                         int *codes, integer first_column, integer *overflow_column,
                                         real *overflow_value, real spacing) {
    decide(Panel{y, row_stride, step, l, to, from, rows, columns},
           UniformLattice{{codes, row_stride, first_column, overflow_column, overflow_value},
                          spacing});
}

extern "C" __global__ void scaled_panel(real *y, integer row_stride, integer step, const real *l,
                                        integer to, integer from, integer rows, integer columns,
                                        int *codes, integer first_column, integer *overflow_column,
                                        real *overflow_value, real lattice_step,
                                        const real *spacing) {
    decide(Panel{y, row_stride, step, l, to, from, rows, columns},
           ScaledLattice{{codes, row_stride, first_column, overflow_column, overflow_value},
                         lattice_step, spacing});
}

extern "C" __global__ void affine_panel(real *y, integer row_stride, integer step, const real *l,
                                        integer to, integer from, integer rows, integer columns,
                                        int *codes, integer first_column, integer *overflow_column,
                                        real *overflow_value, const real *scale, const int *zero,
                                        const integer *group, integer groups, integer maximum) {
    decide(Panel{y, row_stride, step, l, to, from, rows, columns},
           AffineGrid{{codes, row_stride, first_column, overflow_column, overflow_value},
                      scale, zero, group, groups, maximum});
}

extern "C" __global__ void float_panel(real *y, integer row_stride, integer step, const real *l,
                                       integer to, integer from, integer rows, integer columns,
                                       int *codes, integer first_column, integer *overflow_column,
                                       real *overflow_value, const real *scale,
                                       const integer *group, integer groups,
                                       const double *midpoints, const double *magnitudes,
                                       integer largest_code) {
    decide(Panel{y, row_stride, step, l, to, from, rows, columns},
           FloatGrid{{codes, row_stride, first_column, overflow_column, overflow_value},
                     scale, group, groups, midpoints, magnitudes, largest_code});
}

// The Cholesky factor of the block on the diagonal, by one block of 32×32 threads. The first pivot
// that is not positive and finite is noted; what is computed after it is nobody's result.
extern "C" __global__ __launch_bounds__(PANEL * PANEL) void factor_block(
    real *h, integer row_stride, integer columns, integer first_column, integer *failed_pivot,
    real *failed_value) {
    __shared__ real block[PANEL][PANEL + 1];
    const int i = threadIdx.y, j = threadIdx.x;
    const bool mine = i < columns && j <= i;
    if (mine) block[i][j] = h[i * row_stride + j];
    for (int k = 0; k < columns; ++k) {
        if (i == k && j == k) {  // its own element, which it alone has changed so far
            const real pivot = block[k][k];
            if (!(pivot > 0 && is_finite(pivot)) && *failed_pivot < 0) {
                *failed_pivot = first_column + k;
                *failed_value = pivot;
            }
            block[k][k] = root(pivot);
        }
        __syncthreads();
        if (mine && j == k && i > k) block[i][k] = divide(block[i][k], block[k][k]);
        __syncthreads();
        if (mine && j > k)
            block[i][j] = subtract(block[i][j], multiply(block[i][k], block[j][k]));
    }
    if (mine) h[i * row_stride + j] = block[i][j];
}
