"""``facetools report`` as a process: what it writes, refuses and leaves alone."""

from __future__ import annotations

import hashlib
import io
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from conftest import Run, command, faceless, saved
from embedding_files import write
from report_records import EVIL, PEOPLE, evaluated, failures, lines_of, save, trained

Tool = Callable[..., Run]


@pytest.fixture
def report(run: Callable[..., Run]) -> Tool:
    return lambda *words, **how: run("facetools", "report", *map(str, words), **how)


@pytest.fixture(scope="module")
def records(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    return evaluated(tmp_path_factory.mktemp("records"), classifiers=("nn",))


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Two photos each of two people, and copies by two cloaks, one of which saves them smaller."""
    for person in range(2):
        for number in range(2):
            photo = faceless((90, 120), seed=2 * person + number)
            for kind, other in (("clean", photo), ("one", photo.point(lambda v: min(255, v + 9))), ("two", photo)):
                place = tmp_path / "photos" / kind / f"p{person}"
                place.mkdir(parents=True, exist_ok=True)
                (other.resize((45, 60)) if kind == "two" else other).save(place / f"{number}.png")
    return tmp_path / "photos"


def tree(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_from_embeddings_to_a_report(run: Callable[..., Run], report: Tool, tmp_path: Path) -> None:
    clean, cloaked = write(tmp_path, "clean"), write(tmp_path, "cloaked", rows=np.eye(4, 3, dtype=np.float32) + 1)
    done = run("facetools", "evaluate", "--gallery", str(clean), "--cloaked", str(cloaked))
    made = report("--out", tmp_path / "report", stdin=done.out)
    assert (made.code, made.err) == (0, "")
    page = (tmp_path / "report" / "index.html").read_text()
    assert f"{100 * done.records[-1]['protection']:.1f}%" in page
    assert "stdin: 3 records" in page


def test_records_name_every_file_and_the_same_input_gives_the_same_bytes(
    report: Tool, records: list[dict[str, Any]], photos: Path, tmp_path: Path
) -> None:
    results, training = save(tmp_path / "r.jsonl", records), save(tmp_path / "t.jsonl", trained())
    words = ["--in", results, "--in", training, "--clean", photos / "clean", "--cloaked", f"first={photos / 'one'}"]
    words += ["--cloaked", photos / "two", "--examples", "3", "--title", EVIL.replace("\n", " ")]
    done = report(*words, "--out", tmp_path / "report")
    assert (done.code, done.err) == (0, "")
    files = tree(tmp_path / "report")
    assert {record["relative"] for record in done.records} == set(files)
    for record in done.records:
        assert list(record)[:2] == ["bytes", "schema"]
        assert record["schema"] == "facetools.report/1"
        data = Path(record["path"]).read_bytes()
        assert (len(data), hashlib.sha256(data).hexdigest()) == (record["bytes"], record["sha256"])
    kinds = [record["kind"] for record in done.records]
    assert {kind: kinds.count(kind) for kind in kinds} == {"page": 1, "table": 2, "chart": 2, "photo": 15}
    page = files["index.html"].decode()
    # One photo of each person, then a second one of the first.
    assert [page.count(f"<h3>{name}</h3>") for name in ("p0/0.png", "p1/0.png", "p0/1.png", "p1/1.png")] == [1, 1, 1, 0]
    again = report(*words, "--out", tmp_path / "again", env={**os.environ, "PYTHONHASHSEED": "7"})
    assert again.code == 0
    assert tree(tmp_path / "again") == files
    forced = report(*words, "--out", tmp_path / "report", "--force")
    assert (forced.code, forced.out) == (0, done.out)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["again", "photos", "r.jsonl", "report", "t.jsonl"]


def test_examples_show_the_photos(report: Tool, records: list[dict[str, Any]], photos: Path, tmp_path: Path) -> None:
    done = report(
        "--out", tmp_path / "report", "--clean", photos / "clean", "--cloaked", photos / "one", "--amplify", "5",
        "--examples", "1", stdin=lines_of(records),
    )  # fmt: skip
    assert (done.code, done.err) == (0, "")
    drawn = {name: Image.open(io.BytesIO(data)) for name, data in tree(tmp_path / "report").items() if "photos" in name}
    assert sorted(drawn) == ["photos/1-1-cloaked.png", "photos/1-1-difference.png", "photos/1-clean.png"]
    assert {picture.size for picture in drawn.values()} == {(180, 240)}
    difference = drawn["photos/1-1-difference.png"].getpixel((90, 120))
    assert difference == (128 + 5 * 9,) * 3


def test_a_photo_that_cannot_be_used_is_a_record_and_another_is_shown(
    report: Tool, records: list[dict[str, Any]], photos: Path, tmp_path: Path
) -> None:
    (photos / "one" / "p0" / "0.png").write_bytes(b"no photo")
    (photos / "one" / "p1" / "0.png").write_bytes(saved(faceless((200, 90)), "PNG"))
    done = report(
        "--out", tmp_path / "report", "--clean", photos / "clean", "--cloaked", photos / "one", "--examples", "2",
        stdin=lines_of(records),
    )  # fmt: skip
    assert (done.code, done.err) == (3, "")
    errors = [record for record in done.records if "error" in record]
    assert [record["error"]["kind"] for record in errors] == ["not-a-photo", "shape"]
    assert [record["path"] for record in errors] == [str(photos / "clean" / f"p{n}" / "0.png") for n in (0, 1)]
    page = (tmp_path / "report" / "index.html").read_text()
    assert [page.count(f"<h3>p{n}/1.png</h3>") for n in (0, 1)] == [1, 1]
    assert "not a photo in a format that can be read" in page


def test_training_records_alone(report: Tool, tmp_path: Path) -> None:
    bare = [{key: value for key, value in each.items() if key in ("schema", "epoch", "loss")} for each in trained()]
    for number, lines in enumerate((trained(), bare, trained(1))):
        done = report("--out", tmp_path / str(number), stdin=lines_of(lines))
        assert (done.code, done.err) == (0, "")
        assert sorted(tree(tmp_path / str(number))) == [
            "charts/training-1.png", "index.html", "tables.csv", "tables.md",
        ]  # fmt: skip
        assert "Results" not in (tmp_path / str(number) / "index.html").read_text()


@pytest.mark.parametrize(
    ("stdin", "message"),
    [
        (b"", "stdin: no record; give what `facetools evaluate` wrote"),
        (b'{"score":1,"schema":"facetools.detect/1"}\n', "stdin, line 1: schema 'facetools.detect/1' is nothing to"),
        (lines_of(failures()), "stdin: no number to report: all 2 records are of failures"),
    ],
)
def test_bad_input_is_one_line_and_leaves_nothing(report: Tool, stdin: bytes, message: str, tmp_path: Path) -> None:
    done = report("--out", tmp_path / "report", stdin=stdin)
    assert (done.code, done.out) == (1, b"")
    assert done.err.startswith(f"facetools: error: {message}")
    assert done.err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["--clean", "{photos}/clean"], 2, "--clean needs --cloaked beside it"),
        (["--cloaked", "{photos}/one"], 2, "--cloaked needs --clean beside it"),
        (["--clean", "{photos}/gone", "--cloaked", "{photos}/one"], 1, "{photos}/gone: no such file or folder"),
        (["--clean", "{photos}/clean", "--cloaked", "x={photos}/gone"], 1, "{photos}/gone: no such file or folder"),
        (["--clean", "-", "--cloaked", "{photos}/one"], 2, "--clean and --cloaked cannot be -"),
        (["--clean", "{photos}/clean", "--cloaked", "x="], 2, "--cloaked x=: give NAME=PATH"),
        (
            ["--clean", "{photos}/clean", "--cloaked", "x={photos}/one", "--cloaked", "x={photos}/two"],
            2,
            "--cloaked x={photos}/one: another cloak has that name",
        ),
        (
            ["--clean", "{photos}", "--cloaked", "{photos}/one", "--out", "{photos}/new"],
            2,
            "lies in a folder of photos",
        ),
        (["--in", "{photos}", "--out", "{photos}/new"], 2, "--out {photos}/new: lies in --in {photos}"),
        (["--in", "{photos}/gone.jsonl"], 1, "{photos}/gone.jsonl: no such file"),
        (["--in", "{photos}/clean"], 1, "{photos}/clean: no .jsonl file in it"),
        (["--out", "{photos}/clean/p0/0.png"], 2, "0.png: is no folder"),
        (["--out", "{photos}/clean/p0/0.png/new"], 2, "0.png is no folder; name one elsewhere"),
        (["--out", "{photos}"], 2, "--out {photos}: is not empty; use --force"),
        (["--out", "{photos}", "--force"], 2, "is not of a report, and --force replaces nothing else"),
        (["--examples", "0"], 2, "--examples"),
        (["--amplify", "nan"], 2, "--amplify"),
    ],
)
def test_what_cannot_be_asked_for(
    report: Tool, records: list[dict[str, Any]], photos: Path, tmp_path: Path, words: list[str], code: int, message: str
) -> None:
    before = tree(photos)
    filled = [word.format(photos=photos) for word in words]
    done = report(*([] if "--out" in words else ["--out", tmp_path / "report"]), *filled, stdin=lines_of(records))
    assert (done.code, done.out) == (code, b""), done.err
    assert message.format(photos=photos) in done.err
    assert (done.err.count("\n"), done.err[:18]) == (1, "facetools: error: ")
    assert tree(photos) == before
    assert [path.name for path in tmp_path.iterdir()] == ["photos"]


def test_photos_without_copies(report: Tool, records: list[dict[str, Any]], photos: Path, tmp_path: Path) -> None:
    (photos / "one" / "p0").rename(photos / "one" / "q0")
    (photos / "one" / "p1").rename(photos / "one" / "q1")
    words = ("--clean", photos / "clean", "--cloaked", photos / "one", "--out", tmp_path / "report")
    done = report(*words, stdin=lines_of(records))
    assert (done.code, done.out) == (1, b"")
    assert "none of 4 photos has its copy" in done.err
    assert not (tmp_path / "report").exists()


def test_force_replaces_reports_alone(report: Tool, records: list[dict[str, Any]], tmp_path: Path) -> None:
    out, data = tmp_path / "report", lines_of(records)
    out.mkdir()
    assert report("--out", out, stdin=data).code == 0, "an empty folder may be filled"
    assert report("--out", out, stdin=data).code == 2
    (out / "charts" / "notes.txt").write_text("mine")
    kept = tree(out)
    done = report("--out", out, "--force", stdin=data)
    assert done.code == 2
    assert "notes.txt is not of a report" in done.err
    assert tree(out) == kept
    (out / "charts" / "notes.txt").unlink()
    assert report("--out", out, "--force", stdin=data).code == 0
    (out / "index.html").write_text("<!doctype html><title>my own page</title>")
    done = report("--out", out, "--force", stdin=data)
    assert (done.code, "it is no report" in done.err) == (2, True)
    failed = report("--out", tmp_path / "other", "--force", stdin=b"")
    assert failed.code == 1


def test_an_older_report_stays_where_a_new_one_fails(
    report: Tool, records: list[dict[str, Any]], tmp_path: Path
) -> None:
    assert report("--out", tmp_path / "report", stdin=lines_of(records)).code == 0
    before = tree(tmp_path)
    assert report("--out", tmp_path / "report", "--force", stdin=lines_of(failures())).code == 1
    assert tree(tmp_path) == before


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_may_not_be_written(report: Tool, records: list[dict[str, Any]], tmp_path: Path) -> None:
    (tmp_path / "closed").mkdir(mode=0o555)
    done = report("--out", tmp_path / "closed" / "report", stdin=lines_of(records))
    assert (done.code, done.out) == (2, b"")
    assert "may not be written to" in done.err


def test_a_full_disk_under_the_report(report: Tool, records: list[dict[str, Any]]) -> None:
    if not Path("/proc/self").exists():
        pytest.skip("no /proc on this system: a folder that even root cannot write to")
    done = report("--out", "/proc/report", stdin=lines_of(records))
    assert done.code in (1, 2)
    assert (done.out, done.err.count("\n")) == (b"", 1)
    assert "/proc/report: " in done.err


def test_a_reader_that_goes_away_and_heavy_modules(records: list[dict[str, Any]], tmp_path: Path) -> None:
    arguments = command(
        "facetools", "report", "--in", save(tmp_path / "r.jsonl", records), "--out", tmp_path / "report"
    )
    process = subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.close()
    assert process.stderr is not None
    assert process.stderr.read() == b""
    assert process.wait(120) == 0
    code = (
        "import sys; sys.argv = ['facetools', *sys.argv[1:]]\nfrom facetools.cli import main\n"
        "try: main()\nexcept SystemExit: pass\n"
        "print([m for m in ('torch', 'torchvision', 'matplotlib.pyplot') if m in sys.modules], file=sys.stderr)"
    )
    words = [arguments[0], "-c", code, *arguments[3:], "--force"]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    assert done.stderr == "[]\n"


def test_many_people_and_results(report: Tool, tmp_path: Path) -> None:
    """As a whole study gives: 60 results of 200 people."""
    single = {"schema": "facetools.evaluate/1", "floor": 0.0, "rank1": 0.5, "rank5": 0.9, "others_accuracy": 0.99}
    lines = []
    for cloak in range(15):
        for classifier in ("nn", "linear", "top2", "threshold"):
            about = {
                "cloak": f"c{cloak}",
                "classifier": classifier,
                "extractor": "net",
                "preprocess": "none",
                "seed": 0,
            }
            lines += [{"protection": n / 200, "person": f"{PEOPLE[0]}{n}", **single, **about} for n in range(200)]
            lines.append({"protection": 0.4975, "person": None, "people": 200, **single, **about})
    done = report("--out", tmp_path / "report", stdin=lines_of(lines))
    assert (done.code, done.err) == (0, "")
    charts = [record["relative"] for record in done.records if record["kind"] == "chart"]
    assert charts == ["charts/protection-1.png", "charts/protection-2.png"]
    assert (tmp_path / "report" / "index.html").stat().st_size < 8e6
