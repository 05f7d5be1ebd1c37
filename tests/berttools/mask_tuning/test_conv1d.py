"""GPT-2's Conv1D, whose matrices are stored as [inputs, outputs], is masked and tuned as linear layers are."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from _toolio.tensors.reader import open_safetensors
from berttools.checkpoints.files import open_checkpoint
from berttools.classifier.model import open_model
from berttools.masks import open_mask
from conftest import Run
from tiny_models import make_base, make_tuned

pytestmark = pytest.mark.usefixtures("one_thread")
FUSED, OUT = "h.0.attn.c_attn.weight", "h.1.mlp.c_proj.weight"
IDS = torch.tensor([[5, 9, 13, 7], [6, 4, 0, 0]])


@pytest.fixture(scope="module")
def gpt2(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_base(tmp_path_factory.mktemp("gpt2") / "base", "gpt2")


def said_by(folder: Path) -> torch.Tensor:
    with torch.inference_mode():
        found: torch.Tensor = open_model(folder).model(input_ids=IDS, attention_mask=(IDS > 0).long()).logits
    return found


@pytest.mark.parametrize("pattern", ["free", "2:4", "row"])
def test_a_mask_of_every_matrix_from_texts_to_predictions(
    berttools: Callable[..., Run], gpt2: Path, train: Path, dev: Path, tmp_path: Path, pattern: str
) -> None:
    mask, folder = tmp_path / "m.safetensors", tmp_path / "model"
    words = ["--base", gpt2, "--train", train, "--dev", dev, "--max-steps", "6", "--evaluate-every", "6"]
    words += ["--method", "threshold", "--initial-sparsity", "0.3"] if pattern == "free" else ["--pattern", pattern]
    words += ["--score-lr", "0.01", "--device", "cpu", "--out", mask]
    tuned = berttools("mask-tune", *words)
    assert tuned.code == 0, tuned.err
    opened = open_mask(mask)
    assert opened.shapes[f"transformer.{FUSED}"] == (16, 48)
    assert opened.shapes[f"transformer.{OUT}"] == (32, 16)
    assert len(opened.names) == 3 * 4
    assert berttools("apply-mask", gpt2, mask, "--out", folder).code == 0
    base, applied = open_checkpoint(gpt2), open_checkpoint(folder)
    for name in opened.names:
        stored = name.removeprefix("transformer.")
        keep = applied.flat(name).values(0, 10_000) != 0
        values = base.flat(stored).values(0, 10_000)
        assert np.array_equal(applied.flat(name).values(0, 10_000), np.where(keep, values, 0.0))
        if pattern == "2:4":  # two of each four inputs of an output: down the columns here
            each = keep.reshape(opened.shapes[name]).T.reshape(-1, 4).sum(1)
            assert (each == 2).all()
    # transformers opens what was written, and it predicts what was measured while tuning.
    predicted = berttools("predict", folder, "--in", dev)
    assert predicted.code == 0, predicted.err
    gold = [json.loads(line)["label"] for line in dev.read_text().splitlines()]
    right = np.mean([str(one["label"]) == str(two) for one, two in zip(predicted.records, gold, strict=True)])
    assert right == pytest.approx(tuned.records[-1]["score"], abs=1e-6)
    over = berttools("predict", "--base", gpt2, "--mask", mask, "--in", dev)
    assert [record["label"] for record in over.records] == [record["label"] for record in predicted.records]
    groups = berttools("maskdiff", mask, "--base", gpt2, "--by", "group").records
    assert [record["group"] for record in groups] == ["Q", "K", "V", "AO", "I", "O"]
    control = berttools("mask-control", gpt2, mask, "--kind", "magnitude", "--out", tmp_path / "c.safetensors")
    assert control.code == 0, control.err
    drawn = open_mask(tmp_path / "c.safetensors")
    if pattern == "2:4":
        assert berttools("apply-mask", gpt2, drawn.path, "--out", tmp_path / "c").code == 0
        kept = open_checkpoint(tmp_path / "c").flat(f"transformer.{FUSED}").values(0, 768) != 0
        assert (kept.reshape(16, 48).T.reshape(-1, 4).sum(1) == 2).all()


def test_what_is_unmasked_predicts_what_the_masked_model_predicts(gpt2: Path, tmp_path: Path) -> None:
    from transformers.pytorch_utils import Conv1D

    from berttools.mask_tuning.convert import can_mask, mask_model, stored_transposed, unmask_model
    from berttools.mask_tuning.draws import Draws
    from berttools.mask_tuning.recipe import Recipe

    model = open_model(make_tuned(gpt2, tmp_path / "tuned")).model
    before = {name: each.detach().clone() for name, each in model.named_parameters()}
    names = [name for name in before if ".c_" in name and can_mask(model, name)]
    state = torch.random.get_rng_state()
    scores = mask_model(model, names, Recipe(initial_sparsity=0.4), Draws(0, 10))
    model.eval()
    with torch.inference_mode():
        masked = model(input_ids=IDS).logits
    assert stored_transposed(model, scores) == sorted(names)
    keeps = unmask_model(model, scores)
    assert torch.equal(torch.random.get_rng_state(), state)
    with torch.inference_mode():
        torch.testing.assert_close(model(input_ids=IDS).logits, masked)
    for name in names:
        assert isinstance(model.get_submodule(name.rpartition(".")[0]), Conv1D)
        assert torch.equal(model.get_parameter(name), before[name] * torch.from_numpy(keeps[name]))


@pytest.mark.parametrize("save", ["model", "delta"])
def test_columns_of_a_fused_matrix_that_records_name_are_tuned(
    berttools: Callable[..., Run], gpt2: Path, train: Path, dev: Path, tmp_path: Path, save: str
) -> None:
    other = make_tuned(gpt2, tmp_path / "other")
    ranked = berttools("layerdiff", "--matrices", gpt2, other).records
    chosen = [each for each in ranked if each["group"] == "V" or each["name"] == OUT]
    (tmp_path / "chosen.jsonl").write_text("".join(json.dumps(each) + "\n" for each in chosen))
    words = ["--base", gpt2, "--only", "-", "--train", train, "--max-steps", "3", "--save", save]
    words += ["--freeze", "score", "--lr", "0.01", "--device", "cpu", "--out", tmp_path / "out"]
    done = berttools("finetune", *words, stdin=(tmp_path / "chosen.jsonl").read_bytes())
    assert done.code == 0, done.err
    if save == "delta":
        assert f"transformer.{FUSED}" in open_safetensors(tmp_path / "out").entries
        assert berttools("apply-delta", gpt2, tmp_path / "out", "--out", tmp_path / "whole").code == 0
    tuned, base = open_checkpoint(tmp_path / ("whole" if save == "delta" else "out")), open_checkpoint(gpt2)
    moved = tuned.flat(f"transformer.{FUSED}").values(0, 768) != base.flat(FUSED).values(0, 768)
    assert not moved.reshape(16, 48)[:, :32].any()
    assert moved.reshape(16, 48)[:, 32:].any()
    assert said_by(tmp_path / ("whole" if save == "delta" else "out")).isfinite().all()
