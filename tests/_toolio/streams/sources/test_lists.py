"""Lists of paths and records, by the name of a file."""

from __future__ import annotations

import json
import tracemalloc
from itertools import pairwise
from pathlib import Path

import pytest

from _toolio.errors import ToolError, UsageError
from _toolio.streams.inputs import Item, count, open_items


def test_lines_of_a_file_are_read_as_on_stdin(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(b'{"path":"x/1.jpg","who":1}\n\n{"path":null,"reason":"no face"}\n{nonsense\n')
    (tmp_path / "b.txt").write_bytes(b'\xef\xbb\xbfx/2.jpg\r\n{"path":"x/3.jpg","relative":"3.jpg"}\n')
    items = list(open_items([f"{tmp_path}/a.jsonl", f"{tmp_path}/b.txt"], collections=True))
    assert items[0] == Item("x/1.jpg", "x/1.jpg", {"path": "x/1.jpg", "who": 1})
    assert (items[1].path, items[1].record["reason"]) == ("", "no face")
    assert items[2].error is not None
    assert items[2].error.message.startswith(f"{tmp_path}/a.jsonl, line 4: not a JSON record")
    assert [(item.path, item.relative) for item in items[3:]] == [("x/2.jpg", "x/2.jpg"), ("x/3.jpg", "3.jpg")]
    # Elsewhere such a file is what it was: an input of its own.
    assert [item.path for item in open_items([f"{tmp_path}/b.txt"])] == [f"{tmp_path}/b.txt"]


def test_a_list_is_not_kept(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("".join(f"photos/{number:09}.jpg\n" for number in range(20_000)))
    tracemalloc.start()
    items = open_items([str(path)], collections=True)
    assert count(items) is None
    assert sum(1 for _ in items) == 20_000
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < 500_000


@pytest.mark.parametrize("name", ["a.jsonl", "a.parquet"])
def test_what_cannot_be_read_as_a_list(tmp_path: Path, name: str) -> None:
    pytest.importorskip("pyarrow")
    (tmp_path / name).write_bytes(b"\x89PNG and more")
    with pytest.raises(ToolError, match=f"{name}( holds a picture|: not a whole Parquet file)") as caught:
        list(open_items([f"{tmp_path}/{name}"], collections=True))
    assert "\n" not in caught.value.message
    with pytest.raises(ToolError, match="no such file"):
        open_items([f"{tmp_path}/gone-{name}"], collections=True)


def table(path: Path, columns: dict[str, object], **kinds: object) -> Path:
    pa = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    parquet.write_table(pa.table(columns), path, row_group_size=3)
    return path


def test_rows_of_a_parquet_file_are_records(tmp_path: Path) -> None:
    from datetime import datetime

    columns = {
        "caption": ["a", "b", None, "d"],
        "path": ["x/1.jpg", "x/2.jpg", None, "x/4.jpg"],
        "box": [[1.0, 2.0, 3.0, 4.0], None, None, [float("nan")]],
        "who": [1, 2, 3, 4],
        "thumbnail": [b"\xff\xd8"] * 4,
        "taken": [datetime(2020, 1, 1)] * 4,
    }
    path = str(table(tmp_path / "a.parquet", columns))
    first, second, nameless, last = open_items([path], collections=True)
    assert first == Item(
        "x/1.jpg", "x/1.jpg", {"path": "x/1.jpg", "caption": "a", "box": [1.0, 2.0, 3.0, 4.0], "who": 1}
    )
    assert (second.path, last.record["who"]) == ("x/2.jpg", 4)
    assert nameless.error is not None
    assert nameless.error.message == f"{path}, row 3: the record has no path, or one that is no text"
    assert json.dumps(first.record)


def test_the_only_column_of_texts_has_the_paths(tmp_path: Path) -> None:
    path = table(tmp_path / "a.PARQUET", {"url": ["1.jpg", "2.jpg"], "width": [3, 4]})
    items = list(open_items([str(path)], collections=True))
    assert [(item.path, item.record) for item in items] == [
        ("1.jpg", {"path": "1.jpg", "width": 3}),
        ("2.jpg", {"path": "2.jpg", "width": 4}),
    ]
    for columns, words in (({"a": ["x"], "b": ["y"]}, "there are the columns a, b"), ({"n": [1]}, "there are none")):
        with pytest.raises(ToolError, match=words) as caught:
            list(open_items([str(table(tmp_path / "b.parquet", columns))], collections=True))
        assert caught.value.kind == "no-path"


def test_parts_of_a_list_add_up_whether_or_not_it_fits_ahead(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text("".join(json.dumps({"path": f"{n // 3}.jpg", "face": n % 3}) + "\n" for n in range(40)))
    for ahead in (1 << 16, 40, 39, 5, 1):
        monkeypatch.setattr("_toolio.streams.inputs.LISTED_AHEAD", ahead)
        for total in (2, 3, 7, 50):
            parts = [list(open_items([str(path)], shard=(k, total), collections=True)) for k in range(1, total + 1)]
            assert [item.record for part in parts for item in part] == [
                {"path": f"{n // 3}.jpg", "face": n % 3} for n in range(40)
            ]
            assert not any({i.path for i in part} & {i.path for i in behind} for part, behind in pairwise(parts))


def test_a_named_pipe_cannot_be_dealt_out(tmp_path: Path) -> None:
    import os

    os.mkfifo(tmp_path / "a.jsonl")
    with pytest.raises(UsageError, match="a named pipe can be read once"):
        open_items([f"{tmp_path}/a.jsonl"], shard=(1, 2), collections=True)
