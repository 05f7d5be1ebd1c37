"""The image pyramid of the face finder."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from facetools.faces import mtcnn
from facetools.faces.pyramid import Level, cut_crops, lay_out
from facetools.faces.windows import Windows


@pytest.mark.parametrize("first", [(250, 250), (120, 333), (400, 90), (13, 12)])
def test_pictures_lie_side_by_side_and_their_windows_are_known(first: tuple[int, int]) -> None:
    sizes = [first]
    while min(smaller := (round(sizes[-1][0] * 0.709), round(sizes[-1][1] * 0.709))) >= 12:
        sizes.append(smaller)
    layout = lay_out(tuple(sizes))
    owner = np.full(layout.size, -1)
    for number, ((top, left), (height, width)) in enumerate(zip(layout.corners, sizes, strict=True)):
        assert (top % 2, left % 2) == (0, 0)
        part = owner[top : top + height, left : left + width]
        assert part.shape == (height, width), "inside the whole"
        assert (part == -1).all(), "on nothing else"
        part[:] = number
    # A window belongs to a picture where all of its 12x12 pixels do.
    for (row, column), number in np.ndenumerate(layout.picture_of):
        seen = owner[2 * row : 2 * row + 12, 2 * column : 2 * column + 12]
        whole = seen.min() == seen.max() and seen.min() >= 0
        if number >= 0:
            top, left = layout.corners[number]
            height, width = sizes[number]
            # P-Net rounds up: the last window of an odd side reaches one line beyond.
            assert (2 * row - top + 11 <= height) and (2 * column - left + 11 <= width)
        else:
            assert not whole


def test_crops_come_from_the_coarsest_level_that_is_fine_enough() -> None:
    fine = torch.full((2, 3, 80, 80), 200, dtype=torch.uint8)
    coarse = torch.full((2, 3, 40, 40), 100, dtype=torch.uint8)
    fine[1] = 50
    levels = [Level(fine, (1.0, 1.0), proposes=False), Level(coarse, (0.5, 0.5), proposes=True)]
    boxes = torch.tensor([[10.0, 10, 70, 70], [20, 20, 44, 44], [20, 20, 44, 44], [60, 60, 100, 100]])
    windows = Windows(boxes, torch.tensor([0, 0, 1, 0]), torch.ones(4))
    crops, order = cut_crops(levels, windows, 24)
    crops = crops[order.argsort()]
    assert crops.shape == (4, 3, 24, 24)
    assert (crops[0] == 100 - mtcnn.GREY).all()
    assert (crops[1] == 200 - mtcnn.GREY).all()
    assert (crops[2] == 50 - mtcnn.GREY).all()
    # Mid-grey beyond the photo.
    torch.testing.assert_close(crops[3][:, :10, :10], torch.full((3, 10, 10), 200 - mtcnn.GREY))
    assert (crops[3][:, -8:, -8:] == 0).all()
