"""Cosines between layers, against the hidden states of one text at a time."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from _toolio.errors import ToolError
from berttools.classifier.inference import Inference
from berttools.classifier.model import open_base
from berttools.layer_scores.similarity import layer_similarities
from berttools.texts.examples import Example
from berttools.texts.labels import Labels
from berttools.tuning.datasets import checked_texts
from tiny_models import SIZES, make_base, texts

LAYERS = SIZES["layers"]
pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.mark.parametrize(("kind", "place"), [("bert", 0), ("roberta", 0), ("modernbert", 0), ("gpt2", -1)])
@pytest.mark.parametrize("batch", [1, 4, 32])
def test_it_is_the_mean_cosine_to_the_other_layers(tmp_path: Path, kind: str, place: int, batch: int) -> None:
    classifier = open_base(make_base(tmp_path / "base", kind), Labels(("0", "1")))
    encoded = checked_texts([Example(f"{n}", line["text"]) for n, line in enumerate(texts(9))], classifier)
    found = layer_similarities(Inference(classifier, torch.device("cpu")), classifier, encoded, LAYERS, batch)
    total = torch.zeros(LAYERS)
    for text in encoded:
        with torch.no_grad():
            states = classifier.model(
                input_ids=torch.tensor([text.ids.tolist()]), output_hidden_states=True
            ).hidden_states[1:]
        at = [state[0, place] for state in states]
        for one in range(LAYERS):
            others = [torch.cosine_similarity(at[one], at[k], 0) for k in range(LAYERS) if k != one]
            total[one] += torch.stack(others).mean()
    assert found == pytest.approx((total / len(encoded)).tolist(), abs=1e-5)
    assert len(set(found)) == LAYERS


def test_a_model_without_a_state_a_layer_is_refused(tmp_path: Path) -> None:
    classifier = open_base(make_base(tmp_path / "base"), Labels(("0", "1")))
    encoded = checked_texts([Example("1", "a film")], classifier)
    with pytest.raises(ToolError, match="its names have 2 layers, and it gives 4 states; try another"):
        layer_similarities(Inference(classifier, torch.device("cpu")), classifier, encoded, 2, 1)
