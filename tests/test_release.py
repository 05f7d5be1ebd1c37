"""What a release holds: the sdist, and the wheel that is built from it, as ``python -m build`` makes them."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path, PurePosixPath

import pytest

from conftest import ROOT

pytest.importorskip("hatchling")

CACHES = ("__pycache__", ".pytest_cache", ".hypothesis", ".mypy_cache", ".ruff_cache")
FOLDERS = ("benchmarks", "docs", "examples", "man", "src", "tests", "tools")
FILES = ("CHANGELOG.md", "CONTRIBUTING.md", "LICENSE", "Makefile", "README.md", "SECURITY.md", "pyproject.toml")


def build(kind: str, folder: Path, out: Path) -> Path:
    """Call the build backend in a folder, as a build front end does."""
    call = f"import sys; from hatchling.build import build_{kind} as build; print(build(sys.argv[1]))"
    done = subprocess.run([sys.executable, "-c", call, out], cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return out / done.stdout.split()[-1]


def files_of(folder: Path) -> set[str]:
    """List the files below a folder of the project, without caches."""
    found = (path.relative_to(ROOT) for path in (ROOT / folder).rglob("*") if path.is_file())
    return {path.as_posix() for path in found if not {*CACHES} & {*path.parts} and path.suffix != ".pyc"}


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the project in which tests have run: caches lie about."""
    folder = tmp_path_factory.mktemp("sources")
    for name in FOLDERS:
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns(*CACHES))
    for name in (*FILES, ".gitignore"):
        shutil.copy(ROOT / name, folder / name)
    for place in ("", "tests", "src/facetools"):
        for cache in CACHES:
            (folder / place / cache).mkdir(parents=True)
            (folder / place / cache / "left.cpython-311.pyc").write_bytes(b"left")
    for left in (".venv/bin/python", ".demo/photos/a.png", "build/detector/a.png", "dist/old.whl"):
        (folder / left).parent.mkdir(parents=True)
        (folder / left).write_bytes(b"left")
    return folder


@pytest.fixture(scope="module")
def sdist(sources: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sdist, unpacked."""
    out = tmp_path_factory.mktemp("sdist")
    with tarfile.open(build("sdist", sources, out)) as archive:
        archive.extractall(out, filter="data")
    (folder,) = (path for path in out.iterdir() if path.is_dir())
    return folder


@pytest.fixture(scope="module")
def wheel(sdist: Path, tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    """The files of the wheel that is built from the sdist."""
    with zipfile.ZipFile(build("wheel", sdist, tmp_path_factory.mktemp("wheel"))) as archive:
        return {name for name in archive.namelist() if not name.endswith("/")}


def test_the_sdist_holds_all_of_the_project_and_nothing_of_caches(sdist: Path) -> None:
    held = {path.relative_to(sdist).as_posix() for path in sdist.rglob("*") if path.is_file()}
    expected = {*FILES, *(name for folder in FOLDERS for name in files_of(Path(folder)))}
    assert held - expected <= {"PKG-INFO", ".gitignore"}
    assert expected - held == set()


def test_the_wheel_holds_the_packages_their_data_and_the_man_pages(wheel: set[str]) -> None:
    packages = {name.removeprefix("src/") for name in files_of(Path("src"))}
    assert packages <= wheel
    for data in ("py.typed", "weights/detector.safetensors", "weights/detector.md"):
        assert f"facetools/{data}" in wheel
    assert {"berttools/py.typed", "_toolio/py.typed"} <= wheel
    about = wheel - packages
    assert {PurePosixPath(name).name for name in about if "/data/share/man/man1/" in name} == {
        path.name for path in (ROOT / "man").glob("*.1")
    }
    assert {name.partition(".dist-info/")[2] for name in about if ".dist-info/" in name} == {
        "METADATA",
        "RECORD",
        "WHEEL",
        "entry_points.txt",
        "licenses/LICENSE",
    }
    assert all("/data/share/man/man1/" in name or ".dist-info/" in name for name in about)
