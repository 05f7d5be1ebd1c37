"""What config.json and the names of tensors say."""

import json

import numpy as np
import pytest
import torch
import transformers

from _toolio.errors import InputError, ToolError
from berttools.checkpoints.files import open_checkpoint
from berttools.checkpoints.quantized.layout import READ, Layout, e8m0, matrices, split_name
from quantized_models import normal, opened, save

CODES = normal(4, 4).to(torch.float8_e4m3fn)


def layout(folder, tensors, quantization=None):
    return Layout(open_checkpoint(save(folder, tensors, quantization)))


def test_every_method_of_transformers_is_read_or_refused_by_name(tmp_path):
    from transformers.utils.quantization_config import QuantizationMethod

    methods = {each.value for each in QuantizationMethod}
    assert methods - {"nvfp4"} >= {each for each in READ if not each.startswith("modelopt")}
    for method in {*methods, "quark2"} - READ:
        folder = save(tmp_path / method, {"a.weight": normal(4, 4)}, {"quant_method": method})
        with pytest.raises(
            ToolError, match=f"{folder}: quantized by {method}, which is not read; dequantize"
        ) as caught:
            opened(folder)
        assert caught.value.kind == "quantization"
        assert not isinstance(caught.value, InputError)
    assert transformers.__version__


def test_a_file_beside_a_method_that_is_not_read(tmp_path):
    """A file alone may be that of the weights before; codes in it are not read by any other method's rules."""
    folder = save(tmp_path / "m", {"a.weight": CODES, "a.weight_scale": torch.ones(1), "b": normal(2, 2)},
                  {"quant_method": "quark"})  # fmt: skip
    model = opened(folder / "model.safetensors")
    assert list(model.tensors) == ["a.weight", "b"]
    with pytest.raises(InputError, match=r"with a\.weight_scale beside it"):
        model.flat("a.weight")
    plain = open_checkpoint(save(tmp_path / "n", {"b": normal(2, 2)}, {"quant_method": "quark"}) / "model.safetensors")
    assert opened(plain.path).tensors == plain.tensors


@pytest.mark.parametrize(
    ("more", "why"),
    [
        ({"sparsity_config": {"format": "sparse-24-bitmask"}}, "stored sparse as sparse-24-bitmask"),
        ({"format": "marlin-24"}, "format marlin-24"),
        ({"transform_config": {"config_groups": {"R1": {}}}}, "rotated weights"),
    ],
)
def test_formats_of_compressed_tensors(tmp_path, more, why):
    with pytest.raises(ToolError, match=why):
        opened(save(tmp_path / "m", {"a.weight": CODES}, {"quant_method": "compressed-tensors"} | more))


def test_where_the_configuration_stands(tmp_path):
    assert layout(tmp_path / "none", {"a": CODES}).method is None
    assert layout(tmp_path / "old", {"a": CODES}, {"load_in_8bit": True}).method == "bitsandbytes"
    folder = save(tmp_path / "nested", {"a": CODES})
    (folder / "config.json").write_text(json.dumps({"text_config": {"quantization_config": {"quant_method": "fp8"}}}))
    assert Layout(open_checkpoint(folder)).method == "fp8"
    (folder / "config.json").write_text("not JSON")
    assert Layout(open_checkpoint(folder / "model.safetensors")).method is None


def test_companions(tmp_path):
    names = ["a.b.weight", "a.b.weight_scale", "a.b.bias", "a.b.input_scale", "a.b.smooth", "a.b.c.weight", "a.w"]
    names += ["a.b.weight.absmax", "a.b.weight.quant_state.nf4", "a.w_scale", "a.wide", "a.w_bias"]
    found = layout(tmp_path / "m", dict.fromkeys(names, torch.ones(1)))
    beside = {"a.b.weight_scale", "a.b.smooth", "a.b.weight.absmax", "a.b.weight.quant_state.nf4"}
    assert found.companions("a.b.weight") == beside
    assert found.companions("a.w") == {"a.w_scale"}
    assert found.activations("a.b.weight") == {"a.b.input_scale"}


def test_small_things():
    assert split_name("a.b.weight") == ("a.b.", "weight")
    assert split_name("weight") == ("", "weight")
    assert matrices((3, 4)) == (1, 3, 4)
    assert matrices((2, 3, 4)) == (2, 3, 4)
    assert matrices((3,)) is matrices((0, 3)) is matrices((1, 1, 1, 1)) is None
    codes = np.arange(256, dtype=np.uint8)
    np.testing.assert_array_equal(e8m0(codes), torch.from_numpy(codes).view(torch.float8_e8m0fnu).double().numpy())
    assert e8m0(np.ones(2, np.float32)).tolist() == [1, 1]
