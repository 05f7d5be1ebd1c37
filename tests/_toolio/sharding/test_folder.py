"""Names of the files of shards."""

from __future__ import annotations

from pathlib import Path

import pytest

from _toolio.sharding.folder import ShardFolder, in_ranges, markers_in, other_ranges
from _toolio.streams.shards import parse_shards


@pytest.mark.parametrize(
    ("total", "number", "expected"),
    [(100, 3, "0003-of-0100"), (1, 1, "0001-of-0001"), (9999, 9999, "9999-of-9999"), (10000, 7, "00007-of-10000")],
)
def test_files_of_a_shard(total: int, number: int, expected: str) -> None:
    folder = ShardFolder(Path("d"), total)
    assert folder.records(number) == Path("d", f"{expected}.jsonl")
    assert folder.marker(number) == Path("d", f"{expected}.done")
    assert folder.file(number, ".safetensors") == Path("d", f"{expected}.safetensors")


def test_markers_of_a_folder(tmp_path: Path) -> None:
    marked = ["0010-of-0012.done", "0002-of-0012.done", "00001-of-10000.done"]
    others = ["0003-of-0012.jsonl", "3-of-12.done", "00004-of-00012.done", ".0005-of-0012.done", "x.done"]
    others += ["0000-of-0012.done", "0013-of-0012.done", "0000-of-0000.done"]
    for name in (*marked, *others):
        (tmp_path / name).touch()
    assert markers_in(tmp_path) == {12: [2, 10], 10000: [1]}


def test_ranges_are_what_the_option_takes() -> None:
    numbers = [1, 3, 4, 5, 9, 10, 12]
    ranges = in_ranges(numbers, 12)
    assert ranges == ["1/12", "3-5/12", "9-10/12", "12/12"]
    assert [number for each in ranges for number in parse_shards(each).numbers] == numbers
    assert in_ranges([], 12) == []


@pytest.mark.parametrize("numbers", [[1, 3, 4, 5, 9, 10, 12], [2, 11], [], list(range(1, 13))])
def test_other_ranges_are_all_the_rest(numbers: list[int]) -> None:
    rest = [number for number in range(1, 13) if number not in numbers]
    assert other_ranges(numbers, 12) == in_ranges(rest, 12)


def test_how_many_shards_a_name_says_costs_no_time() -> None:
    total = 10**100
    assert other_ranges([7], total) == [f"1-6/{total}", f"8-{total}/{total}"]
