"""What cloaked photos were made against, as the journal of their folder says."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import facetools
from _toolio.files.hashing import sha256_of
from facetools.attacks import origins
from facetools.attacks.origins import is_origin, is_white_box, merged, origin_of

DLIB = "dlib-resnet"


def test_photos_that_perturb_wrote_say_what_they_were_made_against(plain_photos: Path, tmp_path: Path) -> None:
    digest = facetools.open_extractor(DLIB, device="cpu").sha256
    facetools.perturb(plain_photos, tmp_path / "out", attack="lowkey", knobs={"steps": 1}, device="cpu")
    facetools.perturb(plain_photos, tmp_path / "none", attack="none", device="cpu")
    cloaked, copy = tmp_path / "out" / "0.png", tmp_path / "none" / "0.png"
    assert origin_of(str(cloaked), sha256_of(cloaked.read_bytes())) == {DLIB: digest}
    assert origin_of(str(copy), sha256_of(copy.read_bytes())) == {}
    # The journal counts for the bytes that it was written about, in the folder or in one below.
    assert origin_of(str(cloaked), sha256_of(b"another file")) is None
    below = tmp_path / "out" / "sorted" / "mine.png"
    assert origin_of(str(below), sha256_of(cloaked.read_bytes())) == {DLIB: digest}
    # A folder within, and photos that are added later.
    facetools.perturb(plain_photos, tmp_path / "out" / "more", attack="none", device="cpu")
    assert origin_of(str(tmp_path / "out" / "more" / "mine.png"), sha256_of(cloaked.read_bytes())) == {DLIB: digest}
    facetools.perturb(
        plain_photos / "0.png", tmp_path / "out" / "more", attack="lowkey", knobs={"steps": 2}, force=True
    )
    again = tmp_path / "out" / "more" / "0.png"
    assert origin_of(str(again), sha256_of(again.read_bytes())) == {DLIB: digest}
    assert origin_of(str(plain_photos / "0.png"), sha256_of((plain_photos / "0.png").read_bytes())) is None


def test_masks_made_before_and_damaged_lines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    arguments = {"made": "m", "arguments": {"attack": "opom", "extractors": {"a": "1"}}}
    line = {"made": "m", "outputs": {"x.png": "d"}, "records": [{"extractors": ["b"]}, {"extractors": ["b", "a"]}]}
    odd = {**line, "outputs": {"y.png": "f"}, "records": [{"extractors": [True]}]}
    lines = [{"records": []}, arguments, {"made": "m", "outputs": 3, "records": 4}, [], odd, line]
    text = "\n".join([*map(json.dumps, lines), '{"made":"m","outp'])
    (tmp_path / origins.JOURNAL).write_text(text)
    assert origin_of(str(tmp_path / "x.png"), "d") == {"a": "1", "b": None}
    assert [origin_of(str(tmp_path / "x.png"), digest) for digest in "ef"] == [None, None]


@pytest.mark.parametrize(
    ("origins", "extractors", "white_box"),
    [
        ([None], [("a", "1")], None),
        ([{}], [("a", "1")], False),
        ([{"a": "1"}], [("a", "1")], True),
        ([{"a": "1"}], [("renamed", "1")], True),
        ([{"a": "1"}], [("a", "2")], False),  # another network of this name
        ([{"a": None}], [("a", "2")], True),  # which cannot be told from it
        ([{}, {"a": "1", "b": "2"}], [("c", "3"), ("b", "2")], True),
        # One cloak that is known to be says it, whatever the others are.
        ([None, {"a": "1"}, None], [("a", "1")], True),
        ([None, {"a": "1"}], [("a", "2")], None),
        ([], [("a", "1")], False),
    ],
)
def test_white_box(
    origins: list[dict[str, str | None] | None], extractors: list[tuple[str, str]], white_box: bool | None
) -> None:
    assert is_white_box(origins, extractors) is white_box


def test_origins_of_several_photos() -> None:
    assert merged([{"b": "2"}, {"a": "1"}, {}]) == {"a": "1", "b": "2"}
    assert merged([{"b": "2"}, None]) is None
    assert merged([]) == {}
    assert is_origin({"a": None, "b": "2"})
    assert not any(map(is_origin, (None, [], {"a": 3}, {1: "a"})))
