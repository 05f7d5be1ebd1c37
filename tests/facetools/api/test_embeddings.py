"""Matching embeddings as ``import facetools`` offers it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import facetools
from _toolio.errors import ToolError, UsageError
from conftest import Run
from embedding_files import write
from facetools.embeddings import matching
from facetools.extractors.architectures.dlib_resnet import SHA256

DLIB = {"sha256": SHA256, "distance": "euclidean"}
ROWS = np.array([[0, 0, 0], [0, 0, 0.5], [1, 0, 0], [1, 0, 0.1]], np.float32)


def test_it_returns_what_the_command_prints(run_inside: Callable[..., Run], tmp_path: Path) -> None:
    records = write(tmp_path, rows=ROWS, **DLIB)
    other = write(tmp_path, "o", rows=ROWS[::-1], top="other", **DLIB)
    for words, settings in (
        (["--far", "0.001"], {"far": 0.001}),
        (["--most", "2"], {"most": 2}),
        (["--cluster"], {"cluster": True}),
        (["--threshold", "0.2", "--cluster"], {"threshold": 0.2, "cluster": True}),
    ):
        for inputs in ([records], [records, other], [tmp_path / "e.safetensors"]):
            printed = run_inside("facetools", "match", *map(str, inputs), *words)
            assert printed.code == 0, printed.err
            found = facetools.match(*inputs, **settings)
            assert found
            assert [list(each) for each in found] == [list(each) for each in printed.records]
            for mine, said in zip(found, printed.records, strict=True):
                assert mine == {**said, "distance": mine["distance"]}
                assert (mine["distance"] is None) == (said["distance"] is None)
                assert mine["distance"] is None or mine["distance"] == pytest.approx(said["distance"], abs=1e-6)


def test_the_threshold_is_the_measured_one_or_that_of_other_people(tmp_path: Path) -> None:
    records = write(tmp_path, rows=ROWS, **DLIB)
    (nearest, second) = facetools.match(records, most=2)
    assert (nearest["same"], second["same"], nearest["threshold"], nearest["far"]) == (True, False, 0.4699, 1e-4)
    names = [f"p{number}/{photo}.jpg" for number in range(30) for photo in range(2)]
    rows = np.random.default_rng(0).normal(size=(60, 3)).astype(np.float32)
    people = write(tmp_path, "people", names=names, rows=rows, **DLIB)
    (pair,) = facetools.match(str(records), calibrate=people, far=0.01, most=1)
    assert pair["threshold_source"] == f"{people}: 30 people, 1,740 pairs"


def test_what_contradicts_itself_names_the_parameter(tmp_path: Path) -> None:
    records = write(tmp_path)
    with pytest.raises(UsageError, match=r"^threshold and calibrate: give one of them$"):
        facetools.match(records, threshold=1, calibrate="people/")
    with pytest.raises(UsageError, match=r"^no threshold was measured for the extractor net; give threshold, or"):
        facetools.match(records)
    with pytest.raises(ToolError, match="is a folder; embed its photos first"):
        facetools.match(tmp_path)


def test_pairs_that_are_left_out_are_warned_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    records = write(tmp_path, rows=ROWS, **DLIB)
    monkeypatch.setattr(matching, "MOST_PAIRS", 1)
    with pytest.warns(UserWarning, match=r"^the nearest 1 of 6 pairs within 9; most N for another number$"):
        assert len(facetools.match(records, threshold=9)) == 1


def test_no_torch_is_needed(tmp_path: Path) -> None:
    records = write(tmp_path, rows=ROWS, **DLIB)
    code = f"import sys, facetools; facetools.match({str(records)!r}); print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
