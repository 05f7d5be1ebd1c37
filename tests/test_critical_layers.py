"""Matrices chosen before any tuning as a Makefile, on a model of a few thousand values; and its table."""

from __future__ import annotations

import importlib.util
import json
import shlex
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import example_makefiles
from conftest import ROOT
from example_makefiles import needs_make
from tiny_models import make_base, texts, write_lines

pytestmark = needs_make
SCRIPT = ROOT / "docs" / "results" / "scripts" / "chosen_layers.py"
CRITERIA, DRAWS = ("fisher", "grad-fitted", "cosine", "lift", "moved", "top"), ("1", "2")


def read(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def table_of(work: Path) -> list[str]:
    done = subprocess.run([sys.executable, str(SCRIPT), str(work)], capture_output=True, text=True, check=True)
    return done.stdout.splitlines()


def test_criteria_beside_draws_on_a_tiny_model(tmp_path: Path, warm_command: Callable[..., list[str]]) -> None:
    make_base(tmp_path / "base", seed=7)
    (tmp_path / "glue" / "mood").mkdir(parents=True)
    for name, count in (("train", 40), ("dev", 24)):
        write_lines(tmp_path / "glue" / "mood" / f"{name}.jsonl", texts(count, seed=count))

    small = {"TASKS": "mood", "SEEDS": "0", "STEPS": "3", "FIRST": "30", "SCORE": "--texts 8", "FIT": "2"}
    small |= {"CRITERIA": " ".join(CRITERIA), "DRAWS": " ".join(DRAWS), "LIKE": "fisher", "BUDGETS": "17"}
    small |= {"TUNE": "--batch 8", "BERTTOOLS": shlex.join(warm_command("berttools"))}
    make = partial(example_makefiles.make, "critical-layers.mk", tmp_path, small=small)
    done = make()
    assert done.returncode == 0, done.stderr[-2000:]
    work = tmp_path / "work" / "mood" / "0"
    assert len(read(tmp_path / "work" / "mood" / "train.jsonl")) == 30
    named = {record["name"]: record for record in read(work / "lift.rank.jsonl")}
    assert len(named) == 18
    ranks = {path.name.removesuffix(".rank.jsonl"): path.read_text().splitlines() for path in work.glob("*.rank.jsonl")}
    ranked = {
        choice: [json.loads(line)["name"] if line.startswith("{") else line for line in lines]
        for choice, lines in ranks.items()
    }
    assert set(ranked) == {*CRITERIA, *(f"random-{n}" for n in DRAWS), *(f"like-fisher-{n}" for n in DRAWS)}
    assert all(sorted(names) == sorted(named) for names in ranked.values()), "each ranks every matrix, once"
    for choice in (*CRITERIA[:4], "moved"):
        scores = [next(iter(json.loads(line).values())) for line in ranks[choice]]
        assert scores == sorted(scores, reverse=True), choice
    assert [named[name]["layer"] for name in ranked["top"]] == sorted((n // 6 for n in range(18)), reverse=True)
    assert ranked["random-1"] != ranked["random-2"]
    groups = {choice: [named[name]["group"] for name in names] for choice, names in ranked.items()}
    assert groups["like-fisher-1"] == groups["like-fisher-2"] == groups["fisher"]
    assert ranked["fisher"] not in (ranked["like-fisher-1"], ranked["like-fisher-2"])

    # Three of 18 are tuned, and the head; of what was tuned nothing but figures is left.
    results = {path.name.removesuffix(".17.jsonl"): read(path)[-1] for path in work.glob("*.17.jsonl")}
    assert set(results) == set(ranked)
    assert {record["step"] for record in results.values()} == {3}
    assert {record["tensors"] for record in results.values()} == {results["top"]["tensors"]}
    assert not [path for path in work.iterdir() if path.suffix != ".jsonl"]

    # Nothing is made twice; what was cut off is.
    assert "Nothing to be done" in make().stdout
    (work / "top.17.jsonl").unlink()
    again = make("check")
    assert again.stdout.count(" finetune ") == 1
    scores = [json.loads(line)["score"] for line in again.stdout.splitlines() if line.startswith("{")]
    assert scores == sorted((record["score"] for record in results.values()), reverse=True)
    rows = [line for line in table_of(tmp_path / "work") if line.startswith("| cosine between layers |")]
    assert f"| {100 * results['cosine']['score']:.1f} | " in rows[-1]


def place_runs(work: Path, scores: dict[str, list[float]], *, task: str = "a", budget: int = 10) -> Path:
    for choice, values in scores.items():
        for seed, score in enumerate(values):
            folder = work / task / str(seed)
            folder.mkdir(parents=True, exist_ok=True)
            record = {"score": score, "metric": "accuracy", "step": 9, "tuned": 2, "parameters": 8}
            write_lines(folder / f"{choice}.{budget}.jsonl", [{"score": 0.0}, record])
    return work


@pytest.fixture(scope="module")
def script() -> ModuleType:
    found = importlib.util.spec_from_file_location("chosen_layers", SCRIPT)
    assert found is not None
    assert found.loader is not None
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    return module


def test_the_interval_is_students(tmp_path: Path, script: ModuleType) -> None:
    assert [script.student(n) for n in (1, 2, 6, 30)] == pytest.approx([12.7062, 4.3027, 2.4469, 2.0423], abs=1e-3)
    draws = {"random-1": [0.70, 0.80], "random-2": [0.72, 0.84], "random-3": [0.74, 0.79]}
    likes = {"like-grad-1": [0.71, 0.83], "like-grad-2": [0.73, 0.83]}
    work = place_runs(tmp_path, {**draws, **likes, "grad": [0.80, 0.85]})
    runs = script.read_runs(work / "a")[10]
    found = script.difference(runs, "grad")
    # By hand: 0.08 and 0.04 above the means; variances 0.0004 and 0.0007 with two degrees of freedom each.
    assert (found.value, found.freedom) == (pytest.approx(0.06), 4)
    assert found.error == pytest.approx((0.00055 * (1 + 1 / 3) / 2) ** 0.5)
    assert script.beaten(runs, "grad") == (6, 6)
    several = script.difference(runs, "like-grad")
    assert several.value == pytest.approx((0.0 + 0.02) / 2)
    assert several.error == pytest.approx((0.00055 * (1 / 2 + 1 / 3) / 2) ** 0.5)
    assert script.beaten(runs, "like-grad") == (7, 12)


def test_chance_is_covered_by_nineteen_intervals_of_twenty(tmp_path: Path, script: ModuleType) -> None:
    import numpy as np

    rng, covered = np.random.default_rng(0), 0
    for _ in range(1000):
        seeds = {str(seed): {name: {"score": rng.normal()} for name in ("random-1", "random-2", "random-3", "top")}
                 for seed in range(3)}  # fmt: skip
        found = script.difference(seeds, "top")
        covered += abs(found.value) <= found.half_width
    assert 930 <= covered <= 970


def test_what_is_cut_off_or_has_no_draws_is_left_out(tmp_path: Path) -> None:
    work = place_runs(tmp_path, {"random-1": [0.5], "random-2": [0.6], "top": [0.9]})
    place_runs(tmp_path, {"random-1": [0.5], "top": [0.9]}, budget=25)
    (work / "a" / "0" / "lift.10.jsonl").write_text("")
    write_lines(work / "a" / "0" / "grad.10.jsonl", [{"score": 0.7}])
    lines = table_of(work)
    titles = [line for line in lines if line.startswith("### Chosen beforehand: a,")]
    assert titles == ["### Chosen beforehand: a, 10% of the matrices: accuracy x 100, 9 steps"]
    rows = [line.split(" | ")[0] for line in lines if line.startswith("| ")]
    assert rows == ["| chosen by", "| ---", "| the topmost", "| chosen by", "| ---", "| the topmost", "| at random"]
