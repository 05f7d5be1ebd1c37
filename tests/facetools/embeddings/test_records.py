"""Faces by the records of ``facetools embed``."""

from __future__ import annotations

import io
import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from _toolio.errors import ToolError
from _toolio.streams.inputs import Item
from embedding_files import NAMES, write
from facetools.embeddings.records import read_faces


def test_a_file_its_records_and_stdin_give_the_same_faces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    records = write(tmp_path)
    monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=io.BytesIO(records.read_bytes())))
    for name in (str(tmp_path / "e.safetensors"), str(records), "-"):
        faces, faceless = read_faces(name)
        assert [(face.item.path, face.item.relative, face.face) for face in faces] == [
            (f"in/{name}", name, 0) for name in NAMES
        ]
        assert np.stack([face.embedding for face in faces]).tolist() == np.arange(12.0).reshape(4, 3).tolist()
        assert {face.extractor["name"] for face in faces} == {"net"}
        assert not faceless


def test_photos_without_a_face_are_apart_and_errors_are_left_out(tmp_path: Path) -> None:
    path = write(tmp_path)
    lines = [
        {"row": None, "path": "in/c.jpg", "relative": "c.jpg", "reason": "no face found"},
        {"row": None, "path": "in/d.jpg", "relative": "d.jpg", "error": {"kind": "not-a-photo", "message": "x"}},
    ]
    with path.open("a") as stream:
        stream.writelines(json.dumps(line) + "\n" for line in lines)
    faces, faceless = read_faces(str(path))
    assert len(faces) == 4
    assert faceless == [Item("in/c.jpg", "c.jpg")]


def test_a_record_of_another_row_ends_the_run(tmp_path: Path) -> None:
    path = write(tmp_path)
    path.write_text(path.read_text().replace('"row": 1', '"row": 2'))
    with pytest.raises(ToolError, match=r"record 2: row 2 of .*e\.safetensors is b/1\.jpg") as caught:
        read_faces(str(path))
    assert caught.value.exit_code == 1
