"""What tests of berttools share: running it inside this process, where importing torch is done, and tiny models."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from berttools.cli import main
from conftest import Run
from tiny_models import make_base, texts, write_lines


@pytest.fixture
def berttools(monkeypatch: pytest.MonkeyPatch, capsysbinary: pytest.CaptureFixture[bytes]) -> Callable[..., Run]:
    """Run berttools to its end; stdin is empty unless given."""

    def call(*arguments: str | os.PathLike[str], stdin: bytes = b"") -> Run:
        monkeypatch.setattr(sys, "argv", ["berttools", *map(os.fsdecode, arguments)])
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin)))
        capsysbinary.readouterr()
        with pytest.raises(SystemExit) as end:
            main()
        shown = capsysbinary.readouterr()
        return Run(int(end.value.code or 0), shown.out, shown.err.decode())

    return call


@pytest.fixture(scope="session")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny BERT without a head."""
    return make_base(tmp_path_factory.mktemp("tiny") / "base")


@pytest.fixture(scope="session")
def train(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Forty texts of two classes."""
    return write_lines(tmp_path_factory.mktemp("texts") / "train.jsonl", texts(40))


@pytest.fixture(scope="session")
def dev(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twenty others."""
    return write_lines(tmp_path_factory.mktemp("texts") / "dev.jsonl", texts(20, seed=1))
