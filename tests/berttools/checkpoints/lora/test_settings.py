"""Ranks, scales and rows by the names of modules. What is refused, and PEFT's own reading, is in test_with_peft."""

import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from peft.utils.other import get_pattern_key

from _toolio.errors import ToolError
from berttools.checkpoints.lora.settings import Initial, read_settings
from json_values import objects

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


@pytest.mark.parametrize(
    ("pattern", "why"),
    [
        (r"([\w.]+)+!", "repeats what repeats"),
        (r"(q)(.*)\3", "refers back"),
        ("q" * 501, "characters"),
        ("(?i:query)", "subpattern"),
        ("((", "rank_pattern is damaged"),
    ],
)
def test_patterns_that_could_take_forever(pattern, why):
    with pytest.raises(ToolError, match=why) as caught:
        settings(rank_pattern={pattern: 4})
    assert len(caught.value.message) < 250
    assert caught.value.kind == "adapter"


CONFIG = objects(
    peft_type=["LORA"], r=[4], lora_alpha=[8], rank_pattern=objects(**{"query": [2], "(a*)*": [1], "((": [1]}),
    alpha_pattern=objects(key=[3.0]), use_rslora=[True], init_lora_weights=["pissa", True, "OLoRA"],
    kasa_config=[{"a": 1}], use_dora=[True], lora_bias=[False], fan_in_fan_out=[True],
    target_parameters=[["a.b"], "a.b"], trainable_token_indices=[[1], {"wte": [2]}, {"wte": 2}], bias=["none", "all"],
    velora_config=[{}], layer_replication=[[]], of_tomorrow=[False],
)  # fmt: skip


@given(CONFIG, st.sampled_from(NAMES))
def test_whatever_a_configuration_says_is_read_or_refused(config, name):
    try:
        found = read_settings(FOLDER, {"peft_type": "LORA", "r": 4, "lora_alpha": 8} | config)
    except ToolError as error:
        assert error.kind == "adapter"
        return
    assert found.rank_of(name) is None or found.rank_of(name) > 0
    assert math.isfinite(found.scale(name, 4))
    assert all(type(row) is int for row in found.rows_of(name))
