// How one number is decided: from y and the diagonal element l of its column to a code and a value.
//
// The formulas are those of `reference/grids/codebooks.py`. A code that does not fit is noted for its row,
// the first one only, and counts as 0 from there on; the host looks at the notes when all is done.
#pragma once
#include "exact.cuh"

struct Codes {
    int *start;  // of the column that is decided first; each further one lies before it
    integer row_stride;
    integer first_column;  // the number of that column
    integer *overflow_column;  // per row; -1 while all codes fit
    real *overflow_value;

    __device__ void refuse(integer row, integer place, real value) const {
        if (overflow_column[row] < 0) {
            overflow_column[row] = first_column - place;
            overflow_value[row] = value;
        }
    }

    __device__ int write(integer row, integer place, int code) const {
        start[row * row_stride - place] = code;
        return code;
    }

    __device__ int read(integer row, integer place) const {
        return start[row * row_stride - place];
    }

    // A whole number as int32.
    __device__ int write_level(integer row, integer place, real level) const {
        const bool fits = level >= real(-2147483648.0) && level < real(2147483648.0);
        if (!fits) refuse(row, place, level);
        return write(row, place, fits ? static_cast<int>(level) : 0);
    }
};

// q - zero, which wraps around as integers of NumPy do.
__device__ inline int difference(int code, int zero) {
    return static_cast<int>(static_cast<unsigned>(code) - static_cast<unsigned>(zero));
}

// clamp(rint(v/s) + zero, 0, maximum); what is not finite stays so.
__device__ inline real affine_level(real v, real scale, int zero, integer maximum) {
    const real level = add(nearest_integer(divide(v, scale)), static_cast<real>(zero));
    if (!is_finite(level)) return level;
    const real top = static_cast<real>(maximum);
    return level < 0 ? real(0) : level > top ? top : level;
}

// No codebook: X L = T is solved, not rounded.
struct Quotient {
    __device__ real operator()(real y, real diagonal, integer, integer) const {
        return divide(y, diagonal);
    }
};

struct UniformLattice {
    Codes codes;
    real spacing;

    __device__ real operator()(real y, real diagonal, integer row, integer place) const {
        const real level = nearest_integer(divide(divide(y, diagonal), spacing));
        const int code = codes.write_level(row, place, level);
        return multiply(static_cast<real>(code), spacing);
    }
};

// Without a gain; `gains.cu` has the one with it.
struct ScaledLattice {
    Codes codes;
    real step;
    const real *spacing;  // by column

    __device__ real operator()(real y, real, integer row, integer place) const {
        const int code = codes.write_level(row, place, nearest_integer(divide(y, step)));
        return multiply(static_cast<real>(code), spacing[codes.first_column - place]);
    }
};

struct AffineGrid {
    Codes codes;
    const real *scale;  // rows × groups
    const int *zero;    // rows × groups
    const integer *group;  // by column
    integer groups;
    integer maximum;

    __device__ real operator()(real y, real diagonal, integer row, integer place) const {
        const integer at = row * groups + group[codes.first_column - place];
        const real level = affine_level(divide(y, diagonal), scale[at], zero[at], maximum);
        const int code = codes.write_level(row, place, level);
        return multiply(scale[at], static_cast<real>(difference(code, zero[at])));
    }
};

struct FloatGrid {
    Codes codes;
    const real *scale;  // rows × groups
    const integer *group;  // by column
    integer groups;
    const double *midpoints;   // between neighbouring magnitudes: largest_code of them
    const double *magnitudes;  // by code
    integer largest_code;

    __device__ real operator()(real y, real diagonal, integer row, integer place) const {
        const real factor = scale[row * groups + group[codes.first_column - place]];
        const real level = divide(divide(y, diagonal), factor);
        int code = 0;
        if (is_finite(level))
            code = nearest(level);
        else
            codes.refuse(row, place, level);
        codes.write(row, place, code);
        const real size = static_cast<real>(magnitudes[code < 0 ? -code : code]);
        return multiply(factor, code < 0 ? -size : size);
    }

    // How many midpoints lie below the magnitude; on a midpoint the even code wins.
    __device__ int nearest(real level) const {
        const double size = magnitude(level);
        int below = 0, above = static_cast<int>(largest_code);
        while (below < above) {
            const int middle = (below + above) / 2;
            if (midpoints[middle] < size)
                below = middle + 1;
            else
                above = middle;
        }
        if (below < largest_code && size == midpoints[below]) below += below % 2;
        return level < 0 ? -below : below;
    }
};
