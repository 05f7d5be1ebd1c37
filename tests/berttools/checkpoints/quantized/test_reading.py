"""8-bit weights are read as the weights that they represent."""

import json
import re

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from _toolio.errors import InputError, ToolError
from berttools.checkpoints.files import open_checkpoint
from berttools.checkpoints.lora import open_tuned
from berttools.checkpoints.quantized import with_scales
from berttools.layerdiff.diffs import diff_checkpoints
from berttools.layerdiff.distances import tensor_distance
from quantized_models import normal, opened, save


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
    assert np.array_equal(shifted.flat("a.weight").values(0, 6), np.arange(6) - 1.0)


def refused(folder, tensors, config=None):
    """Return the one tensor of a model that is refused, and the message."""
    model = opened(save(folder, tensors, config))
    messages = {}
    for name in model.tensors:
        try:
            model.flat(name)
        except InputError as error:
            assert error.kind == "quantization"
            messages[name] = str(error)
    assert len(messages) == 1
    return next(iter(messages.items()))


BYTES = torch.randint(0, 255, (6, 4), dtype=torch.uint8)
UNKNOWN = {
    "HQQ": ({"W_q": BYTES, "scale": torch.ones(6, 1), "zero": torch.ones(6, 1), "nbits": torch.tensor(4)}, "scale"),
    "HQQ as floats": ({"W_q": torch.ones(6, 4).half(), "scale": torch.ones(6, 1)}, "scale"),
    "AQLM": ({"codes": BYTES.char(), "codebooks": torch.ones(1, 9), "scales": torch.ones(6, 1)}, "codebooks"),
    "EETQ": ({"weight": BYTES.char(), "weight_scales": torch.ones(6)}, "weight_scales"),
    "BitNet": ({"weight": BYTES, "weight_scale": torch.ones(1)}, "weight_scale"),
    "weight only of TensorRT-LLM": ({"weight": BYTES.char(), "per_channel_scale": torch.ones(6)}, "per_channel_scale"),
    "AWQ of TensorRT-LLM": ({"weight": torch.ones(6, 4).half(), "weights_scaling_factor": torch.ones(6, 1),
                             "prequant_scaling_factor": torch.ones(4)}, "prequant_scaling_factor"),
    "NVFP4 of a kernel": ({"weight": BYTES, "weight_sf": BYTES, "weight_global_scale": torch.ones(1)}, "weight_sf"),
    "nf4 without its state": ({"weight": BYTES, "weight.absmax": torch.ones(2)}, "weight.absmax"),
    "nf4 as bfloat16 without its state": ({"weight": BYTES.view(torch.bfloat16), "weight.quant_map": torch.ones(16)},
                                          "quant_map"),
    "an 8-bit scale": ({"weight": BYTES.char(), "weight_s": BYTES[:, 0].char()}, "weight_s"),
    "packed words alone": ({"weight_packed": BYTES.int()}, "weight_shape"),
    "sparse": ({"compressed": BYTES.char(), "bitmask": BYTES}, "missing|bitmask"),
    "experts of four bits": ({"gate_up_proj_blocks": BYTES}, "gate_up_proj_scales"),
    "fnuz": ({"weight": torch.ones(6, 4).to(torch.float8_e4m3fnuz), "weight_scale": torch.ones(1)}, "weight_scale"),
}  # fmt: skip


@pytest.mark.parametrize("kind", UNKNOWN)
def test_codes_of_no_known_format_are_an_error_that_names_what_is_beside_them(tmp_path, kind):
    held, named = UNKNOWN[kind]
    tensors = {f"a.fc.{name}": each for name, each in held.items()} | {
        "a.fc.bias": torch.ones(6),
        "a.norm.weight": torch.ones(4),
    }
    name, message = refused(tmp_path / "ft", tensors)
    weight = "a.fc.gate_up_proj" if "experts" in kind else "a.fc.weight"
    assert name == weight
    assert re.search(named, message)
    assert message.startswith(str(tmp_path / "ft" / "model.safetensors"))
    # Never as a tensor of one side, nor by its shape: an error, whichever side it is on, and its bias is compared.
    save(tmp_path / "base", {weight: torch.ones(6, 8), "a.fc.bias": torch.zeros(6), "a.norm.weight": torch.ones(4)})
    for sides in ((tmp_path / "base", tmp_path / "ft"), (tmp_path / "ft", tmp_path / "base")):
        diffs = {diff.name: diff for diff in diff_checkpoints(*map(opened, sides))}
        assert diffs[weight].error.kind == "quantization"
        assert diffs[weight].distance is diffs[weight].only_in is None
        assert diffs["a.fc.bias"].distance.l2 > 0
        assert {each.name for each in diffs.values() if each.error} == {weight}


def test_a_scale_that_is_missing(tmp_path):
    _, message = refused(tmp_path / "m", {"a.weight": BYTES.char()}, {"quant_method": "compressed-tensors"})
    assert "no scale of compressed-tensors's stands beside it" in message


def test_integers_against_floats_are_no_weights(tmp_path):
    base = opened(save(tmp_path / "base", {"a.weight": torch.ones(6, 4), "b.weight": torch.ones(2)}))
    ft = opened(save(tmp_path / "ft", {"a.weight": BYTES, "b.weight": torch.ones(2)}))
    first, second = diff_checkpoints(base, ft)
    assert "holds integers (U8) without a scale" in str(first.error)
    assert second.distance.l2 == 0


def test_a_model_of_weights_that_cannot_be_read_at_all(tmp_path):
    """Shapes of packed codes do not make it another architecture."""
    base = opened(save(tmp_path / "base", {"a.weight": torch.ones(6, 8), "b.weight": torch.ones(6, 8)}))
    tensors = {f"{module}.{part}": each for module in "ab" for part, each in UNKNOWN["EETQ"][0].items()}
    assert [diff.error.kind for diff in diff_checkpoints(base, opened(save(tmp_path / "ft", tensors)))] == [
        "quantization"
    ] * 2


def test_two_weights_of_one_name(tmp_path):
    tensors = {"a.weight": torch.ones(6, 4), "a.weight._data": BYTES.char(), "a.weight._scale": torch.ones(6, 1)}
    name, message = refused(tmp_path / "m", tensors)
    assert name == "a.weight"
    assert "a.weight is there too" in message


def test_an_adapter_on_a_quantized_base(tmp_path):
    """What QLoRA trains: the base's weights are those of its codes, with and without the product."""
    codes, scales = normal(6, 4).to(torch.float8_e4m3fn), torch.rand(6, 1)
    tensors = {f"l.{n}.{part}": each for n in "ab" for part, each in (("weight", codes), ("weight_scale", scales))}
    base = opened(save(tmp_path / "base", tensors, {"quant_method": "fbgemm_fp8"}))
    folder = tmp_path / "adapter"
    folder.mkdir()
    a, b = normal(2, 4, 1), normal(6, 2, 2)
    save_file({"base_model.model.l.a.lora_A.weight": a, "base_model.model.l.a.lora_B.weight": b},
              folder / "adapter_model.safetensors")  # fmt: skip
    config = {"peft_type": "LORA", "r": 2, "lora_alpha": 2, "target_modules": ["a"]}
    (folder / "adapter_config.json").write_text(json.dumps(config))
    ft = with_scales(open_tuned(folder, base))
    exact = codes.double() * scales.double()
    merged = (exact + b.double() @ a.double()).numpy().reshape(-1)
    np.testing.assert_allclose(ft.flat("l.a.weight").values(0, 24), merged, rtol=1e-14)
    np.testing.assert_array_equal(ft.flat("l.b.weight").values(0, 24), exact.numpy().reshape(-1))
    first, second = diff_checkpoints(base, ft)
    assert first.distance.l2 == pytest.approx(float((b.double() @ a.double()).norm()), rel=1e-12)
    assert second.distance.l2 == 0
    assert first.rounding_angle is second.rounding_angle is None
    (folder / "adapter_config.json").write_text(json.dumps(config | {"init_lora_weights": "pissa"}))
    with pytest.raises(ToolError, match="give the base that is not quantised"):
        open_tuned(folder, base)


def test_an_error_ends_the_command_with_3(tmp_path, run_inside):
    save(tmp_path / "base", {"a.weight": normal(6, 4), "b.weight": normal(3, 3)})
    save(tmp_path / "ft", {"a.weight": BYTES.char(), "a.weight_scales": torch.ones(6), "b.weight": normal(3, 3)})
    found = run_inside("berttools", "layerdiff", tmp_path / "base", tmp_path / "ft")
    assert found.code == 3
    first, second = (json.loads(line) for line in found.out.splitlines())
    assert "a.weight_scales beside it" in first["error"]["message"]
    assert second["rel_l2"] == 0
    config = {"quant_method": "quark"}
    found = run_inside(
        "berttools", "layerdiff", tmp_path / "base", save(tmp_path / "other", {"a.weight": BYTES}, config)
    )
    assert found.code == 1
    assert "quantized by quark, which is not read" in found.err


@pytest.mark.parametrize("method", [None, "fp8"])
def test_float64_is_no_code(tmp_path, method):
    tensors = {f"n.{name}": normal(1, 5).double()[0] for name in ("weight", "bias", "running_mean", "running_var")}
    tensors["a.weight"] = normal(4, 3).double()
    model = opened(save(tmp_path / "m", tensors, method and {"quant_method": method}))
    assert {name: stored.dtype for name, stored in model.tensors.items()} == dict.fromkeys(tensors, "F64")
    for name, tensor in tensors.items():
        assert np.array_equal(model.flat(name).values(0, tensor.numel()), tensor.numpy().reshape(-1))
