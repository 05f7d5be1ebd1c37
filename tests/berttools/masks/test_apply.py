"""A mask applied to its base: every value that stays keeps its bits, every other is +0.0."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from _toolio.errors import ToolError
from berttools.masks.apply import apply_mask, masked_bits
from tiny_models import make_mask


@pytest.mark.parametrize("code", ["<u1", "<u2", "<u4", "<u8"])
def test_masked_bits(code: str) -> None:
    bits = np.arange(1, 5, dtype=code)
    found = masked_bits(bits, np.array([True, False, True, False]))
    assert (found.dtype, found.tolist()) == (bits.dtype, [1, 0, 3, 0])


def test_the_folder_of_a_mask(base: Path, tmp_path: Path) -> None:
    make_mask(base, tmp_path / "a.safetensors")
    found = apply_mask(base, tmp_path / "a.safetensors", tmp_path / "out")
    before, after = (load_file(folder / "model.safetensors") for folder in (base, tmp_path / "out"))
    assert found["tensors"] == len(after)
    masked = {name: array for name, array in after.items() if name.startswith("bert.encoder") and array.ndim == 2}
    assert found["matrices"] == len(masked)
    zeroed = 0
    for name, array in masked.items():
        stays = array != 0
        zeroed += int((~stays).sum())
        assert np.array_equal(array[stays], before[name.removeprefix("bert.")][stays])
        assert not np.signbit(array[~stays]).any()
    assert zeroed == found["zeroed"]
    assert json.loads((tmp_path / "out" / "config.json").read_bytes())["id2label"] == {"0": "bad", "1": "good"}
    card = (tmp_path / "out" / "README.md").read_text()
    assert f"{found['zeroed']:,} of {found['weights']:,} weights" in card


def test_a_mask_that_is_not_decoded_ahead(base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_mask(base, tmp_path / "a.safetensors")
    apply_mask(base, tmp_path / "a.safetensors", tmp_path / "ahead")
    monkeypatch.setattr("berttools.masks.apply._MOST_AHEAD", 0)
    apply_mask(base, tmp_path / "a.safetensors", tmp_path / "in-turn")
    for path in (tmp_path / "ahead").iterdir():
        assert (tmp_path / "in-turn" / path.name).read_bytes() == path.read_bytes()


def test_nothing_is_left_where_the_base_is_another(base: Path, tmp_path: Path) -> None:
    from tiny_models import make_base

    make_mask(base, tmp_path / "a.safetensors")
    other = make_base(tmp_path / "other", seed=9)
    with pytest.raises(ToolError, match="was made for another base") as refused:
        apply_mask(other, tmp_path / "a.safetensors", tmp_path / "out")
    assert refused.value.kind == "other-base"
    assert not (tmp_path / "out").exists()
