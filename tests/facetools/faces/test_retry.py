"""Changed views of photos in which no face was found."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from facetools.faces.face import Face
from facetools.faces.retry import stretch_contrast, turn, turn_back


def test_stretching_contrast():
    ramp = torch.arange(30, 94, dtype=torch.uint8).repeat(3, 8, 1)
    stretched = stretch_contrast(ramp)
    assert stretched.dtype == torch.uint8
    assert (stretched.min(), stretched.max()) == (0, 255)
    assert stretch_contrast(torch.full((3, 5, 5), 7, dtype=torch.uint8)) is None
    assert stretch_contrast(torch.arange(256, dtype=torch.uint8).repeat(3, 4, 1)) is None


@pytest.mark.parametrize("degrees", [40, -40, 65])
def test_a_turned_photo_leads_back_to_where_it_came_from(degrees: float) -> None:
    photo = torch.full((3, 60, 90), 20, dtype=torch.uint8)
    photo[:, 12:18, 60:66] = 250
    turned, matrix, shift = turn(photo, math.radians(degrees))
    spot = turned[0].numpy() > 190
    rows, columns = np.nonzero(spot)
    assert 15 < spot.sum() < 60
    middle = (columns.mean(), rows.mean())
    points = np.array([middle, (columns.mean() + 1, rows.mean()), *[middle] * 3])
    x, y = middle
    face = Face((x - 4, y - 3, x + 5, y + 4), 0.97, points)
    back = turn_back(face, matrix, shift)
    assert back.landmarks[0] == pytest.approx((62.5, 14.5), abs=0.3)
    # The box keeps its sides, and its middle goes with the face.
    x0, y0, x1, y1 = back.box
    assert (x1 - x0, y1 - y0) == pytest.approx((9, 7))
    assert ((x0 + x1) / 2, (y0 + y1) / 2) == pytest.approx((63, 15), abs=0.3)
    assert back.confidence == 0.97
    right = back.landmarks[1] - back.landmarks[0]
    assert right == pytest.approx((math.cos(math.radians(degrees)), math.sin(math.radians(degrees))))
    # All of the photo is on the canvas; what lies beyond it is mid-grey.
    assert set(np.unique(turned[0, :2, :2])) <= {127, 128}
