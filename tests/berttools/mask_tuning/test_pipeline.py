"""Mask tuning from Python: records, warnings, the file."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch

from _toolio.errors import ToolError
from berttools import mask_tuning
from berttools.mask_tuning import MaskTuneConfig
from berttools.mask_tuning.recipe import Method
from berttools.masks.file import open_mask
from tiny_models import NOTHING_LEARNED

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
