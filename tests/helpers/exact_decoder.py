"""The forward pass again, in Python's integers and fractions, written from the lessons' equations.

Numbers are fractions. `r` rounds one to float64, where a lesson rounds; everything else is exact.
"""

from __future__ import annotations

import math
from fractions import Fraction as F

from waterlevel.reference.decoder import Configuration
from waterlevel.reference.decoder.attention import CHUNK, score_factor
from waterlevel.reference.decoder.exponential import COEFFICIENTS, LOG2_E
from waterlevel.reference.decoder.rotary import tables

U = F(2) ** 26
C = [int(c) for c in COEFFICIENTS]


def r(x: F) -> F:
    return F(float(x))


def share(n: int) -> tuple[int, int]:
    bits = 53 - math.ceil(math.log2(n))
    return bits - bits // 2, bits // 2


def unit(largest: F, bits: int) -> F:
    e = math.frexp(float(largest))[1]
    return F(2) ** (max(e, -400) - bits)


def grid(x: list[F], bits: int) -> tuple[list[int], F]:
    u = unit(max(abs(v) for v in x), bits)
    return [round(v / u) for v in x], u


def linear(x: list[F], W: list[list[F]], b: list[F] | None) -> list[F]:
    bx, bw = share(len(x))
    m, u = grid(x, bx)
    out = []
    for i, row in enumerate(W):
        k, v = grid(row, bw)
        y = sum(a * c for a, c in zip(m, k, strict=True)) * u * v
        out.append(r(y + (b[i] if b else 0)))
    return out


def norm(x: list[F], g: list[F], epsilon: float) -> list[F]:
    n = len(x)
    m, u = grid(x, share(n)[1])
    mean = r(r(F(sum(a * a for a in m)) / n) * u * u + F(epsilon))
    s = r(1 / F(math.sqrt(float(mean))))
    return [r(r(a * s) * c) for a, c in zip(x, g, strict=True)]


def power(t: int) -> F:
    """2^26·2^(t/2^26)."""
    t = max(t, -64 << 26)
    k = round(F(t) / U)
    rest, p = F(t) / U - k, F(C[7])
    for c in C[6::-1]:
        p = F(round(p * rest)) + c
    return p * F(2) ** k


def turn(x: list[F], cosine: list[F], sine: list[F]) -> list[F]:
    m, u = grid(x, 22)
    h = len(x) // 2
    a = [(m[i] * cosine[i] - m[h + i] * sine[i]) * u for i in range(h)]
    return a + [(m[h + i] * cosine[i] + m[i] * sine[i]) * u for i in range(h)]


def swiglu(g: F, u: F) -> F:
    e = power(-round(r(abs(g) * F(LOG2_E)) * U))
    s = r((U if g >= 0 else e) / r(U + e))
    return r(r(g * s) * u)


def limits(W: list[list[F]], g: list[F], b: list[F] | None) -> list[float]:
    """Real bounds rounded as `integers.prepare` does; only their exponent matters."""
    n = len(g)
    bx, bw = share(n)
    found = []
    for i, row in enumerate(W):
        k, v = grid(row, bw)
        size = math.sqrt(sum((c * v * a) ** 2 for c, a in zip(k, g, strict=True)))
        spill = float(max(abs(a) for a in g)) * 2.0**-bx * float(sum(abs(c) * v for c in k))
        found.append(math.sqrt(n) * (size + spill) * (1 + 2.0**-20) + abs(float(b[i]) if b else 0))
    return found


def attention(q, k, v, limit, window):
    """One head: q, k, v are lists over positions of lists over features."""
    d, out = len(q[0]), []
    bq, bk = share(d)
    keys = [grid(x, bk) for x in k]
    units = [unit(F(x), 21) for x in limit]
    for i, x in enumerate(q):
        m, u = grid(x, bq)
        factor = r(u * F(score_factor(d)))
        seen = [j for j in range(i + 1) if window is None or j > i - window]
        t = []
        for j in seen:
            s = sum(a * c for a, c in zip(m, keys[j][0], strict=True))
            t.append(round(r(s * factor) * keys[j][1] * U))
        w = [round(power(a - max(t)) / 8) for a in t]
        row = []
        for c in range(d):
            hi, lo = F(0), F(0)
            for chunk in range(0, i + 1, CHUNK):
                h = [round(v[j][c] / units[c]) for j in seen]
                part = [n for n, j in enumerate(seen) if chunk <= j < chunk + CHUNK]
                hi = r(hi + sum(w[n] * h[n] for n in part))
                rest = {n: round((v[seen[n]][c] / units[c] - h[n]) * 2**21) for n in part}
                lo = r(lo + sum(w[n] * rest[n] for n in part))
            row.append(r(r(hi + lo / 2**21) / sum(w)) * units[c])
        out.append(row)
    return out


def logits(c: Configuration, tensors: dict, tokens: list[int]) -> list[list[float]]:
    T = {name: _fractions(x.tolist()) for name, x in tensors.items()}
    cosine, sine = (_fractions(x.tolist()) for x in tables(c.rotary, c.head_width, len(tokens)))
    h = [T["model.embed_tokens.weight"][t] for t in tokens]
    d, shared = c.head_width, c.heads // c.key_heads
    for i in range(c.blocks):
        p = f"model.layers.{i}."

        def layer(x, name, p=p):
            full = (
                f"{p}{'mlp' if 'gate' in name or 'up' in name or 'down' in name else 'self_attn'}"
            )
            W, b = T[f"{full}.{name}.weight"], T.get(f"{full}.{name}.bias")
            return [linear(row, W, b) for row in x]

        gain = T[f"{p}input_layernorm.weight"]
        x = [norm(row, gain, c.epsilon) for row in h]
        q, k, v = (layer(x, name) for name in ("q_proj", "k_proj", "v_proj"))

        def head(y, n, turned="", p=p):
            rows = [row[n * d : (n + 1) * d] for row in y]
            if turned and c.query_key_norm:
                g = T[f"{p}self_attn.{turned}.weight"]
                rows = [norm(row, g, c.epsilon) for row in rows]
            if turned:
                rows = [turn(row, cosine[t], sine[t]) for t, row in enumerate(rows)]
            return rows

        b = T.get(f"{p}self_attn.v_proj.bias")
        limit = limits(T[f"{p}self_attn.v_proj.weight"], gain, b)
        heads = []
        for n in range(c.heads):
            m = n // shared
            heads.append(
                attention(
                    head(q, n, "q_norm"),
                    head(k, m, "k_norm"),
                    head(v, m),
                    limit[m * d : (m + 1) * d],
                    c.window_of(i),
                )
            )
        mixed = [[y for n in range(c.heads) for y in heads[n][t]] for t in range(len(tokens))]
        h = _add(h, layer(mixed, "o_proj"))
        gain = T[f"{p}post_attention_layernorm.weight"]
        x = [norm(row, gain, c.epsilon) for row in h]
        gate, up = layer(x, "gate_proj"), layer(x, "up_proj")
        m = [
            [swiglu(a, e) for a, e in zip(*pair, strict=True)]
            for pair in zip(gate, up, strict=True)
        ]
        h = _add(h, layer(m, "down_proj"))
    W = T["model.embed_tokens.weight" if c.tied else "lm_head.weight"]
    last = [linear(norm(row, T["model.norm.weight"], c.epsilon), W, None) for row in h]
    return [[float(y) for y in row] for row in last]


def _fractions(x):
    return [_fractions(y) for y in x] if isinstance(x, list) else F(x)


def _add(h, y):
    return [[r(a + b) for a, b in zip(*rows, strict=True)] for rows in zip(h, y, strict=True)]
