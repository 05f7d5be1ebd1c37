"""Example photos of a report."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from _toolio.errors import InputError, ToolError, UsageError
from conftest import faceless
from facetools.reporting.examples import CELL_PX, Example, check_examples, draw_examples


@pytest.fixture
def folders(tmp_path: Path) -> Path:
    """Two people with two photos each, and cloaked copies that are a little brighter."""
    for person in "ab":
        for number in range(2):
            photo = faceless((120, 90), ord(person) + number)
            for kind, added in (("clean", 0), ("cloaked", 3)):
                (tmp_path / kind / person).mkdir(parents=True, exist_ok=True)
                pixels = np.clip(np.asarray(photo).astype(int) + added, 0, 255).astype(np.uint8)
                Image.fromarray(pixels).save(tmp_path / kind / person / f"{number}.png")
    return tmp_path


def drawn(folders: Path, count: int) -> list[Example | tuple[object, InputError]]:
    config = check_examples(str(folders / "clean"), [f"lk={folders / 'cloaked'}"], "", count, 10)
    assert config is not None
    return list(draw_examples(config))


def test_different_people_come_first(folders: Path) -> None:
    examples = drawn(folders, 3)
    assert [example.title for example in examples if isinstance(example, Example)] == ["a/0.png", "b/0.png", "a/1.png"]
    for number, example in enumerate(examples, 1):
        assert isinstance(example, Example)
        ((name, pictures),) = example.rows
        assert name == "lk"
        assert [each.name for each in pictures] == [
            f"photos/{number}-clean.png", f"photos/{number}-1-cloaked.png", f"photos/{number}-1-difference.png"
        ]  # fmt: skip
        assert [each.caption for each in pictures] == ["clean", "lk", "difference x10"]
        assert all(each.size[1] == CELL_PX for each in pictures)


def test_a_photo_that_cannot_be_used_makes_room_for_another(folders: Path) -> None:
    (folders / "cloaked" / "a" / "0.png").write_bytes(b"no photo")
    Image.new("RGB", (90, 120)).save(folders / "cloaked" / "b" / "0.png")
    failed, turned, *rest = drawn(folders, 2)
    assert isinstance(failed, tuple)
    assert isinstance(turned, tuple)
    assert turned[1].kind == "shape"
    assert [example.title for example in rest if isinstance(example, Example)] == ["a/1.png", "b/1.png"]


@pytest.mark.parametrize(
    ("clean", "cloaked", "message"),
    [
        ("clean", [], "^clean needs cloaked beside it"),
        (None, ["cloaked"], "^cloaked needs clean beside it"),
        ("-", ["cloaked"], "^clean and cloaked cannot be -"),
        ("clean", ["a=cloaked", "a=clean"], r"^cloaked a=cloaked: another cloak has that name"),
    ],
)
def test_parameters_that_contradict_each_other(
    folders: Path, monkeypatch: pytest.MonkeyPatch, clean: str | None, cloaked: list[str], message: str
) -> None:
    monkeypatch.chdir(folders)
    with pytest.raises(UsageError, match=message):
        check_examples(clean, cloaked, "", 4, 10)


def test_no_photos_and_a_folder_that_is_not_there(folders: Path) -> None:
    assert check_examples(None, [], "", 4, 10) is None
    with pytest.raises(ToolError, match="nowhere: no such file or folder"):
        check_examples(str(folders / "clean"), ["nowhere"], "", 4, 10)
