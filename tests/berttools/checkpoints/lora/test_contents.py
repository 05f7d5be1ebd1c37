"""Names in adapters' files, as PEFT and its older versions write them."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from _toolio.errors import ToolError
from berttools.checkpoints.files import open_checkpoint
from berttools.checkpoints.lora.contents import read_contents
from berttools.checkpoints.lora.settings import read_settings

SIZES = {
    "lora_A": (2, 5), "lora_B": (4, 2), "lora_embedding_A": (2, 9), "lora_embedding_B": (5, 2),
    "lora_magnitude_vector": (4,), "lora_diag": (2,), "token_adapter.trainable_tokens_delta": (1, 5),
}  # fmt: skip
PAIR = ["q.lora_A.weight", "q.lora_B.weight"]


def contents(folder, names, sizes=SIZES, dtype=torch.float32, **config):
    tensors = {}
    for name in names:
        part = next((part for part in sizes if f".{part}" in name), "")
        shape = (4,) if name.endswith(".bias") else sizes.get(part, (4, 5))
        tensors[f"base_model.model.{name}"] = torch.zeros(shape, dtype=dtype)
    save_file(tensors, folder / "adapter_model.safetensors")
    settings = read_settings(folder, {"peft_type": "LORA", "r": 2, "lora_alpha": 8} | config)
    file = folder / "adapter_model.safetensors"
    return read_contents(file, open_checkpoint(file), settings)


@pytest.mark.parametrize("adapter", ["", ".default", ".my_own"])
def test_factors(tmp_path, adapter):
    names = [f"q.lora_A{adapter}.weight", f"q.lora_B{adapter}.weight", f"q.lora_magnitude_vector{adapter}"]
    found = contents(tmp_path, names, use_dora=True).factors["q.weight"]
    assert (found.a, found.b, found.magnitude) == tuple(f"base_model.model.{name}" for name in names)
    assert (found.shape, found.rank, found.scale, found.embedding) == ((4, 5), 2, 4.0, False)


def test_embeddings_rows_and_whole_tensors(tmp_path):
    names = [
        "e.lora_embedding_A", "e.lora_embedding_B", "e.base_layer.weight", "t.token_adapter.trainable_tokens_delta",
        "c.weight", "c.modules_to_save.default.bias", "q.base_layer.bias",
    ]  # fmt: skip
    found = contents(tmp_path, names, trainable_token_indices=[3])
    assert (found.factors["e.weight"].embedding, found.factors["e.weight"].shape) == (True, (9, 5))
    assert found.rows["t.weight"].rows == [3]
    assert found.whole.keys() == {"e.weight", "c.weight", "c.bias", "q.bias"}


def test_parameters(tmp_path):
    found = contents(tmp_path, PAIR, target_parameters=["q.in_proj_weight"], alpha_pattern={"q.in_proj_weight": 2})
    assert found.factors["q.in_proj_weight"].parameter
    assert found.factors["q.in_proj_weight"].scale == 1
    found = contents(tmp_path, PAIR, target_parameters=["other.in_proj_weight", "subq.weight"])
    assert not found.factors["q.weight"].parameter
    nested = [*PAIR, "q.base_layer.lora_A.weight", "q.base_layer.lora_B.weight"]
    with pytest.raises(ToolError, match="two parameters of q"):
        contents(tmp_path, nested, target_parameters=["q.one", "q.two"])


def test_tensors_of_training_alone(tmp_path):
    names = [*PAIR, "q.lora_velora_embed", "q.lora_monteclora_sampler.std_prior"]
    config = {"velora_config": {"num_groups": 2}, "monteclora_config": {"num_samples": 8}}
    assert contents(tmp_path, names, **config).factors.keys() == {"q.weight"}
    with pytest.raises(ToolError, match="no plain LoRA"):
        contents(tmp_path, names, velora_config={"num_groups": 2})


@pytest.mark.parametrize(
    ("names", "sizes", "config", "words"),
    [
        ([*PAIR, "q.lora_magnitude_vector"], {}, {}, "holds .*magnitude"),
        ([*PAIR, "q.lora_B.bias"], {}, {}, "holds .*bias"),
        ([*PAIR, "q.lora_diag"], {}, {}, "holds .*diag"),
        ([*PAIR, "q.lora_of_tomorrow"], {}, {}, "holds .*tomorrow"),
        (["t.token_adapter.trainable_tokens_delta"], {}, {}, "no plain LoRA"),
        (["t.token_adapter.trainable_tokens_delta"], {}, {"trainable_token_indices": [1, 2]}, "1 rows"),
        (["t.token_adapter.trainable_tokens_delta"], {}, {"trainable_token_indices": [-1]}, "each once"),
        ([*PAIR, "q.lora_magnitude_vector"], {"lora_magnitude_vector": (5,)}, {"use_dora": True}, "4 numbers"),
        (PAIR, {"lora_A": (0,)}, {}, "no factors of a matrix"),
        (PAIR, {"lora_A": (0, 5), "lora_B": (4, 0)}, {}, "no factors of a matrix"),
        (PAIR, {"lora_A": (2, 5, 3, 3), "lora_B": (4, 2, 1, 1)}, {}, "no factors of a matrix"),
        (PAIR, {"lora_A": (3, 5), "lora_B": (4, 3)}, {}, "rank 3, and its adapter_config.json says 2"),
    ],
)
def test_what_the_settings_do_not_account_for(tmp_path, names, sizes, config, words):
    with pytest.raises(ToolError, match=words) as caught:
        contents(tmp_path, names, SIZES | sizes, **config)
    assert str(Path(tmp_path)) in caught.value.message


def test_integers_are_no_factors(tmp_path):
    with pytest.raises(ToolError, match="I8, no weights"):
        contents(tmp_path, PAIR, dtype=torch.int8)
