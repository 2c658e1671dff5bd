"""Digests over array libraries: a difference is noticed, and the committed report still holds."""

from __future__ import annotations

import json

import numpy as np
import pytest

from waterlevel.data import DIRECTORY
from waterlevel.validate.models import order_free_digests as module
from waterlevel.validate.models.order_free_digests import digests, main, summarize, unexpected

REPORT = json.loads((DIRECTORY / "reports" / "order-free-digests.json").read_text("utf-8"))


def test_numpy_finds_the_committed_digests():
    found = digests("numpy", small=True)
    assert len(found) > 25
    assert found == {case: REPORT["cases"][case] for case in found}


def test_the_committed_report():
    assert REPORT["equal"]
    assert REPORT["differ"] == {}
    assert set(REPORT["ways"]) == set(module.WAYS)
    there = {way for way, found in REPORT["ways"].items() if "skipped" not in found}
    assert there >= {way for way in module.WAYS if "cu" not in way}
    assert {case.split()[0] for case in REPORT["cases"]} == {"16×24", "384×384", "pydoc-2m"}


def test_a_rounding_product_changes_the_digests(monkeypatch: pytest.MonkeyPatch):
    """One slice of the weights that is too wide for the sums, and the model's grids too fine."""
    from waterlevel.reference.decoder import integers
    from waterlevel.reference.order_free import slices

    monkeypatch.setattr(slices, "WEIGHT_WIDTH", 13)
    monkeypatch.setattr(integers, "share", lambda n: (20, 20))
    found = digests("numpy", small=True)
    wrong = {case for case, digest in found.items() if digest != REPORT["cases"][case]}
    assert {"16×24 watersic 8 gains", "pydoc-2m logits"} <= wrong
    assert "16×24 cholesky" not in wrong


def test_a_difference_is_named_and_an_absent_library_too(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path
):
    one = {"digests": {"a codes": "1", "b codes": "2"}}
    ways = {"x": one, "y": {"digests": {"a codes": "1", "b codes": "3"}}, "z": {"skipped": "no"}}
    report = summarize(ways)
    assert not report["equal"]
    assert report["differ"] == {"b codes": {"2": ["x"], "3": ["y"]}}
    assert report["cases"] == {"a codes": "1"}
    assert unexpected(report, {"cases": {"a codes": "4"}}) == ["a codes"]
    monkeypatch.setattr(module, "computed", lambda library, settings, small: one)
    committed = tmp_path / "report.json"
    for cases, status in ((one["digests"], 0), ({"a codes": "1"}, 1)):
        committed.write_text(json.dumps({"cases": cases}), "utf-8")
        assert main(["--expect", str(committed)]) == status
    assert "b codes" in capsys.readouterr().out
    monkeypatch.setattr(module, "computed", lambda library, settings, small: {"skipped": "no"})
    assert main(["--only", "cupy"]) == 1  # where nobody was asked nothing is proved
    with pytest.raises(SystemExit):
        main(["--only", "cupi"])
    with pytest.raises(SystemExit):
        main(["--need", "no_such_library"])
    assert "no_such_library is not installed" in capsys.readouterr().err


def test_bfloat16_numbers_have_eight_bits():
    weight = np.linspace(-3, 3, 1001, dtype=np.float32)
    low = module.rounded(weight, "bfloat16")
    fraction, _ = np.frexp(low)
    assert (np.ldexp(fraction, 8) == np.rint(np.ldexp(fraction, 8))).all()
    assert np.abs(low - weight).max() < 2.0**-6
