"""What an input is: the way to its bytes, and its name."""

from __future__ import annotations

import os
import pickle
from functools import partial
from pathlib import Path

import pytest

from _toolio.errors import InputError
from _toolio.streams.items import Item, can_name_a_file, inside, is_hidden, read_input


def test_a_source_is_read_in_place_of_the_path_and_is_no_part_of_what_an_item_is(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(b"there")
    secret = partial(Path.read_bytes, tmp_path / "a.jpg")
    item = Item("elsewhere.jpg", "a.jpg", source=secret)
    assert item.read() == pickle.loads(pickle.dumps(item)).read() == b"there"
    assert item == Item("elsewhere.jpg", "a.jpg")
    assert "source" not in repr(item)
    assert Item(f"{tmp_path}/a.jpg", "a.jpg").read() == b"there"
    with pytest.raises(InputError, match="no such file"):
        read_input("elsewhere.jpg")


def test_what_is_wrong_already_is_raised_where_it_is_read() -> None:
    with pytest.raises(InputError, match="why"):
        Item("a", "a", error=InputError("why"), source=lambda: b"").read()


def test_names() -> None:
    assert [is_hidden(name) for name in ("a/.b/c", "./a", "../a", ".a")] == [True, False, False, True]
    assert inside("/../a/./b") == "a/b"
    assert can_name_a_file(os.fsdecode(b"\xff"))
    assert not any(map(can_name_a_file, ("a\0", "\ud83d")))
