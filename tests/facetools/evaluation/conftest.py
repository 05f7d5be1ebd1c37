"""A gallery of people who lie far apart, for all tests of evaluations."""

from __future__ import annotations

import numpy as np
import pytest

from facetools.evaluation.gallery import Gallery
from galleries import EACH, PEOPLE, WIDTH, gallery_of


@pytest.fixture
def names() -> list[str]:
    return [f"p{person}/{number}.jpg" for person in range(PEOPLE) for number in range(EACH)]


@pytest.fixture
def people(names: list[str]) -> list[str]:
    return [name.split("/")[0] for name in names]


@pytest.fixture
def clean(names: list[str]) -> Gallery:
    """People far apart from each other."""
    rng = np.random.default_rng(0)
    rows = np.repeat(rng.normal(size=(PEOPLE, WIDTH)), EACH, 0) * 4 + rng.normal(size=(PEOPLE * EACH, WIDTH))
    return gallery_of(rows, names)
