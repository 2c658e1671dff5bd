/* The factor, codes and grids of a layer as reference/order_free/FOR_OTHER_LANGUAGES.md asks for
 * them: in 64-bit integers, one row and one term after the other, with 128 bits for gains and
 * bounds. Compile without contraction (-ffp-contract=off). */
#include <math.h>
#include <stdint.h>
#include <stdlib.h>

typedef __int128 wide;
static const double LIMIT = 9007199254740992.0; /* 2^53 */

static int ceil_log2(int64_t n) {
    int bits = 0;
    while (((int64_t)1 << bits) < n) bits++;
    return bits;
}

static int exponent_of(double largest) {
    int e = 0;
    if (largest > 0) frexp(largest, &e);
    return e;
}

static int64_t slice(double *x, int bits) {
    double scaled = ldexp(*x, bits), whole = rint(scaled);
    *x = scaled - whole;
    return (int64_t)whole;
}

static wide magnitude(wide x) { return x < 0 ? -x : x; }

/* N / D, rounded once. */
static double quotient(wide N, wide D) {
    wide n = magnitude(N), rest = n % D;
    uint64_t q = (uint64_t)(n / D);
    int shift = 0;
    if (n == 0) return 0;
    for (; q < (uint64_t)1 << 56; shift++) {
        rest *= 2;
        q *= 2;
        if (rest >= D) { rest -= D; q |= 1; }
    }
    if (rest) q |= 1;
    return ldexp(N < 0 ? -(double)q : (double)q, -shift);
}

/* Sections 2 (last line) to 4 for one f; 0: bound failed, -1: refused, 1: found. */
static int attempt(int64_t a, int64_t n, int f, const double *y, const double *ratio, int gains_on,
                   int32_t *codes, double *gains) {
    int64_t *Y = malloc(sizeof(int64_t) * a * n), *z = malloc(sizeof(int64_t) * a * n);
    wide *bound = calloc(n, sizeof(wide));
    int found = 1;
    for (int64_t i = 0; i < a * n && found; i++) {
        double whole = rint(ldexp(y[i], f));
        if (fabs(whole) >= LIMIT) { found = 0; break; }
        Y[i] = (int64_t)whole;
        if (magnitude(Y[i]) > bound[i % n]) bound[i % n] = magnitude(Y[i]);
    }
    for (int64_t k = n - 1; k >= 0 && found == 1; k--) {
        wide N = 0, D = 0, largest = 0;
        if (bound[k] >= (wide)LIMIT) { found = 0; break; }
        for (int64_t i = 0; i < a; i++) {
            z[i * n + k] = (int64_t)rint(ldexp((double)Y[i * n + k], -f));
            N += (wide)z[i * n + k] * Y[i * n + k];
            D += (wide)z[i * n + k] * z[i * n + k];
            if (magnitude(z[i * n + k]) > largest) largest = magnitude(z[i * n + k]);
        }
        gains[k] = !gains_on ? 1.0 : D == 0 ? 0.0 : ldexp(quotient(N, D), -f);
        for (int64_t j = 0; j < k; j++) {
            double M = rint(ldexp(gains[k] * ratio[k * n + j], f));
            if (fabs(M) >= LIMIT && largest) { found = 0; break; }
            bound[j] += largest * magnitude((int64_t)M);
            if (bound[j] >= (wide)LIMIT) { found = 0; break; }
            for (int64_t i = 0; i < a; i++) Y[i * n + j] -= z[i * n + k] * (int64_t)M;
        }
    }
    for (int64_t i = 0; i < a && found == 1; i++) {
        wide sum = 0;
        for (int64_t k = 0; k < n; k++) sum += magnitude(z[i * n + k]);
        if (sum > (wide)1 << f) found = -1;
    }
    for (int64_t i = 0; i < a * n && found == 1; i++) {
        if (z[i] < INT32_MIN || z[i] > INT32_MAX) found = -1;
        codes[i] = (int32_t)z[i];
    }
    free(Y), free(z), free(bound);
    return found;
}

/* Returns f, or 0 if the layer is refused. */
int order_free_lattice(int64_t a, int64_t n, const double *W, const double *L, double s,
                       int watersic, int gains_on, int32_t *codes, double *gains) {
    int q = 39 - ceil_log2(n), used = 0;
    int64_t *A = malloc(sizeof(int64_t) * 3 * a * n), *B = calloc(2 * n * n, sizeof(int64_t));
    double *y = malloc(sizeof(double) * a * n), *ratio = calloc(n * n, sizeof(double));
    int *e = malloc(sizeof(int) * a), *d = malloc(sizeof(int) * n);
    for (int64_t i = 0; i < a; i++) {
        double largest = 0;
        for (int64_t j = 0; j < n; j++) largest = fmax(largest, fabs(W[i * n + j]));
        e[i] = exponent_of(largest);
        if (abs(e[i]) > 400) goto end;
        for (int64_t j = 0; j < n; j++) {
            double x = ldexp(W[i * n + j], -e[i]);
            for (int p = 0; p < 3; p++) A[(p * a + i) * n + j] = slice(&x, 14);
        }
    }
    for (int64_t j = 0; j < n; j++) {
        double largest = 0;
        for (int64_t k = j; k < n; k++) largest = fmax(largest, fabs(L[k * n + j]));
        d[j] = exponent_of(largest);
        if (abs(d[j]) > 400) goto end;
        for (int64_t k = j; k < n; k++) {
            double x = ldexp(L[k * n + j], -d[j]);
            for (int p = 0; p < 2; p++) B[(p * n + k) * n + j] = slice(&x, q);
            ratio[k * n + j] = L[k * n + j] / L[watersic ? k * n + k : j * n + j];
        }
    }
    for (int64_t i = 0; i < a; i++) {
        for (int64_t j = 0; j < n; j++) {
            static const int PAIRS[4][2] = {{2, 0}, {0, 1}, {1, 0}, {0, 0}};
            int64_t P[4] = {0, 0, 0, 0};
            int x;
            for (int t = 0; t < 4; t++) {
                for (int64_t k = 0; k < n; k++) {
                    P[t] += A[(PAIRS[t][0] * a + i) * n + k] * B[(PAIRS[t][1] * n + k) * n + j];
                }
            }
            double t = ldexp((double)P[0], -28) + ldexp((double)P[1], -q);
            t = t + ldexp((double)P[2], -14);
            t = ldexp(t + (double)P[3], -14 - q);
            double m = frexp(1.0 / (watersic ? s : s * L[j * n + j]), &x);
            y[i * n + j] = ldexp(t * m, e[i] + d[j] + x);
        }
    }
    for (int f = 36; f > 0; f -= 8) {
        int found = attempt(a, n, f, y, ratio, watersic && gains_on, codes, gains);
        if (found) { used = found > 0 ? f : 0; break; }
    }
end:
    free(A), free(B), free(y), free(ratio), free(e), free(d);
    return used;
}

typedef struct {
    int64_t a, n;
    const double *W, *L;
    const int *e, *d;
    int p;
    int64_t *M; /* 2 x n x n */
} Grids;

/* G1, G2 and their bounds at one moment. */
typedef struct {
    int64_t *G;
    wide *bound;
} Sums;

static double update(const Grids *x, const Sums *s, int64_t i, int64_t k) {
    const int64_t *G1 = s->G, *G2 = s->G + x->a * x->n;
    double sum = (double)G1[i * x->n + k] + ldexp((double)G2[i * x->n + k], -x->p);
    return ldexp(sum, x->e[i] + x->d[k] - 2 * x->p) / x->L[k * x->n + k];
}

/* Feeds the errors of column k to the columns from `first` on; 0 if a bound fails. */
static int feed(const Grids *x, Sums *s, int64_t k, const double *errors, int64_t first) {
    int64_t a = x->a, n = x->n, largest[2] = {0, 0}, *E = malloc(sizeof(int64_t) * 2 * a);
    int held = 1;
    for (int64_t i = 0; i < a; i++) {
        double scaled = ldexp(errors[i], -x->e[i]);
        for (int q = 0; q < 2; q++) {
            E[q * a + i] = slice(&scaled, x->p);
            if (llabs(E[q * a + i]) > largest[q]) largest[q] = llabs(E[q * a + i]);
        }
    }
    for (int64_t j = first; j < k; j++) {
        int64_t M1 = x->M[k * n + j], M2 = x->M[(n + k) * n + j];
        s->bound[j] += (wide)largest[0] * llabs(M1);
        s->bound[n + j] += (wide)largest[0] * llabs(M2) + (wide)largest[1] * llabs(M1);
        if (s->bound[j] >= (wide)LIMIT || s->bound[n + j] >= (wide)LIMIT) { held = 0; break; }
        for (int64_t i = 0; i < a; i++) {
            s->G[i * n + j] += E[i] * M1;
            s->G[(a + i) * n + j] += E[i] * M2 + E[a + i] * M1;
        }
    }
    free(E);
    return held;
}

static void fit(const double *x, int64_t length, int bits, int asymmetric, double *scale,
                int *zero) {
    double lo = 0, hi = 0, steps = (double)((1 << bits) - 1);
    for (int64_t i = 0; i < length; i++) lo = fmin(lo, x[i]), hi = fmax(hi, x[i]);
    if (!asymmetric) {
        hi = fmax(-lo, hi);
        if (lo < 0) lo = -hi;
    }
    if (lo == 0 && hi == 0) lo = -1, hi = 1;
    *scale = (hi - lo) / steps;
    if (*scale == 0) lo = -1, hi = 1, *scale = (hi - lo) / steps;
    *zero = asymmetric ? (int)rint(-lo / *scale) : 1 << (bits - 1);
}

/* Columns in the order of L; groups and blocks count from the last column. 0: a bound failed. */
static int grid_attempt(const Grids *x, int bits, int asymmetric, int64_t size, int64_t block,
                        int32_t *codes, double *values, double *scale, int32_t *zero) {
    int64_t a = x->a, n = x->n, groups = (n + size - 1) / size, fitted = 0;
    Sums s = {calloc(2 * a * n, sizeof(int64_t)), calloc(2 * n, sizeof(wide))};
    double *errors = malloc(sizeof(double) * a), *now = malloc(sizeof(double) * a * n);
    int held = 1;
    for (int64_t place = 0; place < n && held; place++) {
        int64_t k = n - 1 - place, end = place + block < n ? place + block : n;
        if (place % block == 0 && fitted * size < end && fitted < groups) {
            int64_t begun = (end + size - 1) / size, last = begun * size < n ? begun * size : n;
            Sums copy = {malloc(sizeof(int64_t) * 2 * a * n), malloc(sizeof(wide) * 2 * n)};
            for (int64_t i = 0; i < 2 * a * n; i++) copy.G[i] = s.G[i];
            for (int64_t i = 0; i < 2 * n; i++) copy.bound[i] = s.bound[i];
            for (int64_t q = place; q < last && held; q++) {
                for (int64_t i = 0; i < a; i++) {
                    double F = place ? update(x, &copy, i, n - 1 - q) : 0;
                    now[i * n + q] = x->W[i * n + n - 1 - q] + F;
                    errors[i] = -F;
                }
                if (place) held = feed(x, &copy, n - 1 - q, errors, n - last);
            }
            for (; fitted < begun; fitted++) {
                int64_t start = fitted * size, stop = start + size < n ? start + size : n;
                for (int64_t i = 0; i < a; i++) {
                    fit(now + i * n + start, stop - start, bits, asymmetric,
                        scale + i * groups + fitted, zero + i * groups + fitted);
                }
            }
            free(copy.G), free(copy.bound);
        }
        for (int64_t i = 0; i < a && held; i++) {
            double t = scale[i * groups + place / size], v = x->W[i * n + k] + update(x, &s, i, k);
            int z = zero[i * groups + place / size];
            double code = rint(v / t) + z;
            code = fmin(fmax(code, 0), (double)((1 << bits) - 1));
            codes[i * n + k] = (int32_t)code;
            values[i * n + k] = t * (code - z);
            errors[i] = x->W[i * n + k] - values[i * n + k];
        }
        if (held) held = feed(x, &s, k, errors, 0);
    }
    free(s.G), free(s.bound), free(errors), free(now);
    return held;
}

/* Returns p, or 0 if the layer is refused. W, codes and values in the order of L. */
int order_free_grids(int64_t a, int64_t n, const double *W, const double *L, int bits,
                     int asymmetric, int64_t size, int64_t block, int32_t *codes, double *values,
                     double *scale, int32_t *zero) {
    int *e = malloc(sizeof(int) * a), *d = malloc(sizeof(int) * n), used = 0;
    int64_t *M = calloc(2 * n * n, sizeof(int64_t));
    for (int64_t i = 0; i < a; i++) {
        double largest = 0;
        for (int64_t j = 0; j < n; j++) largest = fmax(largest, fabs(W[i * n + j]));
        if (abs(e[i] = exponent_of(largest)) > 400) goto end;
    }
    for (int64_t j = 0; j < n; j++) {
        double largest = 0;
        for (int64_t k = j; k < n; k++) largest = fmax(largest, fabs(L[k * n + j]));
        if (abs(d[j] = exponent_of(largest)) > 400) goto end;
    }
    int first = (56 - ceil_log2(n)) / 2;
    for (int p = first < 23 ? first : 23; p >= 13 && !used; p--) {
        Grids x = {a, n, W, L, e, d, p, M};
        for (int64_t k = 0; k < n; k++) {
            for (int64_t j = 0; j <= k; j++) {
                double scaled = ldexp(L[k * n + j], -d[j]);
                for (int q = 0; q < 2; q++) M[(q * n + k) * n + j] = slice(&scaled, p);
            }
        }
        if (grid_attempt(&x, bits, asymmetric, size, block, codes, values, scale, zero)) used = p;
    }
end:
    free(e), free(d), free(M);
    return used;
}

/* L of H (lower triangles); returns -1, or the pivot that is not positive, whose value is put. */
int64_t order_free_factor(int64_t n, const double *H, double *L, double *value) {
    int b = (53 - ceil_log2(3 * n)) / 2, *e = malloc(sizeof(int) * n);
    double *h = malloc(sizeof(double) * n * n);
    int64_t *S = calloc(3 * n * n, sizeof(int64_t)), failed = -1;
    for (int64_t i = 0; i < n * n; i++) h[i] = H[i], L[i] = 0;
    for (int64_t k = 0; k < n && failed < 0; k++) {
        if (!(*value = H[k * n + k], *value > 0)) failed = k;
        else e[k] = exponent_of(sqrt(*value));
    }
    for (int64_t start = 0; start < n && failed < 0; start += 32) {
        int64_t stop = start + 32 < n ? start + 32 : n;
        for (int64_t j = start; j < stop; j++) {
            for (int64_t i = j; i < n; i++) {
                int64_t P[3] = {0, 0, 0};
                for (int64_t k = 0; k < start; k++) {
                    for (int s = 0; s < 3; s++) {
                        for (int q = 0; q <= s; q++) {
                            P[s] += S[(q * n + i) * n + k] * S[((s - q) * n + j) * n + k];
                        }
                    }
                }
                double sum = (double)P[1] + ldexp((double)P[2], -b);
                sum = (double)P[0] + ldexp(sum, -b);
                h[i * n + j] = h[i * n + j] - ldexp(sum, e[i] + e[j] - 2 * b);
            }
        }
        for (int64_t k = start; k < stop; k++) {
            *value = h[k * n + k];
            if (!(*value > 0 && *value < INFINITY)) { failed = k; break; }
            double root = L[k * n + k] = sqrt(*value);
            for (int64_t i = k + 1; i < n; i++) L[i * n + k] = h[i * n + k] / root;
            for (int64_t j = k + 1; j < stop; j++) {
                for (int64_t i = j; i < n; i++) {
                    double product = L[i * n + k] * L[j * n + k];
                    h[i * n + j] = h[i * n + j] - product;
                }
            }
        }
        for (int64_t i = start; i < n && failed < 0; i++) {
            for (int64_t k = start; k < stop; k++) {
                double x = ldexp(L[i * n + k], -e[i]);
                for (int q = 0; q < 3; q++) S[(q * n + i) * n + k] = slice(&x, b);
            }
        }
    }
    free(e), free(h), free(S);
    return failed;
}
