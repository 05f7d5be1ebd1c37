"""apply-mask: the folder is the model that the mask was made with, bit for bit; any other base is refused."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from berttools.checkpoints.files import open_checkpoint
from berttools.classifier.model import open_base, open_model
from berttools.masks.file import open_mask
from berttools.masks.task_config import TASK_KEYS
from conftest import Run
from mask_forging import forged, set_config
from tiny_models import logits, make_base, make_mask, texts, write_lines


def test_swapped_arguments(berttools: Callable[..., Run], base: Path, tmp_path: Path, mask: Path) -> None:
    for other in (base, base / "model.safetensors"):
        refused = berttools("apply-mask", mask, other, "--out", tmp_path / "out")
        assert refused.code == 2
        assert "the order is BASE MASK" in refused.err
    refused = berttools("apply-mask", base / "model.safetensors", mask, "--out", tmp_path / "out")
    assert "is no folder" in refused.err, "which is no mask"


def opened(folder: Path) -> Any:
    from transformers import AutoModelForSequenceClassification

    model, loading = AutoModelForSequenceClassification.from_pretrained(
        folder, dtype=torch.float32, output_loading_info=True
    )
    assert not loading["missing_keys"]
    # RoBERTa's classifier has no use for the pooler of its base, which is copied all the same.
    assert all("pooler" in name for name in loading["unexpected_keys"])
    assert not loading["mismatched_keys"]
    return model.eval()


@pytest.fixture
def mask(base: Path, tmp_path: Path) -> Path:
    make_mask(base, tmp_path / "a.mask.safetensors")
    return tmp_path / "a.mask.safetensors"


def test_a_cache_of_digests_changes_nothing(
    berttools: Callable[..., Run], base: Path, tmp_path: Path, mask: Path
) -> None:
    """The base may have been written a moment ago: then nothing is kept, and that changes nothing either."""
    cache = tmp_path / "cache.json"
    assert berttools("apply-mask", base, mask, "--out", tmp_path / "plain").code == 0
    for name in ("one", "two"):
        assert berttools("apply-mask", base, mask, "--out", tmp_path / name, "--digest-cache", cache).code == 0
        for path in sorted((tmp_path / "plain").iterdir()):
            assert (tmp_path / name / path.name).read_bytes() == path.read_bytes(), path.name
    assert json.loads(cache.read_bytes())["schema"] == "berttools.digests/1"
    other = make_base(tmp_path / "other", seed=9)
    refused = berttools("apply-mask", other, mask, "--out", tmp_path / "out", "--digest-cache", cache)
    assert (refused.code, "was made for another base" in refused.err) == (1, True)


def test_no_input_is_taken_for_a_cache(berttools: Callable[..., Run], base: Path, tmp_path: Path, mask: Path) -> None:
    before = mask.read_bytes()
    for cache in (mask, base / "cache.json", base / "model.safetensors"):
        refused = berttools("apply-mask", base, mask, "--out", tmp_path / "out", "--digest-cache", cache)
        assert refused.code == 2
        assert refused.err.startswith("berttools: error: --digest-cache")
    assert mask.read_bytes() == before
    assert not (base / "cache.json").exists()
    assert not (tmp_path / "out").exists()


def test_a_cache_that_cannot_be_written_leaves_no_folder(
    berttools: Callable[..., Run], base: Path, tmp_path: Path, mask: Path
) -> None:
    done = berttools("apply-mask", base, mask, "--out", tmp_path / "out", "--digest-cache", tmp_path / "no/cache.json")
    assert (done.code, done.out) == (1, b"")
    assert "no/cache.json: cannot be written" in done.err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("kind", ["bert", "roberta", "distilbert", "electra", "modernbert"])
def test_the_folder_says_what_the_model_said(berttools: Callable[..., Run], tmp_path: Path, kind: str) -> None:
    base = make_base(tmp_path / "base", kind)
    model = make_mask(base, tmp_path / "a.safetensors")
    done = berttools("apply-mask", base, tmp_path / "a.safetensors", "--out", tmp_path / "out")
    assert (done.code, done.err) == (0, "")
    (record,) = done.records
    restored = opened(tmp_path / "out")
    assert torch.equal(logits(restored), logits(model))
    assert restored.config.id2label == {0: "bad", 1: "good"}
    assert record["zeroed"] == sum(
        int((value == 0).sum()) for name, value in restored.state_dict().items()
        if value.ndim == 2 and "layer" in name
    )  # fmt: skip
    assert record["sparsity"] == pytest.approx(record["zeroed"] / record["weights"], abs=1e-6)
    assert record["bytes"] == (tmp_path / "a.safetensors").stat().st_size
    from transformers import AutoTokenizer

    assert AutoTokenizer.from_pretrained(tmp_path / "out")("a good film")["input_ids"]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_a_base_keeps_its_dtype(berttools: Callable[..., Run], base: Path, tmp_path: Path, dtype: torch.dtype) -> None:
    half = shutil.copytree(base, tmp_path / "half")
    tensors = {name: value.to(dtype) for name, value in load_file(base / "model.safetensors").items()}
    save_file(tensors, half / "model.safetensors", metadata={"format": "pt"})
    model = make_mask(half, tmp_path / "a.safetensors")
    assert berttools("apply-mask", half, tmp_path / "a.safetensors", "--out", tmp_path / "out").code == 0
    written = load_file(tmp_path / "out" / "model.safetensors")
    for name, value in tensors.items():
        now = written[f"bert.{name}"]
        assert now.dtype == dtype
        kept = now != 0
        assert torch.equal(now[kept], value[kept])
        assert not torch.signbit(now[~kept & (value != 0)]).any(), "a zeroed entry is +0.0"
    assert torch.equal(logits(opened(tmp_path / "out")), logits(model))


def test_what_no_mask_touches_is_the_bytes_of_the_base(
    berttools: Callable[..., Run], base: Path, tmp_path: Path
) -> None:
    make_mask(base, tmp_path / "a.safetensors", only="layer.1.attention.self.query")
    assert berttools("apply-mask", base, tmp_path / "a.safetensors", "--out", tmp_path / "out").code == 0
    before, after = load_file(base / "model.safetensors"), load_file(tmp_path / "out" / "model.safetensors")
    assert {name.removeprefix("bert.") for name in after} == before.keys() | {"classifier.weight", "classifier.bias"}
    changed = {name for name, value in before.items() if not torch.equal(value, after[f"bert.{name}"])}
    assert changed == {"encoder.layer.1.attention.self.query.weight"}


@pytest.mark.parametrize("prefix", ["bert.", "model.bert."])
def test_shards_under_another_prefix_and_old_names(
    berttools: Callable[..., Run], base: Path, mask: Path, tmp_path: Path, prefix: str
) -> None:
    assert berttools("apply-mask", base, mask, "--out", tmp_path / "plain").code == 0
    other = shutil.copytree(base, tmp_path / "other")
    (other / "model.safetensors").unlink()
    weight_map, shards = {}, [{}, {}, {}]  # type: ignore[var-annotated]
    for number, (name, value) in enumerate(load_file(base / "model.safetensors").items()):
        then = name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta")
        shards[number % 3][prefix + then] = value
        weight_map[prefix + then] = f"{number % 3}.safetensors"
    for number, shard in enumerate(shards):
        save_file(shard, other / f"{number}.safetensors")
    (other / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    assert berttools("apply-mask", other, mask, "--out", tmp_path / "out").code == 0
    same = [(tmp_path / each / "model.safetensors").read_bytes() for each in ("plain", "out")]
    assert same[0] == same[1]


def test_twice_is_the_same_and_force_replaces(
    berttools: Callable[..., Run], base: Path, mask: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    assert berttools("apply-mask", base, mask, "--out", out).code == 0
    first = {path.name: path.read_bytes() for path in out.iterdir()}
    assert "README.md" in first
    again = berttools("apply-mask", base, mask, "--out", out)
    assert again.code == 2
    assert "use --force" in again.err
    assert berttools("apply-mask", base, mask, "--out", out, "--force").code == 0
    assert {path.name: path.read_bytes() for path in out.iterdir()} == first
    (out / "thesis.txt").write_text("mine")
    assert "thesis.txt in it is not of a model" in berttools("apply-mask", base, mask, "--out", out, "--force").err
    refused = berttools("apply-mask", base, mask, "--out", base, "--force")
    assert refused.code == 2
    assert "is the base" in refused.err
    # The model of one mask is no base for it.
    shutil.rmtree(tmp_path / "twice", ignore_errors=True)
    wrong = berttools("apply-mask", out, mask, "--out", tmp_path / "twice")
    assert wrong.code == 1
    assert "was made for another base" in wrong.err


def test_another_base_is_refused_and_nothing_left(
    berttools: Callable[..., Run], base: Path, mask: Path, tmp_path: Path
) -> None:
    other = shutil.copytree(base, tmp_path / "other")
    tensors = load_file(base / "model.safetensors")
    tensors["encoder.layer.2.output.dense.weight"][3, 3] += 1
    save_file(tensors, other / "model.safetensors", metadata={"format": "pt"})
    done = berttools("apply-mask", other, mask, "--out", tmp_path / "out")
    assert done.code == 1
    assert "the sha256 of bert.encoder.layer.2.output.dense.weight" in done.err
    assert not (tmp_path / "out").exists()
    assert not [path for path in tmp_path.iterdir() if path.name.endswith(".tmp")]
    del tensors["encoder.layer.2.output.dense.weight"]
    save_file(tensors, other / "model.safetensors", metadata={"format": "pt"})
    done = berttools("apply-mask", other, mask, "--out", tmp_path / "out")
    assert done.code == 1
    assert "has no bert.encoder.layer.2.output.dense.weight of shape 16x32" in done.err


@pytest.mark.parametrize("name", ["embeddings.word_embeddings.weight", "encoder.layer.0.output.LayerNorm.bias"])
def test_a_base_that_differs_outside_the_masked_matrices_is_refused(
    berttools: Callable[..., Run], base: Path, mask: Path, tmp_path: Path, name: str
) -> None:
    other, lines = shutil.copytree(base, tmp_path / "other"), write_lines(tmp_path / "x.jsonl", texts(1))
    tensors = load_file(base / "model.safetensors")
    tensors[name].view(-1)[3] += 1
    save_file(tensors, other / "model.safetensors", metadata={"format": "pt"})
    for words in (
        ["apply-mask", other, mask, "--out", tmp_path / "out"],
        ["predict", "--base", other, "--mask", mask, "--in", lines],
        ["mask-control", other, mask, "--out", tmp_path / "out"],
        ["maskdiff", mask, "--base", other],
    ):
        done = berttools(*words)
        assert (done.code, done.out, done.err.count("\n")) == (1, b"", 1)
        assert "was made for another base: the sha256 of what is outside the masked matrices was" in done.err
    assert not (tmp_path / "out").exists()
    # Of a control too.
    assert berttools("mask-control", base, mask, "--out", tmp_path / "control").code == 0
    assert berttools("apply-mask", other, tmp_path / "control", "--out", tmp_path / "out").code == 1
    before, after = open_mask(mask), open_mask(tmp_path / "control")
    assert before.fingerprint.others == after.fingerprint.others
    assert before.fingerprint.tokenizer_sha256 == after.fingerprint.tokenizer_sha256


def test_a_base_with_another_tokenizer_is_refused(
    berttools: Callable[..., Run], base: Path, mask: Path, tmp_path: Path
) -> None:
    other, lines = shutil.copytree(base, tmp_path / "other"), write_lines(tmp_path / "x.jsonl", texts(1))
    text = (other / "tokenizer.json").read_text()
    (other / "tokenizer.json").write_text(text.replace('"good"', '"swap"').replace('"bad"', '"good"'))
    for words in (
        ["apply-mask", other, mask, "--out", tmp_path / "out"],
        ["predict", "--base", other, "--mask", mask, "--in", lines],
    ):
        done = berttools(*words)
        assert (done.code, done.out, done.err.count("\n")) == (1, b"", 1)
        assert "was made for another base: its tokenizer is not the one in" in done.err
    assert not (tmp_path / "out").exists()
    # One that is not there cannot be compared.
    assert berttools("maskdiff", mask, "--base", base / "model.safetensors").code == 0
    forged(mask, tmp_path / "b", lambda about: about.update(tokenizer_sha256=None))
    assert berttools("apply-mask", other, tmp_path / "b", "--out", tmp_path / "out").code == 0


@pytest.mark.parametrize(
    "change",
    [
        lambda about: about["matrices"][QUERY].update(shape=["a"]),
        lambda about: about["matrices"][QUERY].update(zeroed=10**30),
        lambda about: about["matrices"][QUERY].update(code="zip"),
        lambda about: about.update(config="hello"),
        lambda about: about.update(made=[]),
        set_config(id2label={"0": "a", "7": "b"}),
    ],
)
def test_wrong_contents_under_right_digests_are_one_line_of_every_command(
    berttools: Callable[..., Run], base: Path, mask: Path, tmp_path: Path, change: Any
) -> None:
    bad, lines = forged(mask, tmp_path / "bad", change), write_lines(tmp_path / "x.jsonl", texts(1))
    for words in (
        ["apply-mask", base, bad, "--out", tmp_path / "out"],
        ["predict", "--base", base, "--mask", bad, "--in", lines],
        ["mask-control", base, bad, "--out", tmp_path / "out"],
        ["maskdiff", bad],
        ["maskdiff", mask, bad],
        ["maskdiff", bad, "--base", base],
    ):
        done = berttools(*words)
        assert (done.code, done.out, done.err.count("\n")) == (1, b"", 1)
        assert f"{bad}: damaged: " in done.err
    assert not (tmp_path / "out").exists()


def test_the_card(berttools: Callable[..., Run], base: Path, mask: Path, tmp_path: Path) -> None:
    licensed = shutil.copytree(base, tmp_path / "licensed")
    (licensed / "README.md").write_text("---\nlanguage: en\nlicense: apache-2.0\n---\n\nlicense: no\n")
    assert berttools("apply-mask", licensed, mask, "--out", tmp_path / "out").code == 0
    card = (tmp_path / "out" / "README.md").read_text()
    assert card.startswith("---\nlicense: apache-2.0\nlibrary_name: transformers\n")
    assert "- accuracy on the texts that it was measured on: 0.7500" in card
    assert "- labels: bad, good" in card
    assert [line.split(" | ")[0] for line in card.splitlines() if line.startswith("| ")] == [
        "| group", "| AO", "| I", "| K", "| O", "| Q", "| V",
    ]  # fmt: skip
    made = json.loads((tmp_path / "out" / "berttools.json").read_text())
    assert made["seed"] == 0
    assert len(made["mask"]["masked_sha256"]) == 64
    (record,) = berttools("apply-mask", base, mask, "--out", tmp_path / "out", "--force").records
    assert record["masked_sha256"] == made["mask"]["masked_sha256"]
    assert "base_sha256" not in record, "which is a digest of all tensors, in the records of other commands"
    assert berttools("apply-mask", base, mask, "--out", tmp_path / "free").code == 0
    assert "license" not in (tmp_path / "free" / "README.md").read_text()


QUERY = "bert.encoder.layer.1.attention.self.query.weight"
STRANGE = {
    "auto_map": {"AutoModelForSequenceClassification": "somebody/else--x.M"},
    "attn_implementation": "somebody/kernel",
    "_attn_implementation": "somebody/kernel",
    "hidden_act": "relu",
    "transformers_version": "9",
}


def test_a_mask_sets_nothing_of_the_configuration_but_the_task(
    berttools: Callable[..., Run], base: Path, tmp_path: Path
) -> None:
    model = make_mask(base, tmp_path / "good")
    forged(tmp_path / "good", tmp_path / "strange", set_config(**STRANGE, problem_type="single_label_classification"))
    assert berttools("apply-mask", base, tmp_path / "strange", "--out", tmp_path / "out").code == 0
    before, after = (json.loads((folder / "config.json").read_bytes()) for folder in (base, tmp_path / "out"))
    changed = {key for key in before.keys() | after.keys() if before.get(key) != after.get(key)}
    assert {"architectures", "id2label"} <= changed <= {*TASK_KEYS}
    assert after["id2label"] == {"0": "bad", "1": "good"}
    assert torch.equal(logits(open_model(tmp_path / "out").model), logits(model))


def test_labels_of_the_base_are_not_those_of_a_task_that_names_none(
    berttools: Callable[..., Run], base: Path, mask: Path, tmp_path: Path
) -> None:
    """What equals a default is not in the text of a configuration."""
    other = shutil.copytree(base, tmp_path / "other")
    about = json.loads((base / "config.json").read_bytes())
    about |= {"id2label": {"0": "x", "1": "y", "2": "z"}, "label2id": {"x": 0, "y": 1, "z": 2}}
    (other / "config.json").write_text(json.dumps(about))

    def unnamed(metadata: dict[str, Any]) -> None:
        config = json.loads(metadata["config"])
        metadata["config"] = json.dumps({key: each for key, each in config.items() if "label" not in key})

    forged(mask, tmp_path / "unnamed", unnamed)
    assert berttools("apply-mask", other, tmp_path / "unnamed", "--out", tmp_path / "out").code == 0
    assert open_model(tmp_path / "out").labels.names == ("LABEL_0", "LABEL_1")


def test_a_mask_of_another_type_of_model_is_refused(
    berttools: Callable[..., Run], base: Path, mask: Path, tmp_path: Path
) -> None:
    forged(mask, tmp_path / "other", set_config(model_type="evil"))
    lines = tmp_path / "x.jsonl"
    lines.write_text('{"text":"a good film"}\n')
    for words in (
        ["apply-mask", base, tmp_path / "other", "--out", tmp_path / "out"],
        ["predict", "--base", base, "--mask", tmp_path / "other", "--in", lines],
    ):
        done = berttools(*words)
        assert (done.code, done.out, done.err.count("\n")) == (1, b"", 1)
        assert "was made for a model of type 'evil'" in done.err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "fields",
    [
        {"attn_implementation": "somebody/kernel"},
        {"_attn_implementation": "somebody/kernel"},
        {"attn_implementation": "flash_attention_2"},
        {"attn_implementation": "somebody/kernel@main:forward"},
        {"experts_implementation": "somebody/kernel"},
    ],
)
def test_a_configuration_chooses_no_kernel(
    base: Path, tmp_path: Path, fields: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from transformers import modeling_utils

    def fetched(*_: object, **__: object) -> None:
        raise AssertionError("a kernel was asked for")

    monkeypatch.setattr(modeling_utils, "lazy_import_flash_attention", fetched, raising=False)
    folder = shutil.copytree(base, tmp_path / "base")
    about = json.loads((base / "config.json").read_bytes())
    (folder / "config.json").write_text(json.dumps({**about, **fields}))
    assert open_base(folder, None).model.config._attn_implementation in ("eager", "sdpa")


@pytest.mark.parametrize("chosen", ["somebody/kernel", "flash_attention_2", "paged|somebody/kernel@main:forward"])
def test_no_kernel_is_chosen_where_transformers_would_follow_the_file(
    base: Path, monkeypatch: pytest.MonkeyPatch, chosen: str
) -> None:
    """Which keys of a config.json it follows is another in each of its versions."""
    from transformers import AutoConfig

    read = AutoConfig.from_pretrained

    def followed(*words: Any, **more: Any) -> Any:
        config = read(*words, **more)
        config._attn_implementation, config._experts_implementation = chosen, "somebody/kernel"
        return config

    monkeypatch.setattr(AutoConfig, "from_pretrained", followed)
    model = open_base(base, None).model
    assert model.config._attn_implementation in ("eager", "sdpa")
    assert "/" not in str(model.config._experts_implementation)


def test_no_torch(base: Path, mask: Path, tmp_path: Path) -> None:
    code = (
        "import sys\nfrom berttools.cli import main\n"
        f"sys.argv = ['berttools', 'apply-mask', {str(base)!r}, {str(mask)!r}, '--out', {str(tmp_path / 'out')!r}]\n"
        "try: main()\nexcept SystemExit as end: assert not end.code\n"
        "assert not {'torch', 'transformers'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
    assert open_checkpoint(tmp_path / "out").tensors
