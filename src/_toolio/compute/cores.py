"""How many cores to work with."""

from __future__ import annotations

import os


def usable_cores(at_most: int = 4) -> int:
    """Return the number of cores that this process may use, at most `at_most`: each worker has memory of its own."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(cores, at_most)
