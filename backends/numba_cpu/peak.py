"""How many products can this machine subtract in a second, if nothing may be fused?

The micro-kernel on numbers that never leave a core's nearest cache, on all threads at once. Speeds
are told as shares of this, measured in the same minute: seconds mean little on a shared machine.
"""

from __future__ import annotations

import time

import numpy as np
from numpy.typing import DTypeLike

from .compiler import Array, task
from .threads import share
from .tiles import ROWS, lanes, subtract_tile, tile_lanes

STEPS = 128
TURNS = 2000  # some milliseconds


@task
def subtract(place: int, places: Array, vectors: Array, factors: Array, turns: int) -> None:
    """On numbers of its own, again and again."""
    rows, steps, width = np.int64(ROWS), len(factors) // ROWS, lanes(places)
    here, apart = np.int64(0), len(places[0])
    for _ in range(turns):
        subtract_tile(
            places.reshape(-1),
            place * apart,
            width,
            vectors,
            here,
            width,
            factors,
            here,
            rows,
            steps,
            None,
        )


def peak(dtype: DTypeLike, threads: int) -> float:
    """Products subtracted per second on so many threads, without fusing."""
    width = tile_lanes(dtype)
    places = np.zeros((threads, 8 * ROWS * width), dtype)  # a page of its own for each thread
    vectors, factors = np.full(STEPS * width, 0.5, dtype), np.full(STEPS * ROWS, 0.5, dtype)
    share(subtract, threads, places, vectors, factors, 1)
    start = time.perf_counter()
    share(subtract, threads, places, vectors, factors, TURNS)
    return threads * TURNS * STEPS * ROWS * width / (time.perf_counter() - start)
