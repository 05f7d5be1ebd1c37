"""Faces cut for training, and their augmentation."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from _toolio.errors import ToolError
from facetools.training.samples import MARGIN, Sample, cut_chip, cut_chips, digest_sources, split


def test_a_mirrored_face_is_cut_as_the_mirror_image(samples: list[Sample]) -> None:
    """Of many draws about half are mirrored; each is near the plain chip or near its mirror image."""
    sizes = ((112, 112), (150, 150))
    plain = cut_chip(samples[0], 0, sizes[0])
    sides = []
    for seed in range(24):
        chip, other = cut_chips(samples[0], sizes, np.random.default_rng(seed))
        assert chip.shape == (1, 3, 112, 112)
        assert other.shape == (1, 3, 150, 150)
        assert 0 <= float(chip.min()) <= float(chip.max()) <= 1
        same, mirror = ((chip - each).abs().mean() for each in (plain, plain.flip(3)))
        sides.append(bool(mirror < same))
    assert 4 < sum(sides) < 20


def test_people_are_in_one_part_only(samples: list[Sample]) -> None:
    known, unseen = split(samples, seed=3, share=0.5)
    assert not {s.person for s in known} & {s.person for s in unseen}
    assert len(known) + len(unseen) == len(samples)


def test_of_few_people_two_are_held_out_and_two_are_not(samples: list[Sample]) -> None:
    for share in (0.01, 0.5, 0.9):
        for part in split(samples, seed=1, share=share):
            assert len({sample.person for sample in part}) == 2
    three = [s for s in samples if s.person != samples[0].person]
    with pytest.raises(ToolError, match="3 people have a face"):
        split(three, seed=1, share=0.5)


def test_a_sample_has_a_margin_around_its_chips(samples: list[Sample]) -> None:
    """A chip's corners lie inside, as far from the edge as the margin says, where the photo reaches that far."""
    for sample in samples:
        height, width = sample.pixels.shape[:2]
        corners = []
        for matrix, side in zip(sample.matrices, (112, 150), strict=True):
            grid = np.array([[0, 0], [side - 1, 0], [0, side - 1], [side - 1, side - 1]], float)
            corners.append(grid @ matrix[:, :2].T + matrix[:, 2])
        low, high = np.concatenate(corners).min(0), np.concatenate(corners).max(0)
        margin = MARGIN * (high - low).max()
        assert (low > margin - 2).all() or (low < margin).any()
        assert (np.array([width, height]) - high < margin + 3).all()


def test_augmentation_is_decided_by_its_seed(samples: list[Sample]) -> None:
    sizes = ((112, 112), (150, 150))
    one, same, other = (cut_chips(samples[0], sizes, np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert all(np.array_equal(a, b) for a, b in zip(one, same, strict=True))
    assert not any(np.array_equal(a, b) for a, b in zip(one, other, strict=True))


def test_a_copy_lies_on_its_original_if_both_were_cut_alike(samples: list[Sample]) -> None:
    sample = samples[0]
    assert sample.lies_on(replace(sample, pixels=sample.pixels // 2))
    assert not sample.lies_on(replace(sample, pixels=sample.pixels[1:]))
    assert not sample.lies_on(replace(sample, matrices=tuple(matrix + 0.5 for matrix in sample.matrices)))


def test_the_hash_of_what_is_trained_on_knows_no_order(samples: list[Sample]) -> None:
    assert digest_sources(samples) == digest_sources(samples[::-1])
    assert digest_sources(samples) != digest_sources(samples[1:])
    assert digest_sources(samples) != digest_sources([replace(samples[0], source="other"), *samples[1:]])
