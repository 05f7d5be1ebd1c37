"""What config.json and the names of tensors say."""

import json

import numpy as np
import pytest
import torch
import transformers
from hypothesis import given

from _toolio.errors import InputError, ToolError
from berttools.checkpoints.files import Checkpoint, open_checkpoint
from berttools.checkpoints.quantized import with_scales
from berttools.checkpoints.quantized.layout import READ, Layout, e8m0, matrices, split_name
from json_values import objects
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


INTS = {"a.weight_packed": torch.arange(48).int().reshape(4, 12), "a.weight_shape": torch.tensor([4, 96]),
        "a.weight_scale": torch.ones(4, 3)}  # fmt: skip
EVERY = INTS | {
    "b.weight": CODES, "b.weight_scale_inv": torch.ones(2, 2),
    "c.qweight": torch.arange(256).int().reshape(8, 32), "c.qzeros": torch.arange(8).int().reshape(2, 4),
    "c.scales": torch.ones(2, 32).half(),
    "d.weight": torch.arange(12).reshape(3, 4).char(), "d.SCB": torch.ones(3),
    "e.weight_packed": torch.arange(16).reshape(2, 8).byte(), "e.weight_scale": torch.ones(2, 1).to(CODES.dtype),
    "e.weight_global_scale": torch.ones(1),
    "f._weight_qdata": torch.arange(12).reshape(3, 4).char(), "f._weight_scale": torch.ones(3, 1),
}  # fmt: skip
WEIGHTS = objects(
    num_bits=[4, 8], type=["int", "float"], strategy=["tensor", "channel", "group", "block"], symmetric=[True, False],
    group_size=[32, -1], block_structure=[[2, 2]],
)  # fmt: skip
GROUP = objects(targets=[["Linear"], ["re:a"], ["re:([a.]+)+!"], ["re:(("], 5, ["re:.*b", 3]], weights=WEIGHTS)
SAID = objects(
    quant_method=sorted(READ), format=["pack-quantized", "dense", "gptq"], config_groups=objects(group_0=GROUP),
    weight_block_size=[[2, 2], [2.0, 2], [0, 2]], bits=[4, 4.0, True], group_size=[-1, 16], checkpoint_format=["gptq"],
    version=["gemm"], zero_point=[True, False], sparsity_config=objects(format=["dense"]),
    transform_config=objects(config_groups=[]), load_in_8bit=[True], rotation=[False],
)  # fmt: skip


@pytest.fixture(scope="module")
def every(tmp_path_factory):
    return open_checkpoint(save(tmp_path_factory.mktemp("m"), EVERY))


@given(said=SAID)
def test_whatever_a_configuration_says_is_read_or_refused(every, said):
    model = Checkpoint(
        every.path, {name: (each, every) for name, each in every.tensors.items()}, {"quantization_config": said}
    )
    try:
        model = with_scales(model)
    except ToolError as error:
        assert error.kind == "quantization"
        return
    for name, stored in model.tensors.items():
        try:
            assert model.flat(name).values(0, stored.size).shape == (stored.size,)
        except InputError as error:
            assert error.kind == "quantization"


@pytest.mark.parametrize(
    ("more", "why"),
    [
        ({"a.weight_shape": torch.tensor([4, float("nan")])}, "does not say two sides"),
        ({"a.weight_scale": torch.ones(4, 0)}, "no scale for each group"),
        ({"a.weight_packed": torch.ones(0, 12).int(), "a.weight_scale": torch.ones(0, 3),
          "a.weight_shape": torch.tensor([0, 96])}, "no scale for each group"),
        ({"a.weight_g_idx": torch.full((96,), float("nan"))}, "a.weight_g_idx is not one of 3 groups"),
    ],
)  # fmt: skip
def test_strange_tensors_beside_codes(tmp_path, more, why):
    with pytest.raises(InputError, match=why):
        opened(save(tmp_path / "m", INTS | more)).flat("a.weight")


@pytest.mark.parametrize(
    ("targets", "why"),
    [
        (["re:([a.]+)+!"], "repeats what repeats"),
        (["re:(a)\\1"], "refers back"),
        (["re:" + "a" * 501], "501 characters"),
        (["re:(("], "no regular expression"),
        (7, "no names"),
        ([["re:a"]], "no names"),
    ],
)
def test_targets_that_are_not_certain(tmp_path, targets, why):
    said = {"quant_method": "compressed-tensors", "config_groups": {"g": {"targets": targets, "weights": {}}}}
    with pytest.raises(InputError, match=why) as caught:
        opened(save(tmp_path / "m", INTS, said)).flat("a.weight")
    assert len(caught.value.message) < 400
