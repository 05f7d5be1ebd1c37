"""Embeddings are written as they are made, and records follow their rows."""

from __future__ import annotations

import json
import shutil
import tracemalloc
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from conftest import Run
from facetools.embeddings.files import read_embeddings
from facetools.embeddings.parts.manifest import NAME, read_manifest
from facetools.embeddings.parts.writer import EmbeddingWriter

EXTRACTOR = {"name": "net", "sha256": "d" * 64, "distance": "cosine"}


class Numbers:
    """An embedder whose faces are numbers."""

    def __init__(self) -> None:
        self.file, self.dimensions = Path(), 64
        self._values: list[int] = []

    @property
    def rows(self) -> int:
        return len(self._values)

    def add(self, intake: Any, prepared: object = None) -> list[dict[str, Any]]:
        rows = range(self.rows, self.rows + len(intake.faces))
        self._values += intake.faces
        return [{"row": row, "file": str(self.file)} for row in rows] or [{"row": None}]

    def finish(self) -> tuple[Any, dict[str, Any]]:
        values, self._values = self._values, []
        rows = [{"path": f"{value}.jpg", "relative": f"{value}.jpg", "face": 0} for value in values]
        array = np.repeat(np.array(values, np.float32)[:, None], self.dimensions, 1)
        return array.reshape(-1, self.dimensions), {"extractor": EXTRACTOR, "rows": rows}


def write(out: Path, photos: Sequence[Sequence[int]], rows_per_part: int | None) -> list[dict[str, Any]]:
    """Write photos that each have some faces; return the records in the order in which they come."""
    out.mkdir()
    printed: list[dict[str, Any]] = []
    writer = EmbeddingWriter(out, Numbers(), {"version": "0"}, rows_per_part=rows_per_part)  # type: ignore[arg-type]

    def record(fields: dict[str, Any], faces: Sequence[int]) -> None:
        # Whoever reads a record finds its row.
        if fields["row"] is not None:
            assert read_embeddings(Path(fields["file"])).values[fields["row"]][0] in faces
        printed.append({**fields, "faces": list(faces)})

    for faces in photos:
        for fields in writer.add(SimpleNamespace(faces=list(faces))):  # type: ignore[arg-type]
            writer.then(lambda fields=fields, faces=faces: record(fields, faces))  # type: ignore[misc]
    writer.close()
    return printed


def test_parts_fill_and_no_photo_is_divided(tmp_path: Path) -> None:
    photos = [[0], [1, 2], [3, 4], [], [5, 6, 7, 8, 9], [10]]
    printed = write(tmp_path / "rows", photos, 4)
    assert [part.rows for part in read_manifest(tmp_path / "rows").parts] == [3, 2, 5, 1]
    assert read_embeddings(tmp_path / "rows").values[:, 0].tolist() == list(range(11))
    assert [record["faces"] for record in printed] == [faces for faces in photos for _ in faces or [0]]


def test_photos_without_faces_do_not_wait_for_ever(tmp_path: Path) -> None:
    printed: list[int] = []
    writer = EmbeddingWriter(tmp_path, Numbers(), {}, rows_per_part=2)  # type: ignore[arg-type]
    for number in range(50):
        writer.add(SimpleNamespace(faces=[]))  # type: ignore[arg-type]
        writer.then(lambda number=number: printed.append(number))  # type: ignore[misc]
    assert printed == list(range(40))
    assert not list(tmp_path.iterdir())
    writer.close()
    assert printed == list(range(50))
    assert read_embeddings(tmp_path).values.shape == (0, 64)


def test_memory_is_that_of_a_part(tmp_path: Path) -> None:
    peaks = []
    for count in (500, 5000):
        tracemalloc.start()
        writer = EmbeddingWriter(tmp_path / f"{count}", Numbers(), {}, rows_per_part=100)  # type: ignore[arg-type]
        (tmp_path / f"{count}").mkdir()
        for number in range(count):
            writer.add(SimpleNamespace(faces=[number]))  # type: ignore[arg-type]
            writer.then(lambda: None)
        writer.close()
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        assert read_manifest(tmp_path / f"{count}").rows == count
    assert peaks[1] < peaks[0] + 100_000  # 4,500 rows of 64 numbers are 1.2 MB, and their records as much


def test_the_command_writes_parts_that_match_reads_as_one(
    run: Callable[..., Run], plain_photos: Path, tmp_path: Path
) -> None:
    shutil.copy(plain_photos / "0.png", plain_photos / "2.png")  # 1.png has no face
    whole = run("facetools", "embed", "--in", plain_photos, "--out", tmp_path / "one.safetensors")
    done = run("facetools", "embed", "--in", plain_photos, "--out", tmp_path / "rows", "--rows-per-part", "1")
    assert (done.code, done.err) == (0, "")
    assert [(each["row"], Path(each.get("file", "")).name) for each in done.records] == [
        (0, "part-00000.safetensors"),
        (None, ""),
        (0, "part-00001.safetensors"),
    ]
    unplaced = [{k: v for k, v in each.items() if k not in ("row", "file")} for each in done.records]
    assert unplaced == [{k: v for k, v in each.items() if k not in ("row", "file")} for each in whole.records]
    parts, one = read_embeddings(tmp_path / "rows"), read_embeddings(tmp_path / "one.safetensors")
    assert parts.values.tobytes() == one.values.tobytes()
    assert parts.rows == one.rows
    assert json.loads((tmp_path / "rows" / NAME).read_text())["arguments"] == {"faces": "all", "min_face": None}
    (tmp_path / "records.jsonl").write_text("".join(json.dumps(each) + "\n" for each in done.records))
    matched = [
        run("facetools", "match", name, "--most", "1").records
        for name in (tmp_path / "rows", tmp_path / "one.safetensors", tmp_path / "records.jsonl")
    ]
    assert matched[0] == matched[1] == matched[2]
    again = run("facetools", "embed", "--in", plain_photos, "--out", tmp_path / "rows", "--rows-per-part", "1")
    assert (again.code, again.out) == (2, b"")
    assert "holds parts; use --force to replace them" in again.err
    forced = run(
        "facetools", "embed", "--in", plain_photos, "--out", tmp_path / "rows", "--rows-per-part", "5", "--force"
    )
    assert forced.code == 0
    assert sorted(path.name for path in (tmp_path / "rows").iterdir()) == [NAME, "part-00000.safetensors"]
