"""What a borrowed device is asked first: its bits, against committed digests."""

from __future__ import annotations

import json

import numpy as np
import pytest

from waterlevel.reference.operations.numpy_operations import NUMPY, NumpyOperations
from waterlevel.validate.conformance import device_bits, large_digests

SHAPES = ((5, 12), (40, 36))


@pytest.fixture
def small(monkeypatch):
    """As if the committed layers were small ones."""
    expected = large_digests.digests(NUMPY, SHAPES, 36)
    monkeypatch.setattr(device_bits, "SHAPES", SHAPES)
    monkeypatch.setattr(device_bits, "committed", lambda: expected)
    return expected


class OneBit(NumpyOperations):
    """Cancels right, but for the last bit of one value in float32."""

    def sic(self, target, codes, factor, codebook, start, stop):
        gains = super().sic(target, codes, factor, codebook, start, stop)
        if target.dtype == np.float32:
            target[3, 2] = np.nextafter(target[3, 2], np.float32(9))
        return gains


def test_the_committed_digests_are_those_of_every_layer():
    cases = device_bits.committed()
    shapes = {case.split()[0] for case in cases}
    assert shapes == {f"{rows}×{columns}" for rows, columns in device_bits.SHAPES}
    assert len(cases) == 192


def test_all_bits(small, tmp_path, capsys):
    report = tmp_path / "bits.json"
    assert device_bits.main(["numpy", "--json", str(report)]) == 0
    found = json.loads(report.read_text())
    assert found["judged"] == dict.fromkeys(small, True)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 5
    assert (
        lines[-1] == f"numpy: {len(small)} of {len(small)} committed digests, {len(small)} judged"
    )


def test_one_wrong_bit_is_named(small, monkeypatch, capsys):
    monkeypatch.setattr(device_bits, "get", lambda name: OneBit())
    assert device_bits.main(["numpy"]) == 1
    named = [line.strip() for line in capsys.readouterr().out.splitlines() if line[0] == " "]
    assert named == [
        f"{rows}×{columns} float32 sic {kind}, values"
        for rows, columns in SHAPES
        for kind in ("gains", "uniform", "affine", "float")
    ]


def test_an_output_that_does_not_come_differs(small):
    expected = {**small, "5×12 float64 another": "0" * 64}
    judged = device_bits.judge_layer(NUMPY, 5, 12, "float64", expected)
    assert [case for case, same in judged.items() if not same] == ["5×12 float64 another"]


def test_no_layer_in_time_is_no_success(small, capsys):
    assert device_bits.main(["numpy", "--seconds", "-1"]) == 1
    assert capsys.readouterr().out.endswith("committed digests, 0 judged\n")


def test_digests_of_another_contract_are_refused(monkeypatch, capsys):
    monkeypatch.setattr(device_bits, "CONTRACT_VERSION", "another")
    assert device_bits.main(["numpy"]) == 2
    assert "make it anew with" in capsys.readouterr().err
