"""Numbers of a config.json that no model has."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from _toolio.errors import ToolError
from berttools.checkpoints.config_numbers import check_numbers
from berttools.checkpoints.files import open_checkpoint
from berttools.classifier.model import open_base
from berttools.layerdiff.random_init import random_init
from tiny_models import make_tuned

BAD = [
    ("architectures", 5), ("architectures", [5]), ("model_type", 5), ("num_attention_heads", 0),
    ("num_attention_heads", -2), ("num_attention_heads", "2"), ("num_attention_heads", True), ("n_head", 1.5),
    ("num_hidden_layers", -1), ("num_hidden_layers", 10**9), ("num_hidden_layers", 10**400), ("n_layer", 0),
    ("hidden_size", 0), ("vocab_size", 10**12), ("intermediate_size", []), ("dim", [8, 0]),
    ("hidden_dropout_prob", 7), ("attention_dropout", -0.1), ("layer_norm_eps", float("nan")),
    ("initializer_range", float("inf")), ("pad_token_id", 10**30), ("pad_token_id", -7), ("type_vocab_size", "2"),
    ("head_dim", -1), ("max_position_embeddings", 0.0), ("max_position_embeddings", 12.5),
    ("num_hidden_layers", {"vision": 0}), ("num_hidden_layers", {}),
]  # fmt: skip


@pytest.mark.parametrize(("name", "value"), BAD)
def test_a_number_that_no_model_has_is_refused_by_its_name(tmp_path: Path, name: str, value: Any) -> None:
    with pytest.raises(ToolError, match=rf"{tmp_path}: {name} is ") as caught:
        check_numbers({"hidden_size": 16, name: value}, tmp_path)
    assert caught.value.kind == "bad-config"
    assert len(caught.value.message) < len(str(tmp_path)) + 200


def test_numbers_of_models_are_taken() -> None:
    check_numbers({}, Path("x"))
    check_numbers(
        {"n_inner": None, "num_heads": [2, 4, 8], "pad_token_id": -1, "dropout": 0, "layer_norm_eps": 1e-12,
         "type_vocab_size": 0, "architectures": None, "unknown": "x", "num_hidden_layers": 3},
        Path("x"),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("name", "value"),
    [("head_dim", 0), ("max_position_embeddings", 1200.0), ("num_hidden_layers", {"vision": 5, "language": 9})],
    ids=["glm5_next_text", "musicflamingo", "lxmert"],
)
def test_what_transformers_has_by_default_is_taken(name: str, value: Any) -> None:
    check_numbers({name: value}, Path("x"))


def test_what_a_token_may_be_is_said_as_it_is() -> None:
    with pytest.raises(ToolError, match=r"pad_token_id is -7, not a whole number of -1 or more, below 2\^31"):
        check_numbers({"pad_token_id": -7}, Path("x"))


@pytest.fixture
def tuned(base: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(make_tuned(base, tmp_path / "made"), tmp_path / "tuned"))


def changed(folder: Path, **fields: Any) -> Path:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))
    return folder


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"num_hidden_layers": -1}, "num_hidden_layers is -1"),
        ({"num_hidden_layers": 1}, r"its weights have bert.encoder.layer.1.*, and by its .* layers 0 to 0;"),
        ({"num_attention_heads": 0}, "num_attention_heads is 0"),
        ({"architectures": 5}, "architectures is 5"),
        ({"label2id": 5}, "label2id is no table"),
        ({"problem_type": "x"}, "problem_type is 'x', none of"),
        ({"num_labels": 0, "id2label": None, "label2id": None}, "num_labels is 0"),
        ({"hidden_act": 5}, "transformers cannot open it: .*'hidden_act'"),
    ],
)
def test_a_model_is_not_opened_by_them(tuned: Path, fields: dict[str, Any], said: str) -> None:
    with pytest.raises(ToolError, match=said) as caught:
        open_base(changed(tuned, **fields), None)
    assert "\n" not in caught.value.message


def test_nor_initialised_at_random(tuned: Path) -> None:
    with pytest.raises(ToolError, match="num_attention_heads is 0"):
        random_init(open_checkpoint(changed(tuned, num_attention_heads=0)), 0)
