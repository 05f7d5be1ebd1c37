"""Making one shard: records and marker, whole or not at all."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from _toolio.errors import ToolError, UsageError
from _toolio.files.hashing import sha256_of
from _toolio.sharding.folder import ShardFolder
from _toolio.sharding.marker import Made, read_marker
from _toolio.sharding.run import ShardCompleteError, ShardRun, making
from _toolio.streams.current import Whole, noted, output_of_shard
from _toolio.streams.inputs import Item
from _toolio.streams.records import Form, Output, RecordWriter, _output

MADE = Made("facetools detect", "1", {"faces": "all"})
ITEMS = [Item("a.jpg", "a.jpg"), Item("b.jpg", "b.jpg")]


def make(
    folder: Path, *, made: Made = MADE, items: list[Item] = ITEMS, of: int | None = 6, fail: Exception | None = None
) -> ShardRun:
    output = Output(Form.auto)
    token = _output.set(output)
    run = ShardRun(ShardFolder(folder, 3), 2, made)
    try:
        with making(run, output) as status:
            noted(items, of=lambda: Whole(of, "all"))
            beside, _ = output_of_shard(None, (2, 3), ".safetensors", force=False)
            with RecordWriter("t.c/1", "score", ("path",)) as writer:
                for item in items:
                    writer.emit({"score": 0.5, "path": item.path})
                writer.fail(ToolError("no", kind="x"), {"path": "c"})
            if fail is not None:
                raise fail
            beside.write_bytes(b"rows")
            status.append(3)
    finally:
        _output.reset(token)
    return run


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_shard_says_what_it_holds(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make(tmp_path)
    assert capsys.readouterr().out == ""
    assert names(tmp_path) == ["0002-of-0003.done", "0002-of-0003.jsonl", "0002-of-0003.safetensors"]
    data = (tmp_path / "0002-of-0003.jsonl").read_bytes()
    assert data.count(b"\n") == 3
    assert data.startswith(b'{"score":0.500000,"schema":"t.c/1","path":"a.jpg"}\n')
    marker = read_marker(tmp_path / "0002-of-0003.done")
    assert marker is not None
    assert (marker.number, marker.total, marker.made) == (2, 3, MADE)
    assert (marker.records, marker.failures, marker.exit_status) == (3, 1, 3)
    assert (marker.inputs.count, marker.inputs.of) == (2, 6)
    assert marker.outputs == {
        "0002-of-0003.jsonl": {"bytes": len(data), "sha256": sha256_of(data)},
        "0002-of-0003.safetensors": {"bytes": 4, "sha256": sha256_of(b"rows")},
    }


def test_what_fails_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(ToolError, match="broken"):
        make(tmp_path / "d", fail=ToolError("broken"))
    assert not (tmp_path / "d").exists()


def test_a_complete_shard_is_not_made_again(tmp_path: Path) -> None:
    make(tmp_path)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    with pytest.raises(ShardCompleteError) as caught:
        make(tmp_path)
    assert caught.value.marker.records == 3
    assert {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()} == before


@pytest.mark.parametrize("name", ["0002-of-0003.jsonl", "0002-of-0003.safetensors", "0002-of-0003.done"])
def test_what_has_lost_a_file_is_made_again(tmp_path: Path, name: str) -> None:
    make(tmp_path)
    whole = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    (tmp_path / name).unlink()
    make(tmp_path)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == whole


def test_what_fails_while_it_is_made_again_is_not_complete(tmp_path: Path) -> None:
    make(tmp_path)
    (tmp_path / "0002-of-0003.safetensors").unlink()
    with pytest.raises(ToolError, match="broken"):
        make(tmp_path, fail=ToolError("broken"))
    marker = read_marker(tmp_path / "0002-of-0003.done")
    assert marker is None or not marker.has_outputs(tmp_path)


@pytest.mark.parametrize(
    ("made", "items", "of", "why"),
    [
        (replace(MADE, options={"faces": "largest"}), ITEMS, 6, 'with faces "all", not "largest"'),
        (replace(MADE, version="2"), ITEMS, 6, 'with version "1", not "2"'),
        (replace(MADE, command="facetools embed"), ITEMS, 6, 'with command "facetools detect", not "facetools embed"'),
        (MADE, ITEMS[:1], 6, "of other inputs, or they have changed since"),
        (MADE, ITEMS, 7, "of 6 inputs in all, not 7"),
    ],
)
def test_a_shard_that_was_made_otherwise_is_left_and_named(
    tmp_path: Path, made: Made, items: list[Item], of: int, why: str
) -> None:
    make(tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(UsageError) as caught:
        make(tmp_path, made=made, items=items, of=of)
    assert caught.value.message == (
        f"into: {tmp_path}/0002-of-0003.done was made {why}; name another folder, or remove"
        f" {'this one to make all again' if why.startswith('with') else 'that file to make it again'}"
    )
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
    (tmp_path / "0002-of-0003.done").unlink()
    make(tmp_path, made=made, items=items, of=of)
