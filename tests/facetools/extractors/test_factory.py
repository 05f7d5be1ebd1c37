"""Extractors by name and by file."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from _toolio.errors import ToolError, UsageError
from facetools.extractors.architectures.mobilefacenet import SETTINGS, MobileFaceNet
from facetools.extractors.factory import check_extractor, open_extractor, open_extractors
from facetools.extractors.files import save_extractor

CPU = torch.device("cpu")


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    state = MobileFaceNet(8).state_dict()
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        save_extractor(tmp_path / folder / "small.safetensors", "mobilefacenet", state, SETTINGS, {"dimensions": 8})
    return tmp_path


def test_a_name_or_a_file(saved: Path) -> None:
    check_extractor("dlib-resnet")
    check_extractor(str(saved / "a" / "small.safetensors"))
    assert open_extractor(str(saved / "a" / "small.safetensors"), CPU).dimensions == 8
    with pytest.raises(UsageError, match=r"^extractor nope: neither a file nor one of dlib-resnet"):
        open_extractor("nope", CPU)
    with pytest.raises(UsageError, match=r"^robust nope: neither a file nor"):
        check_extractor("nope", "robust")


def test_each_is_opened_once_and_names_differ(saved: Path) -> None:
    one, other = (str(saved / folder / "small.safetensors") for folder in ("a", "b"))
    assert [extractor.name for extractor in open_extractors([one, one], CPU)] == ["small"]
    with pytest.raises(ToolError, match="two extractors are called small; rename one of the files"):
        open_extractors([one, other], CPU)
