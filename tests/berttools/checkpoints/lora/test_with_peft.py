"""Adapters that PEFT saves are merged as `merge_and_unload` merges them from disk, or refused by name."""

import dataclasses
import json
import typing
from types import SimpleNamespace

import numpy as np
import peft
import pytest
import torch
from peft.tuners.lora import config as peft_config
from peft.tuners.lora.loraga import preprocess_loraga
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModel, AutoModelForCausalLM, AutoModelForMaskedLM

from _toolio.errors import InputError, ToolError
from berttools.checkpoints.files import open_checkpoint
from berttools.checkpoints.lora import open_tuned
from berttools.checkpoints.lora.settings import read_settings
from berttools.layerdiff.diffs import diff_checkpoints

SMALL = {
    "bert": {
        "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2, "vocab_size": 20,
    },
    "gpt2": {"n_embd": 16, "n_layer": 2, "n_head": 2, "vocab_size": 20, "bos_token_id": 0, "eos_token_id": 0},
    "llama": {
        "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 1, "num_attention_heads": 2, "vocab_size": 20,
        "tie_word_embeddings": False,
    },
}  # fmt: skip
CLASSES = {"bert": AutoModel, "gpt2": AutoModelForCausalLM, "llama": AutoModelForCausalLM}


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Return the folders of tiny models, by their kind."""
    found = {}
    for kind, sizes in SMALL.items():
        torch.manual_seed(0)
        found[kind] = tmp_path_factory.mktemp(kind)
        model = CLASSES[kind].from_config(AutoConfig.for_model(kind, **sizes))
        shake(model)
        model.save_pretrained(found[kind])
    return found


def train(model, config, folder, **saving):
    """Save an adapter with factors of its own, as training leaves them."""
    tuned = peft.get_peft_model(model, config)
    shake(tuned)
    tuned.save_pretrained(folder, **saving)
    return folder


def shake(tuned):
    generator = torch.Generator().manual_seed(1)
    for parameter in tuned.parameters():
        if parameter.requires_grad:
            parameter.data += 0.1 * torch.randn(parameter.shape, generator=generator)


def check(base, kind, folder, out, cls=None):
    """Compare every tensor, and its distance, with what PEFT merges from disk; return the names of what moved."""
    model = (cls or CLASSES[kind]).from_pretrained(base)
    peft.PeftModel.from_pretrained(model, folder).merge_and_unload().save_pretrained(out)
    first, theirs = open_checkpoint(base), open_checkpoint(out)
    ours = open_tuned(folder, first)
    found = {diff.key: diff for diff in diff_checkpoints(first, ours, processes=1)}
    for diff in diff_checkpoints(first, theirs, processes=1):
        if diff.distance is not None:
            mine, its = found[diff.key].distance, diff.distance
            assert mine.l2 == pytest.approx(its.l2, rel=2e-5, abs=1e-6), diff.name
            assert mine.rel_l2 == (its.rel_l2 and pytest.approx(its.rel_l2, rel=2e-5, abs=1e-7)), diff.name
    for name, stored in theirs.tensors.items():
        if name in first.tensors:
            assert ours.tensors[name].shape == stored.shape
            mine, its = (np.array(model.flat(name).values(0, stored.size)) for model in (ours, theirs))
            assert np.allclose(mine, its, rtol=1e-4, atol=2e-6), name
    return {name for (name, _), diff in found.items() if diff.distance is None or diff.distance.max_abs}


ATTENTION = ["query", "value"]
CONV1D = ["c_attn", "c_proj", "c_fc"]
PATTERNS = {
    "rank_pattern": {"0.attention.self.query": 2, "layer.1.*": 5},
    "alpha_pattern": {"^encoder.layer.1.attention.self.query": 3, "value": 16},
}


def lora(modules, **more):
    return peft.LoraConfig(**{"r": 4, "lora_alpha": 6, "target_modules": modules} | more)


READ = {
    "plain": ("bert", lora(ATTENTION)),
    "off": ("bert", lora(ATTENTION, init_lora_weights=False)),
    "gaussian": ("bert", lora(ATTENTION, init_lora_weights="gaussian")),
    "orthogonal": ("bert", lora(ATTENTION, init_lora_weights="orthogonal")),
    "mica": ("bert", lora(ATTENTION, init_lora_weights="mica")),
    "pissa": ("bert", lora([*ATTENTION, "dense"], init_lora_weights="pissa")),
    "pissa, patterns": ("bert", lora(ATTENTION, init_lora_weights="pissa", **PATTERNS)),
    "pissa, full rank": ("bert", lora(ATTENTION, init_lora_weights="pissa", r=16)),
    "olora": ("bert", lora([*ATTENTION, "dense"], init_lora_weights="olora")),
    "olora, patterns": ("bert", lora(ATTENTION, init_lora_weights="OLoRA", use_rslora=True, **PATTERNS)),
    "kasa": ("bert", lora([*ATTENTION, "dense"], kasa_config=peft_config.KasaConfig())),
    "patterns": ("bert", lora(ATTENTION, **PATTERNS)),
    "rslora": ("bert", lora(ATTENTION, use_rslora=True)),
    "dora": ("bert", lora([*ATTENTION, "dense", "word_embeddings"], use_dora=True)),
    "dora, pissa": ("bert", lora(ATTENTION, use_dora=True, init_lora_weights="pissa")),
    "bias all": ("bert", lora(ATTENTION, bias="all")),
    "bias of lora": ("bert", lora(ATTENTION, bias="lora_only")),
    "lora_bias": ("bert", lora(ATTENTION, lora_bias=True)),
    "whole": ("bert", lora(ATTENTION, modules_to_save=["pooler", "LayerNorm"])),
    "velora": ("bert", lora(ATTENTION, velora_config=peft_config.VeloraConfig(num_groups=2))),
    "monteclora": ("bert", lora(ATTENTION, monteclora_config=peft_config.MontecloraConfig())),
    "token rows": ("bert", lora(ATTENTION, trainable_token_indices=[7, 2])),
    "rows by name": (
        "bert",
        lora(ATTENTION, trainable_token_indices={"word_embeddings": [3], "position_embeddings": [511, 0]}),
    ),
    "embeddings": ("bert", lora(["word_embeddings", "query"], init_lora_weights=True)),
    "parameters": (
        "bert",
        lora(
            [],
            target_parameters=["query.weight", "0.output.dense.weight"],
            alpha_pattern={"1.attention.self.query.weight": 9},
        ),
    ),
    "every other field": (
        "bert",
        lora(
            ATTENTION, exclude_modules=["1.attention.self.value"], layers_to_transform=[0, 1], layers_pattern="layer",
            lora_dropout=0.1, task_type="FEATURE_EXTRACTION",
        ),
    ),
    "conv1d": ("gpt2", lora(CONV1D, fan_in_fan_out=True)),
    "conv1d, pissa": ("gpt2", lora(CONV1D, fan_in_fan_out=True, init_lora_weights="pissa")),
    "conv1d, olora": ("gpt2", lora(["attn.c_proj"], fan_in_fan_out=True, init_lora_weights="olora")),
    "conv1d, dora": ("gpt2", lora([*CONV1D, "wte"], fan_in_fan_out=True, use_dora=True)),
    "conv1d, parameters": ("gpt2", lora([], target_parameters=["c_proj.weight", "c_attn.weight"])),
    "tied embeddings": ("gpt2", lora(["wte", "c_attn"], fan_in_fan_out=True)),
    "tied rows": ("gpt2", lora(["c_attn"], fan_in_fan_out=True, trainable_token_indices=[5])),
    "embeddings saved beside": ("llama", lora(["embed_tokens", "lm_head", "q_proj"], init_lora_weights="pissa")),
}  # fmt: skip


@pytest.mark.parametrize("name", READ)
def test_read_exactly(folders, tmp_path, name):
    kind, config = READ[name]
    torch.manual_seed(3)
    folder = train(CLASSES[kind].from_pretrained(folders[kind]), config, tmp_path / "adapter")
    assert check(folders[kind], kind, folder, tmp_path / "merged")


def test_eva_with_ranks_of_its_own(folders, tmp_path):
    model = AutoModel.from_pretrained(folders["bert"])
    details = peft.EvaConfig(rho=2, tau=0.9, use_label_mask=False)
    config = lora(["query", "output.dense"], init_lora_weights="eva", eva_config=details)
    tuned = peft.get_peft_model(model, config)
    torch.manual_seed(0)
    batches = [{"input_ids": torch.randint(20, (8, 12))} for _ in range(8)]
    peft.initialize_lora_eva_weights(tuned, batches, show_progress_bar=False)
    shake(tuned)
    tuned.save_pretrained(tmp_path / "adapter")
    saved = json.loads((tmp_path / "adapter" / "adapter_config.json").read_text())
    assert saved["rank_pattern"].keys() == saved["alpha_pattern"].keys() != set()
    assert check(folders["bert"], "bert", tmp_path / "adapter", tmp_path / "merged")


def prepare_corda(model, rank):
    """Leave at each layer what PEFT's preprocessing finds in data; here it is drawn."""
    generator = torch.Generator().manual_seed(4)
    for name, layer in model.named_modules():
        if name.endswith(tuple(ATTENTION)):
            out, inside = layer.weight.shape
            layer.eigens = SimpleNamespace(
                U_WC=torch.randn(out, rank, generator=generator),
                S_WC=torch.rand(rank, generator=generator),
                V_WC=torch.randn(inside, rank, generator=generator),
            )


@pytest.mark.parametrize("initial", ["pissa", "pissa_niter_4", "olora", "corda", "lora_ga"])
def test_converted_to_plain_lora(folders, tmp_path, initial):
    """The difference to the initial factors, which PEFT saves, is an adapter of the base as it is."""
    model = AutoModel.from_pretrained(folders["bert"])
    config = lora(ATTENTION, init_lora_weights=initial)
    if initial == "corda":
        prepare_corda(model, config.r)
    if initial == "lora_ga":
        config = lora(ATTENTION, init_lora_weights=initial, lora_ga_config=peft_config.LoraGAConfig())
        tokens = torch.arange(20).reshape(4, 5)
        preprocess_loraga(model, config, lambda: model(tokens).last_hidden_state.square().sum().backward())
    tuned = peft.get_peft_model(model, config)
    tuned.save_pretrained(tmp_path / "initial")
    shake(tuned)
    tuned.save_pretrained(tmp_path / "raw")
    tuned.save_pretrained(tmp_path / "adapter", path_initial_model_for_weight_conversion=tmp_path / "initial")
    moved = check(folders["bert"], "bert", tmp_path / "adapter", tmp_path / "merged")
    assert moved == {f"encoder.layer.{n}.attention.self.{kind}.weight" for n in (0, 1) for kind in ATTENTION}
    trained = tuned.merge_and_unload().state_dict()
    ours = open_tuned(tmp_path / "adapter", open_checkpoint(folders["bert"]))
    for name in moved:
        stored = ours.tensors[name]
        values = ours.flat(name).values(0, stored.size).reshape(stored.shape)
        assert np.allclose(values, trained[name].numpy(), rtol=1e-4, atol=2e-6)
    if initial in ("pissa", "olora"):
        check(folders["bert"], "bert", tmp_path / "raw", tmp_path / "merged-raw")
    else:
        with pytest.raises(ToolError, match="path_initial_model_for_weight_conversion"):
            open_tuned(tmp_path / "raw", open_checkpoint(folders["bert"]))


def test_a_base_that_holds_both_of_two_tied_tensors(folders, tmp_path):
    base = tmp_path / "base"
    base.mkdir()
    (base / "config.json").write_bytes((folders["gpt2"] / "config.json").read_bytes())
    tensors = load_file(folders["gpt2"] / "model.safetensors")
    tensors["lm_head.weight"] = tensors["transformer.wte.weight"].clone()
    save_file(tensors, base / "model.safetensors", metadata={"format": "pt"})
    config = lora(["wte"], fan_in_fan_out=True)
    folder = train(AutoModelForCausalLM.from_pretrained(base), config, tmp_path / "adapter")
    assert check(base, "gpt2", folder, tmp_path / "merged") == {"lm_head.weight", "transformer.wte.weight"}
    config = lora(["wte", "lm_head"], ensure_weight_tying=True)
    train(AutoModelForCausalLM.from_pretrained(base), config, folder)
    with pytest.raises(ToolError, match="ensure_weight_tying"):
        open_tuned(folder, open_checkpoint(base))
    change(folder, ensure_weight_tying=False)
    with pytest.raises(ToolError, match=r"both .* which are one"):
        open_tuned(folder, open_checkpoint(base))


def test_embeddings_tied_by_the_model_alone(folders, tmp_path):
    base = tmp_path / "base"
    AutoModelForMaskedLM.from_pretrained(folders["bert"]).save_pretrained(base)
    folder = train(AutoModelForMaskedLM.from_pretrained(base), lora(["word_embeddings"]), tmp_path / "adapter")
    moved = check(base, "bert", folder, tmp_path / "merged", AutoModelForMaskedLM)
    assert moved == {"bert.embeddings.word_embeddings.weight"}


def change(folder, **fields):
    path = folder / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))


@pytest.mark.parametrize(("kind", "modules"), [("bert", ATTENTION), ("gpt2", CONV1D)])
@pytest.mark.parametrize("flag", [False, True])
def test_the_layer_decides_what_is_transposed(folders, tmp_path, kind, modules, flag):
    """PEFT overrules ``fan_in_fan_out`` by the type of the layer; square matrices do not show it."""
    folder = train(CLASSES[kind].from_pretrained(folders[kind]), lora(modules), tmp_path / "adapter")
    change(folder, fan_in_fan_out=flag)
    check(folders[kind], kind, folder, tmp_path / "merged")


@pytest.mark.parametrize("initial", ["pissa", "olora"])
def test_a_base_that_does_not_determine_its_initialisation(folders, tmp_path, initial):
    """All singular values of the one are equal, and the first columns of the other are."""
    name = "encoder.layer.0.attention.self.query.weight"
    tensors = load_file(folders["bert"] / "model.safetensors")
    tensors[name] = torch.eye(16) if initial == "pissa" else torch.ones(16, 16)
    save_file(tensors, tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_bytes((folders["bert"] / "config.json").read_bytes())
    config = lora(ATTENTION, init_lora_weights=initial)
    folder = train(AutoModel.from_pretrained(folders["bert"]), config, tmp_path / "adapter")
    base = open_checkpoint(tmp_path)
    errors = {diff.name: diff.error for diff in diff_checkpoints(base, open_tuned(folder, base)) if diff.error}
    assert {k: str(v) for k, v in errors.items()} == {name: str(errors[name])}
    assert "not determined" in errors[name].message
    assert isinstance(errors[name], InputError)
    assert name in errors[name].message


REFUSED = {
    "pissa_niter_16": {"init_lora_weights": "pissa_niter_16"},
    "corda": {"init_lora_weights": "corda"},
    "loftq": {"init_lora_weights": "loftq", "loftq_config": {"loftq_bits": 4, "loftq_iter": 1}},
    "lora_ga": {"init_lora_weights": "lora_ga"},
    "init_lora_weights 'of tomorrow'": {"init_lora_weights": "of tomorrow"},
    "init_lora_weights 3": {"init_lora_weights": 3},
    "use_qalora": {"use_qalora": True},
    "use_bdlora": {"use_bdlora": {"nblocks": 2, "target_modules_bd_a": ["query"]}},
    "arrow_config": {"arrow_config": {"top_k": 2}},
    "alora_invocation_tokens": {"alora_invocation_tokens": [1]},
    "layer_replication": {"layer_replication": [[0, 2], [1, 2]]},
    "megatron_config": {"megatron_config": {"hidden_size": 16}},
    "use_of_tomorrow": {"use_of_tomorrow": True},
    "bias 'some'": {"bias": "some"},
    "use_rslora": {"use_rslora": "yes"},
    "use_dora and kasa_config": {"use_dora": True, "kasa_config": {"beta": 1}},
    "kasa_config and init_lora_weights": {"init_lora_weights": "pissa", "kasa_config": {"beta": 1}},
    "lora_alpha": {"lora_alpha": 10**400},
    "r is 1000": {"r": 10**400},
    "lora_alpha is nan": {"lora_alpha": float("nan")},
    "lora_alpha is True": {"lora_alpha": True},
    "alpha_pattern of query": {"alpha_pattern": {"query": 10**400}},
    "r is 0": {"r": 0},
    "r is -1": {"r": -1},
    "r is 2.5": {"r": 2.5},
    "rank_pattern of query": {"rank_pattern": {"query": 0}},
    "rank_pattern is damaged": {"rank_pattern": {"(?i)query": 2}},
    "rank 4, and": {"r": 8},
    "target_parameters": {"target_parameters": "query"},
    "trainable_token_indices": {"trainable_token_indices": ["a"]},
    "no magnitude_vector": {"use_dora": True},
    "no bias of": {"lora_bias": True},
    "no diag of": {"kasa_config": {"beta": 1}},
    "pissa with lora_alpha": {"init_lora_weights": "pissa", "lora_alpha": 0},
}


@pytest.fixture(scope="module")
def adapter(folders, tmp_path_factory):
    folder = tmp_path_factory.mktemp("adapter")
    return train(AutoModel.from_pretrained(folders["bert"]), lora(ATTENTION), folder)


@pytest.mark.parametrize("words", REFUSED)
def test_refused_by_name(folders, adapter, tmp_path, words):
    folder = tmp_path / "adapter"
    folder.mkdir()
    for file in ("adapter_config.json", "adapter_model.safetensors"):
        (folder / file).write_bytes((adapter / file).read_bytes())
    change(folder, **REFUSED[words])
    with pytest.raises(ToolError, match=words) as caught:
        open_tuned(folder, open_checkpoint(folders["bert"]))
    message = caught.value.message
    assert caught.value.kind == "adapter"
    assert str(folder) in message
    assert "\n" not in message
    assert len(message.replace(str(folder), "")) < 250
    assert any(advice in message for advice in ("PEFT", "copy it again", "copy both again"))


@pytest.mark.parametrize("field", dataclasses.fields(peft.LoraConfig), ids=lambda field: field.name)
def test_every_field_of_peft_is_known(tmp_path, field):
    """A field that this PEFT has and `read_settings` does not know is to be put into one of its sets."""
    with pytest.raises(ToolError) as caught:
        read_settings(tmp_path, {"peft_type": "LORA", field.name: object()})
    assert "not known here and may" not in caught.value.message


def test_every_initialisation_of_peft_is_known(tmp_path):
    named = typing.get_args(typing.get_type_hints(peft.LoraConfig)["init_lora_weights"])
    for text in [name for kind in named for name in typing.get_args(kind)]:
        config = {"peft_type": "LORA", "lora_alpha": 1, "init_lora_weights": text.replace("[number of iters]", "16")}
        try:
            read_settings(tmp_path, config)
        except ToolError as error:
            assert "is not known here" not in error.message
