"""Weight files of other projects."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import safetensors.torch
import torch

from _toolio.errors import ToolError
from facetools.extractors.architectures.mobilefacenet import SETTINGS, MobileFaceNet
from facetools.extractors.convert.read import read_weights
from facetools.extractors.files import save_extractor


def test_every_group_of_tensors_is_found_by_its_place(tmp_path: Path) -> None:
    inner = {"a": torch.ones(2), "b": torch.zeros(1)}
    torch.save({"epoch": 3, "model": {"net": inner, "name": "x"}, "c": torch.ones(3), 5: inner}, tmp_path / "w.pth")
    weights = read_weights(tmp_path / "w.pth")
    assert {place: sorted(group) for place, group in weights.containers.items()} == {"": ["c"], "model.net": ["a", "b"]}
    assert (weights.architecture, weights.settings, weights.options) == (None, None, {})


def test_safetensors_of_others_and_extractor_files(tmp_path: Path) -> None:
    safetensors.torch.save_file({"a": torch.ones(2, dtype=torch.bfloat16)}, tmp_path / "x.safetensors")
    weights = read_weights(tmp_path / "x.safetensors")
    assert weights.containers[""]["a"].dtype == torch.float32
    assert weights.architecture is None
    torch.manual_seed(0)
    save_extractor(tmp_path / "y.safetensors", "mobilefacenet", MobileFaceNet(8).state_dict(), SETTINGS, {})
    weights = read_weights(tmp_path / "y.safetensors")
    assert (weights.architecture, weights.settings) == ("mobilefacenet", SETTINGS)
    safetensors.torch.save_file({}, tmp_path / "z.safetensors")
    with pytest.raises(ToolError, match=r"z\.safetensors: no tensor in it"):
        read_weights(tmp_path / "z.safetensors")


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("w.h5", b"x", r"\.h5 is of no known kind; give \.pth"),
        ("w", b"x", "no ending is of no known kind"),
        ("w.onnx", b"", r"w\.onnx: empty; copy it again"),
        ("gone.pth", None, r"gone\.pth: no such file"),
    ],
)
def test_files_that_are_not_read(tmp_path: Path, name: str, data: bytes | None, message: str) -> None:
    if data is not None:
        (tmp_path / name).write_bytes(data)
    with pytest.raises(ToolError, match=message):
        read_weights(tmp_path / name)


def test_folders_whose_index_leads_elsewhere_or_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(ToolError, match=r"no config\.json in it"):
        read_weights(tmp_path)
    config = {
        "model_type": "clip_vision_model", "hidden_size": 8, "intermediate_size": 16, "num_attention_heads": 2,
        "num_hidden_layers": 1, "image_size": 32, "patch_size": 16, "projection_dim": 4, "num_channels": 3,
        "hidden_act": "quick_gelu", "layer_norm_eps": 1e-5,
    }  # fmt: skip
    (tmp_path / "config.json").write_text(json.dumps(config))
    index = {"weight_map": {"a": "../outside.safetensors"}}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(ToolError, match=r"no model\.safetensors, whole or in shards, and no pytorch_model\.bin"):
        read_weights(tmp_path)
