"""What the texts say of bundled layers in numbers, measured again."""

from __future__ import annotations

import pydoc

import pytest

from waterlevel import backends
from waterlevel.data import LAYERS
from waterlevel.reference import gptq, watersic
from waterlevel.reference.coding.rates import SideInformation
from waterlevel.reference.operations.layer import Layer, prepare
from waterlevel.validate.layers import bitstream
from waterlevel.validate.layers.layer_files import covariance_of, read_layer

PRINTED = 0.006  # half of the last digit that is printed, and the search's 0.005 in each rate


def layer(name: str) -> Layer:
    pytest.importorskip("numba", reason="the oracle takes minutes")
    backend = backends.get("numba")
    file = read_layer(LAYERS / f"{name}.safetensors")
    return prepare(file.weight, covariance_of(file, backend, "float64"), backend=backend)


@pytest.mark.slow
def test_damping_is_a_gain_at_two_bits():
    """`reference/theory/high_rate.py`, `data/reports/CLAIMS.md`."""
    subject = layer("minilm-02-feed-forward-in")
    gaps = {
        damping: (
            gptq(subject, rate=2.0, actorder=True, damping=damping).gap,
            watersic(subject, rate=2.0, damping=damping).gap,
        )
        for damping in (1e-4, 1e-2)
    }
    assert gaps[1e-4] == pytest.approx((0.94, 0.31), abs=PRINTED)
    assert gaps[1e-2] == pytest.approx((0.41, 0.24), abs=PRINTED)
    assert gaps[1e-4][0] - gaps[1e-4][1] == pytest.approx(0.63, abs=PRINTED)
    assert gaps[1e-2][0] - gaps[1e-4][1] == pytest.approx(0.10, abs=PRINTED)  # each its default


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "rate", "tables"),
    [
        ("minilm-02-query", 2.0, 0.011),
        ("minilm-02-query", 4.0, 0.023),
        ("minilm-02-feed-forward-in", 2.0, 0.023),
        ("minilm-02-feed-forward-in", 4.0, 0.046),
    ],
)
def test_what_a_rate_leaves_out_are_the_tables(name, rate, tables):
    """`reference/coding/rates.py`: a stream and the scales, less the rate."""
    pytest.importorskip("constriction")
    result = gptq(layer(name), rate=rate)
    rows, columns = result.codes.shape
    scales = SideInformation.one_spacing().bits(rows, columns) / result.codes.size
    left_out = bitstream.rate_bytes(result.codes) + scales - result.rates.rate
    assert left_out == pytest.approx(tables, abs=0.0006)


@pytest.mark.parametrize("method", ["rtn", "gptq", "watersic", "waterfilling"])
def test_help_of_a_method_leads_to_its_lesson(method):
    shown = pydoc.locate(f"waterlevel.{method}")
    (named,) = (line for line in str(shown.__doc__).splitlines() if "help(" in line)
    lesson = pydoc.locate(named.split('"')[1])
    assert lesson.__name__ == named.split('"')[1]
    assert "Worked example" in lesson.__doc__
    assert "Exercise" in lesson.__doc__
