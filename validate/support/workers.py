"""Many independent jobs, side by side if there is more than one core.

Results come in the order of the jobs whatever the number of processes. A process of several has one
thread, so what rests on LAPACK or BLAS may differ in its last digits from one process with many.
No process outlives this one, however it ends.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing import active_children, connection, get_context, parent_process
from typing import TypeVar

from tqdm import tqdm

from .console import said_by_reports

Job = TypeVar("Job")
Result = TypeVar("Result")

ENDED = "its process was ended from outside, perhaps for want of memory; try --workers 1"


def map_in_processes(
    function: Callable[[Job], Result],
    jobs: Sequence[Job],
    workers: int,
    title: str,
    lost: Callable[[Job, str], Result],
    unit: str = "job",
) -> list[Result]:
    """`function` of every job, in their order, with progress on a terminal.

    Args:
        function: importable, as are jobs and results picklable, if workers > 1.
        workers: processes; 1 computes in this one.
        lost: the result of a job whose process was ended from outside, for this reason. The others
            that had not been computed by then are lost with it.

    Raises:
        whatever `function` raises, and KeyboardInterrupt: no process is left then.
    """
    # disable=None: no bar where standard error is not a terminal.
    bar = tqdm(total=len(jobs), desc=title, unit=unit, leave=False, disable=None, file=sys.stderr)
    results: list[Result] = []
    with bar:
        if workers == 1:
            for job in jobs:
                results.append(function(job))
                bar.update()
            return results
        # Fresh processes everywhere: a copy of a process with threads may hang.
        pool = ProcessPoolExecutor(workers, get_context("spawn"), _begin)
        others = set(active_children())
        try:
            with one_thread_each():
                coming = [pool.submit(function, job) for job in jobs]  # starts the processes
            for job, future in zip(jobs, coming, strict=True):
                try:
                    results.append(future.result())
                except BrokenProcessPool:
                    results.append(lost(job, ENDED))
                bar.update()
        except BaseException:
            for process in set(active_children()) - others:
                process.kill()  # what it is computing nobody will ask for
            raise
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


def _begin() -> None:
    """To begin a worker process with: it ends at once with its parent, and prints nothing."""
    said_by_reports()
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = parent_process()
    assert parent is not None
    connection.wait([parent.sentinel])
    os._exit(1)
