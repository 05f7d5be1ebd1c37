"""How long it takes until help is there: python benchmarks/startup.py.

Prints one JSON object a command line: median and smallest of RUNS in milliseconds, the smallest processor time, the
ratios of both to those of a bare interpreter in the same run, and the goal in milliseconds, if there is one. Machines
are noisy: read the ratios. Modules are compiled once, before the first run, as they are after an install.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import time
from statistics import median

RUNS = 15
LINES = (
    ("-c", "pass"),
    ("-c", "import typer"),
    ("-m", "facetools", "--help"),
    ("-m", "facetools", "detect", "--help"),
    ("-m", "berttools", "layerdiff", "--help"),
    ("-c", "import numpy"),
    ("-c", "import torch"),
)


GOALS_MS = {("-m", "facetools", "--help"): 60}
COMPILED = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}


def milliseconds(line: tuple[str, ...]) -> tuple[float, float]:
    """Time one process from start to exit, and its processor time."""
    start, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, *line], stdout=subprocess.DEVNULL, check=True, env=COMPILED)
    taken, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    return taken * 1000, (after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime) * 1000


def main() -> None:
    """Measure the lines in turn, round by round, so that noise falls on all of them alike."""
    times: dict[tuple[str, ...], list[tuple[float, float]]] = {line: [] for line in LINES}
    for line in LINES:
        milliseconds(line)
    for _ in range(RUNS):
        for line in LINES:
            times[line].append(milliseconds(line))
    bare = [min(some) for some in zip(*times[LINES[0]], strict=True)]
    for line in LINES:
        wall, cpu = zip(*times[line], strict=True)
        shown: dict[str, object] = {"command": " ".join(["python", *line]), "median_ms": round(median(wall), 1)}
        shown |= {"min_ms": round(min(wall), 1), "ratio": round(min(wall) / bare[0], 2), "goal_ms": GOALS_MS.get(line)}
        shown |= {"cpu_ms": round(min(cpu), 1), "cpu_ratio": round(min(cpu) / bare[1], 2)}
        print(json.dumps({**shown, "runs": RUNS, "cores": os.cpu_count()}))


if __name__ == "__main__":
    main()
