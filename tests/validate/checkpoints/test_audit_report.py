"""The audit as text and as a page: every number stands there, and no name becomes markup."""

from html.parser import HTMLParser

import pytest

from waterlevel.validate.checkpoints.audit import Audit, LayerRow
from waterlevel.validate.checkpoints.audit_report import page, text
from waterlevel.validate.checkpoints.findings import Finding

HOSTILE = 'a<script>alert(1)</script>&".weight'


class Reader(HTMLParser):
    """Tags in order, and the text of each cell of the table."""

    def __init__(self, source):
        super().__init__()
        self.tags, self.cells = [], []
        self.feed(source)
        self.close()

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        if tag in ("td", "th"):
            self.cells.append("")

    def handle_data(self, data):
        if self.tags[-1:] and self.tags[-1] in ("td", "th"):
            self.cells[-1] += data


def rows(**more):
    plain = LayerRow("b.weight", "gptq-v1", 300, 4.5, 3.9, 0.01, "")
    return [LayerRow(HOSTILE, "gptq-v1", 100, 4.0, 3.5, 0.03, "", **more), plain]


KNOWN = {"distortion": 1.25e-5, "limit": 3.0, "gap": 0.5, "made_by": "natural order, damping 0.01"}


def test_columns_that_nobody_needs_are_left_out():
    shown = text(Audit("gptq-v1", rows(), []))
    assert "gap" not in shown
    assert "rule" not in shown
    assert shown.splitlines()[3].split() == ["all", "gptq-v1", "4.3750", "0.0150"]
    assert shown.endswith("nothing found")


def test_what_sigma_adds_is_shown():
    reached = {"RTN": 1e-4, "GPTQ": float("nan"), "WaterSIC": 2e-5}
    shown = text(Audit("gptq-v1", rows(**KNOWN, reached=reached), []))
    for part in ("1.25e-05", "0.5000", "natural order", "1.00e-04", "2.00e-05", "D of WaterSIC"):
        assert part in shown
    assert shown.splitlines()[2].count("—") == 7  # the layer without Σ


@pytest.mark.parametrize("more", [{}, KNOWN])
def test_the_page_holds_the_table_and_no_foreign_markup(more):
    found = Audit("gptq-v1", rows(**more), [Finding("saturation", HOSTILE, "<b>3 %</b>")], ["<i>"])
    read = Reader(page(found, "<title>"))
    assert read.tags.count("script") == 1
    assert read.tags.count("i") == 0
    assert read.tags.count("b") == 1  # the name of the finding
    assert read.tags.count("rect") == (1 if more else 2)
    assert HOSTILE in read.cells
    assert "4.3750" in read.cells
    assert "http" not in page(found, "x").replace("http-equiv", "").replace(
        "http://www.w3.org/2000/svg", ""
    )


def test_a_page_without_layers_has_no_plot():
    assert "<svg" not in page(Audit("gptq-v1", [], []), "x")
