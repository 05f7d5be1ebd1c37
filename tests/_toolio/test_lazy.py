"""Packages export what their modules define, and import a module only when its name is used."""

from __future__ import annotations

import gc
import importlib
import logging
import pkgutil
import subprocess
import sys

import pytest

import berttools
import facetools
from _toolio.lazy import quiet_torch, uncollected

PACKAGES = ["facetools", "berttools"] + [
    found.name
    for tool in (facetools, berttools)
    for found in pkgutil.iter_modules(tool.__path__, f"{tool.__name__}.")
    if found.ispkg and hasattr(importlib.import_module(found.name), "__getattr__")
]


@pytest.mark.parametrize("name", PACKAGES)
def test_every_exported_name_is_there(name: str) -> None:
    package = importlib.import_module(name)
    assert package.__all__
    for each in package.__all__:
        assert getattr(package, each).__class__ is not None
    with pytest.raises(AttributeError, match=f"module '{name}' has no attribute 'nothing_of_this'"):
        _ = package.nothing_of_this


@pytest.mark.parametrize("name", PACKAGES)
def test_a_package_alone_imports_nothing_heavy(name: str) -> None:
    code = f"import sys, {name}; print(sorted({{'torch', 'numpy', 'PIL', 'safetensors'}} & sys.modules.keys()))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_torch_does_not_log_how_types_are_registered() -> None:
    logger = logging.getLogger("torch.utils._pytree")
    before = logger.level
    try:
        quiet_torch()
        assert not logger.isEnabledFor(logging.WARNING)
        assert logger.isEnabledFor(logging.ERROR)
    finally:
        logger.setLevel(before)


def test_the_collector_rests_inside_the_block_alone() -> None:
    assert gc.isenabled()
    with pytest.raises(ImportError), uncollected():
        assert not gc.isenabled()
        with uncollected():
            pass
        assert not gc.isenabled()  # the outer block has not ended
        raise ImportError
    assert gc.isenabled()


def test_imports_are_frozen_in_a_tools_own_process_alone() -> None:
    code = (
        "import gc\nfrom _toolio.lazy import set_process_is_ours, uncollected\n"
        "for ours in (False, True):\n"
        "    set_process_is_ours(ours)\n"
        "    before = gc.get_freeze_count()\n"  # Python 3.12 freezes some by itself
        "    with uncollected():\n        import decimal\n"
        "    print(gc.get_freeze_count() > before)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "True"]
