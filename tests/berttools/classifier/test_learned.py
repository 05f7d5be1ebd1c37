"""What says that nothing was learned, and what does not."""

from __future__ import annotations

from typing import Any

import pytest

from berttools.classifier.learned import signs_of_nothing_learned

HISTORY = [{"step": 20, "loss": 0.6, "first_loss": 0.7}, {"step": 40, "loss": 0.5}]
BEST = {"metric": "accuracy", "score": 0.8, "chance": 0.6}


def signs(best: dict[str, Any], history: list[dict[str, Any]] = HISTORY, examples: int | None = 900) -> list[str]:
    return [str(each) for each in signs_of_nothing_learned(best, history, examples=examples)]


def test_what_is_learned_is_not_doubted() -> None:
    assert signs(BEST) == signs({"metric": "accuracy", "score": None}, examples=None) == []
    # Where all texts have one label every model is as good as one that says it.
    assert signs({**BEST, "score": 1.0, "chance": 1.0, "one_label": "a"}) == []


@pytest.mark.parametrize("score", [0.3, 0.6, 0.61])
def test_a_score_at_the_chance_level(score: float) -> None:
    (said,) = signs({**BEST, "score": score})
    assert f"accuracy {score:.4g} on " in said
    assert said.endswith("is no better than the 0.6 of the same label for every text, within its error")
    assert signs({**BEST, "score": 0.62}) == []
    assert "0 of chance" in signs({"metric": "matthews", "score": 0.03, "chance": 0.0})[0]


def test_one_label_for_every_text() -> None:
    assert "is labelled 'b'" in signs({**BEST, "score": 0.6, "one_label": "b"})[0]
    assert "says the same of every text" in signs({"metric": "pearson", "score": None, "chance": 0.0})[0]


def test_a_loss_that_did_not_fall() -> None:
    rising = [HISTORY[0], {"step": 40, "loss": 0.71}]
    for best, examples in ((BEST, 900), ({"metric": "accuracy", "score": None}, None)):
        assert signs(best, rising, examples) == ["the loss did not fall (0.7 at first, 0.71 at last)"]
    assert signs(BEST, [{"step": 9, "loss": 0.8, "first_loss": 0.7}]) == []
    assert signs(BEST, [{"step": 20, "loss": 0.8}]) == []
