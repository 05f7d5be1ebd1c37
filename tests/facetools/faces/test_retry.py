"""Changed views of photos."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from facetools.faces.face import Face
from facetools.faces.retry import quarter_turn, stretch_contrast, turn, turn_back


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


@pytest.mark.parametrize("quarters", [1, 2, 3])
def test_a_quarter_turn_leads_back_exactly(quarters: int) -> None:
    photo = torch.zeros(2, 3, 60, 90, dtype=torch.uint8)
    photo[:, :, 14, 62] = 250
    turned, matrix, shift = quarter_turn(photo, quarters)
    assert turned.shape[2:] == ((60, 90) if quarters == 2 else (90, 60))
    ((y, x),) = (turned[0, 0] == 250).nonzero().tolist()
    face = Face((x - 4.0, y - 3.0, x + 4.0, y + 5.0), 0.97, np.array([[x, y], [x + 1, y], *[[x, y]] * 3]))
    back = turn_back(face, matrix, shift)
    assert back.landmarks[0] == pytest.approx((62, 14))
    angle = math.radians(90 * quarters)
    assert back.landmarks[1] - back.landmarks[0] == pytest.approx((math.cos(angle), math.sin(angle)))
    # As ``turn`` has it, but for rounding.
    nearly, other, offset = turn(photo[0], angle)
    assert matrix == pytest.approx(other)
    assert nearly.shape[1:] == pytest.approx(turned.shape[2:], abs=1)
    assert shift == pytest.approx(offset, abs=1)


def test_the_box_of_a_face_on_its_side_is_turned() -> None:
    _, matrix, shift = quarter_turn(torch.zeros(3, 60, 90, dtype=torch.uint8), 1)
    back = turn_back(Face((10.0, 20.0, 20.0, 50.0), 1.0, np.zeros((5, 2))), matrix, shift)
    # Canvas (x, y) is (90 - y, x) in the photo.
    assert back.box == pytest.approx((40, 10, 70, 20))
