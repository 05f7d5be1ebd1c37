"""What the detector looks at, what it says, and its file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from _toolio.errors import ToolError
from _toolio.tensors.reader import open_safetensors, read_metadata
from _toolio.tensors.writer import write_safetensors
from detector_faces import CPU, face_at, network, picture
from facetools.detector.crops import CROP_SCALE, LARGEST_PX, REDUCED_PX, SMALLEST_PX, cut_square, face_crops, windows_of
from facetools.detector.detector import Calibration, Detector, Prediction, describe_prediction
from facetools.detector.files import SCHEMA, open_detector, save_detector

ATTACKS = ("fawkes", "lowkey")
CALIBRATION = Calibration(temperature=1.5, offset=0.25, threshold=0.5)


# ---------------------------------------------------------------- its file


def save(path: Path, **made: Any) -> None:
    save_detector(path, network(), ATTACKS, CALIBRATION, made)


def test_what_is_saved_is_opened(tmp_path: Path) -> None:
    path = tmp_path / "mine.safetensors"
    save(path, note="x")
    first = path.read_bytes()
    save(path, note="x")
    assert path.read_bytes() == first
    assert {entry.dtype for entry in open_safetensors(path).entries.values()} == {"F16"}
    assert read_metadata(path) == {
        "schema": SCHEMA, "note": "x", "temperature": 1.5, "offset": 0.25, "threshold": 0.5, "attacks": list(ATTACKS)
    }  # fmt: skip
    opened = open_detector(path, CPU)
    assert (opened.threshold, opened.calibration, opened.attacks) == (0.5, CALIBRATION, ATTACKS)
    assert opened.name.startswith("mine-")
    assert len(opened.name) == len("mine-") + 12
    # The same as the original with its weights rounded to float16, and near the original.
    original = network()
    rounded = network()
    rounded.load_state_dict({name: value.half().to(value.dtype) for name, value in original.state_dict().items()})
    faces = torch.rand(3, 3, 50, 60)
    with torch.inference_mode():
        torch.testing.assert_close(opened.network(faces), rounded.eval()(faces), rtol=0, atol=1e-4)
        torch.testing.assert_close(opened.network(faces), original(faces), rtol=0.02, atol=0.02)


def resaved(path: Path, changed: dict[str, Any], **tensors: Any) -> Path:
    """A detector's file of which some metadata and tensors are others, None for none."""
    save(path)
    file = open_safetensors(path)
    kept = {name: np.array(file.tensor(name)) for name in file.entries} | tensors
    made = read_metadata(path) | changed
    write_safetensors(
        path,
        {name: value for name, value in kept.items() if value is not None},
        {key: value for key, value in made.items() if value is not None},
    )
    return path


@pytest.mark.parametrize(
    ("made", "tensors", "words"),
    [
        ({"schema": None}, {}, "not a detector; make one with facetools train-detector"),
        ({"schema": "facetools.embed/1"}, {}, "not a detector; make one"),
        ({"schema": "facetools.detector/1"}, {}, "of an earlier version; make one with facetools train-detector"),
        ({"threshold": None}, {}, "of another version"),
        ({"temperature": "warm"}, {}, "of another version"),
        ({"offset": [1]}, {}, "of another version"),
        ({"offset": 10**400}, {}, "of another version"),
        ({"temperature": 0}, {}, "train it again"),
        ({"temperature": -1.5}, {}, "train it again"),
        ({"threshold": "nan"}, {}, "holds NaN or infinity; train it again"),
        ({"offset": "inf"}, {}, "holds NaN or infinity"),
        ({"attacks": None}, {}, "of another version"),
        ({"attacks": 2}, {}, "of another version"),
        ({"attacks": "ab"}, {}, "of another version"),
        ({"attacks": ["a", "a"]}, {}, "of another version"),
        ({"threshold": 1.5}, {}, "that cannot be; train it again"),
        ({"threshold": -1}, {}, "that cannot be; train it again"),
        ({}, {"full.0.1.running_var": np.full(16, -1, np.float16)}, "that cannot be; train it again"),
        ({"attacks": ["lowkey"]}, {}, "of another version"),
        ({"attacks": ["a", "b", "c"]}, {}, "of another version"),
        (
            {"attacks": []},
            {"head.bias": np.zeros(1, np.float16), "head.weight": np.zeros((1, 192), np.float16)},
            "names of attacks",
        ),
        ({}, {"head.bias": None}, "head.bias missing"),
        ({}, {"full.0.1.running_var": None}, "full.0.1.running_var missing"),
        ({}, {"head.weight": np.zeros((3, 3), np.float16)}, "of another version"),
        ({}, {"head.bias": np.full(3, np.nan, np.float16)}, "holds NaN or infinity"),
        ({}, {"head.bias": np.full(3, np.inf, np.float16)}, "holds NaN or infinity"),
    ],
)
def test_a_wrong_file_is_one_line(tmp_path: Path, made: dict[str, Any], tensors: dict[str, Any], words: str) -> None:
    path = resaved(tmp_path / "d.safetensors", made, **tensors)
    with pytest.raises(ToolError, match=words) as caught:
        open_detector(path, CPU)
    assert caught.value.message.startswith(str(path))
    assert "\n" not in caught.value.message
    assert (caught.value.kind, caught.value.exit_code) == ("not-a-detector", 1)


def test_a_file_that_is_none(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("Dear diary")
    for name in ("text", "gone"):
        with pytest.raises(ToolError, match=str(tmp_path / name)) as caught:
            open_detector(tmp_path / name, CPU)
        assert caught.value.exit_code == 1


# ---------------------------------------------------------------- what it says


def detector(calibration: Calibration = CALIBRATION) -> Detector:
    return Detector("x", network().fuse(), ATTACKS, calibration)


def judged(judge: Detector, pixels: Any, *box: float) -> Prediction:
    prediction = judge.predict(pixels, face_at(*box))
    assert prediction is not None
    return prediction


BOXES = [(10, 10, 60, 60), (50, 30, 130, 110), (-20, -20, 40, 40), (100, 80, 180, 160), (0, 0, 139, 119)]


def test_scores_lie_between_clean_and_cloaked_and_stand_alone() -> None:
    judge, pixels = detector(), picture()
    before = pixels.copy()
    together = [judged(judge, pixels, *box) for box in BOXES]
    for prediction in together:
        assert 0 <= prediction.score <= 1
        assert list(prediction.attacks) == list(ATTACKS)
        assert all(0 <= score <= prediction.score for score in prediction.attacks.values())
        assert sum(prediction.attacks.values()) == pytest.approx(prediction.score, abs=1e-12)
        assert prediction.attacks[prediction.attack] == max(prediction.attacks.values())
    assert len({prediction.score for prediction in together}) == len(BOXES)
    assert [judged(judge, pixels, *box) for box in reversed(BOXES)] == together[::-1]
    assert np.array_equal(pixels, before)


def test_nothing_outside_the_square_counts() -> None:
    judge, pixels = detector(), picture()
    score = judged(judge, pixels, 30, 30, 70, 70)
    # The square is 1.3 times as large: 24 to 76.
    outside = np.full_like(pixels, 255)
    outside[24:76, 24:76] = pixels[24:76, 24:76]
    assert judged(judge, outside, 30, 30, 70, 70) == score
    for y, x in ((24, 24), (75, 75), (24, 75), (50, 50)):
        inside = pixels.copy()
        inside[y - (y == 75) : y + 2 - (y == 75), x - (x == 75) : x + 2 - (x == 75)] ^= 255
        assert judged(judge, inside, 30, 30, 70, 70) != score, (y, x)


@pytest.mark.parametrize("box", [(500, 500, 600, 600), (-200, 0, -100, 90), (50, 50, 50, 50), (60, 60, 20, 20)])
def test_a_face_outside_the_photo_has_no_score(box: tuple[float, float, float, float]) -> None:
    assert detector().predict(picture(), face_at(*box)) is None


def test_a_score_is_a_logit_calibrated() -> None:
    net, pixels, box = network().fuse(), picture(), (10.0, 10.0, 90.0, 90.0)
    part = cut_square(pixels, box, CROP_SCALE, 10**9)
    assert part is not None
    with torch.inference_mode():
        logits = net(torch.from_numpy(part.copy()).permute(2, 0, 1)[None].float() / 255)[0].double()
    shares = torch.softmax(logits[1:], 0)
    for temperature, offset in ((1.0, 0.0), (0.5, 1.0), (3.0, -2.0)):
        prediction = judged(Detector("x", net, ATTACKS, Calibration(temperature, offset, 0.5)), pixels, *box)
        score = 1 / (1 + np.exp(-(float(logits[0]) - offset) / temperature))
        assert prediction.score == pytest.approx(score, abs=1e-6)
        assert list(prediction.attacks.values()) == pytest.approx((score * shares).tolist(), abs=1e-6)


def test_a_flat_photo_has_a_score() -> None:
    assert 0 <= judged(detector(), np.full((60, 60, 3), 128, np.uint8), 5, 5, 50, 50).score <= 1


def test_a_record_names_an_attack_only_of_a_cloaked_face() -> None:
    prediction = Prediction(0.75, {"fawkes": 0.2512345678, "lowkey": 0.4987654322})
    attacks = {"fawkes": 0.251235, "lowkey": 0.498765}
    for threshold, label, attack in ((0.75, "cloaked", "lowkey"), (0.7500001, "clean", None)):
        assert describe_prediction(prediction, threshold) == {
            "score": 0.75, "label": label, "attack": attack, "attacks": attacks
        }  # fmt: skip
    assert describe_prediction(None, 0.5) == dict.fromkeys(("score", "label", "attack", "attacks"))


# ---------------------------------------------------------------- what it looks at


@pytest.mark.parametrize(
    ("box", "shape"),
    [
        ((40, 40, 60, 60), (26, 26)),
        ((-10, -10, 30, 30), (36, 36)),
        ((120, 100, 160, 140), (26, 26)),
        ((0, 0, 139, 119), (120, 140)),
        ((40, 40, 60, 50), (26, 26)),
    ],
)
def test_a_square_is_clipped_to_the_photo(box: tuple[float, float, float, float], shape: tuple[int, int]) -> None:
    pixels = picture()
    (part,) = face_crops(pixels, box)
    assert part.shape[:2] == shape
    whole = np.lib.stride_tricks.sliding_window_view(pixels, (*part.shape[:2], 3))[:, :, 0]
    assert (whole == part).all((2, 3, 4)).any(), "the photo's own pixels, unscaled"


@pytest.mark.parametrize(
    "box", [(200, 0, 260, 60), (0, -90, 60, -30), (-65, 0, -5, 60), (50, 50, 50, 50), (60, 60, 20, 20)]
)
def test_of_a_face_outside_the_photo_nothing_is_looked_at(box: tuple[float, float, float, float]) -> None:
    assert face_crops(picture(), box) == []
    assert cut_square(picture(), box, CROP_SCALE, LARGEST_PX) is None


def test_too_little_of_a_face_is_nothing() -> None:
    # 1.3 x 10 pixels around the edge: of 6.5 each side 7 are in the photo.
    assert face_crops(picture(), (-5.0, 40.0, 5.0, 50.0)) == []
    (part,) = face_crops(picture(), (-4.0, 40.0, 6.0, 50.0))
    assert part.shape[:2] == (14, SMALLEST_PX)


def test_a_large_face_is_looked_at_in_its_middle_and_reduced() -> None:
    pixels = picture(600, 900)
    box = (250.0, 100.0, 650.0, 500.0)
    reduced, middle = face_crops(pixels, box)
    assert np.array_equal(middle, pixels[300 - 128 : 300 + 128, 450 - 128 : 450 + 128])
    assert reduced.shape == (REDUCED_PX, REDUCED_PX, 3)
    assert reduced.dtype == np.uint8
    # Averaged, not picked: noise becomes calmer.
    assert reduced.std() < pixels.std() * 0.7
    # And the whole square, 1.3 x 400 pixels, is in it: with its left half dark, the copy is so too.
    half = pixels.copy()
    half[:, :450] = 0
    dark, _ = face_crops(half, box)
    assert dark[:, : REDUCED_PX // 2 - 3].max() == 0
    assert dark[:, REDUCED_PX // 2 + 3 :].mean() > 100


def test_the_largest_square_that_is_not_reduced() -> None:
    pixels = picture(400, 400)
    side = LARGEST_PX / CROP_SCALE
    (whole,) = face_crops(pixels, (200 - side / 2, 200 - side / 2, 200 + side / 2, 200 + side / 2))
    assert whole.shape == (LARGEST_PX, LARGEST_PX, 3)
    assert len(face_crops(pixels, (100.0, 100.0, 300.0, 300.0))) == 2


def test_a_reduced_copy_keeps_its_shape_down_to_some_pixels() -> None:
    tall, _ = face_crops(picture(600, 60), (0.0, 100.0, 60.0, 500.0))
    assert tall.shape[:2] == (REDUCED_PX, round(60 * REDUCED_PX / 520))
    thin, _ = face_crops(picture(900, 10), (0.0, 100.0, 10.0, 700.0))
    assert thin.shape[:2] == (REDUCED_PX, SMALLEST_PX)


def test_the_look_that_seems_cloaked_most_decides() -> None:
    judge, pixels = detector(), picture(400, 400)
    box = (50.0, 50.0, 350.0, 350.0)
    scores = []
    for look in face_crops(pixels, box):
        height, width = look.shape[:2]
        inner = (0.0, 0.0, float(width), float(height))
        assert len(face_crops(look, inner)) == 1
        scores.append(judged(judge, look, *inner))
    assert scores[0].score != scores[1].score
    prediction = judged(judge, pixels, *box)
    best = max(scores, key=lambda each: each.score)
    assert prediction.score == pytest.approx(best.score, abs=1e-6)
    assert prediction.attacks == pytest.approx(best.attacks, abs=1e-6)


# ---------------------------------------------------------------- whole photos


@pytest.mark.parametrize(
    "shape", [(1, 1), (8, 300), (100, 256), (256, 257), (300, 255), (511, 512), (513, 769), (1080, 1920), (3000, 10)]
)
def test_windows_reach_every_pixel(shape: tuple[int, int]) -> None:
    seen = np.zeros(shape, int)
    boxes = [tuple(map(int, box)) for box in windows_of(shape)]
    for x0, y0, x1, y1 in boxes:
        seen[y0:y1, x0:x1] += 1
        assert (y1 - y0, x1 - x0) == (min(256, shape[0]), min(256, shape[1]))
        assert 0 <= x0 < x1 <= shape[1]
        assert 0 <= y0 < y1 <= shape[0]
    assert seen.min() == 1, "as few as reach everywhere lie nowhere all upon each other"
    rows, columns = (sorted({box[axis] for box in boxes}) for axis in (1, 0))
    assert boxes == [(x, y, min(x + 256, shape[1]), min(y + 256, shape[0])) for y in rows for x in columns]
    for length, starts in zip(shape, (rows, columns), strict=True):
        assert len(starts) == -(-length // 256)
        assert np.ptp(np.diff(starts)) <= 1 if len(starts) > 1 else starts == [0]


class Brightest(nn.Module):
    """Stands for the network: a window's logit is its brightest value, and it keeps what it was shown."""

    def __init__(self) -> None:
        super().__init__()
        self.head, self.shown = nn.Linear(1, 1), []

    def forward(self, faces: torch.Tensor) -> torch.Tensor:
        self.shown.append((faces[0].permute(1, 2, 0) * 255).round().to(torch.uint8).numpy())
        return torch.stack([faces.max() * 8, faces[0, 0].max(), faces[0, 1].max()])[None]


@pytest.mark.parametrize("shape", [(600, 700), (300, 100), (90, 520), (60, 70)])
@pytest.mark.parametrize("last", [True, False])
def test_the_window_that_seems_cloaked_most_decides(shape: tuple[int, int], last: bool) -> None:
    seen, pixels = Brightest(), picture(*shape) // 2
    place = -1 if last else 0
    # In one window and in no other: a corner pixel of the first or of the last.
    pixels[place, place] = (10, 255, 20)
    judge = Detector("x", seen, ATTACKS, CALIBRATION)  # type: ignore[arg-type]
    ((prediction, face),) = judge.predict_photo(pixels, [], whole=True)
    boxes = windows_of(shape)
    assert (face.box, face.landmarks.shape) == (boxes[place], (0, 2))
    assert prediction is not None
    assert prediction.score == pytest.approx(1 / (1 + np.exp(-(8 - 0.25) / 1.5)), abs=1e-6)
    assert prediction.attack == "lowkey"
    # Nothing but the windows is looked at, at the photo's own resolution.
    assert len(seen.shown) == len(boxes)
    for shown, (x0, y0, x1, y1) in zip(seen.shown, boxes, strict=True):
        assert np.array_equal(shown, pixels[int(y0) : int(y1), int(x0) : int(x1)])


def test_too_little_of_a_photo_is_nothing_and_faces_are_judged_each() -> None:
    faces = [face_at(0, 0, 40, 7), face_at(10, 10, 60, 60)]
    assert detector().predict_photo(picture(7, 40), faces[:1], whole=True) == [(None, faces[0])]
    judge, pixels = detector(), picture()
    assert judge.predict_photo(pixels, faces) == [(judge.predict(pixels, face), face) for face in faces]
