"""How models store the matrices of their layers, told from files."""

from pathlib import Path

import pytest
from transformers import AutoConfig, AutoModel
from transformers.pytorch_utils import Conv1D

from _toolio.errors import ToolError
from berttools.checkpoints.files import Checkpoint, Stored
from berttools.checkpoints.lora.contents import Factors
from berttools.checkpoints.lora.layout import is_transposed, layers_that_transpose

FILE = Path("adapter_model.safetensors")


def model_of(shapes):
    return Checkpoint(
        Path("base"), {name: (Stored("F32", tuple(shape), Path("base")), None) for name, shape in shapes.items()}
    )


def factors(shape, **more):
    return Factors(
        "a",
        "b",
        **({"embedding": False, "parameter": False} | more),
        magnitude=None,
        diagonal=None,
        bias=None,
        shape=shape,
        rank=1,
        scale=1.0,
    )


def transposed(base, name, found, flag=False):
    return is_transposed(FILE, base, name, base.tensors[name].shape, found, layers_that_transpose(base), flag=flag)


@pytest.mark.parametrize("flag", [False, True])
@pytest.mark.parametrize("kind", ["bert", "gpt2", "roberta", "distilbert", "llama", "openai-gpt"])
def test_models_of_transformers(kind, flag):
    sizes = {
        "hidden_size": 8,
        "intermediate_size": 12,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "vocab_size": 20,
    }
    other = {
        "gpt2": {"n_embd": 8, "n_layer": 1, "n_head": 2}, "openai-gpt": {"n_embd": 8, "n_layer": 1, "n_head": 2},
        "distilbert": {"dim": 8, "hidden_dim": 12, "n_layers": 1, "n_heads": 2},
    }  # fmt: skip
    model = AutoModel.from_config(
        AutoConfig.for_model(kind, **({"vocab_size": 20} | other[kind] if kind in other else sizes))
    )
    base = model_of({name: value.shape for name, value in model.state_dict().items()})
    checked = 0
    for name, layer in model.named_modules():
        if type(layer).__name__ in ("Linear", "Conv1D"):
            shape = tuple(layer.weight.shape)
            found = factors(shape[::-1] if isinstance(layer, Conv1D) else shape)
            assert transposed(base, f"{name}.weight", found, flag) == isinstance(layer, Conv1D), name
            checked += 1
    assert checked >= 4


def test_nothing_but_the_flag_says_it():
    base = model_of({"a.weight": (4, 4), "a.bias": (4,)})
    assert not transposed(base, "a.weight", factors((4, 4)))
    assert transposed(base, "a.weight", factors((4, 4)), flag=True)


def test_embeddings_and_parameters():
    base = model_of({"e.weight": (4, 4), "p.weight": (4, 4), "p.bias": (4,)})
    assert transposed(base, "e.weight", factors((4, 4), embedding=True))
    assert not transposed(base, "p.weight", factors((4, 4), parameter=True), flag=True)


@pytest.mark.parametrize(
    ("shape", "found", "words"),
    [
        ((4, 5), factors((4, 6)), "own base"),
        ((4, 5), factors((5, 4), embedding=True), "own base"),
        ((4, 5), factors((5, 4), parameter=True), "own base"),
        ((2, 4, 5), factors((4, 5)), "3 dimensions"),
        ((4,), factors((4, 5)), "1 dimensions"),
    ],
)
def test_other_shapes(shape, found, words):
    with pytest.raises(ToolError, match=words):
        transposed(model_of({"a.weight": shape}), "a.weight", found)
