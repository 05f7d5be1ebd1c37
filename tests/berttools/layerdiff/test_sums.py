"""Sums by layer, group and model: of tensors laid end to end, and what they say of what was left out."""

import numpy as np
import pytest
from safetensors.numpy import save_file

from berttools.checkpoints.files import open_checkpoint
from berttools.checkpoints.groups import By
from berttools.layerdiff.diffs import diff_checkpoints
from berttools.layerdiff.records import summary_record
from berttools.layerdiff.sums import summarise


def write(path, tensors):
    save_file({name: np.asarray(value, np.float32) for name, value in tensors.items()}, path)
    return open_checkpoint(path)


def test_a_mean_of_means_would_differ(tmp_path):
    # A quarter turn of two entries and none of the others: the chord is sqrt(2), the lengths are sqrt(102).
    base = write(tmp_path / "base", {"a.weight": [1, 0], "b.weight": np.ones(101)})
    ft = write(tmp_path / "ft", {"a.weight": [0, 1], "b.weight": np.ones(101)})
    diffs = list(diff_checkpoints(base, ft))
    assert np.mean([diff.distance.angle for diff in diffs]) == pytest.approx(0.25)
    (summary,) = summarise(diffs, "model")
    assert summary.distance.angle == pytest.approx(2 * np.arcsin(np.sqrt(2 / 102) / 2) / np.pi, rel=1e-12)


def test_sums_say_which_rows_are_in_none(tmp_path):
    table, layer = np.random.default_rng(0).normal(size=(30, 4)), np.eye(4)
    names = ("embeddings.word_embeddings.weight", "lm_head.weight", "layer.0.attention.self.query.weight")
    whole, cut = (dict(zip(names, (table[:n], table[:n] + 1, layer), strict=True)) for n in (30, 20))
    base, ft = write(tmp_path / "base", whole), write(tmp_path / "ft", cut)
    for models, new, gone in (((base, ft), 0, 20), ((ft, base), 20, None)):
        (summary,) = summarise(diff_checkpoints(*models), "model")
        assert (summary.distance.angle, summary.left_out, summary.distance.n) == (0, 0, 2 * 80 + 16)
        assert (summary.rows_new, summary.rows_gone, summary.vocabulary) == (new, gone or 0, "unchecked")
        record = summary_record(summary, By.model)
        assert (record["rows_new"], record.get("rows_gone"), record["vocabulary"]) == (new, gone, "unchecked")
        rest = summarise(diff_checkpoints(*models), "layer")
        assert [(each.layer, each.rows_new, each.rows_gone) for each in rest] == [
            (0, None, None),
            (None, new, gone or 0),
        ]
    (same,) = summarise(diff_checkpoints(base, base), "model")
    assert not {"rows_new", "rows_gone", "vocabulary", "only_in"} & summary_record(same, By.model).keys()
