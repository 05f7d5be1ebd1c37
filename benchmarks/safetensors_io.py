"""What streaming safetensors files costs, beside the library: python benchmarks/safetensors_io.py [GB [MB]].

Writes a file of so many GB (by default 2) in a scratch folder (TMPDIR) and removes it: four float32 matrices. Then adds
up all its values, and copies it to a second file, each in processes of their own in turns, the cache warm, with at most
so many MB (by default 300) of memory of their own: RLIMIT_DATA, which mapped files do not count for. Prints one JSON
object a way: smallest time in seconds and processor time, GB/s, peak of resident memory in MB, mapped pages counted,
or that the memory did not suffice. Importing alone is timed first.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from _toolio.tensors.writer import stream_safetensors

IMPORTS = {
    "numpy": "import numpy",
    "ours": "import numpy; from _toolio.tensors.reader import open_safetensors",
    "library for numpy": "import numpy; from safetensors.numpy import load_file",
    "library for torch": "import numpy; from safetensors.torch import load_file",
}
SUMS = {
    "ours, in chunks": """
import numpy, sys
from _toolio.tensors.reader import open_safetensors
file = open_safetensors(sys.argv[1])
print(sum(float(part.sum(dtype="f8")) for name in file.entries for part in file.chunks(name, 1 << 20)))
""",
    "library, by slices": """
import numpy, sys
from safetensors import safe_open
total = 0.0
with safe_open(sys.argv[1], "np") as file:
    for name in file.keys():
        part = file.get_slice(name)
        rows, columns = part.get_shape()
        step = max(1, (1 << 20) // columns)
        total += sum(float(part[low : min(low + step, rows)].sum(dtype="f8")) for low in range(0, rows, step))
print(total)
""",
    "library, by tensors": """
import numpy, sys
from safetensors import safe_open
with safe_open(sys.argv[1], "np") as file:
    print(sum(float(file.get_tensor(name).sum(dtype="f8")) for name in file.keys()))
""",
}
COPIES = {
    "ours, in chunks": """
import sys
from _toolio.tensors.reader import open_safetensors
from _toolio.tensors.writer import stream_safetensors
file = open_safetensors(sys.argv[1])
plan = {name: entry[:2] for name, entry in file.entries.items()}
stream_safetensors(sys.argv[2], plan, lambda name: file.chunks(name, 1 << 20))
""",
    "library, whole": """
import sys
from safetensors.numpy import load_file, save_file
save_file(load_file(sys.argv[1]), sys.argv[2])
""",
}


def make(path: Path, gigabytes: float) -> None:
    """Write four matrices of random numbers, the same ones over and over."""
    rows = round(gigabytes * 1e9 / 4 / 4 / 1024)
    block = np.random.default_rng(0).standard_normal((64, 1024), np.float32)
    pieces = [block] * (rows // 64)
    plan = {f"layer.{number}.weight": ("F32", (len(pieces) * 64, 1024)) for number in range(4)}
    stream_safetensors(path, plan, lambda _: pieces)


Run = tuple[float, float, float]
"""Wall and processor time in seconds, peak of resident memory in MB."""


def run(code: str, words: Sequence[str | Path], most_bytes: int | None) -> Run | None:
    """Run one process; None where memory did not suffice."""

    def limit() -> None:
        if most_bytes is not None:
            resource.setrlimit(resource.RLIMIT_DATA, (most_bytes, most_bytes))

    start = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-c", code, *words],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        preexec_fn=limit,
    )
    assert process.stderr is not None
    complaint = process.stderr.read()
    _, status, used = os.wait4(process.pid, 0)
    taken = time.perf_counter() - start
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode and b"MemoryError" not in complaint:
        raise RuntimeError(complaint.decode())
    return None if process.returncode else (taken, used.ru_utime + used.ru_stime, used.ru_maxrss / 1000)


def measure(
    task: str, ways: dict[str, str], words: Sequence[str | Path], most_bytes: int | None = None, runs: int = 5
) -> None:
    """Run each way in turns, and print the least that it took."""
    found: dict[str, list[Run | None]] = {way: [] for way in ways}
    for _ in range(runs):
        for way, code in ways.items():
            found[way].append(run(code, words, most_bytes))
    for way, some in found.items():
        record: dict[str, object] = {"task": task, "way": way, "limit_mb": most_bytes and most_bytes // 1_000_000}
        done = [one for one in some if one is not None]
        if done:
            wall, cpu, peak = (min(values) for values in zip(*done, strict=True))
            record |= {"seconds": round(wall, 3), "processor_s": round(cpu, 3), "peak_mb": round(peak)}
            if words:
                record["gb_per_s"] = round(Path(words[0]).stat().st_size / 1e9 / wall, 2)
        else:
            record["out_of_memory"] = True
        print(json.dumps({**record, "runs": runs}), flush=True)


def main(words: list[str]) -> int:
    """Measure imports, sums and copies."""
    gigabytes, megabytes = map(float, [*words, *("2", "300")[len(words) :]])
    measure("import", IMPORTS, [])
    with tempfile.TemporaryDirectory() as scratch:
        source, copy = Path(scratch, "a.safetensors"), Path(scratch, "b.safetensors")
        make(source, gigabytes)
        for limit in (None, round(megabytes * 1e6)):
            measure("sum", SUMS, [source], limit)
            measure("copy", COPIES, [source, copy], limit, runs=3)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
