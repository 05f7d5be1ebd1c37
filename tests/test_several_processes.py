"""A training by several processes: what one process learns, written once, and resumed by another number of them."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from conftest import Run
from several_processes import run_together
from tiny_models import make_base, texts, write_lines

TRAININGS = [
    ("berttools", "finetune"),
    ("berttools", "mask-tune"),
    ("facetools", "train-detector"),
    ("facetools", "train-extractor"),
    ("facetools", "train-robust"),
]


@pytest.fixture
def words(tmp_path: Path, request: pytest.FixtureRequest) -> Callable[[str], list[str]]:
    """Return the arguments of a training of three epochs, but for its output, by its name."""

    def photos(folder: str, cloak: int = 0) -> str:
        for person in range(6):
            (tmp_path / folder / f"p{person}").mkdir(parents=True)
            for number in range(2):
                rng = np.random.default_rng([person, number])
                small = Image.fromarray(rng.integers(40, 180, (6, 6, 3), dtype=np.uint8)).resize((48, 48))
                grain = rng.integers(0, 12, (48, 48, 3), dtype=np.uint8)
                stripes = cloak * (np.arange(48, dtype=np.uint8) // 2 % 2)[:, None, None]
                photo = Image.fromarray(np.asarray(small) + grain + stripes)
                photo.save(tmp_path / folder / f"p{person}" / f"{number}.png")
        return str(tmp_path / folder)

    def call(name: str) -> list[str]:
        if name in ("finetune", "mask-tune"):
            # Of 11 texts, 5 a step, the last step has one: the other process has none.
            data = str(write_lines(tmp_path / "train.jsonl", texts(11)))
            more = ["--initial-score", "2", "--score-lr", "1"] if name == "mask-tune" else ["--lr", "1e-3"]
            return [
                "--base", str(make_base(tmp_path / "base")), "--train", data, "--dev", data, "--batch", "5",
                "--epochs", "3", *more,
            ]  # fmt: skip
        # At their default rates of 3e-3 the two that normalise by batches tell one order of sums from another, as they
        # tell one number of threads from another: rounding doubles every few steps.
        rate = "3e-5" if name == "train-extractor" else "3e-4"
        more = ["--epochs", "3", "--held-out", "0.4", "--learning-rate", rate]
        if name == "train-extractor":
            folder = request.getfixturevalue("people_folder")
            for person in sorted(folder.iterdir())[7:]:
                shutil.rmtree(person)
            return ["--in", str(folder), *more, "--batch", "8"]
        more += ["--clean", photos("clean"), "--cloaked", photos("cloaked", cloak=16), "--crops", "--batch", "8"]
        return [*more, "--max-clean-loss", "100"] if name == "train-robust" else more

    return call


def folders_of(tmp_path: Path) -> list[Path]:
    """Two folders to run in; the second process sees no folder for the output in its own."""
    (tmp_path / "first" / "made").mkdir(parents=True)
    return [tmp_path / "first", tmp_path / "second"]


def learned_alone(
    run: Callable[..., Run], words: Callable[[str], list[str]], tmp_path: Path, tool: str, name: str
) -> tuple[list[str], list[Path], Run]:
    """Train by one process; return the arguments, the folders for several to run in, and what the one has printed."""
    arguments = [name, *words(name), "--out", "made/out"]
    (tmp_path / "alone" / "made").mkdir(parents=True)
    alone = run(tool, *arguments, cwd=tmp_path / "alone")
    assert alone.code == 0, alone.err
    return arguments, folders_of(tmp_path), alone


def assert_same_curve(found: list[dict[str, Any]], wanted: list[dict[str, Any]]) -> None:
    assert len(found) == len(wanted) > 0
    for one, other in zip(found, wanted, strict=True):
        assert sorted(one) == sorted(other)
        for key, value in other.items():
            if isinstance(value, float):
                near = {"rel": 1e-4, "abs": 1e-6} if key.endswith("loss") else {"abs": 1e-3}
                assert one[key] == pytest.approx(value, **near), key
            elif isinstance(value, dict | list):
                assert json.dumps(one[key], sort_keys=True) == json.dumps(value, sort_keys=True), key
            elif key != "path":
                assert one[key] == value, key


@pytest.mark.parametrize(("tool", "name"), TRAININGS)
def test_two_processes_learn_what_one_learns_and_write_it_once(
    run: Callable[..., Run],
    warm_command: Callable[..., list[str]],
    words: Callable[[str], list[str]],
    tmp_path: Path,
    tool: str,
    name: str,
) -> None:
    arguments, folders, alone = learned_alone(run, words, tmp_path, tool, name)
    first, second = run_together(warm_command, folders, tool, *arguments)
    assert (first.code, second.code) == (0, 0), first.err + second.err
    assert second.out == b""
    assert_same_curve(first.records, alone.records)
    assert [path.name for path in (folders[0] / "made").iterdir()] == ["out"]
    assert [path.name for path in folders[1].iterdir()] == ["cut_short.py"]


@pytest.mark.parametrize(("tool", "name"), TRAININGS)
def test_it_goes_on_with_another_number_of_processes(
    run: Callable[..., Run],
    warm_command: Callable[..., list[str]],
    words: Callable[[str], list[str]],
    tmp_path: Path,
    tool: str,
    name: str,
) -> None:
    arguments, folders, alone = learned_alone(run, words, tmp_path, tool, name)
    first, second = run_together(warm_command, folders, tool, *arguments, saves=1)
    assert (first.code, second.code) == (-9, 1)
    assert second.err.splitlines()[-1] == f"{tool}: error: the leading process has gone; see what it said"
    assert not (folders[0] / "made" / "out").exists()
    (first,) = run_together(warm_command, folders[:1], tool, *arguments, "--resume", saves=1)
    assert first.code == -9
    first, second = run_together(warm_command, folders, tool, *arguments, "--resume")
    assert (first.code, second.code) == (0, 0), first.err + second.err
    assert_same_curve(first.records, alone.records)  # what was done before is said again
    assert [path.name for path in (folders[0] / "made").iterdir()] == ["out"]
