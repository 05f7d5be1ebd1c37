"""``facetools evaluate`` in this process, on small files of embeddings."""

from __future__ import annotations

import json
import os
import shlex
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from _toolio.cli.app import run_tool
from _toolio.streams.forms import _cell
from conftest import Run, faceless, saved
from embedding_files import NAMES, write
from facetools.evaluation.config import ProtocolConfig
from facetools.evaluation.splits import split_photos
from facetools.extractors.settings import Settings
from facetools.faces.search import FaceSearch
from facetools.intake import Intake

Tool = Callable[..., Run]
PHOTOS = [f"{person}/{number}.jpg" for person in ("ann", "bob", "cleo d'or", "-dora") for number in range(10)]


@pytest.fixture
def tool(capfdbinary: pytest.CaptureFixture[bytes]) -> Tool:
    """Run the command here: a process of its own takes a second."""

    def call(*words: object) -> Run:
        with pytest.raises(SystemExit) as stop:
            run_tool("facetools", ["evaluate"], ["evaluate", *map(str, words)])
        out, err = capfdbinary.readouterr()
        assert isinstance(stop.value.code, int)
        return Run(stop.value.code, out, err.decode())

    return call


def embedded(folder: Path, name: str, *, names: Sequence[str] = PHOTOS, moved: float = 0.0, **changes: Any) -> Path:
    """Write embeddings of overlapping people; copies are moved at random."""
    rng = np.random.default_rng(0)
    people = {photo.split("/")[0]: rng.normal(size=5) for photo in PHOTOS}
    rows = {photo: people[photo.split("/")[0]] + 0.9 * rng.normal(size=5) for photo in PHOTOS}
    rng = np.random.default_rng(int(100 * moved))
    rows = {photo: row + moved * rng.normal(size=5) for photo, row in rows.items()}
    values = np.array([rows[photo] for photo in names], np.float32)
    return write(folder, name, names=names, rows=values, top=name, **{"distance": "euclidean", **changes})


@pytest.fixture
def inputs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    monkeypatch.chdir(tmp_path)
    for name, moved in (("clean", 0.0), ("old", 0.5), ("new", 1.5)):
        embedded(tmp_path, name, moved=moved)
    yield ["--gallery", "clean.jsonl", "--cloaked", "old.jsonl"]


def people_of(done: Run) -> dict[str, dict[str, Any]]:
    return {record["person"]: record for record in done.records if record.get("person")}


def test_records_say_what_made_them_and_how_to_make_them_again(tool: Tool, inputs: list[str]) -> None:
    options = ["--fraction", "0.5", "--split", "0.6", "--drop-missing", "--distance", "cosine", "--seed", "4"]
    options += ["--classifier", "nn", "--classifier", "linear", "--cloaked", "new.jsonl"]
    done = tool(*inputs, *options)
    assert (done.code, done.err) == (0, "")
    assert len(done.records) == 5 * 2 * 3
    for record in done.records:
        assert (record["extractor_sha256"], record["split"], record["folds"]) == ("d" * 64, 0.6, 1)
        assert (record["fraction"], record["drop_missing"], record["seed"]) == (0.5, True, 4)
        assert record["distance"] == ("cosine" if record["classifier"] == "nn" else None)
        assert record["cloak"] == "+".join(record["cloaks"])
        assert ("photos_of_cloaks" in record) == (len(record["cloaks"]) == 2)
    # One of each kind: of all people and of one, of one cloak and of both.
    for record in (done.records[4], done.records[2], done.records[-1], done.records[-2]):
        words = shlex.split(record["command"])
        assert words[:2] == ["facetools", "evaluate"]
        again = tool(*words[2:])
        assert record in again.records
    by_folds = tool(*inputs, "--folds", "3", "--protected", "ann")
    assert [(r["split"], r["folds"], r["interval"]) for r in by_folds.records[-1:]] == [(None, 3, None)]
    assert "--protected ann" in by_folds.records[-1]["command"]
    # Each of ten photos is asked once, and trained on twice.
    assert [(r["test_photos"], r["train_photos"]) for r in by_folds.records] == [(10, 20)] * 2


def test_a_cloak_has_the_name_that_it_is_given(tool: Tool, inputs: list[str]) -> None:
    done = tool(*inputs[:2], "--cloaked", "first=old.jsonl", "--cloaked", "new.jsonl")
    summaries = [each for each in done.records if each["person"] is None]
    assert [each["cloak"] for each in summaries] == ["first", "new.jsonl", "first+new.jsonl"]
    assert [each["cloaks"] for each in summaries] == [["first"], ["new.jsonl"], ["first", "new.jsonl"]]
    assert shlex.split(summaries[0]["command"])[2:6] == ["--gallery", "clean.jsonl", "--cloaked", "first=old.jsonl"]
    again = tool(*shlex.split(summaries[0]["command"])[2:])
    assert again.records[-1] == summaries[0]
    unnamed, command = tool(*inputs).records[-1], {"command": ""}
    assert {**summaries[0], "cloak": "old.jsonl", "cloaks": ["old.jsonl"], **command} == {**unnamed, **command}
    for wrong, words in (
        (("x=old.jsonl", "x=new.jsonl"), "--cloaked x=old.jsonl: another cloak has that name"),
        (("a+b=old.jsonl",), "--cloaked a+b=old.jsonl: + joins the names of several cloaks"),
        (("x=",), "--cloaked x=: give NAME=PATH"),
        (("x=gone.jsonl",), "gone.jsonl: no such file"),
    ):
        refused = tool(*inputs[:2], *(word for each in wrong for word in ("--cloaked", each)))
        assert refused.code in (1, 2)
        assert words in refused.err


def test_options_are_passed_on(tool: Tool, inputs: list[str], tmp_path: Path) -> None:
    counts = {}
    for words in ((), ("--fraction", "0.5"), ("--split", "0.5")):
        record = people_of(tool(*inputs, *words))["ann"]
        counts[words] = tuple(record[key] for key in ("train_photos", "cloaked_photos", "test_photos"))
    assert list(counts.values()) == [(7, 7, 3), (7, 4, 3), (5, 5, 5)]
    rates = []
    for words in ((), ("--distance", "cosine"), ("--seed", "1")):
        done = tool(*inputs, *words)
        rates.append([(r["protection"], r["floor"], r["others_accuracy"]) for r in done.records])
    assert rates[0] != rates[1]
    assert rates[0] != rates[2]
    (asked,) = split_photos([name.split("/")[0] for name in PHOTOS], ProtocolConfig(), PHOTOS)
    embedded(tmp_path, "few", names=[name for name, left in zip(PHOTOS, asked, strict=True) if not left][1:], moved=1.0)
    short = ["--gallery", "clean.jsonl", "--cloaked", "few.jsonl"]
    done = tool(*short)
    assert (done.code, people_of(done)["ann"]["error"]["kind"]) == (3, "no-cloak")
    done = tool(*short, "--drop-missing")
    assert (done.code, people_of(done)["ann"]["cloaked_photos"]) == (0, 6)
    labels = [{"relative": name, "person": "xy"[number % 2]} for number, name in enumerate(PHOTOS)]
    (tmp_path / "labels.jsonl").write_text("".join(json.dumps(line) + "\n" for line in labels))
    assert list(people_of(tool(*inputs, "--labels", "labels.jsonl"))) == ["x", "y"]


def test_half_a_character_in_a_name(tool: Tool, inputs: list[str], tmp_path: Path) -> None:
    labels = [{"relative": name, "person": ("\ud800", "b")[number % 2]} for number, name in enumerate(PHOTOS)]
    (tmp_path / "labels.jsonl").write_text("".join(json.dumps(line) + "\n" for line in labels))
    done = tool(*inputs, "--labels", "labels.jsonl")
    assert (done.code, done.err) == (0, "")
    assert list(people_of(done)) == ["b", "\ud800"]


def test_who_lacks_one_of_two_cloaks_is_an_error_of_these_cases(tool: Tool, inputs: list[str], tmp_path: Path) -> None:
    embedded(tmp_path, "few", names=[name for name in PHOTOS if not name.startswith("ann")], moved=1.0)
    done = tool(*inputs, "--cloaked", "few.jsonl", "--protected", "ann", "--protected", "bob")
    assert (done.code, done.err) == (3, "")
    shown = [(r["person"], len(r["cloaks"]), r.get("error", {}).get("kind")) for r in done.records if r["person"]]
    assert shown == [
        ("ann", 1, None), ("bob", 1, None), ("ann", 1, "no-cloak"), ("bob", 1, None), ("ann", 2, "no-cloak"),
        ("bob", 2, None),
    ]  # fmt: skip


def test_a_photo_that_has_no_partner_and_one_without_a_face(tool: Tool, inputs: list[str], tmp_path: Path) -> None:
    path = embedded(tmp_path, "some", names=PHOTOS[1:], moved=1.0)
    with path.open("a") as stream:
        unseen = {"row": None, "path": "some/ann/0.jpg", "relative": "ann/0.jpg", "reason": "no face found"}
        stream.write(json.dumps(unseen) + "\n")
    done = tool("--gallery", path, "--cloaked", "clean.jsonl")
    assert (done.code, done.err) == (0, "")
    assert done.records[0] == {
        "protection": None, "schema": "facetools.evaluate/1", "path": "clean/ann/0.jpg", "input": "clean.jsonl",
        "reason": "no face was found in its clean photo, some/ann/0.jpg: not used",
    }  # fmt: skip
    other = embedded(tmp_path, "other", names=PHOTOS[1:])
    done = tool("--gallery", other, "--cloaked", "new.jsonl")
    assert done.code == 3
    assert (done.records[0]["error"]["kind"], done.records[0]["input"]) == ("no-match", "new.jsonl")


def test_photos_without_the_suffix_are_told(tool: Tool, inputs: list[str], tmp_path: Path) -> None:
    names = [name.replace(".jpg", "_x.jpg") for name in PHOTOS[1:]] + PHOTOS[:1]
    rows = np.random.default_rng(0).normal(size=(len(names), 5)).astype(np.float32)
    write(tmp_path, "mixed", names=names, rows=rows, top="mixed", distance="euclidean")
    done = tool("--gallery", "clean.jsonl", "--cloaked", "mixed.jsonl", "--suffix", "_x", "--drop-missing")
    assert done.code == 3
    assert done.records[0]["error"]["message"].startswith("mixed/ann/0.jpg: its name does not end in --suffix _x")
    assert len(people_of(done)) == 4


def test_records_through_a_pipe_that_has_a_name(tool: Tool, inputs: list[str], tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")

    def pour() -> None:
        (tmp_path / "pipe").write_bytes((tmp_path / "old.jsonl").read_bytes())

    writer = threading.Thread(target=pour)
    writer.start()
    done = tool("--gallery", "clean.jsonl", "--cloaked", "pipe")
    writer.join()
    assert (done.code, done.err) == (0, "")
    assert people_of(done)["bob"]["protection"] == people_of(tool(*inputs))["bob"]["protection"]


def test_a_classifier_twice_is_asked_once(tool: Tool, inputs: list[str]) -> None:
    assert len(tool(*inputs, "--classifier", "nn", "--classifier", "nn").records) == 5


GALLERY = ("--gallery", "clean.jsonl")


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (("--gallery", "-", "--cloaked", "-"), 2, "- can be given once"),
        ((*GALLERY, "--cloaked", "clean.jsonl"), 2, "is the --gallery"),
        ((*GALLERY, "--cloaked", "./clean.jsonl"), 2, "is the --gallery"),
        ((*GALLERY, "--cloaked", "old.jsonl", "--cloaked", "new.jsonl", "--cloaked", "./old.jsonl"), 2, "--cloaked ./old.jsonl: given twice, also as old.jsonl"),  # noqa: E501
        ((*GALLERY, "--cloaked", "old.jsonl", "--cloaked", "old.jsonl", "--cloaked", "new.jsonl"), 2, "--cloaked old.jsonl: given twice"),  # noqa: E501
        (("--gallery", "g", "--cloaked", "g/cloaked"), 2, "--cloaked g/cloaked: lies in --gallery g;"),
        (("--gallery", "g/cloaked/", "--cloaked", "./g"), 2, "--gallery g/cloaked/: lies in --cloaked ./g;"),
        ((*GALLERY, "--cloaked", "copy.jsonl"), 1, "copy.jsonl: the cloaked photos are the clean ones, all 40"),
        ((*GALLERY, "--cloaked", "old.jsonl", "--preprocess", "none"), 2, "--preprocess: embeddings cannot be made"),
        ((*GALLERY, "--cloaked", "old.jsonl", "--faces", "largest"), 2, "--faces: faces are found in photos"),
        ((*GALLERY, "--cloaked", "old.jsonl", "--crops"), 2, "--crops: faces are found in photos"),
        ((*GALLERY, "--cloaked", "old.jsonl", "--min-face", "20"), 2, "--min-face: faces are found in photos"),
        (("--gallery", "g", "--cloaked", "h", "--robust", "old.jsonl"), 2, "--robust old.jsonl: only top2 and threshold"),  # noqa: E501
        (("--gallery", "g", "--cloaked", "h", "--robust", "nofile"), 2, "--robust nofile: neither a file"),
        (("--gallery", "g", "--cloaked", "h", "--robust", ""), 2, "--robust : neither a file"),
        (("--gallery", "", "--cloaked", "h"), 2, "--gallery: is empty"),
        (("--gallery", "g", "--cloaked", ""), 2, "--cloaked: is empty"),
        (("--gallery", "a.tar.gz", "--cloaked", "h"), 2, ".tar is read, and no packed one"),
        (("--gallery", "x" * 300, "--cloaked", "h"), 1, "name too long"),
        ((*GALLERY, "--cloaked", "old.jsonl", "--fraction", "0"), 2, "--fraction"),
        ((*GALLERY, "--cloaked", "old.jsonl", "--protected", "an"), 1, "--protected an: no such person in clean.jsonl; is it ann?"),  # noqa: E501
        ((*GALLERY, "--cloaked", "old.jsonl", "--protected", "zzz"), 1, "there are 4, ann for one"),
        ((*GALLERY, "--cloaked", "old.jsonl", "--folds", "11"), 1, "--folds 11: nobody has more than 10 photos"),
        ((*GALLERY, "--cloaked", "old.jsonl", "--suffix", "nope"), 1, "no cloaked photo's name in old.jsonl ends in nope"),  # noqa: E501
        ((*GALLERY, "--cloaked", "foreign.jsonl"), 1, "embed both with one extractor"),
        ((*GALLERY, "--cloaked", "wide.jsonl"), 1, "embeddings of 6 numbers, but those of clean.jsonl have 5"),
        ((*GALLERY, "--cloaked", "text.jsonl"), 1, "text.jsonl, line 1: not a JSON record"),
        ((*GALLERY, "--cloaked", "old.jsonl", "--labels", "text.jsonl"), 1, "text.jsonl, line 1: not a JSON record"),
        (("--gallery", "zero.jsonl", "--cloaked", "wide.jsonl", "--distance", "cosine"), 1, "is all zeros"),
        (("--gallery", "single.jsonl", "--cloaked", "other.jsonl"), 1, "nobody of 2 people has two photos"),
    ],
)  # fmt: skip
def test_what_cannot_be_evaluated(
    tool: Tool, inputs: list[str], tmp_path: Path, words: tuple[str, ...], code: int, message: str
) -> None:
    (tmp_path / "g" / "cloaked").mkdir(parents=True)
    (tmp_path / "h").mkdir()
    embedded(tmp_path, "copy")
    embedded(tmp_path, "foreign", sha256="e" * 64)
    write(tmp_path, "wide", names=PHOTOS, rows=np.ones((len(PHOTOS), 6), np.float32), distance="euclidean")
    write(tmp_path, "zero", names=PHOTOS, rows=np.zeros((len(PHOTOS), 6), np.float32), distance="euclidean")
    for name, value in (("single", 1), ("other", 2)):
        rows = np.full((2, 3), value, np.float32) + np.array([[0], [0.5]], np.float32)  # of two photos, not of one
        write(tmp_path, name, names=NAMES[::2], rows=rows, top=name)
    (tmp_path / "text.jsonl").write_text("hello\n")
    done = tool(*words)
    assert (done.code, done.out, done.err.count("\n")) == (code, b"", 1), done.err
    assert done.err.startswith("facetools: error: ")
    assert message.lower() in done.err.lower()


def test_it_runs_in_one_process(tool: Tool, inputs: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    done = tool(*inputs)
    assert (done.code, done.out) == (2, b"")
    assert "WORLD_SIZE=2: evaluate runs in one process" in done.err


@pytest.fixture
def photo_folders(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[dict[str, Any]]:
    """Folders of pictures whose embeddings are a few of their pixels; gives what the search for faces was asked."""
    import torch

    asked: list[dict[str, Any]] = []
    monkeypatch.chdir(tmp_path)

    class Tiny(torch.nn.Module):
        def forward(self, chips: Any) -> Any:
            return chips[:, :, ::16, ::16].reshape(len(chips), -1)

    def opened(names: Sequence[str], device: Any) -> list[Any]:
        settings = Settings((32, 32), "crop", distance="euclidean")
        return [
            SimpleNamespace(name=Path(name).stem, network=Tiny(), sha256=name, distance="euclidean", people=(),
                            alignment="crop", size=(32, 32), device=torch.device("cpu"), settings=settings)
            for name in names
        ]  # fmt: skip

    def take_in(items: Any, device: Any, **options: Any) -> Iterator[Intake]:
        from facetools.faces.face import whole_crop
        from facetools.photos.codec import decode_photo

        asked.append(options)
        for item in items:
            photo = decode_photo(item.read(), item.path)
            yield Intake(item, item.read(), photo, () if "blind" in item.path else (whole_crop(photo),), (0,))

    monkeypatch.setattr("facetools.extractors.factory.open_extractors", opened)
    monkeypatch.setattr("facetools.intake.take_in", take_in)
    for number in range(6):
        for kind, seed in (("g", number), ("h", 100 + number)):
            place = tmp_path / kind / "ab"[number % 2]
            place.mkdir(parents=True, exist_ok=True)
            (place / f"{number}.png").write_bytes(saved(faceless((64, 64), seed), "PNG"))
    (tmp_path / "r.safetensors").write_bytes(b"")
    return asked


def test_how_faces_are_found_is_passed_on(tool: Tool, photo_folders: list[dict[str, Any]], tmp_path: Path) -> None:
    (tmp_path / "h" / "blind.png").write_bytes(saved(faceless(), "PNG"))
    both = ("--gallery", "g", "--cloaked", "h")
    steps = ("--preprocess", "jpeg:75", "--preprocess", "jpeg:75.0", "--preprocess", "none")
    for words in ((), ("--faces", "central", "--min-face", "30"), ("--crops",)):
        done = tool(*both, *steps, *words)
        assert (done.code, done.err) == (0, "")
        assert [r["preprocess"] for r in done.records if r.get("person") == "a"] == ["jpeg:75", "none"]
        assert tool(*shlex.split(done.records[-1]["command"])[2:]).records[-1] == done.records[-1]
    told = [each["faces"] for each in photo_folders[::4]]
    assert told == [FaceSearch("largest"), FaceSearch("central", 30.0), FaceSearch("crop")]
    unseen = [record for record in done.records if "reason" in record]
    assert [(record["path"], record["input"]) for record in unseen] == [("h/blind.png", "h")]


def test_the_robust_extractor_is_known_by_its_name(tool: Tool, photo_folders: list[dict[str, Any]]) -> None:
    words = ("--extractor", "dlib-resnet", "--robust", "r.safetensors", "--classifier", "threshold")
    done = tool("--gallery", "g", "--cloaked", "h", *words, "--classifier", "nn")
    assert (done.code, done.err) == (0, "")
    for record in done.records:
        two = record["classifier"] == "threshold"
        assert (record["extractor"], record.get("robust")) == ("dlib-resnet", "r" if two else None)
        assert ("--robust" in record["command"]) == two == ("limit" in record)
        assert record.get("robust_sha256") == ("r.safetensors" if two else None)


def test_a_table_shows_shares_and_pixels() -> None:
    assert _cell([0.0312, 0.5]) == "0.0312 0.5"
    assert _cell([1 / 3, 1.0]) == "0.3333 1"
    assert _cell([0.4, 12.6, 100.2, 250.0]) == "0 13 100 250"
    assert _cell([3, 4]) == "3 4"
