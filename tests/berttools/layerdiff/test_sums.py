"""Sums by layer, group and model: of tensors laid end to end, and what they say of what was left out."""

import numpy as np
import pytest
from safetensors.numpy import save_file

from berttools.checkpoints.files import open_checkpoint
from berttools.layerdiff.diffs import diff_checkpoints
from berttools.layerdiff.sums import summarise


def write(path, tensors):
    save_file({name: np.asarray(value, np.float32) for name, value in tensors.items()}, path)
    return open_checkpoint(path)


def test_a_mean_of_means_would_differ(tmp_path):
    # A quarter turn of one entry in two, and none of the other hundred: by Pythagoras 2 asin(sqrt(2) / (2 sqrt(102))).
    base = write(tmp_path / "base", {"a.weight": [1, 0], "b.weight": np.ones(101)})
    ft = write(tmp_path / "ft", {"a.weight": [0, 1], "b.weight": np.ones(101)})
    diffs = list(diff_checkpoints(base, ft))
    assert np.mean([diff.distance.angle for diff in diffs]) == pytest.approx(0.25)
    (summary,) = summarise(diffs, "model")
    assert summary.distance.angle == pytest.approx(2 * np.arcsin(np.sqrt(2 / 102) / 2) / np.pi, rel=1e-12)
