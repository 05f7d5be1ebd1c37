"""URLs as inputs: files, folders, tars and lists."""

from __future__ import annotations

import io
import json
import pickle
import tarfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import SimpleNamespace

import pytest

from _toolio.errors import InputError, ToolError, UsageError
from _toolio.streams import remote
from _toolio.streams.inputs import Kind, count, open_items, read_input
from _toolio.streams.sources.urls import is_folder, items_of_url
from filled_folders import fill
from http_files import Served, serving

pytest.importorskip("aiohttp")
fsspec = pytest.importorskip("fsspec")


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote, "_PAUSE", 0)


@pytest.fixture
def memory() -> Iterator[fsspec.AbstractFileSystem]:
    system = fsspec.filesystem("memory")
    yield system
    system.store.clear()


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    fill(tmp_path, "f/b.jpg", "f/a b/x.jpg", "f/.hidden", "f/notes.txt", "f/a.jpg")
    with serving(tmp_path) as server:
        yield server


def tar(members: Mapping[str, bytes]) -> bytes:
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w") as archive:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return made.getvalue()


def test_a_file(served: Served) -> None:
    url = f"{served.url}/f/a%20b/x.jpg"
    items = open_items([f"{url}?sig=secret#x".replace("//", "//ann:pw@", 1)], collections=True)
    assert count(items) is None
    (item,) = items
    assert (item.path, item.relative) == (url, "x.jpg")
    assert item.read() == pickle.loads(pickle.dumps(item)).read() == read_input(url) == b"f/a b/x.jpg"
    assert not any(word in repr(item) for word in ("secret", "pw"))


def test_a_folder_is_walked_in_order(served: Served, memory: fsspec.AbstractFileSystem, tmp_path: Path) -> None:
    local = [item.relative for item in open_items([f"{tmp_path}/f"], collections=True)]
    for path in (tmp_path / "f").rglob("*"):
        if path.is_file():
            memory.pipe(f"/top/{path.relative_to(tmp_path / 'f')}", path.read_bytes())
    photos = Kind("photo", frozenset({".jpg"}))
    for url in (f"{served.url}/f/", "memory://top", "memory://top/"):
        items = list(open_items([url], collections=True))
        assert [item.relative for item in items] == local == ["a b/x.jpg", "a.jpg", "b.jpg", "notes.txt"]
        assert [item.read().decode() for item in items] == [f"f/{name}" for name in local]
        assert all(item.path.startswith(url.rstrip("/") + "/") for item in items)
        assert [read_input(item.path) for item in items] == [item.read() for item in items]
        photos.left_out = 0
        assert len(list(open_items([url], only=photos, collections=True))) == 3
        assert photos.left_out == 1
        with pytest.raises(ToolError, match="holds 4 files, none with the name of a scan"):
            list(open_items([url], only=Kind("scan", frozenset({".tif"})), collections=True))


def test_a_tar(memory: fsspec.AbstractFileSystem, tmp_path: Path) -> None:
    memory.pipe("/t/a.tar", tar({"b.jpg": b"b", "a/1.jpg": b"1", ".x": b"", "//etc/c.json": b"{}"}))
    items = list(open_items(["memory://t/a.tar"], collections=True))
    assert [(item.path, item.relative, item.read()) for item in items] == [
        ("memory://t/a.tar/b.jpg", "b.jpg", b"b"),
        ("memory://t/a.tar/a/1.jpg", "a/1.jpg", b"1"),
        ("memory://t/a.tar///etc/c.json", "etc/c.json", b"{}"),
    ]
    assert [read_input(item.path) for item in items] == [b"b", b"1", b"{}"]
    (alone,) = open_items(["memory://t/a.tar/a/1.jpg"], collections=True)
    assert alone.read() == b"1"


def test_what_is_wrong_with_one_of_many_is_an_item(memory: fsspec.AbstractFileSystem) -> None:
    memory.pipe("/t/a.tar", tar({"a.jpg": b"a"}))
    memory.pipe("/t/b.jpg", b"b")
    found = list(
        open_items(
            ["memory://t/gone.tar", "memory://t/a.tar", "memory://t/gone.jpg", "memory://t/b.jpg"], collections=True
        )
    )
    assert [item.relative for item in found] == ["gone.tar", "a.jpg", "gone.jpg", "b.jpg"]
    for item in (found[0], found[2]):
        with pytest.raises(InputError, match="no such file"):
            item.read()
    with pytest.raises(ToolError, match="no URL that can be read"):
        open_items(["memory://t/a.tar", "nothing://x"], collections=True)
    with pytest.raises(ToolError, match=r"a\.tar: URLs are not read here; download it") as refused:
        open_items(["memory://ann:secret@t/a.tar"])
    assert "secret" not in refused.value.message
    assert is_folder("memory://t")
    assert not is_folder("memory://t/b.jpg")
    assert [item.path for item in items_of_url("memory://t/b.jpg", lambda _: True)] == ["memory://t/b.jpg"]


def test_archives_are_dealt_out_without_opening_the_others(
    memory: fsspec.AbstractFileSystem, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(5):
        memory.pipe(f"/t/{number}.tar", tar({f"{number}-{member}.jpg": b"" for member in range(3)}))
    names = [f"memory://t/{number}.tar" for number in range(5)]
    whole = [item.relative for item in open_items(names, collections=True)]
    opened = []
    plain = memory.open
    monkeypatch.setattr(memory, "open", lambda path, *a, **k: opened.append(path) or plain(path, *a, **k))
    parts = [[item.relative for item in open_items(names, shard=(k, 3), collections=True)] for k in (1, 2, 3)]
    assert [name for part in parts for name in part] == whole
    assert opened == [f"/t/{number}.tar" for number in range(5)]
    with pytest.raises(UsageError, match="of 5 archives make as many parts or fewer"):
        open_items(names, shard=(1, 6), collections=True)


def test_lists_at_a_url_and_urls_in_a_list(served: Served, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    signed = f"{served.url}/f/a.jpg?X-Amz-Signature=secret"
    lines = json.dumps({"path": signed, "who": 1}) + "\n" + f"{served.url}/f/b.jpg?sig=secret\n"
    (tmp_path / "l.jsonl").write_text(lines)
    monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=io.BytesIO(lines.encode()), isatty=lambda: False))
    host = served.url.removeprefix("http://")
    for name in (f"{served.url}/l.jsonl?sig=secret", f"{tmp_path}/l.jsonl", "-"):
        first, second = open_items([name], collections=True, urls=True)
        assert (first.path, first.relative) == (f"{served.url}/f/a.jpg", f"{host}/f/a.jpg")
        assert first.record == {"path": f"{served.url}/f/a.jpg", "who": 1}
        assert second.relative == f"{host}/f/b.jpg"
        assert [first.read(), second.read()] == [b"f/a.jpg", b"f/b.jpg"]
    pa = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    parquet.write_table(pa.table({"url": [signed], "n": [1]}), tmp_path / "l.parquet")
    (row,) = open_items([f"{served.url}/l.parquet"], collections=True, urls=True)
    assert (row.path, row.record["n"], row.read()) == (f"{served.url}/f/a.jpg", 1, b"f/a.jpg")


def test_urls_in_a_list_are_not_read_unasked(served: Served, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody else may have written the list."""
    lines = json.dumps({"path": f"{served.url}/f/a.jpg?sig=secret", "who": 1}) + f"\n{served.url}/f/b.jpg\nc.jpg\n"
    (tmp_path / "l.jsonl").write_text(lines)
    monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=io.BytesIO(lines.encode()), isatty=lambda: False))
    before = len(served.requests)
    for name in (f"{tmp_path}/l.jsonl", "-"):
        *refused, local = open_items([name], collections=True)
        assert local.error is None
        assert refused[0].record["who"] == 1
        for item in refused:
            assert item.error is not None
            assert "secret" not in str(item.error)
            with pytest.raises(InputError, match="a URL in a list is not read; give urls"):
                item.read()
    assert len(served.requests) == before


def test_an_archive_that_webdataset_wrote(tmp_path: Path, memory: fsspec.AbstractFileSystem) -> None:
    wds = pytest.importorskip("webdataset")
    pattern = f"{tmp_path}/%03d.tar"
    with wds.ShardWriter(pattern, maxcount=3, verbose=0) as writer:
        for number in range(7):
            writer.write({"__key__": f"{number:04}", "jpg": bytes([number]) * 10, "json": b"{}"})
    from _toolio.streams.sources.braces import expanded

    names = expanded([f"{tmp_path}/{{000..002}}.tar"])
    photos = Kind("photo", frozenset({".jpg"}))
    items = list(open_items(names, only=photos, collections=True))
    assert [(item.relative, item.read()) for item in items] == [
        (f"{number:04}.jpg", bytes([number]) * 10) for number in range(7)
    ]
    for name in names:
        memory.pipe(f"/w/{Path(name).name}", Path(name).read_bytes())
    remotely = open_items([f"memory://w/{Path(name).name}" for name in names], only=photos, collections=True)
    assert [(item.relative, item.read()) for item in remotely] == [(item.relative, item.read()) for item in items]
