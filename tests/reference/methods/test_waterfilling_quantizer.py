"""The waterfilling quantiser against its definition, and beside WaterSIC."""

from __future__ import annotations

import numpy as np
import pytest

from waterlevel.reference import BadInput, NotPositiveDefinite, waterfilling, watersic
from waterlevel.reference.limits.gaussian_limit import eigenbasis, rate_limit

from ...helpers import layers
from ...helpers.inputs import same_bits


def decide(W, eigenvalues, V, c, lmmse):
    """Codes, column scales and Ŵ by NumPy; a component below the level c²/12 gets nothing."""
    length = np.sqrt(eigenvalues)
    active = (W**2).mean() * eigenvalues > c * c / 12
    Y = W @ V * length
    Z = np.where(active, np.rint(Y / c), 0)
    energy = (Z * Z).sum(axis=0)
    gains = np.where(energy > 0, (Z * Y).sum(axis=0) / np.maximum(energy, 1) / c, 0)
    scale = np.where(active, (gains if lmmse else 1.0) * c / np.where(active, length, 1), 0)
    return Z, scale, (Z * scale) @ V.T, active, (0.5 - np.abs(Y / c - np.rint(Y / c))).min()


@pytest.mark.parametrize("lmmse", [True, False])
@pytest.mark.parametrize("c", [0.2, 1.0, 3.0, 50.0])
@pytest.mark.parametrize("shape", [(40, 30), (8, 50), (1, 6), (5, 1)])
def test_two_implementations_agree(shape, c, lmmse):
    W, S = layers.weight(1, *shape), layers.covariance(2, shape[1])
    eigenvalues, V = eigenbasis(S)
    result = waterfilling(W, S, eigenvalues=eigenvalues, eigenvectors=V, spacing=c, lmmse=lmmse)
    Z, scale, dequantized, active, margin = decide(W, eigenvalues, V, c, lmmse)
    assert margin > 1e-9
    assert np.array_equal(result.codes, Z)
    assert result.parameters["active"] == active.sum()
    # Sums of n products: n·2⁻⁵³ of the sizes involved, with room for the gains' quotients.
    bound = 20 * shape[1] * 2.0**-53 * np.abs(W).max()
    np.testing.assert_allclose(result.scales.column_scale, scale, rtol=1e-12)
    assert np.abs(result.dequantized - dequantized).max() <= bound * shape[1] ** 0.5
    E = result.dequantized - W
    assert result.distortion == pytest.approx(np.trace(E @ S @ E.T) / W.size, rel=1e-9, abs=1e-15)


@pytest.mark.parametrize("rate", [0.3, 1.0, 3.0])
def test_open_loop_takes_the_level_of_the_rate(rate):
    W, S = layers.weight(3, 20, 16), layers.covariance(4, 16, spread=1.0)
    eigenvalues, V = eigenbasis(S)
    c = waterfilling(
        W, S, eigenvalues=eigenvalues, eigenvectors=V, rate=rate, open_loop=True
    ).parameters["spacing"]
    level, power = c * c / 12, (W**2).mean()
    v = power * eigenvalues
    assert np.maximum(0, np.log2(v / level) / 2).mean() == pytest.approx(rate, rel=1e-12)
    # The distortion of waterfilling at this level has this rate as its limit.
    D = np.minimum(v, level).mean()
    assert rate_limit(eigenvalues, power, D) == pytest.approx(rate, rel=1e-9)


def test_silent_components_and_rank():
    # Rank 3 of 6, with eigenvalues that LAPACK finds slightly negative or positive.
    n = 6
    factor = layers.weight(5, n, 3)
    S = factor @ factor.T
    S = (S + S.T) / 2
    eigenvalues, V = eigenbasis(S)
    W = layers.weight(6, 30, n)
    result = waterfilling(W, S, eigenvalues=eigenvalues, eigenvectors=V, spacing=0.05)
    assert result.parameters["active"] == 3
    assert not result.codes[:, :3].any()
    assert result.distortion < 0.05**2 / 12
    # Negative eigenvalues are taken for 0, as in the spectrum of which the limit is made.
    eigenvalues[0] = -1e-3
    same_bits(
        waterfilling(W, S, eigenvalues=eigenvalues, eigenvectors=V, spacing=0.05).dequantized,
        result.dequantized,
    )
    nothing = waterfilling(
        W, np.zeros((n, n)), eigenvalues=np.zeros(n), eigenvectors=np.eye(n), rate=3.0
    )
    assert not nothing.rate_met
    assert not nothing.dequantized.any()


def test_in_its_eigenbasis_watersic_is_waterfilling():
    # Powers of four, so that L is exact; no damping, nothing dead, every component active.
    lam = 4.0 ** np.array([0, 1, -1, 2, 0])
    W = layers.weight(7, 25, 5)
    plain = waterfilling(W, np.diag(lam), eigenvalues=lam, eigenvectors=np.eye(5), spacing=0.25)
    sic = watersic(W, np.diag(lam), spacing=0.25, damping=0.0, dead_threshold=0.0, rescale=False)
    same_bits(plain.codes, sic.codes)
    same_bits(plain.dequantized, sic.dequantized)
    same_bits(plain.scales.column_scale, sic.scales.column_scale)


def test_bad_spectra_are_named():
    W, S = np.ones((2, 3)), np.eye(3)
    for eigenvalues, V, message in (
        (np.ones(2), np.eye(3), r"eigenvalues has shape \(2,\), expected \(3,\)"),
        (np.array([1, np.nan, 1]), np.eye(3), r"eigenvalues\[1\] is nan"),
        (np.ones(3), np.eye(2), "eigenvectors"),
        (np.ones(3), np.ones((3, 3)), "eigenvectors"),
        (np.ones(3), np.full((3, 3), np.inf), "eigenvectors"),
    ):
        with pytest.raises(BadInput, match=message):
            waterfilling(W, S, eigenvalues=eigenvalues, eigenvectors=V, spacing=1.0)
    # No factorisation: an indefinite Σ has a spectrum all the same.
    S[0, 1] = S[1, 0] = 2.0
    assert np.isfinite(waterfilling(W, S, spacing=1.0).dequantized).all()
    with pytest.raises(NotPositiveDefinite):
        watersic(W, S, spacing=1.0)
