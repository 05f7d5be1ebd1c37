"""Archives are listed in order, and what is listed is not kept."""

from __future__ import annotations

import io
import pickle
import tarfile
import tracemalloc
from collections.abc import Iterable
from pathlib import Path

import pytest

from _toolio.errors import InputError
from _toolio.streams import inputs, tars
from _toolio.streams.inputs import open_items, read_input
from _toolio.streams.sources.archives import Member, list_files


@pytest.fixture(autouse=True)
def no_open_tars(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tars, "_open", {})


def archive(path: Path, names: Iterable[str], size: int = 0) -> Path:
    with tarfile.open(path, "w") as made:
        for number, name in enumerate(names):
            info = tarfile.TarInfo(name)
            info.size = size
            made.addfile(info, io.BytesIO(bytes([number % 256]) * size))
    return path


@pytest.mark.parametrize("names", [["a", "b", "c"], ["c", "a", "b"], ["b", "a", "b", "c", "a"], []])
def test_files_come_in_order_and_of_one_name_the_last_is_meant(tmp_path: Path, names: list[str]) -> None:
    path = archive(tmp_path / "a.tar", names, size=3)
    files, error = list_files(str(path))
    found = {name: source() for name, source in files if source is not None}
    assert error is None
    assert list(found) == sorted(set(names))
    assert found == {name: bytes([number]) * 3 for number, name in enumerate(names)}
    assert not tars._open
    for name, data in found.items():
        assert read_input(f"{path}/{name}") == data


def test_a_listed_file_can_be_read_in_another_process(tmp_path: Path) -> None:
    path = archive(tmp_path / "a.tar", ["x.jpg", "y.jpg"], size=700)
    items = pickle.loads(pickle.dumps(list(open_items([str(path)]))))
    assert [item.read() for item in items] == [bytes(700), b"\1" * 700]


def test_an_archive_that_has_changed_since_is_not_read(tmp_path: Path) -> None:
    path = archive(tmp_path / "a.tar", ["x.jpg", "y.jpg"], size=3)
    first, second = open_items([str(path)])
    assert first.read() == bytes(3)
    archive(tmp_path / "b.tar", ["y.jpg", "x.jpg"], size=3)
    (tmp_path / "b.tar").replace(path)
    with pytest.raises(InputError, match=r"a\.tar/y\.jpg: the archive has changed since it was listed") as caught:
        second.read()
    assert caught.value.kind == "changed"
    path.unlink()
    with pytest.raises(InputError, match="the archive is gone"):
        second.read()


def peak(path: Path) -> int:
    """Return the most bytes that listing an archive takes."""
    tracemalloc.start()
    for _ in open_items([str(path)]):
        pass
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return most


def test_memory_does_not_grow_with_the_members(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inputs, "LISTED_AHEAD", 100)
    few, many = (
        peak(archive(tmp_path / f"{count}.tar", (f"{number:06}.jpg" for number in range(count))))
        for count in (500, 8000)
    )
    assert many < 1.5 * few + 100_000  # 8,000 items are 3 MB, as many headers 8


def test_of_an_archive_in_another_order_the_names_are_kept_and_no_headers(tmp_path: Path) -> None:
    path = archive(tmp_path / "a.tar", (f"{number:06}.jpg" for number in reversed(range(8000))))
    tracemalloc.start()
    files, _ = list_files(str(path))
    assert next(files)[0] == "000000.jpg"
    kept, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert kept < 8000 * 200


def test_of_archives_that_are_named_one_by_one_few_are_kept_open(tmp_path: Path) -> None:
    paths = [archive(tmp_path / f"{number:03}.tar", ["x.jpg"], size=3) for number in range(40)]
    before = len(list(Path("/proc/self/fd").iterdir()))
    for path in paths:
        assert read_input(f"{path}/x.jpg") == bytes(3)
    assert len(list(Path("/proc/self/fd").iterdir())) - before <= 16


def test_a_members_place_is_small() -> None:
    assert len(pickle.dumps(Member("shards/000.tar", "000000.jpg", 512, 700, (1, 2, 3, 4)))) < 300
