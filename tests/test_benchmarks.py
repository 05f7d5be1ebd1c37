"""The benchmarks find what they measure; what they measure is in ``docs/results``."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from conftest import ROOT

OURS = ("_toolio", "berttools", "facetools")


@pytest.mark.parametrize("script", sorted((ROOT / "benchmarks").glob("*.py")), ids=lambda path: path.stem)
def test_a_benchmark_can_be_imported(script: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A name of ours that is gone is noticed here, not when somebody measures."""
    spec = importlib.util.spec_from_file_location(f"benchmark_{script.stem}", script)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, spec.name, module)  # where dataclasses look for it
    try:
        spec.loader.exec_module(module)
    except ModuleNotFoundError as error:
        package = str(error.name).partition(".")[0]
        if package in OURS:
            raise
        pytest.skip(f"{package} is not installed")
    assert callable(module.main)


def test_every_kernel_is_right_where_triton_interprets() -> None:
    """What is timed on a GPU is compared with float64 first, and that needs none."""
    pytest.importorskip("triton", reason="there is no Triton here")
    line = [sys.executable, str(ROOT / "benchmarks" / "gpu.py")]
    env = {**os.environ, "PYTHONPATH": str(ROOT / "src"), "TRITON_INTERPRET": "1", "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(line, env=env, capture_output=True, text=True, check=False)
    records = [json.loads(each) for each in done.stdout.splitlines()]
    assert done.returncode == 0, done.stdout + done.stderr
    names = {"block_sums", "draw_bits", "masked_copy", "masked_product", "gradient_of_scores"}
    assert {each["name"] for each in records if each["part"] == "kernel"} == names
    assert all(each["right"] for each in records if each["part"] == "kernel")
    assert records[-1]["right"] == records[-1]["kernels"]
