"""Splits of people's photos into training and test photos."""

from __future__ import annotations

import numpy as np
import pytest

from _toolio.errors import ToolError
from facetools.evaluation.config import ProtocolConfig
from facetools.evaluation.splits import generator_of, refuse_few, split_photos

PEOPLE, EACH = 8, 10


@pytest.fixture
def names() -> list[str]:
    return [f"p{person}/{number}.jpg" for person in range(PEOPLE) for number in range(EACH)]


@pytest.fixture
def people(names: list[str]) -> list[str]:
    return [name.split("/")[0] for name in names]


def test_splits_hold_each_person_apart_from_who_else_is_there(people: list[str]) -> None:
    (asked,) = split_photos(people, ProtocolConfig(split=0.7, seed=3))
    counts = {person: int(asked[[n == person for n in people]].sum()) for person in set(people)}
    assert set(counts.values()) == {3}
    (fewer,) = split_photos(people[: 3 * EACH], ProtocolConfig(split=0.7, seed=3))
    assert fewer.tolist() == asked[: 3 * EACH].tolist()
    (other,) = split_photos(people, ProtocolConfig(split=0.7, seed=4))
    assert other.tolist() != asked.tolist()


@pytest.mark.parametrize(("count", "share", "asked"), [(10, 0.7, 3), (2, 0.7, 1), (1, 0.7, 0), (3, 0.95, 1)])
def test_at_least_one_is_trained_on_and_one_asked(count: int, share: float, asked: int) -> None:
    (found,) = split_photos(["a"] * count, ProtocolConfig(split=share))
    assert found.sum() == asked


def test_folds_ask_each_photo_once(people: list[str]) -> None:
    folds = split_photos(people, ProtocolConfig(folds=4))
    assert np.sum(folds, 0).tolist() == [1] * len(people)
    for fold in folds:
        assert 2 * PEOPLE <= fold.sum() <= 3 * PEOPLE


def test_galleries_in_which_nobody_can_be_asked() -> None:
    with pytest.raises(ToolError, match=r"nobody of 2 people has two photos.* labels"):
        refuse_few(["a", "b"], 1)
    with pytest.raises(ToolError, match="folds 4: nobody has more than 3 photos; give 3 or fewer"):
        refuse_few(["a", "a", "a", "b"], 4)
    refuse_few(["a", "a", "a", "b"], 3)


def test_draws_know_names_apart_and_take_any() -> None:
    assert generator_of(0, "A", "cloaked").integers(1 << 40) != generator_of(0, "A cloaked").integers(1 << 40)
    assert sum(split_photos(["\ud800"] * 4, ProtocolConfig(split=0.5))[0]) == 2
