"""Which records are clean and which are cloaked, and whose they are, as the command line and the records tell it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from _toolio.errors import ToolError, UsageError
from facetools.commands._plot import parse_truth
from facetools.reporting.detector_scores import read_scores
from report_records import save


def record(path: str | None, score: float | None, **more: Any) -> dict[str, Any]:
    fields = {"score": score, "schema": "facetools.detect/1", "threshold": 0.5, "path": path, "model": "net", **more}
    return {key: value for key, value in fields.items() if key != "path" or value is not None}


def faces(folder: str, *scores: float) -> list[dict[str, Any]]:
    return [
        record(f"{folder}/p{number}/1.jpg", score, relative=f"p{number}/1.jpg") for number, score in enumerate(scores)
    ]


@pytest.fixture
def one_file(tmp_path: Path) -> str:
    """As detect --in control --in out/lowkey --in out/opom writes them."""
    parts = [*faces("control", 0.1, 0.2), *faces("out/lowkey", 0.9, 0.8), *faces("out/opom", 0.3)]
    return save(tmp_path / "scores.jsonl", parts)


def told(files: list[str], clean: list[str] = [], cloaked: list[str] = []) -> dict[str, list[float]]:  # noqa: B006
    scores = read_scores(parse_truth(files, clean, cloaked))
    names = ("untold", "clean", *scores.cloaks)
    return {name: scores.values[scores.kinds == place - 1].tolist() for place, name in enumerate(names)}


def test_folders_tell_and_the_rest_is_clean(one_file: str) -> None:
    assert told([one_file], cloaked=["lk=out/lowkey/", "./out/opom"]) == {
        "untold": [],
        "clean": [0.1, 0.2],
        "lk": [0.9, 0.8],
        "./out/opom": [0.3],
    }
    assert told([one_file], cloaked=["all=out/*"])["all"] == [0.9, 0.8, 0.3]
    assert told([one_file], cloaked=["here=."])["here"] == [0.1, 0.2, 0.9, 0.8, 0.3]
    assert told([one_file], clean=["control"]) == {"untold": [], "clean": [0.1, 0.2], "cloaked": [0.9, 0.8, 0.3]}


def test_with_both_told_the_rest_is_left_out(one_file: str) -> None:
    scores = read_scores(parse_truth([one_file], ["control"], ["lk=out/lowkey"]))
    assert scores.values.tolist() == [0.1, 0.2, 0.9, 0.8]
    assert scores.left_out["without_truth"] == 1


def test_files_tell(tmp_path: Path, one_file: str) -> None:
    clean, cloaked = save(tmp_path / "a.jsonl", faces("a", 0.4)), save(tmp_path / "b.jsonl", faces("b", 0.6))
    assert told([], [clean], [f"b={cloaked}"]) == {"untold": [], "clean": [0.4], "b": [0.6]}
    assert told([clean], [], [f"b={cloaked}"]) == {"untold": [], "clean": [0.4], "b": [0.6]}


def test_a_folder_named_like_the_beginning_of_another_is_not_it(one_file: str) -> None:
    with pytest.raises(
        ToolError, match=r"--cloaked out/low: no record is of a photo in it; the first is of control/p0"
    ):
        told([one_file], cloaked=["out/low"])


def test_records_tell_by_themselves(tmp_path: Path) -> None:
    kinds = ("clean", "cloaked", "opom", None)
    records = [record(f"{n}.jpg", n / 10, truth=kind) for n, kind in enumerate(kinds)]
    assert told([save(tmp_path / "x", records)]) == {"untold": [], "clean": [0.0], "cloaked": [0.1], "opom": [0.2]}
    for bad in (1, "", ["clean"]):
        with pytest.raises(ToolError, match="record 1: truth is"):
            told([save(tmp_path / "y", [record("1.jpg", 0.5, truth=bad)])])


def test_without_a_word_nothing_is_told(one_file: str) -> None:
    assert told([one_file]) == {"untold": [0.1, 0.2, 0.9, 0.8, 0.3], "clean": []}


def test_a_face_cannot_be_both(tmp_path: Path, one_file: str) -> None:
    with pytest.raises(ToolError, match=r"record 3: out/lowkey/p0/1.jpg lies in --clean out and --cloaked out/lowkey"):
        told([one_file], clean=["out"], cloaked=["out/lowkey"])
    with pytest.raises(
        ToolError, match=r"record 1: the face of control/p0/1.jpg is clean and all; is a file given twice"
    ):
        told([], clean=[one_file], cloaked=[f"all={one_file}"])


def test_what_has_no_number_is_counted(tmp_path: Path) -> None:
    failed = {"moved": None, "path": "x", "error": {"kind": "missing", "message": "gone"}}
    records = [record("1.jpg", 0.5), record("1.jpg", 0.5), failed, record("2.jpg", None, reason="no face found")]
    scores = read_scores(parse_truth([save(tmp_path / "x", records)], [], []))
    assert scores.values.tolist() == [0.5]
    assert scores.left_out == {"failed": 1, "without_score": 1, "without_truth": 0, "repeated": 1}


def test_two_faces_of_a_photo_are_no_repetition_and_neither_are_records_without_a_path(tmp_path: Path) -> None:
    two = [record("1.jpg", 0.5, face=0), record("1.jpg", 0.5, face=1)]
    assert told([save(tmp_path / "x", two)]) == {"untold": [0.5, 0.5], "clean": []}
    assert told([save(tmp_path / "y", [record(None, 0.5)] * 2)]) == {"untold": [0.5, 0.5], "clean": []}


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("{broken", "x, line 2: not a JSON record"),
        ("[1]", "x, line 2: a record must be a JSON object"),
        ('{"score": NaN}', "x, record 2: score is nan, and not a number from 0 to 1"),
        ('{"score": 1.5}', "score is 1.5"),
        ('{"score": -1e-9}', "score is -1e-09"),
        ('{"score": true}', "score is True"),
        ('{"score": "0.5"}', "score is '0.5'"),
        ('{"protection": 0.5}', "record 2: no score in it; give what `facetools detect` wrote"),
        ('{"score": 0.5, "model": "other"}', "scored by other, and those before by net"),
    ],
)
def test_what_is_no_record_of_detect_ends_the_run(
    tmp_path: Path, line: str, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    save(Path("x"), faces("a", 0.5))
    with Path("x").open("a") as stream:
        stream.write(line + "\n")
    with pytest.raises(ToolError, match=words.replace("[", r"\[")):
        told(["x"])


def test_nothing_to_draw(tmp_path: Path) -> None:
    with pytest.raises(ToolError, match="no record; give what"):
        told([save(tmp_path / "x", [])])
    with pytest.raises(ToolError, match="none of 2 records has a score"):
        told([save(tmp_path / "x", [record("a.jpg", None)] * 2)])
    with pytest.raises(ToolError, match="z: no record of it has a score"):
        told([], [save(tmp_path / "y", faces("a", 0.5))], ["z=" + save(tmp_path / "z", [record("a.jpg", None)])])
    with pytest.raises(ToolError, match=r"gone\.jsonl: No such file"):
        told([], [str(tmp_path / "gone.jsonl")], [str(tmp_path / "x")])


def test_names_of_cloaks_differ() -> None:
    for cloaked in (["a=x", "a=y"], ["clean=x"]):
        with pytest.raises(UsageError, match="something else is called"):
            parse_truth(["s"], [], cloaked)
    with pytest.raises(UsageError, match="- can be given once"):
        parse_truth(["-"], ["-"], [])


def test_the_threshold_is_that_of_all_or_none(tmp_path: Path) -> None:
    same, other = faces("a", 0.5, 0.6), [record("b.jpg", 0.5, threshold=0.7)]
    assert read_scores(parse_truth([save(tmp_path / "x", same)], [], [])).threshold == 0.5
    mixed = parse_truth([save(tmp_path / "y", [*same, *other])], [], [])
    assert read_scores(mixed).threshold is None
    assert read_scores(mixed, threshold=0.25).threshold == 0.25
    for odd in (True, 5, -1, "0.5", float("nan"), None):
        path = save(tmp_path / "z", [record("a.jpg", 0.5, threshold=odd)])
        assert read_scores(parse_truth([path], [], [])).threshold is None


def test_groups_are_people_or_else_photos(tmp_path: Path) -> None:
    many = [*faces("a", *np.linspace(0.1, 0.2, 12)), *faces("b", *np.linspace(0.8, 0.9, 12))]
    scores = read_scores(parse_truth([save(tmp_path / "x", many)], [], ["b"]))
    assert scores.over == "people"
    assert scores.groups.tolist() == [*range(12), *range(12)], "a person and their cloaked self are one"
    few = [record(f"{kind}/{n}.{kind}", n / 10, relative=f"{n}.{kind}") for kind in ("jpg", "png") for n in range(3)]
    scores = read_scores(parse_truth([save(tmp_path / "y", few)], [], ["png"]))
    assert (scores.over, scores.groups.tolist()) == ("photos", [0, 1, 2, 0, 1, 2])
    scores = read_scores(parse_truth([save(tmp_path / "z", [record(None, 0.1), record(None, 0.2)])], [], []))
    assert (scores.over, scores.groups.tolist()) == ("faces", [0, 1])
