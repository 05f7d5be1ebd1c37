"""Files at URLs: whole, in parts, over connections that break, and without secrets in what is said."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from _toolio.errors import InputError
from _toolio.streams import reading, remote
from _toolio.streams.remote import (
    RemoteStream,
    ending,
    is_url,
    names_in,
    place_of,
    read_part,
    read_url,
    shown,
    without_secrets,
)
from http_files import Served, serving

pytest.importorskip("aiohttp")

DATA = os.urandom(3_000_000)


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote, "_PAUSE", 0)


@pytest.fixture(params=[True, False], ids=["parts", "whole"])
def served(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Served]:
    (tmp_path / "a.bin").write_bytes(DATA)
    (tmp_path / "empty").touch()
    with serving(tmp_path, parts=request.param) as server:
        yield server


def test_names() -> None:
    secret = "https://ann:pw@host:8/a%20b/x.tar?X-Amz-Signature=abc&t=1#y"
    assert shown(secret) == "https://host:8/a%20b/x.tar"
    assert (ending(secret), place_of(secret)) == (".tar", "host:8/a b/x.tar")
    assert place_of("s3://bucket/a%20b.jpg") == "bucket/a%20b.jpg"
    assert shown("a?b@c.jpg") == "a?b@c.jpg"
    assert "pw" not in shown("https://ann:pw@[host/a?pw")
    assert [without_secrets(f"{option}{secret}") for option in ("", "--in=", "-i")] == [
        f"{option}https://host:8/a%20b/x.tar" for option in ("", "--in=", "-i")
    ]
    assert without_secrets("a?b@c.jpg") == "a?b@c.jpg"
    assert [is_url(name) for name in ("s3://a", "HTTP://a", "C://a", "a/b://c", "memory://")] == [
        True, True, False, False, True
    ]  # fmt: skip


def test_a_file_is_read_in_one_request(served: Served) -> None:
    assert read_url(f"{served.url}/a.bin") == DATA
    assert served.requests == [("GET", "/a.bin", None)]
    assert read_url(f"{served.url}/empty") == b""


@pytest.mark.parametrize("breaks", [[2_500_000], [0, 0, 0], [2_500_000, 70_000, 10]])
def test_a_read_that_breaks_goes_on_where_it_stopped(served: Served, breaks: list[int]) -> None:
    served.break_after = list(breaks)
    assert read_url(f"{served.url}/a.bin") == DATA
    assert not served.break_after
    if served.parts and breaks[0]:
        assert any(places is not None and not places.startswith("bytes=0-") for _, _, places in served.requests)


def test_parts_and_places(served: Served) -> None:
    assert read_part(f"{served.url}/a.bin", 1000, 500) == DATA[1000:1500]
    assert read_part(f"{served.url}/a.bin", len(DATA) - 5, 50) == DATA[-5:]
    served.break_after = [100]
    assert read_part(f"{served.url}/a.bin", 1000, 500) == DATA[1000:1500]
    with io.BufferedReader(RemoteStream(f"{served.url}/a.bin", block=4096)) as stream:
        assert stream.read(10) == DATA[:10]
        assert stream.seek(-20, io.SEEK_END) == len(DATA) - 20
        assert stream.read() == DATA[-20:]
        assert stream.seek(7) == 7
        assert stream.read(3) == DATA[7:10]


@pytest.mark.parametrize(
    ("statuses", "kind", "words"),
    [
        ([404], "missing", "no such file"),
        ([403], "forbidden", "access denied; are there credentials"),
        ([401], "forbidden", "access denied"),
        ([400], "unreadable", "the server answers 400"),
        ([503] * 20, "unreachable", "cannot be read .* in 5 tries"),
    ],
)
def test_what_a_server_refuses_is_one_line(served: Served, statuses: list[int], kind: str, words: str) -> None:
    served.statuses = list(statuses)
    url = f"{served.url}/a.bin?X-Amz-Signature=secret".replace("http://", "http://ann:word@")
    with pytest.raises(InputError, match=words) as caught:
        read_url(url)
    assert caught.value.kind == kind
    assert caught.value.message.startswith(f"{served.url}/a.bin: ")
    assert not [part for part in ("\n", "secret", "word", "ann:") if part in caught.value.message]
    assert len(served.requests) == (5 if kind == "unreachable" else 1)


def test_what_is_refused_for_a_moment_is_read(served: Served) -> None:
    served.statuses = [503, 429]
    assert read_url(f"{served.url}/a.bin") == DATA


def test_nobody_is_there() -> None:
    with pytest.raises(InputError, match=r"127\.0\.0\.1:9/x: cannot be read .*in 5 tries") as caught:
        read_url("http://127.0.0.1:9/x?sig=secret")
    assert "secret" not in caught.value.message


def test_a_file_larger_than_any_is_not_read_to_its_end(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "MAX_FILE", 100_000)
    with pytest.raises(InputError, match="larger than") as caught:
        read_url(f"{served.url}/a.bin")
    assert caught.value.kind == "too-large"


def test_a_file_that_changes_meanwhile(tmp_path: Path) -> None:
    (tmp_path / "a.bin").write_bytes(DATA)
    with serving(tmp_path) as served, RemoteStream(f"{served.url}/a.bin", block=1000) as stream:
        assert stream.read(1000) == DATA[:1000]
        (tmp_path / "a.bin").write_bytes(DATA + b"x")
        served.break_after = [10]
        with pytest.raises(InputError, match="has changed while it was read"):
            while stream.read(1000):
                pass


def test_other_protocols(monkeypatch: pytest.MonkeyPatch) -> None:
    fsspec = pytest.importorskip("fsspec")
    fsspec.filesystem("memory").pipe({"/t/b.bin": DATA, "/t/a/x": b"1", "/t/.c": b""})
    assert read_url("memory://t/b.bin") == DATA
    assert names_in("memory://t") == [".c", "a/", "b.bin"]
    for url, words in (
        ("memory://t/gone", "no such file"),
        ("nothing://x/y", "no URL that can be read"),
        ("simplecache::memory://t/b.bin", "one URL inside another"),
    ):
        with pytest.raises(InputError, match=words):
            read_url(url)


def test_packages_that_are_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "gcsfs", None)
    with pytest.raises(InputError, match=r"gs://bucket/x: .*gcsfs.*epsilon-tools\[remote\]") as caught:
        read_url("gs://bucket/x")
    assert caught.value.kind == "no-package"
    monkeypatch.setitem(sys.modules, "fsspec.core", None)
    with pytest.raises(InputError, match=r"pip install 'epsilon-tools\[remote\]'") as caught:
        read_url("memory://x")
    assert caught.value.kind == "no-package"
