"""GPTQ in PyTorch, float32, as somebody writes it from the paper; and with one mistake or more.

Nothing is shared with the package: the inverse factor, lazy blocks, grids of its own. `mistakes`
names what is done wrongly, each at the place where such code goes wrong.
"""

from __future__ import annotations

from typing import Any

import torch

Tensor = torch.Tensor


def torch_gptq(
    weight: Any,
    covariance: Any,
    bits: int,
    asymmetric: bool = False,
    mse: bool = False,
    group_size: int | None = None,
    static_groups: bool = False,
    block_size: int = 128,
    actorder: bool = False,
    damping: float = 0.01,
    *,
    mistakes: tuple[str, ...] = (),
) -> dict[str, Any]:
    """Ŵ, codes, scales and zero points of a layer."""
    W = torch.tensor(weight, dtype=torch.float32)
    H = torch.tensor(covariance, dtype=torch.float32)
    n = W.shape[1]
    dead = torch.diag(H) == 0
    H[dead, dead] = 1
    W[:, dead] = 0
    order = torch.arange(n)
    if actorder and "forgets the order" not in mistakes:
        order = torch.argsort(
            torch.diag(H), descending="sorts upwards" not in mistakes, stable=True
        )
    factor = _factor(H, order, damping, block_size, mistakes)
    original = W[:, order].clone()
    W = original.clone()
    by_original = static_groups or "g_idx by original place" in mistakes
    size = group_size or n
    group = (order if by_original else torch.arange(n)) // size
    anew = group_size is None and "scale anew in each block" in mistakes
    if anew:
        size, group = block_size, torch.arange(n) // block_size
    count = -(-n // size)
    scale, zero = torch.ones(len(W), count), torch.zeros(len(W), count)
    known = group_size is None or static_groups or "static groups" in mistakes
    if known and not anew:
        for g in range(count):
            inside = original[:, group == g]
            scale[:, g], zero[:, g] = _grid(inside, bits, asymmetric, mse, mistakes)
    codes, values = torch.zeros_like(W), torch.zeros_like(W)
    for start in range(0, n, block_size):
        stop = min(start + block_size, n)
        inner, errors = W[:, start:stop].clone(), torch.zeros_like(W[:, start:stop])
        if anew:
            g = start // block_size
            scale[:, g], zero[:, g] = _grid(W, bits, asymmetric, mse, mistakes)
        for k in range(stop - start):
            j = start + k
            g = int(group[j])
            if not known and int((group == g).nonzero()[0]) == j:
                source = W
                if "scales when reached" in mistakes:
                    source = torch.cat([W[:, :start], inner, W[:, stop:]], 1)
                    source[:, stop:] -= errors @ factor[start:stop, stop:]
                scale[:, g], zero[:, g] = _grid(
                    source[:, group == g], bits, asymmetric, mse, mistakes
                )
            if "first group's scale" in mistakes:
                g = 0
            codes[:, j], values[:, j], fed = _round(
                inner[:, k], scale[:, g], zero[:, g], bits, asymmetric, mistakes
            )
            error = inner[:, k] - fed
            if "undivided" not in mistakes:
                error = error / factor[j, j]
            errors[:, k] = error
            if "lost within blocks" not in mistakes:
                row = factor[j, j:stop]
                if "factor of the first block" in mistakes:
                    row = factor[k, k : stop - start] * (factor[j, j] / factor[k, k])
                step = error[:, None] * row
                inner[:, k:] += step if "wrong sign" in mistakes else -step
        if "lost beyond blocks" not in mistakes:
            step = errors @ factor[start:stop, stop:]
            W[:, stop:] += step if "wrong sign" in mistakes else -step
    back = torch.argsort(order)
    if "first group's scale" in mistakes:
        scale, zero = scale[:, :1].expand(-1, count), zero[:, :1].expand(-1, count)
    if "zeros one less" in mistakes:
        zero = zero - 1
        values = (codes - zero[:, group]) * scale[:, group]
    if "scales stored in half" in mistakes:
        scale = scale.half().float()
        values = (codes - zero[:, group]) * scale[:, group]
    return {"dequantized": values[:, back], "codes": codes[:, back].int(), "scale": scale,
            "zero": zero, "group": group[back]}  # fmt: skip


def _factor(
    H: Tensor, order: Tensor, damping: float, block_size: int, mistakes: tuple[str, ...]
) -> Tensor:
    amount = damping * torch.diag(H).mean()
    if "damping of the largest" in mistakes:
        amount = damping * torch.diag(H).max()
    if "damping as it stands" in mistakes:
        amount = torch.tensor(damping)
    if "damping tenfold" in mistakes:
        amount = 10 * amount
    if "no damping" in mistakes:
        amount = torch.tensor(0.0)
    if "H reversed" in mistakes:
        H = H.flip(0, 1)
    if "H in bfloat16" in mistakes:
        H = H.bfloat16().float()
    H = H + amount * torch.eye(len(H))
    if "stale factor" not in mistakes:
        H = H[order][:, order]
    if "factor of H" in mistakes:
        return torch.linalg.cholesky(H).T.contiguous()
    inverse = torch.cholesky_inverse(torch.linalg.cholesky(H))
    if "inverse without a factor" in mistakes:
        return inverse
    return torch.linalg.cholesky(inverse, upper=True)


def _grid(
    x: Tensor, bits: int, asymmetric: bool, mse: bool, mistakes: tuple[str, ...]
) -> tuple[Tensor, Tensor]:
    if "scale of 128 columns" in mistakes:
        x = x[:, :128]
    if "one scale for all" in mistakes:
        x = x.reshape(1, -1).expand(len(x), -1)
    low, high = x.amin(1).clamp(max=0), x.amax(1).clamp(min=0)
    if "range without zero" in mistakes:
        low, high = x.amin(1), x.amax(1)
    best = _of_range(x, low, high, bits, asymmetric, mistakes)
    if mse and "no search" not in mistakes:
        exponent = 2.0 if "squares in the search" in mistakes else 2.5
        least = torch.full((len(x),), torch.inf)
        for i in range(80):
            p = 1 - i / 100
            scale, zero = _of_range(x, p * low, p * high, bits, asymmetric, mistakes)
            rounded = torch.trunc if "truncates" in mistakes else torch.round
            codes = (rounded(x / scale[:, None]) + zero[:, None]).clamp(0, 2**bits - 1)
            error = ((codes - zero[:, None]) * scale[:, None] - x).abs().pow(exponent).sum(1)
            better = error < least
            least = torch.where(better, error, least)
            best = torch.where(better, scale, best[0]), torch.where(better, zero, best[1])
    scale, zero = best
    if "scales in half" in mistakes:
        scale = scale.half().float()
    return scale, zero


def _of_range(
    x: Tensor, low: Tensor, high: Tensor, bits: int, asymmetric: bool, mistakes: tuple[str, ...]
) -> tuple[Tensor, Tensor]:
    half, steps = 2 ** (bits - 1), 2**bits - 1
    if not asymmetric:
        high = torch.maximum(low.abs(), high)
        low = torch.where(low < 0, -high, low)
    empty = (low == 0) & (high == 0)
    low, high = torch.where(empty, -1.0, low), torch.where(empty, 1.0, high)
    scale = (high - low) / (steps + ("2^b intervals" in mistakes))
    if not asymmetric:
        if "M/7" in mistakes:
            scale = high / (half - 1)
        if "M/8" in mistakes:
            scale = high / half
        if "signed, over -8" in mistakes:
            first = x.gather(1, x.abs().argmax(1, keepdim=True))[:, 0]
            scale = first / -half
        return scale, torch.full_like(scale, half)
    zero = -low / scale
    if "zero truncated" in mistakes:
        return scale, torch.trunc(zero)
    if "zero not rounded" in mistakes:
        return scale, zero
    if "zero one more" in mistakes:
        return scale, torch.round(zero) + 1
    return scale, torch.round(zero)


def _round(
    w: Tensor,
    scale: Tensor,
    zero: Tensor,
    bits: int,
    asymmetric: bool,
    mistakes: tuple[str, ...],
) -> tuple[Tensor, Tensor, Tensor]:
    """(codes, their values, the values whose error is passed on)."""
    half, top = 2 ** (bits - 1), 2**bits - 1
    level = torch.round(w / scale + zero)
    if "truncates" in mistakes:
        level = torch.trunc(w / scale) + zero
    code = level.clamp(0, top)
    if "clamps before zero" in mistakes:
        code = torch.round(w / scale).clamp(-half, half - 1) + zero
    if "clamps to 7" in mistakes:
        code = level.clamp(1, top)
    fed = (level if "error before the clamp" in mistakes else code) - zero
    values = (code - zero) * scale
    if "another grid for the weight" in mistakes and not asymmetric:
        values = values * (2 * half - 1) / (2 * half - 2)
    return code, values, fed * scale
