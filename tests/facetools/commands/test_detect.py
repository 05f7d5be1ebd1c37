"""``facetools detect`` as a process, on real photos: what it takes in, and that only speed depends on threads."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from conftest import Run, command, faceless, saved

Tool = Callable[..., Run]


@pytest.fixture
def detect(run: Tool) -> Tool:
    def call(*arguments: str | os.PathLike[str], threads: int = 1, **options: Any) -> Run:
        return run("facetools", "detect", *arguments, env={**os.environ, "OMP_NUM_THREADS": str(threads)}, **options)

    return call


@pytest.fixture
def mixed(people_folder: Path) -> Path:
    """Twelve people with two photos each, a picture of nothing and a file that is no photo."""
    (people_folder / "b.png").write_bytes(saved(faceless((250, 250)), "PNG"))
    (people_folder / "c.jpg").write_bytes(b"Dear diary")
    return people_folder


def paths(mixed: Path) -> list[str]:
    return sorted(str(path) for path in mixed.rglob("*") if path.is_file())


def test_the_number_of_threads_changes_no_byte(detect: Tool, mixed: Path) -> None:
    one, three = detect("--in", mixed), detect("--in", mixed, threads=3)
    assert (one.code, three.code, three.err) == (3, 3, "")
    assert three.out == one.out
    order = list(dict.fromkeys(record["path"] for record in one.records))
    assert order == paths(mixed)
    assert [record["path"] for record in one.records if "error" in record] == [str(mixed / "c.jpg")]
    faceless_ones = [record for record in one.records if record.get("face", 0) is None]
    assert [record["reason"] for record in faceless_ones] == ["no face of 20 pixels or more found"]
    assert all(("reason" in record) is (record["label"] == "unclear") for record in one.records if "box" in record)
    assert sum(record["score"] is not None for record in one.records) >= 24


@pytest.mark.parametrize("name", ["embed", "align"])
def test_the_number_of_threads_changes_no_byte_of_files(run: Tool, mixed: Path, tmp_path: Path, name: str) -> None:
    made = []
    for threads in ("1", "2"):
        out = tmp_path / threads / "e.safetensors"
        out.parent.mkdir()
        environment = {**os.environ, "OMP_NUM_THREADS": threads}
        done = run("facetools", name, mixed, "--out", out.name, cwd=out.parent, env=environment)
        assert (done.code, done.err) == (3, "")
        files = sorted(path for path in out.parent.rglob("*") if path.is_file() and not path.name.startswith("."))
        made.append((done.out, [path.read_bytes() for path in files]))
    assert made[0] == made[1]
    assert made[0][1]


def test_shards_tars_and_paths_on_stdin_give_the_same_records(detect: Tool, mixed: Path, tmp_path: Path) -> None:
    whole = detect("--in", mixed, threads=2)
    parts = [detect("--in", mixed, "--shard", f"{number}/3", threads=2).out for number in (1, 2, 3)]
    assert all(parts)
    assert b"".join(parts) == whole.out
    with tarfile.open(tmp_path / "all.tar", "w") as archive:
        archive.add(mixed, ".")
    packed = detect("--in", tmp_path / "all.tar", threads=2)
    assert packed.code == 3
    assert [(record["relative"], record["score"]) for record in packed.records if "error" not in record] == [
        (record["relative"], record["score"]) for record in whole.records if "error" not in record
    ]
    poured = detect("-0", "--in", "-", threads=2, stdin="\0".join(paths(mixed)).encode())
    assert [(record["path"], record["score"]) for record in poured.records if "error" not in record] == [
        (record["path"], record["score"]) for record in whole.records if "error" not in record
    ]


def test_records_that_name_faces_are_not_searched_again(detect: Tool, mixed: Path) -> None:
    found = detect("--in", mixed / "b.png", "--in", next(mixed.glob("*/0.jpg")), threads=2)
    moved = [{**record, "who": "x"} for record in found.records]
    for record in moved:
        if "landmarks" in record:
            record["box"] = [round(value + 7, 2) for value in record["box"]]
    again = detect("--in", "-", threads=2, stdin="".join(json.dumps(record) + "\n" for record in moved).encode())
    assert again.code == 0
    assert [(record["box"], record["who"]) for record in again.records if record["score"] is not None] == [
        (record["box"], "x") for record in moved if "landmarks" in record
    ]
    assert {record["path"] for record in again.records} == {record["path"] for record in found.records}


def test_whole_photos_and_crops_are_not_searched(detect: Tool, mixed: Path, tmp_path: Path) -> None:
    given = [next(mixed.glob("*/0.jpg")), mixed / "b.png"]
    small = [tmp_path / f"{number}.png" for number in range(2)]
    for photo, path in zip(given, small, strict=True):
        with Image.open(photo) as opened:
            opened.convert("RGB").crop((40, 40, 220, 220)).save(path)
    words = [word for path in small for word in ("--in", path)]
    whole = detect("--faces", "whole-photo", *words)
    for record in whole.records:
        assert (record["face"], record["box"]) == (0, [0, 0, 180, 180])
        assert (record["landmarks"], record["confidence"]) == (None, None)
        assert 0 <= record["score"] <= 1
    assert [record["path"] for record in whole.records] == list(map(str, small))
    assert detect("--crops", *words).out == whole.out
    # Of a photo that is larger the window counts that seems most cloaked; a crop is reduced.
    (window,) = detect("--faces", "whole-photo", "--in", given[0]).records
    assert [window["box"][2] - window["box"][0], window["box"][3] - window["box"][1]] == [192, 192]
    (crop,) = detect("--crops", "--in", given[0]).records
    assert crop["box"] == [0, 0, 250, 250]
    (central,) = detect("--faces", "central", "--in", given[0]).records
    assert central["box"] not in ([0, 0, 250, 250], window["box"])


def write_scores(path: Path, values: list[float], **fields: Any) -> Path:
    """Records of detect, as far as thresholds need them."""
    lines = (json.dumps({"score": value, "path": str(number), **fields}) for number, value in enumerate(values))
    path.write_text("".join(f"{line}\n" for line in lines))
    return path


def test_thresholds_by_clean_scores(detect: Tool, mixed: Path, tmp_path: Path) -> None:
    faces = [record for record in detect("--in", mixed).records if record["score"] is not None]
    assert "p_value" not in faces[0]
    by_score = sorted(faces, key=lambda record: record["score"])
    low, *_, high = (record["score"] for record in by_score)
    assert low < high
    # Of 39 clean faces 30 are as high as the lowest found here, and two as high as the highest.
    clean = write_scores(tmp_path / "clean.jsonl", [low] * 28 + [low / 2] * 9 + [high] * 2, model=faces[0]["model"])
    done = detect("--in", mixed, "--clean-scores", clean, "--false-alarms", "0.075")
    assert (done.code, done.err) == (3, "")
    found = {record["box"][0]: record for record in done.records if record.get("box")}
    assert len(found) == len(faces)
    between = 0
    for record in faces:
        now, score = found[record["box"][0]], record["score"]
        assert now["p_value"] == pytest.approx((1 + 28 * (score == low) + 2) / 40)
        assert now["label"] == ("cloaked" if score > low else "clean")
        assert (now["threshold"], now["clean_below"]) == pytest.approx((low + 1e-6, low + 1e-6))
        changed = {"label", "attack", "p_value", "threshold", "clean_below", "reason"}
        assert {k: v for k, v in now.items() if k not in changed} == {
            k: v for k, v in record.items() if k not in changed
        }
    # At the lowest rate none is above the highest, and those between are unclear.
    done = detect("--in", mixed, "--clean-scores", clean)
    assert done.err == (
        f"facetools: note: --clean-scores {clean}: 39 faces: labels are for 2.50% false alarms, and not for 0.50%\n"
    )
    for record in done.records:
        if record.get("box"):
            between += low < record["score"] <= high
            assert record["label"] == ("unclear" if record["score"] > low else "clean")
            assert (record["threshold"], record["clean_below"]) == pytest.approx((high + 1e-6, low + 1e-6))
    assert between
    none = [record for record in done.records if record.get("face", 0) is None and "error" not in record]
    assert none
    assert all(record["p_value"] is None for record in none)
    # What an earlier run said is no outcome of this one.
    again = detect("--in", "-", stdin=done.out)
    assert not any("p_value" in record for record in again.records)


def test_clean_scores_of_several_files_of_which_some_are_cloaked(detect: Tool, mixed: Path, tmp_path: Path) -> None:
    model = detect("--in", mixed / "b.png").records[0]["model"]
    few = write_scores(tmp_path / "few.jsonl", [0.1] * 10, model=model)
    more = tmp_path / "more.jsonl"
    lines = [{"score": 0.99 - 0.01 * (n > 1), "path": f"more/{n}", "model": model} for n in range(10)]
    more.write_text("".join(json.dumps(line) + "\n" for line in [*lines, lines[0], {"error": {"kind": "x"}}]))
    done = detect("--in", mixed / "b.png", "--clean-scores", few, "--clean-scores", more)
    assert done.code == 0
    said = f"--clean-scores {few} {more}"
    assert done.err.splitlines() == [
        f"facetools: note: {said}: 20 faces: labels are for 4.77% false alarms, and not for 0.50%",
        f"facetools: note: {said}: records left out: 1 failed, 1 repeated",
        f"facetools: warning: {said}: 10 of 20 faces are labelled cloaked by the detector's own threshold; if they "
        "are, cloaks like them are missed: leave them out",
    ]


def test_shards_of_other_clean_scores_are_told_apart(detect: Tool, mixed: Path, tmp_path: Path) -> None:
    model = detect("--in", mixed / "b.png").records[0]["model"]
    clean = write_scores(tmp_path / "clean.jsonl", [0.1] * 30, model=model)
    words = ("--in", mixed, "--into", tmp_path / "shards", "--clean-scores", clean)
    assert detect(*words, "--shard", "1/2").code in (0, 3)
    write_scores(clean, [0.2] * 30, model=model)
    done = detect(*words, "--shard", "2/2")
    assert done.code == 2
    assert "clean" in done.err


def test_clean_scores_that_cannot_be(detect: Tool, mixed: Path, tmp_path: Path) -> None:
    clean = tmp_path / "clean.jsonl"
    for about, said in (
        ({"model": "other-1"}, "its scores are of other-1, and this is detector-"),
        ({}, "does not say by which detector it was scored, and this is detector-"),
        ({"truth": "lowkey"}, "record 1: truth is 'lowkey', and thresholds are by clean faces; leave it out"),
    ):
        write_scores(clean, [0.1] * 30, **about)
        done = detect("--in", mixed, "--clean-scores", clean)
        assert (done.code, done.out) == (1, b"")
        assert said in done.err
    done = detect("--in", mixed, "--clean-scores", "-")
    assert (done.code, done.err) == (2, "facetools: error: --clean-scores -: name a file of records\n")
    done = detect("--in", mixed, "--clean-scores", tmp_path)
    assert (done.code, done.out) == (2, b"")
    assert "is a folder; score its photos first, by facetools detect with the options that are given" in done.err
    assert detect("--in", mixed / "b.png", "--into", tmp_path / "sh").code == 0
    done = detect("--in", mixed, "--clean-scores", tmp_path / "sh")
    assert (done.code, done.out) == (2, b"")
    assert f"gather them, `facetools gather {tmp_path / 'sh'} > clean.jsonl`, and name" in done.err
    done = detect("--in", mixed, "--clean-scores", tmp_path / "clean.csv")
    assert (done.code, done.out) == (2, b"")
    assert "give records as JSON lines; run facetools detect without --csv" in done.err
    done = detect("--in", mixed, "--clean-scores", write_scores(clean, [0.1]))
    assert (done.code, done.out) == (1, b"")
    assert "has scores of 1 clean faces" in done.err
    done = detect("--in", mixed, "--clean-scores", write_scores(clean, [0.1] * 30), "--threshold", "0.5")
    assert (done.code, done.out) == (2, b"")
    assert "--threshold 0.5: --clean-scores sets it too; leave one out" in done.err


def test_a_record_comes_before_the_next_path_is_known(mixed: Path) -> None:
    photos = [str(path) for path in sorted(mixed.glob("*/0.jpg"))[:2]]
    process = subprocess.Popen(
        command("facetools", "detect"),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "OMP_NUM_THREADS": "2"},
    )
    assert process.stdin is not None
    assert process.stdout is not None
    for photo in photos:
        process.stdin.write(photo.encode() + b"\n")
        process.stdin.flush()
        while json.loads(process.stdout.readline())["path"] != photo:
            pass
    process.stdin.close()
    process.stdout.read()
    assert process.wait(120) == 0


def test_what_takes_long_to_import_is_not_imported(mixed: Path) -> None:
    code = (
        "import sys; sys.argv = ['facetools', *sys.argv[1:]]\nfrom facetools.cli import main\n"
        "try: main()\nexcept SystemExit: pass\n"
        "print('torch' in sys.modules, [m for m in ('torchvision', 'torch._dynamo', 'sympy', 'transformers',"
        " 'matplotlib', 'scipy', 'pandas', 'sklearn', 'onnx') if m in sys.modules], file=sys.stderr)"
    )
    words = [sys.executable, "-c", code, "detect", "--in", str(next(mixed.glob("*/0.jpg")))]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout.splitlines()[0])["score"] is not None
    assert done.stderr == "True []\n"
