"""``facetools match``: pairs, people, thresholds."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from conftest import Run
from embedding_files import write
from facetools.extractors.architectures.dlib_resnet import SHA256

Runner = Callable[..., Run]
DLIB = {"sha256": SHA256, "distance": "euclidean"}
ROWS = np.array([[0, 0, 0], [0, 0, 0.5], [1, 0, 0], [1, 0, 0.1]], np.float32)


def test_pairs_and_people_at_the_measured_threshold(run_inside: Runner, tmp_path: Path) -> None:
    records = write(tmp_path, rows=ROWS, **DLIB)
    for stdin, name in ((b"", records), (b"", tmp_path / "e.safetensors"), (records.read_bytes(), "-")):
        done = run_inside("facetools", "match", name, "--far", "0.001", stdin=stdin)
        assert (done.code, done.err) == (0, "")
        pairs = [(each["path"], each["path_b"], each["same"], each["far"]) for each in done.records]
        assert pairs == [("in/b/1.jpg", "in/b/2.jpg", True, 0.001), ("in/a/1.jpg", "in/a/2.jpg", True, 0.001)]
    assert [each["distance"] for each in done.records] == [pytest.approx(0.1), pytest.approx(0.5)]
    assert done.records[0]["threshold"] == 0.541
    assert done.records[0]["threshold_source"].startswith("LFW: 1,440 people")
    strict = run_inside("facetools", "match", records, "--most", "2")
    assert [each["same"] for each in strict.records] == [True, False]
    people = run_inside("facetools", "match", records, "--cluster").records
    assert [(each["person"], each["relative"], each["faces"], each["distance"]) for each in people] == [
        (0, "b/1.jpg", 2, pytest.approx(0.1)),
        (0, "b/2.jpg", 2, pytest.approx(0.1)),
        (1, "a/1.jpg", 1, None),
        (2, "a/2.jpg", 1, None),
    ]
    assert people[2]["reason"] == "no other face of this person"


def test_two_inputs(run_inside: Runner, tmp_path: Path) -> None:
    one, other = write(tmp_path, rows=ROWS, **DLIB), write(tmp_path, "o", rows=ROWS[::-1], top="other", **DLIB)
    found = run_inside("facetools", "match", one, other, "--threshold", "0").records
    assert {(each["relative"], each["relative_b"]) for each in found} == {
        ("a/1.jpg", "b/2.jpg"), ("a/2.jpg", "b/1.jpg"), ("b/1.jpg", "a/2.jpg"), ("b/2.jpg", "a/1.jpg"),
    }  # fmt: skip
    assert {each["far"] for each in found} == {None}
    assert run_inside("facetools", "match", one, one, "--threshold", "0").records == []
    assert len(run_inside("facetools", "match", one, other, "--cluster").records) == 8


def test_without_a_threshold_it_is_asked_for(run_inside: Runner, tmp_path: Path) -> None:
    records = write(tmp_path)
    done = run_inside("facetools", "match", records)
    assert (done.code, done.out) == (2, b"")
    assert "no threshold was measured for the extractor net; give --threshold, or --calibrate with" in done.err
    names = [f"p{number}/{photo}.jpg" for number in range(30) for photo in range(2)]
    rows = np.random.default_rng(0).normal(size=(60, 3)).astype(np.float32)
    people = write(tmp_path, "people", names=names, rows=rows)
    found = run_inside("facetools", "match", records, "--calibrate", people, "--far", "0.01", "--most", "1").records
    assert found[0]["far"] == 0.01
    assert found[0]["threshold_source"] == f"{people}: 30 people, 1,740 pairs"
    few = run_inside("facetools", "match", records, "--calibrate", people, "--far", "0.001")
    assert few.code == 1
    assert "too few for a false accept rate of 0.001" in few.err
    assert "give a higher --far" in few.err
    other = write(tmp_path, "elsewhere", names=names, rows=rows, sha256="e" * 64)
    assert "match one extractor at a time" in run_inside("facetools", "match", records, "--calibrate", other).err


def test_photos_of_people_calibrate(run_inside: Runner, people_folder: Path, tmp_path: Path) -> None:
    for name in sorted(each.name for each in people_folder.iterdir())[4:]:
        shutil.rmtree(people_folder / name)
    file = tmp_path / "e.safetensors"
    assert run_inside("facetools", "embed", people_folder, "--out", file).code == 0
    words = ["match", file, "--calibrate", people_folder, "--far", "0.5"]
    found = run_inside("facetools", *words).records
    assert found[0]["threshold_source"] == f"{people_folder}: 4 people, 24 pairs"
    people = {
        Path(each["path"]).parent.name: each["person"]
        for each in run_inside("facetools", "match", file, "--cluster").records
    }
    assert len(set(people.values())) == len(people) == 4


def test_an_array_of_numpy_is_refused_before_anything_is_read(run_inside: Runner, tmp_path: Path) -> None:
    done = run_inside("facetools", "embed", tmp_path / "none", "--out", tmp_path / "x.npy")
    assert done.code == 2
    assert "x.npy: a safetensors file is written, and no .npy; name it" in done.err


def test_folders_are_no_embeddings(run_inside: Runner, tmp_path: Path) -> None:
    folder = tmp_path / "my photos"
    folder.mkdir()
    done = run_inside("facetools", "match", folder)
    assert done.code == 1
    line = f"facetools embed '{folder}' --out 'my photos.safetensors' > 'my photos.jsonl'"
    assert f"{folder}: is a folder; embed its photos first: `{line}`" in done.err
    (folder / "0001-of-0002.done").touch()  # the marker of a shard
    shards = run_inside("facetools", "match", folder)
    line = f"facetools gather '{folder}' | facetools match"
    assert (shards.code, f"{folder}: is a folder of shards; gather them: `{line}`" in shards.err) == (1, True)
