"""Many independent jobs, side by side if there is more than one core.

Results come in the order of the jobs whatever the number of processes. A process of several has one
thread, so what rests on LAPACK or BLAS may differ in its last digits from one process with many.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing import get_context
from typing import TypeVar

from tqdm import tqdm

from ...reference.errors import WaterlevelError

Job = TypeVar("Job")
Result = TypeVar("Result")


def map_in_processes(
    function: Callable[[Job], Result], jobs: Sequence[Job], workers: int, title: str
) -> list[Result]:
    """`function` of every job, in their order, with progress on a terminal.

    Args:
        function: importable, as are jobs and results picklable, if workers > 1.
        workers: processes; 1 computes in this one.

    Raises:
        WaterlevelError: a process was ended from outside; and whatever `function` raises.
    """
    # disable=None: no bar where standard error is not a terminal.
    bar = tqdm(total=len(jobs), desc=title, unit="job", leave=False, disable=None, file=sys.stderr)
    results: list[Result] = []
    with bar:
        if workers == 1:
            for job in jobs:
                results.append(function(job))
                bar.update()
            return results
        # Fresh processes everywhere: a copy of a process with threads may hang.
        pool = ProcessPoolExecutor(workers, get_context("spawn"), end_at_once_when_interrupted)
        try:
            with one_thread_each():
                coming = pool.map(function, jobs)  # starts the processes
            for result in coming:
                results.append(result)
                bar.update()
        except BrokenProcessPool:
            raise WaterlevelError(
                "a worker process was ended from outside, perhaps for want of memory; "
                "try --workers 1"
            ) from None
        finally:
            pool.shutdown(cancel_futures=True)
    return results


@contextmanager
def one_thread_each() -> Iterator[None]:
    """There is a process for every core: threads would only wait for one another.

    Processes that start meanwhile read it from the environment, before they load a library. In this
    process it must not stay: Numba refuses to go on with another number than it began with.
    """
    given = [name for name in ("OMP_NUM_THREADS", "NUMBA_NUM_THREADS") if name not in os.environ]
    os.environ.update(dict.fromkeys(given, "1"))
    try:
        yield
    finally:
        for name in given:
            del os.environ[name]


def end_at_once_when_interrupted() -> None:
    """To begin a worker process with: it prints nothing when the user interrupts."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
