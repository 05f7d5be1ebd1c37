"""Matching cloaked copies to clean photos."""

from __future__ import annotations

import numpy as np
import pytest

from _toolio.errors import ToolError
from facetools.evaluation.cloaks import Cloaks, match_cloaks, refuse_equal
from facetools.evaluation.gallery import Gallery
from galleries import crowd, gallery_of

PEOPLE, EACH, WIDTH = 8, 10, 16


@pytest.fixture
def names() -> list[str]:
    return [f"p{person}/{number}.jpg" for person in range(PEOPLE) for number in range(EACH)]


@pytest.fixture
def clean(names: list[str]) -> Gallery:
    """People far apart from each other."""
    rng = np.random.default_rng(0)
    rows = np.repeat(rng.normal(size=(PEOPLE, WIDTH)), EACH, 0) * 4 + rng.normal(size=(PEOPLE * EACH, WIDTH))
    return gallery_of(rows, names)


def test_matching_is_exact(clean: Gallery) -> None:
    copies = gallery_of(np.zeros((3, WIDTH)), ["p1/0.png", "p1/00.png", "p2/1.jpg.png"], "cloaked")
    cloaks = match_cloaks("x", clean, copies)
    assert {n: row for n, row in enumerate(cloaks.rows.tolist()) if row >= 0} == {EACH: 0, 2 * EACH + 1: 2}
    assert cloaks.unmatched == ("cloaked/p1/00.png",)
    with pytest.raises(ToolError, match="none of 80 photos has its copy"):
        match_cloaks("x", clean, gallery_of(np.zeros((2, WIDTH)), ["q/1.jpg", "q/2.jpg"]))


def test_cloaked_photos_that_are_the_clean_ones() -> None:
    names, _, rows = crowd()
    clean, moved = gallery_of(rows, names), rows.copy()
    cloaks = Cloaks("x", np.arange(80), ())
    with pytest.raises(ToolError, match="x: the cloaked photos are the clean ones, all 80 that match"):
        refuse_equal(cloaks, [clean], [clean])
    moved[5, 2] += 1
    refuse_equal(cloaks, [clean], [gallery_of(moved, names)])
    digests = tuple(names)
    one, other = (
        Gallery("e", "d", "euclidean", clean.items, each, sha256s=digests) for each in (rows, rows + np.float32(1))
    )
    with pytest.raises(ToolError, match="are the clean ones"):
        refuse_equal(cloaks, [one], [other])


def test_a_suffix_that_no_photo_has() -> None:
    names, _, rows = crowd()
    clean = gallery_of(rows, names)
    with pytest.raises(ToolError, match="suffix nope: no cloaked photo's name in x ends in nope"):
        match_cloaks("x", clean, clean, suffix="nope")
