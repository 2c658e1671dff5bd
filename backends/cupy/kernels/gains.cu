// WaterSIC's cancellation: the gain of a column is a sum over all rows, so blocks must meet there.
//
// They meet at the end of a launch, and nowhere else: one launch for each column, enqueued ahead,
// none of which waits for the host. Each opens column p of the chain and closes the one before it:
//
//     close q:  γ = ⟨z, y⟩ / ⟨z, z⟩ / c from the sums of all chunks;   y_q ← z·(γ·α)
//     open p:   y_p ← y_p - y_q·l_pq for q = 0 … p-1;   z = rint(y_p / c);   sums of this chunk
//
// The first launch of a panel has nothing to close, the last one nothing to open.
//
// A block has 512 rows, which are a chunk of the sum. The panel lies column by column, so that
// threads read neighbours; column p of the chain is the p-th before `panel`. The sums of a column are
// written where those of its predecessor are not read.
#include "codebooks.cuh"
#include "trees.cuh"

extern "C" __global__ __launch_bounds__(CHUNK) void gain_column(
    real *panel, integer rows, const real *l, integer to, integer from, int *codes,
    integer code_stride, integer first_column, integer *overflow_column, real *overflow_value,
    real step, const real *spacing, real *gains, real *sums, integer columns, integer opening) {
    const integer row = thread_number(), chunks = gridDim.x, closing = opening - 1;
    const Codes written{codes, code_stride, first_column, overflow_column, overflow_value};

    if (closing >= 0) {
        const real *squares = sums + (closing % 2) * 2 * chunks, *products = squares + chunks;
        const real energy = tree_sum(chunks, [=](integer i) { return squares[i]; });
        const real product = tree_sum(chunks, [=](integer i) { return products[i]; });
        const real gain = energy > 0 ? divide(divide(product, energy), step) : real(0);
        const real factor = multiply(gain, spacing[first_column - closing]);
        if (row == 0) gains[first_column - closing] = gain;
        if (row < rows)
            panel[row - closing * rows] =
                multiply(static_cast<real>(written.read(row, closing)), factor);
    }

    if (opening < columns) {
        real y = 0, z = 0;
        if (row < rows) {
            y = panel[row - opening * rows];
            if (l != nullptr)
                for (integer q = 0; q < opening; ++q)
                    y = subtract(y, multiply(panel[row - q * rows], l[opening * to + q * from]));
            panel[row - opening * rows] = y;
            z = static_cast<real>(written.write_level(row, opening, nearest_integer(divide(y, step))));
        }
        const real squares = fold(multiply(z, z));
        const real products = fold(multiply(z, y));
        if (threadIdx.x == 0) {
            real *mine = sums + (opening % 2) * 2 * chunks + blockIdx.x;
            mine[0] = squares;
            mine[chunks] = products;
        }
    }
}
