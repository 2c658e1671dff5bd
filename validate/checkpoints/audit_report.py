"""The audit as text for a terminal, and as one file of HTML that needs nothing else.

Names of tensors come from files that nobody vouches for: all text is escaped, and the page forbids
everything that does not stand in it.
"""

from __future__ import annotations

from dataclasses import dataclass
from html import escape

from ..support.console import UNDEFINED, number, table
from .audit import Audit, LayerRow

METHODS = ("RTN", "GPTQ", "WaterSIC")


@dataclass(frozen=True)
class Cell:
    """What is shown, and the number by which a column is sorted (None: by the text)."""

    text: str
    value: float | None = None


def text(found: Audit) -> str:
    """Table, remarks and findings."""
    headers, rows = cells(found)
    lines = [table([[cell.text for cell in row] for row in rows], headers), "", *found.remarks]
    lines += [f"{item.name}: {item.where}: {item.evidence}" for item in found.findings]
    return "\n".join([*lines, "" if found.findings else "nothing found"]).rstrip()


def cells(found: Audit) -> tuple[list[str], list[list[Cell]]]:
    """Headers and rows; the last row is the whole model. A column that nobody needs is left out."""
    rows = [_row(row) for row in found.rows]
    rows.append(
        {
            "layer": Cell("all"),
            "format": Cell(found.format),
            "bits/weight": _number(found.total("bits_per_weight")),
            "error": _number(found.total("relative_error")),
        }
    )
    headers = [name for name in _HEADERS if any(row.get(name, _NOTHING).text for row in rows)]
    undefined = Cell(UNDEFINED)
    body = [[row.get(name, undefined) for name in headers] for row in rows[:-1]]
    return headers, [*body, [rows[-1].get(name, _NOTHING) for name in headers]]


_NOTHING = Cell("")
_HEADERS = (
    "layer", "format", "bits/weight", "entropy", "error", "rule", "D", "limit", "gap", "made by",
    *(f"D of {method}" for method in METHODS),
)  # fmt: skip


def _row(row: LayerRow) -> dict[str, Cell]:
    shown = {
        "layer": Cell(row.name),
        "format": Cell(row.format),
        "bits/weight": _number(row.bits_per_weight),
        "entropy": _number(row.entropy),
        "error": _number(row.relative_error),
        "rule": Cell(row.scale_rule),
    }
    if row.distortion is not None:
        shown["D"] = _distortion(row.distortion)
        shown["limit"], shown["gap"] = _number(row.limit), _number(row.gap)
        shown["made by"] = Cell(row.made_by)
    for method, distortion in row.reached.items():
        shown[f"D of {method}"] = _distortion(distortion)
    return shown


def _number(value: float | None) -> Cell:
    return Cell(number(value), value)


def _distortion(value: float) -> Cell:
    return Cell(UNDEFINED if value != value else f"{value:.2e}", value)


def page(found: Audit, title: str) -> str:
    """The whole page."""
    headers, rows = cells(found)
    head = "".join(f"<th>{escape(name)}</th>" for name in headers)
    body = "\n".join(_html_row(row) for row in rows[:-1])
    foot = _html_row(rows[-1])
    findings = "\n".join(
        f"<li><b>{escape(item.name)}</b> {escape(item.where)}: {escape(item.evidence)}</li>"
        for item in found.findings
    )
    remarks = "\n".join(f"<p>{escape(remark)}</p>" for remark in found.remarks)
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8">
<meta http-equiv="Content-Security-Policy"
 content="default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'">
<title>{escape(title)}</title><style>{STYLE}</style></head><body>
<h1>{escape(title)}</h1>
<h2>Findings</h2>
{f"<ul>{findings}</ul>" if findings else "<p>nothing found</p>"}
{remarks}
{_plot(found.rows)}
<h2>Layers</h2>
<table><thead><tr>{head}</tr></thead><tbody>
{body}
</tbody><tfoot>{foot}</tfoot></table>
<script>{SORT}</script></body></html>
"""


STYLE = """
body{font:14px sans-serif;margin:2em;color:#000;background:#fff}
table{border-collapse:collapse}th,td{padding:.2em .7em;text-align:left;white-space:nowrap}
th{cursor:pointer;border-bottom:1px solid #000}tfoot td{border-top:1px solid #000}
td[data-value]{text-align:right;font-variant-numeric:tabular-nums}
"""
SORT = """
document.querySelectorAll("th").forEach((head, place) => head.addEventListener("click", () => {
  const body = document.querySelector("tbody"), down = head.dataset.down = head.dataset.down ? "" : 1;
  const key = row => row.cells[place].dataset.value ?? row.cells[place].textContent;
  const order = (a, b) => isNaN(key(a)) || isNaN(key(b)) ? key(a).localeCompare(key(b), "en",
    {numeric: true}) : key(a) - key(b);
  [...body.rows].sort((a, b) => (down ? 1 : -1) * order(a, b)).forEach(row => body.append(row));
}));
"""  # noqa: E501
HEIGHT, BAR = 160, 10


def _html_row(row: list[Cell]) -> str:
    parts = (
        f"<td>{escape(cell.text)}</td>"
        if cell.value is None
        else f'<td data-value="{cell.value!r}">{escape(cell.text)}</td>'
        for cell in row
    )
    return f"<tr>{''.join(parts)}</tr>"


def _plot(rows: list[LayerRow]) -> str:
    """The gap by layer as bars, the relative error where no Σ is known; hovering gives the name."""
    gaps = [(row.name, row.gap) for row in rows if row.gap is not None]
    points = gaps or [(row.name, row.relative_error) for row in rows]
    points = [(name, value) for name, value in points if 0 <= value < float("inf")]
    if not points:
        return ""
    what = "Gap to the limit by layer, bits per weight" if gaps else "Relative error by layer"
    top = max(value for _, value in points) or 1.0
    bars = []
    for place, (name, value) in enumerate(points):
        height, label = HEIGHT * value / top, f"{escape(name)}: {value:.4g}"
        bars.append(
            f'<rect x="{60 + BAR * place}" y="{10 + HEIGHT - height:.2f}" width="{BAR - 2}" '
            f'height="{height:.2f}" fill="#0072B2"><title>{label}</title></rect>'
        )
    axis = f'<text x="0" y="20">{top:.3g}</text><text x="0" y="{10 + HEIGHT}">0</text>'
    width = 70 + BAR * len(points)
    return (
        f'<h2>{what}</h2><svg xmlns="http://www.w3.org/2000/svg" width="{width}" '
        f'height="{HEIGHT + 20}" role="img" aria-label="{what}">{axis}{"".join(bars)}</svg>'
    )
