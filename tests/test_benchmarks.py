"""The benchmarks find what they measure; what they measure is in ``docs/results``."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

import size_figures
from conftest import ROOT

OURS = ("_toolio", "berttools", "facetools")


def load(script: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """Import a script; skip the test where a package of others is missing."""
    spec = importlib.util.spec_from_file_location(f"benchmark_{script.stem}", script)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.syspath_prepend(str(script.parent))  # as Python does for a script: one imports another
    monkeypatch.setitem(sys.modules, spec.name, module)  # where dataclasses look for it
    try:
        spec.loader.exec_module(module)
    except ModuleNotFoundError as error:
        package = str(error.name).partition(".")[0]
        if package in OURS:
            raise
        pytest.skip(f"{package} is not installed")
    return module


@pytest.mark.parametrize("script", sorted((ROOT / "benchmarks").glob("*.py")), ids=lambda path: path.stem)
def test_a_benchmark_can_be_imported(script: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A name of ours that is gone is noticed here, not when somebody measures."""
    module = load(script, monkeypatch)
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


def bench(*words: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run ``benchmarks/all.py`` with nothing named by the environment but what is given."""
    line = [sys.executable, str(ROOT / "benchmarks" / "all.py"), *map(str, words)]
    kept = {name: value for name, value in os.environ.items() if name not in {"PHOTOS", "BASE", "TRAIN"}}
    env = {**kept, "PYTHONPATH": str(ROOT / "src"), "CUDA_VISIBLE_DEVICES": "", **environment}
    return subprocess.run(line, env=env, capture_output=True, text=True, check=False)


@pytest.fixture
def every(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """``benchmarks/all.py`` as a module."""
    return load(ROOT / "benchmarks" / "all.py", monkeypatch)


def test_every_benchmark_is_run_by_all(every: ModuleType) -> None:
    scripts = {path.stem for path in (ROOT / "benchmarks").glob("*.py")}
    assert {*every.BENCHMARKS} == scripts - {"all"}


def test_all_runs_a_benchmark_and_keeps_its_records(tmp_path: Path) -> None:
    done = bench("safetensors_io", "--out", tmp_path / "new" / "bench.jsonl", "--", "0.001")
    assert done.returncode == 0, done.stderr
    records = [json.loads(line) for line in (tmp_path / "new" / "bench.jsonl").read_text().splitlines()]
    assert {each["benchmark"] for each in records} == {"safetensors_io"}
    assert {each["task"] for each in records} == {"import", "sum", "copy"}
    title, head, *rows = done.stdout.split("\n")[1:-1]
    assert title == "safetensors_io"
    assert head.split() == ["name", "ours", "beside", "ratio", "goal", "held"]
    assert [row.partition(",")[0] for row in rows] == ["import", "sum", "copy"]
    assert all(row.split()[-1] == "x" for row in rows)  # a ratio, no goal


def test_all_leaves_out_what_has_no_input_and_says_why(tmp_path: Path) -> None:
    gone = str(tmp_path / "gone")
    given = {"PHOTOS": gone, "BASE": gone, "TRAIN": gone}
    done = bench("detect", "finetune", "gpu", "--out", tmp_path / "bench.jsonl", **given)
    assert done.returncode == 0, done.stderr
    records = [json.loads(line) for line in (tmp_path / "bench.jsonl").read_text().splitlines()]
    reasons = {each["benchmark"]: each["skipped"] for each in records}
    assert reasons["detect"] == f"no photos at {gone}: give --photos TAR"
    assert reasons["finetune"] == f"no base at {gone}: give --base FOLDER; no train at {gone}: give --train JSONL"
    assert "no photos" in reasons["gpu"]
    assert f"detect: no photos at {gone}" in done.stdout


def test_all_says_how_a_benchmark_failed_and_exits_1(tmp_path: Path) -> None:
    out = tmp_path / "bench.jsonl"
    done = bench("safetensors_io", "--out", out, "--", "no-number")
    assert done.returncode == 1
    (record,) = map(json.loads, out.read_text().splitlines())
    assert record["failed"].startswith("exit 1: ")
    assert "no-number" in record["failed"]
    assert f"safetensors_io: {record['failed']}" in done.stdout


def test_all_refuses_what_it_does_not_know(tmp_path: Path) -> None:
    assert "no benchmark nothing" in bench("nothing").stderr
    assert "name it" in bench("--out", tmp_path / "a", "--", "1").stderr


def test_goals_are_of_the_ratio_or_of_ours(every: ModuleType) -> None:
    records = [
        {"way": "ours", "s": 3.0, "x": 1.5, "goal": None},
        {"way": "peer", "s": 4.0, "x": 2.0},
        {"way": "ours", "s": None},
    ]
    mine = {"way": "ours"}
    figures = [
        every.Figure("{way}", mine, "s", "s", "x", goal=2.0),
        every.Figure("b", mine, "s", "s", "x", goal=1.9),
        every.Figure("c", mine, "s", "s", "x", goal=2.5, of_ours=True),
        every.Figure("d", mine, "s", "s", ({"way": "peer"}, "s"), goal="goal"),
        every.Figure("e", mine, "s", "s", ({"way": "gone"}, "s"), goal=1.0),
        every.Figure("f", mine, "s", "s", goal=3),
    ]
    rows = [tuple(row.values()) for row in every.rows_of(records, figures)]
    assert rows == [
        ("ours", "3 s", "1.5 s", "2 x", "2 x", "held"),
        ("b", "3 s", "1.5 s", "2 x", "1.9 x", "missed"),
        ("c", "3 s", "1.5 s", "2 x", "2.5 s", "missed"),
        ("d", "3 s", "4 s", "0.75 x", "", ""),
        ("e", "3 s", "", "", "1 x", ""),  # the peer is not there: nothing to judge
        ("f", "3 s", "", "", "3 s", "held"),
    ]


def test_the_chart_of_sizes(tmp_path: Path) -> None:
    """The chart has what both scripts print, and says which of them is missing."""
    photos = [{"part": "size", "photos": n, "processor_s": 2 + n / 40, "peak_mb": 900} for n in (1000, 100)]
    pairs = [{"size": f"{n:g} GB", "layerdiff_cpu_s": n / 2, "peak_mb": 120} for n in (0.1, 8)]
    others = [{"size": "bert-base", "layerdiff_cpu_s": 1, "peak_mb": 120}, {"part": "finding", "finder": "x"}]
    read = size_figures.points_of([*photos, *pairs, *others])
    assert read == ([(100, 4.5, 900), (1000, 27.0, 900)], [(0.1, 0.05, 120), (8.0, 4.0, 120)])
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(each) + "\n" for each in [*photos, *pairs, *others]))
    size_figures.main(tmp_path / "a.jsonl", tmp_path / "a.png")
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")
    (tmp_path / "b.jsonl").write_text(json.dumps(photos[0]))
    with pytest.raises(SystemExit, match="no sizes of layerdiff"):
        size_figures.main(tmp_path / "b.jsonl", tmp_path / "b.png")
