"""The random-initialisation baseline: a model of the same configuration, decided by its seed."""

import numpy as np
import pytest
import torch

from _toolio.errors import ToolError
from berttools.checkpoints.files import open_checkpoint
from berttools.layerdiff import LayerdiffConfig
from berttools.layerdiff.random_init import random_init
from berttools.layerdiff.records import baseline_of


def values(model, name):
    return model.flat(name).values(0, model.tensors[name].size)


def test_a_seed_decides_and_the_processs_generator_is_left_alone(base):
    opened, state = open_checkpoint(base), torch.random.get_rng_state()
    one, again, other = (random_init(opened, seed) for seed in (3, 3, 4))
    assert torch.equal(torch.random.get_rng_state(), state)
    assert one.tensors.keys() == opened.tensors.keys()
    name = "encoder.layer.0.attention.self.query.weight"
    assert {one.tensors[each].shape == opened.tensors[each].shape for each in opened.tensors} == {True}
    assert np.array_equal(values(one, name), values(again, name))
    assert not np.array_equal(values(one, name), values(other, name))
    distances = baseline_of(opened, LayerdiffConfig(baseline=True, seed=3))
    assert distances[name, None].angle == pytest.approx(0.5, abs=0.1), "two random matrices are orthogonal"


def test_there_is_none_without_a_configuration(base):
    with pytest.raises(ToolError, match=r"no config\.json to initialise a model from") as refused:
        random_init(open_checkpoint(base / "model.safetensors"), 0)
    assert refused.value.kind == "bad-config"
