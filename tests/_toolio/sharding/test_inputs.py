"""What a shard's list of inputs says of them."""

from __future__ import annotations

import os
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from _toolio.sharding.inputs import inputs_of
from _toolio.streams.current import Whole
from _toolio.streams.inputs import Item, open_items


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "in"
    made.mkdir()
    for number in range(3):
        (made / f"{number}.jpg").write_bytes(bytes(number))
    return made


def listed(folder: Path) -> list[Item]:
    return list(open_items([str(folder)]))


def touch(folder: Path) -> None:
    os.utime(folder / "1.jpg", ns=(1, 1))


def grow(folder: Path) -> None:
    found = (folder / "1.jpg").stat()
    (folder / "1.jpg").write_bytes(b"longer")
    os.utime(folder / "1.jpg", ns=(found.st_atime_ns, found.st_mtime_ns))


def rename(folder: Path) -> None:
    (folder / "1.jpg").rename(folder / "11.jpg")


def remove(folder: Path) -> None:
    (folder / "1.jpg").unlink()


def test_the_same_files_are_the_same_inputs(folder: Path) -> None:
    first = inputs_of(listed(folder), of=Whole(9, "all"))
    assert first == inputs_of(iter(listed(folder)), of=Whole(9, "all"))
    assert (first.count, first.of) == (3, 9)


@pytest.mark.parametrize("change", [touch, grow, rename, remove])
def test_a_changed_file_is_another_input(folder: Path, change: Callable[[Path], None]) -> None:
    before = inputs_of(listed(folder), of=None)
    change(folder)
    assert inputs_of(listed(folder), of=None).digest != before.digest


def test_order_and_records_count(folder: Path) -> None:
    items = listed(folder)
    named = [Item(item.path, item.relative, {"box": [0, 0, 1, 1]}) for item in items]
    digests = {inputs_of(each, of=None).digest for each in (items, items[::-1], named)}
    assert len(digests) == 3


def test_a_member_is_as_old_as_its_archive(folder: Path, tmp_path: Path) -> None:
    def packed(name: str) -> Path:
        with tarfile.open(tmp_path / name, "w") as archive:
            archive.add(folder / "1.jpg", "deep/1.jpg")
        return tmp_path / name

    before = inputs_of(listed(packed("a.tar")), of=None)
    assert before.count == 1
    os.utime(tmp_path / "a.tar", ns=(1, 1))
    from _toolio.sharding import inputs

    inputs._stamp_of_archive.cache_clear()  # another process
    assert inputs_of(listed(tmp_path / "a.tar"), of=None) != before


def test_what_is_no_file_here_counts_by_its_name() -> None:
    names = ["s3://bucket/1.jpg", "s3://bucket/2.jpg", "gone.jpg", "nul\0.jpg", ""]
    assert len({inputs_of([Item(name, "x")], of=None).digest for name in names}) == len(names)


def test_names_that_are_no_utf8(folder: Path) -> None:
    assert inputs_of([Item("\udcff.jpg", "\udcff.jpg")], of=None).count == 1
