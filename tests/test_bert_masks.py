"""The second paper as a Makefile, on a model of a few thousand values."""

from __future__ import annotations

import json
import math
import shutil
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import example_makefiles
import mask_paths
import mask_variants
from _toolio.tensors.reader import read_metadata
from berttools.classifier.model import open_model
from berttools.mask_tuning.draws import Draws
from berttools.mask_tuning.masked_linear import MaskedLinear
from berttools.mask_tuning.recipe import Recipe
from berttools.masks.apply import apply_mask
from berttools.masks.file import open_mask
from berttools.tuning.datasets import read_texts, tokenised
from conftest import ROOT
from example_makefiles import needs_make
from tiny_models import make_base, make_mask, texts, write_lines

pytestmark = needs_make

SCRIPTS = ROOT / "docs" / "results" / "scripts"

SMALL = {
    "TASKS": "mood",
    "SEEDS": "0",
    "STEPS": "4",
    "METRICS": "rel_l2",
    "GROUPS": "Q O",
    "TUNE": "--batch 8",
    "LR": "1e-2",
    "PYTHON": sys.executable,
}
make = partial(example_makefiles.make, "bert-masks.mk", small=SMALL)


def read(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_the_paper_on_a_tiny_model(tmp_path: Path, warm_tools: Path) -> None:
    make_base(tmp_path / "base", seed=7)
    (tmp_path / "glue" / "mood").mkdir(parents=True)
    for name, count in (("train", 40), ("dev", 24)):
        write_lines(tmp_path / "glue" / "mood" / f"{name}.jsonl", texts(count, seed=count))
    done = make(tmp_path, "-j2", tools=warm_tools)
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
        assert make(tmp_path, target, tools=tmp_path / "bin").returncode == 2
        assert not (tmp_path / target).exists()
    (tmp_path / "broken").unlink()
    assert make(tmp_path, *targets, tools=tmp_path / "bin").returncode == 0
    assert all((tmp_path / target).read_text().count("\n") == 2 for target in targets)


def test_the_first_of_many_records_are_taken_without_breaking_the_pipe(tmp_path: Path) -> None:
    (tmp_path / "Makefile").write_text(
        f"include {ROOT / 'examples' / 'bert-masks.mk'}\nfirst-of-many:\n\t@seq 1000000 | $(call first,2)\n"
    )
    done = subprocess.run(
        ["make", "--no-print-directory", "first-of-many"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (0, "1\n2\n"), done.stderr


def test_masks_on_a_tiny_model(tmp_path: Path, warm_tools: Path) -> None:
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
    done = make(tmp_path, "masks", *few, tools=warm_tools)
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
    assert make(tmp_path, "work/mood/0/full.jsonl", *few, tools=warm_tools).returncode == 0
    for number, path in enumerate(sorted((work / "mood" / "0").glob("*.seconds")), start=1):
        path.write_text(f"{number}\n")  # a command that was forked has taken none of its own
    (work / "mood" / "0" / "mask-0.jsonl").unlink()
    assert make(tmp_path, "work/mood/0/mask-0.jsonl", *few).returncode == 0
    assert 0.3 < float((work / "mood" / "0" / "mask-0.seconds").read_text()) < 600
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


@pytest.mark.slow
def test_what_limits_a_mask_on_a_tiny_model(tmp_path: Path, warm_tools: Path) -> None:
    make_base(tmp_path / "base", seed=7)
    (tmp_path / "glue" / "mood").mkdir(parents=True)
    for name, count in (("train", 40), ("dev", 24)):
        write_lines(tmp_path / "glue" / "mood" / f"{name}.jsonl", texts(count, seed=count))
    few = ("LIMITS=beside row-scale norms", "LIMITS_LONG=certain-taught norms", "CURVES=magnitude", "CURVE_EVERY=3")
    few += ("MASK=--batch 8 --lr 1e-2 --score-lr 8", "-j2")
    done = make(tmp_path, "limits", "curves", "paths", *few, tools=warm_tools)
    assert done.returncode == 0, done.stderr[-2000:]
    work = tmp_path / "work" / "mood" / "0"
    runs = ("mask-10", "full", "mask-10.long", "full.long")
    limits = ("limit-beside", "limit-row-scale", "limit-norms", "limit-certain-taught.long", "limit-norms.long")
    last = {run: read(work / f"{run}.jsonl")[-1] for run in (*runs, *limits)}
    assert {run: record["step"] for run, record in last.items() if record["step"] != 4} == {
        "mask-10.long": 12, "full.long": 12, "limit-certain-taught.long": 12, "limit-norms.long": 12,
    }  # fmt: skip
    mask = open_mask(work / "limit-beside.mask.safetensors")
    assert any(name.endswith("query.bias") for name in mask.dense)
    assert any("LayerNorm" in name for name in mask.dense)
    taught = open_mask(work / "limit-certain-taught.long.mask.safetensors").made
    assert (taught["recipe"]["distance"], bool(taught["teacher_sha256"])) == ("magnitude", True)
    assert taught["recipe"]["score_learning_rate"] == 0.4  # twice the task's
    tuned = read_metadata(work / "limit-norms.delta.safetensors")["made"]["tuned"]
    assert all(name.endswith("bias") or "LayerNorm" in name or "classifier" in name for name in tuned)
    curve = read(work / "curve-magnitude.jsonl")
    assert [record["step"] for record in curve[:-1]] == [3, 6, 9, 12]

    chart = tmp_path / "chart.png"
    words = [sys.executable, str(SCRIPTS / "mask_limits.py"), str(tmp_path / "work"), str(chart)]
    tables = subprocess.run(words, capture_output=True, text=True, check=True).stdout
    assert chart.read_bytes().startswith(b"\x89PNG")
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in tables.splitlines() if line.startswith("| ")]
    titles = {"a learned scale a row": "limit-row-scale", "biases and norms alone tuned, no mask": "limit-norms"}
    for title, run in titles.items():
        row = next(row for row in rows if row[0] == title)  # the usual steps come first
        scores = [last[each]["score"] for each in (run, "mask-10", "full")]
        differences = [f"{100 * (scores[0] - other):+.1f}" for other in scores[1:]]
        assert row[1:5] == ["1", f"{100 * scores[0]:.1f}", *differences]
    [row] = [row for row in rows if row[0] == "masks, scores in proportion to magnitudes"]
    assert row[1:] == [f"{100 * record['score']:.1f}" for record in curve[:-1]]


def test_paths_between_masks(tmp_path: Path) -> None:
    base = make_base(tmp_path / "base")
    dev = write_lines(tmp_path / "dev.jsonl", texts(30))
    masks = [tmp_path / f"{seed}.mask" for seed in range(3)]
    for seed, mask in enumerate(masks):
        make_mask(base, mask, seed=seed, labels=("0", "1"))
    one = mask_paths.states_of(base, masks)[1]
    classifier = open_model_of(base, masks[0], tmp_path / "a")
    data = tokenised(read_texts(str(dev), str(dev), None)[1], classifier, longest=None, source="")
    for name, parameter in classifier.model.named_parameters():
        assert torch.equal(parameter, one[0][name])
    # Both ends of a path are the masks, and one between a mask and itself is level.
    ends = [mask_paths.accuracy(mask_paths.scores_of(classifier, state, data), data) for state in one]
    path = mask_paths.path_of(classifier, one[:2], data)
    assert (path[0], path[-1]) == (ends[0], ends[1])
    assert len(set(mask_paths.path_of(classifier, (one[0], one[0]), data))) == 1
    assert mask_paths.barrier([0.8, 0.9, 0.7, 0.9, 1.0]) == pytest.approx(0.2)
    assert mask_paths.barrier([0.8, 0.9, 0.95, 0.99, 1.0]) == 0
    # A weight is zeroed where most masks zero it, or where any does.
    keeps = [mask_paths.keeps_of(base, mask) for mask in masks]
    weights = dict(open_model_of(base, masks[0], tmp_path / "b").model.named_parameters())
    found = dict(mask_paths.together(base, masks, one))
    for name in keeps[0]:
        votes = sum(keep[name].int() for keep in keeps)
        whole = torch.where(votes > 0, sum(state[name] for state in one) / votes.clamp_min(1), 0.0)
        torch.testing.assert_close(found["zero where most do"][name], torch.where(votes >= 2, whole, 0.0))
        torch.testing.assert_close(found["zero where any does"][name], torch.where(votes == 3, whole, 0.0))
        assert weights[name].shape == whole.shape


def layer_of(kind: type[MaskedLinear]) -> MaskedLinear:
    torch.manual_seed(1)
    return kind(nn.Linear(12, 9), Recipe(initial_sparsity=0.25, initial_score=1.0), Draws(seed=0, steps=10), 0)


def keep_of(layer: MaskedLinear, step: int) -> torch.Tensor:
    layer._draws.step = step
    return layer.keep()


def test_variants_of_masks_do_what_they_say(monkeypatch: pytest.MonkeyPatch) -> None:
    def become(name: str, value: float) -> MaskedLinear:
        monkeypatch.setattr(mask_variants.Variant, "name", name)
        monkeypatch.setattr(mask_variants.Variant, "value", value)
        return layer_of(mask_variants.Variant)

    plain = layer_of(MaskedLinear)
    x = torch.randn(4, 12)
    scaled = become("row-scale", 0.1)
    torch.testing.assert_close(scaled(x), plain(x))
    scaled.get_parameter("row_scale").data = torch.arange(9.0)
    torch.testing.assert_close(scaled(x), (plain(x) - plain.bias) * torch.arange(9.0) + plain.bias)

    normal = become("row-norm", 1)
    keep = normal.keep()
    torch.testing.assert_close(normal.masked(keep).norm(dim=1), normal.weight.norm(dim=1))
    assert torch.equal(normal.masked(keep) == 0, ~keep)

    hard = become("hard-from", 0.5)
    assert torch.equal(keep_of(hard, 4), keep_of(plain, 4))
    assert torch.equal(keep_of(hard, 5), hard.scores > 0)

    sharp = become("sharper", 10)
    scores = sharp.scores.detach().clone()
    assert torch.equal(keep_of(sharp, 0), keep_of(plain, 0))
    plain.scores.data = 10 * scores
    assert torch.equal(keep_of(sharp, 10), keep_of(plain, 10))
    assert torch.equal(sharp.scores, scores)

    # Adam with one second moment: the first step is the rate, times the gradient over its root mean square.
    become("momentum", 2.0)
    tensor = nn.Parameter(torch.zeros(3))
    tensor.grad = torch.tensor([1.0, -2.0, 3.0])
    mask_variants.Momentum([tensor]).step({id(tensor): 0.1})
    torch.testing.assert_close(tensor.data, torch.tensor([1.0, -2.0, 3.0]) * -0.2 / (14 / 3) ** 0.5)
    assert tensor.grad is None


def open_model_of(base: Path, mask: Path, folder: Path) -> Any:
    apply_mask(base, mask, folder)
    return open_model(folder)


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
