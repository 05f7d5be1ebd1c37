"""Models as libraries save them, and their distances to a base: against the weights that the libraries make of them."""

import json
import tempfile
from pathlib import Path

import peft
import pytest
import torch
from compressed_tensors.compressors import BaseCompressor
from compressed_tensors.quantization import QuantizationArgs, QuantizationScheme
from compressed_tensors.quantization.utils import calculate_qparams
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import BertConfig, BertModel

from berttools.layerdiff import compare
from berttools.layerdiff.distances import tensor_distance
from quantized_models import NF4, save

EXACT, SINGLE = 1e-11, 2e-5
"""Relative tolerances of distances to the library's weights in float64, and in float32."""


def bert(seed, dtype=torch.float32):
    torch.manual_seed(seed)
    size = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 64}
    return BertModel(BertConfig(vocab_size=20, max_position_embeddings=8, **size)).to(dtype)


def tensors_of(model):
    return {name: each.detach() for name, each in model.state_dict().items() if each.is_floating_point()}


def linear(name, tensor):
    return tensor.ndim == 2 and "embeddings" not in name and name.endswith("weight")


def transformers_saves(draw, folder, model):
    """Plain weights of 8 to 32 bits."""
    dtypes = [torch.float32, torch.bfloat16, torch.float16, torch.float8_e4m3fn, torch.float8_e5m2]
    model = model.to(draw(st.sampled_from(dtypes)))
    model.save_pretrained(folder)
    return {name: each.double() for name, each in tensors_of(model).items()}, EXACT


def peft_saves(draw, folder, model):
    """A LoRA adapter, and what merging makes of it."""
    config = peft.LoraConfig(
        r=draw(st.integers(1, 4)), lora_alpha=draw(st.integers(1, 20)), target_modules=["query", "dense"],
        use_rslora=draw(st.booleans()), init_lora_weights=False,
    )  # fmt: skip
    adapted = peft.get_peft_model(model, config)
    adapted.save_pretrained(folder)
    return {name: each.double() for name, each in tensors_of(adapted.merge_and_unload()).items()}, SINGLE


def _quantized(folder, model, quantize, config, metadata=None):
    """Save a model whose linear layers `quantize` turns into tensors and exact weights."""
    held, exact = {}, {}
    for name, each in tensors_of(model).items():
        stem = name.removesuffix("weight")
        if linear(name, each):
            parts, exact[name] = quantize(stem, each)
            held |= {stem + part: tensor for part, tensor in parts.items()}
        else:
            held[name], exact[name] = each, each.double()
    save(folder, held, None, metadata)
    (folder / "config.json").write_text(json.dumps(model.config.to_dict() | {"quantization_config": config}))
    return exact


def compressed_tensors_saves(draw, folder, model):
    """Integers and floats of 4 and 8 bits by tensor, row, group and block."""
    form, bits, kind = draw(
        st.sampled_from([("pack-quantized", 4, "int"), ("int-quantized", 8, "int"), ("float-quantized", 8, "float")])
    )
    ways = [{"strategy": "channel"}, {"strategy": "group", "group_size": 16}]
    if form != "pack-quantized":
        ways += [{"strategy": "tensor"}, {"strategy": "block", "block_structure": [24, 20]}]
    way = draw(st.sampled_from(ways))
    symmetric = kind == "float" or way["strategy"] == "block" or draw(st.booleans())
    args = QuantizationArgs(num_bits=bits, type=kind, symmetric=symmetric, **way)
    scheme = QuantizationScheme(targets=["Linear"], weights=args)
    compressor = BaseCompressor.get_value_from_registry(form)

    def quantize(_, matrix):
        rows, columns = matrix.shape
        sizes = {"tensor": (rows, columns), "channel": (1, columns), "group": (1, 16), "block": (24, 20)}
        high, wide = sizes[way["strategy"]]
        padded = torch.nn.functional.pad(matrix, (0, -columns % wide, 0, -rows % high))
        tiles = padded.reshape(-(-rows // high), high, -(-columns // wide), wide)
        scale, zero = calculate_qparams(tiles.amin((1, 3)), tiles.amax((1, 3)), args)
        scale, zero = (each.reshape(1) if way["strategy"] == "tensor" else each for each in (scale, zero))
        parts = compressor.compress({"weight": matrix, "weight_scale": scale, "weight_zero_point": zero}, scheme)
        return parts, compressor.decompress(parts | {"weight_scale": scale.double()}, scheme)["weight"]

    groups = {"group_0": scheme.model_dump(mode="json")}
    config = {"quant_method": "compressed-tensors", "format": form, "config_groups": groups}
    return _quantized(folder, model, quantize, config), EXACT


def deepseek_saves(draw, folder, model):
    """8-bit floats by blocks, their scales floats or powers of two."""
    from compressed_tensors.entrypoints.convert.converters.fp8block_dequantizer import FP8BlockDequantizer

    block = draw(st.sampled_from([(16, 16), (24, 20), (128, 128)]))
    powers = draw(st.booleans())

    def quantize(stem, matrix):
        rows, columns = matrix.shape
        grid = -(-rows // block[0]), -(-columns // block[1])
        scale = torch.exp2(torch.randint(-12, -8, grid).float()) if powers else torch.rand(grid) / 1000 + 1e-4
        spread = scale.repeat_interleave(block[0], 0)[:rows].repeat_interleave(block[1], 1)[:, :columns]
        parts = {"weight": (matrix / spread).to(torch.float8_e4m3fn), "weight_scale_inv": scale}
        library = FP8BlockDequantizer(weight_block_size=block, dtype=torch.float64)
        exact = library.process({stem + name: each for name, each in parts.items()})[f"{stem}weight"]
        if powers:
            parts["weight_scale_inv"] = scale.to(torch.float8_e8m0fnu)
        return parts, exact

    return _quantized(folder, model, quantize, {"quant_method": "fp8", "weight_block_size": list(block)}), SINGLE


def bitsandbytes_saves(draw, folder, model):
    """LLM.int8 and nf4: its documented mathematics, as its library is large."""

    if draw(st.booleans()):

        def quantize(_, matrix):
            top = matrix.abs().amax(1)
            codes = (matrix * 127 / top[:, None]).round().char()
            return {"weight": codes, "SCB": top}, codes.double() * top.double()[:, None] / 127

        return _quantized(folder, model, quantize, {"quant_method": "bitsandbytes", "load_in_8bit": True}), EXACT
    block = draw(st.sampled_from([64, 128]))

    def quantize_4bit(_, matrix):
        table = torch.tensor(NF4)
        blocks = matrix.reshape(-1, block)
        absmax = blocks.abs().amax(1)
        codes = (blocks / absmax[:, None]).reshape(-1, 1).sub(table).abs().argmin(1)
        said = {"quant_type": "nf4", "blocksize": block, "dtype": "float32", "shape": list(matrix.shape)}
        state = torch.tensor(list(json.dumps(said).encode()), dtype=torch.uint8)
        parts = {"weight": ((codes[::2] << 4) | codes[1::2]).to(torch.uint8)[:, None], "weight.absmax": absmax}
        parts |= {"weight.quant_map": table, "weight.quant_state.bitsandbytes__nf4": state}
        exact = table.double()[codes].reshape(-1, block) * absmax.double()[:, None]
        return parts, exact.reshape(matrix.shape)

    return _quantized(folder, model, quantize_4bit, {"quant_method": "bitsandbytes", "load_in_4bit": True}), EXACT


def torchao_saves(draw, folder, model):
    """Integers and floats of 8 bits, by row and by group."""
    torchao = pytest.importorskip("torchao.quantization")
    from torchao.prototype.safetensors.safetensors_support import flatten_tensor_state_dict

    config = draw(
        st.sampled_from([
            torchao.Int8WeightOnlyConfig(),
            torchao.Float8WeightOnlyConfig(),
            torchao.IntxWeightOnlyConfig(weight_dtype=torch.int4, granularity=torchao.PerGroup(16)),
        ])
    )  # fmt: skip
    torchao.quantize_(model, config)
    kept = {name: each.data for name, each in model.state_dict(keep_vars=True).items()}
    held, metadata = flatten_tensor_state_dict(kept)
    save(folder, held, {"quant_method": "torchao"}, {**metadata, "format": "pt"})
    return {
        name: (each.dequantize() if hasattr(each, "dequantize") and type(each) is not torch.Tensor else each).double()
        for name, each in kept.items()
        if each.is_floating_point()
    }, SINGLE


SAVED_BY = (
    transformers_saves, peft_saves, compressed_tensors_saves, deepseek_saves, bitsandbytes_saves, torchao_saves,
)  # fmt: skip


@pytest.mark.parametrize("saves", SAVED_BY, ids=lambda each: each.__name__)
@settings(max_examples=8, deadline=None)
@given(data=st.data())
def test_distances_are_those_of_the_librarys_own_weights(saves, data):
    with tempfile.TemporaryDirectory() as place:
        base, ft = Path(place) / "base", Path(place) / "ft"
        model = bert(data.draw(st.integers(0, 3), label="seed"))
        model.save_pretrained(base)
        before = {name: each.double().numpy() for name, each in tensors_of(model).items()}
        after, tolerance = saves(data.draw, ft, model)
        records = {record["name"]: record for record in compare(base, [ft])}
    assert records.keys() >= after.keys() == before.keys()
    assert not any(record.get("only_in") or record.get("error") for record in records.values())
    for name, exact in after.items():
        want = tensor_distance(before[name], exact.numpy())
        for field in ("l2", "rel_l2", "l1", "max_abs", "angle"):
            found, wanted = records[name][field], getattr(want, field)
            assert (found is None) == (wanted is None)
            if found is not None:
                assert found == pytest.approx(wanted, rel=tolerance, abs=1e-12), (name, field)
