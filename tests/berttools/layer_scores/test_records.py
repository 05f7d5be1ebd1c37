"""Scores of matrices, from files to records, and on to what is tuned."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from _toolio.errors import ToolError
from _toolio.tensors.reader import read_metadata
from _toolio.tensors.writer import write_safetensors
from berttools.checkpoints.files import open_checkpoint
from berttools.classifier.inference import Inference
from berttools.classifier.model import open_base
from berttools.layer_scores import Criterion, ScoreConfig, score_layers
from berttools.layer_scores.gradients import fisher_diagonals, fisher_norm
from berttools.layer_scores.matrices import ranked_matrices
from berttools.texts.labels import Labels
from berttools.tuning.datasets import read_texts, tokenised
from conftest import Run
from tiny_models import make_base, make_tuned, several, texts, write_lines

CPU = torch.device("cpu")
pytestmark = pytest.mark.usefixtures("one_thread")
BY = ["fisher", "grad", "cosine", "lift"]


def scored(base: Path, train: Path | None, by: str, **more: Any) -> list[dict[str, Any]]:
    config = ScoreConfig(base=base, train=None if by == "lift" else str(train), by=Criterion(by), **more)
    return list(score_layers(config, device=CPU, warn=lambda text: pytest.fail(text)))


@pytest.mark.parametrize("by", BY)
def test_a_record_a_matrix_in_the_order_of_the_files(base: Path, train: Path, by: str) -> None:
    records = scored(base, train, by)
    parts = ranked_matrices(open_checkpoint(base))
    assert [record["name"] for record in records] == [part.name for part in parts]
    assert [(record["layer"], record["group"]) for record in records] == [(part.layer, part.group) for part in parts]
    assert all(next(iter(record)) == "score" and 0 <= record["score"] <= 1 for record in records)
    order = [sorted(range(len(records)), key=lambda n, key=key: records[n][key]) for key in ("score", "value")]
    assert order[0] == order[1], "the score ranks as the criterion does"
    assert {record.get("texts") for record in records} == {None if by == "lift" else 40}
    if by in ("fisher", "grad"):
        assert sum(record["score"] for record in records) == pytest.approx(1)


@pytest.mark.parametrize("by", BY)
@pytest.mark.parametrize("kind", ["distilbert", "roberta", "electra", "modernbert", "gpt2"])
def test_every_architecture_is_scored(tmp_path: Path, train: Path, kind: str, by: str) -> None:
    records = scored(make_base(tmp_path / "base", kind), train, by, texts=6)
    assert len(records) >= 18
    # Of so small matrices LIFT's shares are whole numbers of a few entries.
    least = {"cosine": 3, "lift": 10}.get(by, len(records))
    assert least <= len({record["value"] for record in records}) <= (3 if by == "cosine" else len(records))
    fused = kind in ("modernbert", "gpt2")
    assert any("part" in record for record in records) == fused


def test_fisher_information_is_of_the_texts_that_the_seed_draws_and_of_the_head_that_it_makes(
    base: Path, train: Path
) -> None:
    found = {record["name"]: record["value"] for record in scored(base, train, "fisher", texts=7, seed=5)}
    every, _ = read_texts(str(train), None, None)
    drawn = sorted(np.random.default_rng(5).permutation(40)[:7])
    classifier = open_base(base, Labels(("0", "1")), seed=5)
    data = tokenised([every[n] for n in drawn], classifier, longest=None, source="x")
    named = {f"bert.{name}": name for name in found}
    parameters = {name: each for name, each in classifier.model.named_parameters() if name in named}
    for name, diagonal in fisher_diagonals(Inference(classifier, CPU), data, parameters).items():
        assert found[named[name]] == fisher_norm(diagonal)
    other = {record["name"]: record["value"] for record in scored(base, train, "fisher", texts=7, seed=6)}
    assert all(other[name] != value for name, value in found.items())


@pytest.mark.parametrize("by", BY)
def test_the_same_arguments_give_the_same_numbers(base: Path, train: Path, by: str) -> None:
    assert scored(base, train, by) == scored(base, train, by)


@pytest.mark.parametrize("by", ["grad", "cosine"])
def test_the_batch_changes_rounding_only(base: Path, train: Path, by: str) -> None:
    one, other = (scored(base, train, by, batch=batch) for batch in (1, 32))
    assert [r["value"] for r in one] == pytest.approx([r["value"] for r in other], rel=1e-4)


def test_parts_of_a_fused_matrix_are_scored_apart(tmp_path: Path, train: Path) -> None:
    base = make_base(tmp_path / "base", "gpt2")
    name = "h.1.attn.c_attn.weight"
    for by in ("fisher", "lift"):
        parts = {r["group"]: r["value"] for r in scored(base, train, by) if r["name"] == name}
        assert [*parts] == ["Q", "K", "V"]
        assert len({*parts.values()}) == 3
    # As transformers has it the three stand in one parameter; what is squared and added up is the same.
    classifier = open_base(base, Labels(("0", "1")))
    data = tokenised(read_texts(str(train), None, None)[0], classifier, longest=None, source="x")
    whole = dict(classifier.model.named_parameters())[f"transformer.{name}"]
    diagonal = fisher_diagonals(Inference(classifier, CPU), data, {"x": whole})["x"]
    squares = [r["value"] ** 2 for r in scored(base, train, "fisher") if r["name"] == name]
    assert sum(squares) == pytest.approx(fisher_norm(diagonal) ** 2, rel=1e-5)


def test_a_fitted_head_changes_gradients_and_not_the_base(base: Path, train: Path) -> None:
    before = (base / "model.safetensors").read_bytes()
    drawn, fitted = (scored(base, train, "grad", fit_head=steps) for steps in (0, 3))
    assert [r["fit_head"] for r in (drawn[0], fitted[0])] == [0, 3]
    assert all(one["value"] != other["value"] for one, other in zip(drawn, fitted, strict=True))
    assert (base / "model.safetensors").read_bytes() == before


@pytest.mark.parametrize("by", ["fisher", "grad"])
def test_regression_and_lists_of_labels(base: Path, tmp_path: Path, by: str) -> None:
    numbers = write_lines(tmp_path / "numbers.jsonl", texts(20, numbers=True))
    lists = write_lines(tmp_path / "lists.jsonl", several(20))
    found = [[r["value"] for r in scored(base, path, by)] for path in (numbers, lists)]
    assert all(value > 0 for values in found for value in values)
    assert found[0] != found[1]


def test_a_base_with_a_head_keeps_it(base: Path, train: Path, tmp_path: Path) -> None:
    tuned = make_tuned(base, tmp_path / "tuned")
    own, again = (scored(tuned, train, "fisher", new_head=new) for new in (False, True))
    assert own[0]["name"].startswith("bert.")
    assert [r["value"] for r in own] != [r["value"] for r in again]
    assert [r["value"] for r in scored(tuned, train, "fisher", seed=0)] == [r["value"] for r in own]


def test_weights_that_are_not_finite_are_refused(tmp_path: Path, train: Path) -> None:
    base = make_base(tmp_path / "base")
    state = {name: np.array(t) for name, t in _arrays(base).items()}
    name = "encoder.layer.1.attention.self.key.weight"
    state[name][0, 0] = np.nan
    write_safetensors(base / "model.safetensors", state)
    for by in BY:
        with pytest.raises(ToolError, match=f"{name} has .*NaN"):
            scored(base, train, by)


def _arrays(base: Path) -> dict[str, Any]:
    from safetensors.numpy import load_file

    return load_file(base / "model.safetensors")


@pytest.mark.parametrize("by", BY)
def test_the_pipe_tunes_what_ranks_first(
    berttools: Callable[..., Run], base: Path, train: Path, tmp_path: Path, by: str
) -> None:
    words = [] if by == "lift" else ["--train", train]
    done = berttools("score-layers", "--base", base, "--by", by, *words)
    assert (done.code, done.err) == (0, "")
    lines = sorted(done.out.splitlines(), reverse=True)[:4]
    out = tmp_path / "some.safetensors"
    tune = ["--only", "-", "--train", train, "--max-steps", "2", "--save", "delta", "--out", out]
    assert berttools("finetune", "--base", base, *tune, stdin=b"\n".join(lines)).code == 0
    tuned = {name.removeprefix("bert.") for name in read_metadata(out)["made"]["tuned"]}
    ranked = [json.loads(line)["name"] for line in lines]
    assert set(ranked) == {name for name in tuned if "encoder" in name}
    records = [json.loads(line) for line in done.out.splitlines()]
    least = min(record["score"] for record in records if record["name"] in ranked)
    assert all(record["score"] <= least for record in records if record["name"] not in ranked)
