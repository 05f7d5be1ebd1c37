"""mask-control: as many zeros in each matrix, the same head, other places."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from berttools.checkpoints.files import open_checkpoint
from berttools.masks.base import check_base
from berttools.masks.file import open_mask
from berttools.masks.writer import write_mask
from conftest import Run
from tiny_models import make_base, make_mask, texts, write_lines


@pytest.mark.parametrize("kind", ["random", "magnitude"])
def test_a_control_is_as_sparse_and_has_the_head(
    berttools: Callable[..., Run], base: Path, tmp_path: Path, kind: str
) -> None:
    make_mask(base, tmp_path / "a.safetensors")
    done = berttools(
        "mask-control", base, tmp_path / "a.safetensors", "--kind", kind, "--out", tmp_path / "c", "--seed", "4"
    )
    assert (done.code, done.err) == (0, "")
    (record,) = done.records
    learned, control = open_mask(tmp_path / "a.safetensors"), open_mask(tmp_path / "c")
    assert control.zeroed == learned.zeroed
    assert record["sparsity"] == pytest.approx(learned.figures()["sparsity"], abs=1e-6)
    assert control.config == learned.config
    assert {name: array.tobytes() for name, array in control.dense.items()} == {
        name: array.tobytes() for name, array in learned.dense.items()
    }
    assert (control.made["control"], control.made["of"]) == (kind, learned.made)
    assert control.made["seed"] == (4 if kind == "random" else None)
    assert "figures" not in control.made, "what the learned mask scored is not this one's"
    opened = open_checkpoint(base)
    for name, stored in check_base(control.fingerprint, opened).items():
        values = np.abs(opened.flat(stored).values(0, opened.tensors[stored].size))
        keep = control.keep(name, values).reshape(-1)
        if kind == "magnitude":
            assert values[~keep].max() <= values[keep].min()
        else:
            assert values[~keep].max() > values[keep].min()
    assert berttools("apply-mask", base, tmp_path / "c", "--out", tmp_path / "out").code == 0
    assert f"nothing was learned (control: {kind})" in (tmp_path / "out" / "README.md").read_text()


@pytest.mark.parametrize("kind", ["random", "magnitude"])
@pytest.mark.parametrize("pattern", ["2:4", "row"])
def test_what_was_zeroed_together_is_so_in_a_control(
    berttools: Callable[..., Run], base: Path, tmp_path: Path, kind: str, pattern: str
) -> None:
    write_lines(tmp_path / "train.jsonl", texts(16))
    some = ["--pattern", pattern, "--max-steps", "2", "--out", tmp_path / "a"]
    some += ["--initial-sparsity", "0.25"] if pattern == "row" else []
    assert berttools("mask-tune", "--base", base, "--train", tmp_path / "train.jsonl", *some).code == 0
    done = berttools("mask-control", base, tmp_path / "a", "--kind", kind, "--out", tmp_path / "c")
    assert (done.code, done.err) == (0, "")
    learned, control, opened = open_mask(tmp_path / "a"), open_mask(tmp_path / "c"), open_checkpoint(base)
    assert control.zeroed == learned.zeroed
    for name, stored in check_base(control.fingerprint, opened).items():
        values = np.abs(opened.flat(stored).values(0, opened.tensors[stored].size)).reshape(control.shapes[name])
        keep = control.keep(name, values)
        if pattern == "row":
            assert set(keep.sum(1)) == {0, keep.shape[1]}
            sizes, kept = values.sum(1), keep.any(1)
        else:
            assert (keep.reshape(-1, 4).sum(1) == 2).all()
            fours, keep = values.reshape(-1, 4), keep.reshape(-1, 4)
            sizes, kept = fours[0], keep[0]
        assert kind == "random" or sizes[~kept].max() <= sizes[kept].min()
    assert kind == "magnitude" or control.bits_sha256 != learned.bits_sha256


@pytest.mark.parametrize("pattern", ["2:4", "row"])
def test_a_control_of_a_control_keeps_the_pattern(
    berttools: Callable[..., Run], base: Path, tmp_path: Path, pattern: str
) -> None:
    make_mask(base, tmp_path / "free.safetensors")
    learned, opened = open_mask(tmp_path / "free.safetensors"), open_checkpoint(base)
    keeps = {}
    for name, (rows, columns) in learned.shapes.items():
        half = np.resize([True, False, True, False], rows if pattern == "row" else columns)
        keeps[name] = np.broadcast_to(half[:, None] if pattern == "row" else half, (rows, columns)).copy()
    made = {"recipe": {"pattern": pattern}, "labels": ["bad", "good"]}
    write_mask(tmp_path / "0", keeps, learned.dense, learned.config, opened, made)
    for number, kind in enumerate(("random", "magnitude", "random"), 1):
        before, out = tmp_path / str(number - 1), tmp_path / str(number)
        done = berttools("mask-control", base, before, "--kind", kind, "--out", out)
        assert (done.code, done.err) == (0, "")
        mask = open_mask(out)
        for name, stored in check_base(mask.fingerprint, opened).items():
            values = np.abs(opened.flat(stored).values(0, opened.tensors[stored].size)).reshape(mask.shapes[name])
            kept = mask.keep(name, values)
            if pattern == "row":
                assert set(kept.sum(1)) == {0, kept.shape[1]}
            else:
                assert (kept.reshape(-1, 4).sum(1) == 2).all()


def test_there_is_no_control_of_heads(berttools: Callable[..., Run], base: Path, tmp_path: Path) -> None:
    write_lines(tmp_path / "train.jsonl", texts(16))
    some = ["--pattern", "head", "--group", "Q,K", "--max-steps", "2", "--out", tmp_path / "a"]
    assert berttools("mask-tune", "--base", base, "--train", tmp_path / "train.jsonl", *some).code == 0
    refused = berttools("mask-control", base, tmp_path / "a", "--out", tmp_path / "c")
    assert (refused.code, refused.out, refused.err.count("\n")) == (1, b"", 1)
    assert "zeroes whole attention heads" in refused.err
    assert not (tmp_path / "c").exists()


def test_a_seed_decides(berttools: Callable[..., Run], base: Path, tmp_path: Path) -> None:
    make_mask(base, tmp_path / "a.safetensors")
    for out, seed in (("one", "1"), ("again", "1"), ("two", "2")):
        assert (
            berttools("mask-control", base, tmp_path / "a.safetensors", "--out", tmp_path / out, "--seed", seed).code
            == 0
        )
    one, again, two = ((tmp_path / name).read_bytes() for name in ("one", "again", "two"))
    assert one == again
    assert one != two
    # Matrices of one shape are not masked alike.
    mask, opened = open_mask(tmp_path / "one"), open_checkpoint(base)
    first, second = [
        mask.keep(name, opened.flat(stored))
        for name, stored in check_base(mask.fingerprint, opened).items()
        if "key.weight" in name
    ][:2]
    assert not np.array_equal(first, second)


def test_no_file_of_the_base_is_replaced(berttools: Callable[..., Run], base: Path, tmp_path: Path) -> None:
    mask, weights = tmp_path / "a.safetensors", base / "model.safetensors"
    make_mask(base, mask)
    before = weights.read_bytes()
    (tmp_path / "link").symlink_to(weights)
    for out in (weights, tmp_path / "link", base / "new.safetensors"):
        refused = berttools("mask-control", base, mask, "--out", out, "--force")
        assert refused.code == 2
        assert "lies in BASE" in refused.err
    refused = berttools("mask-control", weights, mask, "--out", weights, "--force")
    assert (refused.code, weights.read_bytes() == before) == (2, True)
    # Weights in several files, named by their index.
    (tmp_path / "parts").mkdir()
    shutil.copy(weights, tmp_path / "parts" / "one.safetensors")
    index = tmp_path / "parts" / "model.safetensors.index.json"
    names = open_checkpoint(base).tensors
    index.write_text(json.dumps({"weight_map": dict.fromkeys(names, "one.safetensors")}))
    refused = berttools("mask-control", index, mask, "--out", tmp_path / "parts" / "one.safetensors", "--force")
    assert refused.code == 2
    assert (tmp_path / "parts" / "one.safetensors").read_bytes() == before
    assert berttools("mask-control", index, mask, "--out", tmp_path / "c").code == 0


def test_swapped_arguments(berttools: Callable[..., Run], base: Path, tmp_path: Path) -> None:
    mask = tmp_path / "a.safetensors"
    make_mask(base, mask)
    for other in (base, base / "model.safetensors", mask):
        refused = berttools("mask-control", mask, other, "--out", tmp_path / "c")
        assert (refused.code, refused.out, refused.err.count("\n")) == (2, b"", 1)
        assert f"{mask}: is a mask, not a base; the order is BASE MASK" in refused.err


def test_what_is_no_mask(berttools: Callable[..., Run], base: Path, tmp_path: Path) -> None:
    (tmp_path / "weights.bin").write_bytes(b"PK\x03\x04 and the rest of a zip")
    for other in (base, base / "model.safetensors", base / "config.json", tmp_path / "weights.bin"):
        for words in (
            ["mask-control", base, other, "--out", tmp_path / "c"],
            ["apply-mask", base, other, "--out", tmp_path / "c"],
            ["maskdiff", other],
        ):
            refused = berttools(*words)
            assert (refused.code, refused.out, refused.err.count("\n")) == (1, b"", 1)
            assert f"{other}: is no mask; berttools mask-tune writes one" in refused.err
    assert not (tmp_path / "c").exists()


def test_controls_of_two_masks_are_independent(berttools: Callable[..., Run], tmp_path: Path) -> None:
    """With one seed, the entries that the sparser control zeroes were all zeroed by the other too."""
    name = "model.layers.0.attention.self.query.weight"
    rng = np.random.default_rng(0)
    save_file({name: rng.standard_normal((64, 64)).astype(np.float32)}, tmp_path / "base.safetensors")
    weights = open_checkpoint(tmp_path / "base.safetensors")
    for number, (out, share) in enumerate((("a", 0.2), ("b", 0.4), ("c", 0.2))):
        keep = np.random.default_rng(number).random((64, 64)) >= share
        write_mask(tmp_path / out, {name: keep}, {}, "{}", weights, {}, code="bits")
        done = berttools("mask-control", weights.path, tmp_path / out, "--out", tmp_path / f"{out}.control")
        assert done.code == 0
    records = berttools("maskdiff", *(tmp_path / f"{out}.control" for out in "abc")).records
    assert len(records) == 3
    assert all(abs(record["z"]) < 5 for record in records)
    # The bits decide, not how they are coded.
    write_mask(tmp_path / "coded", {name: keep}, {}, "{}", weights, {}, code="entropy")
    assert berttools("mask-control", weights.path, tmp_path / "coded", "--out", tmp_path / "again").code == 0
    again, before = (open_mask(tmp_path / out).bits_sha256 for out in ("again", "c.control"))
    assert again == before


def test_what_cannot_be(berttools: Callable[..., Run], base: Path, tmp_path: Path) -> None:
    mask = tmp_path / "a.safetensors"
    make_mask(base, mask)
    refused = berttools("mask-control", base, mask, "--out", mask, "--force")
    assert refused.code == 2
    assert "is what is read" in refused.err
    other = make_base(tmp_path / "other", seed=5)
    done = berttools("mask-control", other, mask, "--out", tmp_path / "c")
    assert done.code == 1
    assert "was made for another base" in done.err
    assert not (tmp_path / "c").exists()
    shutil.copy(base / "model.safetensors", tmp_path / "weights.safetensors")
    assert berttools("mask-control", tmp_path / "weights.safetensors", mask, "--out", tmp_path / "c").code == 0
