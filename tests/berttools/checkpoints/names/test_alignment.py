"""Names of two models are matched, whatever wraps them."""

import re

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import save_file

from berttools.checkpoints.files import open_checkpoint
from berttools.checkpoints.names import AmbiguousNamesError, align_names, base_names, modern_name

BARE = {
    "embeddings.word_embeddings.weight": (9, 4),
    "embeddings.LayerNorm.weight": (4,),
    "embeddings.LayerNorm.bias": (4,),
    **{
        f"encoder.layer.{n}.{part}": shape
        for n in range(3)
        for part, shape in (("attention.self.query.weight", (4, 4)), ("output.LayerNorm.bias", (4,)))
    },
    "pooler.dense.weight": (4, 4),
}


def under(prefix, names=BARE):
    return {prefix + name: shape for name, shape in names.items()}


@pytest.mark.parametrize("prefix", ["bert.", "roberta.", "distilbert.", "model.", "module.bert.", "my_net."])
def test_a_prefix_on_either_side(prefix):
    want = {prefix + name: name for name in BARE}
    head = {"classifier.weight": (2, 4), "classifier.bias": (2,)}
    there = align_names(under(prefix), BARE | head)
    assert there.pairs == want
    assert there.only_base == []
    assert there.only_ft == sorted(head)
    back = align_names(BARE, under(prefix) | head)
    assert back.pairs == {bare: name for name, bare in want.items()}


def test_two_different_prefixes():
    assert align_names(under("bert."), under("roberta.")).pairs == {f"bert.{n}": f"roberta.{n}" for n in BARE}


def test_a_model_without_its_encoder_part():
    bare = {name.removeprefix("encoder."): shape for name, shape in BARE.items()}
    pairs = align_names(under("bert."), bare).pairs
    assert pairs == {f"bert.{name}": name.removeprefix("encoder.") for name in BARE}


def test_legacy_layer_norm_names():
    legacy = {
        name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta"): shape
        for name, shape in under("bert.").items()
    }
    names = align_names(legacy, BARE)
    assert len(names.pairs) == len(BARE)
    assert names.pairs["bert.embeddings.LayerNorm.gamma"] == "embeddings.LayerNorm.weight"
    assert names.pairs["bert.embeddings.LayerNorm.beta"] == "embeddings.LayerNorm.bias"


def test_nothing_is_taken_off_for_nothing():
    both = under("bert.") | {"cls.predictions.bias": (9,)}
    assert align_names(both, both).pairs == {name: name for name in both}
    # An encoder and a decoder of the same form must not be matched with each other.
    pair = under("encoder.") | under("decoder.")
    assert align_names(pair, pair).pairs == {name: name for name in pair}


def test_heads_do_not_meet_by_accident():
    base = under("bert.") | {"cls.seq_relationship.bias": (2,), "cls.seq_relationship.weight": (2, 4)}
    ft = under("bert.") | {"qa_outputs.bias": (2,), "qa_outputs.weight": (2, 4)}
    names = align_names(base, ft)
    assert names.pairs == {name: name for name in under("bert.")}
    assert names.only_ft == ["qa_outputs.bias", "qa_outputs.weight"]


def test_models_with_nothing_in_common():
    other = {f"transformer.h.{n}.attn.c_attn.weight": (4, 12) for n in range(3)} | {"transformer.ln_f.weight": (4,)}
    names = align_names(BARE, other)
    assert names.pairs == {}
    assert (names.only_base, names.only_ft) == (sorted(BARE), sorted(other))
    assert align_names({}, BARE).pairs == {}


NAMES = st.dictionaries(
    st.lists(st.sampled_from(["bert", "model", "layer", "0", "LayerNorm", "gamma", "weight"]), min_size=1, max_size=4)
    .map(".".join),
    st.sampled_from([(1,), (2, 2)]),
    max_size=12,
)  # fmt: skip


@given(NAMES, NAMES)
@settings(max_examples=300, deadline=None)
def test_every_name_ends_in_one_place(base, ft):
    try:
        names = align_names(base, ft)
    except AmbiguousNamesError as refused:  # only where two names of one side end alike
        ends = [name.rpartition(".")[2] for side in (base, ft) for name in side]
        assert len(set(ends)) < len(ends), refused
        return
    assert sorted([*names.pairs, *names.only_base]) == sorted(base)
    assert sorted([*names.pairs.values(), *names.only_ft]) == sorted(ft)
    assert list(names.pairs) == sorted(names.pairs)


@given(NAMES)
@settings(max_examples=100, deadline=None)
def test_a_model_meets_itself_under_its_own_names(names):
    same = align_names(names, names)
    assert same.pairs == {name: name for name in names}


def test_prefixes_are_taken_off():
    base = {"teacher.one.w": (2, 2), "teacher.two.w": (3,), "rest": (1,)}
    ft = {"student_net.one.w": (2, 2), "student_net.two.w": (3,), "one.w": (9, 9)}
    names = align_names(base, ft, strip=["teacher.", "student_net."])
    assert names.pairs["teacher.two.w"] == "student_net.two.w"
    assert names.only_base == ["rest"]
    assert sorted([*names.pairs.values(), *names.only_ft]) == sorted(ft)
    assert align_names(base, base, strip=["teacher."]).pairs == {name: name for name in base}


def test_names_of_today():
    assert modern_name("bert.embeddings.LayerNorm.gamma") == "bert.embeddings.LayerNorm.weight"
    assert modern_name("norm1.beta") == "norm1.bias"
    assert modern_name("encoder.gamma") == "encoder.gamma"


def test_a_models_names_in_its_bases_files(tmp_path):
    save_file({"encoder.a": np.zeros((2, 3), np.float32), "encoder.b": np.zeros(4, np.float32)}, tmp_path / "base")
    base = open_checkpoint(tmp_path / "base")
    assert base_names(base, {"bert.encoder.a": (2, 3), "bert.encoder.b": (4,)}) == {
        "bert.encoder.a": "encoder.a", "bert.encoder.b": "encoder.b",
    }  # fmt: skip
    assert base_names(base, {"bert.encoder.a": (2, 3), "bert.encoder.b": (5,)}) == {"bert.encoder.a": "encoder.a"}


WRAPPED = [
    lambda name: f"_orig_mod.{name}",
    lambda name: name.replace("encoder.layer.", "encoder._orig_mod.layer."),
    lambda name: re.sub(r"(layer\.\d)\.", r"\1._fsdp_wrapped_module._checkpoint_wrapped_module.", name),
    lambda name: f"_forward_module.module.{name}".replace("attention", "attention.module"),
    lambda name: f"0.auto_model.{name}",
    lambda name: f"base_model.model.bert.{name}".replace("encoder", "encoder.base_model.model"),
    # One layer of three: FSDP wraps some modules and leaves others.
    lambda name: name.replace("layer.1.", "layer.1._fsdp_wrapped_module."),
]


@pytest.mark.parametrize("wrap", WRAPPED)
def test_wrappers_anywhere_in_a_name(wrap):
    wrapped = {wrap(name): shape for name, shape in BARE.items()}
    assert wrapped.keys() != BARE.keys()
    assert align_names(BARE, wrapped).pairs == {name: wrap(name) for name in BARE}
    assert align_names(wrapped, BARE).pairs == {wrap(name): name for name in BARE}
    assert align_names(wrapped, wrapped).pairs == {name: name for name in wrapped}


def test_a_module_of_that_name_stays():
    base = {"net.w": (2, 2), "net.module.w": (2, 2)}
    assert align_names(base, {"net.module.w": (2, 2)}).pairs == {"net.module.w": "net.module.w"}
    assert align_names(base, base).pairs == {name: name for name in base}
    assert align_names(base, {f"module.{name}": shape for name, shape in base.items()}).pairs == {
        name: f"module.{name}" for name in base
    }


def norms_of(function, **options):
    module = torch.nn.Sequential(function(torch.nn.Conv1d(4, 4, 3), **options), torch.nn.Linear(4, 4))
    return {name: tuple(tensor.shape) for name, tensor in module.state_dict().items()}


@pytest.mark.parametrize("kind", ["weight_norm", "spectral_norm"])
@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_norms_of_weights_in_both_spellings_of_torch(kind):
    old = norms_of(getattr(torch.nn.utils, kind))
    new = norms_of(getattr(torch.nn.utils.parametrizations, kind))
    names = align_names(old, new)
    assert old.keys() != new.keys()
    assert names.only_base == names.only_ft == []
    want = {
        "weight_norm": {"0.weight_g": "0.parametrizations.weight.original0",
                        "0.weight_v": "0.parametrizations.weight.original1"},
        "spectral_norm": {"0.weight_orig": "0.parametrizations.weight.original",
                          "0.weight_u": "0.parametrizations.weight.0._u",
                          "0.weight_v": "0.parametrizations.weight.0._v"},
    }[kind]  # fmt: skip
    assert {name: other for name, other in names.pairs.items() if name != other} == want
    assert align_names(new, old).pairs == {other: name for name, other in names.pairs.items()}
