"""What wraps a module is dropped from names; what is a model's own is not."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from berttools.checkpoints.names.wrappers import bare_names, unwrapped

NAME = "encoder.layer.0.attention.self.query.weight"


@pytest.mark.parametrize(
    "name",
    [
        f"_orig_mod.{NAME}", f"module._orig_mod.{NAME}", f"_forward_module.module.{NAME}",
        f"base_model.model.{NAME}", f"0.auto_model.{NAME}", f"_fsdp_wrapped_module.{NAME}",
        "encoder.layer.0._fsdp_wrapped_module._checkpoint_wrapped_module.attention.self.query.weight",
        "encoder.layer.0._orig_mod.attention.module.self.query.weight",
        "encoder.base_model.model.layer.0.attention._fpw_module.self.query.weight",
    ],
)  # fmt: skip
def test_wrappers_wherever_they_stand(name):
    assert unwrapped(name) == NAME


def test_names_that_torch_itself_makes():
    model = nn.Sequential(nn.Linear(2, 2))
    wrapped = [torch.compile(model), nn.DataParallel(model), torch.compile(nn.DataParallel(model))]
    for each in wrapped:
        assert sorted(map(unwrapped, each.state_dict())) == ["0.bias", "0.weight"]


@pytest.mark.parametrize("name", ["modules.0.weight", "my_module.weight", "base_model.weight", "a.module", "_orig_mod"])
def test_what_is_no_wrapper(name):
    assert unwrapped(name) == name


def test_two_names_stay_two():
    names = ["a.weight", "a.module.weight", "a._orig_mod.module.weight"]
    assert bare_names(names, maybe=True) == {
        "a.weight": "a.weight", "a.module.weight": "a.module.weight",
        "a._orig_mod.module.weight": "a._orig_mod.module.weight",
    }  # fmt: skip
    assert bare_names(["x.module.weight"], maybe=True) == {"x.weight": "x.module.weight"}
    assert bare_names(["x.module.weight"], maybe=False) == {"x.module.weight": "x.module.weight"}


PARTS = st.sampled_from(["a", "module", "_orig_mod", "base_model", "model", "weight", "0"])


@given(st.sets(st.lists(PARTS, min_size=1, max_size=5).map(".".join), max_size=12), st.booleans())
def test_every_name_is_kept_once(names, maybe):
    assert sorted(bare_names(names, maybe=maybe).values()) == sorted(names)
