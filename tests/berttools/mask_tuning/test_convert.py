"""Linear layers become masked ones, and linear ones again."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from _toolio.errors import ToolError
from berttools.classifier.model import Classifier
from berttools.mask_tuning.convert import can_mask, mask_model, unmask_model
from berttools.mask_tuning.draws import Draws
from berttools.mask_tuning.masked_linear import MaskedLinear
from berttools.mask_tuning.recipe import Pattern, Recipe


def matrices(classifier: Classifier) -> list[str]:
    return [
        name
        for name, _ in classifier.model.named_parameters()
        if ".layer." in name and can_mask(classifier.model, name)
    ]


def test_queries_that_share_keys_have_heads_of_their_own() -> None:
    from transformers import LlamaConfig, LlamaForSequenceClassification

    config = LlamaConfig(
        vocab_size=20, hidden_size=32, intermediate_size=16, num_hidden_layers=1, num_attention_heads=8,
        num_key_value_heads=2, pad_token_id=0,
    )  # fmt: skip
    model = LlamaForSequenceClassification(config)
    places = {group: f"model.layers.0.self_attn.{group}_proj.weight" for group in "qkvo"}
    mask_model(model, places.values(), Recipe(pattern=Pattern.head), Draws(0, 10))
    found = {group: tuple(model.get_parameter(name[:-6] + "scores").shape) for group, name in places.items()}
    assert found == {"q": (8, 1), "k": (2, 1), "v": (2, 1), "o": (1, 8)}


def logits_of(classifier: Classifier) -> Tensor:
    ids = torch.arange(4, 24).reshape(2, 10) % 20
    with torch.inference_mode():
        found: Tensor = classifier.model(input_ids=ids, attention_mask=torch.ones_like(ids)).logits
    return found


@pytest.mark.parametrize("stored", [None, 7])
def test_what_is_unmasked_says_the_same_bit_for_bit(classifier: Classifier, stored: int | None) -> None:
    names = matrices(classifier)
    before = {name: each.detach().clone() for name, each in classifier.model.named_parameters()}
    draws = Draws(0, 10, stored=stored)
    scores = mask_model(classifier.model, names, Recipe(initial_sparsity=0.3, initial_score=1.0), draws)
    assert list(scores) == names
    classifier.model.eval()
    masked = logits_of(classifier)
    keeps = unmask_model(classifier.model, scores)
    assert torch.equal(masked, logits_of(classifier))
    assert not any(isinstance(module, MaskedLinear) for module in classifier.model.modules())
    for name, parameter in classifier.model.named_parameters():
        if name in keeps:
            expected = np.where(keeps[name], before[name].numpy(), np.float32(0))
            assert expected.tobytes() == parameter.detach().numpy().tobytes(), name
        else:
            assert torch.equal(parameter, before[name]), name
    share = np.mean([1 - keep.mean() for keep in keeps.values()])
    assert share == pytest.approx(0.3 if stored is None else 0.3 * 0.73 + 0.7 * 0.27, abs=0.03)


def test_what_cannot_be_masked_is_refused(classifier: Classifier) -> None:
    model: Any = classifier.model
    name = next(name for name, _ in model.named_parameters() if "word_embeddings" in name)
    with pytest.raises(ToolError, match="not the matrix of a linear layer"):
        mask_model(model, [name], Recipe(), Draws(0, 1))
    outer = next(name for name in matrices(classifier) if "intermediate" in name)
    with pytest.raises(ToolError, match="give group Q,K,V,AO"):
        mask_model(model, [outer], Recipe(pattern=Pattern.head), Draws(0, 1))
