"""Architectures recognised by their tensors."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from _toolio.errors import UsageError
from facetools.extractors.architectures.mobilefacenet import MobileFaceNet
from facetools.extractors.convert.match import MismatchError, match
from facetools.extractors.convert.read import SourceWeights


@pytest.fixture(scope="module")
def state() -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    return dict(MobileFaceNet(16, (4, 4)).state_dict())


def weights(state: dict[str, torch.Tensor], place: str = "", **more: str) -> SourceWeights:
    return SourceWeights(Path("w.pth"), {place: state}, "f" * 64, **more)  # type: ignore[arg-type]


def test_the_prefix_and_the_place_are_found(state: dict[str, torch.Tensor]) -> None:
    wrapped = {f"module.backbone.{key}": value for key, value in state.items()} | {"head.weight": torch.zeros(9, 16)}
    fit = match(weights(wrapped, "state_dict"), None)
    assert (fit.architecture, fit.container, fit.prefix) == ("mobilefacenet", "state_dict", "module.backbone.")
    assert (fit.left_out, fit.trouble, fit.problems) == (1, "", ())
    assert fit.matched == len(fit.state) == sum(not key.endswith("num_batches_tracked") for key in state)


def test_what_does_not_match_is_named(state: dict[str, torch.Tensor]) -> None:
    gone = next(key for key in state if key.endswith("weight"))
    fewer = {key: value for key, value in state.items() if key != gone}
    with pytest.raises(MismatchError, match=r"^w\.pth: not a usable mobilefacenet: .*; try another architecture"):
        match(weights(fewer), "mobilefacenet")
    with pytest.raises(
        MismatchError, match=r"of no known architecture; the nearest is .*; try architecture$"
    ) as caught:
        match(weights({**state, "more": torch.zeros(3)}), None)
    assert [(each.problem, each.key) for each in caught.value.fit.problems] == [("unknown", "more")]
    with pytest.raises(MismatchError, match="of no known architecture; `facetools extractors` lists"):
        match(weights({"x": torch.zeros(3)}), None)


def test_a_file_that_names_its_architecture_is_of_no_other(state: dict[str, torch.Tensor]) -> None:
    assert match(weights(state, architecture="mobilefacenet"), None).architecture == "mobilefacenet"
    with pytest.raises(UsageError, match=r"^architecture iresnet: w\.pth is of mobilefacenet; leave it out"):
        match(weights(state, architecture="mobilefacenet"), "iresnet")
