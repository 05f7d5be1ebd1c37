"""What a command says of its shard, and is told of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from _toolio.errors import UsageError
from _toolio.sharding.folder import ShardFolder
from _toolio.sharding.marker import Made
from _toolio.sharding.run import ShardRun
from _toolio.streams.current import Whole, noted, output_of_shard, running, whole_of
from _toolio.streams.inputs import Item, open_items

MADE = Made("facetools detect", "1", {})


def test_outside_a_shard_inputs_stay_as_they_are() -> None:
    items = iter([Item("a", "a")])
    assert noted(items, of=None) is items


def test_a_shard_is_told_its_inputs_once(tmp_path: Path) -> None:
    run = ShardRun(ShardFolder(tmp_path, 3), 1, MADE)
    token = running.set(run)
    try:
        listed = noted(iter([Item("a", "a"), Item("b", "b")]), of=lambda: Whole(6, "ab"))
        assert [item.path for item in listed] == ["a", "b"]
        assert run.inputs is not None
        assert (run.inputs.count, run.inputs.of, run.inputs.whole) == (2, 6, "ab")
        noted([Item("c", "c")], of=lambda: Whole(1, "c"))
        assert run.inputs.of == 6
    finally:
        running.reset(token)


def test_only_what_is_divided_are_inputs_of_a_shard(tmp_path: Path) -> None:
    for name in ("a.jpg", "b.jpg", "c.jpg"):
        (tmp_path / name).touch()
    run = ShardRun(ShardFolder(tmp_path / "out", 3), 2, MADE)
    token = running.set(run)
    try:
        open_items([str(tmp_path)])  # other people's photos, say
        assert run.inputs is None
        open_items([str(tmp_path)], shard=(2, 3))
        assert run.inputs is not None
        assert (run.inputs.count, run.inputs.of) == (1, 3)
    finally:
        running.reset(token)


def test_as_many_other_names_are_another_whole() -> None:
    wholes = [whole_of(names) for names in (["a", "b"], ["a", "c"], ["b", "a"], ["ab", ""], ["a", "\ud800"])]
    assert {whole.count for whole in wholes} == {2}
    assert len({whole.digest for whole in wholes}) == len(wholes)
    assert whole_of(iter(["a", "b"])) == wholes[0]


def test_a_file_besides_the_records(tmp_path: Path) -> None:
    out = tmp_path / "x.safetensors"
    assert output_of_shard(out, (2, 3), ".safetensors", force=False) == (
        tmp_path / "x.2-of-3.safetensors", False,
    )  # fmt: skip
    with pytest.raises(UsageError, match="name out, or into with a folder"):
        output_of_shard(None, (2, 3), ".safetensors", force=False)
    run = ShardRun(ShardFolder(tmp_path, 3), 2, MADE)
    token = running.set(run)
    try:
        made = tmp_path / "0002-of-0003.safetensors"
        assert output_of_shard(None, (2, 3), ".safetensors", force=False) == (made, True)
        assert run.outputs == [made]
        with pytest.raises(UsageError, match="name out, or into with a folder"):
            output_of_shard(out, (2, 3), ".safetensors", force=False)
    finally:
        running.reset(token)
