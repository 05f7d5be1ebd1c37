"""Descriptions of extractors, architectures and files."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from _toolio.errors import ToolError
from facetools.extractors import listing
from facetools.extractors.architectures.mobilefacenet import SETTINGS, MobileFaceNet
from facetools.extractors.files import save_extractor
from facetools.extractors.registry import architectures


def test_built_in_extractors_are_opened_and_say_why_they_are_not(monkeypatch: pytest.MonkeyPatch) -> None:
    (found,) = listing.built_in()
    assert (found["name"], found["installed"], found["dimensions"]) == ("dlib-resnet", True, 128)

    def missing(*_: object) -> None:
        raise ToolError("the weights are missing")

    monkeypatch.setattr(listing, "open_extractor", missing)
    (found,) = listing.built_in()
    assert (found["installed"], found["reason"]) == (False, "the weights are missing")


def test_architectures_are_installed_where_their_packages_are(monkeypatch: pytest.MonkeyPatch) -> None:
    found = {each["name"]: each for each in listing.known_architectures()}
    assert tuple(found) == architectures()
    assert all(each["summary"] and not each["summary"].endswith(".") for each in found.values())
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    lacking = {each["name"]: each for each in listing.known_architectures() if not each["installed"]}
    assert "onnx" in lacking
    assert lacking["onnx"]["reason"].startswith("needs the packages onnx")


def test_a_file_is_described_by_its_metadata(tmp_path: Path) -> None:
    torch.manual_seed(0)
    path = tmp_path / "mine.safetensors"
    save_extractor(path, "mobilefacenet", MobileFaceNet(8).state_dict(), SETTINGS, {"dimensions": 8, "version": "1"})
    found = listing.describe_file(path)
    assert (found["name"], found["kind"], found["dimensions"], found["version"]) == ("mine", "file", 8, "1")
    assert found["bytes"] == path.stat().st_size
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(ToolError, match="cut short"):
        listing.describe_file(path)
