"""Whether memory and speed hold through a long run.

Usage: python docs/results/scripts/flat_memory.py [--each N] FOLDER TAR ... [-- WORD ...]
       python docs/results/scripts/flat_memory.py --each N -- berttools WORD ...

Deals the photos of the tars out, shuffled, to SHARDS tars of N, 1,000 by itself, in FOLDER, which must be new, so that
each holds the same mix; photos are repeated under other names where there are too few. Then runs ``facetools detect
--in`` all of them, or the words after ``--`` instead of ``detect``, and reads its records. A shard's part of the run
begins with its first record and ends with that of the next. The second form runs a command as it is; N of its records
are a part. Prints one JSON object a shard: photos, seconds and processor seconds, photos a second of both, and resident
memory in MB, mapped pages and all processes counted: median and largest of the samples taken every EVERY seconds,
``private_mb``, the median without mapped files, and ``open_files``, the most. The last object compares:
``memory_rise`` is the largest median from the second shard on over the second's, less 1; ``speed_change`` and
``processor_change`` are the last shard's photos a second (and processor second) over the first's, less 1.

FOLDER is left for another run: where it is there, its tars are used as they are.
"""

from __future__ import annotations

import argparse
import io
import itertools
import json
import os
import random
import subprocess
import sys
import tarfile
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

SHARDS, EVERY = 10, 0.2
PAGE_MB, TICK = os.sysconf("SC_PAGE_SIZE") / 1e6, os.sysconf("SC_CLK_TCK")


def photos_of(tars: Sequence[str]) -> Iterator[tuple[str, int, int]]:
    """Yield tar, offset and size of each photo; what format it is says its content."""
    for name in tars:
        with tarfile.open(name) as tar:
            for member in tar:
                if member.isfile() and member.name.lower().endswith((".jpg", ".jpeg", ".png")):
                    yield name, member.offset_data, member.size


def deal_out(folder: Path, tars: Sequence[str], each: int) -> None:
    """Write the shards."""
    there = list(photos_of(tars))
    random.Random(0).shuffle(there)
    dealt = itertools.islice(itertools.cycle(there), SHARDS * each)
    folder.mkdir()
    for shard in range(SHARDS):
        with tarfile.open(folder / f"{shard:02}.tar", "w") as tar:
            for number, (name, offset, size) in enumerate(itertools.islice(dealt, each)):
                with Path(name).open("rb") as file:
                    file.seek(offset)
                    member = tarfile.TarInfo(f"{shard:02}/{number:04}.jpg")
                    member.size = size
                    tar.addfile(member, io.BytesIO(file.read(size)))


def family(pid: int) -> Iterator[int]:
    """Yield a process and all below it."""
    yield pid
    try:
        below = [each.read_text() for each in Path(f"/proc/{pid}/task").glob("*/children")]
    except FileNotFoundError:
        return
    for child in " ".join(below).split():
        yield from family(int(child))


@dataclass
class Sample:
    """What the processes held at one time."""

    seconds: float
    processor: float
    resident_mb: float
    mapped_mb: float
    open_files: int


def look(pid: int) -> Sample:
    """Sample a process and all below it; those that have just ended count for nothing."""
    total = Sample(time.monotonic(), 0.0, 0.0, 0.0, 0)
    for each in family(pid):
        try:
            pages = Path(f"/proc/{each}/statm").read_text().split()
            times = Path(f"/proc/{each}/stat").read_text().rpartition(")")[2].split()
            total.open_files += sum(1 for _ in Path(f"/proc/{each}/fd").iterdir())
        except (FileNotFoundError, ProcessLookupError):
            continue
        total.resident_mb += int(pages[1]) * PAGE_MB
        total.mapped_mb += int(pages[2]) * PAGE_MB
        total.processor += (int(times[11]) + int(times[12])) / TICK
    return total


@dataclass
class Part:
    """A shard's part of the run."""

    name: str
    samples: list[Sample]
    photos: set[str] = field(default_factory=set)


def follow(line: Sequence[str], each: int | None = None) -> list[Part]:
    """Run a command and sample it, shard by shard, in the order of its records; or ``each`` records together."""
    parts: list[Part] = []
    with subprocess.Popen(line, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        done = threading.Event()

        def sample() -> None:
            while not done.wait(EVERY):
                if parts:
                    parts[-1].samples.append(look(process.pid))

        sampler = threading.Thread(target=sample)
        sampler.start()
        for number, record in enumerate(map(json.loads, process.stdout)):
            if each is None:
                tar, _, photo = str(record["path"]).rpartition(".tar")
                name = Path(tar).name
            else:
                name, photo = str(number // each), str(number)
            if not parts or parts[-1].name != name:
                now = look(process.pid)
                for before in parts[-1:]:
                    before.samples.append(now)
                parts.append(Part(name, [now]))
            parts[-1].photos.add(photo)
        done.set()
        sampler.join()
    if process.returncode not in {0, 3}:  # 3: there are inputs that are no photos
        raise SystemExit(process.returncode)
    return parts


def figures_of(part: Part) -> dict[str, Any]:
    """Put a part of the run into figures."""
    first, last = part.samples[0], part.samples[-1]
    seconds, processor = last.seconds - first.seconds, last.processor - first.processor
    return {
        "shard": part.name,
        "photos": len(part.photos),
        "s": round(seconds, 1),
        "processor_s": round(processor, 1),
        "photos_a_s": round(len(part.photos) / seconds, 2),
        "photos_a_processor_s": round(len(part.photos) / processor, 2),
        "mb": round(median(each.resident_mb for each in part.samples), 1),
        "largest_mb": round(max(each.resident_mb for each in part.samples), 1),
        "private_mb": round(median(each.resident_mb - each.mapped_mb for each in part.samples), 1),
        "open_files": max(each.open_files for each in part.samples),
    }


def main(argv: list[str]) -> None:
    """Make the shards if they are not there, run, and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--each", type=int, default=1000)
    parser.add_argument("names", nargs="*")
    words, rest = (argv[: argv.index("--")], argv[argv.index("--") + 1 :]) if "--" in argv else (argv, [])
    options = parser.parse_args(words)
    command = rest or ["detect"]
    if command[0] == "berttools":
        parts = follow([sys.executable, "-m", *command], options.each)
    else:
        folder, *tars = options.names
        if not Path(folder).exists():
            deal_out(Path(folder), tars, options.each)
        shards = f"{folder}/{{00..{SHARDS - 1:02}}}.tar"
        parts = follow([sys.executable, "-m", "facetools", *command, "--in", shards])
    figures = []
    for part in parts:
        figures.append(figures_of(part))
        print(json.dumps(figures[-1]), flush=True)
    first, second, last = figures[0], figures[1], figures[-1]
    compared = {
        "command": " ".join(command),
        "photos": sum(each["photos"] for each in figures),
        "memory_rise": round(max(each["mb"] for each in figures[1:]) / second["mb"] - 1, 4),
        "speed_change": round(last["photos_a_s"] / first["photos_a_s"] - 1, 4),
        "processor_change": round(last["photos_a_processor_s"] / first["photos_a_processor_s"] - 1, 4),
    }
    print(json.dumps(compared))


if __name__ == "__main__":
    main(sys.argv[1:])
