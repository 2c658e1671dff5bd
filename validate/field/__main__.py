"""One published package in this process: `python -m waterlevel.validate.field NAME ROWS`."""

from __future__ import annotations

import sys

from .judge import judged

if __name__ == "__main__":
    print(judged(sys.argv[1], int(sys.argv[2])))
