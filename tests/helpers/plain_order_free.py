"""What a reader of FOR_OTHER_LANGUAGES.md writes in plain NumPy: products by `@`, no more care."""

from __future__ import annotations

import numpy as np


def bits(n: int) -> int:
    return int(np.ceil(np.log2(n)))


def exponents(x: np.ndarray, axis: int) -> np.ndarray:
    largest = np.abs(x).max(axis)
    return np.where(largest == 0, 0, np.frexp(largest)[1])


def cut(x: np.ndarray, width: int, count: int) -> list[np.ndarray]:
    found = []
    for _ in range(count):
        x = x * 2.0**width
        found.append(np.rint(x))
        x = x - found[-1]
    return found


def lattice(W: np.ndarray, L: np.ndarray, s: float, watersic: bool, gains: bool) -> tuple:
    """Sections 1 to 5: codes, gains, column scales and f."""
    a, n = W.shape
    W, q = W.astype(float), 39 - bits(n)
    e, d = exponents(W, 1), exponents(L, 0)
    A1, A2, A3 = cut(np.ldexp(W, -e[:, None]), 14, 3)
    B1, B2 = cut(np.ldexp(L, -d), q, 2)
    T = A3 @ B1 * 2.0**-28 + A1 @ B2 * 2.0**-q
    T = T + A2 @ B1 * 2.0**-14
    T = np.ldexp(T + A1 @ B1, -14 - q)
    diagonal = np.diag(L)
    unit = np.full(n, s) if watersic else s * diagonal
    m, x = np.frexp(1 / unit)
    rho = np.tril(L / (diagonal[:, None] if watersic else diagonal), -1)
    for f in (36, 28, 20, 12, 4):
        Y = np.rint(np.ldexp(T * m, e[:, None] + d + x + f))
        bound, z, g = np.abs(Y).max(0), np.zeros((a, n)), np.ones(n)
        for k in range(n - 1, -1, -1):
            z[:, k] = np.rint(np.ldexp(Y[:, k], -f))
            if gains:
                N = sum(int(u) * int(v) for u, v in zip(z[:, k], Y[:, k], strict=True))
                D = sum(int(u) ** 2 for u in z[:, k])
                g[k] = N / D * 2.0**-f if D else 0
            M = np.rint(np.ldexp(g[k] * rho[k], f))
            bound += np.abs(z[:, k]).max() * np.abs(M)
            Y -= z[:, k, None] * M
        if bound.max() < 2.0**53:
            alpha = s / diagonal if watersic else np.full(n, s)
            return z.astype(np.int32), g, g * alpha, f
    raise ValueError("refused")


def fit(x: np.ndarray, width: int, asymmetric: bool) -> tuple[np.ndarray, np.ndarray]:
    lo, hi = np.minimum(0, x.min(1)), np.maximum(0, x.max(1))
    if not asymmetric:
        hi = np.maximum(-lo, hi)
        lo = np.where(lo == 0, 0, -hi)
    empty = (lo == 0) & (hi == 0)
    lo, hi = np.where(empty, -1, lo), np.where(empty, 1, hi)
    scale = (hi - lo) / (2**width - 1)
    zero = np.rint(-lo / scale) if asymmetric else np.full(len(x), 2.0 ** (width - 1))
    return scale, zero


def grids(
    W: np.ndarray, L: np.ndarray, width: int, asymmetric: bool, size: int, block: int
) -> tuple:
    """Section 6, columns by place: codes, values, scales, zero points and p."""
    a, n = W.shape
    W = W.astype(float)
    e, d = exponents(W, 1), exponents(L, 0)
    for p in range(min(23, (56 - bits(n)) // 2), 12, -1):
        M = cut(np.ldexp(np.tril(L, -1), -d), p, 2)

        def update(G: list, k: int, p: int = p) -> np.ndarray:
            total = G[0][:, k] + G[1][:, k] * 2.0**-p
            return np.ldexp(total, e + d[k] - 2 * p) / L[k, k]

        def feed(G: list, bound: list, k: int, error: np.ndarray, p: int = p, M: list = M) -> None:
            E = cut(np.ldexp(error, -e), p, 2)
            for s, t in ((0, 0), (0, 1), (1, 0)):
                G[s + t] += E[s][:, None] * M[t][k]
                bound[s + t] += np.abs(E[s]).max() * np.abs(M[t][k])

        G, bound = [np.zeros((a, n)), np.zeros((a, n))], [np.zeros(n), np.zeros(n)]
        codes, values = np.zeros((a, n), np.int32), np.zeros((a, n))
        scale, zero, fits = np.zeros((a, -(-n // size))), np.zeros((a, -(-n // size))), True
        for place in range(n):
            k = n - 1 - place
            begun = [b for b in range(0, n, size) if place <= b < min(place + block, n)]
            if place % block == 0 and begun:
                last = min(begun[-1] + size, n)
                copy, its = [x.copy() for x in G], [x.copy() for x in bound]
                now = np.zeros((a, n))
                for j in range(k, n - 1 - last, -1):
                    F = update(copy, j) if place else np.zeros(a)
                    now[:, n - 1 - j] = W[:, j] + F
                    feed(copy, its, j, -F)
                fits = fits and all(b[n - last :].max() < 2.0**53 for b in its)
                for b in begun:
                    group = now[:, b : min(b + size, n)]
                    scale[:, b // size], zero[:, b // size] = fit(group, width, asymmetric)
            s, o = scale[:, place // size], zero[:, place // size]
            v = W[:, k] + update(G, k)
            codes[:, k] = np.clip(np.rint(v / s) + o, 0, 2**width - 1)
            values[:, k] = s * (codes[:, k] - o)
            feed(G, bound, k, W[:, k] - values[:, k])
        if fits and max(b.max() for b in bound) < 2.0**53:
            return codes, values, scale, zero.astype(np.int32), p
    raise ValueError("refused")


def factor(H: np.ndarray) -> np.ndarray:
    """Section 7."""
    n = len(H)
    H, L, b = H.copy(), np.zeros((n, n)), (53 - bits(3 * n)) // 2
    e = np.frexp(np.sqrt(np.diag(H)))[1]
    for start in range(0, n, 32):
        stop = min(start + 32, n)
        S = cut(np.ldexp(L[:, :start], -e[:, None]), b, 3)
        P = [sum(S[q] @ S[s - q][start:stop].T for q in range(s + 1)) for s in range(3)]
        total = np.ldexp(P[0] + (P[1] + P[2] * 2.0**-b) * 2.0**-b, -2 * b)
        H[:, start:stop] -= np.ldexp(total, e[:, None] + e[start:stop])
        for k in range(start, stop):
            L[k, k] = np.sqrt(H[k, k])
            L[k + 1 :, k] = H[k + 1 :, k] / L[k, k]
            H[k + 1 :, k + 1 : stop] -= L[k + 1 :, k, None] * L[k + 1 : stop, k]
    return L
