"""Heads: where they begin, and ArcFace's margin against its definition."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

from facetools.training.heads import NAMES, ArcFace, Softmax, make_head


def faces(people: int = 5, each: int = 4) -> tuple[torch.Tensor, torch.Tensor]:
    torch.manual_seed(0)
    centres = torch.randn(people, 16)
    labels = torch.arange(people).repeat_interleave(each)
    return centres[labels] + 0.1 * torch.randn(len(labels), 16) + 3, labels


@pytest.mark.parametrize("name", NAMES)
def test_a_head_knows_everybody_before_it_has_learned_anything(name: str) -> None:
    embeddings, labels = faces()
    head = make_head(name, embeddings, labels, 5)
    assert torch.equal(head.scores(embeddings).argmax(1), labels)
    assert head(embeddings, labels).shape == (20,)


def test_softmax_begins_as_the_nearest_mean() -> None:
    embeddings, labels = faces()
    head = Softmax(embeddings, labels, 5)
    other = 3 + 2 * torch.randn(50, 16)
    means = torch.stack([embeddings[labels == n].mean(0) for n in range(5)])
    assert torch.equal(head.scores(other).argmax(1), torch.cdist(other, means).argmin(1))


def test_arcface_adds_the_margin_to_the_own_angle_alone() -> None:
    embeddings, labels = faces()
    head = ArcFace(embeddings, labels, 5)
    cosines = F.normalize(embeddings - head.centre) @ F.normalize(head.weight).T
    angles = cosines.acos()
    angles[torch.arange(20), labels] += 0.5
    wanted = F.cross_entropy(64 * angles.cos(), labels, reduction="none")
    assert torch.allclose(head(embeddings, labels), wanted, rtol=1e-4, atol=1e-4)


def test_arcface_keeps_falling_where_angle_and_margin_pass_half_a_turn() -> None:
    embeddings, labels = faces(people=2)
    head = ArcFace(embeddings, labels, 2)
    turns = torch.linspace(0, math.pi - 1e-3, 200)
    own = F.normalize(head.weight[:1])
    across = F.normalize(torch.randn(1, 16) - (torch.randn(1, 16) @ own.T) * own)
    across = F.normalize(across - (across @ own.T) * own)
    turned = head.centre + turns.cos()[:, None] * own + turns.sin()[:, None] * across
    with torch.no_grad():
        head.weight[1] = 0  # the other person's score is the same for all
    losses = head(turned, torch.zeros(200, dtype=torch.long))
    assert (losses.diff() >= -1e-4).all()
