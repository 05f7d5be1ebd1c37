"""Documented examples of berttools as a person meets them: on real texts, with a real base, as they are printed."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

import demo
from test_docs import EXAMPLES, commands_in, shell
from tiny_models import GLUE, minilm, needs_glue, needs_minilm, other_warnings

ALL = [line for line in EXAMPLES if any(each.startswith("berttools ") for each in commands_in(line))]
OURS = [line for line in ALL if "facetools" not in line]
PIPES = [line for line in OURS if "--only -" in line and "berttools layerdiff" in line]
FINE = (0, 128 + 13)
"""What head ends early has not failed."""


def berttools(folder: Path, words: str, *more: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "berttools", *words.split(), *more],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def linked(folder: Path, here: Path) -> Path:
    """Link what is in one folder into another, where an example may write."""
    for path in folder.iterdir():
        (here / path.name).symlink_to(path)
    return here


def test_the_pipes_are_found() -> None:
    kinds = {kind for line in PIPES for kind in ("finetune", "mask-tune") if f"berttools {kind} " in line}
    assert kinds == {"finetune", "mask-tune"}
    assert all("layerdiff --matrices" in line for line in PIPES), "biases move far, and hold little to tune"


@pytest.fixture(scope="module")
def real_texts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with base/, a model tuned from it in full, and texts of SST-2: what the pipes speak of."""
    folder = tmp_path_factory.mktemp("sst2")
    (folder / "base").symlink_to(minilm())
    for kind, count in (("train", 1200), ("dev", None)):
        lines = (GLUE / "sst2" / f"{kind}.jsonl").read_text().splitlines(True)
        (folder / f"{kind}.jsonl").write_text("".join(lines[:count]))
    berttools(folder, "finetune --base base --train train.jsonl --epochs 1 --out ft")
    return folder


@pytest.mark.slow
@needs_glue
@needs_minilm
@pytest.mark.parametrize("line", PIPES)
def test_a_pipe_learns(line: str, real_texts: Path, tmp_path: Path) -> None:
    done = shell(line, linked(real_texts, tmp_path))
    assert done.returncode in FINE
    assert done.stderr == ""
    said = (tmp_path / "task.jsonl").read_text() if "> task.jsonl" in line else done.stdout
    last = json.loads(said.splitlines()[-1])
    assert Path(last["path"]).name.startswith("task")
    # Of 872 texts one standard error is 0.017.
    assert last["accuracy"] > last["chance"] + 0.15


@pytest.fixture(scope="module")
def own_texts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What ``make demo`` leaves, and what the pages of other commands than an example's own make of it."""
    folder = tmp_path_factory.mktemp("own") / "texts"
    demo.make_examples(folder, minilm())
    data = "--base base --train train.jsonl --dev dev.jsonl --epochs 1"
    berttools(folder, f"finetune {data} --seed 1 --out ft2")
    berttools(folder, f"finetune {data} --group V --save delta --out task.safetensors")
    for seed, name in enumerate(("task", "other")):
        berttools(folder, f"mask-tune {data} --score-lr 2 --seed {seed} --out {name}.mask.safetensors")
    return folder


@pytest.mark.slow
@needs_minilm
@pytest.mark.parametrize("line", OURS)
def test_an_example_runs_where_the_demo_has_been(line: str, own_texts: Path, tmp_path: Path) -> None:
    linked(own_texts, tmp_path)
    for made in re.findall(r"--out ([^\s/]+)", line):
        (tmp_path / made).unlink(missing_ok=True)
    done = shell(line.replace("torchrun", "OMP_NUM_THREADS=1 torchrun"), tmp_path)
    assert done.returncode in FINE, done.stderr
    warned = [each for each in other_warnings(done.stderr).splitlines() if "few cross 0" not in each]
    assert not warned
