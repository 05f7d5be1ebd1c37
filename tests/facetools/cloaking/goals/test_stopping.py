"""Where the faces of a batch stop, on regions of one pixel that are their own embeddings."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from facetools.cloaking.goals.goal import Goal
from facetools.cloaking.goals.stopping import FaceGoal, Stopping

CLEAN = torch.tensor([1.0, 0.0])


def at(share: float) -> Tensor:
    """A face whose cosine distance to CLEAN is ``share``."""
    return torch.tensor([1 - share, (1 - (1 - share) ** 2) ** 0.5])


def batch(*shares: float) -> Tensor:
    return torch.stack([at(share) for share in shares])[:, :, None, None]


def embed(photos: Tensor) -> list[Tensor]:
    return [photos[:, :, 0, 0]]


class Saver:
    """Takes a tenth away from what a face has moved, and counts how often it is asked."""

    def __init__(self) -> None:
        self.asked = 0

    def __call__(self, photo: Tensor) -> Sequence[Tensor]:
        self.asked += 1
        return [at(float(1 - photo[0, 0, 0, 0]) * 0.9)]


def stopping(*savers: Saver, moved: float = 0.3) -> Stopping:
    goals = [FaceGoal(Goal(moved), [CLEAN], saver) for saver in savers]
    return Stopping(embed, CLEAN.expand(len(savers), 2)[:, :, None, None], goals)


def test_each_face_is_kept_as_it_first_was_enough_when_saved() -> None:
    stop = stopping(Saver(), Saver())
    steps = [(0.1, 0.1), (0.31, 0.2), (0.36, 0.3), (0.5, 0.35), (0.6, 0.2)]
    # Saved, 0.31 would be 0.279.
    assert [stop.enough(batch(*shares)) for shares in steps] == [False, False, False, True, True]
    assert stop.steps == [3, 4]
    for result, share in zip(stop.results, (0.36, 0.35), strict=True):
        assert result is not None
        assert result[0, :, 0, 0].tolist() == pytest.approx(at(share).tolist())


def test_a_face_that_is_never_enough_has_no_result() -> None:
    stop = stopping(Saver(), Saver())
    assert not any(stop.enough(batch(0.5, share)) for share in (0.1, 0.2))
    assert stop.steps == [1, None]
    assert stop.results[1] is None


def test_an_encoder_is_asked_seldom() -> None:
    saver = Saver()
    stop = stopping(saver)
    taken = 0
    while not stop.enough(batch(0.2 + taken / 1000)):
        taken += 1
    assert stop.steps == [taken + 1]
    # It stops just past 0.3 / 0.9, within 33 steps after the attack itself sees 0.3.
    assert 0.3 / 0.9 <= 0.2 + taken / 1000 < 0.3 / 0.9 + 0.02
    assert saver.asked < 12


def test_what_shares_a_mask_must_be_enough_at_once() -> None:
    stop = stopping(Saver(), Saver())
    assert [stop.all_reached(batch(*shares)) for shares in ((0.5, 0.2), (0.2, 0.5), (0.5, 0.5))] == [False, False, True]
    assert stop.taken == 3
