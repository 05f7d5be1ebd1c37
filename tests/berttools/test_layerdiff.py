"""``berttools layerdiff`` as a process: its numbers against an independent reference, and bad input."""

from __future__ import annotations

import json
import pickle
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file

from conftest import ROOT, Run

DEMO = ROOT / ".demo"


def reference(base: np.ndarray, ft: np.ndarray) -> dict[str, float]:
    """The formulas, spelled out in extended precision; shares nothing with the tool."""
    a, b = base.astype(np.longdouble).ravel(), ft.astype(np.longdouble).ravel()
    d = b - a
    u, v = a / np.sqrt((a * a).sum()), b / np.sqrt((b * b).sum())
    theta = 2 * np.arctan2(np.sqrt(((u - v) ** 2).sum()), np.sqrt(((u + v) ** 2).sum()))
    return {
        "angle": float(theta / np.longdouble(np.pi)),
        "angle_rad": float(theta),
        "l1": float(abs(d).sum() / np.sqrt(np.longdouble(d.size))),
        "mean_abs": float(abs(d).sum() / d.size),
        "rel_l1": float(abs(d).sum() / abs(a).sum()),
        "l2": float(np.sqrt((d * d).sum())),
        "rel_l2": float(np.sqrt((d * d).sum() / (a * a).sum())),
        "max_abs": float(abs(d).max()),
        "changed": float((d != 0).mean()),
    }


def assert_agrees(records: list[dict[str, Any]], base: dict[str, np.ndarray], ft: dict[str, np.ndarray]) -> int:
    compared = 0
    for record in records:
        if record["angle"] is None:
            assert record["reason"]
            continue
        name = record["name"]
        expected = reference(base[name], ft[record.get("name_ft", name)])
        # Twelve decimals are printed of the ranking field; angle_rad has all of them.
        assert record["angle"] == pytest.approx(expected.pop("angle"), rel=1e-9, abs=5e-13)
        for key, value in expected.items():
            assert record[key] == pytest.approx(value, rel=1e-9, abs=1e-300), (name, key)
        assert record["shape"] == list(base[name].shape)
        compared += 1
    return compared


@pytest.mark.skipif(
    not (DEMO / "ft" / "model.safetensors").exists(), reason="the demo's checkpoints are not there: run make demo"
)
def test_agrees_with_a_reference_on_the_demo_pair(run: Callable[..., Run]) -> None:
    done = run("berttools", "layerdiff", DEMO / "base", DEMO / "ft")
    assert (done.code, done.err) == (0, "")
    base, ft = load_file(DEMO / "base" / "model.safetensors"), load_file(DEMO / "ft" / "model.safetensors")
    assert len(done.records) == len(base.keys() | ft.keys())
    assert assert_agrees(done.records, base, ft) > 90


@pytest.fixture
def pair(tmp_path: Path) -> tuple[Path, Path]:
    """Two small BERT-like checkpoints as folders."""
    rng = np.random.default_rng(1)
    names = [
        f"encoder.layer.{n}.{part}.weight"
        for n in range(2)
        for part in ("attention.self.query", "attention.output.dense", "intermediate.dense", "output.LayerNorm")
    ]
    base = {name: rng.normal(size=(6,) if "Norm" in name else (6, 5)).astype(np.float32) for name in names}
    for kind, change in (("base", 0.0), ("ft", 1e-3)):
        (tmp_path / kind).mkdir()
        tensors = {k: (v + change * rng.normal(size=v.shape)).astype(np.float32) for k, v in base.items()}
        save_file(tensors, tmp_path / kind / "model.safetensors")
    return tmp_path / "base", tmp_path / "ft"


def test_agrees_with_a_reference(run: Callable[..., Run], pair: tuple[Path, Path]) -> None:
    done = run("berttools", "layerdiff", *pair)
    tensors = [load_file(folder / "model.safetensors") for folder in pair]
    assert assert_agrees(done.records, *tensors) == 8
    groups = {record["name"]: (record["layer"], record["group"]) for record in done.records}
    assert groups["encoder.layer.1.attention.self.query.weight"] == (1, "Q")
    assert groups["encoder.layer.0.output.LayerNorm.weight"] == (0, None)


def test_sort_ranks_the_stream(run: Callable[..., Run], pair: tuple[Path, Path]) -> None:
    tensors = load_file(pair[1] / "model.safetensors")
    tensors["extra.weight"] = np.ones(3, np.float32)
    save_file(tensors, pair[1] / "model.safetensors")
    lines = run("berttools", "layerdiff", *pair).out.splitlines()
    angles = [json.loads(line)["angle"] for line in sorted(lines)]
    assert angles[0] is None
    assert angles[1:] == sorted(angles[1:])


def test_every_format_gives_the_same_numbers(run: Callable[..., Run], pair: tuple[Path, Path], tmp_path: Path) -> None:
    base, ft = pair
    expected = run("berttools", "layerdiff", base, ft).records
    tensors = load_file(ft / "model.safetensors")
    torch.save({k: torch.from_numpy(v) for k, v in tensors.items()}, tmp_path / "ft.bin")
    shards = tmp_path / "shards"
    shards.mkdir()
    weight_map = {}
    for number, (name, value) in enumerate(tensors.items()):
        save_file({name: value}, shards / f"m-{number % 3}-{number}.safetensors")
        weight_map[name] = f"m-{number % 3}-{number}.safetensors"
    (shards / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    prefixed = tmp_path / "prefixed.safetensors"
    save_file({f"bert.{name}": value for name, value in tensors.items()}, prefixed)
    for other in (tmp_path / "ft.bin", shards, shards / "model.safetensors.index.json", prefixed):
        got = run("berttools", "layerdiff", base / "model.safetensors", other).records
        assert [{k: v for k, v in record.items() if k != "name_ft"} for record in got] == expected
    # A file against a folder, and the other way round.
    assert [r["l1"] for r in run("berttools", "layerdiff", shards, base).records] == [r["l1"] for r in expected]


def test_what_cannot_be_compared_is_a_record(run: Callable[..., Run], pair: tuple[Path, Path]) -> None:
    tensors = load_file(pair[1] / "model.safetensors")
    names = sorted(tensors)
    tensors[names[0]] = np.zeros((2, 2), np.float32)
    tensors[names[1]][0] = np.nan
    tensors[names[2]][0, 0] = np.inf
    del tensors[names[3]]
    tensors["classifier.weight"] = np.ones((2, 6), np.float32)
    save_file(tensors, pair[1] / "model.safetensors")
    done = run("berttools", "layerdiff", *pair)
    assert (done.code, done.err) == (0, "")
    records = {record["name"]: record for record in done.records}
    assert records[names[0]]["shape_ft"] == [2, 2]
    assert records[names[1]]["not_finite"] == {"nan_ft": tensors[names[1]][0].size}
    assert records[names[2]]["not_finite"] == {"inf_ft": 1}
    assert records[names[3]]["only_in"] == "base"
    assert records["classifier.weight"]["only_in"] == "ft"
    for name in (*names[:4], "classifier.weight"):
        assert records[name]["angle"] is None
        assert records[name]["reason"]


def header(entries: dict[str, Any], data: bytes) -> bytes:
    text = json.dumps(entries).encode()
    return struct.pack("<Q", len(text)) + text + data


BAD = {
    "empty": b"",
    "header longer than the file": struct.pack("<Q", 10_000) + b"{}",
    "truncated": header({"a": {"dtype": "F32", "shape": [4], "data_offsets": [0, 16]}}, b"12345678"),
    "overlapping": header(
        {
            "a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]},
            "b": {"dtype": "F32", "shape": [2], "data_offsets": [4, 12]},
        },
        bytes(12),
    ),
    "pickle": pickle.dumps({"a": 1}),
    "text": b"hello, this is no checkpoint at all",
}


@pytest.mark.parametrize("what", BAD)
def test_bad_files_are_one_line(run: Callable[..., Run], pair: tuple[Path, Path], tmp_path: Path, what: str) -> None:
    bad = tmp_path / "bad.safetensors"
    bad.write_bytes(BAD[what])
    for arguments in ((pair[0], bad), (bad, pair[1])):
        done = run("berttools", "layerdiff", *arguments)
        assert (done.code, done.out) == (1, b"")
        assert done.err.startswith("berttools: error: ")
        assert done.err.count("\n") == 1
        assert "bad.safetensors" in done.err


def test_an_unknown_dtype_fails_one_tensor(run: Callable[..., Run], tmp_path: Path) -> None:
    entries = {
        "a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]},
        "b": {"dtype": "Q4_7", "shape": [2], "data_offsets": [8, 9]},
    }
    for name in ("base", "ft"):
        (tmp_path / f"{name}.safetensors").write_bytes(header(entries, bytes(range(1, 10))))
    done = run("berttools", "layerdiff", tmp_path / "base.safetensors", tmp_path / "ft.safetensors")
    assert (done.code, done.err) == (3, "")
    assert [record["angle"] for record in done.records] == [0.0, None]
    assert "Q4_7" in done.records[1]["error"]["message"]


def test_nothing_in_common_fails(run: Callable[..., Run], pair: tuple[Path, Path], tmp_path: Path) -> None:
    save_file({"something.else": np.ones(3, np.float32)}, tmp_path / "other.safetensors")
    done = run("berttools", "layerdiff", pair[0], tmp_path / "other.safetensors")
    assert (done.code, done.out) == (1, b"")
    assert "no tensor" in done.err
    assert done.err.count("\n") == 1


def test_missing_shard_and_missing_folder(run: Callable[..., Run], pair: tuple[Path, Path], tmp_path: Path) -> None:
    folder = tmp_path / "holey"
    folder.mkdir()
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"a": "gone.safetensors"}}))
    (tmp_path / "void").mkdir()
    for bad, words in ((folder, "gone.safetensors"), (tmp_path / "void", "void"), (tmp_path / "nowhere", "nowhere")):
        done = run("berttools", "layerdiff", pair[0], bad)
        assert (done.code, done.out) == (1, b"")
        assert words in done.err
        assert done.err.count("\n") == 1


def test_no_torch_unless_a_bin_is_read(run: Callable[..., Run], pair: tuple[Path, Path]) -> None:
    import subprocess
    import sys

    code = (
        "import sys; from berttools.cli import main\n"
        "try: main()\nexcept SystemExit: pass\n"
        "print([m for m in ('torch', 'transformers', 'safetensors') if m in sys.modules], file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code, "layerdiff", *pair], capture_output=True, text=True, check=True)
    assert done.stderr.strip() == "[]"
