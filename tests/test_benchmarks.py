"""The benchmarks find what they measure; what they measure is in ``docs/results``."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

from conftest import ROOT

OURS = ("_toolio", "berttools", "facetools")


@pytest.mark.parametrize("script", sorted((ROOT / "benchmarks").glob("*.py")), ids=lambda path: path.stem)
def test_a_benchmark_can_be_imported(script: Path) -> None:
    """A name of ours that is gone is noticed here, not when somebody measures."""
    spec = importlib.util.spec_from_file_location(f"benchmark_{script.stem}", script)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except ModuleNotFoundError as error:
        package = str(error.name).partition(".")[0]
        if package in OURS:
            raise
        pytest.skip(f"{package} is not installed")
    assert callable(module.main)
