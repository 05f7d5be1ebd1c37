"""The comparison from Python: plain records, the pairs of several models, observers, a baseline."""

import numpy as np
import pytest
from safetensors.numpy import save_file

from berttools.checkpoints.files import open_checkpoint
from berttools.layerdiff import By, LayerdiffConfig, compare
from berttools.layerdiff.diffs import diff_checkpoints
from berttools.layerdiff.records import records_of, summary_record, tensor_record
from berttools.layerdiff.sums import angles_by_cell, summarise

QUERY, NORM = "encoder.layer.0.attention.self.query.weight", "encoder.layer.0.output.LayerNorm.weight"


@pytest.fixture
def paths(tmp_path):
    rng = np.random.default_rng(0)
    base = {QUERY: rng.normal(size=(4, 4)).astype(np.float32), NORM: rng.normal(size=4).astype(np.float32)}
    moved = {
        name: value + np.float32(0.1) * rng.normal(size=value.shape).astype(np.float32) for name, value in base.items()
    }
    for name, tensors in (("base", base), ("ft", moved), ("opposite", {name: -value for name, value in base.items()})):
        save_file(tensors, tmp_path / f"{name}.safetensors")
    return [str(tmp_path / f"{name}.safetensors") for name in ("base", "ft", "opposite")]


def test_records_of_tensors(paths):
    records = list(compare(paths[0], paths[1:2]))
    assert [(record["name"], record["layer"], record["group"], record["shape"]) for record in records] == [
        (QUERY, 0, "Q", (4, 4)), (NORM, 0, None, (4,)),
    ]  # fmt: skip
    diffs = list(diff_checkpoints(*map(open_checkpoint, paths[:2])))
    assert records == [tensor_record(diff) for diff in diffs]
    for record, diff in zip(records, diffs, strict=True):
        assert next(iter(record)) == "angle"
        assert record["angle"] == diff.distance.angle > 0
        assert record["angle_rad"] == pytest.approx(np.pi * record["angle"])
        assert "base" not in record
        assert "svd_share" not in record


def test_records_of_sums(paths):
    (model,) = compare(paths[0], paths[1:2], LayerdiffConfig(by=By.model))
    assert (model["by"], model["tensors"], model["n"]) == ("model", 2, 20)
    (summary,) = summarise(diff_checkpoints(*map(open_checkpoint, paths[:2])), "model")
    assert model == summary_record(summary, By.model)
    groups = list(compare(paths[0], paths[1:2], LayerdiffConfig(by=By.group)))
    assert [record["group"] for record in groups] == ["Q", None]
    assert "layer" not in groups[0]


def test_pairs_of_several_models(paths):
    named = [(record["base"].name, record["ft"].name) for record in compare(paths[0], paths[1:])]
    assert named == [("base.safetensors", "ft.safetensors")] * 2 + [("base.safetensors", "opposite.safetensors")] * 2
    records = list(compare(paths[0], paths[1:], LayerdiffConfig(pairs=True, by=By.model)))
    assert [(record["base"].stem, record["ft"].stem) for record in records] == [
        ("base", "ft"), ("base", "opposite"), ("ft", "opposite"),
    ]  # fmt: skip
    assert records[1]["angle"] == 1


@pytest.mark.parametrize("by", list(By))
def test_what_is_compared_can_be_observed(paths, by):
    seen = []

    def observe(base, ft, diffs):
        for diff in diffs:
            seen.append(diff)
            yield diff
        seen.append((base.path.stem, ft.path.stem))

    observed = list(compare(paths[0], paths[1:2], LayerdiffConfig(by=by), observe=observe))
    assert observed == list(compare(paths[0], paths[1:2], LayerdiffConfig(by=by)))
    assert [diff.name for diff in seen[:2]] == [QUERY, NORM]
    assert seen[2:] == [("base", "ft")]
    assert angles_by_cell(seen[:2]) == {(0, "Q"): seen[0].distance.angle}


def test_the_share_of_singular_values(paths):
    shares = [record["svd_share"] for record in compare(paths[0], paths[1:2], LayerdiffConfig(svd=4))]
    assert shares == [pytest.approx(1), None]


def test_a_baseline_is_beside_each_record(paths):
    diffs = list(diff_checkpoints(*map(open_checkpoint, paths[:2])))
    baseline = {diffs[0].key: diffs[0].distance}
    first, second = records_of(diffs, LayerdiffConfig(), baseline)
    assert first["baseline_angle"] == first["angle"]
    assert (first["baseline_l1"], first["baseline_rel_l2"]) == (first["l1"], first["rel_l2"])
    assert (second["baseline_angle"], second["baseline_l1"]) == (None, None)


def test_an_unreadable_tensor_is_a_record_of_sums_too(paths, tmp_path):
    data = (tmp_path / "ft.safetensors").read_bytes()
    where = data.index(b"F32", data.index(b"LayerNorm"))
    (tmp_path / "ft.safetensors").write_bytes(data[:where] + b"Q32" + data[where + 3 :])
    error, layer = compare(paths[0], paths[1:2], LayerdiffConfig(by=By.layer))
    assert (error["angle"], error["name"], error["error"]["kind"]) == (None, NORM, "unknown-dtype")
    assert (layer["layer"], layer["tensors"], layer["left_out"]) == (0, 1, 1)
