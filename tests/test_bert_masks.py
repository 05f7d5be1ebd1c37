"""The second paper as a Makefile, on a model of a few thousand values."""

from __future__ import annotations

import json
import math
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from _toolio.tensors.reader import read_metadata
from berttools.masks.file import open_mask
from conftest import ROOT
from tiny_models import make_base, texts, write_lines

pytestmark = pytest.mark.skipif(
    not all(shutil.which(tool) for tool in ("make", "awk", "sha256sum")), reason="make, awk or sha256sum is missing"
)

SCRIPTS = ROOT / "docs" / "results" / "scripts"

SMALL = {
    "TASKS": "mood",
    "SEEDS": "0",
    "STEPS": "4",
    "METRICS": "rel_l2",
    "GROUPS": "Q O",
    "TUNE": "--batch 8",
    "LR": "1e-2",
}


def make(folder: Path, *words: str, path: str = "") -> subprocess.CompletedProcess[str]:
    path = f"{path}{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    settings = (f"{key}={value}" for key, value in {**SMALL, "PYTHON": sys.executable}.items())
    # Whoever runs the tests by make has set variables that would make this one a part of that run.
    environ = {key: value for key, value in os.environ.items() if key not in ("MAKEFLAGS", "MAKELEVEL", "MFLAGS")}
    return subprocess.run(
        ["make", "-f", str(ROOT / "examples" / "bert-masks.mk"), *settings, *words],
        cwd=folder,
        env={**environ, "PATH": path, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=1800,
        check=False,
    )


def read(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_the_paper_on_a_tiny_model(tmp_path: Path) -> None:
    make_base(tmp_path / "base", seed=7)
    (tmp_path / "glue" / "mood").mkdir(parents=True)
    for name, count in (("train", 40), ("dev", 24)):
        write_lines(tmp_path / "glue" / "mood" / f"{name}.jsonl", texts(count, seed=count))
    done = make(tmp_path, "-j2")
    assert done.returncode == 0, done.stderr[-2000:]
    work = tmp_path / "work" / "mood" / "0"
    runs = {"full", "null", "head", "most-rel_l2", "least-angle", "random", "upper", "lower", "group-Q", "group-O"}
    last = {run: read(work / f"{run}.jsonl")[-1] for run in runs}
    assert {record["step"] for record in last.values()} == {4}

    # What each run has tuned besides the head, by layerdiff's own names.
    diff = {record["name"]: record for record in read(work / "full.diff.jsonl")}
    assert len(diff) == 6
    tuned = {
        run: {name.removeprefix("bert.") for name in read_metadata(work / f"{run}.delta.safetensors")["made"]["tuned"]}
        & set(diff)
        for run in runs - {"full", "null"}
    }
    ranked = sorted(diff, key=lambda name: -diff[name]["rel_l2"])
    assert tuned["most-rel_l2"] == set(ranked[:3])
    assert tuned["least-angle"] == set(sorted(diff, key=lambda name: diff[name]["angle"])[:3])
    assert len(tuned["random"]) == 3
    assert tuned["head"] == set()
    assert {diff[name]["layer"] for name in tuned["lower"]} | {diff[name]["layer"] for name in tuned["upper"]} == {
        0,
        1,
        2,
    }
    assert not tuned["lower"] & tuned["upper"]
    assert {diff[name]["group"] for name in tuned["group-Q"]} == {"Q"}
    assert last["full"]["tuned"] == last["full"]["parameters"] > last["upper"]["tuned"] > last["head"]["tuned"]
    assert all(record["baseline_angle"] > 0.1 and record["angle"] > 0 for record in diff.values())

    # Shuffled labels are the same labels, of other texts.
    given, shuffled = read(tmp_path / "glue" / "mood" / "train.jsonl"), read(work / "shuffled.jsonl")
    assert [{**r, "label": None} for r in given] == [{**r, "label": None} for r in shuffled]
    labels = [[record["label"] for record in records] for records in (given, shuffled)]
    assert labels[0] != labels[1]
    assert sorted(labels[0]) == sorted(labels[1])

    # Nothing is made twice; what is there can be seen, ranked, and as tables.
    checked = make(tmp_path, "check")
    assert checked.returncode == 0, checked.stderr
    scores = [json.loads(line)["score"] for line in checked.stdout.splitlines()]
    assert scores == sorted((record["score"] for record in last.values()), reverse=True)
    words = [sys.executable, str(SCRIPTS / "critical_layers.py"), str(tmp_path / "work")]
    tables = subprocess.run(words, capture_output=True, text=True, check=True).stdout
    row = next(line for line in tables.splitlines() if line.startswith("| the half that moved least"))
    cells = [cell.strip() for cell in row.split("|")[1:-1]]
    assert cells[1] == f"{100 * last['least-angle']['score']:.1f}"
    assert cells[2] == f"{100 * (last['least-angle']['score'] - last['full']['score']):.1f}"
    assert cells[3] == f"{100 * last['least-angle']['tuned'] / last['full']['parameters']:.1f}"


def test_a_pipe_whose_first_command_fails_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "glue" / "mood").mkdir(parents=True)
    work = tmp_path / "work" / "mood" / "0"
    work.mkdir(parents=True)
    for path in (tmp_path / "glue" / "mood" / "train.jsonl", tmp_path / "glue" / "mood" / "dev.jsonl"):
        write_lines(path, texts(2))
    write_lines(work / "full.jsonl", [{"score": 1}])
    write_lines(
        work / "full.diff.jsonl", [{"angle": n / 9, "rel_l2": n, "name": f"m{n}", "layer": n} for n in range(4)]
    )
    tools = {
        "sort": f'{shutil.which("sort")} "$@"; [ ! -e broken ]',  # gives what is asked for, and fails
        "berttools": "cat",  # tunes nothing
    }
    (tmp_path / "bin").mkdir()
    for name, script in tools.items():
        (tmp_path / "bin" / name).write_text(f"#!/bin/sh\n{script}\n")
        (tmp_path / "bin" / name).chmod(0o755)
    targets = [f"work/mood/0/{name}.jsonl" for name in ("most-rel_l2", "least-angle", "random")]
    (tmp_path / "broken").touch()
    for target in targets:
        assert make(tmp_path, target, path=f"{tmp_path / 'bin'}{os.pathsep}").returncode == 2
        assert not (tmp_path / target).exists()
    (tmp_path / "broken").unlink()
    assert make(tmp_path, *targets, path=f"{tmp_path / 'bin'}{os.pathsep}").returncode == 0
    assert all((tmp_path / target).read_text().count("\n") == 2 for target in targets)


def test_the_first_of_many_records_are_taken_without_breaking_the_pipe(tmp_path: Path) -> None:
    (tmp_path / "Makefile").write_text(
        f"include {ROOT / 'examples' / 'bert-masks.mk'}\nfirst-of-many:\n\t@seq 1000000 | $(call first,2)\n"
    )
    done = subprocess.run(
        ["make", "--no-print-directory", "first-of-many"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (0, "1\n2\n"), done.stderr


def test_masks_on_a_tiny_model(tmp_path: Path) -> None:
    make_base(tmp_path / "base", seed=7)
    for task, seed in (("mood", 1), ("tone", 2)):
        (tmp_path / "glue" / task).mkdir(parents=True)
        for name, count in (("train", 40), ("dev", 24)):
            write_lines(tmp_path / "glue" / task / f"{name}.jsonl", texts(count, seed=count + seed))
    few = (
        "TASKS=mood tone",
        "LONG=",
        "SPARSITIES=0 10",
        "GROUPS=V",
        "CONTROLS=random",
        "MASK=--batch 8 --lr 1e-2 --score-lr 8",
    )
    done = make(tmp_path, "masks", *few)
    assert done.returncode == 0, done.stderr[-2000:]
    work = tmp_path / "work"
    last = {path.name: read(path)[-1] for path in (work / "mood" / "0").glob("mask-*.jsonl")}
    assert sorted(last) == [
        "mask-0.jsonl", "mask-10.jsonl", "mask-10.random.jsonl", "mask-10.taught.jsonl", "mask-V.jsonl",
    ]  # fmt: skip
    assert [last[f"mask-10{kind}.jsonl"]["step"] for kind in ("", ".taught", ".random")] == [4, 12, 4]
    assert open_mask(work / "mood" / "0" / "mask-10.taught.mask.safetensors").made["teacher_sha256"]
    assert last["mask-10.jsonl"]["sparsity"] > last["mask-0.jsonl"]["sparsity"]
    assert last["mask-V.jsonl"]["matrices"] == 3
    assert read(work / "mood" / "0" / "full.long.jsonl")[-1]["step"] == 12
    learned, at_random = (
        open_mask(work / "mood" / "0" / f"mask-10{kind}.mask.safetensors") for kind in ("", ".random")
    )
    assert learned.zeroed == at_random.zeroed
    tuned = read_metadata(work / "mood" / "0" / "mask-10.random.delta.safetensors")["made"]["tuned"]
    assert {name.split(".")[-2] for name in tuned} == {"dense", "classifier"}

    # Every two of two tasks and two sparsities.
    assert len(read(work / "overlaps.jsonl")) == 6
    assert make(tmp_path, "work/mood/0/full.jsonl", *few).returncode == 0
    words = [sys.executable, str(SCRIPTS / "mask_figures.py"), str(work), str(tmp_path / "base")]
    tables = subprocess.run(words, capture_output=True, text=True, check=True).stdout
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in tables.splitlines() if line.startswith("|")]
    by_title = {row[0]: row for row in reversed(rows) if len(row) == 9}  # of the first task
    titles = {
        "masks from 10% on": "mask-10",
        "masks from 10% on, three times the steps, taught by everything tuned": "mask-10.taught",
    }
    for title, run in titles.items():
        seconds = float((work / "mood" / "0" / f"{run}.seconds").read_text())
        keys = ("score", None, "score_at_threshold", "score_of_draw", "sparsity")
        for cell, key in zip(by_title[title][2:], keys, strict=False):
            assert key is None or cell == f"{100 * last[f'{run}.jsonl'][key]:.1f}"
        assert by_title[title][8] == f"{seconds:.0f}" != "0"
    # Longer masks are measured by longer tuning.
    whole = {run: read(work / "mood" / "0" / f"{run}.jsonl")[-1]["score"] for run in ("full", "full.long")}
    for title, run, control in (
        ("masks from 10% on", "mask-10", "full"),
        ("masks from 10% on, three times the steps, taught by everything tuned", "mask-10.taught", "full.long"),
    ):
        assert by_title[title][3] == f"{100 * (last[f'{run}.jsonl']['score'] - whole[control]):.1f}"
    assert by_title["everything tuned, three times the steps"][2] == f"{100 * whole['full.long']:.1f}"
    stored = {row[0]: float(row[1]) for row in rows if len(row) == 2 and row[1][0].isdigit()}
    weights = sum(math.prod(shape) for shape in learned.shapes.values())
    assert stored["a bit a weight of the masked matrices"] == pytest.approx(weights / 8e3, abs=0.1)
    pairs = {(row[0], row[1]): int(row[2]) for row in rows if row[0].startswith("another")}
    assert pairs == {
        ("another initial sparsity", "any two"): 2, ("another task", "0%"): 1, ("another task", "10%"): 1,
    }  # fmt: skip


def test_draws_that_were_not_stored(tmp_path: Path) -> None:
    base = make_base(tmp_path / "base")
    path = tmp_path / "texts.jsonl"
    # Of numbers: Pearson's correlation differs wherever two models do.
    write_lines(path, [{**record, "label": record["label"] + 0.5} for record in texts(24)])
    words = ["--base", base, "--train", path, "--dev", path, "--max-steps", "2", "--evaluate-every", "2"]
    words += ["--initial-score", "0.5", "--score-lr", "1e-6", "--out", tmp_path / "a.mask"]
    line = [sys.executable, str(SCRIPTS / "mask_draws.py"), "8", *map(str, words)]
    done = subprocess.run(line, capture_output=True, text=True, check=True)
    last = json.loads(done.stdout.splitlines()[-1])
    measured = [json.loads(text) for text in done.stderr.splitlines() if text.startswith("{")]
    assert [record["step"] for record in measured] == [2]
    assert measured[0]["threshold"] == last["score_at_threshold"]
    assert len(set(measured[0]["draws"]) - {last["score_at_threshold"], last["score_of_draw"]}) == 8
