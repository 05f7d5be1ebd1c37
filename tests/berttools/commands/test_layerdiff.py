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


def test_sums_by_layer_group_and_model(run: Callable[..., Run], pair: tuple[Path, Path]) -> None:
    layers = run("berttools", "layerdiff", *pair, "--by", "layer").records
    assert [(r["by"], r["layer"], r["tensors"], r["left_out"]) for r in layers] == [("layer", n, 4, 0) for n in (0, 1)]
    groups = run("berttools", "layerdiff", *pair, "--by", "group").records
    assert [(r["group"], r["n"]) for r in groups] == [("Q", 60), ("AO", 60), ("I", 60), (None, 12)]
    (model,) = run("berttools", "layerdiff", *pair, "--by", "model").records
    base, ft = (load_file(folder / "model.safetensors") for folder in pair)
    whole = [np.concatenate([tensors[name].ravel() for name in sorted(base)]) for tensors in (base, ft)]
    assert model["angle"] == pytest.approx(reference(*whole)["angle"], rel=1e-9, abs=5e-13)
    assert next(iter(model)) == "angle"


def test_names_and_groups(run: Callable[..., Run], pair: tuple[Path, Path], tmp_path: Path) -> None:
    chosen = run("berttools", "layerdiff", *pair, "--group", "Q, AO", "--only", r"layer\.1").records
    assert [r["group"] for r in chosen] == ["AO", "Q"]
    (tmp_path / "map").write_text("MINE (?P<layer>[0-9]+)[.]output[.]LayerNorm\nTOP intermediate\n")
    matrices = run("berttools", "layerdiff", *pair, "--matrices").records
    assert matrices == [record for record in run("berttools", "layerdiff", *pair).records if record["group"]] != []
    both = run("berttools", "layerdiff", *pair, "--matrices", "--group", "Q, AO", "--only", r"layer\.1").records
    assert both == chosen
    mapped = run("berttools", "layerdiff", *pair, "--group", "TOP", "--group-map", tmp_path / "map").records
    assert [(r["layer"], r["group"]) for r in mapped] == [(0, "TOP"), (1, "TOP")]


def test_several_models_and_each_other(run: Callable[..., Run], pair: tuple[Path, Path], tmp_path: Path) -> None:
    base, ft = map(str, pair)
    other = tmp_path / "other.safetensors"
    tensors = load_file(pair[1] / "model.safetensors")
    save_file({name: -value for name, value in tensors.items()}, other)
    records = run("berttools", "layerdiff", base, ft, other, "--pairs", "--by", "model").records
    assert [(r["base"], r["ft"]) for r in records] == [(base, ft), (base, str(other)), (ft, str(other))]
    assert records[2]["angle"] == 1
    without = run("berttools", "layerdiff", base, ft, other, "--by", "model").records
    assert without == records[:2]
    assert "ft" not in run("berttools", "layerdiff", base, ft).records[0]


def test_csv_and_a_table_in_a_pipe(run: Callable[..., Run], pair: tuple[Path, Path]) -> None:
    import csv
    import io

    records = run("berttools", "layerdiff", *pair).records
    done = run("berttools", "layerdiff", *pair, "--csv")
    rows = list(csv.DictReader(io.StringIO(done.out.decode())))
    assert len(rows) == len(records)
    for row, record in zip(rows, records, strict=True):
        assert row["name"] == record["name"]
        assert float(row["angle"]) == record["angle"]
        assert float(row["rel_l2"]) == record["rel_l2"]
        assert json.loads(row["shape"]) == record["shape"]
    table = run("berttools", "layerdiff", *pair, "--table").out.decode()
    assert table.splitlines()[0].split()[:4] == ["angle", "layer", "group", "name"]
    assert all(record["name"] in table for record in records)


def test_a_heat_map(run: Callable[..., Run], pair: tuple[Path, Path], tmp_path: Path) -> None:
    from PIL import Image

    picture = tmp_path / "moved.png"
    plain = run("berttools", "layerdiff", *pair)
    drawn = run("berttools", "layerdiff", *pair, pair[0], "--heatmap", picture)
    assert (drawn.code, drawn.err) == (0, "")
    assert [r["angle"] for r in drawn.records][: len(plain.records)] == [r["angle"] for r in plain.records]
    first = picture.read_bytes()
    with Image.open(picture) as image:
        assert len(image.convert("RGB").getcolors(1 << 24)) > 50
    again = run("berttools", "layerdiff", *pair, "--heatmap", picture)
    assert (again.code, again.out) == (2, b"")
    assert "--force" in again.err
    assert run("berttools", "layerdiff", *pair, pair[0], "--heatmap", picture, "--force", "--by", "layer").code == 0
    assert picture.read_bytes() == first
    assert run("berttools", "layerdiff", *pair, "--heatmap", tmp_path / "moved.svg").code == 0
    assert (tmp_path / "moved.svg").read_bytes().startswith(b"<?xml")
    blank = run("berttools", "layerdiff", *pair, "--only", "LayerNorm", "--heatmap", tmp_path / "blank.png")
    assert blank.code == 1
    assert "--group-map" in blank.err
    assert not (tmp_path / "blank.png").exists()


def test_the_share_of_singular_values(run: Callable[..., Run], pair: tuple[Path, Path]) -> None:
    base, ft = (load_file(folder / "model.safetensors") for folder in pair)
    for record in run("berttools", "layerdiff", *pair, "--svd", "2").records:
        change = ft[record["name"]].astype(float) - base[record["name"]]
        if change.ndim == 1:
            assert record["svd_share"] is None
        else:
            squares = np.linalg.svd(change, compute_uv=False) ** 2
            assert record["svd_share"] == pytest.approx(squares[:2].sum() / squares.sum(), rel=1e-9)


@pytest.fixture
def tiny_bert(tmp_path: Path) -> Path:
    from transformers import AutoConfig, AutoModel

    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
    torch.manual_seed(5)
    AutoModel.from_config(AutoConfig.for_model("bert", vocab_size=50, **sizes)).save_pretrained(tmp_path / "bert")
    return tmp_path / "bert"


def test_a_random_initialisation(run: Callable[..., Run], tiny_bert: Path) -> None:
    lines = [run("berttools", "layerdiff", tiny_bert, tiny_bert, "--baseline", "random-init") for _ in range(2)]
    assert (lines[0].code, lines[0].err) == (0, "")
    assert lines[0].out == lines[1].out
    matrices = [record for record in lines[0].records if record["group"]]
    assert len(matrices) == 12
    for record in matrices:
        assert record["angle"] == 0
        assert record["baseline_angle"] == pytest.approx(0.5, abs=0.06)
        assert record["baseline_rel_l2"] == pytest.approx(2**0.5, abs=0.25)
    other = run("berttools", "layerdiff", tiny_bert, tiny_bert, "--baseline", "random-init", "--seed", "1").records
    assert other != lines[0].records
    (model,) = run("berttools", "layerdiff", tiny_bert, tiny_bert, "--baseline", "random-init", "--by", "model").records
    assert 0 < model["baseline_angle"] < 0.5  # layer norms begin at 1 in both
    done = run("berttools", "layerdiff", tiny_bert / "model.safetensors", tiny_bert, "--baseline", "random-init")
    assert (done.code, done.out, done.err.count("\n")) == (1, b"", 1)
    assert "config.json" in done.err
    (tiny_bert / "config.json").write_text('{"model_type": "nothing-known"}')
    done = run("berttools", "layerdiff", tiny_bert, tiny_bert, "--baseline", "random-init")
    assert (done.code, done.out, done.err.count("\n")) == (1, b"", 1)


def test_an_adapter_as_the_fine_tuned_model(run: Callable[..., Run], pair: tuple[Path, Path], tmp_path: Path) -> None:
    folder = tmp_path / "adapter"
    folder.mkdir()
    rng = np.random.default_rng(0)
    module = "base_model.model.bert.encoder.layer.1.attention.self.query"
    a, b = rng.normal(size=(2, 5)).astype(np.float32), rng.normal(size=(6, 2)).astype(np.float32)
    save_file({f"{module}.lora_A.weight": a, f"{module}.lora_B.weight": b}, folder / "adapter_model.safetensors")
    (folder / "adapter_config.json").write_text('{"peft_type": "LORA", "r": 2, "lora_alpha": 1}')
    records = run("berttools", "layerdiff", pair[0], folder).records
    moved = [record for record in records if record["angle"]]
    assert [(record["layer"], record["group"]) for record in moved] == [(1, "Q")]
    base = load_file(pair[0] / "model.safetensors")[moved[0]["name"]].astype(np.float64)
    assert moved[0]["l2"] == pytest.approx(reference(base, base + 0.5 * (b.astype(float) @ a))["l2"], rel=1e-9)
    (ranked,) = run("berttools", "layerdiff", pair[0], folder, "--svd", "2", "--only", moved[0]["name"]).records
    assert ranked["svd_share"] == pytest.approx(1, abs=1e-9)
    swapped = run("berttools", "layerdiff", folder, pair[0])
    assert (swapped.code, swapped.err.count("\n")) == (1, 1)
    assert "behind its base" in swapped.err


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--only", "("], "regular expression"),
        (["--group", "Z"], "Q, K, V, AO, I, O"),
        (["--group", ","], "Q, K, V, AO, I, O"),
        (["--group-map", "nowhere"], "nowhere"),
        (["--table", "--csv"], "one of them"),
        (["--svd", "2", "--by", "layer"], "single matrices"),
        (["--svd", "-1"], "-1"),
        (["--pairs"], "two or more"),
        (["--heatmap", "picture.jpg"], ".png"),
        (["--heatmap", "no/such/folder.png"], "no/such"),
        (["--baseline", "zeros"], "random-init"),
        (["--by", "row"], "tensor"),
    ],
)
def test_usage(run: Callable[..., Run], pair: tuple[Path, Path], words: list[str], told: str) -> None:
    done = run("berttools", "layerdiff", *pair, *words)
    assert (done.code, done.out, done.err.count("\n")) == (2, b"", 1)
    assert told in done.err


def test_nothing_chosen(run: Callable[..., Run], pair: tuple[Path, Path]) -> None:
    done = run("berttools", "layerdiff", *pair, "--only", "no such name")
    assert (done.code, done.out, done.err.count("\n")) == (1, b"", 1)


def test_help_says_what_l1_is_and_whose_scale_it_has(berttools: Callable[..., Run]) -> None:
    text = " ".join(berttools("layerdiff", "--help").out.decode().split())
    assert "the scale of l1, sum|d| / sqrt(n), is chosen here" in text
    assert "Distances are those of arXiv" not in text


def test_few_matched_tensors_are_said_and_fail(
    berttools: Callable[..., Run], pair: tuple[Path, Path], tmp_path: Path
) -> None:
    base, ft = pair
    tensors = load_file(ft / "model.safetensors")
    renamed = {name if "layer.0.output" in name else f"tower.v2.{name}": array for name, array in tensors.items()}
    save_file(renamed, tmp_path / "renamed.safetensors")
    done = berttools("layerdiff", base, tmp_path / "renamed.safetensors")
    assert done.code == 3
    assert done.err.startswith("berttools: error: only 1 of 8 tensors of ")
    assert done.err.endswith("; try --strip-prefix tower.v2.\n")
    assert [record["error"]["kind"] for record in done.records if "error" in record] == ["few-matched"]
    assert sum(record["angle"] is not None for record in done.records) == 1
    stripped = berttools("layerdiff", base, tmp_path / "renamed.safetensors", "--strip-prefix", "tower.v2.")
    assert (stripped.code, stripped.err) == (0, "")
    summed = berttools("layerdiff", base, tmp_path / "renamed.safetensors", "--by", "model")
    assert (summed.code, len(summed.records)) == (3, 2)


def test_wrapped_checkpoints_are_compared_whole(
    berttools: Callable[..., Run], pair: tuple[Path, Path], tmp_path: Path
) -> None:
    base, ft = pair
    plain = berttools("layerdiff", base, ft)
    wrapped = {
        name.replace("layer.1.", "layer.1._fsdp_wrapped_module._checkpoint_wrapped_module."): array
        for name, array in load_file(ft / "model.safetensors").items()
    }
    save_file({f"_orig_mod.{name}": array for name, array in wrapped.items()}, tmp_path / "wrapped.safetensors")
    done = berttools("layerdiff", base, tmp_path / "wrapped.safetensors")
    assert (done.code, done.err) == (0, "")
    fields = ("name", "angle", "layer", "group", "rel_l2")
    assert [[record[key] for key in fields] for record in done.records] == [
        [record[key] for key in fields] for record in plain.records
    ]
    groups = {record["group"] for record in berttools("layerdiff", *[tmp_path / "wrapped.safetensors"] * 2).records}
    assert groups == {"Q", "AO", "I", None}


def test_a_layer_of_five_thousand_digits(berttools: Callable[..., Run], tmp_path: Path) -> None:
    name = f"encoder.layer.{'7' * 5000}.attention.self.query.weight"
    save_file({name: np.ones((2, 2), np.float32)}, tmp_path / "odd.safetensors")
    (tmp_path / "map").write_text("Q layer[.](?P<layer>[0-9]+)[.]\n")
    for words in ([], ["--by", "layer"], ["--group-map", tmp_path / "map"]):
        done = berttools("layerdiff", *[tmp_path / "odd.safetensors"] * 2, *words)
        assert (done.code, done.err, done.records[0]["layer"]) == (0, "", None)


def test_two_stacks_in_tables_and_heat_maps(berttools: Callable[..., Run], tmp_path: Path) -> None:
    names = [f"model.{stack}.layers.0.self_attn.q_proj.weight" for stack in ("decoder", "encoder")]
    rng = np.random.default_rng(0)
    tensors = {name: rng.normal(size=(4, 4)).astype(np.float32) for name in names}
    (tmp_path / "0_Transformer").mkdir()
    save_file(tensors, tmp_path / "0_Transformer" / "model.safetensors")
    (tmp_path / "0_Transformer" / "config.json").write_text("{}")
    save_file({name: array + 1 for name, array in tensors.items()}, tmp_path / "ft.safetensors")
    # A folder of sentence-transformers, of which the model is in a folder of its own.
    words = ("layerdiff", tmp_path, tmp_path / "ft.safetensors", "--heatmap", tmp_path / "h.svg")
    done = berttools(*words, "--by", "layer", "--csv")
    lines = [line.split(",") for line in done.out.decode().splitlines()]
    at = [lines[0].index(field) for field in ("by", "stack", "layer")]
    assert [[line[each] for each in at] for line in lines[1:]] == [["layer", "encoder", "0"], ["layer", "decoder", "0"]]
    drawn = (tmp_path / "h.svg").read_text()
    assert drawn.index("<!-- encoder 0 -->") < drawn.index("<!-- decoder 0 -->")
    table = berttools(*words, "--force", "--table").out.decode().splitlines()
    assert table[0].split()[1:4] == ["stack", "layer", "group"]
    assert sorted(row.split()[1:4] for row in table[1:]) == [["decoder", "0", "Q"], ["encoder", "0", "Q"]]
