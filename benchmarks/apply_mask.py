"""What applying a mask costs over copying its base: python benchmarks/apply_mask.py.

Makes a BERT-base of random weights (438 MB, float32) in a scratch folder (TMPDIR), masks over its 72 matrices in each
code, and removes them. The base is copied by ``cp`` and each mask applied in turns, from process start to exit, the
cache warm, what was written removed in between, without and with a cache of the base's digests. Prints one JSON object
a code and kind: median times in seconds, their ratio and its goal, the same of the smallest processor times, which
other processes add less to, and the peak of resident memory, mapped pages counted; besides what a bare start with numpy
takes, and the sha256 of as many bytes as the masked matrices have.

A copy that stays in the page cache takes a tenth of a second, less than the start and the sha256 take by themselves:
that ratio is printed and not judged. More than 300 MB of memory exits 1.
"""

from __future__ import annotations

import hashlib
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median

import numpy as np

from _toolio.tensors.writer import stream_safetensors
from berttools.checkpoints.files import open_checkpoint
from berttools.checkpoints.groups import layer_and_group
from berttools.masks.metadata import CODES
from berttools.masks.writer import write_mask

RUNS, MOST_MB, GOAL = 5, 300, 2.5
COMPILED = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
OURS = (sys.executable, "-m", "berttools", "apply-mask")

Shapes = dict[str, tuple[int, ...]]


def bert_base() -> Shapes:
    """Name BERT-base's tensors."""
    shapes: Shapes = {"embeddings.word_embeddings.weight": (30522, 768), "pooler.dense.weight": (768, 768)}
    shapes |= {"embeddings.position_embeddings.weight": (512, 768)}
    for layer in range(12):
        at = f"encoder.layer.{layer}."
        for name in ("attention.self.query", "attention.self.key", "attention.self.value", "attention.output.dense"):
            shapes |= {f"{at}{name}.weight": (768, 768), f"{at}{name}.bias": (768,)}
        shapes |= {f"{at}intermediate.dense.weight": (3072, 768), f"{at}intermediate.dense.bias": (3072,)}
        shapes |= {f"{at}output.dense.weight": (768, 3072), f"{at}output.dense.bias": (768,)}
    return shapes


def write_base(folder: Path, shapes: Shapes) -> None:
    """Write random numbers, over and over, and what else a folder needs."""
    folder.mkdir()
    numbers = np.random.default_rng(0).standard_normal(30522 * 768, np.float32) * np.float32(0.02)
    plan = {name: ("F32", shape) for name, shape in shapes.items()}
    stream_safetensors(
        folder / "model.safetensors", plan, lambda name: [numbers[: int(np.prod(shapes[name]))]], format="pt"
    )
    (folder / "config.json").write_text("{}")
    (folder / "vocab.txt").write_text("[PAD]\n")


def write_masks(folder: Path, base: Path, shapes: Shapes) -> dict[str, Path]:
    """Mask a fifth of the weights, the smallest, and flip 1%; in each code."""
    rng, opened, keeps = np.random.default_rng(1), open_checkpoint(base), {}
    for name, shape in shapes.items():
        if layer_and_group(name, shape).group:
            size = np.abs(opened.flat(name).values(0, int(np.prod(shape)))).reshape(shape)
            keeps[f"bert.{name}"] = (size >= np.quantile(size, 0.2)) ^ (rng.random(shape, np.float32) < 0.01)
    head, paths = {"classifier.weight": np.zeros((2, 768), np.float32)}, {}
    for code in CODES[1:]:
        paths[code] = folder / f"{code}.safetensors"
        write_mask(paths[code], keeps, head, "{}", opened, {}, code=code)
    return paths


def seconds(line: Sequence[str | Path], written: Path | None = None) -> tuple[float, float]:
    """Time one process from start to exit, and its processor time, and remove what it wrote."""
    start, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(line, stdout=subprocess.DEVNULL, check=True, env=COMPILED)
    taken, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    if written:
        shutil.rmtree(written)
    return taken, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def peak_mb(line: Sequence[str | Path], written: Path) -> float:
    """Run once more, and look every few milliseconds how much memory the process has."""
    process = subprocess.Popen(line, stdout=subprocess.DEVNULL, env=COMPILED)
    most = 0
    while process.poll() is None:
        try:
            status = Path(f"/proc/{process.pid}/status").read_text()
            most = max(most, int(status.partition("VmRSS:")[2].split()[0]))
        except (OSError, IndexError):
            pass  # it has ended
        time.sleep(0.005)
    shutil.rmtree(written)
    return most / 1000


def main() -> int:
    """Measure each code; 1 if a limit is passed."""
    late = False
    with tempfile.TemporaryDirectory() as name:
        scratch = Path(name)
        base, out, shapes = scratch / "base", scratch / "out", bert_base()
        write_base(base, shapes)
        masks = write_masks(scratch, base, shapes)
        start = time.process_time()
        hashlib.sha256(bytes(340_000_000)).hexdigest()
        alone = {"sha256_cpu_s": round(time.process_time() - start, 3)}
        alone["start_cpu_s"] = round(
            min(seconds([sys.executable, "-c", "import numpy, typer"])[1] for _ in range(3)), 3
        )
        lines: dict[tuple[str, bool], list[str | Path]] = {}
        for code, mask in masks.items():
            line = [*OURS, base, mask, "--out", out]
            lines |= {(code, False): line, (code, True): [*line, "--digest-cache", scratch / "digests.json"]}
        times: dict[tuple[str, bool], list[tuple[float, float]]] = {each: [] for each in lines}
        copies: list[tuple[float, float]] = []
        for line in lines.values():  # compiles modules, and fills the cache
            seconds(line, out)
        for _ in range(RUNS):
            copies.append(seconds(["cp", "-r", base, out], out))
            for each, line in lines.items():
                times[each].append(seconds(line, out))
        for (code, cached), both in times.items():
            memory = peak_mb(lines[code, cached], out)
            record: dict[str, object] = {"code": code, "digest_cache": cached, "mask_bytes": masks[code].stat().st_size}
            for kind, chosen, number in (("", median, 0), ("cpu_", min, 1)):
                copy, ours = (chosen([run[number] for run in runs]) for runs in (copies, both))
                record |= {f"cp_{kind}s": round(copy, 3), f"apply_mask_{kind}s": round(ours, 3)}
                record |= {f"{kind}ratio": round(ours / copy, 2)}
            record |= {"goal": GOAL, **alone, "peak_mb": round(memory), "runs": RUNS, "cores": os.cpu_count()}
            print(json.dumps(record), flush=True)
            late |= memory > MOST_MB
    return int(late)


if __name__ == "__main__":
    sys.exit(main())
