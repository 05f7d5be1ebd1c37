"""LoRA adapters as PEFT saves them, against a merge spelled out in torch; and 8-bit weights with their scales."""

import json
import math
import time

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from transformers import AutoConfig, AutoModel

from _toolio.errors import ToolError
from berttools.checkpoints.files import open_checkpoint
from berttools.checkpoints.lora import merging, open_tuned
from berttools.layerdiff import distances
from berttools.layerdiff.diffs import diff_checkpoints
from berttools.layerdiff.distances import tensor_distance

QUERY = "encoder.layer.{}.attention.self.query"
SMALL = {"num_hidden_layers": 2, "num_attention_heads": 2, "vocab_size": 20}


@pytest.fixture(scope="module")
def bert(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bert")
    torch.manual_seed(0)
    config = AutoConfig.for_model("bert", hidden_size=8, intermediate_size=12, **SMALL)
    AutoModel.from_config(config).save_pretrained(folder)
    return open_checkpoint(folder)


@pytest.fixture(scope="module")
def gpt2(tmp_path_factory):
    folder = tmp_path_factory.mktemp("gpt2")
    torch.manual_seed(0)
    AutoModel.from_config(AutoConfig.for_model("gpt2", n_embd=8, n_layer=2, n_head=2, vocab_size=20)).save_pretrained(
        folder
    )
    return open_checkpoint(folder)


def factors(rows, columns, rank=3, seed=1):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(rank, columns, generator=generator), torch.randn(rows, rank, generator=generator)


def adapter(folder, tensors, **config):
    folder.mkdir(exist_ok=True)
    known = {"peft_type": "LORA", "r": 3, "lora_alpha": 6, "fan_in_fan_out": False}
    (folder / "adapter_config.json").write_text(json.dumps(known | config))
    save_file({name: value.contiguous() for name, value in tensors.items()}, folder / "adapter_model.safetensors")
    return folder


def lora(module, a, b, prefix="base_model.model.", middle=""):
    return {f"{prefix}{module}.lora_A{middle}.weight": a, f"{prefix}{module}.lora_B{middle}.weight": b}


def weight(model, name):
    stored = model.tensors[name]
    return torch.from_numpy(np.array(model.flat(name).values(0, stored.size))).reshape(stored.shape).double()


@pytest.mark.parametrize("prefix", ["base_model.model.", "base_model.model.bert."])
@pytest.mark.parametrize("middle", ["", ".default"])
@pytest.mark.parametrize(("rslora", "scale"), [(False, 2.0), (True, 6 / math.sqrt(3))])
def test_a_linear_layer(bert, tmp_path, prefix, middle, rslora, scale):
    a, b = factors(8, 8)
    module = QUERY.format(1)
    folder = adapter(tmp_path / "a", lora(module, a, b, prefix, middle), use_rslora=rslora)
    merged = open_tuned(folder, bert)
    assert list(merged.tensors) == list(bert.tensors)
    want = weight(bert, f"{module}.weight") + scale * (b.double() @ a.double())
    assert torch.allclose(weight(merged, f"{module}.weight"), want, rtol=1e-14)
    diffs = {diff.name: diff for diff in diff_checkpoints(bert, merged)}
    moved = diffs.pop(f"{module}.weight")
    assert moved.distance.angle == pytest.approx(
        tensor_distance(weight(bert, moved.name).numpy(), want.numpy()).angle, rel=1e-12
    )
    assert (moved.group, moved.layer, moved.dtype_ft) == ("Q", 1, "F32")
    assert all(diff.distance.max_abs == 0 for diff in diffs.values())


def test_the_weights_may_be_named_and_be_a_bin(bert, tmp_path):
    a, b = factors(8, 8)
    folder = adapter(tmp_path / "a", lora(QUERY.format(0), a, b))
    merged = open_tuned(folder / "adapter_model.safetensors", bert)
    want = weight(merged, f"{QUERY.format(0)}.weight")
    (folder / "adapter_model.safetensors").unlink()
    torch.save(lora(QUERY.format(0), a, b), folder / "adapter_model.bin")
    assert torch.equal(weight(open_tuned(folder, bert), f"{QUERY.format(0)}.weight"), want)


def test_alpha_and_rank_of_single_modules(bert, tmp_path):
    one, other = factors(8, 8, rank=3), factors(8, 8, rank=2, seed=2)
    folder = adapter(
        tmp_path / "a",
        lora(QUERY.format(0), *one) | lora(QUERY.format(1), *other),
        alpha_pattern={"layer.1.attention.self.query": 32},
        rank_pattern={"layer.1.attention.self.query": 2},
    )
    merged = open_tuned(folder, bert)
    for layer, (a, b), scale in ((0, one, 2.0), (1, other, 16.0)):
        name = f"{QUERY.format(layer)}.weight"
        want = weight(bert, name) + scale * (b.double() @ a.double())
        assert torch.allclose(weight(merged, name), want, rtol=1e-14)


def test_matrices_stored_the_other_way_round(gpt2, tmp_path):
    square, wide = factors(8, 8), factors(24, 8, seed=2)
    tensors = lora("h.0.attn.c_proj", *square) | lora("h.1.attn.c_attn", *wide)
    merged = open_tuned(adapter(tmp_path / "a", tensors, fan_in_fan_out=True), gpt2)
    for name, (a, b) in (("h.0.attn.c_proj.weight", square), ("h.1.attn.c_attn.weight", wide)):
        assert torch.allclose(weight(merged, name), weight(gpt2, name) + 2 * (b.double() @ a.double()).T, rtol=1e-14)
    moved = [d for d in diff_checkpoints(gpt2, merged) if d.distance and d.distance.max_abs]
    assert [(d.layer, d.group) for d in moved] == [(0, "AO"), (1, "Q"), (1, "K"), (1, "V")]


def test_embeddings_and_whole_tensors(bert, tmp_path):
    a, b = factors(8, 20)
    name = "embeddings.word_embeddings"
    bias = torch.randn(8)
    tensors = {
        f"base_model.model.bert.{name}.lora_embedding_A": a,
        f"base_model.model.bert.{name}.lora_embedding_B": b,
        f"base_model.model.bert.{QUERY.format(0)}.bias": bias,
        "base_model.model.classifier.weight": torch.ones(2, 8),
        "base_model.model.classifier.modules_to_save.default.bias": torch.ones(2),
    }
    merged = open_tuned(adapter(tmp_path / "a", tensors), bert)
    want = weight(bert, f"{name}.weight") + 2 * (b.double() @ a.double()).T
    assert torch.allclose(weight(merged, f"{name}.weight"), want, rtol=1e-14)
    assert torch.equal(weight(merged, f"{QUERY.format(0)}.bias"), bias.double())
    diffs = {diff.name: diff for diff in diff_checkpoints(bert, merged)}
    assert diffs["classifier.weight"].only_in == diffs["classifier.bias"].only_in == "ft"


def test_a_whole_model_is_opened_as_one(bert):
    assert open_tuned(bert.path, bert).tensors == bert.tensors


A, B = factors(8, 8)


@pytest.mark.parametrize(
    ("tensors", "config", "words"),
    [
        (lora(QUERY.format(0), A, B), {"peft_type": "LOHA"}, "of kind LOHA"),
        (lora(QUERY.format(0), A, B), {"use_dora": True}, "use_dora"),
        (lora(QUERY.format(0), A, B), {"lora_alpha": "much"}, "lora_alpha"),
        (lora(QUERY.format(0), A, B), {"lora_alpha": None}, "lora_alpha"),
        (lora(QUERY.format(0), A, B), {"alpha_pattern": [1]}, "alpha_pattern"),
        (lora(QUERY.format(0), A, B), {"alpha_pattern": {"(": 1}}, "alpha_pattern"),
        (lora("layers.0.q_proj", A, B), {}, "which .* lacks"),
        (lora(QUERY.format(0), A, factors(9, 8)[1]), {}, "it is"),
        (lora(QUERY.format(0), A, factors(8, 8, rank=2)[1]), {}, "no factors"),
        ({f"base_model.model.{QUERY.format(0)}.lora_A.weight": A}, {}, "only one of the two"),
        ({f"base_model.model.{QUERY.format(0)}.lora_magnitude_vector": A[0]}, {}, "no plain LoRA"),
    ],
)
def test_what_cannot_be_merged_is_one_line(bert, tmp_path, tensors, config, words):
    folder = adapter(tmp_path / "a", tensors, **config)
    with pytest.raises(ToolError, match=words) as caught:
        open_tuned(folder, bert)
    assert caught.value.kind == "adapter"
    assert str(folder) in caught.value.message
    assert "\n" not in caught.value.message


def test_broken_folders(bert, tmp_path):
    folder = adapter(tmp_path / "a", lora(QUERY.format(0), A, B))
    (folder / "adapter_config.json").write_text("[]")
    with pytest.raises(ToolError, match="not a JSON object"):
        open_tuned(folder, bert)
    (folder / "adapter_config.json").write_text("{")
    with pytest.raises(ToolError, match="not JSON"):
        open_tuned(folder, bert)
    adapter(folder, {})
    (folder / "adapter_model.safetensors").unlink()
    with pytest.raises(ToolError, match=r"no adapter_model\.safetensors"):
        open_tuned(folder, bert)


@pytest.mark.parametrize("kind", ["pissa", "olora", "dora", "fused"])
def test_what_is_computed_of_a_whole_matrix_is_computed_by_one_process(bert, gpt2, tmp_path, monkeypatch, kind):
    base, modules = bert, [QUERY.format(layer) for layer in (0, 1)]
    sizes, config = (8, 8), {"init_lora_weights": kind}
    if kind == "fused":
        base, modules, sizes, config = gpt2, ["h.0.attn.c_attn"], (24, 8), {"init_lora_weights": "pissa"}
    tensors = {}
    for module in modules:
        # So small a change that no angle needs a second look at the values, in this process.
        tensors |= lora(module, *(0.05 * factor for factor in factors(*sizes)))
        if kind == "dora":
            config = {"use_dora": True}
            tensors[f"base_model.model.{module}.lora_magnitude_vector"] = torch.ones(8)
    folder = adapter(tmp_path / "a", tensors, **config)
    done = tmp_path / "done"
    name = "_read_scales" if kind == "dora" else "_taken_off"
    original = getattr(merging._Adapter, name)

    def slow(self, tensor):
        with done.open("a") as file:
            file.write(f"{tensor}\n")
        time.sleep(0.1)  # so that other processes take what is left of the tensor, if they may
        return original(self, tensor)

    monkeypatch.setattr(merging._Adapter, name, slow)
    monkeypatch.setattr(distances, "_WINDOW", 16)  # of 64 values, or of 64 in each of three parts
    several = [diff.distance for diff in diff_checkpoints(base, open_tuned(folder, base), processes=3)]
    assert sorted(done.read_text().split()) == sorted(f"{module}.weight" for module in modules)
    monkeypatch.setattr(merging._Adapter, name, original)
    assert several == [diff.distance for diff in diff_checkpoints(base, open_tuned(folder, base), processes=1)]
