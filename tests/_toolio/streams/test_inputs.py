"""Files, folders, tars, and paths or records on stdin as inputs."""

from __future__ import annotations

import io
import json
import os
import sys
import tarfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from _toolio.errors import InputError, ToolError, UsageError
from _toolio.streams import tars
from _toolio.streams.inputs import Item, Kind, count, is_empty_folder, list_whole, open_items, read_input
from _toolio.streams.items import inside
from _toolio.streams.sources.archives import items_of_archive
from filled_folders import fill


def tar(path: Path, members: Mapping[str, bytes], mode: str = "w") -> Path:
    with tarfile.open(path, mode) as archive:  # type: ignore[call-overload]
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return path


@pytest.fixture
def stdin(monkeypatch: pytest.MonkeyPatch) -> Callable[[bytes], None]:
    def give(data: bytes, *, terminal: bool = False) -> None:
        stream = SimpleNamespace(buffer=io.BytesIO(data), isatty=lambda: terminal)
        monkeypatch.setattr(sys, "stdin", stream)

    return give


@pytest.fixture(autouse=True)
def no_open_tars(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tars, "_open", {})


def relatives(*inputs: str | Path) -> list[str]:
    return [item.relative for item in open_items([str(name) for name in inputs])]


def test_a_folder_is_walked_in_order_of_whole_relative_paths(tmp_path: Path) -> None:
    names = ["a/x", "a.jpg", "ab", "a/b/c", "a-b", "B", "a/b.jpg", "z/1"]
    fill(tmp_path, *names)
    assert relatives(tmp_path) == sorted(names) == ["B", "a-b", "a.jpg", "a/b.jpg", "a/b/c", "a/x", "ab", "z/1"]
    items = list(open_items([str(tmp_path)]))
    assert [item.path for item in items] == [f"{tmp_path}/{name}" for name in sorted(names)]
    assert items[0].read() == b"B"


def test_files_of_other_names_are_left_out_and_counted(
    tmp_path: Path, stdin: Callable[[bytes], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    names = ["a/1.JPG", "a/list.txt", "b.jpg", "Makefile", ".jpg", "jpg", "b.jpg.json"]
    folder = fill(tmp_path / "f", *names)
    archive = tar(tmp_path / "f.tar", dict.fromkeys(names, b""))
    for top in (folder, archive):
        photos = Kind("photo", frozenset({".jpg"}))
        assert [item.relative for item in open_items([str(top)], only=photos)] == ["a/1.JPG", "b.jpg"]
        assert photos.left_out == 4
        assert len(relatives(top)) == 6
    # What is named outright is listed whatever its name is, on stdin too.
    photos = Kind("photo", frozenset({".jpg"}))
    stdin(b"x.txt\n")
    named = [str(folder / "Makefile"), f"{archive}/jpg", "-"]
    assert [item.relative for item in open_items(named, only=photos)] == ["Makefile", "jpg", "x.txt"]
    assert photos.left_out == 0
    with pytest.raises(ToolError, match=r"f/a: holds 2 files, none with the name of a scan; give all_files") as refused:
        open_items([str(folder / "a")], only=Kind("scan", frozenset({".tif"})))
    assert refused.value.kind == "empty"
    # To try a tar as a photo would not help.
    (folder / "tars").mkdir()
    tar(folder / "tars" / "1.tar", {"x.jpg": b""})
    with pytest.raises(ToolError, match=r"tars: holds 1 file, none with the name of a photo; name its \.tar files"):
        open_items([str(folder / "tars")], only=photos)


def test_a_tar_and_its_folder_give_the_same(tmp_path: Path) -> None:
    names = ["a/x", "a.jpg", "ab", "a/b/c", ".hidden", ".folder/x", "a/._x"]
    folder = fill(tmp_path / "f", *names)
    archive = tar(tmp_path / "f.tar", {f"./{name}": name.encode() for name in reversed(names)})
    assert relatives(archive) == relatives(folder) == ["a.jpg", "a/b/c", "a/x", "ab"]
    assert [item.read() for item in open_items([str(archive)])] == [b"a.jpg", b"a/b/c", b"a/x", b"ab"]


@pytest.mark.parametrize("given", ["{}", "./{}", "{}/", ".//{}"])
def test_paths_are_kept_as_given_and_can_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: str) -> None:
    fill(tmp_path / "photos", "a.jpg", "b/c.jpg")
    tar(tmp_path / "photos.tar", {"a.jpg": b"a.jpg", "./b/c.jpg": b"b/c.jpg"})
    monkeypatch.chdir(tmp_path)
    for name in ("photos", "photos.tar"):
        start = given.format(name)
        items = list(open_items([start]))
        assert {item.relative for item in items} == {"a.jpg", "b/c.jpg"}
        for item in items:
            assert item.path.startswith(start.rstrip("/") + "/")
            assert item.read() == read_input(item.path) == item.relative.encode()


def test_links(tmp_path: Path) -> None:
    folder = fill(tmp_path / "f", "real.jpg")
    (folder / "dangling.jpg").symlink_to("nowhere")
    (folder / "again.jpg").symlink_to("real.jpg")
    (folder / "loop").symlink_to(folder)
    os.mkfifo(folder / "pipe")
    again, dangling, real = open_items([str(folder)])
    assert (again.relative, again.read(), real.read()) == ("again.jpg", b"real.jpg", b"real.jpg")
    with pytest.raises(InputError, match=r"dangling\.jpg: no such file") as caught:
        dangling.read()
    assert caught.value.kind == "missing"


def test_a_photo_named_twice_is_listed_twice(tmp_path: Path) -> None:
    fill(tmp_path, "a.jpg")
    name = str(tmp_path / "a.jpg")
    assert [item.path for item in open_items([name, name])] == [name, name]


@pytest.mark.parametrize(
    ("member", "relative"),
    [
        ("../../etc/x.jpg", "etc/x.jpg"),
        ("/etc/x.jpg", "etc/x.jpg"),
        ("//etc/x.jpg", "etc/x.jpg"),
        ("///etc/x.jpg", "etc/x.jpg"),
        ("a/../../x.jpg", "a/x.jpg"),
        ("a\\..\\..\\x.jpg", "a/x.jpg"),
        ("a//b/./x.jpg", "a/b/x.jpg"),
    ],
)
def test_a_member_never_leads_outside(tmp_path: Path, member: str, relative: str) -> None:
    (item,) = open_items([str(tar(tmp_path / "a.tar", {member: b"data"}))])
    assert (item.relative, item.read()) == (relative, b"data")
    assert item.path == f"{tmp_path}/a.tar/{member}"


def test_members_that_are_no_files_are_left_out(tmp_path: Path) -> None:
    path = tar(tmp_path / "a.tar", {"a.jpg": b"data"})
    with tarfile.open(path, "a") as archive:
        for name, kind in (("folder", tarfile.DIRTYPE), ("link", tarfile.SYMTYPE), ("dev", tarfile.CHRTYPE)):
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, "/etc/passwd"
            archive.addfile(info)
    assert relatives(path) == ["a.jpg"]
    with pytest.raises(InputError, match="holds no such file"):
        read_input(f"{path}/link")


def test_names_of_members_that_are_no_utf8(tmp_path: Path) -> None:
    name = os.fsdecode(b"caf\xe9.jpg")
    (item,) = open_items([str(tar(tmp_path / "a.tar", {name: b"data"}))])
    assert os.fsencode(item.relative) == b"caf\xe9.jpg"
    assert item.read() == b"data"


MEMBERS = {f"{number}.jpg": bytes([number]) * 700 for number in range(4)}  # 512 + 1024 bytes each


@pytest.mark.parametrize(("keep", "whole"), [(512 + 300, 0), (4608 - 400, 2), (4608 + 100, 3), (6144 - 1024, 3)])
def test_of_a_truncated_tar_what_is_whole_is_read(tmp_path: Path, keep: int, whole: int) -> None:
    path = tar(tmp_path / "a.tar", MEMBERS)
    path.write_bytes(path.read_bytes()[:keep])
    *members, last = open_items([str(path)])
    read = [item.read() for item in members[:whole]]
    assert read == list(MEMBERS.values())[:whole]
    for item in members[whole:]:
        with pytest.raises(InputError, match="cannot be read from the archive"):
            item.read()
    with pytest.raises(InputError, match=r"a\.tar: not a whole tar archive \(.*\); what lies .*truncated\?$") as caught:
        last.read()
    assert (last.relative, caught.value.kind) == ("a.tar", "bad-tar")


def test_a_tar_of_which_nothing_can_be_read_is_refused_in_one_line(tmp_path: Path) -> None:
    path = tar(tmp_path / "a.tar", MEMBERS)
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(ToolError, match=r"a\.tar: not a whole tar archive \([^\n]*\); is it truncated\?$") as caught:
        list(open_items([str(path)]))
    assert (caught.value.kind, caught.value.exit_code) == ("bad-tar", 1)


def test_a_tar_that_is_damaged_in_the_middle_is_read_up_to_there(tmp_path: Path) -> None:
    path = tar(tmp_path / "a.tar", MEMBERS)
    data = bytearray(path.read_bytes())
    data[2 * 1536 : 2 * 1536 + 512] = b"\xaa" * 512
    path.write_bytes(data)
    first, second, archive = open_items([str(path)])
    assert [first.read(), second.read()] == list(MEMBERS.values())[:2]
    with pytest.raises(InputError, match="first 2 files is left out"):
        archive.read()


def test_a_tar_without_end_marker_is_whole(tmp_path: Path) -> None:
    path = tar(tmp_path / "a.tar", MEMBERS)
    path.write_bytes(path.read_bytes()[: 4 * 1536])
    assert relatives(path) == sorted(MEMBERS)


def test_a_compressed_tar(tmp_path: Path) -> None:
    path = tar(tmp_path / "a.tar", {"a": os.urandom(5000), "b": b"data"}, "w:gz")
    assert next(item for item in open_items([str(path)]) if item.relative == "b").read() == b"data"
    tars._open.clear()
    whole = path.read_bytes()
    for damaged in (whole[:2500], whole[:1000] + b"\0" * 200 + whole[1200:]):
        path.write_bytes(damaged)
        with pytest.raises(ToolError) as caught:
            [item.read() for item in open_items([str(path)])]
        assert "\n" not in caught.value.message
        tars._open.clear()


@pytest.mark.parametrize("member", ["gone.jpg", "a.jpg/deeper"])
def test_a_member_that_is_not_there(tmp_path: Path, member: str) -> None:
    path = f"{tar(tmp_path / 'a.tar', {'a.jpg': b'data'})}/{member}"
    with pytest.raises(InputError, match="holds no such file") as reading:
        read_input(path)
    assert reading.value.kind == "missing"
    with pytest.raises(ToolError, match="holds no such file") as naming:
        open_items([path])
    assert naming.value.exit_code == 1


def test_a_member_can_be_named_alone(tmp_path: Path) -> None:
    path = tar(tmp_path / "a.tar", {"x/a.jpg": b"data", "b.jpg": b""})
    (item,) = open_items([f"{path}/x/a.jpg"])
    assert (item.relative, item.read()) == ("a.jpg", b"data")


def test_a_path_through_a_file_that_is_no_tar(tmp_path: Path) -> None:
    fill(tmp_path, "a.jpg")
    with pytest.raises(InputError, match="not a whole tar archive"):
        read_input(f"{tmp_path}/a.jpg/b.jpg")


@pytest.mark.parametrize("what", ["folder", "hidden", "tar"])
def test_nothing_to_do_is_one_line(tmp_path: Path, what: str) -> None:
    folder = fill(tmp_path / "f", ".hidden") if what == "hidden" else tmp_path / "f"
    folder.mkdir(exist_ok=True)
    name = tar(tmp_path / "a.tar", {}) if what == "tar" else folder
    with pytest.raises(ToolError, match=r"holds no file$") as caught:
        open_items([str(name)])
    assert caught.value.kind == "empty"
    assert caught.value.message.startswith(str(name))


def test_a_missing_input(tmp_path: Path) -> None:
    with pytest.raises(ToolError, match=r"gone: no such file or folder") as caught:
        open_items([str(tmp_path / "gone")])
    assert (caught.value.kind, caught.value.exit_code) == ("missing", 1)


@pytest.fixture
def locked(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """Folders that nobody may list, not even root."""
    names: set[str] = set()
    scan = os.scandir

    def refuse(path: str) -> Iterator[os.DirEntry[str]]:
        if path in names:
            raise PermissionError(13, "Permission denied", path)
        return scan(path)

    monkeypatch.setattr(os, "scandir", refuse)
    return names


def test_an_unreadable_folder(tmp_path: Path, locked: set[str]) -> None:
    fill(tmp_path, "a.jpg", "secret/b.jpg", "z.jpg")
    locked.add(f"{tmp_path}/secret")
    first, nested, last = open_items([str(tmp_path)])
    assert (first.relative, nested.relative, last.relative) == ("a.jpg", "secret", "z.jpg")
    with pytest.raises(InputError, match=r"secret: permission denied; give a folder") as caught:
        nested.read()
    assert caught.value.kind == "unreadable"
    locked.add(str(tmp_path))
    with pytest.raises(ToolError, match="permission denied") as top:
        open_items([str(tmp_path)])
    assert top.value.exit_code == 1


def test_paths_on_stdin(tmp_path: Path, stdin: Callable[[bytes], None]) -> None:
    stdin(b"a.jpg\r\n\n  \n/abs/x/b.jpg\n../up/c.jpg\ncaf\xe9.jpg\n/\n/x/..\nlast")
    items = list(open_items(["-"]))
    assert [item.path for item in items] == [
        "a.jpg", "/abs/x/b.jpg", "../up/c.jpg", os.fsdecode(b"caf\xe9.jpg"), "/", "/x/..", "last"
    ]  # fmt: skip
    assert [item.relative for item in items] == [
        "a.jpg", "abs/x/b.jpg", "up/c.jpg", os.fsdecode(b"caf\xe9.jpg"), "unnamed", "x", "last"
    ]  # fmt: skip
    with pytest.raises(InputError, match="/: is a directory; name it by inputs to read what is in it"):
        items[4].read()


@pytest.mark.parametrize("path", ["/data/ann/1.jpg", "data/ann/1.jpg", "../ann/1.jpg", "/x/../../ann/./1.jpg"])
def test_a_path_is_mirrored_alike_however_it_arrives(stdin: Callable[[bytes], None], path: str) -> None:
    places = []
    for data, null in ((f"{path}\n", False), (f"{path}\0", True), (json.dumps({"path": path}), False)):
        stdin(data.encode())
        (item,) = open_items(["-"], null=null)
        assert item.path == path
        places.append(item.relative)
    assert len(set(places)) == 1
    assert places[0].endswith("ann/1.jpg")
    assert not places[0].startswith(("/", ".."))


def test_nul_separated_paths(stdin: Callable[[bytes], None]) -> None:
    stdin(b'a\nb.jpg\0{"path":"x"}\0 c \r\0')
    assert [item.path for item in open_items(["-"], null=True)] == ["a\nb.jpg", '{"path":"x"}', " c \r"]


def test_long_streams_are_split_right(stdin: Callable[[bytes], None]) -> None:
    names = [f"{number:0{number % 50 + 1}}" for number in range(3000)]
    stdin("\0".join(names).encode())
    assert [item.path for item in open_items(["-"], null=True)] == names


def test_records_on_stdin(stdin: Callable[[bytes], None]) -> None:
    stdin(
        b'{"path":"/abs/a.jpg","who":1}\n'
        b'{"path":"out/a.jpg","relative":"../../b/a.jpg"}\n'
        b'{"path":null,"reason":"no face"}\n'
        b'{"error":{"kind":"k","message":"m"}}\n'
        b'{"score":1}\n'
        b"{nonsense\n"
        b'{"path":"a\\u0000b"}\n'
        b'{"path":"a","relative":"a\\u0000b"}\n'
        b'{"path":"a","relative":"\\ud83d"}\n'
        b'{"path":"\\udcff.jpg"}\n'
    )
    items = list(open_items(["-"]))
    assert items[0] == Item("/abs/a.jpg", "abs/a.jpg", {"path": "/abs/a.jpg", "who": 1})
    assert (items[1].path, items[1].relative) == ("out/a.jpg", "b/a.jpg")
    assert (items[2].path, items[2].record, items[2].error) == ("", {"path": None, "reason": "no face"}, None)
    assert (items[3].path, items[3].error) == ("", None)
    for number in (4, 5, 6, 7, 8):
        with pytest.raises(InputError, match=f"^stdin, line {number + 1}: ") as caught:
            items[number].read()
        assert caught.value.kind == "bad-record"
    assert os.fsencode(items[9].path) == b"\xff.jpg"


def test_stdin_is_read_as_it_comes_unless_it_is_dealt_out(stdin: Callable[[bytes], None]) -> None:
    stdin(b"a\nb\nc\n")
    items = open_items(None)
    assert count(items) is None
    assert next(iter(items)).path == "a"
    stdin(b"a\nb\nc\n")
    dealt = open_items(["-"], shard=(2, 2))
    assert count(dealt) == 2
    assert [item.path for item in dealt] == ["b", "c"]


def test_shards_are_runs_that_add_up(tmp_path: Path) -> None:
    fill(tmp_path, *(f"{number:02}" for number in range(11)))
    for total in (1, 2, 3, 11, 20):
        parts = [open_items([str(tmp_path)], shard=(number, total)) for number in range(1, total + 1)]
        assert [item.relative for part in parts for item in part] == [f"{number:02}" for number in range(11)]
        sizes = [count(part) for part in parts]
        assert None not in sizes
        assert max(sizes) - min(sizes) <= 1  # type: ignore[type-var, operator]


def test_records_of_one_file_stay_in_one_shard(stdin: Callable[[bytes], None]) -> None:
    lines = "".join(json.dumps({"path": path, "face": n}) + "\n" for path in "abc" for n in range(4))
    for total in (2, 3, 5):
        parts = []
        for number in range(1, total + 1):
            stdin(lines.encode())
            parts.append([item.path for item in open_items(["-"], shard=(number, total))])
        assert "".join(path for part in parts for path in part) == "aaaabbbbcccc"
        assert all(part.count(path) in (0, 4) for part in parts for path in "abc")


def test_archives_are_dealt_out_whole_where_there_are_enough(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = [str(tar(tmp_path / f"{n}.tar", {f"{n}-{m}.jpg": b"" for m in range(n + 1)})) for n in range(5)]
    whole = [item.relative for item in open_items(names)]
    opened: list[str] = []
    monkeypatch.setattr(
        "_toolio.streams.inputs.items_of_archive", lambda name: opened.append(name) or items_of_archive(name)
    )
    for total in (1, 2, 3, 5):
        opened.clear()
        parts = [open_items(names, shard=(number, total)) for number in range(1, total + 1)]
        assert [item.relative for part in parts for item in part] == whole
        assert opened == names
    # Of fewer archives than parts each lists all.
    parts = [open_items(names, shard=(number, 7)) for number in range(1, 8)]
    assert [item.relative for part in parts for item in part] == whole
    # A folder among them is dealt out by its files.
    fill(tmp_path / "f", "x.jpg", "y.jpg")
    mixed = [*names, str(tmp_path / "f")]
    parts = [open_items(mixed, shard=(number, 2)) for number in (1, 2)]
    assert [item.relative for part in parts for item in part] == [*whole, "x.jpg", "y.jpg"]
    assert [len(list(part)) for part in parts] == [8, 9]


@pytest.mark.parametrize("ahead", [0, 1, 5, 11])
def test_of_many_items_few_are_listed_before_the_first_is_handled(
    tmp_path: Path, stdin: Callable[[bytes], None], monkeypatch: pytest.MonkeyPatch, ahead: int
) -> None:
    fill(tmp_path / "f", *(f"{number:02}.jpg" for number in range(8)), "x.txt")
    archive = tar(tmp_path / "a.tar", dict.fromkeys("abc", b""))
    lines = "".join(json.dumps({"path": f"{n // 4}.png", "n": n}) + "\n" for n in range(10))
    names = [str(tmp_path / "f"), str(archive), "-"]

    def listed(shard: tuple[int, int]) -> list[Item]:
        stdin(lines.encode())
        photos.left_out = 0
        return list(open_items(names, shard=shard, only=photos))

    photos = Kind("photo", frozenset({".jpg", ""}))
    expected = {total: [listed((k, total)) for k in range(1, total + 1)] for total in (1, 2, 3, 8, 30)}
    assert photos.left_out == 1
    assert len(expected[1][0]) == 21
    monkeypatch.setattr("_toolio.streams.inputs.LISTED_AHEAD", ahead)
    for total, parts in expected.items():
        assert [listed((k, total)) for k in range(1, total + 1)] == parts
        assert photos.left_out == 1
    items = open_items(names[:2], only=photos)
    assert count(items) == (11 if ahead == 11 else None)
    with pytest.raises(ToolError, match="none with the name of a scan"):
        list(open_items(names[:1], only=Kind("scan", frozenset({".tif"}))))


@pytest.mark.parametrize(
    ("inputs", "null", "words"),
    [(["-", "-"], False, "can be given once"), (["."], True, "null is for paths on stdin"), ([""], False, "is empty")],
)
def test_what_cannot_be_asked_for(inputs: list[str], null: bool, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        open_items(inputs, null=null)


def test_a_terminal_is_no_input(stdin: Callable[..., None]) -> None:
    stdin(b"", terminal=True)
    with pytest.raises(UsageError, match="no input"):
        open_items(None)


def test_is_empty_folder(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "empty").mkdir()
    (tmp_path / "hidden").mkdir()
    (tmp_path / "hidden" / ".a").touch()
    found = {name: is_empty_folder(tmp_path / name) for name in ("file", "empty", "hidden", "absent")}
    assert found == {"file": False, "empty": True, "hidden": False, "absent": False}


def test_a_picture_on_stdin_is_a_usage_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"\xff\xd8\xff\xe0\0\x10JFIF\n more")))
    with pytest.raises(UsageError, match="stdin holds a picture"):
        list(open_items(["-"]))


def test_paths_that_end_in_nul_need_an_option(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"a.jpg\0b.jpg\0")))
    with pytest.raises(UsageError, match="give null"):
        list(open_items(["-"]))


@pytest.mark.parametrize("line", [b"a.jpg", b'{"path":"a.jpg"}'])
def test_a_byte_order_mark_is_no_part_of_a_path(line: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"\xef\xbb\xbf" + line + b"\nb.jpg\n")))
    assert [item.path for item in open_items(["-"])] == ["a.jpg", "b.jpg"]


def test_a_second_name_of_a_file_in_an_archive_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.jpg").write_bytes(b"pixels")
    os.link(tmp_path / "in" / "a.jpg", tmp_path / "in" / "b.jpg")
    with tarfile.open(tmp_path / "x.TAR", "w") as archive:
        archive.add(tmp_path / "in", "in")
    items = list(open_items([str(tmp_path / "x.TAR")]))
    assert [item.relative for item in items] == ["in/a.jpg", "in/b.jpg"]
    assert [item.read() for item in items] == [b"pixels", b"pixels"]


@pytest.mark.parametrize("name", ["x.tgz", "x.tar.gz", "X.ZIP"])
def test_a_compressed_archive_is_named_so(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(b"PK")
    with pytest.raises(ToolError, match="decompress it"):
        list(open_items([str(tmp_path / name)]))


def test_a_folder_of_links_to_folders_says_so(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "other").mkdir()
    (tmp_path / "in" / "link").symlink_to(tmp_path / "other")
    with pytest.raises(ToolError, match="links to folders are not followed"):
        list(open_items([str(tmp_path / "in")]))


@given(st.text(st.characters(codec=None, categories=None)) | st.text("/.\\a"))
def test_no_name_leads_outside(name: str) -> None:
    found = inside(name)
    assert found
    assert not found.startswith("/")
    assert not {"", ".", ".."} & set(found.split("/"))
    assert inside(found) == found


def test_a_part_of_an_archive_does_not_stand_for_all_of_it(tmp_path: Path) -> None:
    path = tar(tmp_path / "a.tar", MEMBERS)
    assert [item.relative for item in list_whole([str(path)])] == sorted(MEMBERS)
    tars._open.clear()
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(ToolError, match=r"a\.tar: not a whole tar archive") as caught:
        list_whole([str(path)])
    assert (caught.value.kind, caught.value.exit_code) == ("bad-tar", 1)
