"""Folders are walked in order, and what is listed is not kept."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import pytest

from _toolio.streams.sources.folders import walk_below
from filled_folders import fill


def test_order_is_that_of_whole_relative_paths(tmp_path: Path) -> None:
    names = ["a/x", "a.jpg", "ab", "a/b/c", "a-b", "a/b.jpg"]
    fill(tmp_path, *names)
    assert [item.relative for item in walk_below(str(tmp_path))] == sorted(names)


@pytest.mark.parametrize("folders", [1, 10])
def test_one_folders_names_are_kept_at_a_time(tmp_path: Path, folders: int) -> None:
    for number in range(folders):
        fill(tmp_path, *(f"{number}/{file:03}.jpg" for file in range(300)))
    tracemalloc.start()
    assert sum(1 for _ in walk_below(str(tmp_path))) == 300 * folders
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < 300 * 250
