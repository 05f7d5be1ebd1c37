"""What the detector predicts."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from detector_faces import face_at, network, picture, smooth
from facetools.detector.crops import CROP_SCALE, cut_square, face_crops, windows_of
from facetools.detector.decision import Calibration, Prediction, Thresholds
from facetools.detector.detector import Detector, logits_of

ATTACKS = ("fawkes", "lowkey")
ROWS = (Thresholds(0.005, 0.5, 0.5),)
CALIBRATION = Calibration(1.5, 0.25, ROWS)


def detector(calibration: Calibration = CALIBRATION) -> Detector:
    return Detector("x", network().fuse(), ATTACKS, calibration)


def predicted(detector: Detector, pixels: Any, *box: float) -> Prediction:
    prediction = detector.predict(pixels, face_at(*box))
    assert prediction is not None
    return prediction


BOXES = [(10, 10, 60, 60), (50, 30, 130, 110), (-20, -20, 40, 40), (100, 80, 180, 160), (0, 0, 139, 119)]


def test_scores_lie_between_clean_and_cloaked_and_stand_alone() -> None:
    opened, pixels = detector(), picture()
    before = pixels.copy()
    together = [predicted(opened, pixels, *box) for box in BOXES]
    for prediction in together:
        assert 0 <= prediction.score <= 1
        assert list(prediction.attacks) == list(ATTACKS)
        assert all(0 <= score <= prediction.score for score in prediction.attacks.values())
        assert sum(prediction.attacks.values()) == pytest.approx(prediction.score, abs=1e-12)
        assert prediction.attacks[prediction.attack] == max(prediction.attacks.values())
    assert len({prediction.score for prediction in together}) == len(BOXES)
    assert [predicted(opened, pixels, *box) for box in reversed(BOXES)] == together[::-1]
    assert np.array_equal(pixels, before)


def test_nothing_outside_the_square_counts() -> None:
    opened, pixels = detector(), picture()
    score = predicted(opened, pixels, 30, 30, 70, 70)
    # The square is 1.3 times as large: 24 to 76.
    outside = np.full_like(pixels, 255)
    outside[24:76, 24:76] = pixels[24:76, 24:76]
    assert predicted(opened, outside, 30, 30, 70, 70) == score
    for y, x in ((24, 24), (75, 75), (24, 75), (50, 50)):
        inside = pixels.copy()
        inside[y - (y == 75) : y + 2 - (y == 75), x - (x == 75) : x + 2 - (x == 75)] ^= 255
        assert predicted(opened, inside, 30, 30, 70, 70) != score, (y, x)


@pytest.mark.parametrize("box", [(500, 500, 600, 600), (-200, 0, -100, 90), (50, 50, 50, 50), (60, 60, 20, 20)])
def test_a_face_outside_the_photo_has_no_score(box: tuple[float, float, float, float]) -> None:
    assert detector().predict(picture(), face_at(*box)) is None


def test_a_score_is_a_logit_calibrated() -> None:
    net, pixels, box = network().fuse(), picture(), (10.0, 10.0, 90.0, 90.0)
    part = cut_square(pixels, box, CROP_SCALE, 10**9)
    assert part is not None
    with torch.inference_mode():
        logits = net(torch.from_numpy(part.copy()).permute(2, 0, 1)[None].float() / 255)[0].double()
    assert logits.shape == (4,)
    shares = torch.softmax(logits[2:], 0)
    for temperature, offset in ((1.0, 0.0), (0.5, 1.0), (3.0, -2.0)):
        prediction = predicted(Detector("x", net, ATTACKS, Calibration(temperature, offset, ROWS)), pixels, *box)
        score = 1 / (1 + np.exp(-(float(logits[0]) - offset) / temperature))
        assert prediction.score == pytest.approx(score, abs=1e-6)
        assert list(prediction.attacks.values()) == pytest.approx((score * shares).tolist(), abs=1e-6)


def test_a_flat_photo_has_a_score() -> None:
    assert 0 <= predicted(detector(), np.full((60, 60, 3), 128, np.uint8), 5, 5, 50, 50).score <= 1


def test_power_is_the_second_output_calibrated() -> None:
    """Of a large face that is reduced, as of a small one: there is one crop of either."""
    net, names = network(3).fuse(), (*ATTACKS, "opom")
    for side, box, size in ((400, (50.0, 50.0, 350.0, 350.0), 192), (140, (40.0, 40.0, 100.0, 100.0), 78)):
        pixels = picture(side, side)
        (crop,) = face_crops(pixels, box)
        assert max(crop.shape[:2]) == size
        with torch.inference_mode():
            shown = torch.from_numpy(np.ascontiguousarray(crop)).permute(2, 0, 1)[None].float() / 255
            logits = net(shown)[0].double()
        for temperature, offset in ((1.0, 0.0), (0.5, -1.0)):
            calibration = Calibration(1.5, 0.25, ROWS, power=(temperature, offset))
            prediction = predicted(Detector("x", net, names, calibration), pixels, *box)
            power = 1 / (1 + np.exp(-(float(logits[1]) - offset) / temperature))
            assert prediction.power == pytest.approx(power, abs=1e-6)
            assert prediction.score == pytest.approx(1 / (1 + np.exp(-(float(logits[0]) - 0.25) / 1.5)), abs=1e-6)
            expected = prediction.score * torch.softmax(logits[2:], 0)
            assert list(prediction.attacks.values()) == pytest.approx(expected.tolist(), abs=1e-6)


def test_the_crop_with_the_highest_logit_decides() -> None:
    """Of several, all of its outputs, however little power it has."""
    net, crops = network().fuse(), [picture(60, 60, seed=seed) for seed in range(4)]
    with torch.inference_mode():
        each = torch.cat([net(torch.from_numpy(crop).permute(2, 0, 1)[None].float() / 255) for crop in crops])
    best = int(each[:, 0].argmax())
    assert len({*each[:, 0].tolist()}) == 4
    for _ in crops:
        crops = [*crops[1:], crops[0]]
        assert torch.allclose(logits_of(net, crops), each[best], atol=1e-5)


def test_a_large_face_is_judged_at_one_size() -> None:
    """A face of any size is shown at 192 pixels at most, and its score is that of the reduced photo."""
    opened, large = detector(), smooth(800, seed=3)
    box = (100.0, 100.0, 700.0, 700.0)
    crop = cut_square(large, box, CROP_SCALE, 10**9)
    assert crop is not None
    assert max(crop.shape[:2]) > 192
    (reduced,) = face_crops(large, box)
    assert reduced.shape[:2] == (192, 192)
    with torch.inference_mode():
        logit = opened.network(torch.from_numpy(reduced).permute(2, 0, 1)[None] / 255)[0, 0]
    expected = 1 / (1 + np.exp(-(float(logit) - 0.25) / 1.5))
    assert predicted(opened, large, *box).score == pytest.approx(expected, abs=1e-6)


class Brightest(nn.Module):
    """Stands for the network: a window's logit is its brightest value, and it keeps what it was shown."""

    def __init__(self) -> None:
        super().__init__()
        self.head, self.shown = nn.Linear(1, 1), []

    def forward(self, faces: torch.Tensor) -> torch.Tensor:
        self.shown.append((faces[0].permute(1, 2, 0) * 255).round().to(torch.uint8).numpy())
        # The power's logit is the brightest red, the attacks' are the brightest red and green.
        red, green = faces[0, 0].max(), faces[0, 1].max()
        return torch.stack([faces.max() * 8, red, red, green])[None]


@pytest.mark.parametrize("shape", [(600, 700), (300, 100), (90, 520), (60, 70)])
@pytest.mark.parametrize("last", [True, False])
def test_the_window_that_seems_cloaked_most_decides(shape: tuple[int, int], last: bool) -> None:
    seen, pixels = Brightest(), picture(*shape) // 2
    place = -1 if last else 0
    # In one window and in no other: a corner pixel of the first or of the last.
    pixels[place, place] = (10, 255, 20)
    opened = Detector("x", seen, ATTACKS, CALIBRATION)  # type: ignore[arg-type]
    ((prediction, face),) = opened.predict_photo(pixels, [], whole=True)
    boxes = windows_of(shape)
    assert (face.box, face.landmarks.shape) == (boxes[place], (0, 2))
    assert prediction is not None
    assert prediction.score == pytest.approx(1 / (1 + np.exp(-(8 - 0.25) / 1.5)), abs=1e-6)
    assert prediction.attack == "lowkey"
    # Nothing but the windows is looked at, at the photo's own resolution.
    assert len(seen.shown) == len(boxes)
    for shown, (x0, y0, x1, y1) in zip(seen.shown, boxes, strict=True):
        assert np.array_equal(shown, pixels[int(y0) : int(y1), int(x0) : int(x1)])


def test_the_power_of_a_whole_photo_is_that_of_its_best_window() -> None:
    seen, pixels = Brightest(), picture(300, 600) // 2
    pixels[0, 0], pixels[-1, -1] = (10, 255, 20), (200, 10, 20)
    powerful = replace(CALIBRATION, power=(0.5, 0.25))
    opened = Detector("x", seen, ATTACKS, powerful)  # type: ignore[arg-type]
    ((prediction, face),) = opened.predict_photo(pixels, [], whole=True)
    assert (prediction is not None, face.box) == (True, windows_of((300, 600))[0])
    assert prediction is not None
    assert prediction.score == pytest.approx(1 / (1 + np.exp(-(8 - 0.25) / 1.5)), abs=1e-6)
    assert prediction.power == pytest.approx(1 / (1 + np.exp(-(200 / 255 - 0.25) / 0.5)), abs=1e-6)


def test_too_little_of_a_photo_is_nothing_and_faces_are_judged_each() -> None:
    faces = [face_at(0, 0, 40, 7), face_at(10, 10, 60, 60)]
    assert detector().predict_photo(picture(7, 40), faces[:1], whole=True) == [(None, faces[0])]
    opened, pixels = detector(), picture()
    assert opened.predict_photo(pixels, faces) == [(opened.predict(pixels, face), face) for face in faces]
