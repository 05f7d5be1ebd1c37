"""Tars at URLs: read once, in the order in which they lie, within a limit of memory."""

from __future__ import annotations

import io
import os
import pickle
import tarfile
from pathlib import Path

import pytest

from _toolio.errors import InputError
from _toolio.streams import remote, remote_tars
from _toolio.streams.remote_tars import RemoteMember, read_at_url, stream_tar
from http_files import serving

pytest.importorskip("aiohttp")

FILES = {f"{number:03}.jpg": os.urandom(20_000 + number) for number in (3, 1, 2, 0, *range(4, 60))}


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote, "_PAUSE", 0)
    monkeypatch.setattr(remote_tars, "_scans", remote_tars.OrderedDict())


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    path = tmp_path / "a.tar"
    with tarfile.open(path, "w") as made:
        for name, data in FILES.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            made.addfile(info, io.BytesIO(data))
    return path


def read(url: str) -> dict[str, bytes | str]:
    """Return the bytes of each member, read as it comes, or the kind of its error."""
    found: dict[str, bytes | str] = {}
    for name, place in stream_tar(url):
        try:
            found[name] = place.kind if isinstance(place, InputError) else place()
        except InputError as error:
            found[name] = error.kind
    return found


@pytest.mark.parametrize("parts", [True, False])
def test_members_come_as_they_lie_in_one_pass(archive: Path, parts: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote, "BLOCK", 300_000)
    with serving(archive.parent, parts=parts) as served:
        found = read(f"{served.url}/a.tar?sig=secret")
        assert list(found) == list(FILES)
        assert found == FILES
        if parts:
            begun = [int(places.removeprefix("bytes=").partition("-")[0]) for _, _, places in served.requests if places]
            assert begun == sorted(set(begun))
            assert len(begun) < 10


@pytest.mark.parametrize("parts", [True, False])
def test_a_connection_that_breaks_mid_way_is_not_noticed(archive: Path, parts: bool) -> None:
    with serving(archive.parent, parts=parts, break_after=[900_000, 0, 300_000]) as served:
        assert read(f"{served.url}/a.tar") == FILES
        assert not served.break_after


def test_what_is_kept_has_a_limit_and_the_rest_is_read_by_its_place(
    archive: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remote_tars, "READ_AHEAD", 100_000)
    with serving(archive.parent) as served:
        places = dict(stream_tar(f"{served.url}/a.tar"))
        ahead = next(iter(places.values()))._ahead  # type: ignore[union-attr]
        assert ahead is not None
        assert 50_000 < sum(map(len, ahead._held.values())) == ahead._size <= 100_000
        before = len(served.requests)
        last = places["059.jpg"]
        assert isinstance(last, RemoteMember)
        assert last() == FILES["059.jpg"]
        assert len(served.requests) == before
        assert last() == FILES["059.jpg"]  # once more, and so no longer kept
        assert len(served.requests) > before
        for name, place in places.items():
            assert isinstance(place, RemoteMember)
            assert pickle.loads(pickle.dumps(place))() == FILES[name]


def test_members_that_nobody_wants_are_not_kept(archive: Path) -> None:
    with serving(archive.parent) as served:
        places = dict(stream_tar(f"{served.url}/a.tar", lambda name: name == "001.jpg"))
        ahead = places["001.jpg"]._ahead  # type: ignore[union-attr]
        assert ahead is not None
        assert list(ahead._held.values()) == [FILES["001.jpg"]]


def test_members_that_records_name_are_read_in_one_pass(archive: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote, "BLOCK", 300_000)
    with serving(archive.parent) as served:
        for name, data in FILES.items():
            assert read_at_url(f"{served.url}/a.tar/{name}") == data
        assert len(served.requests) < 10
        assert read_at_url(f"{served.url}/a.tar/000.jpg") == FILES["000.jpg"]
        with pytest.raises(InputError, match=r"a\.tar/gone\.jpg: the archive holds no such file"):
            read_at_url(f"{served.url}/a.tar/gone.jpg")
        for name in ("x.jpg", "y.jpg"):  # the second is asked for when it is known that there is nothing
            with pytest.raises(InputError, match=r"b\.tar: no such file"):
                read_at_url(f"{served.url}/b.tar/{name}")
        assert read_at_url(f"{served.url}/a.tar") == archive.read_bytes()


def test_damage_and_what_a_stream_does_not_follow(archive: Path) -> None:
    data = archive.read_bytes()
    folder = archive.parent
    (folder / "cut.tar").write_bytes(data[:500_000])
    (folder / "bad.tar").write_bytes(data[:209_920] + b"\xaa" * 512 + data[210_432:])
    (folder / "none.tar").write_bytes(b"\x89PNG" * 1000)
    (folder / "packed.tar").write_bytes(b"\x1f\x8b" + data)
    with tarfile.open(folder / "links.tar", "w") as made:
        for name, kind, data in (
            ("a", b"0", b"x"),
            ("b", tarfile.LNKTYPE, b""),
            ("c", tarfile.SYMTYPE, b""),
            ("d", b"5", b""),
        ):
            info = tarfile.TarInfo(name)
            info.type, info.linkname, info.size = kind, "a", len(data)
            made.addfile(info, io.BytesIO(data))
    with serving(folder) as served:
        assert read(f"{served.url}/links.tar") == {"a": b"x", "b": "unreadable", "c": "unreadable"}
        for name, whole in (("cut", 22), ("bad", 10)):
            *members, (last, kind) = read(f"{served.url}/{name}.tar").items()
            assert (last, kind) == ("", "bad-tar")
            read_whole = [pair for pair in members if isinstance(pair[1], bytes)]
            assert whole <= len(read_whole) <= whole + 1
            assert dict(read_whole).items() <= FILES.items()
            for _ in range(2):
                with pytest.raises(InputError, match=f"{name}.tar: not a whole tar archive"):
                    read_at_url(f"{served.url}/{name}.tar/099.jpg")
        for name in ("none", "packed"):
            with pytest.raises(InputError, match=f"{name}.tar: not a whole tar archive") as caught:
                read(f"{served.url}/{name}.tar")
            assert caught.value.kind == "bad-tar"


def test_a_server_that_goes_away_for_good(archive: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote, "BLOCK", 300_000)
    with serving(archive.parent, break_after=[1 << 30, 1 << 30, *[0] * 50]) as served:
        *_, (name, error) = stream_tar(f"{served.url}/a.tar")
        assert name == ""
        assert isinstance(error, InputError)
        assert "in 5 tries" in error.message
        assert "is left out" in error.message
