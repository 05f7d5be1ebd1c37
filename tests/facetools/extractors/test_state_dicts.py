"""Sizes read from state dicts, and loading that names every mismatch."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from facetools.extractors.state_dicts import (
    MismatchedTensorsError,
    TensorMismatch,
    beneath,
    count_of,
    flat,
    load_exactly,
    prefix_of,
    shape_of,
    stages_of,
    with_identity,
)


def test_one_network_is_cut_out_of_a_checkpoint() -> None:
    inner = {"conv1.weight": torch.ones(2), "bn.num_batches_tracked": torch.tensor(3), "bn.weight": torch.ones(2)}
    state = {f"features.module.{key}": value for key, value in inner.items()} | {"head.weight": torch.ones(1)}
    assert prefix_of(state, "conv1.weight") == "features.module."
    assert set(beneath(state, "conv1.weight")) == {"conv1.weight", "bn.weight"}
    # An anchor that occurs twice decides nothing.
    twice = state | {"other.conv1.weight": torch.ones(2)}
    assert prefix_of(twice, "conv1.weight") is None
    assert set(beneath(twice, "conv1.weight")) == set(twice) - {"features.module.bn.num_batches_tracked"}


def test_a_normalisation_without_scale_and_shift_gets_them() -> None:
    state = {"bn.running_mean": torch.zeros(3)}
    added = with_identity(state, "bn")
    assert (added["bn.weight"].tolist(), added["bn.bias"].tolist()) == ([1.0] * 3, [0.0] * 3)
    known = state | {"bn.weight": torch.full((3,), 2.0)}
    assert with_identity(known, "bn") == known
    assert with_identity({}, "bn") == {}


def test_shapes_counts_and_stages() -> None:
    state = {f"layer{s}.{b}.conv2.weight": torch.zeros(8 * s, 4, 3, 3) for s in range(1, 5) for b in range(s)}
    state["conv1.weight"] = torch.zeros(64, 3, 7, 7)
    assert shape_of(state, "conv1.weight", 4) == (64, 3, 7, 7)
    assert count_of(state, "layer3.") == 3
    assert stages_of(state) == ([1, 2, 3, 4], [64, 8, 16, 24, 32])
    with pytest.raises(ValueError, match=r"conv1\.weight is \(64, 3, 7, 7\), which are not 2 axes"):
        shape_of(state, "conv1.weight", 2)
    with pytest.raises(ValueError, match=r"missing fc\.weight"):
        shape_of(state, "fc.weight", 2)
    with pytest.raises(ValueError, match=r"fc\.bias is \(0,\), which holds nothing"):
        shape_of({"fc.bias": torch.ones(0)}, "fc.bias", 1)
    with pytest.raises(ValueError, match=r"missing layer9\.0"):
        count_of(state, "layer9.")
    # A damaged name must not build a million blocks.
    assert count_of({"layer1.999999.x": torch.zeros(1)}, "layer1.") == 1


def test_maps_are_flattened_for_a_layer_of_their_width() -> None:
    assert flat(torch.zeros(2, 3, 4, 5), nn.Linear(60, 7)).shape == (2, 60)
    with pytest.raises(ValueError, match="the last map is 3x4x5, 60 numbers, where the embedding layer takes 61"):
        flat(torch.zeros(2, 3, 4, 5), nn.Linear(61, 7))


def test_loading_is_exact_and_names_every_mismatch() -> None:
    with torch.device("meta"):
        network = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))
    state = {key: torch.zeros(value.shape, dtype=torch.float16) for key, value in network.state_dict().items()}
    del state["1.num_batches_tracked"]
    loaded = load_exactly(network, state)
    assert {value.dtype for value in loaded.parameters()} == {torch.float32}
    wrong = {**state, "more": torch.zeros(4), "0.weight": torch.zeros(2, 5)}
    del wrong["0.bias"]
    with pytest.raises(MismatchedTensorsError) as caught:
        load_exactly(network, wrong)
    assert caught.value.problems == (
        TensorMismatch("missing", "0.bias", None, (2,)),
        TensorMismatch("unknown", "more", (4,), None),
        TensorMismatch("shape", "0.weight", (2, 5), (2, 3)),
    )
    assert str(caught.value) == "missing 0.bias (2,); unknown more (4,); 0.weight is (2, 5), not (2, 3)"
