"""Run commands in ways that must not change what they compute, and compare what they write.

Usage: python docs/results/scripts/same_bytes.py BASE TUNED MASK TEXTS PHOTOS [COMMAND...]

BASE is a model's folder; TUNED one that `finetune` made from it, with a head; MASK a mask of it; TEXTS a JSONL file of
about 200 lines; PHOTOS a folder of photos of different sizes. Each command (or those that are named) runs once as it
is: one thread, from a folder or a file. Then with other batches, with two threads, on Ray, as two shards, from a
`.tar`, from a list on stdin, and, where there is `--resume`, interrupted on the way and gone on with.

Files are compared byte by byte, records too, or without the fields that name a file. Prints a Markdown table: the same,
or how many numbers differ and by how much at most.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load_file

Process = subprocess.Popen[bytes]
Ways = Iterator[tuple[str, str]]

PLACES = ("path", "relative", "file", "source")
"""Fields of records that name a file."""

TIMES = ("seconds",)
"""Fields of records that say how long something took: no two runs are alike."""

BATCHES = ("1", "3", "32")


@dataclass(frozen=True)
class Made:
    """What a run wrote.

    Attributes
    ----------
    records
        Lines of stdout.
    files
        By name within the output.
    """

    records: bytes
    files: dict[str, bytes]

    def numbers(self) -> list[float]:
        """Return every number of the records and of the tensors of files, in order."""
        found = list(chain.from_iterable(_numbers(json.loads(line)) for line in self.records.splitlines()))
        for name, data in sorted(self.files.items()):
            if name.endswith(".safetensors"):
                with tempfile.NamedTemporaryFile() as file:
                    Path(file.name).write_bytes(data)
                    found += [x for _, each in sorted(load_file(file.name).items()) for x in np.ravel(each).tolist()]
        return found


def _numbers(value: Any) -> Iterator[float]:
    if isinstance(value, dict):
        value = [each for name, each in value.items() if name not in PLACES]
    if isinstance(value, list):
        for each in value:
            yield from _numbers(each)
    elif isinstance(value, int | float):
        yield float(value)


def without_times(records: bytes) -> bytes:
    """Return the records as they are, or without what says how long something took."""
    if not any(f'"{name}":'.encode() in records for name in TIMES):
        return records
    lines = [json.loads(line) for line in records.splitlines()]
    kept = [{name: value for name, value in line.items() if name not in TIMES} for line in lines]
    return "".join(f"{json.dumps(line)}\n" for line in kept).encode()


def without_places(records: bytes) -> list[dict[str, Any]]:
    """Return the records without what names a file."""
    lines = [json.loads(line) for line in records.splitlines()]
    return [{name: value for name, value in line.items() if name not in PLACES} for line in lines]


def compared(usual: Made, other: Made) -> str:
    """Return a cell of the table."""
    if usual == other:
        return "same bytes"
    same_files = usual.files == other.files
    if same_files and without_places(usual.records) == without_places(other.records):
        return "same but for the places"
    first, second = usual.numbers(), other.numbers()
    if len(first) != len(second):
        return f"**{len(first)} numbers and {len(second)}**"
    gaps = np.abs(np.subtract(first, second))
    if not gaps.any():
        names = {name for name, _ in usual.files.items() ^ other.files.items()}
        return f"same numbers; other bytes: {', '.join(sorted(names)) or 'records'}"
    return f"**{np.count_nonzero(gaps)} of {len(gaps)} numbers, by at most {gaps.max():.1g}**"


class Runs:
    """Run one command again and again."""

    def __init__(self, tool: str, words: Sequence[str | Path], work: Path, out: str | None) -> None:
        self.line, self.work, self.out = [sys.executable, "-m", tool, *map(str, words)], work, out

    def _start(self, more: Sequence[str | Path], threads: int, stdin: bytes, out: Path | None) -> Process:
        line = [*self.line, *map(str, more), *(["--out", str(out)] if out else [])]
        environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
        source = self.work / "stdin"
        source.write_bytes(stdin)
        with source.open("rb") as opened:
            return subprocess.Popen(line, stdin=opened, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment)

    def place(self) -> Path | None:
        """Return a place for an output, always of the same name: records have it."""
        if self.out is None:
            return None
        shutil.rmtree(self.work / "made", ignore_errors=True)
        (self.work / "made").mkdir()
        return self.work / "made" / self.out

    def run(self, *more: str | Path, threads: int = 1, stdin: bytes = b"", keep: bool = False) -> Made:
        """Run it to its end."""
        out = self.work / "made" / str(self.out) if keep and self.out else self.place()
        process = self._start(more, threads, stdin, out)
        records, said = process.communicate()
        if process.returncode not in (0, 3):
            raise SystemExit(f"{' '.join(self.line)} {more}: exit {process.returncode}: {said.decode()}")
        return Made(without_times(records), files_of(self.work / "made") if out else {})

    def interrupted(self, *more: str | Path, after: int) -> None:
        """Interrupt it when it has made some files."""
        process = self._start(more, 1, b"", self.place())
        while process.poll() is None and sum(1 for each in (self.work / "made").rglob("[!.]*.*")) < after:
            time.sleep(0.001)
        process.send_signal(signal.SIGINT)
        process.communicate()


def files_of(folder: Path) -> dict[str, bytes]:
    """Return the files of an output; a journal names them."""
    found = sorted(path for path in folder.rglob("*") if path.is_file() and not path.name.startswith("."))
    return {str(path.relative_to(folder)): path.read_bytes() for path in found}


def joined(parts: Sequence[Made]) -> Made:
    """Return parts one after the other."""
    return Made(b"".join(part.records for part in parts), {k: v for part in parts for k, v in part.files.items()})


def photo_command(name: str, words: Sequence[str], photos: Path, work: Path, out: str | None) -> Ways:
    """Yield each way and how it compares, of a command that reads photos."""
    runs = Runs("facetools", [name, *words], work, out)
    usual = runs.run("--in", photos)
    if name in ("detect", "embed"):
        for batch in BATCHES:
            yield f"--batch {batch}", compared(usual, runs.run("--in", photos, "--batch", batch))
    yield "2 threads", compared(usual, runs.run("--in", photos, threads=2))
    yield "Ray, 2 actors", compared(usual, runs.run("--in", photos, "--engine", "ray", "--actors", "2"))
    packed = work / "photos.tar"
    with tarfile.open(packed, "w") as archive:
        archive.add(photos, ".")
    yield "a .tar", compared(usual, runs.run("--in", packed))
    listed = "".join(f"{path}\n" for path in sorted(photos.rglob("*")) if path.is_file())
    yield "a list on stdin", compared(usual, runs.run("--in", "-", stdin=listed.encode()))
    if name == "embed":
        parts = [runs.run("--in", photos, "--shard", f"{part}/2") for part in (1, 2)]
        rows = np.concatenate([rows_of(part) for part in parts])
        yield "two shards", "same rows" if (rows == rows_of(usual)).all() else "**other rows**"
    else:
        shards = [runs.run("--in", photos, "--shard", f"{part}/2", keep=part == "2") for part in "12"]
        yield "two shards", compared(usual, Made(b"".join(part.records for part in shards), shards[-1].files))
    if "--attack" in words or name == "align":
        runs.interrupted("--in", photos, after=2)
        kept = len(files_of(work / "made"))
        whole = runs.run("--in", photos, "--resume", keep=True)
        yield (
            f"interrupted after {kept} of {len(usual.files)} photos, and --resume",
            compared(Made(b"", usual.files), Made(b"", whole.files)),
        )


def rows_of(made: Made) -> Any:
    """Return the embeddings that a run wrote."""
    (data,) = made.files.values()
    with tempfile.NamedTemporaryFile() as file:
        Path(file.name).write_bytes(data)
        return load_file(file.name)["embeddings"]


def text_command(models: Sequence[str | Path], texts: Path, work: Path) -> Ways:
    """Yield each way and how it compares, of `predict`."""
    runs = Runs("berttools", ["predict", *models], work, None)
    usual = runs.run("--in", texts)
    for batch in BATCHES:
        yield f"--batch {batch}", compared(usual, runs.run("--in", texts, "--batch", batch))
    yield "2 threads", compared(usual, runs.run("--in", texts, threads=2))
    yield "Ray, 2 actors", compared(usual, runs.run("--in", texts, "--engine", "ray", "--actors", "2"))
    yield "stdin", compared(usual, runs.run(stdin=texts.read_bytes()))
    halves = [b"".join(texts.read_bytes().splitlines(True)[half]) for half in (slice(0, 101), slice(101, None))]
    yield "two halves", compared(usual, joined([runs.run(stdin=half) for half in halves]))


def model_command(words: Sequence[str | Path], work: Path, out: str | None) -> Ways:
    """Yield each way and how it compares, of a command that reads models."""
    runs = Runs("berttools", words, work, out)
    usual = runs.run()
    yield "again", compared(usual, runs.run())
    yield "2 threads", compared(usual, runs.run(threads=2))


def main(base: Path, tuned: Path, mask: Path, texts: Path, photos: Path, commands: Sequence[str]) -> None:
    """Print the table."""
    print("| command | way | compared with the usual run |\n|---|---|---|", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        rows = {
            "detect": photo_command("detect", (), photos, work, None),
            "embed": photo_command("embed", (), photos, work, "e.safetensors"),
            "align": photo_command("align", (), photos, work, "chips"),
            "perturb --attack none": photo_command("perturb", ("--attack", "none"), photos, work, "copies"),
            "predict": text_command(["--model", tuned], texts, work),
            "predict --mask": text_command(["--base", base, "--mask", mask], texts, work),
            "layerdiff": model_command(["layerdiff", base, tuned], work, None),
            "layerdiff --svd 4": model_command(["layerdiff", base, tuned, "--matrices", "--svd", "4"], work, None),
            "apply-mask": model_command(["apply-mask", base, mask], work, "model"),
        }
        for name, found in rows.items():
            if not commands or name in commands:
                for way, result in found:
                    print(f"| `{name}` | {way} | {result} |", flush=True)


if __name__ == "__main__":
    base, tuned, mask, texts, photos = map(Path, sys.argv[1:6])
    main(base, tuned, mask, texts, photos, sys.argv[6:])
