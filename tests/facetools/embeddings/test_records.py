"""Faces by the records of ``facetools embed``."""

from __future__ import annotations

import io
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

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


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"relative": None}, "it has no relative; give whole records"),
        ({"row": "1"}, "row '1' is text; leave"),
        ({"relative": "b/9.jpg"}, "of other relative; the file was made again since"),
    ],
)
def test_records_that_something_else_has_changed(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    path = write(tmp_path)
    first, second, *_ = (json.loads(line) for line in path.read_text().splitlines())
    second = {key: value for key, value in {**second, **change}.items() if value is not None}
    path.write_text(f"{json.dumps(first)}\n{json.dumps(second)}\n")
    with pytest.raises(ToolError, match=message):
        read_faces(str(path))


def test_names_whose_accents_are_coded_otherwise_are_the_same(tmp_path: Path) -> None:
    path = write(tmp_path, names=("Jos\u00e9/1.jpg", "b/1.jpg"))
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    lines[0] |= {"relative": "Jose\u0301/1.jpg", "path": "in/Jose\u0301/1.jpg"}
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert [face.item.relative for face in read_faces(str(path))[0]] == ["Jose\u0301/1.jpg", "b/1.jpg"]
