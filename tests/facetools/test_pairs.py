"""Which copy belongs to which photo."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from typing import Any

import pytest

from _toolio.errors import ToolError
from _toolio.streams.inputs import Item
from facetools.pairs import match_folders, match_photos


def items(side: str, *names: str) -> list[Item]:
    return [Item(f"{side}/{name}", name) for name in names]


def matched(clean: Sequence[str], cloaked: Sequence[str], **options: Any) -> list[tuple[str | None, str | None]]:
    pairs = match_photos(items("a", *clean), items("b", *cloaked), **options)
    assert all((pair.reason is None) == bool(pair.clean and pair.cloaked) for pair in pairs)
    return [(pair.clean and pair.clean.relative, pair.cloaked and pair.cloaked.relative) for pair in pairs]


def test_names_match_whole_and_never_in_part() -> None:
    assert matched(["1.jpg", "11.jpg", "p/1.jpg"], ["11.jpg", "p/1.jpg", "1.jpg"]) == [
        ("1.jpg", "1.jpg"),
        ("11.jpg", "11.jpg"),
        ("p/1.jpg", "p/1.jpg"),
    ]
    assert matched(["1.jpg", "2.jpg"], ["11.jpg", "2.jpg", "q/2.jpg"]) == [
        ("2.jpg", "2.jpg"),
        ("1.jpg", None),
        (None, "11.jpg"),
        (None, "q/2.jpg"),
    ]


@pytest.mark.parametrize(
    ("clean", "cloaked"),
    [("a.jpg", "a.png"), ("a.gif", "a.gif.png"), ("p/v1.2.jpg", "p/v1.2.webp"), ("A.JPG", "A.jpg"), ("a", "a.png")],
)
def test_the_ending_does_not_matter(clean: str, cloaked: str) -> None:
    assert matched([clean, "z.jpg"], [cloaked, "z.jpg"]) == [(clean, cloaked), ("z.jpg", "z.jpg")]


def test_how_accents_are_coded_does_not_matter() -> None:
    one, two = (unicodedata.normalize(form, "Zo\u00eb/a\u0308rger.jpg") for form in ("NFC", "NFD"))
    assert matched([one, "z.jpg"], [two, "z.jpg"]) == [(one, two), ("z.jpg", "z.jpg")]
    assert matched([two, "z.jpg"], [one.replace("jpg", "png"), "z.jpg"])[0] == (two, one.replace("jpg", "png"))
    # By the rules of names that are written alike.
    assert matched([one, one.replace("jpg", "png")], [two, two.replace("jpg", "png")]) == [
        (one, two),
        (one.replace("jpg", "png"), two.replace("jpg", "png")),
    ]
    assert matched([one.replace("jpg", "gif"), "z.jpg"], [two.replace("jpg", "gif.png"), "z.jpg"])[0][1] is not None
    cloaked = [unicodedata.normalize("NFD", name) for name in ("a_ver\u00e4ndert.jpg", "b_ver\u00e4ndert.jpg")]
    assert matched(["a.jpg", "b.jpg"], cloaked, suffix="_ver\u00e4ndert") == [
        ("a.jpg", cloaked[0]),
        ("b.jpg", cloaked[1]),
    ]
    # Where both names are there, each has its own.
    assert matched([one, two], [two, one]) == [(one, one), (two, two)]
    assert matched(["\u212b.jpg", "z.jpg"], ["A.jpg", "z.jpg"])[0] == ("z.jpg", "z.jpg")


def test_the_closest_name_comes_first_and_each_copy_is_given_away_once() -> None:
    assert matched(["a.jpg", "a.png"], ["a.png"]) == [("a.png", "a.png"), ("a.jpg", None)]
    assert matched(["a.gif", "a.jpg"], ["a.gif.png", "a.jpg"]) == [("a.gif", "a.gif.png"), ("a.jpg", "a.jpg")]
    # Nobody can say which of the two it is.
    assert matched(["a.jpg", "a.png", "b.jpg"], ["a.webp", "b.jpg"]) == [
        ("b.jpg", "b.jpg"),
        ("a.jpg", None),
        ("a.png", None),
        (None, "a.webp"),
    ]


def test_a_suffix_of_the_cloaked_names() -> None:
    names = ["a_cloaked.jpg", "p/b_cloaked.png", "c_cloaked.gif.png", "d.jpg", "e_cloaked_2.jpg"]
    assert matched(["a.jpg", "c.gif", "d.jpg", "e.jpg", "p/b.jpg"], names, suffix="_cloaked") == [
        ("a.jpg", "a_cloaked.jpg"),
        ("c.gif", "c_cloaked.gif.png"),
        ("p/b.jpg", "p/b_cloaked.png"),
        ("d.jpg", None),
        ("e.jpg", None),
        (None, "d.jpg"),
        (None, "e_cloaked_2.jpg"),
    ]


def test_clean_and_cloaked_photos_in_one_folder() -> None:
    folder = items("a", "1.jpg", "11.jpg", "11_x.jpg", "1_x.jpg")
    pairs = match_photos(folder, folder, suffix="_x")
    assert [(pair.clean and pair.clean.relative, pair.cloaked and pair.cloaked.relative) for pair in pairs] == [
        ("1.jpg", "1_x.jpg"),
        ("11.jpg", "11_x.jpg"),
    ]


def test_one_file_each_belongs_together_and_nothing_at_all_is_an_error() -> None:
    assert matched(["me.jpg"], ["IMG_7.png"]) == [("me.jpg", "IMG_7.png")]
    with pytest.raises(ToolError, match="none of 2 photos has its copy among 1 cloaked ones"):
        matched(["a.jpg", "b.jpg"], ["c.jpg"])


def test_a_name_that_is_there_twice_is_said_to_be() -> None:
    with pytest.raises(ToolError, match="x: several cloaked photos are called so"):
        matched(["x.bmp", "y.bmp"], ["x.jpg", "x.png"])


def test_a_photo_and_its_copies_in_several_folders() -> None:
    clean = items("clean", "1.jpg", "2.jpg", "3.jpg")
    folders = {"a": items("a", "2.png", "stray.png"), "b": items("b", "2.png", "3.png")}
    found = match_folders(clean, folders)
    assert [each.clean and each.clean.relative for each in found] == ["2.jpg", "3.jpg", None, None]
    paths = [{name: pair.cloaked and pair.cloaked.path for name, pair in each.pairs.items()} for each in found]
    assert paths == [
        {"a": "a/2.png", "b": "b/2.png"},
        {"a": None, "b": "b/3.png"},
        {"a": None, "b": None},
        {"a": "a/stray.png"},
    ]
    assert found[1].pairs["a"].reason == "no cloaked photo of this name"
    assert found[2].pairs["b"].clean == clean[0]
    parts = [each for number in (1, 2, 3) for each in match_folders(clean, folders, shard=(number, 3))]
    assert parts == found
    one = match_folders(clean, {"": folders["a"]})
    assert [pair for each in one for pair in each.pairs.values()] == match_photos(clean, folders["a"])


def test_a_folder_with_nothing_that_belongs_together_is_named() -> None:
    clean = items("clean", "1.jpg", "2.jpg")
    with pytest.raises(ToolError, match=r"^strong: none of 2 photos has its copy among 2 cloaked ones"):
        match_folders(clean, {"mild": items("a", "1.jpg"), "strong": items("b", "x.jpg", "y.jpg")})


def test_a_suffix_that_no_name_has_is_an_error() -> None:
    with pytest.raises(
        ToolError, match=r"suffix _cloaked: none of 2 cloaked photos has a name that ends in it, such as a\.png"
    ):
        matched(["a.jpg", "b.jpg"], ["a.png", "b.png"], suffix="_cloaked")
