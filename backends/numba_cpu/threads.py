"""The loop that threads share: a task is called for t = 0, 1, …, count - 1, in any order.

A task is a kernel whose first argument is t. What it writes for one t no other t may touch. It
raises nothing, and so allocates nothing: an exception would only be printed, and the loop go on.

Numba optimises the code in a parallel loop three times over, and all that it calls along with it,
which made up a third of what one waited for at the first call. So there is one parallel loop in
this backend, and it knows of a task no more than its address: every task is compiled once, by
itself.
"""

from __future__ import annotations

import os
from importlib import import_module
from typing import Any

import numpy as np

from .compiler import parallel
from .tiles import intrinsic, ir, types

# OpenMP's threads would wait by spinning, which takes the processor from the very thread they wait
# for as soon as another program runs: short parallel loops were seen to last 500 times as long. To
# sleep at once costs some 50 µs to be woken. So GNU's spin for about as long, and then sleep. This
# holds for all of OpenMP in this process, unless the variables were set before.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
os.environ.setdefault("GOMP_SPINCOUNT", "2000")

_numba: Any = import_module("numba")
prange, typeof = _numba.prange, _numba.typeof

ROWS_OF_TASK = 16  # where rows are cheap, and need a buffer


@intrinsic
def call(_: Any, address: Any, t: Any, arguments: Any) -> Any:
    """Calls the task at an address."""

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        kinds = [context.get_value_type(kind) for kind in (types.int64, *arguments)]
        kind = ir.FunctionType(context.get_value_type(types.none), kinds)
        function = builder.inttoptr(values[0], kind.as_pointer())
        parts = (builder.extract_value(values[2], at) for at in range(len(arguments)))
        builder.call(function, [values[1], *parts])
        return context.get_dummy_value()

    return types.void(types.int64, types.int64, arguments), generate


@parallel
def loop(address: int, count: int, *arguments: Any) -> None:
    """Calls the task at an address for every t."""
    for t in prange(count):
        call(address, np.int64(t), arguments)


_addresses: dict[tuple[Any, ...], int] = {}


def _kind(argument: Any) -> Any:
    """What decides its type, in less time than Numba takes to tell the type."""
    if isinstance(argument, np.ndarray):
        return argument.dtype, argument.ndim, argument.flags.num
    return type(argument)


def _address(task: Any, arguments: tuple[Any, ...]) -> int:
    """Of a task, compiled for arguments of these kinds."""
    key = task, *map(_kind, arguments)
    if key not in _addresses:
        compiled = task.get_compile_result(types.void(types.int64, *map(typeof, arguments)))
        name = compiled.fndesc.llvm_cfunc_wrapper_name
        address = compiled.library.get_pointer_to_function(name)
        assert address, f"{task} is not compiled as a task"
        _addresses[key] = address
    return _addresses[key]


def share(task: Any, count: int, *arguments: Any) -> None:
    """Calls task(t, *arguments) for t = 0, 1, …, count - 1 on all threads."""
    loop(_address(task, arguments), count, *arguments)
