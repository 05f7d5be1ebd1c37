"""How long it takes until help is there: python benchmarks/startup.py.

Prints one JSON object a command line: median and smallest of RUNS in milliseconds, and the ratio of the
smallest to that of a bare interpreter in the same run. Machines are noisy: read the ratio.
"""

from __future__ import annotations

import json
import os
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


def milliseconds(line: tuple[str, ...]) -> float:
    """Time one process from start to exit."""
    start = time.perf_counter()
    subprocess.run([sys.executable, *line], stdout=subprocess.DEVNULL, check=True)
    return (time.perf_counter() - start) * 1000


def main() -> None:
    """Measure the lines in turn, round by round, so that noise falls on all of them alike."""
    times: dict[tuple[str, ...], list[float]] = {line: [] for line in LINES}
    for _ in range(RUNS):
        for line in LINES:
            times[line].append(milliseconds(line))
    bare = min(times[LINES[0]])
    for line in LINES:
        shown = {"command": " ".join(["python", *line]), "median_ms": round(median(times[line]), 1)}
        shown |= {"min_ms": round(min(times[line]), 1), "ratio": round(min(times[line]) / bare, 2)}
        print(json.dumps({**shown, "runs": RUNS, "cores": os.cpu_count()}))


if __name__ == "__main__":
    main()
