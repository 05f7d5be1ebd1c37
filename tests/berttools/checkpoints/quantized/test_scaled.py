"""8-bit codes times their scales, against the libraries that write them."""

import numpy as np
import pytest
import torch
from compressed_tensors.compressors import BaseCompressor
from compressed_tensors.entrypoints.convert.converters.fp8block_dequantizer import FP8BlockDequantizer
from compressed_tensors.quantization import QuantizationArgs, QuantizationScheme
from compressed_tensors.quantization.lifecycle.forward import dequantize

from _toolio.errors import InputError
from berttools.layerdiff import compare
from quantized_models import normal, opened, save, weight

P = "layer.0.fc1."
E4M3, E5M2 = torch.float8_e4m3fn, torch.float8_e5m2


def blocks(values, block, dtype=E4M3, scale_dtype=torch.float32):
    """Quantize by blocks, those at the edges cut."""
    rows, columns = values.shape
    grid = torch.empty(-(-rows // block[0]), -(-columns // block[1]))
    codes = torch.empty(rows, columns, dtype=dtype)
    for i in range(grid.shape[0]):
        for j in range(grid.shape[1]):
            part = slice(i * block[0], (i + 1) * block[0]), slice(j * block[1], (j + 1) * block[1])
            scale = values[part].abs().max() / torch.finfo(dtype).max
            if scale_dtype != torch.float32:
                scale = torch.exp2(torch.ceil(torch.log2(scale)))
            grid[i, j] = scale
            codes[part] = (values[part] / scale).to(dtype)
    return codes, grid.to(scale_dtype)


@pytest.mark.parametrize("dtype", [E4M3, E5M2])
@pytest.mark.parametrize("scale_dtype", [torch.float32, torch.float8_e8m0fnu, torch.bfloat16])
@pytest.mark.parametrize("shape", [(32, 48), (40, 70), (5, 7)])
def test_blocks_in_two_dimensions(tmp_path, dtype, scale_dtype, shape):
    codes, scales = blocks(normal(*shape), (16, 24), dtype, scale_dtype)
    config = {"quant_method": "fp8", "weight_block_size": [16, 24]}
    folder = save(tmp_path / "m", {f"{P}weight": codes, f"{P}weight_scale_inv": scales}, config)
    library = FP8BlockDequantizer(weight_block_size=(16, 24), dtype=torch.float64)
    exact = library.process({f"{P}weight": codes, f"{P}weight_scale_inv": scales.float()})[f"{P}weight"]
    # The library multiplies in float32.
    np.testing.assert_allclose(weight(folder), exact.numpy(), rtol=1e-6)
    assert list(opened(folder).tensors) == [f"{P}weight"]


def test_fp8_blocks_are_measured_as_the_weights_that_they_are(tmp_path):
    exact = normal(96, 160) * 0.02
    codes, scales = blocks(exact, (128, 128))
    save(tmp_path / "base", {f"{P}weight": exact})
    config = {"quant_method": "fp8", "weight_block_size": [128, 128]}
    save(tmp_path / "ft", {f"{P}weight": codes, f"{P}weight_scale_inv": scales}, config)
    (record,) = compare(tmp_path / "base", [tmp_path / "ft"])
    held = codes.double() * scales.double().repeat_interleave(128, 0)[:96].repeat_interleave(128, 1)[:, :160]
    assert record["rel_l2"] == pytest.approx(float((held - exact).norm() / exact.double().norm()), rel=1e-9)
    assert record["rel_l2"] == pytest.approx(0.026, abs=0.002)
    assert float((codes.double() - exact).norm() / exact.double().norm()) > 5000  # as codes
    assert (record["dtype"], record["dtype_ft"]) == ("F32", "F8_E4M3")
    # Rounding to 8-bit floats without a scale is not what storing it did.
    assert "rounding_angle" not in record
    assert "only_in" not in record


def test_as_many_blocks_as_rows_are_no_scales_by_row(tmp_path):
    values = normal(64, 128)
    codes, scales = blocks(values, (8, 16))
    assert scales.numel() == len(values)
    tensors = {f"{P}weight": codes, f"{P}weight_scale_inv": scales}
    config = {"quant_method": "fp8", "weight_block_size": [8, 16]}
    exact = codes.double() * scales.double().repeat_interleave(8, 0).repeat_interleave(16, 1)
    np.testing.assert_allclose(weight(save(tmp_path / "said", tensors, config)), exact.numpy(), rtol=1e-15)
    for quantization in (None, {**config, "weight_block_size": [8, 8]}):
        with pytest.raises(InputError, match=r"weight_scale_inv has shape \[8, 8\]"):
            weight(save(tmp_path / f"not{quantization is None}", tensors, quantization))
    tensors[f"{P}weight_scale_inv"] = scales.reshape(-1)
    with pytest.raises(InputError, match=r"shape \[64\].* blocks of 8 by 16"):
        weight(save(tmp_path / "flat", tensors, config))


def test_a_file_is_read_by_the_config_beside_it(tmp_path):
    codes, scales = blocks(normal(40, 70), (16, 24))
    config = {"quant_method": "fp8", "weight_block_size": [16, 24]}
    folder = save(tmp_path / "m", {f"{P}weight": codes, f"{P}weight_scale_inv": scales}, config)
    assert np.array_equal(weight(folder / "model.safetensors"), weight(folder))


@pytest.mark.parametrize("ending", ["weight_scale", "weight_scale_inv", "weights_scaling_factor", "scale"])
@pytest.mark.parametrize("shape", [(), (1,), (1, 1)])
def test_one_scale(tmp_path, ending, shape):
    codes = normal(6, 5).to(E4M3)
    tensors = {f"{P}weight": codes, f"{P}{ending}": torch.full(shape, 0.3), f"{P}input_scale": torch.ones(())}
    folder = save(tmp_path / "m", tensors | {f"{P}activation_scaling_factor": torch.ones(1)})
    assert list(opened(folder).tensors) == [f"{P}weight"]
    np.testing.assert_allclose(weight(folder), codes.double().numpy() * float(np.float32(0.3)), rtol=1e-15)


def test_rows_columns_and_stacks(tmp_path):
    codes = normal(6, 5).to(E4M3)
    for number, shape in enumerate([(6,), (6, 1), (1, 5)]):
        scales = torch.rand(shape)
        by = scales.reshape(6, 1) if number < 2 else scales
        folder = save(tmp_path / str(number), {f"{P}weight": codes, f"{P}weight_scale": scales})
        np.testing.assert_allclose(weight(folder), (codes.double() * by.double()).numpy(), rtol=1e-15)
    stack, scales = torch.stack([codes, normal(6, 5, 1).to(E4M3)]), torch.rand(2, 2, 2)
    config = {"quant_method": "fp8", "weight_block_size": [4, 3]}
    tensors = {"mlp.up_proj": stack, "mlp.up_proj_scale_inv": scales, "mlp.up_proj_activation_scale": torch.ones(2)}
    folder = save(tmp_path / "experts", tensors, config)
    exact = stack.double() * scales.double().repeat_interleave(4, 1)[:, :6].repeat_interleave(3, 2)[:, :, :5]
    np.testing.assert_allclose(weight(folder, "mlp.up_proj"), exact.numpy(), rtol=1e-15)


ARGS = {
    "tensor": {"strategy": "tensor"},
    "channel": {"strategy": "channel"},
    "group": {"strategy": "group", "group_size": 8},
    "block": {"strategy": "block", "block_structure": [8, 16]},
}
GRIDS = {"tensor": (1,), "channel": (20, 1), "group": (20, 5), "block": (3, 3)}


@pytest.mark.parametrize(
    ("kind", "strategy", "symmetric"),
    [
        *((kind, strategy, True) for kind in ("int", "float") for strategy in ARGS),
        *(("int", strategy, False) for strategy in ("tensor", "channel", "group")),
    ],
)
def test_compressed_tensors(tmp_path, kind, strategy, symmetric):
    args = QuantizationArgs(num_bits=8, type=kind, symmetric=symmetric, **ARGS[strategy])
    scheme = QuantizationScheme(targets=["Linear"], weights=args)
    scales = torch.rand(GRIDS[strategy], generator=torch.Generator().manual_seed(1)) * 0.02 + 0.01
    before = {"weight": normal(20, 40), "weight_scale": scales}
    if not symmetric:
        before["weight_zero_point"] = torch.randint(-20, 20, GRIDS[strategy], dtype=torch.int8)
    compressor = BaseCompressor.get_value_from_registry(f"{kind}-quantized")
    held = compressor.compress(before, scheme)
    config = {
        "quant_method": "compressed-tensors",
        "format": f"{kind}-quantized",
        "config_groups": {"group_0": scheme.model_dump(mode="json")},
    }
    folder = save(tmp_path / "m", {f"{P}{name}": each for name, each in held.items()}, config)
    exact = dequantize(held["weight"], scales.double(), held.get("weight_zero_point"), args)
    np.testing.assert_allclose(weight(folder), exact.numpy(), rtol=1e-15)
    library = compressor.decompress(held, scheme)["weight"]
    np.testing.assert_allclose(weight(folder), library.numpy(), rtol=2e-7)


def test_a_scheme_that_names_modules(tmp_path):
    def group(target, strategy, **more):
        weights = {"num_bits": 8, "type": "float", "symmetric": True, "strategy": strategy, **more}
        return {"targets": [target], "weights": weights}

    codes, scales = blocks(normal(20, 40), (8, 16))
    groups = {"a": group("Linear", "channel"), "b": group("re:.*fc1$", "block", block_structure=[8, 16])}
    config = {"quant_method": "compressed-tensors", "format": "float-quantized", "config_groups": groups}
    tensors = {f"{P}weight": codes, f"{P}weight_scale": scales}
    exact = codes.double() * scales.double().repeat_interleave(8, 0)[:20].repeat_interleave(16, 1)[:, :40]
    np.testing.assert_allclose(weight(save(tmp_path / "m", tensors, config)), exact.numpy(), rtol=1e-15)
    del groups["b"]
    with pytest.raises(InputError, match="not that of a scale for each channel"):
        weight(save(tmp_path / "n", tensors, config))


def test_llm_int8(tmp_path):
    codes, rows = torch.randint(-127, 128, (6, 5), dtype=torch.int8), torch.rand(6) + 0.5
    order = {f"{P}weight_format": torch.tensor(0, dtype=torch.uint8)}
    tensors = {f"{P}weight": codes, f"{P}SCB": rows}
    exact = codes.double() * (rows.double() / 127)[:, None]
    np.testing.assert_allclose(weight(save(tmp_path / "m", tensors | order)), exact.numpy(), rtol=1e-14)
    order[f"{P}weight_format"] += 2
    with pytest.raises(InputError, match="weight_format"):
        weight(save(tmp_path / "old", tensors | order))
    with pytest.raises(InputError, match="SCB is not one number for each"):
        weight(save(tmp_path / "short", tensors | {f"{P}SCB": rows[:3]}))


def test_quanto(tmp_path):
    codes, scales = torch.randint(-127, 128, (6, 5), dtype=torch.int8), torch.rand(6, 1)
    tensors = {f"{P}weight._data": codes, f"{P}weight._scale": scales, f"{P}input_scale": torch.ones(())}
    folder = save(tmp_path / "m", tensors)
    np.testing.assert_allclose(weight(folder), (codes.double() * scales.double()).numpy(), rtol=1e-15)
    few = {f"{P}weight._data._data": codes.view(torch.uint8), f"{P}weight._scale": scales}
    with pytest.raises(InputError, match=r"weight\._data\._data holds codes"):
        weight(save(tmp_path / "few", few | {f"{P}weight._shift": scales}))


@pytest.mark.parametrize(
    ("tensors", "config", "why"),
    [
        ({"weight": normal(4, 4).to(E4M3), "weight_scale": torch.ones(2, 2)}, None, r"shape \[2, 2\]"),
        ({"weight": normal(4, 4).to(E4M3), "weight_scale": torch.ones(4, dtype=torch.int32)}, None, "no scale"),
        ({"weight": normal(4, 4).char(), "weight_scale_inv": torch.ones(1)}, None, "no format that is known"),
        ({"weight": normal(4, 4).char(), "weights_scaling_factor": torch.ones(4, 1)}, None, "not one number"),
        ({"weight": normal(4, 4).char(), "weight_scale": torch.ones(4, 1), "pre_quant_scale": torch.ones(4)}, None,
         "pre_quant_scale beside it, of no known format"),
        ({"weight": normal(4, 4).char(), "weight_scale": torch.ones(4, 1), "weight_zero_point": torch.ones(4)}, None,
         "another shape"),
        ({"weight": normal(4, 4).to(E4M3), "bias": torch.ones(4)}, {"quant_method": "fp8"}, "no scale of fp8"),
        ({"weight": torch.zeros(2, 2, 2, 2, dtype=E4M3), "weight_scale": torch.ones(1)}, None, "that of no matrix"),
        ({"weight": torch.zeros(2, 3, 3, dtype=E4M3), "weight_scale": torch.ones(2, 3, 1)},
         {"quant_method": "fbgemm_fp8"}, "stack of experts"),
        *(({"weight": normal(4, 4).char(), "weight_scale": torch.ones(shape)}, {
            "quant_method": "compressed-tensors", "config_groups": {"a": {"targets": ["Linear"], "weights": weights}},
        }, why) for shape, weights, why in [
            ((1,), {"strategy": "channel"}, "for each channel"),
            ((1,), {"strategy": "group", "group_size": 4}, "blocks of 1 by 4"),
            ((4, 1), {"strategy": "tensor"}, "for each tensor"),
            ((4, 1), {"strategy": "channel", "symmetric": False}, "weight_zero_point is missing"),
            ((4, 2), {"strategy": "group", "group_size": 3}, "do not divide its 4 columns"),
        ]),
        ({"weight": normal(4, 4).to(E4M3), "weight_scale": torch.ones(1)},
         {"quant_method": "fp8", "weight_block_size": [0, 8]}, "no size of blocks"),
    ],
)  # fmt: skip
def test_what_is_not_certain_is_an_error_that_names_it(tmp_path, tensors, config, why):
    folder = save(tmp_path / "ft", {f"{P}{name}": each for name, each in tensors.items()}, config)
    model = opened(folder)
    assert f"{P}weight" in model.tensors
    with pytest.raises(InputError, match=why) as caught:
        model.flat(f"{P}weight")
    assert caught.value.kind == "quantization"
    save(tmp_path / "base", {f"{P}weight": torch.ones(4, 4)})
    records = list(compare(tmp_path / "base", [folder]))
    assert [each["error"]["kind"] for each in records if each["name"] == f"{P}weight"] == ["quantization"]
