"""Fused matrices are divided into those that they hold."""

from __future__ import annotations

import numpy as np
import pytest

from berttools.checkpoints.matrix_parts import MatrixPart, groups_of, matrix_parts, whole_matrix

FUSED = "model.layers.1.attn.Wqkv.weight"


def test_matrices_that_are_stored_as_one() -> None:
    assert matrix_parts(FUSED, (12, 4)) == [
        MatrixPart(FUSED, 1, g, (0, n, n + 4)) for g, n in (("Q", 0), ("K", 4), ("V", 8))
    ]
    assert matrix_parts(FUSED, (11, 4)) == [MatrixPart(FUSED, 1)]
    assert matrix_parts("lm_head.weight", (12, 4)) == [MatrixPart("lm_head.weight")]
    keep = np.arange(24).reshape(2, 12) != 5
    columns = matrix_parts("h.0.attn.c_attn.weight", keep.shape)
    assert [part.select(keep.reshape(-1), 0, keep.shape).sum() for part in columns] == [8, 7, 8]
    assert {part.shape(keep.shape) for part in columns} == {(2, 4)}


def test_a_fused_matrix_as_a_whole_has_no_group() -> None:
    assert whole_matrix(FUSED, (12, 4)) == MatrixPart(FUSED, 1)
    assert whole_matrix("layer.0.attention.self.query.weight", (4, 4)).group == "Q"


@pytest.mark.parametrize("first", [0, 5, 11, 24])
@pytest.mark.parametrize("name", [FUSED, "h.0.attn.c_attn.weight"])
def test_parts_share_out_every_run(name: str, first: int) -> None:
    keep = np.random.default_rng(0).random((6, 12)) > 0.5
    run = keep.reshape(-1)[first : first + 31]
    parts = [part.select(run, first, keep.shape) for part in matrix_parts(name, keep.shape)]
    assert sum(part.size for part in parts) == run.size
    assert sum(int(part.sum()) for part in parts) == run.sum()


def test_groups_are_in_the_order_of_a_layer() -> None:
    assert groups_of([MatrixPart(group=group) for group in ("O", None, "K", "O", "Q")]) == ["Q", "K", "O"]
