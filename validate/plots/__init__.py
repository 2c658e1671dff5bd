"""Figures of the claims, drawn from their measurements.

| module | figure |
|---|---|
| `curves` | rate and distortion with the limit; the gap against the rate |
| `layer_types` | what the others pay above WaterSIC, by type of layer |
| `cells` | the cells of RTN, GPTQ and WaterSIC in two dimensions |
| `diagonals` | Cholesky diagonals of rotated Σ against the formula |
| `components` | rates of the columns against waterfilling |

`style` has the colours and writes the files. They need matplotlib (the extra `plots`).
"""

from __future__ import annotations

from .draw import check, draw

__all__ = ["check", "draw"]
