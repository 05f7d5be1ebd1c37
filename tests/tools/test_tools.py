"""The demo's own parts; the demo as a whole is ``make demo``."""

from __future__ import annotations

import io
import tarfile
import zipfile
from pathlib import Path

import pytest

import demo


@pytest.fixture(params=["wheel", "source"])
def archive(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """An archive that holds pkg-1.0/data/a.txt and a file of the same name elsewhere."""
    files = {"pkg-1.0/data/a.txt": b"right", "pkg-1.0/other/a.txt": b"wrong"}
    if request.param == "wheel":
        path = tmp_path / "pkg-1.0-py3-none-any.whl"
        with zipfile.ZipFile(path, "w") as wheel:
            for name, data in files.items():
                wheel.writestr(name, data)
        return path
    path = tmp_path / "pkg-1.0.tar.gz"
    with tarfile.open(path, "w:gz") as source:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            source.addfile(member, io.BytesIO(data))
    return path


def test_unpack_takes_what_is_asked_for_and_keeps_what_is_there(archive: Path, tmp_path: Path) -> None:
    target = tmp_path / "out" / "a.txt"
    demo.unpack(archive, [("data/a.txt", target)])
    assert target.read_bytes() == b"right"
    target.write_bytes(b"kept")
    demo.unpack(archive, [("data/a.txt", target)])
    assert target.read_bytes() == b"kept"
    assert [path.name for path in target.parent.iterdir()] == ["a.txt"]


def test_unpack_says_what_is_missing(archive: Path, tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match=r"demo: error: .*holds no data/b.txt"):
        demo.unpack(archive, [("data/b.txt", tmp_path / "b.txt")])


def test_scores_are_shown_side_by_side(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    control, cloaked = tmp_path / "control", tmp_path / "cloaked"
    scores = [
        {"path": str(folder / f"{number}.jpg"), "score": score}
        for folder, values in ((control, (0.1, 0.2)), (cloaked, (0.9, 0.15)))
        for number, score in enumerate(values)
    ]
    demo.show_scores([*scores, {"path": str(control / "2.jpg"), "score": None}], control, cloaked)
    shown = capsys.readouterr().out
    assert "0.100       0.900" in shown
    # Three of the four pairs of a clean and a cloaked photo are in the right order.
    assert "AUC 0.7500 over 2 clean and 2 cloaked photos" in shown
