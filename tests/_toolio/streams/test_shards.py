"""Shards of the inputs, and the file of each."""

from __future__ import annotations

from pathlib import Path

import pytest

from _toolio.errors import UsageError
from _toolio.streams.shards import file_of_shard, parse_shard, parse_shards, refuse_processes


@pytest.mark.parametrize(
    ("text", "environment", "expected"),
    [
        ("2/8", {}, (2, 8)),
        ("1/1", {"RANK": "3", "WORLD_SIZE": "4"}, (1, 1)),
        (None, {"RANK": "3", "WORLD_SIZE": "4"}, (4, 4)),
        (None, {"RANK": "0", "WORLD_SIZE": "4"}, (1, 4)),
        (None, {"RANK": "3"}, (1, 1)),
        (None, {"WORLD_SIZE": "4"}, (1, 1)),
        (None, {}, (1, 1)),
    ],
)
def test_parse_shard(text: str | None, environment: dict[str, str], expected: tuple[int, int]) -> None:
    assert parse_shard(text, environment.get) == expected


@pytest.mark.parametrize("text", ["", "1", "0/2", "3/2", "-1/2", "1/2/3", "a/b", "1/", "/2", "1.0/2", "²/3"])
def test_shards_that_cannot_be(text: str) -> None:
    with pytest.raises(UsageError, match="give K/N with K from 1 to N"):
        parse_shard(text)


@pytest.mark.parametrize("rank", ["4", "x", "-1", "", "²"])
def test_ranks_that_cannot_be(rank: str) -> None:
    """Were they passed over, each of the processes would do all the work."""
    with pytest.raises(UsageError, match=f"RANK={rank} WORLD_SIZE=4"):
        parse_shard(None, {"RANK": rank, "WORLD_SIZE": "4"}.get)


@pytest.mark.parametrize(
    ("name", "shard", "expected"),
    [
        ("d/X.safetensors", (2, 8), "d/X.2-of-8.safetensors"),
        ("d.e/X", (1, 2), "d.e/X.1-of-2"),
        ("X.y.safetensors", (10, 10), "X.y.10-of-10.safetensors"),
        ("X.safetensors", (1, 1), "X.safetensors"),
    ],
)
def test_each_shard_has_a_file_of_its_own(name: str, shard: tuple[int, int], expected: str) -> None:
    assert file_of_shard(Path(name), shard) == Path(expected)


@pytest.mark.parametrize("world", [None, "", "1"])
def test_one_process_may_run(world: str | None) -> None:
    refuse_processes("detect", {"WORLD_SIZE": world}.get)


@pytest.mark.parametrize("world", ["2", "0", "many"])
def test_what_trains_in_one_process_refuses_several(world: str) -> None:
    with pytest.raises(UsageError, match=f"^WORLD_SIZE={world}: train-x runs in one process; unset it"):
        refuse_processes("train-x", {"WORLD_SIZE": world}.get)


@pytest.mark.parametrize(
    ("text", "one"),
    [(None, True), ("2/3", True), ("2-2/3", True), ("1-2/3", False), ("next/3", False), ("next/1", False)],
)
def test_whether_one_shard_is_named(text: str | None, *, one: bool) -> None:
    assert parse_shards(text, {"RANK": "1", "WORLD_SIZE": "3"}.get).is_one is one
