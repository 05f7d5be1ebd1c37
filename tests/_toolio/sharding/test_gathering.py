"""What is checked before shards are taken for one run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from _toolio.errors import ToolError
from _toolio.files.hashing import sha256_of
from _toolio.sharding.folder import ShardFolder
from _toolio.sharding.gathering import MissingShardsError, open_shards
from _toolio.sharding.inputs import ShardInputs
from _toolio.sharding.marker import Made, Marker, read_marker, write_marker

MADE = Made("facetools detect", "1", {"faces": "all"})
TOTAL = 12


@pytest.fixture
def folder(tmp_path: Path) -> ShardFolder:
    """Twelve shards of two inputs each, but for the last, which has none."""
    made = ShardFolder(tmp_path / "d", TOTAL)
    made.path.mkdir()
    for number in range(1, TOTAL + 1):
        data = b'{"n":%d}\n' % number
        made.records(number).write_bytes(data)
        count = 0 if number == TOTAL else 2
        inputs = ShardInputs(count, 2 * TOTAL - 2, f"{number * bool(count)}")
        outputs = {made.records(number).name: {"bytes": len(data), "sha256": sha256_of(data)}}
        status = {3: 4, 7: 3}.get(number, 0)
        write_marker(made.marker(number), Marker(number, TOTAL, MADE, inputs, 1, 0, status, outputs))
    return made


def edit(folder: ShardFolder, number: int, **changes: object) -> None:
    marker = read_marker(folder.marker(number))
    assert marker is not None
    write_marker(folder.marker(number), replace(marker, **changes))  # type: ignore[arg-type]


def test_all_shards_in_order(folder: ShardFolder) -> None:
    found = open_shards(folder.path)
    assert [marker.number for marker in found.markers] == list(range(1, TOTAL + 1))
    assert found.made == MADE
    assert found.exit_status == 3
    assert found.records(found.markers[4]) == folder.records(5)
    assert found.outputs(".safetensors") == []
    assert found.outputs(".jsonl") == [folder.records(number) for number in range(1, TOTAL + 1)]


def test_what_is_missing_is_named(folder: ShardFolder) -> None:
    for number in (2, 5, 6):
        folder.marker(number).unlink()
    folder.records(7).unlink()
    folder.records(12).write_bytes(b"short")
    with pytest.raises(MissingShardsError, match="5 of 12 shards are missing") as caught:
        open_shards(folder.path)
    assert caught.value.shards == ["2/12", "5-7/12", "12/12"]


def as_another(folder: ShardFolder) -> None:
    folder.marker(5).write_bytes(folder.marker(4).read_bytes())


def of_two_runs(folder: ShardFolder) -> None:
    (folder.path / "0001-of-0003.done").write_bytes(folder.marker(1).read_bytes())


def twice(folder: ShardFolder) -> None:
    edit(folder, 5, inputs=ShardInputs(2, 22, "4"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: edit(d, 4, made=replace(MADE, version="2")), 'with version "1", 0004-of-0012.done with "2"'),
        (lambda d: edit(d, 4, made=replace(MADE, options={})), 'with faces "all", 0004-of-0012.done with null'),
        (lambda d: edit(d, 4, inputs=ShardInputs(2, 23, "4")), "0004-of-0012.done was made as a part of 23"),
        (lambda d: edit(d, 4, inputs=ShardInputs(3, 22, "4")), "its shards have 23 inputs together"),
        (
            lambda d: edit(d, 4, inputs=ShardInputs(2, 22, "4", "other")),
            "0001-of-0012.done and 0004-of-0012.done were made as parts of two lists of inputs",
        ),
        (twice, "0004-of-0012.done and 0005-of-0012.done were made of the same inputs"),
        (as_another, r"0005-of-0012.done: is of shard 4/12"),
        (of_two_runs, "holds shards of 3 and of 12: two runs"),
        (lambda d: d.records(9).write_bytes(b'{"n":8}\n'), "0009-of-0012.jsonl: has changed since it was made"),
    ],
)
def test_what_does_not_belong_together_is_refused(
    folder: ShardFolder, change: Callable[[ShardFolder], object], message: str
) -> None:
    change(folder)
    with pytest.raises(ToolError, match=message):
        open_shards(folder.path)


def test_shards_that_know_only_their_own_inputs(folder: ShardFolder) -> None:
    for number in range(1, TOTAL + 1):
        edit(folder, number, inputs=ShardInputs(5, None, f"{number}"))
    assert len(open_shards(folder.path).markers) == TOTAL


def test_folders_without_shards(tmp_path: Path) -> None:
    with pytest.raises(ToolError, match="holds no shard that is complete"):
        open_shards(tmp_path)
    with pytest.raises(ToolError, match="no such file or directory"):
        open_shards(tmp_path / "nowhere")
