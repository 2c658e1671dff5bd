"""NaN is no number of a float format, so it has no nearest one."""

from __future__ import annotations

import numpy as np
import pytest

from waterlevel.reference.errors import BadInput
from waterlevel.reference.grids.float_formats import FORMATS


@pytest.mark.parametrize("name", FORMATS)
def test_nan_is_refused(name: str):
    with pytest.raises(BadInput, match=f"{name} holds no NaN"):
        FORMATS[name].nearest(np.array([1.0, np.nan]))
    assert FORMATS[name].nearest(np.array([np.inf]))[0] == FORMATS[name].largest_code
