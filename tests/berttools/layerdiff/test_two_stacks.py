"""Models of several stacks, as transformers saves them: their layers are told apart, and summed as numpy sums them."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import peft
import pytest
import torch
import transformers as t
from safetensors.numpy import load_file
from safetensors.torch import save_file as save_torch_file

from _toolio.errors import ToolError, UsageError
from berttools.checkpoints.groups import GROUPS, KNOWN, KNOWN_GROUPS
from berttools.layerdiff import By, LayerdiffConfig, Selection, compare
from berttools.tuning.parameter_names import read_named
from berttools.tuning.parameters import ParameterSelection

SEQ2SEQ: dict[str, Any] = {
    "d_model": 8, "encoder_layers": 2, "decoder_layers": 2, "encoder_attention_heads": 2, "decoder_attention_heads": 2,
    "encoder_ffn_dim": 12, "decoder_ffn_dim": 12, "vocab_size": 20, "pad_token_id": 1, "decoder_start_token_id": 1,
}  # fmt: skip
SIZES: dict[str, Any] = {
    "hidden_size": 8, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 12,
}  # fmt: skip
TEXT, VISION = {**SIZES, "vocab_size": 20, "max_position_embeddings": 16}, {**SIZES, "image_size": 8, "patch_size": 4}
T5: dict[str, Any] = {"vocab_size": 20, "d_model": 8, "d_kv": 4, "d_ff": 12, "num_layers": 2, "num_heads": 2}
SOUND: dict[str, Any] = {"num_mel_bins": 4, "bos_token_id": 0, "eos_token_id": 0}
BOTH = {"text_config": dict(TEXT), "vision_config": dict(VISION), "projection_dim": 4}
LLAVA: dict[str, Any] = {
    "vision_config": {**VISION, "model_type": "clip_vision_model"}, "text_config": {**TEXT, "model_type": "llama"},
}  # fmt: skip

MODELS: dict[str, Callable[[], Any]] = {
    "bart": lambda: t.BartForConditionalGeneration(t.BartConfig(**SEQ2SEQ)),
    "marian": lambda: t.MarianMTModel(t.MarianConfig(**SEQ2SEQ)),
    "pegasus": lambda: t.PegasusForConditionalGeneration(t.PegasusConfig(**SEQ2SEQ)),
    "whisper": lambda: t.WhisperForConditionalGeneration(t.WhisperConfig(**SEQ2SEQ, **SOUND)),
    "t5": lambda: t.T5ForConditionalGeneration(t.T5Config(**T5)),
    "clip": lambda: t.CLIPModel(t.CLIPConfig(**BOTH)),
    "blip": lambda: t.BlipForConditionalGeneration(
        t.BlipConfig(**(BOTH | {"text_config": {**TEXT, "encoder_hidden_size": 8}}))
    ),
    "llava": lambda: t.LlavaForConditionalGeneration(t.LlavaConfig(**LLAVA)),
}
# Stack to what the names of its layer 1 begin with, by hand.
STACKS = {
    **{
        family: {"encoder": r"model\.encoder\.layers\.1\.", "decoder": r"model\.decoder\.layers\.1\."}
        for family in ("bart", "marian", "pegasus", "whisper")
    },
    "t5": {"encoder": r"encoder\.block\.1\.", "decoder": r"decoder\.block\.1\."},
    "clip": {"text_model": r"text_model\.encoder\.layers\.1\.", "vision_model": r"vision_model\.encoder\.layers\.1\."},
    "blip": {
        "vision_model": r"vision_model\.encoder\.layers\.1\.",
        "text_decoder": r"text_decoder\.bert\.encoder\.layer\.1\.",
    },
    "llava": {
        "language_model": r"language_model\.model\.layers\.1\.", "vision_tower": r"vision_tower\.encoder\.layers\.1\."
    },
}  # fmt: skip


def save_two(model: Any, folder: Path) -> tuple[Path, Path]:
    """Save a model, and the same with every weight a little off."""
    model.save_pretrained(folder / "base")
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.01 * torch.randn(parameter.shape, generator=generator))
    model.save_pretrained(folder / "ft")
    return folder / "base", folder / "ft"


def distances(base: Path, ft: Path, pattern: str) -> tuple[float, float, int]:
    """Return angle / pi, rel_l2 and n of all tensors whose names a pattern matches, laid end to end."""
    one, other = (load_file(folder / "model.safetensors") for folder in (base, ft))
    names = [name for name in sorted(one) if re.match(pattern, name)]
    a, b = (np.concatenate([each[name].ravel() for name in names]).astype(np.longdouble) for each in (one, other))
    u, v = a / np.sqrt((a * a).sum()), b / np.sqrt((b * b).sum())
    angle = 2 * np.arctan2(np.sqrt(((u - v) ** 2).sum()), np.sqrt(((u + v) ** 2).sum())) / np.pi
    return float(angle), float(np.sqrt(((b - a) ** 2).sum() / (a * a).sum())), a.size


@pytest.mark.parametrize("family", MODELS)
def test_layers_of_two_stacks_are_summed_apart(family: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    base, ft = save_two(MODELS[family](), tmp_path)
    layers = {(each.get("stack"), each["layer"]): each for each in compare(base, [ft], LayerdiffConfig(by=By.layer))}
    assert layers.keys() == {(None, None), *((stack, layer) for stack in STACKS[family] for layer in (0, 1))}
    for stack, pattern in STACKS[family].items():
        found = layers[stack, 1]
        assert (found["angle"], found["rel_l2"], found["n"]) == pytest.approx(distances(base, ft, pattern), rel=1e-9)


@pytest.mark.parametrize("family", MODELS)
def test_groups_of_two_stacks(family: str) -> None:
    with torch.device("meta"):
        names = {name: tuple(each.shape) for name, each in MODELS[family]().named_parameters()}
    stacks = KNOWN.stacks(names)
    cells: dict[tuple[str | None, int], list[str]] = {}
    for name, shape in names.items():
        for part in KNOWN.parts(name, shape):
            if part.layer is not None and len(shape) == 2 and "relative" not in name:
                cells.setdefault((stacks[name], part.layer), []).append(part.group or name)
    assert len(cells) == 4
    for (stack, layer), groups in cells.items():
        cross = family not in ("clip", "llava") and stack is not None and stack.endswith("decoder")
        gated = ["I"] if stack == "language_model" else []
        assert sorted(groups) == sorted([*(KNOWN_GROUPS if cross else GROUPS), *gated]), (stack, layer)


def test_one_stack_has_no_name(tmp_path: Path) -> None:
    torch.manual_seed(0)
    base, ft = save_two(t.ViTForImageClassification(t.ViTConfig(**VISION)), tmp_path)
    records = list(compare(base, [ft]))
    assert not any("stack" in record for record in records)
    for layer in (0, 1):
        assert {record["group"] for record in records if record["layer"] == layer} == {None, *GROUPS}
    (second,) = [each for each in compare(base, [ft], LayerdiffConfig(by=By.layer)) if each["layer"] == 1]
    expected = distances(base, ft, r"vit\.encoder\.layer\.1\.")
    assert (second["angle"], second["rel_l2"], second["n"]) == pytest.approx(expected, rel=1e-9)


def test_stacks_have_the_names_that_the_base_gives_them(tmp_path: Path) -> None:
    torch.manual_seed(0)
    whole = t.T5ForConditionalGeneration(t.T5Config(**T5))
    whole.save_pretrained(tmp_path / "whole")
    t.T5EncoderModel(t.T5Config(**T5)).save_pretrained(tmp_path / "encoder")
    records = list(compare(tmp_path / "encoder", [tmp_path / "whole"]))
    # The base's only stack has no name, as in every other comparison; the other one's decoder has one.
    layered = [record for record in records if record["layer"] is not None]
    assert {(record.get("stack"), record.get("only_in")) for record in layered} == {(None, None), ("decoder", "ft")}
    back = compare(tmp_path / "whole", [tmp_path / "encoder"], LayerdiffConfig(by=By.layer))
    assert {(record.get("stack"), record.get("only_in")) for record in back if record["layer"] is not None} == {
        ("encoder", None), ("decoder", "base"),
    }  # fmt: skip
    model = t.T5EncoderModel(t.T5Config(**T5))
    shapes = {name: tuple(each.shape) for name, each in model.named_parameters()}
    # A record of a base of two stacks names the only one of a model by its own name, and no other by it.
    for stack, names in (("encoder", {n for n in shapes if "block.1." in n}), ("decoder", None), ("mtp", None)):
        lines = [json.dumps({"by": "layer", "layer": 1, "stack": stack}).encode()]
        selection = ParameterSelection(read_named(lines))
        if names is None:
            with pytest.raises(UsageError, match=f"the model has no stack {stack} layer 1"):
                selection.resolve(shapes, base={}, head=())
        else:
            assert set(selection.resolve(shapes, base={}, head=())) == names


def test_layers_that_only_the_fine_tuned_model_has(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = t.LlamaForCausalLM(t.LlamaConfig(**TEXT))
    model.save_pretrained(tmp_path / "base")
    more = {f"mtp.layers.0.{name}": tensor.clone() for name, tensor in model.model.layers[0].state_dict().items()}
    (tmp_path / "ft").mkdir()
    save_torch_file({**model.state_dict(), **more}, tmp_path / "ft" / "model.safetensors")
    config = LayerdiffConfig(by=By.layer, baseline=True)
    without, with_more = (list(compare(tmp_path / "base", [tmp_path / name], config)) for name in ("base", "ft"))
    # The base's layers are the same records, with the baseline's figures.
    assert [each for each in with_more if each.get("only_in") != "ft"] == without
    assert all(each["baseline_angle"] is not None for each in without)
    (mtp,) = [each for each in with_more if each.get("only_in") == "ft"]
    assert (mtp["stack"], mtp["layer"], mtp["angle"], mtp["baseline_angle"]) == ("mtp", 0, None, None)
    # All of them but that one name layers to tune.
    named = read_named(json.dumps({key: each.get(key) for key in each if key != "base"}).encode() for each in with_more)
    assert {(each.layer, each.stack, each.without) for each in named} == {
        (0, None, None), (1, None, None), (None, None, "layer"),
    }  # fmt: skip


def test_blocks_of_two_stages_are_told_apart() -> None:
    sizes: dict[str, Any] = {"image_size": 32, "embed_dim": 8, "depths": [1, 2], "num_heads": [1, 2], "window_size": 2}
    with torch.device("meta"):
        names = [name for name, _ in t.SwinModel(t.SwinConfig(**sizes)).named_parameters()]
    layers = {(stack, KNOWN.parts(name, ())[0].layer) for name, stack in KNOWN.stacks(names).items() if stack}
    assert layers == {("layers", 0), ("layers.0", 0), ("layers.1", 0), ("layers.1", 1)}


def test_a_part_by_itself_is_refused_or_measured_against_its_own_part(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = MODELS["bart"]()
    model.save_pretrained(tmp_path / "bart")
    encoder = model.model.encoder
    own = {f"model.encoder.{name}" for name in encoder.state_dict() if name != "embed_tokens.weight"}
    encoder.save_pretrained(tmp_path / "encoder")
    tuned = peft.get_peft_model(encoder, peft.LoraConfig(target_modules=["fc1"], init_lora_weights=False))
    tuned.save_pretrained(tmp_path / "adapter")
    merged = tuned.merge_and_unload().layers[1].fc1.weight.detach().double().numpy()
    before = load_file(tmp_path / "bart" / "model.safetensors")["model.encoder.layers.1.fc1.weight"]
    config = LayerdiffConfig(Selection(strip_prefix=("model.encoder.",)))
    # The very tensors that it was taken from: a distance of 0, and not that to the decoder's.
    for name, advice in (("encoder", r"give model\.decoder\. or model\.encoder\. as strip_prefix"),
                         ("adapter", r"may be model\.decoder\.layers.*as strip_prefix")):  # fmt: skip
        with pytest.raises(ToolError, match=advice) as refused:
            list(compare(tmp_path / "bart", [tmp_path / name]))
        assert refused.value.kind == "ambiguous"
        assert str(tmp_path / name) in refused.value.message
        found = {record["name"]: record for record in compare(tmp_path / "bart", [tmp_path / name], config)}
        assert {each for each in own if found[each]["max_abs"] == 0} == {
            each for each in own if name == "encoder" or ".fc1.weight" not in each
        }
        assert not any(record["angle"] for each, record in found.items() if each not in own)
    moved = found["model.encoder.layers.1.fc1.weight"]
    assert moved["l2"] == pytest.approx(np.linalg.norm(merged - before), rel=1e-5)
