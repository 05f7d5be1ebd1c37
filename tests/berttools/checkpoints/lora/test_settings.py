"""Ranks, scales and rows by the names of modules. What is refused, and PEFT's own reading, is in test_with_peft."""

import math
from pathlib import Path

import pytest
from peft.utils.other import get_pattern_key

from _toolio.errors import ToolError
from berttools.checkpoints.lora.settings import Initial, read_settings

FOLDER = Path("adapter")


def settings(**config):
    return read_settings(FOLDER, {"peft_type": "LORA", "r": 4, "lora_alpha": 8} | config)


NAMES = ["query", "layer.1.query", "layer.11.query", "layer.1.subquery", "a.query.b", "x|y"]


@pytest.mark.parametrize(
    "pattern", ["query", "^query", "layer.1.*", "1.query", "^layer.1.query$", "q|layer.1.query", "sub.*"]
)
def test_patterns_match_as_in_peft(pattern):
    found = settings(rank_pattern={pattern: 2, "query": 3}, alpha_pattern={pattern: 5})
    for name in NAMES:
        ranks = {pattern: 2, "query": 3} if pattern != "query" else {"query": 3}
        assert found.rank_of(name) == ranks.get(get_pattern_key(ranks.keys(), name), 4)
        assert found.scale(name, 2) == {pattern: 5}.get(get_pattern_key([pattern], name), 8) / 2


def test_scales():
    assert settings().scale("query", 4) == 2
    assert settings(use_rslora=True).scale("query", 4) == 8 / math.sqrt(4)
    assert settings(use_rslora=None).scale("query", 4) == 2


def test_rows_of_embeddings():
    assert settings(trainable_token_indices=[3, 1]).rows_of("any.embedding") == [3, 1]
    found = settings(trainable_token_indices={"word_embeddings": [3], "wte": [1]})
    assert [found.rows_of(name) for name in ("a.word_embeddings", "wte", "lm_head", "my_wte")] == [[3], [1], (), ()]


def test_initialisations_in_the_spellings_of_peft():
    named = {
        None: Initial.nothing, True: Initial.nothing, "Gaussian": Initial.nothing, "eva": Initial.nothing,
        "pissa": Initial.principal, "OLoRA": Initial.first_columns,
    }  # fmt: skip
    for text, initial in named.items():
        assert settings(init_lora_weights=text).initial == initial
    with pytest.raises(ToolError, match="not known here"):
        settings(init_lora_weights="PiSSA")  # which PEFT does not know either


def test_what_asks_for_nothing_is_no_matter():
    found = settings(arrow_config=None, use_of_tomorrow=False, rank_pattern=None, layer_replication=[], loftq_config={})
    assert found == settings()


def test_what_ms_swift_writes_of_training_is_no_matter():
    # The defaults of its LoRAConfig, which older versions write into adapter_config.json; none is read after training.
    assert settings(lora_dtype="fp32", lorap_lr_ratio=16.0, lorap_emb_lr=1e-06, model_key_mapping=None) == settings()
    # Those that change what the factors are of are refused.
    for field in ("use_qa_lora", "use_merged_linear"):
        assert settings(**{field: False}) == settings()
        with pytest.raises(ToolError, match=f"LoRA with {field}, which is not known here"):
            settings(**{field: True})
