"""Mask files are written whole, the same bytes for the same mask, in the smallest code."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from _toolio.errors import ToolError
from berttools.checkpoints.files import open_checkpoint
from berttools.masks.file import open_mask
from berttools.masks.metadata import CODES
from berttools.masks.writer import write_mask
from small_masks import HEAD, OUTPUT, QUERY, keeps_of, write_base, written


def test_the_file_is_one_that_others_read(tmp_path: Path) -> None:
    base, out = written(tmp_path, code="bits")
    found, keeps = load_file(out), keeps_of(base)
    assert np.array_equal(np.unpackbits(found[QUERY]).astype(bool).reshape(24, 24), keeps[QUERY])
    assert np.array_equal(found["classifier.weight"], HEAD["classifier.weight"])
    first = out.read_bytes()
    written(tmp_path, code="bits")
    assert out.read_bytes() == first, "the same mask is the same bytes"


def test_auto_takes_the_smallest(tmp_path: Path) -> None:
    sizes = {}
    for code in CODES:
        _, out = written(tmp_path, code=code)
        sizes[code] = open_mask(out).coded_bytes
    for name in (QUERY, OUTPUT):
        assert sizes["auto"][name] == min(sizes[code][name] for code in CODES[1:])


def test_what_cannot_be_written(tmp_path: Path) -> None:
    base = open_checkpoint(write_base(tmp_path / "base"))
    with pytest.raises(ToolError, match=r"has no nobody\.weight of shape 24x24"):
        write_mask(tmp_path / "m", {"nobody.weight": np.ones((24, 24), np.bool_)}, {}, "{}", base, {})
    with pytest.raises(ValueError, match="masked and dense"):
        write_mask(tmp_path / "m", {QUERY: np.ones((24, 24), np.bool_)}, {QUERY: HEAD["classifier.bias"]}, "", base, {})
    assert not (tmp_path / "m").exists()
