"""What a cloak must reach, worked out by hand."""

from __future__ import annotations

import math

import pytest
import torch

from facetools.cloaking.goals.goal import Goal
from facetools.cloaking.goals.others import Others


def at(degrees: float, length: float = 1) -> torch.Tensor:
    """A face in the plane: cosine distances are of angles, and lengths do not count."""
    return torch.tensor([math.cos(math.radians(degrees)), math.sin(math.radians(degrees))]) * length


def test_moved_is_the_mean_over_extractors() -> None:
    reach = Goal(moved=0.3).measure([at(0), at(0)], [at(60, 3), at(0)])
    assert reach.moved == pytest.approx((0.5 + 0) / 2)
    assert (reach.reached, reach.margin) == (False, None)
    assert reach.slack == pytest.approx(0.25 - 0.3)
    assert Goal(moved=0.2).measure([at(0), at(0)], [at(60), at(0)]).reached


def test_hidden_is_nearer_to_somebody_else_in_every_extractor() -> None:
    others = Others([torch.stack([at(90), at(170)])], [["ann", "bob"]], [[None, None]], "digest")
    goal, people = Goal(others=others), others.besides("me.jpg", "me", "")
    near, far = goal.measure([at(0)], [at(60)], people), goal.measure([at(0)], [at(30)], people)
    # cos 60 to the own face, cos 30 to ann's.
    assert near.margin == pytest.approx((1 - 0.5) - (1 - math.cos(math.radians(30))))
    assert (near.reached, far.reached) == (True, False)
    assert far.margin == pytest.approx(math.cos(math.radians(60)) - math.cos(math.radians(30)))
    both = goal.measure([at(0), at(0)], [at(60), at(30)], people * 2)
    assert (both.reached, both.margin) == (False, pytest.approx(far.margin))


def test_a_tie_hides_nobody_and_nan_reaches_nothing() -> None:
    others = Others([at(0)[None]], [["ann"]], [[None]], "digest")
    tie = Goal(others=others).measure([at(0)], [at(40)], others.besides("me.jpg", "me", ""))
    assert (tie.margin, tie.reached) == (0, False)
    assert not Goal(moved=0.1).measure([at(0)], [at(0) * math.nan]).reached


def test_both_goals_must_be_reached() -> None:
    others = Others([at(90)[None]], [["ann"]], [[None]], "digest")
    people = others.besides("me.jpg", "me", "")
    assert not Goal(0.6, others).measure([at(0)], [at(60)], people).reached
    assert Goal(0.4, others).measure([at(0)], [at(60)], people).reached
    assert Goal(0.4, others).describe() == {"moved": 0.4, "others": "digest"}
