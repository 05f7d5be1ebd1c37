"""Overlap of masks against counts by hand, and its z against masks drawn at random."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import save_file

from berttools.checkpoints.files import open_checkpoint
from berttools.checkpoints.matrix_parts import MatrixPart, matrix_parts
from berttools.masks.file import open_mask
from berttools.masks.overlap import Overlap, Sparsity, _compared, overlap, overlaps, sparsity_by_matrix, sum_by
from berttools.masks.writer import write_mask

QUERY, FUSED = "model.layers.0.attention.self.query.weight", "model.layers.1.attn.Wqkv.weight"


@given(n=st.integers(1, 300), a=st.floats(0, 1), b=st.floats(0, 1), seed=st.integers(0, 1000))
def test_counts_add_up(n: int, a: float, b: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    one, other = rng.random(n) >= a, rng.random(n) >= b
    found = overlap(one, other).fields()
    assert found["overlap"] == int((~one & ~other).sum())
    assert found["hamming"] == int((one != other).sum())
    either = int((~one | ~other).sum())
    assert found["jaccard"] == (found["overlap"] / either if either else None)
    assert overlap(one, one).fields()["jaccard"] in (1.0, None)


def test_z_is_that_of_masks_drawn_at_random() -> None:
    """Of independent masks, z has mean 0 and variance 1, of one matrix and of two added up."""
    rng = np.random.default_rng(0)
    single, summed = [], []
    for _ in range(3000):
        total = Overlap()
        for n, a, b in ((60, 20, 6), (200, 10, 150)):
            masks = [rng.permutation(n) >= zeroed for zeroed in (a, b)]
            total += overlap(*masks)
        single.append(overlap(*masks).fields()["z"])
        summed.append(total.fields()["z"])
    for found in (single, summed):
        assert abs(np.mean(found)) < 4 / 3000**0.5
        assert abs(np.var(found) - 1) < 0.12


@pytest.mark.parametrize("name", [FUSED, "h.0.attn.c_attn.weight", QUERY])
@pytest.mark.parametrize("block", [8, 16, 64, 1 << 20])
def test_runs_of_a_matrix_say_what_the_whole_says(name: str, block: int) -> None:
    one, other = np.random.default_rng(0).random((2, 12, 12)) > 0.3
    starts = range(0, one.size, block)
    runs = [[(first, keep.reshape(-1)[first : first + block]) for first in starts] for keep in (one, other)]
    ((_, found),) = _compared(matrix_parts(name, one.shape), one.shape, dict(enumerate(map(iter, runs)))).items()
    axis = 1 if "c_attn" in name else 0
    parts = len(matrix_parts(name, one.shape))
    assert parts == (1 if name == QUERY else 3)
    expected = zip(np.split(one, parts, axis), np.split(other, parts, axis), strict=True)
    assert [each for _, each in found] == [overlap(*both) for both in expected]


def test_few_bytes_take_no_memory_however_large_the_matrix(tmp_path: Path) -> None:
    """All kept, all zeroed: three bytes each, for any number of entries."""
    name, shape = "model.layers.0.attention.self.query.weight", (4096, 16_384)
    save_file({name: np.zeros(shape, np.int8)}, tmp_path / "base.safetensors")
    opened = open_checkpoint(tmp_path / "base.safetensors")
    for out, kept in (("a", True), ("b", False), ("c", False)):
        write_mask(tmp_path / out, {name: np.full(shape, kept)}, {}, "{}", opened, {}, code="entropy")
    tracemalloc.start()
    found = overlaps([open_mask(tmp_path / out) for out in "abc"], None)
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert [pair.counted[0][1].both for pair in found.values()] == [0, 0, 4096 * 16_384]
    assert most < 20e6


def test_sums_are_in_the_order_of_layers_and_groups() -> None:
    counted = [
        (MatrixPart("b", 1, "V"), Sparsity(4, 1, 1, 1)), (MatrixPart("a", 0, "O"), Sparsity(8, 2, 1, 1)),
        (MatrixPart("c", 1, "Q"), Sparsity(4, 3, 1, 1)), (MatrixPart("d", None, None), Sparsity(2, 0, 1, 1)),
    ]  # fmt: skip
    assert [part.name for part in sum_by(counted, "tensor")] == ["a", "c", "b", "d"]
    assert {part.layer: found.zeroed for part, found in sum_by(counted, "layer").items()} == {0: 2, 1: 4, None: 0}
    assert [part.group for part in sum_by(counted, "group")] == ["Q", "V", "O", None]
    assert sum_by(counted, "model") == {MatrixPart(): Sparsity(18, 6, 4, 4)}
    assert next(iter(sum_by(counted, "cell"))) == MatrixPart(None, 0, "O")


def test_a_fused_matrix_is_decoded_only_where_it_is_divided(tmp_path: Path) -> None:
    save_file({FUSED: np.arange(48, dtype=np.float32).reshape(12, 4)}, tmp_path / "base.safetensors")
    base = open_checkpoint(tmp_path / "base.safetensors")
    keep = np.arange(48).reshape(12, 4) >= 5
    write_mask(tmp_path / "a", {FUSED: keep}, {}, "{}", base, {}, code="conditional")
    mask = open_mask(tmp_path / "a")
    ((whole, found),) = sparsity_by_matrix(mask, divided=False)
    assert (whole, found.zeroed, found.tensors) == (MatrixPart(FUSED, 1), 5, 3)
    parts = dict(sparsity_by_matrix(mask, base))
    assert [(part.group, found.zeroed) for part, found in parts.items()] == [("Q", 5), ("K", 0), ("V", 0)]
    assert sum(found.bytes for found in parts.values()) == mask.coded_bytes[FUSED]
