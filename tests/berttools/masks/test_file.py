"""Mask files, opened: what was written is read, in little memory, and a damaged file is refused."""

from __future__ import annotations

import json
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.numpy import save_file

from _toolio.errors import ToolError
from _toolio.tensors.reader import stored_bits
from _toolio.tensors.writer import stream_safetensors
from berttools.checkpoints.files import open_checkpoint
from berttools.masks.base import check_base
from berttools.masks.file import open_mask
from berttools.masks.metadata import CODES
from berttools.masks.writer import write_mask
from small_masks import HEAD, MADE, OUTPUT, QUERY, keeps_of, write_base, written


@pytest.mark.parametrize("code", CODES)
@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16", "float64"])
def test_what_is_read_is_what_was_written(tmp_path: Path, code: str, dtype: str) -> None:
    base, out = tmp_path / "base", tmp_path / "task.safetensors"
    write_base(base, dtype)
    opened, keeps = open_checkpoint(base), keeps_of(base)
    said = write_mask(out, keeps, HEAD, '{"a":1}', opened, MADE, code=code)
    mask = open_mask(out)
    names = check_base(mask.fingerprint, opened)
    assert names == {name: name.removeprefix("bert.") for name in (QUERY, OUTPUT)}
    for name, keep in keeps.items():
        flat = opened.flat(names[name])
        assert np.array_equal(mask.keep(name, flat), keep)
        assert np.array_equal(mask.keep(name, flat.values(0, keep.size)), keep)
        assert mask.sparsity[name] == (~keep).mean()
    assert mask.config == '{"a":1}'
    assert mask.made == json.loads(json.dumps(MADE))
    assert {name: array.tobytes() for name, array in mask.dense.items()} == {
        name: array.tobytes() for name, array in HEAD.items()
    }
    assert said["bytes"] == out.stat().st_size
    assert said["weights"] == 24 * 24 + 24 * 40
    assert said["zeroed"] == sum(int((~keep).sum()) for keep in keeps.values())
    assert {**said, "path": None} == {**mask.figures(), "path": None}
    if code != "auto":
        assert said["code"] == code


def test_the_conditional_code_asks_for_the_base(tmp_path: Path) -> None:
    _, out = written(tmp_path, code="conditional")
    mask = open_mask(out)
    assert mask.needs_base
    with pytest.raises(ToolError, match="give the base with base"):
        mask.keep(QUERY)
    with pytest.raises(ToolError, match="the base is another one"):
        mask.keep(QUERY, np.random.default_rng(9).standard_normal(24 * 24).astype(np.float32))


def everything_in(path: Path, base: Path) -> Any:
    mask, opened = open_mask(path), open_checkpoint(base)
    names = check_base(mask.fingerprint, opened)
    keeps = {name: mask.keep(name, opened.flat(names[name])).tobytes() for name in mask.names}
    dense = {name: (array.shape, array.dtype, array.tobytes()) for name, array in mask.dense.items()}
    return keeps, dense, mask.config, mask.made, mask.sparsity, mask.shapes


@pytest.mark.parametrize("code", CODES[1:])
@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(place=st.floats(0, 1, exclude_max=True), change=st.integers(1, 255), cut=st.booleans())
def test_a_damaged_file_is_one_line_or_the_same_mask(
    tmp_path: Path, code: str, place: float, change: int, cut: bool
) -> None:
    base, out = tmp_path / "base", tmp_path / "task.safetensors"
    if not (whole_file := tmp_path / "whole").exists():
        written(tmp_path, code=code)
        out.rename(whole_file)
    whole, data = everything_in(whole_file, base), bytearray(whole_file.read_bytes())
    at = int(place * len(data))
    data[at] ^= change
    out.write_bytes(data[:at] if cut else data)
    try:
        assert everything_in(out, base) == whole
    except ToolError as error:
        assert "\n" not in error.message
        assert str(out) in error.message


def test_stored_bits_are_those_of_the_file(tmp_path: Path) -> None:
    base = open_checkpoint(write_base(tmp_path / "base", "bfloat16"))
    flat = base.flat("embeddings.w")
    bits = stored_bits(flat, 3, 9)
    assert bits.dtype == np.uint16
    assert np.array_equal((bits.astype(np.uint32) << 16).view(np.float32), flat.values(3, 9))


def test_a_stream_of_other_length_than_planned_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not as many bytes"):
        stream_safetensors(tmp_path / "x", {"a": ("F32", (3,))}, lambda name: [np.zeros(2, np.float32)])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("code", ["bits", "entropy"])
def test_bits_are_read_in_an_eighth_of_a_byte_an_entry(tmp_path: Path, code: str) -> None:
    shape = (2048, 8192)
    save_file({QUERY: np.zeros(shape, np.float16)}, tmp_path / "base.safetensors")
    keep = np.random.default_rng(0).random(shape, np.float32) > 0.1
    base = open_checkpoint(tmp_path / "base.safetensors")
    write_mask(tmp_path / "a", {QUERY: keep}, {}, "{}", base, {}, code=code)
    mask = open_mask(tmp_path / "a")
    tracemalloc.start()
    packed = mask.bits(QUERY)
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert np.array_equal(packed, np.packbits(keep))
    assert most < keep.size / 2
