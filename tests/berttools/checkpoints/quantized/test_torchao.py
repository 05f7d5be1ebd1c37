"""torchao's tensors, saved as transformers saves them and dequantized by torchao."""

import json

import numpy as np
import pytest
import torch
from torch import nn

from _toolio.errors import InputError
from quantized_models import opened, save, weight

torchao = pytest.importorskip("torchao.quantization")

P = "layer.0.fc1."


def saved(folder, tensor):
    """Save one weight of torchao's under the names that transformers uses."""
    from torchao.prototype.safetensors.safetensors_support import flatten_tensor_state_dict

    held, metadata = flatten_tensor_state_dict({f"{P}weight": tensor, f"{P}bias": torch.ones(3)})
    return save(folder, held, {"quant_method": "torchao"}, {**metadata, "format": "pt"})


def quantized(config, shape=(48, 64)):
    layer = nn.Sequential(nn.Linear(shape[1], shape[0], bias=False))
    layer[0].weight.data.copy_(torch.randn(shape, generator=torch.Generator().manual_seed(0)))
    torchao.quantize_(layer, config)
    return layer[0].weight.data


@pytest.mark.parametrize(
    "config",
    [
        lambda: torchao.Int8WeightOnlyConfig(),
        lambda: torchao.Int8DynamicActivationInt8WeightConfig(),
        lambda: torchao.Float8WeightOnlyConfig(),
        lambda: torchao.IntxWeightOnlyConfig(weight_dtype=torch.int4, granularity=torchao.PerGroup(32)),
        lambda: torchao.IntxWeightOnlyConfig(
            weight_dtype=torch.int8, granularity=torchao.PerAxis(0), mapping_type=torchao.MappingType.ASYMMETRIC
        ),
    ],
)
def test_layouts(tmp_path, config):
    tensor = quantized(config())
    folder = saved(tmp_path / "m", tensor)
    np.testing.assert_allclose(weight(folder), tensor.dequantize().double().numpy(), rtol=1e-6)
    assert list(opened(folder).tensors) == [f"{P}bias", f"{P}weight"]


@pytest.mark.parametrize("dtype", [torch.float8_e4m3fn, torch.float8_e5m2])
def test_mx(tmp_path, dtype):
    from torchao.prototype.mx_formats.mx_tensor import MXTensor

    tensor = MXTensor.to_mx(torch.randn(16, 64), dtype, 32)
    found = weight(saved(tmp_path / "m", tensor))
    np.testing.assert_allclose(found, tensor.dequantize(torch.float32).double().numpy(), rtol=0)


def test_what_is_not_read_is_named(tmp_path):
    tensor = quantized(torchao.Int8WeightOnlyConfig())
    folder = saved(tmp_path / "m", tensor)
    parts = {f"{P}_weight_qdata": tensor.qdata, f"{P}_weight_scale": tensor.scale}
    with pytest.raises(InputError, match="metadata does not say"):
        weight(save(tmp_path / "bare", parts))
    said = {"_type": "Int4Tensor", "_data": {"block_size": [1, 64]}}
    with pytest.raises(InputError, match="Int4Tensor is not read"):
        weight(save(tmp_path / "four", parts, metadata={f"{P}weight": json.dumps(said)}))
    said = {"_type": "Int8Tensor", "_data": {"block_size": [1, 32]}}
    with pytest.raises(InputError, match=r"shape \[48, 1\], which is not that of blocks of 1 by 32"):
        weight(save(tmp_path / "other", parts, metadata={f"{P}weight": json.dumps(said)}))
    said["_data"]["block_size"] = [1, 64]
    more = parts | {f"{P}_weight_act_pre_scale": torch.ones(64)}
    with pytest.raises(InputError, match="_weight_act_pre_scale beside it, of no known format"):
        weight(save(tmp_path / "scaled", more, metadata={f"{P}weight": json.dumps(said)}))
    assert folder.is_dir()
