"""``facetools perturb`` says who is not cloaked, shows it, and takes the faces that a person adds."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from conftest import ROOT, Run, faceless, saved
from facetools.commands._perturb import Summary
from facetools.pictures.contact_sheet import CLOAKED, NOT_CLOAKED

Tool = Callable[..., Run]
FAST = ("--attack", "lowkey", "--set", "steps=1")


@pytest.fixture
def perturb(run_inside: Callable[..., Run], monkeypatch: pytest.MonkeyPatch) -> Tool:
    """Run the command as on a terminal: its stderr is what a person sees last."""
    monkeypatch.setattr("_toolio.cli.progress._is_watched", lambda: True)
    monkeypatch.setattr("facetools.commands.perturb.track", lambda items, *_, **__: items)
    return lambda *words: run_inside("facetools", "perturb", *map(str, words))


@pytest.fixture
def folder(real_people: dict[str, list[bytes]], tmp_path: Path) -> Path:
    """Two people in one photo, one of them smaller; nobody; and what is no photo."""
    (tmp_path / "in").mkdir()
    first, second = (Image.open(io.BytesIO(photos[0])).convert("RGB") for photos in list(real_people.values())[:2])
    both = Image.new("RGB", (450, 250), (90, 90, 90))
    both.paste(first, (0, 0))
    both.paste(second.resize((200, 200)), (250, 25))
    both.save(tmp_path / "in" / "both.png")
    (tmp_path / "in" / "nobody.png").write_bytes(saved(faceless(), "PNG"))
    (tmp_path / "in" / "text.jpg").write_bytes(b"Dear diary")
    return tmp_path / "in"


def boxed(path: Path) -> dict[str, bool]:
    picture = np.asarray(Image.open(path))[28:]
    colours = {"cloaked": CLOAKED, "not": NOT_CLOAKED, "grey": (150, 150, 150)}
    return {name: int((picture == colour).all(2).sum()) > 300 for name, colour in colours.items()}


def test_the_sum_and_the_sheet_say_who_was_left_out(perturb: Tool, folder: Path, tmp_path: Path) -> None:
    words = (*FAST, "--faces", "largest", "--in", folder, "--out", tmp_path / "out", "--preview", tmp_path / "p.png")
    done = perturb(*words)
    assert done.code == 3
    assert done.err == (
        "2 photos, 2 faces: 1 cloaked, 1 not (1 another face was chosen); 1 photo without a face; 1 failed\n"
    )
    (chosen, *_) = done.records
    assert [other["face"] for other in chosen["others"]] == [1 - chosen["face"]]
    assert boxed(tmp_path / "p.png") == {"cloaked": True, "not": True, "grey": True}
    # A resumed run shows all of it again, from what is written.
    first = (tmp_path / "p.png").read_bytes()
    refused = perturb(*words)
    assert (refused.code, "exists; use --force" in refused.err) == (2, True)
    again = perturb(*words, "--resume")
    assert (again.err, again.out) == (done.err, done.out)
    assert (tmp_path / "p.png").read_bytes() == first
    inside = perturb(*words[:-1], tmp_path / "out" / "p.png", "--resume")
    assert (inside.code, "lies in" in inside.err) == (2, True)


def test_a_control_is_no_cloak(perturb: Tool, folder: Path, tmp_path: Path) -> None:
    done = perturb("--attack", "none", "--in", folder / "both.png", "--out", tmp_path / "out")
    assert done.err == "1 photo, 2 faces: 0 cloaked, 2 not (2 attack none changes no face)\n"


def test_a_face_out_of_the_photo_is_told_and_drawn(perturb: Tool, folder: Path, tmp_path: Path) -> None:
    missed = tmp_path / "missed.jsonl"
    missed.write_text(json.dumps({"path": str(folder / "nobody.png"), "box": [900, 900, 960, 980]}) + "\n")
    words = ("--in", folder / "nobody.png", "--out", tmp_path / "out", "--preview", tmp_path / "p.png")
    done = perturb(*FAST, *words, "--faces-file", missed)
    (record,) = done.records
    assert record["reason"] == "too little of the face is in the photo; nothing written"
    assert (record["face"], record["box"], record["confidence"]) == (0, [900, 900, 960, 980], None)
    assert done.err == "1 photo, 1 face: 0 cloaked, 1 not (1 too little of the face is in the photo)\n"


DOCUMENT = (ROOT / "docs" / "commands" / "facetools-perturb.md").read_text()


def test_the_documented_example_adds_a_face(
    perturb: Tool, run_inside: Callable[..., Run], face_photo: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    example = re.search(r"^echo '(\{.*\})' > (\S+)$", DOCUMENT, re.MULTILINE)
    assert example is not None
    monkeypatch.chdir(tmp_path)
    Path("photos").mkdir()
    Path("photos/0.jpg").write_bytes(face_photo)
    # Nothing so small is searched for: only a person sees this face.
    words = (*FAST, "--min-face", "240", "--in", "photos/0.jpg", "--out", "cloaked")
    alone = perturb(*words)
    assert alone.records[0]["face"] is None
    Path(example[2]).write_text(example[1] + "\n")
    done = perturb(*words, "--faces-file", example[2], "--resume")
    (record,) = done.records
    assert record["box"] == json.loads(example[1])["box"]
    assert (record["confidence"], record["face"]) == (None, 0)
    assert record["moved"] > 0
    assert record["linf"] > 0
    assert done.err == "1 photo, 1 face: 1 cloaked\n"
    # The same line as a record on stdin names the face, too.
    other = run_inside("facetools", "perturb", *FAST, "--out", "again", stdin=Path(example[2]).read_bytes())
    assert {**other.records[0], "path": 0, "relative": 0, "seconds": 0} == {
        **record, "path": 0, "relative": 0, "seconds": 0
    }  # fmt: skip
    assert Path(other.records[0]["path"]).read_bytes() == Path("cloaked/0.jpg").read_bytes()


def test_a_face_that_is_added_later_is_cloaked_by_a_resumed_run(perturb: Tool, folder: Path, tmp_path: Path) -> None:
    words = (*FAST, "--in", folder / "both.png", "--in", folder / "nobody.png", "--out", tmp_path / "out")
    before = perturb(*words, "--copy-faceless").records
    missed = tmp_path / "missed.jsonl"
    missed.write_text(json.dumps({"path": str(folder / "nobody.png"), "box": [10, 8, 40, 46]}) + "\n")
    kept = perturb(*words, "--copy-faceless", "--resume", "--faces-file", missed).records
    assert [record.get("error", {}).get("kind") for record in kept] == [None, None, "exists"]
    after = perturb(*words, "--copy-faceless", "--resume", "--force", "--faces-file", missed).records
    assert after[:2] == before[:2], "photos whose faces are the same are kept, with their seconds"
    assert (before[2]["face"], after[2]["face"], after[2]["confidence"]) == (None, 0, None)


def test_an_added_face_of_no_photo_is_an_error(perturb: Tool, folder: Path, tmp_path: Path) -> None:
    missed = tmp_path / "missed.jsonl"
    missed.write_text('{"path": "in/typo.png", "box": [10, 8, 40, 46]}\n')
    words = (*FAST, "--in", folder / "nobody.png", "--out", tmp_path / "out", "--faces-file", missed)
    done = perturb(*words)
    assert done.code == 3
    assert done.records[-1]["error"]["kind"] == "unknown-photo"
    assert done.records[-1]["source"] == "in/typo.png"
    # Another shard may have it.
    assert perturb(*words, "--force", "--shard", "1/2").code == 0


def test_a_crop_has_no_confidence_in_any_record(
    run_inside: Callable[..., Run], face_photo: bytes, tmp_path: Path
) -> None:
    (tmp_path / "crop.jpg").write_bytes(face_photo)
    record = {"path": str(tmp_path / "crop.jpg"), "box": [78, 66, 172, 190]}
    done = run_inside(
        "facetools", "align", "--in", "-", "--out", tmp_path / "chips", stdin=json.dumps(record).encode() + b"\n"
    )
    assert done.code == 0, done.err
    assert [each["confidence"] for each in done.records] == [None]


def counted(*inputs: list[dict[str, Any]]) -> str:
    summary = Summary()
    for records in inputs:
        summary.add(records)
    return summary.line()


def test_sums() -> None:
    good = {"face": 0, "attack": "lowkey", "linf": 8}
    assert counted() == "0 photos, 0 faces: 0 cloaked"
    assert counted([good, {**good, "face": 1}]) == "1 photo, 2 faces: 2 cloaked"
    small = {**good, "reason": "too little of the face is in the photo"}
    gone = {**small, "reason": "too little of the face is in the photo; copied"}
    assert counted(
        [good, small], [gone], [{"face": None, "reason": "no face found"}], [{"error": {"kind": "missing"}}]
    ) == (
        "3 photos, 3 faces: 1 cloaked, 2 not (2 too little of the face is in the photo); 1 photo without a face; "
        "1 failed"
    )
    assert counted(*[[good]] * 1200) == "1,200 photos, 1,200 faces: 1,200 cloaked"
