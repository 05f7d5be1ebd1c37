"""``facetools plot`` as a process: from photos to a picture, and what it refuses."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from conftest import Run, command
from report_records import lines_of, save
from test_contract import assert_one_error_line, modules_after, on_a_terminal

Tool = Callable[..., Run]
LEFT_OUT = {"failed": 0, "without_score": 0, "without_truth": 0, "repeated": 0}


@pytest.fixture
def plot(run: Tool) -> Tool:
    return lambda *words, **how: run("facetools", "plot", *map(str, words), **how)


def faces(folder: str, *scores: float) -> list[dict[str, Any]]:
    about = {"schema": "facetools.detect/1", "label": "clean", "threshold": 0.5}
    return [
        {"score": score, **about, "path": f"{folder}/{number}.jpg", "relative": f"{number}.jpg", "model": "net"}
        for number, score in enumerate(scores)
    ]


@pytest.fixture
def scores(tmp_path: Path) -> str:
    return save(tmp_path / "scores.jsonl", [*faces("control", 0.1, 0.2, 0.7), *faces("cloaked", 0.9, 0.8, 0.6)])


def test_from_photos_to_a_curve(run: Tool, plot: Tool, real_people: dict[str, list[bytes]], tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    for name, photos in list(real_people.items())[:3]:
        (tmp_path / "photos" / f"{name}.jpg").write_bytes(photos[0])
    for attack, more in (("none", []), ("lowkey", ["--set", "steps=3"])):
        words = ("--in", str(tmp_path / "photos"), "--out", str(tmp_path / attack), "--faces", "largest")
        assert run("facetools", "perturb", "--attack", attack, *more, *words).code == 0
    folders = [word for attack in ("none", "lowkey") for word in ("--in", str(tmp_path / attack))]
    found = run("facetools", "detect", *folders, "--faces", "largest")
    assert found.code == 0
    clean, cloaked = ([r["score"] for r in found.records if f"/{kind}/" in r["path"]] for kind in ("none", "lowkey"))
    done = plot("--kind", "roc", "--cloaked", tmp_path / "lowkey", "--out", tmp_path / "x.png", stdin=found.out)
    assert (done.code, done.err) == (0, "")
    (record,) = done.records
    pairs = [(a > b) + (a == b) / 2 for a in cloaked for b in clean]
    assert record["auc"] == pytest.approx(sum(pairs) / 9, abs=1e-6)
    assert (record["clean"], record["cloaked"], record["over"]) == (3, 3, "photos")
    assert record["recall"] == pytest.approx(sum(score >= 0.5 for score in cloaked) / 3, abs=1e-6)
    Image.open(tmp_path / "x.png").verify()


@pytest.mark.parametrize("kind", ["roc", "histogram", "calibration", "false-alarms"])
@pytest.mark.parametrize("suffix", [".png", ".svg", ".PDF"])
def test_kinds_and_formats(plot: Tool, scores: str, tmp_path: Path, kind: str, suffix: str) -> None:
    out = tmp_path / f"x{suffix}"
    done = plot(scores, "--kind", kind, "--cloaked", "lk=cloaked/", "--out", out)
    assert (done.code, done.err) == (0, "")
    assert out.read_bytes().startswith({".png": b"\x89PNG", ".svg": b"<?xml", ".PDF": b"%PDF"}[suffix])
    first = {"roc": "auc", "histogram": "detected", "calibration": "ece", "false-alarms": "false_alarms"}[kind]
    for record in done.records:
        assert next(iter(record)) == first
        assert (record["schema"], record["kind"], record["path"]) == ("facetools.plot/1", kind, str(out))
        assert record["left_out"] == LEFT_OUT
    names = {"histogram": ["clean", "lk"], "false-alarms": ["clean"]}.get(kind, ["lk"])
    assert [record["name"] for record in done.records] == names


def test_the_literal_numbers(plot: Tool, scores: str, tmp_path: Path) -> None:
    done = plot("--in", scores, "--kind", "roc", "--cloaked", "cloaked", "--out", tmp_path / "x.svg")
    assert done.out.startswith(b'{"auc":0.888889,"schema":"facetools.plot/1","name":"cloaked"')
    (record,) = done.records
    assert [record[key] for key in ("eer", "recall", "precision", "false_alarms")] == [0.333333, 1, 0.75, 0.333333]


@pytest.mark.parametrize("poured", [False, True])
def test_what_a_threshold_costs_on_clean_photos(plot: Tool, tmp_path: Path, poured: bool) -> None:
    some = [{**record, "label": "unclear", "truth": "lk"} for record in faces("mine", *[0.1] * 397, 0.5, 0.6, 0.7)]
    path, words = save(tmp_path / "clean.jsonl", some), ("--kind", "false-alarms", "--out", tmp_path / "x.svg")
    done = plot("--clean", "-", *words, stdin=lines_of(some)) if poured else plot("--clean", path, *words)
    assert (done.code, done.err) == (0, "")
    assert done.out.startswith(b'{"false_alarms":0.007500,"schema":"facetools.plot/1","name":"clean","interval":[')
    (record,) = done.records
    assert [record[key] for key in ("threshold", "flagged", "faces")] == [0.5, 3, 400]
    assert record["interval"] == pytest.approx([0.002554, 0.021816], abs=1e-6)
    assert record["summary"] == (
        "at the threshold of 0.5, 3 of your 400 clean faces would be flagged: 0.75% (95% interval 0.26%-2.18%)"
    )
    other = plot("--clean", path, *words, "--force", "--threshold", "0.65")
    assert [other.records[0][key] for key in ("threshold", "flagged")] == [0.65, 1]


def test_false_alarms_need_clean_faces(plot: Tool, scores: str, tmp_path: Path) -> None:
    done = plot(scores, "--kind", "false-alarms", "--out", tmp_path / "x.png")
    assert (done.code, done.out) == (1, b"")
    assert_one_error_line(done, "facetools")
    assert "there are none; say what is clean: --clean FILE" in done.err


def test_the_ways_to_tell_agree(plot: Tool, scores: str, tmp_path: Path) -> None:
    records = [json.loads(line) for line in Path(scores).read_text().splitlines()]
    told = [{**record, "truth": "clean" if "control" in record["path"] else "cloaked"} for record in records]
    clean, cloaked = (save(tmp_path / f"{kind}.jsonl", faces(kind, *some)) for kind, some in
                      (("control", (0.1, 0.2, 0.7)), ("cloaked", (0.9, 0.8, 0.6))))  # fmt: skip
    ways = [
        (["-", "--cloaked", "cloaked"], Path(scores).read_bytes()),
        (["--cloaked", "cloaked"], Path(scores).read_bytes()),
        ([scores, "--clean", "control/"], b""),
        ([], lines_of(told)),
        (["--clean", clean, "--cloaked", f"cloaked={cloaked}"], b""),
        ([clean, cloaked, "--cloaked", "cloaked"], b""),
        ([clean, "--cloaked", "cloaked=-"], Path(cloaked).read_bytes()),
    ]
    outputs = {
        plot(*words, "--kind", "roc", "--force", "--out", tmp_path / "x.svg", stdin=stdin).out for words, stdin in ways
    }
    assert len(outputs) == 1
    assert json.loads(outputs.pop())["auc"] == 0.888889


def test_one_kind_of_faces_is_one_line_that_says_what_to_do(plot: Tool, scores: str, tmp_path: Path) -> None:
    done = plot(scores, "--kind", "roc", "--out", tmp_path / "x.png")
    assert (done.code, done.out) == (1, b"")
    assert_one_error_line(done, "facetools")
    assert "there are 0 and 0; say what is cloaked: --cloaked FOLDER" in done.err
    assert not (tmp_path / "x.png").exists()


def test_a_picture_is_replaced_by_force_only_and_a_photo_file_of_another_kind_never(
    plot: Tool, scores: str, tmp_path: Path
) -> None:
    out = tmp_path / "x.png"
    assert plot(scores, "--kind", "histogram", "--out", out).code == 0
    before = out.read_bytes()
    again = plot(scores, "--kind", "histogram", "--threshold", "0.3", "--out", out)
    assert (again.code, again.out, out.read_bytes()) == (2, b"", before)
    assert "--force" in again.err
    assert (
        plot(scores, "--kind", "histogram", "--threshold", "0.3", "--out", out, "--force").records[0]["threshold"]
        == 0.3
    )
    assert out.read_bytes() != before
    data = io.BytesIO()
    Image.new("RGB", (9, 9)).save(data, "JPEG")
    out.write_bytes(data.getvalue())
    refused = plot(scores, "--kind", "histogram", "--out", out, "--force")
    assert (refused.code, out.read_bytes()) == (2, data.getvalue())
    assert "is no PNG file" in refused.err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--kind", "roc", "--out", "x.gif"], "name a .png, .svg or .pdf file"),
        (["--kind", "roc", "--out", "x"], "name a .png, .svg or .pdf file"),
        (["--kind", "roc", "--out", "gone/x.png"], "is no folder; make it first"),
        (["--kind", "pie", "--out", "x.png"], "'roc', 'histogram', 'calibration'"),
        (["--kind", "roc"], "--out"),
        (["--out", "x.png"], "--kind"),
        (["--kind", "roc", "--out", "x.png", "--threshold", "nan"], "not a finite number"),
        (["--kind", "roc", "--out", "x.png", "--cloaked", "a=b", "--cloaked", "a=c"], "something else is called a"),
    ],
)
def test_what_cannot_be_asked_for(
    run: Tool, words: list[str], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, scores: str
) -> None:
    monkeypatch.chdir(tmp_path)
    done = run("facetools", "plot", scores, *words)
    assert (done.code, done.out) == (2, b"")
    assert_one_error_line(done, "facetools")
    assert said in done.err
    assert "torch" not in modules_after("facetools", "plot", scores, *words)
    assert [path.name for path in tmp_path.iterdir()] == ["scores.jsonl"]


def test_a_terminal_with_nothing_given_is_a_usage_error(tmp_path: Path) -> None:
    words = ("plot", "--kind", "histogram", "--out", str(tmp_path / "x.png"))
    code, shown = on_a_terminal(command("facetools", *words), stdin=None)
    assert code == 2
    assert "facetools: error: no input: name files of records" in shown


def test_a_terminal_shows_a_table(scores: str, tmp_path: Path) -> None:
    words = ("plot", scores, "--kind", "roc", "--cloaked", "lk=cloaked", "--out", str(tmp_path / "x.png"))
    code, shown = on_a_terminal(command("facetools", *words), stdin=b"")
    assert code == 0
    assert "0.888889" in shown
    assert '{"' not in shown


def test_drawing_needs_no_torch(scores: str, tmp_path: Path) -> None:
    words = ("plot", scores, "--kind", "roc", "--cloaked", "cloaked", "--out", str(tmp_path / "x.png"))
    assert not modules_after("facetools", *words) & {"torch", "transformers", "torchvision"}
