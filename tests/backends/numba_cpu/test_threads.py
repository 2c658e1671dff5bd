"""The loop that threads share calls a task once for each t, with the arguments it is given."""

from __future__ import annotations

import numpy as np
import pytest

from waterlevel.reference.bases.hadamard import base_matrix
from waterlevel.reference.operations.numpy_operations import NUMPY

from ...helpers.inputs import bell, same_bits

pytest.importorskip("numba", reason="the backend numba needs the package numba")

from waterlevel.backends.numba_cpu import hadamard as numba_hadamard, threads as numba_threads
from waterlevel.backends.numba_cpu.compiler import serial, task
from waterlevel.backends.numba_cpu.threads import share


@task
def add_once(t, target, source, factor):
    """target_t ← target_t + factor·source_t."""
    target[t] += factor * source[t]


@serial
def no_task(t, target):
    """Cannot be called by its address."""
    target[t] = 0


@pytest.mark.parametrize("count", [0, 1, 2, 1000])
@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.int32])
def test_every_t_once(count, dtype):
    target, source = np.zeros(1000, dtype), np.arange(1000).astype(dtype)
    for turn in (1, 2):
        share(add_once, count, target, source, dtype(3))
        assert (target[:count] == 3 * turn * source[:count]).all()
        assert not target[count:].any()


def test_arguments_of_other_types_are_other_code():
    vectors = [np.ones(3, dtype) for dtype in (np.float64, np.float32, np.float64)]
    addresses = [
        numba_threads._address(add_once, (vector, vector, vector.dtype.type(1)))
        for vector in vectors
    ]
    assert addresses[0] == addresses[2] != addresses[1]


def test_strided_and_read_only_arguments():
    """What the address of a task is found by tells arrays apart that are laid out differently."""
    matrix, base = bell(1, (20, 36), np.float64), base_matrix(36)
    strided = np.repeat(np.repeat(base, 2, axis=0), 3, axis=1)[::2, ::3]
    read_only = base.copy()
    read_only.flags.writeable = False
    expected = NUMPY.hadamard(matrix, base)
    for same in (base, np.asfortranarray(base), strided, read_only, base):
        assert (same == base).all()
        same_bits(numba_hadamard.hadamard(matrix, same), expected)


def test_only_a_task_has_an_address():
    with pytest.raises(AssertionError, match="not compiled as a task"):
        share(no_task, 1, np.zeros(1))
