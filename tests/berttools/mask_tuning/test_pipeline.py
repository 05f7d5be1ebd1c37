"""Mask tuning from Python: records, warnings, the file."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import pytest
import torch

from _toolio.errors import ToolError, UsageError
from berttools import mask_tuning
from berttools.classifier.inference import Inference
from berttools.classifier.masked import MaskedModels
from berttools.classifier.model import open_base, open_model
from berttools.mask_tuning import MaskTuneConfig
from berttools.mask_tuning.pipeline import MaskTuneRun
from berttools.mask_tuning.recipe import Method
from berttools.masks.apply import apply_mask
from berttools.masks.file import open_mask
from tiny_models import NOTHING_LEARNED

CutOff = Callable[..., AbstractContextManager[None]]
CPU = torch.device("cpu")
pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def config(base: Path, train: Path, dev: Path, tmp_path: Path) -> MaskTuneConfig:
    return MaskTuneConfig(
        base=base, train=str(train), dev=str(dev), out=tmp_path / "a.mask", max_steps=4, evaluate_every=2, batch=8,
        initial_sparsity=0.25, score_learning_rate=2.0, group="Q,V",
    )  # fmt: skip


def test_masks_are_written_with_their_figures(
    config: MaskTuneConfig, capfd: pytest.CaptureFixture[str], recwarn: pytest.WarningsRecorder
) -> None:
    *rounds, last = mask_tuning.mask_tune(config, device=CPU)
    assert capfd.readouterr() == ("", "")
    assert all(NOTHING_LEARNED.search(str(each.message)) for each in recwarn.list)
    assert [record["step"] for record in rounds] == [2, 4]
    assert all(max(record["score_at_threshold"], record["score_of_draw"]) == record["score"] for record in rounds)
    mask = open_mask(config.out)
    assert len(mask.names) == last["matrices"] == 6
    assert 0.1 < last["sparsity"] < 0.5
    assert mask.made["recipe"]["initial_sparsity"] == 0.25
    assert list(mask_tuning.mask_tune(dataclasses.replace(config, resume=True), device=CPU)) == [last]


NORMS = [r"layer\.[12]\..*LayerNorm", r"value\.bias$"]


def test_other_tensors_are_tuned_beside_masks_and_stored_whole(
    config: MaskTuneConfig, base: Path, tmp_path: Path
) -> None:
    beside = dataclasses.replace(config, beside=NORMS, freeze=["layer.2.output"], refit_head=True, max_steps=20)
    run = MaskTuneRun(beside, CPU, warn=[].append)
    *_, last = run.records()
    before = dict(open_base(base, None).model.named_parameters())
    mask = open_mask(config.out)
    norms = {name for name in before if re.search(r"layer\.[12]\..*LayerNorm", name) and "layer.2.output" not in name}
    values = {name for name in before if name.endswith("value.bias")}
    assert set(mask.dense) - {"classifier.weight", "classifier.bias"} == norms | values
    assert all((mask.dense[name] != before[name].detach().numpy()).any() for name in norms | values)
    assert last["dense_bytes"] == sum(each.nbytes for each in mask.dense.values())
    assert mask.made["recipe"]["beside"] == NORMS

    # What was measured is what is stored, however it is opened.
    apply_mask(base, config.out, tmp_path / "applied")
    shared = MaskedModels(base, {"mood": config.out}).switch("mood")
    assert run.dev is not None
    logits = [
        Inference(each, CPU).logits(run.dev.texts).tobytes()
        for each in (run.classifier, open_model(tmp_path / "applied"), shared)
    ]
    assert logits[0] == logits[1] == logits[2]
    assert "and so were tensors whose names match `layer" in (tmp_path / "applied" / "README.md").read_text()


def test_what_is_tuned_beside_masks_must_be_there(config: MaskTuneConfig) -> None:
    with pytest.raises(ToolError, match=r"beside query.weight: matches no tensor of .* that is not masked or of the h"):
        mask_tuning.mask_tune(dataclasses.replace(config, beside=["query.weight"]), device=CPU)


def test_a_cut_off_run_of_all_options_goes_on_as_it_was(
    config: MaskTuneConfig, tmp_path: Path, cut_off: CutOff
) -> None:
    every = dataclasses.replace(config, beside=NORMS, distance="magnitude", refit_head=True)
    heard: list[str] = []

    def tuned(config: MaskTuneConfig) -> list[dict[str, object]]:
        return [{**each, "path": None} for each in mask_tuning.mask_tune(config, device=CPU, warn=heard.append)]

    whole = tuned(every)
    cut = dataclasses.replace(every, out=tmp_path / "cut.mask")
    with cut_off(before=3), pytest.raises(KeyboardInterrupt):
        tuned(cut)
    for other, named in (({"distance": "even"}, "recipe .distance was .magnitude"), ({"beside": NORMS[:1]}, "tuned")):
        with pytest.raises(UsageError, match=f"made with other {named}"):
            tuned(dataclasses.replace(cut, resume=True, **other))
    assert tuned(dataclasses.replace(cut, resume=True)) == whole
    assert cut.out.read_bytes() == config.out.read_bytes()


def test_warnings_are_handed_to_the_caller(config: MaskTuneConfig) -> None:
    heard: list[str] = []
    slow = dataclasses.replace(config, score_learning_rate=1e-3, group=None, only=[r"layer\.1"])
    mask_tuning.mask_tune(slow, device=CPU, warn=heard.append)
    assert heard[0] == "10 of 16 tensors that were chosen are no matrices of linear layers: they stay"
    assert heard[1].endswith("few cross 0; try more steps or a higher score_learning_rate")
    with pytest.warns(UserWarning, match="few cross 0"):
        mask_tuning.mask_tune(dataclasses.replace(slow, only=None, group="Q"), device=CPU)


def test_there_may_be_nothing_to_mask(config: MaskTuneConfig) -> None:
    with pytest.raises(ToolError, match=r"there is nothing to mask: .*; choose others with only"):
        mask_tuning.mask_tune(dataclasses.replace(config, group=None, only=["LayerNorm"]), device=CPU)


def test_topk_is_ranked_at_its_target(config: MaskTuneConfig) -> None:
    rising = dataclasses.replace(config, method=Method.topk, target_sparsity=0.5, max_steps=5, evaluate_every=1)
    *rounds, last = mask_tuning.mask_tune(rising, device=CPU)
    assert [record["inference"] for record in rounds] == 5 * ["threshold"]
    assert last["step"] >= 4
    assert last["sparsity"] == pytest.approx(0.5)
