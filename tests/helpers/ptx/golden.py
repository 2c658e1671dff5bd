"""Golden cases and layers for compiled kernels, judged against the oracle."""

from __future__ import annotations

from collections.abc import Sequence

from waterlevel.reference.operations import Operations
from waterlevel.reference.operations.numpy_operations import NUMPY
from waterlevel.validate.conformance import random_layers
from waterlevel.validate.conformance.outcomes import judge, run_case
from waterlevel.validate.golden.case import load_index

LAYERS = ((600, 48),)
LARGE_LAYERS = ((700, 192), (520, 576))  # minutes


def case_differences(operations: Operations) -> dict[str, str]:
    """Every small golden case of an operation; of the algorithms one a function, tier and dtype."""
    small = [case for case in load_index().cases if case.size == "small"]
    algorithms = {
        (case.function, case.tier, case.dtype): case
        for case in reversed(small)
        if case.kind == "algorithm" and case.tier != "real" and "everything" not in case.id
    }
    cases = [case for case in small if case.kind == "operation"] + list(algorithms.values())
    return {
        case.id: "; ".join(judge(case, run_case(case, case.load_inputs(), operations)))
        for case in cases
    }


def layer_differences(
    operations: Operations, shapes: Sequence[tuple[int, int]] = LAYERS
) -> dict[str, str]:
    """Whole layers, every operation that costs time, both dtypes."""
    compared = random_layers.compare(operations, NUMPY, shapes)
    return {output.case: output.difference or "" for output in compared}
