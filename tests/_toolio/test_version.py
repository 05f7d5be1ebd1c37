"""The version that artefacts carry is the installed distribution's."""

from __future__ import annotations

import importlib.metadata
import tomllib
from pathlib import Path

import pytest

from _toolio.version import tool_version

ROOT = Path(__file__).parent.parent.parent


def test_it_is_that_of_the_project() -> None:
    assert tool_version() == tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]


def test_nothing_installed_is_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(name: str) -> str:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "version", absent)
    assert tool_version() == "unknown"
