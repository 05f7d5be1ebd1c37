"""GPTQ and AWQ: against compressed-tensors' converter, and against packing bit by bit."""

import numpy as np
import pytest
import torch
from compressed_tensors.compressors import BaseCompressor
from compressed_tensors.entrypoints.convert.converters.autoawq import AutoAWQConverter
from compressed_tensors.quantization import QuantizationArgs, QuantizationScheme

from _toolio.errors import InputError
from quantized_models import opened, save, weight

P = "layer.0.fc1."
INPUTS, OUTPUTS, GROUP = 96, 64, 32


def words(codes, bits):
    """Pack columns of codes, bit by bit, into 32-bit words from their lowest bit on: shape (..., n bits / 32)."""
    packed = np.zeros((len(codes), codes.shape[1] * bits // 32), np.uint32)
    for column in range(codes.shape[1]):
        for bit in range(bits):
            place = column * bits + bit
            packed[:, place // 32] |= ((codes[:, column] >> bit) & 1).astype(np.uint32) << np.uint32(place % 32)
    return packed.view(np.int32)


def gptq(bits, *, stored_less, order=None):
    """Return tensors of GPTQ, and the weight in float64."""
    rng = np.random.default_rng(bits)
    codes = rng.integers(0, 1 << bits, (INPUTS, OUTPUTS))
    zeros = rng.integers(1, 1 << bits, (INPUTS // GROUP, OUTPUTS))
    scales = rng.random((INPUTS // GROUP, OUTPUTS)).astype(np.float16)
    group = np.arange(INPUTS) // GROUP if order is None else order
    exact = (codes - zeros[group]) * scales.astype(np.float64)[group]
    tensors = {"qweight": words(codes.T, bits).T, "qzeros": words(zeros - stored_less, bits), "scales": scales}
    if order is not None:
        tensors["g_idx"] = order.astype(np.int32)
    return {P + name: torch.from_numpy(np.ascontiguousarray(each)) for name, each in tensors.items()}, exact.T


@pytest.mark.parametrize("bits", [2, 3, 4, 8])
@pytest.mark.parametrize("form", ["gptq", "gptq_v2"])
@pytest.mark.parametrize("ordered", [True, False])
def test_gptq(tmp_path, bits, form, ordered):
    order = np.random.default_rng(0).permutation(INPUTS) // GROUP if ordered else None
    tensors, exact = gptq(bits, stored_less=form == "gptq", order=order)
    config = {"quant_method": "gptq", "bits": bits, "group_size": GROUP, "checkpoint_format": form}
    folder = save(tmp_path / "m", tensors | {f"{P}bias": torch.ones(OUTPUTS)}, config)
    np.testing.assert_allclose(weight(folder), exact, rtol=1e-15)
    model = opened(folder)
    assert list(model.tensors) == [f"{P}bias", f"{P}weight"]
    assert model.tensors[f"{P}weight"].shape == (OUTPUTS, INPUTS)


def test_three_bits_cross_words_as_gptq_has_them():
    """The eleventh code lies in the highest two bits of one word and the lowest of the next."""
    codes = np.zeros((1, 32), np.int64)
    codes[0, 10], codes[0, 21] = 0b110, 0b101
    assert words(codes, 3).view(np.uint32).tolist() == [[0b10 << 30, (1 << 31) | 1, 0b10]]


def test_awq(tmp_path):
    generator = torch.Generator().manual_seed(0)
    integers = torch.iinfo(torch.int32)
    draw = lambda *shape: torch.randint(integers.min, integers.max, shape, dtype=torch.int32, generator=generator)  # noqa: E731
    held = {"qweight": draw(INPUTS, OUTPUTS // 8), "qzeros": draw(INPUTS // GROUP, OUTPUTS // 8)}
    held["scales"] = torch.rand(INPUTS // GROUP, OUTPUTS, generator=generator).half()
    tensors = {P + name: each for name, each in held.items()}
    config = {"quant_method": "awq", "bits": 4, "group_size": GROUP, "version": "gemm", "zero_point": True}
    library = AutoAWQConverter(group_size=GROUP).process({k: v.clone() for k, v in tensors.items()})
    library[f"{P}weight_scale"] = library[f"{P}weight_scale"].double()
    args = QuantizationArgs(num_bits=4, type="int", symmetric=False, strategy="group", group_size=GROUP)
    compressor = BaseCompressor.get_value_from_registry("pack-quantized")
    exact = compressor.decompress(
        {name.removeprefix(P): each for name, each in library.items()},
        QuantizationScheme(targets=["Linear"], weights=args),
    )["weight"]
    np.testing.assert_allclose(weight(save(tmp_path / "m", tensors, config)), exact.numpy(), rtol=1e-15)
    for number, (said, why) in enumerate([
        ({"version": "gemv"}, "AWQ of version gemv"),
        ({"backend": "llm-awq"}, "is read"),
        ({"bits": 8}, "8 bits"),
        ({"group_size": 64}, "not that of"),
        ({"zero_point": False}, "without zero points"),
    ]):  # fmt: skip
        with pytest.raises(InputError, match=why):
            weight(save(tmp_path / str(number), tensors, config | said))


def test_what_is_not_certain(tmp_path):
    tensors, _ = gptq(4, stored_less=True)
    config = {"quant_method": "gptq", "bits": 4, "group_size": GROUP}
    for number, (more, said, why) in enumerate([
        ({}, None, "which of GPTQ and AWQ"),
        ({}, {"checkpoint_format": "marlin"}, "checkpoint_format is marlin"),
        ({}, {"rotation": "hadamard"}, "rotated"),
        ({}, {"group_size": 64}, "g_idx is missing"),
        ({}, {"bits": 5}, "no certain number of bits"),
        ({"g_idx": torch.full((INPUTS,), 9, dtype=torch.int32)}, {}, "not one of 3 groups"),
        ({"qzeros": torch.zeros(3, 9, dtype=torch.int32)}, {}, "not a zero point for each"),
        ({"scales": torch.ones(3, 9).half()}, {}, "no scale for each group"),
        ({"qzeros": torch.full((3, 8), -1, dtype=torch.int32)}, {}, "holds 15, which versions of GPTQ read as"),
        ({"weight": torch.ones(3, 3)}, {}, r"weight beside it, of no known format"),
    ]):  # fmt: skip
        held = tensors | {P + name: each for name, each in more.items()}
        with pytest.raises(InputError, match=why):
            weight(save(tmp_path / str(number), held, None if said is None else config | said))


def test_the_configuration_of_older_versions(tmp_path):
    tensors, exact = gptq(4, stored_less=True)
    folder = save(tmp_path / "m", tensors)
    (folder / "quantize_config.json").write_text('{"bits": 4, "group_size": 32, "desc_act": false}')
    np.testing.assert_allclose(weight(folder), exact, rtol=1e-15)
