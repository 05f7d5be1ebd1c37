"""8-bit weights are read as the weights that they represent."""

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from _toolio.errors import InputError
from berttools.checkpoints.files import open_checkpoint
from berttools.checkpoints.quantized import with_scales
from berttools.layerdiff.diffs import diff_checkpoints
from berttools.layerdiff.distances import tensor_distance


def quantise(values):
    scales = np.abs(values).max(1, keepdims=True) / 127
    return np.round(values / scales).astype(np.int8), scales.astype(np.float32)


@pytest.mark.parametrize("kind", ["SCB", "weight_scale", "one scale"])
def test_int8_weights_are_scaled(tmp_path, kind):
    exact = np.random.default_rng(0).normal(size=(30, 20)).astype(np.float32)
    integers, scales = quantise(exact)
    beside = {"SCB": scales[:, 0] * 127, "weight_scale": scales, "one scale": np.float32([0.02])}[kind]
    name = "SCB" if kind == "SCB" else "weight_scale"
    save_file({"layer.0.fc1.weight": torch.from_numpy(exact)}, tmp_path / "base.safetensors")
    tensors = {"layer.0.fc1.weight": torch.from_numpy(integers), f"layer.0.fc1.{name}": torch.from_numpy(beside)}
    save_file(tensors, tmp_path / "ft.safetensors")
    base, ft = (with_scales(open_checkpoint(tmp_path / f"{model}.safetensors")) for model in ("base", "ft"))
    (diff,) = diff_checkpoints(base, ft)
    stood_for = integers.astype(np.float64) * (0.02 if kind == "one scale" else scales.astype(np.float64))
    assert diff.distance.rel_l2 == pytest.approx(tensor_distance(exact, stood_for).rel_l2, rel=1e-6)
    assert diff.distance.rel_l2 < 0.01 or kind == "one scale"
    assert diff.dtype_ft == "I8"


def test_zero_points_and_plain_integers(tmp_path):
    integers = torch.arange(6, dtype=torch.int8).reshape(2, 3)
    save_file({"a.weight": integers}, tmp_path / "plain.safetensors")
    plain = open_checkpoint(tmp_path / "plain.safetensors")
    assert with_scales(plain) is plain
    tensors = {"a.weight": integers, "a.weight_scale": torch.ones(2), "a.weight_zero_point": torch.ones(2).char()}
    save_file(tensors, tmp_path / "shifted.safetensors")
    shifted = with_scales(open_checkpoint(tmp_path / "shifted.safetensors"))
    assert list(shifted.tensors) == ["a.weight"]
    with pytest.raises(InputError, match="zero points"):
        shifted.flat("a.weight")
