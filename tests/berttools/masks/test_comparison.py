"""One mask, or every two of several, from Python: records, errors, and cells of a heat map."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from _toolio.errors import ToolError
from berttools.checkpoints.files import open_checkpoint
from berttools.checkpoints.groups import By
from berttools.masks.comparison import compare_masks
from berttools.masks.overlap import SEVERAL_BASES
from berttools.masks.writer import write_mask

QUERY, NORM = "model.layers.0.attention.self.query.weight", "embeddings.weight"


def mask(tmp_path: Path, name: str, zeros: dict[str, int], *, seed: int = 0, code: str = "bits") -> Path:
    """Zero the first entries of matrices of 4x4."""
    rng = np.random.default_rng(seed)
    base = tmp_path / f"base-{seed}.safetensors"
    save_file({each: rng.standard_normal((4, 4)).astype(np.float32) for each in (QUERY, NORM)}, base)
    keeps = {each: np.arange(16).reshape(4, 4) >= count for each, count in zeros.items()}
    write_mask(tmp_path / name, keeps, {}, "{}", open_checkpoint(base), {}, code=code)
    return tmp_path / name


def test_one_mask(tmp_path: Path) -> None:
    (found,) = compare_masks([mask(tmp_path, "a", {QUERY: 4, NORM: 2})])
    assert found.has_matrices
    assert [each.path.name for each in found.masks] == ["a"]
    records = list(found.records(By.tensor))
    assert [(record["name"], record["zeroed"], record["code"]) for record in records] == [
        (QUERY, 4, "bits"), (NORM, 2, "bits"),
    ]  # fmt: skip
    (model,) = found.records(By.model)
    assert (model["sparsity"], model["file_bytes"]) == (6 / 32, (tmp_path / "a").stat().st_size)
    assert found.cells("sparsity") == {(0, "Q"): 0.25}


def test_two_masks(tmp_path: Path) -> None:
    paths = [mask(tmp_path, "a", {QUERY: 4}), mask(tmp_path, "b", {QUERY: 8, NORM: 1})]
    (found,) = compare_masks(paths)
    (record,) = found.records(By.model)
    assert (record["jaccard"], record["overlap"], record["left_out_b"]) == (0.5, 4, 1)
    assert (record["mask"], record["mask_b"], "left_out_a" in record) == (*paths, False)
    assert found.cells("jaccard") == {(0, "Q"): 0.5}


def test_every_two_of_three(tmp_path: Path) -> None:
    paths = [mask(tmp_path, name, {QUERY: count}) for name, count in (("a", 1), ("b", 2), ("c", 4))]
    names = [[each.path.name for each in found.masks] for found in compare_masks(paths)]
    assert names == [["a", "b"], ["a", "c"], ["b", "c"]]


def test_masks_of_two_bases_of_which_one_needs_its_own(tmp_path: Path) -> None:
    paths = [mask(tmp_path, "a", {QUERY: 4}), mask(tmp_path, "b", {QUERY: 4}, seed=1, code="conditional")]
    with pytest.raises(ToolError, match=r"b is coded given its base's weights$") as refused:
        compare_masks(paths)
    assert refused.value.kind == SEVERAL_BASES


def test_layers_of_two_stacks_are_counted_apart(tmp_path: Path) -> None:
    names = [f"model.{stack}.layers.{n}.self_attn.q_proj.weight" for stack in ("decoder", "encoder") for n in (0, 1)]
    save_file({name: np.ones((4, 4), np.float32) for name in names}, tmp_path / "base.safetensors")
    masks = {name: np.arange(16).reshape(4, 4) >= 2 * n for n, name in enumerate(names)}
    write_mask(tmp_path / "mask", masks, {}, "{}", open_checkpoint(tmp_path / "base.safetensors"), {})
    (found,) = compare_masks([tmp_path / "mask"])
    layers = {(record["stack"], record["layer"]): record["zeroed"] for record in found.records(By.layer)}
    assert layers == {("encoder", 0): 4, ("encoder", 1): 6, ("decoder", 0): 0, ("decoder", 1): 2}
    assert {record["stack"] for record in found.records(By.tensor)} == {"encoder", "decoder"}
    assert found.cells("zeroed") == {
        (("encoder", 0), "Q"): 4, (("encoder", 1), "Q"): 6, (("decoder", 0), "Q"): 0, (("decoder", 1), "Q"): 2,
    }  # fmt: skip
    (both,) = compare_masks([tmp_path / "mask", tmp_path / "mask"])
    assert len(list(both.records(By.layer))) == 4
