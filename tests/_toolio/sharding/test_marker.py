"""What a shard says of itself, and what is believed of it."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from _toolio.errors import ToolError
from _toolio.sharding.inputs import ShardInputs
from _toolio.sharding.marker import Made, Marker, read_marker, write_marker

MADE = Made("facetools detect", "1.0.0", {"faces": "all", "threshold": 0.5})
OUTPUTS = {"0002-of-0003.jsonl": {"bytes": 3, "sha256": "ab"}}
MARKER = Marker(2, 3, MADE, ShardInputs(5, 15, "cd"), 6, 1, 3, OUTPUTS)


def test_what_is_written_is_read(tmp_path: Path) -> None:
    path = tmp_path / "0002-of-0003.done"
    assert read_marker(path) is None
    write_marker(path, MARKER)
    assert read_marker(path) == MARKER
    write_marker(path, replace(MARKER, inputs=ShardInputs(5, None, "cd")))
    assert read_marker(path) == replace(MARKER, inputs=ShardInputs(5, None, "cd"))


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("schema", "shard/2"),
        ("number", -1),
        ("number", "2"),
        ("number", 0),
        ("number", 4),
        ("outputs", {"x": {"bytes": True, "sha256": ""}}),
        ("outputs", {}),
        *(("outputs", {name: {"bytes": 1, "sha256": ""}}) for name in ("", "..", "a\0b", "\ud800", "a\nb")),
        ("made", {"command": "facetools\ndetect", "version": "1", "options": {}}),
        ("records", 1.5),
        ("made", {"command": "facetools detect"}),
        ("made", None),
        ("made", {"command": "facetools detect", "version": "1", "options": "none"}),
        ("made", {"command": ["facetools"], "version": "1", "options": {}}),
        ("inputs", {"count": 3, "of": 3, "digest": {}}),
        ("inputs", {"count": 3, "of": 3, "digest": "", "whole": []}),
        ("inputs", {"count": True, "of": 3, "digest": ""}),
        ("inputs", {"count": 3, "of": "many", "digest": ""}),
        ("outputs", {"../x": {"bytes": 1, "sha256": ""}}),
        ("outputs", {"/etc/passwd": {"bytes": 1, "sha256": ""}}),
        ("outputs", {"x": {"bytes": "1", "sha256": ""}}),
        ("outputs", {"x": {}}),
        ("outputs", []),
        ("more", 1),
    ],
)
def test_what_is_no_marker_is_refused(tmp_path: Path, key: str, value: Any) -> None:
    path = tmp_path / "m.done"
    write_marker(path, MARKER)
    path.write_text(json.dumps({**json.loads(path.read_text()), key: value}))
    with pytest.raises(ToolError, match=r"m\.done: not the marker of a shard .* remove it"):
        read_marker(path)


def test_a_marker_that_never_ends_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.done")
    with (tmp_path / "huge.done").open("wb") as made:
        made.truncate(100_000_000_000)
    for name in ("pipe", "huge"):
        with pytest.raises(ToolError, match=rf"{name}\.done: not the marker of a shard"):
            read_marker(tmp_path / f"{name}.done")


@pytest.mark.parametrize("text", ["", "[]", "null", "{", "\xff", "[" * 100_000])
def test_what_is_no_json_object_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "m.done"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(ToolError, match="not the marker"):
        read_marker(path)


def test_outputs_are_there_as_long_as_they_were(tmp_path: Path) -> None:
    output = tmp_path / "0002-of-0003.jsonl"
    assert not MARKER.has_outputs(tmp_path)
    output.write_bytes(b"abc")
    assert MARKER.has_outputs(tmp_path)
    output.write_bytes(b"ab")
    assert not MARKER.has_outputs(tmp_path)
    output.unlink()
    os.mkfifo(output)
    assert not replace(MARKER, outputs={output.name: {"bytes": 0, "sha256": ""}}).has_outputs(tmp_path)


@pytest.mark.parametrize(
    ("other", "expected"),
    [
        (MADE, None),
        (replace(MADE, command="facetools embed"), ("command", '"facetools detect"', '"facetools embed"')),
        (replace(MADE, version="2.0.0"), ("version", '"1.0.0"', '"2.0.0"')),
        (replace(MADE, options={"faces": "all"}), ("threshold", "0.5", "null")),
        (replace(MADE, options={**MADE.options, "seed": 1}), ("seed", "null", "1")),
    ],
)
def test_what_differs_is_named(other: Made, expected: tuple[str, str, str] | None) -> None:
    assert MADE.difference(other) == expected
