"""Architectures are found by their file names."""

from __future__ import annotations

from pathlib import Path

import pytest

from _toolio.errors import UsageError
from facetools.extractors import architectures as package
from facetools.extractors.registry import architectures, find_architecture
from facetools.extractors.settings import Settings


def test_there_is_one_for_each_file() -> None:
    files = {path.stem.replace("_", "-") for path in Path(package.__file__).parent.glob("[a-z]*.py")}
    assert set(architectures()) == files
    assert list(architectures()) == sorted(files)


@pytest.mark.parametrize("name", architectures())
def test_each_has_what_the_interface_says(name: str) -> None:
    module = find_architecture(name)
    assert isinstance(module.SETTINGS, Settings)
    module.SETTINGS.check()
    assert callable(module.network)
    assert callable(module.canonical)
    assert (module.__doc__ or "").strip()


def test_an_unknown_name_lists_those_that_exist() -> None:
    with pytest.raises(UsageError, match=r"architecture nope: not known; choose from .*, mobilefacenet,"):
        find_architecture("nope")
