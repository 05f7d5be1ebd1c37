"""Packed codes, against compressed-tensors and transformers."""

import numpy as np
import pytest
import torch
from compressed_tensors.compressors import BaseCompressor
from compressed_tensors.compressors.pack_quantized import unpack_from_int32
from compressed_tensors.quantization import QuantizationArgs, QuantizationScheme
from compressed_tensors.quantization.lifecycle.forward import dequantize
from transformers.integrations.mxfp4 import convert_moe_packed_tensors

from _toolio.errors import InputError
from quantized_models import normal, opened, save, weight

P = "layer.0.fc1."
SHAPE = (37, 96)


def config_of(scheme, form):
    groups = {"group_0": scheme.model_dump(mode="json")}
    return {"quant_method": "compressed-tensors", "format": form, "config_groups": groups}


def packed(bits, group, symmetric, shape=SHAPE):
    """Quantize as compressed-tensors does: tensors, scheme, and the weight in float64 by the library."""
    strategy = {"strategy": "group", "group_size": group} if group else {"strategy": "channel"}
    args = QuantizationArgs(num_bits=bits, type="int", symmetric=symmetric, **strategy)
    scheme = QuantizationScheme(targets=["Linear"], weights=args)
    grid, draw = (shape[0], shape[1] // group if group else 1), torch.Generator().manual_seed(bits)
    before = {"weight": normal(*shape), "weight_scale": torch.rand(grid, generator=draw) + 0.1}
    top = 1 << (bits - 1)
    if not symmetric:
        before["weight_zero_point"] = torch.randint(-top, top, grid, dtype=torch.int8, generator=draw)
    compressor = BaseCompressor.get_value_from_registry("pack-quantized")
    held = compressor.compress(before, scheme)
    codes = unpack_from_int32(held["weight_packed"], bits, shape)
    exact = dequantize(codes, before["weight_scale"].double(), before.get("weight_zero_point"), args)
    np.testing.assert_allclose(compressor.decompress(held, scheme)["weight"].numpy(), exact.numpy(), rtol=1e-6)
    return {P + name: each for name, each in held.items()}, config_of(scheme, "pack-quantized"), exact.numpy()


@pytest.mark.parametrize("bits", range(1, 9))
@pytest.mark.parametrize(("group", "symmetric"), [(None, True), (32, True), (32, False), (None, False)])
def test_packed_integers(tmp_path, bits, group, symmetric):
    tensors, config, exact = packed(bits, group, symmetric)
    folder = save(tmp_path / "m", tensors, config)
    np.testing.assert_allclose(weight(folder), exact, rtol=1e-15)
    assert list(opened(folder).tensors) == [f"{P}weight"]
    if 32 % bits == 0:  # the file alone says enough
        (folder / "config.json").unlink()
        np.testing.assert_allclose(weight(folder), exact, rtol=1e-15)


def test_packed_integers_that_are_not_certain(tmp_path):
    tensors, config, exact = packed(4, 32, symmetric=True)
    order = torch.randperm(3).repeat_interleave(32)[torch.randperm(96)].int()
    scales = tensors[f"{P}weight_scale"].double()
    codes = exact / scales.repeat_interleave(32, 1).numpy()
    found = weight(save(tmp_path / "g", tensors | {f"{P}weight_g_idx": order}, config))
    np.testing.assert_allclose(found, codes * scales[:, order.long()].numpy(), rtol=1e-14)
    none = torch.full((96,), -1, dtype=torch.int32)
    np.testing.assert_allclose(weight(save(tmp_path / "h", tensors | {f"{P}weight_g_idx": none}, config)), exact)
    damaged = {
        "one of 3 groups": {f"{P}weight_g_idx": order + 1},
        "has shape": {f"{P}weight_scale": torch.ones(37, 5)},
        "two sides": {f"{P}weight_shape": torch.tensor([37 * 96])},
        "there are 37 rows": {f"{P}weight_shape": torch.tensor([40, 96])},
        "no certain number of bits": {f"{P}weight_shape": torch.tensor([37, 88])},
        "no zero point": {f"{P}weight_zero_point": torch.ones(37, 5, dtype=torch.int8)},
        "weight_scale is missing": {f"{P}weight_scale": torch.ones(37, 3, dtype=torch.int8)},
        "meta beside it": {f"{P}meta": torch.ones(3)},
    }
    for number, (why, more) in enumerate(damaged.items()):
        with pytest.raises(InputError, match=why):
            weight(save(tmp_path / str(number), tensors | more, config))


def floats(form, bits, group, times_global=None):
    """Quantize to small floats as compressed-tensors does."""
    strategy = "tensor_group" if times_global else "group"
    args = QuantizationArgs(num_bits=bits, type="float", symmetric=True, strategy=strategy, group_size=group)
    scheme = QuantizationScheme(targets=["Linear"], weights=args)
    scales = torch.rand(37, 96 // group, generator=torch.Generator().manual_seed(1)) + 0.2
    if not times_global:
        scales = torch.exp2(torch.floor(torch.log2(scales) * 8))
    before = {"weight": normal(*SHAPE), "weight_scale": scales}
    if times_global:
        before["weight_global_scale"] = torch.tensor([times_global])
        before["weight_scale"] = (scales * times_global).to(torch.float8_e4m3fn).float()
    compressor = BaseCompressor.get_value_from_registry(form)
    held = compressor.compress(before, scheme)
    library = compressor.decompress(held, scheme)["weight"].double().numpy()
    return {P + name: each for name, each in held.items()}, config_of(scheme, form), library


@pytest.mark.parametrize(
    ("form", "bits", "group", "times_global", "rounded"),
    [
        # The library multiplies in bfloat16.
        ("nvfp4-pack-quantized", 4, 16, 100.0, 1e-2),
        ("mxfp4-pack-quantized", 4, 32, None, 0),
        ("mxfp6-pack-quantized", 6, 32, None, 0),
        ("mxfp8-quantized", 8, 32, None, 0),
    ],
)
def test_packed_floats(tmp_path, form, bits, group, times_global, rounded):
    tensors, config, library = floats(form, bits, group, times_global)
    folder = save(tmp_path / "m", tensors, config)
    found = weight(folder)
    np.testing.assert_allclose(found, library, rtol=rounded)
    assert list(opened(folder).tensors) == [f"{P}weight"]
    if times_global:
        # By its documentation: the value of the code * its group's scale / the global scale.
        codes = tensors[f"{P}weight_packed"].numpy()
        table = np.array([0, 0.5, 1, 1.5, 2, 3, 4, 6, -0.0, -0.5, -1, -1.5, -2, -3, -4, -6])
        values = table[np.stack([codes & 15, codes >> 4], -1).reshape(SHAPE)]
        scales = tensors[f"{P}weight_scale"].double().numpy().repeat(16, 1) / times_global
        np.testing.assert_allclose(found, values * scales, rtol=1e-15)
        # ModelOpt stores the reciprocal, under other names.
        other = {"weight": codes, "weight_scale": tensors[f"{P}weight_scale"], "weight_scale_2": np.float32(1 / 64)}
        other["input_scale"] = np.float32(1)
        folder = save(tmp_path / "modelopt", {P + name: each for name, each in other.items()})
        np.testing.assert_allclose(weight(folder), values * scales * times_global / 64, rtol=1e-15)
        assert list(opened(folder).tensors) == [f"{P}weight"]
        with pytest.raises(InputError, match="one must be there"):
            weight(save(tmp_path / "neither", {k: v for k, v in tensors.items() if "global" not in k}))
        with pytest.raises(InputError, match="weight_global_scale is 0, and nothing can be divided by it"):
            weight(save(tmp_path / "zero", tensors | {f"{P}weight_global_scale": torch.zeros(1)}, config))


def test_experts_of_four_bits(tmp_path):
    """DeepSeek's: int8 that holds two floats, with exponents for 32 of them."""
    codes = torch.randint(0, 256, (2, 6, 32), dtype=torch.uint8)
    powers = torch.exp2(torch.randint(-6, 3, (2, 6, 2)).float())
    held = {"mlp.down_proj": codes.view(torch.int8), "mlp.down_proj_scale_inv": powers.to(torch.float8_e8m0fnu)}
    scheme = QuantizationArgs(num_bits=4, type="float", strategy="group", group_size=32)
    from compressed_tensors.compressors.nvfp4.helpers import unpack_fp4_from_uint8

    values = unpack_fp4_from_uint8(codes.reshape(12, 32), 12, 64, torch.float64)
    exact = dequantize(values, powers.reshape(12, 2).double(), args=scheme).reshape(2, 6, 64)
    np.testing.assert_array_equal(weight(save(tmp_path / "m", held), "mlp.down_proj"), exact.numpy())


def test_gpt_oss(tmp_path):
    blocks = torch.randint(0, 256, (2, 10, 3, 16), dtype=torch.uint8)
    scales = torch.randint(118, 130, (2, 10, 3), dtype=torch.uint8)
    exact = convert_moe_packed_tensors(blocks, scales, dtype=torch.float64)
    name = "model.layers.0.mlp.experts.gate_up_proj"
    tensors = {f"{name}_blocks": blocks, f"{name}_scales": scales, f"{name}_bias": torch.ones(2, 10)}
    folder = save(tmp_path / "m", tensors, {"quant_method": "mxfp4"})
    assert sorted(opened(folder).tensors) == [name, f"{name}_bias"]
    np.testing.assert_array_equal(weight(folder, name), exact.numpy())
    with pytest.raises(InputError, match="one scale for each block"):
        weight(save(tmp_path / "n", tensors | {f"{name}_scales": scales[:, :5]}), name)
