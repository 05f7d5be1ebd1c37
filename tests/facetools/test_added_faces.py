"""Faces that somebody adds by hand to those that are found."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

from _toolio.errors import ToolError
from _toolio.streams.inputs import Item
from facetools.added_faces import AddedFaces, join_faces, read_added_faces

POINTS = [[10, 10], [30, 10], [20, 20], [12, 30], [28, 30]]


def read(tmp_path: Path, text: str) -> AddedFaces:
    (tmp_path / "missed.jsonl").write_text(text)
    return read_added_faces(tmp_path / "missed.jsonl")


def test_faces_are_those_of_their_photo(tmp_path: Path) -> None:
    added = read(
        tmp_path,
        '{"path": "in/a.jpg", "box": [1, 2, 3, 4]}\n\n'
        '{"path": "out/b.jpg", "source": "./in/b.jpg", "box": [1, 2, 3, 4]}\n'
        '{"path": "in/a.jpg", "box": [5, 2, 9, 4], "who": "Ann"}\n{"path": "in/typo.jpg", "box": [1, 2, 3, 4]}\n',
    )
    assert [record["box"] for record in added.of(Item("in//a.jpg", "a.jpg"))] == [[1, 2, 3, 4], [5, 2, 9, 4]]
    assert len(added.of(Item("in/b.jpg", "b.jpg"))) == 1
    assert added.of(Item("in/c.jpg", "c.jpg")) == ()
    (unused,) = added.unused()
    assert (unused.path, unused.error and unused.error.kind) == ("in/typo.jpg", "unknown-photo")
    assert str(unused.error).startswith(f"{tmp_path}/missed.jsonl, line 5: in/typo.jpg is not among the photos")
    assert list(read_added_faces(None).unused()) == []


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("{", "not a JSON record"),
        ('{"box": [1, 2, 3, 4]}', "no path"),
        ('{"path": 3, "box": [1, 2, 3, 4]}', "path is no text"),
        ('{"path": "a.jpg"}', "neither a box nor landmarks"),
        ('{"path": "a.jpg", "box": [1, 2, 3, 4], "landmarks": null}', "neither a box nor landmarks"),
        ('{"path": "a.jpg", "box": [3, 2, 1, 4]}', "not five points and four numbers"),
        ('{"path": "a.jpg", "box": [3, 2, 9]}', "not five points and four numbers"),
        ('{"path": "a.jpg", "landmarks": [[1, 2]]}', "not five points and four numbers"),
    ],
)
def test_what_is_no_face_is_an_error_of_the_run(tmp_path: Path, line: str, why: str) -> None:
    with pytest.raises(ToolError, match=why) as caught:
        read(tmp_path, f'{{"path": "b.jpg", "box": [1, 2, 3, 4]}}\n{line}\n')
    assert f"faces_file {tmp_path}/missed.jsonl, line 2: " in caught.value.message
    with pytest.raises(ToolError, match="no such file"):
        read_added_faces(tmp_path / "gone")


@dataclass
class Boxed:
    box: tuple[float, float, float, float]


def test_an_added_face_takes_the_place_of_one_that_it_overlaps() -> None:
    found = [Boxed((0, 0, 10, 10)), Boxed((20, 0, 30, 10))]
    # 8 x 10 of 12 x 10: two thirds. 5 x 10 of 15 x 10: a third.
    on_second, beside, far = Boxed((22, 0, 32, 10)), Boxed((5, 0, 15, 10)), Boxed((90, 90, 99, 99))
    assert join_faces(found, [on_second, beside, far]) == ([found[0], on_second, beside, far], [1, 2, 3])
    assert join_faces([], [far]) == ([far], [0])
    assert join_faces(found, [on_second, Boxed((21, 0, 31, 10))])[1] == [1, 2], "a second one is a face of its own"
    assert join_faces(found, []) == (found, [])
