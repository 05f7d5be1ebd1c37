"""Damaged photos print nothing; a new process each, whose stderr libraries in C write to as well."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from conftest import Run


def test_damaged_tiffs_print_nothing(tmp_path: Path, run: Callable[..., Run]) -> None:
    rng = np.random.default_rng(0)
    out = io.BytesIO()
    gradient = np.add.outer(np.arange(300), np.arange(300)).astype(np.uint8)
    Image.fromarray(np.dstack([gradient] * 3)).save(out, "TIFF", compression="tiff_lzw")
    for number in range(12):
        damaged = bytearray(out.getvalue())
        for place in rng.integers(8, len(damaged), 20):
            damaged[place] = rng.integers(256)
        (tmp_path / f"{number}.tif").write_bytes(damaged)
    done = run("facetools", "detect", "--crops", "--in", tmp_path, cold=True)
    assert done.err == ""
    assert len(done.records) == 12
    assert sum(record.get("error", {}).get("kind") == "truncated" for record in done.records) >= 6
