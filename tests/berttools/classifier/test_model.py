"""Models with their heads, and what their configurations say of labels and lengths."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import logging

from _toolio.errors import ToolError
from berttools.checkpoints.files import open_checkpoint
from berttools.checkpoints.model_folder import silent_transformers
from berttools.classifier.model import (
    Classifier,
    config_text,
    open_base,
    open_model,
    refuse_not_finite,
    state_arrays,
)
from berttools.layerdiff.random_init import random_init
from berttools.texts.labels import Labels
from tiny_models import SIZES, make_base, make_tokenizer, make_tuned


def test_a_new_head_is_new_and_follows_from_the_seed(base: Path) -> None:
    heads = []
    for seed in (1, 1, 2):
        opened = open_base(base, Labels(("a", "b", "c")), seed=seed)
        assert opened.new == opened.head == {"classifier.weight", "classifier.bias"}
        heads.append(opened.model.classifier.weight.detach().clone())
    assert heads[0].shape == (3, SIZES["hidden"])
    assert torch.equal(heads[0], heads[1])
    assert not torch.equal(heads[0], heads[2])


def test_a_head_of_its_own_is_kept_unless_labels_are_given(base: Path, tmp_path: Path) -> None:
    tuned = make_tuned(base, tmp_path / "tuned", ("no", "yes"))
    kept = open_base(tuned, None)
    assert (kept.new, kept.labels.names, kept.labels.numbered) == (frozenset(), ("no", "yes"), True)
    assert kept.head == {"classifier.weight", "classifier.bias"}
    replaced = open_base(tuned, Labels(("no", "yes")), seed=3)
    assert replaced.new == kept.head
    assert not torch.equal(replaced.model.classifier.weight, kept.model.classifier.weight)
    assert not open_model(tuned).model.training
    with pytest.raises(ToolError, match="has no head that labels texts") as raised:
        open_model(base)
    assert raised.value.kind == "no-head"


@pytest.mark.parametrize("kind", ["bert", "roberta"])
def test_as_many_tokens_as_there_are_positions(tmp_path: Path, kind: str) -> None:
    opened = open_base(make_base(tmp_path / "base", kind), Labels(("a", "b")))
    assert opened.longest == SIZES["positions"]
    ids = torch.full((1, opened.longest), 5)
    opened.model(input_ids=ids, attention_mask=torch.ones_like(ids))


def test_a_tied_tensor_is_written_once(classifier: Classifier) -> None:
    model = classifier.model
    model.twin = torch.nn.Linear(SIZES["hidden"], 2)
    model.twin.weight = model.classifier.weight
    arrays = state_arrays(model)
    assert "classifier.weight" in arrays
    assert "twin.weight" not in arrays
    assert arrays.keys() == model.state_dict().keys() - {"twin.weight"}
    assert np.array_equal(arrays["classifier.weight"], model.classifier.weight.detach().numpy())


def test_a_configuration_names_its_class_and_dtype(classifier: Classifier) -> None:
    found = json.loads(config_text(classifier.model))
    assert found["architectures"] == ["BertForSequenceClassification"]
    assert found["dtype"] == "float32"
    assert found["id2label"] == {"0": "0", "1": "1"}


OPENERS: dict[str, Callable[[Path], Any]] = {
    "a base": lambda folder: open_base(folder, Labels(("0", "1"))),
    "a base with a head of its own": lambda folder: open_base(folder, Labels(("a", "b", "c"))),
    "a model": open_model,
    "a base without its training": lambda folder: random_init(open_checkpoint(folder), 5),
}


@pytest.mark.parametrize("what", OPENERS)
def test_opening_leaves_generators_and_logging_as_they_were(base: Path, tmp_path: Path, what: str) -> None:
    folder = base if what == "a base" else make_tuned(base, tmp_path / "tuned")
    torch.manual_seed(3)
    state, (level, bar) = torch.get_rng_state(), (logging.get_verbosity(), logging.is_progress_bar_enabled())
    logging.set_verbosity_info()
    logging.enable_progress_bar()
    try:
        OPENERS[what](folder)
        assert (logging.get_verbosity(), logging.is_progress_bar_enabled()) == (logging.INFO, True)
        with silent_transformers():
            assert (logging.get_verbosity(), logging.is_progress_bar_enabled()) == (logging.ERROR, False)
    finally:
        logging.set_verbosity(level)
        (logging.enable_progress_bar if bar else logging.disable_progress_bar)()
    assert torch.equal(torch.get_rng_state(), state)


def test_what_a_tokenizers_library_prints_stays_out(
    base: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """It prints on stdout which fields of a token it does not know, and a panic's traceback on stderr."""
    path = make_tuned(base, tmp_path / "ft") / "tokenizer.json"
    found = json.loads(path.read_bytes())
    capfd.readouterr()
    config = tmp_path / "ft" / "tokenizer_config.json"
    token = {"0": {"content": "[PAD]", "special": True, "of another version": 3}}
    config.write_text(json.dumps({**json.loads(config.read_bytes()), "added_tokens_decoder": token}))
    open_model(tmp_path / "ft")
    assert capfd.readouterr() == ("", "")
    found["post_processor"]["special_tokens"].pop("[CLS]")
    path.write_text(json.dumps(found))
    with pytest.raises(ToolError, match="ft: transformers cannot open it: no entry found for key"):
        open_model(tmp_path / "ft")
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("name", ["tokenizer.json", "tokenizer_config.json"])
def test_a_damaged_file_of_a_tokenizer_is_named(base: Path, tmp_path: Path, name: str) -> None:
    path = make_tuned(base, tmp_path / "ft") / name
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ToolError, match=rf"ft/{name}: is no JSON \(.*\); copy it again"):
        open_model(tmp_path / "ft")
    path.write_bytes(b"\xef\xbb\xbf" + whole)
    with pytest.raises(ToolError, match=rf"ft/{name}: begins with a byte order mark; save it as UTF-8 without one"):
        open_model(tmp_path / "ft")


def test_a_folder_of_sentence_transformers_opens_as_the_model_in_it(base: Path, tmp_path: Path) -> None:
    outer = tmp_path / "outer"
    outer.mkdir()
    (outer / "modules.json").write_text(
        '[{"path": "0_Transformer", "type": "sentence_transformers.models.Transformer"}]'
    )
    tuned = make_tuned(base, outer / "0_Transformer", ("no", "yes"))
    inside, alone = open_model(outer), open_model(tuned)
    assert inside.labels == alone.labels
    assert all(torch.equal(a, b) for a, b in zip(inside.model.parameters(), alone.model.parameters(), strict=True))
    assert open_checkpoint(outer).path == tuned
    assert random_init(open_checkpoint(outer), 0).tensors


def test_a_weight_without_entries_or_a_number(base: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    broken = tmp_path / "broken"
    shutil.copytree(base, broken)
    tensors = load_file(base / "model.safetensors")
    (name,) = (name for name in tensors if name.endswith("layer.1.output.dense.weight"))
    emptied = tensors | {name: torch.zeros(0)}
    save_file(emptied, broken / "model.safetensors", {"format": "pt"})
    with pytest.raises(ToolError, match=rf"{name} has no entries, as DeepSpeed ZeRO-3 leaves") as raised:
        open_base(broken, Labels(("0", "1")))
    assert raised.value.kind == "empty-tensor"
    tensors[name][0, :2], tensors[name][1, 0] = torch.nan, torch.inf
    save_file(tensors, broken / "model.safetensors", {"format": "pt"})
    opened = open_base(broken, Labels(("0", "1")))
    with pytest.raises(ToolError, match=rf"bert\.{name} has 2 NaN and 1 infinite of 512 values") as raised:
        refuse_not_finite(broken, opened.model)
    assert raised.value.kind == "not-finite"
    refuse_not_finite(base, open_base(base, Labels(("0", "1"))).model)


def gpt(folder: Path, kind: str) -> Path:
    """Write a GPT-2 or GPT-Neo whose file has the buffers that older versions of transformers wrote."""
    import transformers
    from safetensors.torch import save_file

    if kind == "gpt2":
        make_base(folder, "gpt2")
        model: Any = transformers.GPT2Model.from_pretrained(folder)
        attention = "attn"
    else:
        make_tokenizer(folder, kind)
        config = transformers.GPTNeoConfig(
            vocab_size=24, hidden_size=16, num_layers=2, num_heads=2, attention_types=[[["global", "local"], 1]],
            max_position_embeddings=48, pad_token_id=0, bos_token_id=2, eos_token_id=3,
        )  # fmt: skip
        model, attention = transformers.GPTNeoModel(config), "attn.attention"
        model.save_pretrained(folder)
    tensors = {name: each.clone() for name, each in model.state_dict().items()}
    for layer in range(len(model.h)):
        tensors[f"h.{layer}.{attention}.masked_bias"] = torch.tensor(-1e9)
        tensors[f"h.{layer}.{attention}.bias"] = torch.ones(1, 1, 48, 48, dtype=torch.bool).tril()
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    return folder


@pytest.mark.parametrize("kind", ["gpt2", "gpt_neo"])
def test_buffers_of_old_files_are_no_layers_too_many(tmp_path: Path, kind: str) -> None:
    from safetensors.torch import load_file, save_file

    folder = gpt(tmp_path / "base", kind)
    opened = open_base(folder, Labels(("a", "b")))
    assert opened.new == {"score.weight"}
    tensors = load_file(folder / "model.safetensors")
    layers = len(opened.model.transformer.h)
    beyond = {
        name.replace("h.0.", f"h.{layers}."): each.clone() for name, each in tensors.items() if name[:4] == "h.0."
    }
    save_file(tensors | beyond, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(
        ToolError, match=rf"h\.{layers}\.\S+, and by its config.json the model has layers 0 to"
    ) as raised:
        open_base(folder, Labels(("a", "b")))
    assert raised.value.kind == "bad-model"
