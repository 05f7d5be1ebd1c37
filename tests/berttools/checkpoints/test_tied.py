"""Output matrices that are copies of the embeddings are found, and count once."""

import json

import numpy as np
import pytest
import torch
import transformers as t
from safetensors.torch import load_file, save_file

from berttools.checkpoints.files import open_checkpoint
from berttools.checkpoints.tied import tied_tensors
from berttools.layerdiff.diffs import diff_checkpoints
from berttools.layerdiff.records import tensor_record
from berttools.layerdiff.sums import summarise
from exact_distances import exact


def write(path, tensors):
    save_file(tensors, path)
    return open_checkpoint(path)


def test_tied_tensors(tmp_path):
    table, bias = torch.randn(20, 4), torch.randn(20)
    tensors = {
        "bert.embeddings.word_embeddings.weight": table, "cls.predictions.decoder.weight": table.clone(),
        "cls.predictions.bias": bias, "cls.predictions.decoder.bias": bias.clone(), "other.decoder.weight": bias + 1,
    }  # fmt: skip
    tied = tied_tensors(write(tmp_path / "tied", tensors))
    assert tied == {
        "cls.predictions.decoder.weight": "bert.embeddings.word_embeddings.weight",
        "cls.predictions.decoder.bias": "cls.predictions.bias",
    }
    both = write(tmp_path / "tied", tensors)
    (summary,) = summarise(diff_checkpoints(both, both), "model")
    assert summary.tensors == 3
    tensors["cls.predictions.decoder.weight"] = table + 1
    assert "cls.predictions.decoder.weight" not in tied_tensors(write(tmp_path / "untied", tensors))


def saved(folder, model):
    model.save_pretrained(folder)
    return open_checkpoint(folder)


SIZES = {"vocab_size": 20, "pad_token_id": 1, "decoder_start_token_id": 1}
BART = {
    "d_model": 8, "encoder_layers": 1, "decoder_layers": 1, "encoder_attention_heads": 2, "decoder_attention_heads": 2,
    "encoder_ffn_dim": 8, "decoder_ffn_dim": 8, "bos_token_id": 0, "eos_token_id": 2,
}  # fmt: skip
BERT = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8, "vocab_size": 20}
GPT2 = {"n_embd": 8, "n_layer": 1, "n_head": 2, "vocab_size": 20}
FAMILIES = {
    "gpt2": (t.GPT2LMHeadModel, t.GPT2Config, GPT2, "lm_head.weight", "transformer.wte.weight"),
    "bert": (t.BertForMaskedLM, t.BertConfig, BERT, "cls.predictions.decoder.weight",
             "bert.embeddings.word_embeddings.weight"),
    "bart": (t.BartForConditionalGeneration, t.BartConfig, {**BART, **SIZES}, "lm_head.weight", "model.shared.weight"),
    "whisper": (t.WhisperForConditionalGeneration, t.WhisperConfig, {**BART, **SIZES, "num_mel_bins": 4},
                "proj_out.weight", "model.decoder.embed_tokens.weight"),
    "llama": (t.LlamaForCausalLM, t.LlamaConfig, BERT, "lm_head.weight", "model.embed_tokens.weight"),
}  # fmt: skip


@pytest.mark.parametrize("family", FAMILIES)
def test_a_head_of_its_own_is_compared_with_the_embeddings_it_was_tied_to(family, tmp_path):
    kind, config, sizes, head, embeddings = FAMILIES[family]
    torch.manual_seed(0)
    tied = saved(tmp_path / "tied", kind(config(**sizes, tie_word_embeddings=True)))
    untied = saved(tmp_path / "untied", kind(config(**sizes, tie_word_embeddings=False)))
    assert head not in tied.tensors
    one, other = (load_file(model.path / "model.safetensors") for model in (tied, untied))
    for base, ft, a, b, field in (
        (tied, untied, one[embeddings], other[head], "tied_base"),
        (untied, tied, other[head], one[embeddings], "tied_ft"),
    ):
        found = next(diff for diff in diff_checkpoints(base, ft) if diff.name == head)
        want = exact(a.double().numpy().ravel(), b.double().numpy().ravel())
        assert found.distance.angle == pytest.approx(float(want["angle"]), rel=1e-9)
        assert found.distance.rel_l2 == pytest.approx(float(want["rel_l2"]), rel=1e-9)
        assert (getattr(found, field), found.only_in, found.tied_to) == (embeddings, None, None)
        record = tensor_record(found)
        assert record[field] == embeddings
        # Every tensor is in the sum, the embeddings once, and the head too; not a bias that is a copy.
        own = [tensor.numel() for name, tensor in other.items() if name not in tied_tensors(untied)]
        (summary,) = summarise(diff_checkpoints(base, ft), "model")
        assert (summary.left_out, summary.distance.n) == (0, sum(own))


def test_a_head_that_no_model_ties_is_of_one_side(tmp_path):
    torch.manual_seed(0)
    bare = saved(tmp_path / "bare", t.LlamaModel(t.LlamaConfig(**BERT, tie_word_embeddings=True)))
    own = saved(tmp_path / "own", t.LlamaForCausalLM(t.LlamaConfig(**BERT)))
    loose = saved(tmp_path / "loose", t.LlamaForCausalLM(t.LlamaConfig(**BERT, tie_word_embeddings=True)))
    files = [open_checkpoint(model.path / "model.safetensors") for model in (loose, own)]
    for base, ft in ((bare, own), tuple(files)):
        found = next(diff for diff in diff_checkpoints(base, ft) if diff.name == "lm_head.weight")
        assert (found.only_in, found.distance, found.tied_base) == ("ft", None, None)


@pytest.mark.parametrize("stated", [{}, {"tie_word_embeddings": False}, {"tie_word_embeddings": True}])
def test_a_configuration_that_names_no_class(stated, tmp_path):
    torch.manual_seed(0)
    tied = saved(tmp_path / "tied", t.LlamaForCausalLM(t.LlamaConfig(**BERT, tie_word_embeddings=True)))
    untied = saved(tmp_path / "untied", t.LlamaForCausalLM(t.LlamaConfig(**BERT, tie_word_embeddings=False)))
    (tied.path / "config.json").write_text(json.dumps({"model_type": "llama", **stated}))
    found = next(diff for diff in diff_checkpoints(open_checkpoint(tied.path), untied) if diff.name == "lm_head.weight")
    if not stated.get("tie_word_embeddings"):
        assert (found.only_in, found.distance) == ("ft", None)
        return
    a, b = (
        load_file(model.path / "model.safetensors")[name].double().numpy().ravel()
        for model, name in ((tied, "model.embed_tokens.weight"), (untied, "lm_head.weight"))
    )
    assert (found.only_in, found.tied_base) == (None, "model.embed_tokens.weight")
    assert found.distance.angle == pytest.approx(float(exact(a, b)["angle"]), rel=1e-9)


def test_copies_of_shared_embeddings_count_once(tmp_path):
    torch.manual_seed(0)
    model = t.T5ForConditionalGeneration(
        t.T5Config(vocab_size=20, d_model=8, d_kv=4, d_ff=12, num_layers=1, num_heads=2)
    )
    saved(tmp_path / "once", model)
    torch.save(model.state_dict(), tmp_path / "each.bin")
    each, once = open_checkpoint(tmp_path / "each.bin"), open_checkpoint(tmp_path / "once")
    assert tied_tensors(each) == dict.fromkeys(
        ("decoder.embed_tokens.weight", "encoder.embed_tokens.weight", "lm_head.weight"), "shared.weight"
    )
    (summary,) = summarise(diff_checkpoints(each, once), "model")
    assert (summary.tensors, summary.left_out, summary.distance.angle) == (len(once.tensors), 0, 0)


@pytest.mark.parametrize("grown", [True, False])
def test_vocabularies_of_two_sizes(grown, tmp_path):
    torch.manual_seed(0)
    model = t.GPT2LMHeadModel(t.GPT2Config(**GPT2, tie_word_embeddings=False))
    small = saved(tmp_path / "small", model)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.01 * torch.randn(parameter.shape))
    model.resize_token_embeddings(24, mean_resizing=False)
    large = saved(tmp_path / "large", model)
    one, other = (load_file(each.path / "model.safetensors") for each in (small, large))
    base, ft = (small, large) if grown else (large, small)
    diffs = list(diff_checkpoints(base, ft))
    for name in ("transformer.wte.weight", "lm_head.weight"):
        (found,) = [diff for diff in diffs if diff.name == name]
        a, b = one[name].double().numpy(), other[name][:20].double().numpy()
        want = exact(*((a.ravel(), b.ravel()) if grown else (b.ravel(), a.ravel())))
        assert found.distance.n == 160
        assert found.distance.angle == pytest.approx(float(want["angle"]), rel=1e-9)
        assert found.distance.rel_l2 == pytest.approx(float(want["rel_l2"]), rel=1e-9)
        record = tensor_record(found, svd=2)
        assert (record["rows_common"], record["rows_new"]) == (20, 4 if grown else 0)
        assert record.get("rows_gone") == (None if grown else 4)
        assert "reason" not in record
        energies = np.linalg.svd(b - a, compute_uv=False) ** 2
        assert record["svd_share"] == pytest.approx(energies[:2].sum() / energies.sum(), rel=1e-6)
    (summary,) = summarise(diffs, "model")
    assert (summary.left_out, summary.distance.n) == (0, sum(tensor.numel() for tensor in one.values()))


def test_a_grown_vocabulary_of_a_tied_base(tmp_path):
    torch.manual_seed(0)
    tied = saved(tmp_path / "tied", t.GPT2LMHeadModel(t.GPT2Config(**GPT2)))
    model = t.GPT2LMHeadModel(t.GPT2Config(**(GPT2 | {"vocab_size": 24}), tie_word_embeddings=False))
    untied = saved(tmp_path / "untied", model)
    found = next(diff for diff in diff_checkpoints(tied, untied) if diff.name == "lm_head.weight")
    assert (found.tied_base, found.rows_common, found.rows_new, found.distance.n) == (
        "transformer.wte.weight",
        20,
        4,
        160,
    )


def test_heads_of_other_labels_are_not_compared(tmp_path):
    head = "classifier.weight"
    base, ft = (write(tmp_path / str(n), {head: torch.ones(n, 4), "w": torch.ones(2, 2)}) for n in (2, 3))
    found = next(diff for diff in diff_checkpoints(base, ft) if diff.name == head)
    assert (found.distance, found.reason, found.rows_common) == (None, "shapes differ", None)
