"""Sums over several tensors against one long vector; rounding; which tensors are chosen."""

import re

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from _toolio.errors import ToolError
from berttools.checkpoints.files import open_checkpoint
from berttools.layerdiff.config import Selection
from berttools.layerdiff.diffs import diff_checkpoints
from berttools.layerdiff.distances import Measured, tensor_distance
from berttools.layerdiff.sums import summarise
from exact_distances import DISTANCES, exact

GROUPS = {"attention.self.query": "Q", "attention.self.value": "V", "intermediate.dense": "I"}


def write(path, tensors):
    save_file({name: torch.as_tensor(value).clone() for name, value in tensors.items()}, path)
    return open_checkpoint(path)


def models(tmp_path, change=1e-3, dtype=np.float32):
    rng = np.random.default_rng(0)
    base = {
        f"encoder.layer.{layer}.{part}.{kind}": (10.0**layer * rng.normal(size=(6, 5) if kind == "weight" else 6))
        for layer in (0, 1, 2)
        for part in GROUPS
        for kind in ("weight", "bias")
    } | {"pooler.dense.weight": rng.normal(size=(4, 4))}
    base = {name: value.astype(np.float32) for name, value in base.items()}
    ft = {name: (v + change * rng.normal(size=v.shape)).astype(dtype) for name, v in base.items()}
    return base, ft, write(tmp_path / "base", base), write(tmp_path / "ft", ft)


def end_to_end(tensors, wanted):
    return np.concatenate([np.asarray(v, np.float64).ravel() for name, v in sorted(tensors.items()) if wanted(name)])


@pytest.mark.parametrize("change", [1e-3, 1e-9, 0.5])
def test_sums_are_those_of_one_long_vector(tmp_path, change):
    base, ft, one, other = models(tmp_path, change, np.float64)
    diffs = list(diff_checkpoints(one, other))
    by_layer, by_group, by_model = (summarise(diffs, by) for by in ("layer", "group", "model"))
    assert [(s.layer, s.group, s.tensors) for s in by_layer] == [
        (0, None, 6),
        (1, None, 6),
        (2, None, 6),
        (None, None, 1),
    ]
    assert [(s.layer, s.group, s.tensors) for s in by_group] == [
        (None, "Q", 3), (None, "V", 3), (None, "I", 3), (None, None, 10),
    ]  # fmt: skip
    assert [s[:3] for s in by_model] == [(None, None, 19)]
    wanted = [
        (by_layer[2], lambda name: ".layer.2." in name),
        (by_group[1], lambda name: "value.weight" in name),
        (by_model[0], lambda name: True),
        (summarise(diffs, "cell")[1], lambda name: ".layer.0.attention.self.value.weight" in name),
    ]
    for summary, mine in wanted:
        a, b = end_to_end(base, mine), end_to_end(ft, mine)
        want = exact(a, b)
        assert summary.distance.n == a.size
        for field in DISTANCES:
            # The smallest change is rounded away in some entries: what is left is at the end of float64's digits.
            slack = 1e-15 if field == "angle" else 0
            assert getattr(summary.distance, field) == pytest.approx(float(want[field]), rel=1e-9, abs=slack), field


def test_opposite_and_scaled_parts_are_read_again():
    a = np.random.default_rng(0).normal(size=100)
    for b in (-a, 3 * a, a * (1 + 1e-9)):
        parts = [Measured.joined([]), *(_measured(x, y) for x, y in zip(np.split(a, 4), np.split(b, 4), strict=True))]
        joined = Measured.joined(parts).distance
        want = exact(a, b)
        assert joined.angle == pytest.approx(float(want["angle"]), abs=1e-15)
        assert joined.rel_l2 == pytest.approx(float(want["rel_l2"]), rel=1e-12)


def _measured(a, b):
    from _toolio.tensors.reader import ArrayTensor
    from berttools.layerdiff.distances import Pair, sum_window

    pair = Pair(ArrayTensor(a), ArrayTensor(b), a.size)
    return Measured(pair, [sum_window(pair, *window) for window in pair.windows()])


@pytest.mark.parametrize(("dtype", "name"), [(torch.bfloat16, "BF16"), (torch.float16, "F16")])
@pytest.mark.parametrize("coarse_is_ft", [True, False])
def test_the_angle_that_rounding_makes(tmp_path, dtype, name, coarse_is_ft):
    rng = np.random.default_rng(0)
    fine = torch.from_numpy(rng.normal(size=(40, 30)).astype(np.float32))
    moved = (fine + 0.01 * torch.from_numpy(rng.normal(size=(40, 30)).astype(np.float32))).to(dtype)
    left, right = write(tmp_path / "fine", {"w": fine, "v": fine}), write(tmp_path / "coarse", {"w": moved, "v": fine})
    base, ft = (left, right) if coarse_is_ft else (right, left)
    same, other = diff_checkpoints(base, ft)
    rounding = tensor_distance(fine.numpy(), fine.to(dtype).double().numpy()).angle
    assert other.rounding_angle == pytest.approx(rounding, rel=1e-12)
    assert 0 < other.rounding_angle < other.distance.angle
    assert same.rounding_angle is None
    assert {other.dtype_base, other.dtype_ft} == {"F32", name}
    # Added up, what has one dtype on both sides rounds to itself.
    (summary,) = summarise([same, other], "model")
    a = np.concatenate([fine.numpy().ravel()] * 2)
    b = np.concatenate([fine.numpy().ravel(), fine.to(dtype).double().numpy().ravel()])
    assert summary.rounding_angle == pytest.approx(tensor_distance(a, b).angle, rel=1e-12)


def test_a_model_that_only_was_stored_in_bfloat16_shows_it(tmp_path):
    fine = torch.randn(64, 64, generator=torch.Generator().manual_seed(0))
    base, ft = write(tmp_path / "a", {"w": fine}), write(tmp_path / "b", {"w": fine.bfloat16()})
    (diff,) = diff_checkpoints(base, ft)
    assert diff.rounding_angle == diff.distance.angle > 1e-4


@pytest.mark.parametrize("by", ["layer", "group", "model", "cell"])
@pytest.mark.parametrize("sides", ["both", "base", "ft as floats"])
def test_whole_numbers_that_are_no_weights_are_in_no_sum(tmp_path, by, sides):
    base, ft, one, other = models(tmp_path)
    without = summarise(diff_checkpoints(one, other), by)
    buffers = {
        "embeddings.position_ids": np.arange(512).reshape(1, -1),
        "embeddings.token_type_ids": np.zeros((1, 512), np.uint8),
        "encoder.layer.0.output.norm.num_batches_tracked": np.int64(9999),
        "encoder.layer.1.attention.causal": np.ones((5, 5), bool),
    }
    on_ft = {"both": buffers, "base": {}, "ft as floats": {k: np.float32(v) for k, v in buffers.items()}}[sides]
    one, other = write(tmp_path / "base2", base | buffers), write(tmp_path / "ft2", ft | on_ft)
    diffs = list(diff_checkpoints(one, other))
    found = summarise(diffs, by)
    assert [s._replace(left_out=0) for s in found] == without
    assert sum(s.left_out for s in found) == len(buffers)
    if sides != "base":  # as tensors they are compared like any other
        assert {d.name for d in diffs if d.distance is not None} >= set(buffers)


def test_quantised_weights_are_added_up(tmp_path):
    from berttools.checkpoints.quantized import with_scales

    rng = np.random.default_rng(0)
    weight, scales = rng.integers(-127, 127, (6, 5)).astype(np.int8), rng.random(6).astype(np.float32)
    base = write(tmp_path / "base", {"a.weight": weight * scales[:, None], "b.weight": np.ones((2, 2), np.float32)})
    packed = {"a.weight": weight, "a.weight_scale": scales, "b.weight": np.ones((2, 2), np.float32)}
    (summary,) = summarise(diff_checkpoints(base, with_scales(write(tmp_path / "ft", packed))), "model")
    assert (summary.tensors, summary.left_out, summary.distance.n) == (2, 0, 34)
    assert summary.distance.angle == pytest.approx(0, abs=1e-7)


def test_what_is_left_out_is_counted_and_what_is_not_finite_said(tmp_path):
    base, ft, one, _ = models(tmp_path)
    names = sorted(base)
    ft[names[0]] = np.zeros(3, np.float32)
    ft[names[6]] = np.full_like(ft[names[6]], np.nan)
    del ft[names[1]]
    diffs = list(diff_checkpoints(one, write(tmp_path / "ft2", ft)))
    layers = summarise(diffs, "layer")
    assert (layers[0].tensors, layers[0].left_out) == (4, 2)
    assert layers[1].distance.angle is None
    assert layers[1].distance.nan_ft == 6
    assert layers[1].distance.reason == "6 NaN in ft"
    (nothing,) = summarise(diffs[:1], "model")
    assert (nothing.tensors, nothing.left_out, nothing.distance.reason) == (0, 1, "nothing to compare")


def test_names_and_groups_are_chosen(tmp_path):
    *_, one, other = models(tmp_path)
    found = list(diff_checkpoints(one, other, Selection(only=re.compile(r"layer\.1\..*weight"))))
    assert [(d.layer, d.group) for d in found] == [(1, "Q"), (1, "V"), (1, "I")]
    found = list(diff_checkpoints(one, other, Selection(group=frozenset({"V"}))))
    assert [d.layer for d in found] == [0, 1, 2]
    with pytest.raises(ToolError, match="none of its 19 tensors") as caught:
        diff_checkpoints(one, other, Selection(only=re.compile("nowhere")))
    assert caught.value.kind == "nothing-chosen"
