"""Archives that are damaged, or made to do harm."""

from __future__ import annotations

import gzip
import io
import os
import tarfile
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from _toolio.errors import InputError, ToolError
from _toolio.streams import tars
from _toolio.streams.inputs import Item, open_items, read_input


@pytest.fixture(autouse=True)
def no_open_tars(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tars, "_open", {})


def member(name: str, data: bytes = b"", kind: bytes = tarfile.REGTYPE, to: str = "") -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    info.size, info.type, info.linkname = len(data), kind, to
    return info, data


def archive(path: Path, members: Iterable[tuple[tarfile.TarInfo, bytes]], mode: str = "w") -> Path:
    with tarfile.open(path, mode) as made:  # type: ignore[call-overload]
        for info, data in members:
            made.addfile(info, io.BytesIO(data))
    return path


def outcomes(path: Path) -> dict[str, object]:
    """Return the bytes of each file of an archive, or the kind of its error."""

    def of(item: Item) -> object:
        try:
            return item.read()
        except InputError as error:
            assert str(path) in error.message
            assert "\n" not in error.message
            return error.kind

    return {item.relative: of(item) for item in sorted(open_items([str(path)]), key=lambda item: int_of(item.relative))}


def int_of(name: str) -> tuple[int, str]:
    stem = name.partition(".")[0]
    return (int(stem) if stem.isdigit() else 1000, name)


def test_a_hard_link_that_leads_to_no_file_is_an_error_and_the_others_are_read(tmp_path: Path) -> None:
    path = archive(
        tmp_path / "a.tar",
        [
            member("a.jpg", b"a"),
            member("folder", kind=tarfile.DIRTYPE),
            member("device", kind=tarfile.CHRTYPE),
            member("to-folder.jpg", kind=tarfile.LNKTYPE, to="folder"),
            member("to-device.jpg", kind=tarfile.LNKTYPE, to="device"),
            member("to-nothing.jpg", kind=tarfile.LNKTYPE, to="gone"),
            member("to-itself.jpg", kind=tarfile.LNKTYPE, to="to-itself.jpg"),
            member("to-later.jpg", kind=tarfile.LNKTYPE, to="z.jpg"),
            member("to-a.jpg", kind=tarfile.LNKTYPE, to="./a.jpg"),
            member("z.jpg", b"z"),
        ],
    )
    wrong = ("to-folder.jpg", "to-device.jpg", "to-nothing.jpg", "to-itself.jpg", "to-later.jpg")
    assert outcomes(path) == {"a.jpg": b"a", "to-a.jpg": b"a", "z.jpg": b"z", **dict.fromkeys(wrong, "missing")}


def test_a_circle_of_hard_and_symbolic_links_is_an_error(tmp_path: Path) -> None:
    path = archive(
        tmp_path / "a.tar",
        [
            member("symbolic.jpg", kind=tarfile.SYMTYPE, to="hard.jpg"),
            member("hard.jpg", kind=tarfile.LNKTYPE, to="symbolic.jpg"),
            member("a.jpg", b"a"),
            member("second.jpg", kind=tarfile.SYMTYPE, to="a.jpg"),
            member("second-hard.jpg", kind=tarfile.LNKTYPE, to="second.jpg"),
        ],
    )
    read = dict.fromkeys(("a.jpg", "second.jpg", "second-hard.jpg"), b"a")
    assert outcomes(path) == {**read, "hard.jpg": "missing"}


MEMBERS = [member(f"{number}.jpg", os.urandom(30_000)) for number in range(20)]


@pytest.mark.parametrize("packing", ["xz", "bz2", "gz"])
@pytest.mark.parametrize("damage", ["cut", "zeros"])
def test_of_a_damaged_packed_archive_the_first_members_are_read(tmp_path: Path, packing: str, damage: str) -> None:
    path = archive(tmp_path / "a.tar", MEMBERS, f"w:{packing}")
    whole, middle = path.read_bytes(), path.stat().st_size // 2
    path.write_bytes(whole[:middle] + (b"" if damage == "cut" else bytes(500) + whole[middle + 500 :]))
    try:
        found = outcomes(path)
    except ToolError as error:  # bz2 and xz unpack by the block
        assert packing != "gz"
        assert error.kind == "bad-tar"
        return
    assert found.pop("a.tar") == "bad-tar"
    read = {name: data for name, data in found.items() if isinstance(data, bytes)}
    # Where gzip stores bytes as they are, it notices at its end that they are others.
    sure = list(read)[: -1 if damage == "zeros" else None]
    assert {name: read[name] for name in sure} == {info.name: data for info, data in MEMBERS if info.name in sure}
    assert len(sure) >= 5
    assert set(found.values()) - set(read.values()) <= {"unreadable"}


def test_a_sparse_member_may_not_claim_any_size(tmp_path: Path) -> None:
    claim = member("big.jpg", bytes(512))
    # GNU's format 1.0: the map of what is not zero, and the size that the file has when it is unpacked.
    map_of_parts = b"1\n0\n1\n".ljust(512, b"\0")
    claim[0].pax_headers = {
        "GNU.sparse.major": "1",
        "GNU.sparse.minor": "0",
        "GNU.sparse.name": "big.jpg",
        "GNU.sparse.realsize": str(100_000_000_000),
    }
    claim[0].size = 513
    members = [member("a.jpg", b"a"), (claim[0], map_of_parts + b"x"), member("z.jpg", b"z")]
    path = archive(tmp_path / "a.tar", members)
    assert outcomes(path) == {"a.jpg": b"a", "big.jpg": "too-large", "z.jpg": b"z"}


def test_nothing_is_unpacked_to_find_what_lies_behind_a_huge_member(tmp_path: Path) -> None:
    path = tmp_path / "a.tar"
    claim = tarfile.TarInfo("big.jpg")
    claim.size = 100_000_000_000
    header = member("a.jpg", b"a")[0].tobuf(tarfile.GNU_FORMAT) + b"a".ljust(512, b"\0")
    path.write_bytes(gzip.compress(header + claim.tobuf(tarfile.GNU_FORMAT) + bytes(1 << 20)))
    assert outcomes(path) == {"a.jpg": b"a", "big.jpg": "too-large", "a.tar": "bad-tar"}


@pytest.mark.parametrize("order", ["ab", "ba"])
@pytest.mark.parametrize("size", [-512, -1, -(2**63)])
def test_a_member_of_negative_size_ends_the_list(tmp_path: Path, size: int, order: str) -> None:
    """Of a few bytes less than none the next header follows as of an empty one."""
    negative = bytearray(member(f"{order[1]}.jpg", b"")[0].tobuf(tarfile.GNU_FORMAT))
    negative[124:136] = size.to_bytes(12, "big", signed=True)
    negative[148:156] = b"%06o\0 " % (sum(negative[:148]) + 8 * 32 + sum(negative[156:512]))
    first = member(f"{order[0]}.jpg", b"a")[0].tobuf(tarfile.GNU_FORMAT) + b"a".ljust(512, b"\0")
    path = tmp_path / "a.tar"
    path.write_bytes(first + bytes(negative) + bytes(1024))
    found = outcomes(path)
    assert (found[f"{order[0]}.jpg"], found["a.tar"]) == (b"a", "bad-tar")


def test_a_member_larger_than_can_be_counted_ends_the_list(tmp_path: Path) -> None:
    huge = member("a.jpg", b"")[0]
    huge.pax_headers = {"size": str(10**30)}
    first = member("b.jpg", b"a")[0].tobuf(tarfile.PAX_FORMAT) + b"a".ljust(512, b"\0")
    path = tmp_path / "a.tar"
    path.write_bytes(first + huge.tobuf(tarfile.PAX_FORMAT) + bytes(1024))
    found = outcomes(path)
    assert (found["b.jpg"], found["a.tar"]) == (b"a", "bad-tar")


def test_headers_inside_each_other_are_no_traceback(tmp_path: Path) -> None:
    long_name = member("././@LongLink", b"x\0", tarfile.GNUTYPE_LONGNAME)[0].tobuf() + b"x".ljust(512, b"\0")
    path = tmp_path / "a.tar"
    path.write_bytes(long_name * 5000)
    with pytest.raises(ToolError, match=r"a\.tar: not a whole tar archive"):
        open_items([str(path)])


def test_threads_read_members_of_one_archive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    members = [member(f"{number}.jpg", bytes([number]) * 5000) for number in range(40)]
    path = archive(tmp_path / "a.tar", members)
    found = list(open_items([str(path)]))
    stream = tars.open_archive(str(path))._stream.fileobj
    assert stream is not None

    class Slow:
        """The archive's file, with time between seeking and reading for another thread to seek."""

        def seek(self, place: int) -> int:
            reached = stream.seek(place)
            time.sleep(0.001)
            return reached

        def __getattr__(self, name: str) -> Callable[..., object]:
            return getattr(stream, name)  # type: ignore[no-any-return]

    monkeypatch.setattr(tars.open_archive(str(path))._stream, "fileobj", Slow())
    with ThreadPoolExecutor(8) as pool:
        read = list(pool.map(lambda item: read_input(item.path), found))
    assert {item.relative: data for item, data in zip(found, read, strict=True)} == {
        info.name: data for info, data in members
    }


def test_an_archive_that_is_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.tar")
    with pytest.raises(ToolError, match=r"a\.tar: a named pipe, and no file") as caught:
        open_items([str(tmp_path / "a.tar")])
    assert (caught.value.kind, caught.value.exit_code) == ("no-file", 1)
    with pytest.raises(InputError, match="no such file"):
        read_input(f"{tmp_path}/a.tar/b.jpg")


FILES = {"./p/1.jpg": b"one", "q/2.jpg": b"two"}
LEADING = {"p/a.jpg": "1.jpg", "./p/b.jpg": "../q/2.jpg", "p/over/c.jpg": "../b.jpg", "d.jpg": "./p/./1.jpg"}
NOWHERE = {
    "out.jpg": "../elsewhere.jpg",
    "absolute.jpg": "/p/1.jpg",
    "gone.jpg": "p/9.jpg",
    "folder": "p",
    "x": "y",
    "y": "x",
    "self": "self",
}


@pytest.fixture
def linked(tmp_path: Path) -> Path:
    path = tmp_path / "a.tar"
    with tarfile.open(path, "w") as made:
        # A link may come before its file.
        for name, target in {**LEADING, **NOWHERE}.items():
            info = tarfile.TarInfo(name)
            info.type, info.linkname = tarfile.SYMTYPE, target
            made.addfile(info)
        for name, data in FILES.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            made.addfile(info, io.BytesIO(data))
        info = tarfile.TarInfo("hard.jpg")
        info.type, info.linkname = tarfile.LNKTYPE, "./p/1.jpg"
        made.addfile(info)
    return path


def test_links_to_the_archives_own_files_are_files(linked: Path, tmp_path: Path) -> None:
    found = {item.relative: item.read() for item in open_items([str(linked)])}
    folder = tmp_path / "unpacked"
    with tarfile.open(linked) as stored:
        kept = [member for member in stored if member.name not in NOWHERE]
        # The filter is of Python 3.11.4 and newer.
        stored.extractall(folder, kept, **({"filter": "data"} if hasattr(tarfile, "data_filter") else {}))
    expected = {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    assert found == expected
    assert found["p/over/c.jpg"] == b"two"
