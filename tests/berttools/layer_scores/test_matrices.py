"""Matrices of a base that can be ranked."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from _toolio.errors import ToolError
from _toolio.tensors.writer import write_safetensors
from berttools.checkpoints.files import open_checkpoint
from berttools.checkpoints.groups import Grouping
from berttools.layer_scores.matrices import cut, ranked_matrices
from berttools.layerdiff import LayerdiffConfig, Selection, compare
from tiny_models import make_base


@pytest.mark.parametrize("kind", ["bert", "distilbert", "roberta", "electra", "modernbert", "deberta-v2", "gpt2"])
def test_they_are_those_of_layerdiff_in_its_order(tmp_path: Path, kind: str) -> None:
    base = make_base(tmp_path / "base", kind)
    selection = Selection(grouping=Grouping(), group=frozenset(Grouping().names))
    records = compare(base, [base], LayerdiffConfig(selection=selection))
    ours = [(part.name, part.layer, part.group, part.part) for part in ranked_matrices(open_checkpoint(base))]
    theirs = [(r["name"], r["layer"], r["group"], tuple(r["part"].values()) if "part" in r else None) for r in records]
    assert ours == theirs
    assert len(ours) >= 12


def test_parts_of_a_fused_matrix_tile_it(tmp_path: Path) -> None:
    checkpoint = open_checkpoint(make_base(tmp_path / "base", "gpt2"))
    name = "h.0.attn.c_attn.weight"
    whole = np.arange(np.prod(checkpoint.tensors[name].shape)).reshape(checkpoint.tensors[name].shape)
    parts = [part for part in ranked_matrices(checkpoint) if part.name == name]
    assert [part.group for part in parts] == ["Q", "K", "V"]
    assert (np.concatenate([cut(whole, part) for part in parts], axis=1) == whole).all()
    assert all(cut(whole, part).shape == part.shape(whole.shape) for part in parts)


def test_nothing_to_rank_is_an_error(tmp_path: Path) -> None:
    write_safetensors(tmp_path / "a.safetensors", {"w": np.zeros((2, 2), np.float32)})
    with pytest.raises(ToolError, match="no matrix of it is known as one of a layer"):
        ranked_matrices(open_checkpoint(tmp_path / "a.safetensors"))
