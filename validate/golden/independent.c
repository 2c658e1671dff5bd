/* The costly operations once more: scalar loops, one element after the other, in the order that the
 * arithmetic contract gives, with nothing blocked, vectorised or shared with the Python package.
 *
 *     cc -O2 -ffp-contract=off -fno-fast-math -shared -fPIC -o independent.so independent.c -lm
 *
 * -ffp-contract=off matters: without it a compiler may fuse x*y + z into one rounding.
 * Matrices are dense, row by row. The file includes itself once for each floating-point type.
 */
#ifndef REAL

#include <math.h>
#include <stdint.h>

#define REAL double
#define NAME(x) x##_float64
#define ROOT sqrt
#define RINT rint
#include "independent.c"
#undef REAL
#undef NAME
#undef ROOT
#undef RINT

#define REAL float
#define NAME(x) x##_float32
#define ROOT sqrtf
#define RINT rintf
#include "independent.c"

#else

/* c = a b, a: rows x inner, b: inner x columns. The sum over k runs in order for each element; the
 * loop over j is inside only to walk along rows in memory. */
void NAME(matmul)(const REAL *a, const REAL *b, REAL *c, int64_t rows, int64_t inner,
                  int64_t columns)
{
    for (int64_t i = 0; i < rows; i++) {
        for (int64_t j = 0; j < columns; j++)
            c[i * columns + j] = 0;
        for (int64_t k = 0; k < inner; k++) {
            REAL x = a[i * inner + k];
            for (int64_t j = 0; j < columns; j++) {
                REAL product = x * b[k * columns + j];
                c[i * columns + j] = c[i * columns + j] + product;
            }
        }
    }
}

/* h becomes its lower Cholesky factor, zeros above; row by row. Returns the pivot that is not
 * positive, or -1; *value is what stood under its root. */
int64_t NAME(cholesky)(REAL *h, int64_t n, double *value)
{
    for (int64_t i = 0; i < n; i++) {
        REAL *row = h + i * n;
        for (int64_t j = 0; j <= i; j++) {
            const REAL *other = h + j * n;
            REAL open = row[j];
            for (int64_t k = 0; k < j; k++) {
                REAL product = row[k] * other[k];
                open = open - product;
            }
            if (j < i) {
                row[j] = open / other[j];
            } else {
                if (!(open > 0) || isinf(open)) {
                    *value = (double)open;
                    return i;
                }
                row[i] = ROOT(open);
            }
        }
    }
    for (int64_t i = 0; i < n; i++)
        for (int64_t j = i + 1; j < n; j++)
            h[i * n + j] = 0;
    return -1;
}

/* t becomes x with x lT = t. */
void NAME(solve)(REAL *t, const REAL *l, int64_t rows, int64_t n)
{
    for (int64_t i = 0; i < rows; i++) {
        REAL *x = t + i * n;
        for (int64_t j = 0; j < n; j++) {
            REAL open = x[j];
            for (int64_t k = 0; k < j; k++) {
                REAL product = x[k] * l[j * n + k];
                open = open - product;
            }
            x[j] = open / l[j * n + j];
        }
    }
}

/* x, with its own n columns, becomes x' with x' l = x for columns start ... start + n - 1 of l,
 * which has `order` columns. */
void NAME(solve_reversed)(REAL *x, const REAL *l, int64_t rows, int64_t n, int64_t start,
                          int64_t order)
{
    for (int64_t i = 0; i < rows; i++) {
        for (int64_t k = n - 1; k >= 0; k--) {
            const REAL *row = l + (start + k) * order + start;
            x[i * n + k] = x[i * n + k] / row[k];
            for (int64_t j = 0; j < k; j++) {
                REAL product = x[i * n + k] * row[j];
                x[i * n + j] = x[i * n + j] - product;
            }
        }
    }
}

/* The sum of x by the tree: chunks of 512, padded to a power of two; x is overwritten. */
static REAL NAME(tree)(REAL *x, int64_t length)
{
    if (length == 0)
        return 0;
    while (length > 1) {
        int64_t sums = 0;
        for (int64_t first = 0; first < length; first += 512) {
            REAL chunk[512];
            int64_t there = length - first < 512 ? length - first : 512, m = 1;
            while (m < there)
                m *= 2;
            for (int64_t i = 0; i < m; i++)
                chunk[i] = i < there ? x[first + i] : 0;
            while (m > 1) {
                m /= 2;
                for (int64_t i = 0; i < m; i++)
                    chunk[i] = chunk[i] + chunk[i + m];
            }
            x[sums++] = chunk[0];
        }
        length = sums;
    }
    return x[0] + 0;
}

/* Columns stop - 1 ... start of y are decided on the lattice of step c and spacings alpha, each cancelled
 * in the columns before it. room: two vectors of `rows`. Returns the column and row of a code that
 * does not fit as column * rows + row, or -1. */
int64_t NAME(sic_scaled)(REAL *y, int32_t *codes, const REAL *l, const REAL *alpha, REAL c,
                         int lmmse, double *gains, REAL *room, int64_t rows, int64_t n,
                         int64_t start, int64_t stop)
{
    for (int64_t k = stop - 1; k >= start; k--) {
        for (int64_t i = 0; i < rows; i++) {
            REAL z = RINT(y[i * n + k] / c);
            if (!(z >= -2147483648.0 && z < 2147483648.0))
                return k * rows + i;
            codes[i * n + k] = (int32_t)z;
        }
        REAL gain = 1;
        if (lmmse) {
            for (int64_t i = 0; i < rows; i++) {
                REAL z = (REAL)codes[i * n + k];
                room[i] = z * z;
                room[rows + i] = z * y[i * n + k];
            }
            REAL energy = NAME(tree)(room, rows);
            gain = energy > 0 ? NAME(tree)(room + rows, rows) / energy / c : 0;
        }
        gains[k - start] = (double)gain;
        REAL scale = gain * alpha[k];
        for (int64_t i = 0; i < rows; i++) {
            REAL value = (REAL)codes[i * n + k] * scale;
            y[i * n + k] = value;
            for (int64_t j = 0; j < k; j++) {
                REAL product = value * l[k * n + j];
                y[i * n + j] = y[i * n + j] - product;
            }
        }
    }
    return -1;
}

/* The same with an affine grid: scale and zero are rows x groups. */
int64_t NAME(sic_affine)(REAL *y, int32_t *codes, const REAL *l, const REAL *scale,
                         const int32_t *zero, const int64_t *group, int64_t groups,
                         int64_t maximum, int64_t rows, int64_t n, int64_t start, int64_t stop)
{
    for (int64_t k = stop - 1; k >= start; k--) {
        for (int64_t i = 0; i < rows; i++) {
            REAL s = scale[i * groups + group[k]];
            int32_t z = zero[i * groups + group[k]];
            REAL v = y[i * n + k] / l[k * n + k];
            REAL level = RINT(v / s) + (REAL)z;
            if (!isfinite(level))
                return k * rows + i;
            level = level < 0 ? 0 : level;
            level = level > (REAL)maximum ? (REAL)maximum : level;
            codes[i * n + k] = (int32_t)level;
            REAL value = s * (REAL)(codes[i * n + k] - z);
            y[i * n + k] = value;
            for (int64_t j = 0; j < k; j++) {
                REAL product = value * l[k * n + j];
                y[i * n + j] = y[i * n + j] - product;
            }
        }
    }
    return -1;
}

#endif
