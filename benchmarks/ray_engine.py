"""What a cluster costs: python benchmarks/ray_engine.py PHOTOS [--photos N] [--rounds N] [--workers N].

PHOTOS is a folder, read again and again until N photos are there. Prints JSONL, all of one run, in turns:

- ``shards``: processes side by side, each with its part (``--shard K/N``) and one thread.
- ``ray``: ``--engine ray --actors N`` on a cluster that is started for it and ended with it.
- ``joined``: the same on a cluster that is up, of which the processor time is not known.
- ``overhead``: of the second, or the third, over the first, medians of the rounds. ``start`` is what a run costs
  without photos, and ``photo`` what each adds, from runs of N and of a fifth as many; ``whole`` is the overhead of
  2,000 photos by these two. At most 0.15 is asked.

``seconds`` is by the clock, which also counts who else is on the machine. ``processor`` is what all processes of the
run were busy, Ray's own among them, looked at ten times a second. That both print the same bytes is checked each time.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from itertools import cycle, islice
from pathlib import Path
from statistics import median
from typing import Any

ASKED = 2000
"""Photos of which the overhead is asked."""

ENVIRONMENT = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"} | {"OMP_NUM_THREADS": "1"}
TICK = os.sysconf("SC_CLK_TCK")


def say(part: str, **fields: Any) -> None:
    """Print one record."""
    shown = {key: round(value, 4) if isinstance(value, float) else value for key, value in fields.items()}
    print(json.dumps({"part": part, **shown}), flush=True)


class Busy:
    """What the processes of some sessions have been busy so far."""

    def __init__(self) -> None:
        self._used: dict[int, int] = {}
        self._end = threading.Event()
        self.sessions: set[int] = set()
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()

    def _watch(self) -> None:
        while not self._end.wait(0.1):
            for stat in Path("/proc").glob("[0-9]*/stat"):
                try:
                    fields = stat.read_text().rpartition(") ")[2].split()
                except OSError:
                    continue
                if int(fields[3]) in self.sessions:
                    self._used[int(stat.parent.name)] = int(fields[11]) + int(fields[12])

    def stop(self) -> float:
        """Return processor seconds."""
        self._end.set()
        self._thread.join()
        return sum(self._used.values()) / TICK


def measure(names: str, words: list[list[str]], address: str = "local") -> tuple[dict[str, float], bytes]:
    """Run commands side by side, on Ray on the cluster of an address; return what they took, and their records."""
    busy, began = Busy(), time.perf_counter()
    environment = ENVIRONMENT | {"RAY_ADDRESS": address}
    with tempfile.NamedTemporaryFile("w") as listed:
        listed.write(names)
        listed.flush()
        tools = []
        for place, each in enumerate(words):
            detect = [sys.executable, "-m", "facetools", "detect", "--in", "-", *each]
            with Path(listed.name).open("rb") as stdin, Path(f"{listed.name}.{place}").open("wb") as stdout:
                tools.append(
                    subprocess.Popen(detect, stdin=stdin, stdout=stdout, env=environment, start_new_session=True)
                )
            busy.sessions.add(tools[-1].pid)
        codes = [tool.wait() for tool in tools]
        took = {"seconds": time.perf_counter() - began, "processor": busy.stop()}
        if any(codes):
            raise SystemExit(f"exit codes {codes}")
        outs = [Path(f"{listed.name}.{place}") for place in range(len(words))]
        printed = b"".join(out.read_bytes() for out in outs)
        for out in outs:
            out.unlink()
    return took, printed


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("photos", type=Path)
    parser.add_argument("--photos", dest="count", type=int, default=ASKED)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--workers", type=int, default=2)
    options = parser.parse_args()
    found = sorted(str(path) for path in options.photos.rglob("*.jpg"))
    workers = options.workers
    on_ray = [["--engine", "ray", "--actors", str(workers)]]
    ways = {
        "shards": [["--shard", f"{part}/{workers}"] for part in range(1, workers + 1)],
        "ray": on_ray,
        "joined": on_ray,
    }
    sizes = (options.count // 5, options.count)
    times: dict[tuple[str, int], list[dict[str, float]]] = {(way, size): [] for way in ways for size in sizes}
    for number in range(options.rounds):
        for size in sizes:
            names, printed = "".join(f"{path}\n" for path in islice(cycle(found), size)), set()
            for way in list(ways)[:: 1 if number % 2 == 0 else -1]:
                with cluster_of(workers) if way == "joined" else nullcontext("local") as address:
                    took, out = measure(names, ways[way], address)
                if way == "joined":
                    del took["processor"]  # of the command alone, and not of the cluster
                say(way, photos=size, **took)
                times[way, size].append(took)
                printed.add(out)
            if len(printed) > 1:
                raise SystemExit("the records differ")
    for way, clock in (("ray", "seconds"), ("ray", "processor"), ("joined", "seconds")):
        compare(way, clock, times, sizes)


@contextmanager
def cluster_of(workers: int) -> Iterator[str]:
    """Start a cluster that stays up; yield its address."""
    from ray.cluster_utils import Cluster

    head = {"num_cpus": workers, "include_dashboard": False, "object_store_memory": 100 << 20}
    cluster = Cluster(initialize_head=True, head_node_args=head)
    try:
        yield cluster.address
    finally:
        cluster.shutdown()


def compare(way: str, clock: str, times: dict[tuple[str, int], list[dict[str, float]]], sizes: tuple[int, int]) -> None:
    """Print what a way takes over shards."""
    few, many = (
        {each: median(took[clock] for took in times[each, size]) for each in ("shards", way)} for size in sizes
    )
    photo = {each: (many[each] - few[each]) / (sizes[1] - sizes[0]) for each in few}
    start = {each: few[each] - sizes[0] * photo[each] for each in few}
    whole = {each: start[each] + ASKED * photo[each] for each in few}
    over = {name: part[way] / part["shards"] - 1 for name, part in (("photo", photo), ("whole", whole))}
    say("overhead", way=way, clock=clock, start=start[way] - start["shards"], **over, photos=sizes[1])


if __name__ == "__main__":
    main()
