"""What comparing two checkpoints costs over reading them: python benchmarks/layerdiff.py [GB ...].

Makes pairs of checkpoints in a scratch folder (TMPDIR) and removes them: of BERT-base's shapes in float32 and bfloat16,
and of so many GB a side in float32 (by default 0.1 and 1; 8 needs 16 GB of disk and as much memory for files). Each is
compared and read in turns, from process start to exit, the cache warm. Prints one JSON object a size: median and
smallest times in seconds, the ratio of the medians with its goal, processor times, what a start takes that compares
nothing (a pair of 1 kB), and the peak of resident memory, mapped pages and all processes counted. On BERT-base it runs
sft-cli, modeldelta and weightscope too, those of them that are on the PATH; they are in the extra ``bench``.

At most 3 times the read is asked for BERT-base, 1.7 times for 8 GB, and never more than 300 MB; past that it exits 1.
2.5 times for bfloat16 is a goal, and not judged.
"""

from __future__ import annotations

import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import median

import numpy as np

READ = """
import sys
buffer = bytearray(1 << 20)
for path in sys.argv[1:]:
    with open(path, "rb", 0) as file:
        while file.readinto(buffer):
            pass
"""
OURS = (sys.executable, "-m", "berttools", "layerdiff")
MOST_MB = 300
LIMITS = {"bert-base": 3.0, "8 GB": 1.7}
"""Times the plain read."""
GOALS = {**LIMITS, "bert-base bfloat16": 2.5}
COMPILED = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}

Shapes = list[tuple[str, tuple[int, ...]]]


def bert_base() -> Shapes:
    """Name BERT-base's tensors."""
    shapes: Shapes = [("embeddings.word_embeddings.weight", (30522, 768)), ("pooler.dense.weight", (768, 768))]
    matrices = {"attention.self.query": (768, 768), "attention.self.key": (768, 768)}
    matrices |= {"attention.self.value": (768, 768), "attention.output.dense": (768, 768)}
    matrices |= {"intermediate.dense": (3072, 768), "output.dense": (768, 3072)}
    for layer in range(12):
        for name, shape in matrices.items():
            shapes.append((f"encoder.layer.{layer}.{name}.weight", shape))
            shapes.append((f"encoder.layer.{layer}.{name}.bias", shape[:1]))
    return shapes


def of_size(gigabytes: float) -> Shapes:
    """Name as many matrices of 16.8 MB as there are room for."""
    return [(f"model.layers.{n}.mlp.up_proj.weight", (4096, 1024)) for n in range(round(gigabytes * 1e9 / 4 / 2**22))]


def write_pair(folder: Path, shapes: Shapes, dtype: str) -> list[Path]:
    """Write base and fine-tuned model, tensor by tensor: random numbers, over and over, and a small change."""
    rng = np.random.default_rng(0)
    size = max(int(np.prod(shape)) for _, shape in shapes)
    numbers = rng.standard_normal(size, np.float32) * np.float32(0.02)
    moved = numbers + rng.standard_normal(size, np.float32) * np.float32(1e-4)
    sides = [numbers, moved]
    if dtype == "BF16":
        sides = [(values.view(np.uint32) >> 16).astype(np.uint16) for values in sides]
    header, offset = {}, 0
    for name, shape in shapes:
        end = offset + sides[0].itemsize * int(np.prod(shape))
        header[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [offset, end]}
        offset = end
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    paths = []
    for side, values in zip(("base", "ft"), sides, strict=True):
        (folder / side).mkdir()
        paths.append(folder / side / "model.safetensors")
        with paths[-1].open("wb") as file:
            file.write(len(text).to_bytes(8, "little") + text)
            for _, shape in shapes:
                file.write(values[: int(np.prod(shape))].data)
    return paths


def seconds(line: Sequence[str | Path]) -> tuple[float, float]:
    """Time one process from start to exit, and its processor time, that of its own processes included."""
    start, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(line, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=True, env=COMPILED)
    taken, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    return taken, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def peak_mb(line: Sequence[str | Path]) -> float:
    """Run once more, and look every few milliseconds how much memory its processes have together."""
    process = subprocess.Popen(
        line, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True, env=COMPILED
    )
    most = 0
    while process.poll() is None:
        most = max(most, sum(_resident_kb(process.pid)))
        time.sleep(0.005)
    return most / 1000


def _resident_kb(session: int) -> Iterator[int]:
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if os.getsid(int(folder.name)) == session:
                status = (folder / "status").read_text()
                yield int(status.partition("VmRSS:")[2].split()[0])
        except (OSError, IndexError):
            continue  # it has ended


def measure(name: str, shapes: Shapes, runs: int, dtype: str = "F32") -> bool:
    """Measure one size; True if a limit is passed."""
    with tempfile.TemporaryDirectory() as scratch:
        files = write_pair(Path(scratch), shapes, dtype)
        folders = [file.parent for file in files]
        (Path(scratch) / "tiny").mkdir()
        tiny = write_pair(Path(scratch) / "tiny", [("encoder.layer.0.attention.self.query.weight", (16, 16))], dtype)
        ours = [*OURS, *folders]
        lines: dict[str, list[str | Path]] = {
            "read": [sys.executable, "-c", READ, *files],
            "layerdiff": ours,
            "start": [*OURS, *(file.parent for file in tiny)],
        }
        times: dict[str, list[tuple[float, float]]] = {each: [] for each in lines}
        for line in lines.values():
            seconds(line)
        for _ in range(runs):
            for each, line in lines.items():
                times[each].append(seconds(line))
        memory = peak_mb(ours)
        record: dict[str, object] = {"size": name, "bytes": sum(file.stat().st_size for file in files)}
        record |= {"tensors": len(shapes)}
        middle = {}
        for each, some in times.items():
            wall, cpu = zip(*some, strict=True)
            middle[each] = median(wall)
            record |= {f"{each}_s": round(middle[each], 3), f"{each}_min_s": round(min(wall), 3)}
            record |= {f"{each}_cpu_s": round(min(cpu), 3)}
        ratio = middle["layerdiff"] / middle["read"]
        record |= {"ratio": round(ratio, 2), "goal": GOALS.get(name), "peak_mb": round(memory)}
        print(json.dumps({**record, "runs": runs, "cores": os.cpu_count()}), flush=True)
        if name == "bert-base":
            peers(files, folders, middle["layerdiff"], Path(scratch))
    return ratio > LIMITS.get(name, np.inf) or memory > MOST_MB


def peers(files: Sequence[Path], folders: Sequence[Path], ours: float, scratch: Path) -> None:
    """Run other tools on the same pair."""
    lines: dict[str, list[str | Path]] = {
        "sft": ["diff", *files, "--delta"],
        "modeldelta": [*folders],
        "weightscope": ["diff", *folders, "-o", scratch / "report.md"],
    }
    for tool, arguments in lines.items():
        record: dict[str, object] = {"tool": tool, "found": shutil.which(tool) is not None}
        if record["found"]:
            try:
                (taken, _), memory = seconds([tool, *arguments]), peak_mb([tool, *arguments])
                record |= {"seconds": round(taken, 2), "ours_s": round(ours, 3), "times_ours": round(taken / ours, 1)}
                record["peak_mb"] = round(memory)
            except subprocess.CalledProcessError as error:
                record["exit"] = error.returncode
        print(json.dumps(record), flush=True)


def main(words: list[str]) -> int:
    """Measure all sizes; 1 if a limit is passed."""
    late = measure("bert-base", bert_base(), 9)
    late |= measure("bert-base bfloat16", bert_base(), 9, "BF16")
    for size in map(float, words or ["0.1", "1"]):
        late |= measure(f"{size:g} GB", of_size(size), 9 if size < 2 else 5)
    return int(late)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
