"""Texts as tokens, and how they are dealt out to steps."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tokenizers
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import PreTrainedTokenizerFast

from _toolio.errors import ToolError
from berttools.texts.batches import collate, draw_steps, encode
from berttools.texts.examples import Example


@pytest.fixture(scope="module")
def tokenizer(base: Path) -> object:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(base)


@settings(deadline=None)
@given(st.lists(st.integers(1, 200), min_size=1, max_size=400), st.integers(1, 40), st.integers(0, 3))
def test_every_example_is_in_one_step(lengths: list[int], batch: int, seed: int) -> None:
    steps = draw_steps(np.array(lengths), batch, seed=seed, epoch=0)
    assert sorted(np.concatenate(steps)) == list(range(len(lengths)))
    assert sorted(map(len, steps))[1:] == [batch] * (len(steps) - 1)


def test_steps_are_of_like_length_and_in_mixed_order() -> None:
    lengths = np.random.default_rng(0).integers(4, 100, size=3200)
    steps = draw_steps(lengths, 32, seed=0, epoch=0)
    padded = sum(lengths[step].max() * len(step) for step in steps)
    at_random = sum(part.max() * 32 for part in lengths.reshape(-1, 32))
    assert padded < 1.05 * lengths.sum() < at_random / 1.5
    means = [lengths[step].mean() for step in steps]
    assert abs(np.corrcoef(means, range(len(means)))[0, 1]) < 0.3


def test_order_follows_from_seed_and_epoch() -> None:
    lengths = np.arange(100)
    first, again, other, later = (
        np.concatenate(draw_steps(lengths, 8, seed=seed, epoch=epoch)).tolist()
        for seed, epoch in ((1, 0), (1, 0), (2, 0), (1, 1))
    )
    assert first == again
    assert first not in (other, later)


def test_what_is_too_long_is_cut_and_counted(tokenizer: object) -> None:
    long, pair = Example("l", "good " * 30), Example("l", "fine " * 20, "bad " * 5)
    short = Example("l", "good film")
    found = encode(tokenizer, [long, pair, short], most=12)
    assert [len(each) for each in found] == [12, 12, 4]
    assert [each.cut for each in found] == [20, 16, 0]
    # Of a pair the longer text loses; both end as they would have.
    types = found[1].types
    assert types is not None
    assert types.tolist() == [0] * 7 + [1] * 5
    assert found[0].ids[-1] == found[1].ids[-1] == found[2].ids[-1]


def test_a_tokenizer_that_fails_on_a_text() -> None:
    """One that has no token for unknown words."""
    words = tokenizers.Tokenizer(tokenizers.models.WordLevel({"good": 0}, unk_token="[UNK]"))
    fast = PreTrainedTokenizerFast(tokenizer_object=words)
    assert [each.ids.tolist() for each in encode(fast, [Example("line 1", "good")], most=9)] == [[0]]
    with pytest.raises(ToolError, match=r"^line 2: the tokenizer of .* fails on this: .*UNK"):
        encode(fast, [Example("line 1", "good"), Example("line 2", "bad")], most=9)


def test_singles_and_pairs_keep_their_places(tokenizer: object) -> None:
    mixed = [Example("l", "good"), Example("l", "bad", "film"), Example("l", "fine day")]
    together = encode(tokenizer, mixed, most=48)
    for example, found in zip(mixed, together, strict=True):
        assert found.ids.tolist() == encode(tokenizer, [example], most=48)[0].ids.tolist()


def test_padding_is_masked(tokenizer: object) -> None:
    texts = encode(tokenizer, [Example("l", "good"), Example("l", "bad film was dull")], most=48)
    laid = collate(texts, 0, torch.device("cpu"))
    assert laid["input_ids"].shape == (2, 6)
    assert laid["attention_mask"].tolist() == [[1, 1, 1, 0, 0, 0], [1] * 6]
    assert laid["input_ids"][0, 3:].tolist() == [0, 0, 0]
