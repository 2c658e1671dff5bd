/* The codes of a layer as reference/order_free/FOR_OTHER_LANGUAGES.md asks for them: in 64-bit
 * integers, one row and one term after the other, with 128 bits for gains and bounds. */
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
