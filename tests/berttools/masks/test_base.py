"""A mask's base is known under other names, and any other base is refused."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from _toolio.errors import ToolError
from berttools.checkpoints.files import open_checkpoint
from berttools.masks.base import check_base, names_in_model, other_tensors
from berttools.masks.file import open_mask
from berttools.masks.writer import write_mask
from mask_forging import forged
from small_masks import HEAD, OUTPUT, QUERY, keeps_of, write_base, written


@pytest.mark.parametrize("prefix", ["", "bert.", "model.bert."])
def test_another_prefix_and_shards_are_the_same_base(tmp_path: Path, prefix: str) -> None:
    _, out = written(tmp_path)
    other = write_base(tmp_path / "other", prefix=prefix)
    tensors = load_file(other / "model.safetensors")
    (other / "model.safetensors").unlink()
    names = sorted(tensors)
    for shard, part in (("a.safetensors", names[:2]), ("b.safetensors", names[2:])):
        save_file({name: tensors[name] for name in part}, other / shard)
    index = {"weight_map": {name: "a.safetensors" if name in names[:2] else "b.safetensors" for name in names}}
    (other / "model.safetensors.index.json").write_text(json.dumps(index))
    opened, mask = open_checkpoint(other), open_mask(out)
    stored = check_base(mask.fingerprint, opened)
    assert stored[QUERY] == QUERY.replace("bert.", prefix)
    keep = mask.keep(QUERY, opened.flat(stored[QUERY]))
    assert np.array_equal(keep, keeps_of(tmp_path / "base")[QUERY])


def test_another_base_is_refused_by_the_tensor_that_differs(tmp_path: Path) -> None:
    base, out = written(tmp_path)
    mask, tensors = open_mask(out), load_file(base / "model.safetensors")
    other = tmp_path / "other.safetensors"
    changed = {name: array.copy() for name, array in tensors.items()}
    changed["encoder.layer.1.output.dense.weight"][3, 3] += 1
    save_file(changed, other)
    with pytest.raises(ToolError, match=r"other base: the sha256 of bert\.encoder\.layer\.1\.output\.dense\.weight"):
        check_base(mask.fingerprint, open_checkpoint(other))
    with pytest.raises(ToolError, match="the sha256 of bert"):
        check_base(mask.fingerprint, open_checkpoint(write_base(tmp_path / "double", "float64")))
    del changed["encoder.layer.1.output.dense.weight"]
    save_file(changed, other)
    with pytest.raises(ToolError, match=r"has no bert\.encoder\.layer\.1\.output\.dense\.weight of shape 24x40"):
        check_base(mask.fingerprint, open_checkpoint(other))
    changed["encoder.layer.1.output.dense.weight"] = np.zeros((40, 24), np.float32)
    save_file(changed, other)
    with pytest.raises(ToolError, match="of shape 24x40"):
        check_base(mask.fingerprint, open_checkpoint(other))
    # What the model does not use may be there or not.
    save_file({**tensors, "cls.predictions.bias": np.zeros(3, np.float32)}, other)
    check_base(mask.fingerprint, open_checkpoint(other))
    for name in ("encoder.layer.1.attention.self.query.bias", "embeddings.w"):
        changed = {each: array + (each == name) for each, array in tensors.items()}
        save_file(changed, other)
        with pytest.raises(ToolError, match="another base: the sha256 of what is outside the masked matrices was"):
            check_base(mask.fingerprint, open_checkpoint(other))
        del changed[name]
        save_file(changed, other)
        with pytest.raises(ToolError, match=f"has no bert.{name}, which the model of"):
            check_base(mask.fingerprint, open_checkpoint(other))


def test_a_mask_that_names_nothing_else_of_its_base_is_read(tmp_path: Path) -> None:
    base, out = written(tmp_path)
    forged(out, out, lambda about: [about.pop(key) for key in ("others", "tokenizer_sha256")])
    tensors = load_file(base / "model.safetensors")
    save_file({**tensors, "embeddings.w": tensors["embeddings.w"] + 1}, base / "model.safetensors")
    assert check_base(open_mask(out).fingerprint, open_checkpoint(base)).keys() == {QUERY, OUTPUT}


def test_what_else_is_used_is_one_digest_and_names(tmp_path: Path) -> None:
    base, out = written(tmp_path)
    mask, opened = open_mask(out), open_checkpoint(base)
    assert mask.fingerprint.others == ["bert.embeddings.w", QUERY.replace("weight", "bias")]
    others = {"bert.embeddings.w": "embeddings.w"}
    write_mask(out, keeps_of(base), HEAD, "{}", opened, {}, others=others)
    mask = open_mask(out)
    assert mask.fingerprint.others == list(others)
    tensors = load_file(base / "model.safetensors")
    tensors["encoder.layer.1.attention.self.query.bias"] += 1
    save_file(tensors, base / "model.safetensors")
    assert check_base(mask.fingerprint, open_checkpoint(base)), "which this model does not use"


def test_names_of_the_model() -> None:
    class Base:
        tensors = dict.fromkeys(["encoder.layer.0.a.weight", "embeddings.LayerNorm.gamma", "x"])

    stored = {"bert.encoder.layer.0.a.weight": "encoder.layer.0.a.weight"}
    assert names_in_model(Base(), stored) == {  # type: ignore[arg-type]
        "encoder.layer.0.a.weight": "bert.encoder.layer.0.a.weight",
        "embeddings.LayerNorm.gamma": "bert.embeddings.LayerNorm.weight",
        "x": "bert.x",
    }


def test_other_tensors_are_neither_masked_nor_dense(tmp_path: Path) -> None:
    base = open_checkpoint(write_base(tmp_path / "base"))
    masked = {QUERY: QUERY.removeprefix("bert.")}
    assert other_tensors(base, masked, {"bert.embeddings.w": None}) == {
        OUTPUT: OUTPUT.removeprefix("bert."),
        QUERY.replace("weight", "bias"): QUERY.replace("weight", "bias").removeprefix("bert."),
    }


def test_digests_are_taken_once(tmp_path: Path) -> None:
    base, out = written(tmp_path)
    made_for, opened = open_mask(out).fingerprint, open_checkpoint(base)
    digests: dict[str, str] = {}
    check_base(made_for, opened, digests)
    assert digests.keys() == opened.tensors.keys()
    wrong = {**digests, QUERY.removeprefix("bert."): "0" * 64}
    with pytest.raises(ToolError, match=r"and in .* it is 000000000000"):
        check_base(made_for, opened, wrong)
