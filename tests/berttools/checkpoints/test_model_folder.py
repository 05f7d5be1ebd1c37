"""Model folders: what is one, what is written into one, and which may be replaced."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from safetensors.numpy import load_file

from _toolio.errors import ToolError, UsageError
from _toolio.tensors.writer import write_safetensors
from berttools.checkpoints.model_folder import (
    MADE,
    check_folder,
    has_head,
    inner_folder,
    made_of,
    refuse_model_folder,
    tokenizer_files,
    without_kernels,
    write_model,
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    base = tmp_path / "base"
    base.mkdir()
    (base / "config.json").write_text('{"architectures": ["BertForSequenceClassification"]}')
    (base / "vocab.txt").write_text("good")
    return base


def test_what_is_no_models_folder(folder: Path, tmp_path: Path) -> None:
    check_folder(folder)
    for path, kind in ((tmp_path / "none", "not-found"), (folder / "vocab.txt", "not-found"), (tmp_path, "no-config")):
        with pytest.raises(ToolError) as refused:
            check_folder(path)
        assert refused.value.kind == kind
    (folder / "vocab.txt").unlink()
    with pytest.raises(ToolError, match="no tokenizer in it"):
        check_folder(folder)


@pytest.mark.parametrize("text", ['{"architectures": ["BertModel"]}', "{}", "[]", "no JSON", '{"architectures": [3]}'])
def test_a_model_without_a_head(folder: Path, text: str) -> None:
    assert has_head(folder)
    (folder / "config.json").write_text(text)
    assert not has_head(folder)


def test_a_folder_is_written_whole(folder: Path, tmp_path: Path) -> None:
    tensors = {"w": np.arange(3, dtype=np.float32)}
    made = {"figures": {"score": 0.5}, "seed": 1}
    write_model(tmp_path / "out", tensors, "{}", folder, made)
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        MADE, "config.json", "model.safetensors", "vocab.txt",
    ]  # fmt: skip
    assert np.array_equal(load_file(tmp_path / "out" / "model.safetensors")["w"], tensors["w"])
    assert made_of(tmp_path / "out") == made
    assert [path.name for path in tokenizer_files(tmp_path / "out")] == ["vocab.txt"]


def test_a_folder_opens_though_the_bases_weights_had_another_name(folder: Path, tmp_path: Path) -> None:
    from transformers import BertConfig, BertModel

    base = BertModel(BertConfig(vocab_size=12, hidden_size=8, num_hidden_layers=1, num_attention_heads=2))
    config = {**base.config.to_dict(), "transformers_weights": "w.safetensors"}
    tensors = {name: value.numpy() for name, value in base.state_dict().items()}
    write_model(tmp_path / "out", tensors, json.dumps(config), folder, {"figures": {}})
    opened = BertModel.from_pretrained(tmp_path / "out").state_dict()
    assert all(np.array_equal(opened[name].numpy(), value) for name, value in tensors.items())


def test_what_was_not_made_by_a_command(folder: Path, tmp_path: Path) -> None:
    write_safetensors(tmp_path / "delta", {"w": np.zeros(1, np.float32)}, {"made": {"figures": {"score": 1}}})
    assert made_of(tmp_path / "delta") == {"figures": {"score": 1}}
    write_safetensors(tmp_path / "other", {"w": np.zeros(1, np.float32)}, {"made": {}})
    for path in (folder, tmp_path / "other"):
        with pytest.raises(ToolError, match="was not made by this command; name another out") as refused:
            made_of(path)
        assert refused.value.kind == "not-ours"


def test_which_folders_are_replaced(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    refuse_model_folder(out, force=False, base=folder)
    out.mkdir()
    refuse_model_folder(out, force=False, base=folder)
    for name in (MADE, "config.json", "vocab.txt"):
        (out / name).write_text("{}")
    with pytest.raises(UsageError, match="is not empty; use force"):
        refuse_model_folder(out, force=False, base=folder)
    refuse_model_folder(out, force=True, base=folder)
    (out / "README.md").write_text("mine")
    refuse_model_folder(out, force=True, base=folder, card=True)
    with pytest.raises(UsageError, match=r"README\.md in it is not of a model that berttools wrote"):
        refuse_model_folder(out, force=True, base=folder)
    (out / "README.md").unlink()
    (out / MADE).unlink()
    with pytest.raises(UsageError, match=r"config\.json in it is not of a model"):
        refuse_model_folder(out, force=True, base=folder)
    with pytest.raises(UsageError, match="is the base"):
        refuse_model_folder(folder, force=True, base=folder)
    with pytest.raises(UsageError, match="is no folder"):
        refuse_model_folder(folder / "vocab.txt", force=True, base=folder)


@pytest.mark.parametrize(("chosen", "left"), [("sdpa", "sdpa"), ("flash_attention_2", None), ("somebody/kernel", None)])
def test_no_configuration_chooses_a_kernel(chosen: str, left: str | None) -> None:
    inner = SimpleNamespace(_attn_implementation=chosen, to_dict=dict)
    config = SimpleNamespace(
        _attn_implementation=chosen, _experts_implementation="somebody/kernel", sub_configs=["text"], text=inner
    )
    without_kernels(config)
    assert (config._attn_implementation, config._experts_implementation, inner._attn_implementation) == (
        left, None, left,
    )  # fmt: skip


def test_a_folder_of_sentence_transformers(folder: Path, tmp_path: Path) -> None:
    for name, modules in (
        (
            "listed",
            '[{"path": "0_Transformer", "type": "sentence_transformers.models.Transformer"}, {"path": "1_Pooling"}]',
        ),
        ("unlisted", None),
        ("damaged", "{"),
        ("foreign", '[{"path": "../base", "type": "sentence_transformers.models.Transformer"}]'),
    ):
        outer = tmp_path / name
        (outer / "1_Pooling").mkdir(parents=True)
        (outer / "1_Pooling" / "config.json").write_text("{}")
        shutil.copytree(folder, outer / "0_Transformer")
        if modules is not None:
            (outer / "modules.json").write_text(modules)
        assert inner_folder(outer) == outer / "0_Transformer"
        check_folder(outer)
        assert has_head(outer)
        assert tokenizer_files(outer) == [outer / "0_Transformer" / "vocab.txt"]
    assert inner_folder(folder) == folder
    assert inner_folder(tmp_path / "none") == tmp_path / "none"
    shutil.copytree(folder, tmp_path / "listed" / "0_Other")
    (tmp_path / "listed" / "modules.json").write_text(json.dumps([{"path": "x" * 5000, "type": "Transformer"}]))
    assert inner_folder(tmp_path / "listed") == tmp_path / "listed", "no folder has such a name"
    (tmp_path / "listed" / "modules.json").unlink()
    assert inner_folder(tmp_path / "listed") == tmp_path / "listed", "two of them: neither is taken"


@pytest.mark.parametrize("name", ["vocab.txt", "config.json"])
def test_a_file_that_is_a_pointer(name: str, folder: Path) -> None:
    (folder / name).write_bytes(b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n")
    with pytest.raises(ToolError, match=rf"{name}: it is a Git LFS pointer, fetch the file with `git lfs pull`"):
        check_folder(folder)
