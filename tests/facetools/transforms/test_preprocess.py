"""What platforms and trainers do to photos."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from _toolio.errors import UsageError
from facetools.photos.photo import Pixels
from facetools.transforms.preprocess import Preprocess, parse_preprocess


def photo(height: int = 61, width: int = 84) -> Pixels:
    rng = np.random.default_rng(0)
    small = Image.fromarray(rng.integers(0, 255, (9, 11, 3), dtype=np.uint8))
    return np.array(small.resize((width, height), Image.Resampling.BICUBIC))


@pytest.mark.parametrize(
    "text", ["none", "jpeg:75", "jpeg:1", "jpeg:100", "resize:0.5", "resize:4", "blur:1", "blur:0.1"]
)
def test_names_go_round(text: str) -> None:
    step = parse_preprocess(text)
    assert step.name == text
    before = photo()
    kept = before.copy()
    after, (wider, higher) = step.apply(before)
    assert (before == kept).all()
    assert after.dtype == np.uint8
    assert after.shape == (round(61 * higher), round(84 * wider), 3)


def test_values_are_normalised() -> None:
    assert parse_preprocess(" resize:0.50 ") == Preprocess("resize", 0.5)
    assert parse_preprocess("jpeg:75.0").name == "jpeg:75"


@pytest.mark.parametrize(
    "text",
    [
        "", "jpeg", "jpeg:", "jpeg:0", "jpeg:101", "jpeg:7.5", "jpeg:nan", "resize:0", "resize:-1", "resize:5",
        "resize:inf", "blur:0", "blur:x", "sepia:1", "none:1", "JPEG:75", "jpeg:75,blur:1",
    ],
)  # fmt: skip
def test_what_is_not_known_is_a_usage_error(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_preprocess(text)
    assert caught.value.message.startswith(f"preprocess {text}: ")
    assert "\n" not in caught.value.message


def test_none_changes_nothing() -> None:
    before = photo()
    after, scale = parse_preprocess("none").apply(before)
    assert (after == before).all()
    assert scale == (1.0, 1.0)


def test_jpeg_is_pillows() -> None:
    data = io.BytesIO()
    Image.fromarray(photo()).save(data, "JPEG", quality=30, subsampling=2)
    after, scale = parse_preprocess("jpeg:30").apply(photo())
    assert (after == np.array(Image.open(data))).all()
    assert (after != photo()).any()
    assert scale == (1.0, 1.0)


def test_resize_says_where_landmarks_go() -> None:
    # A white square's middle lands where the scale says, in odd sizes too.
    before = np.zeros((101, 75, 3), np.uint8)
    before[40:51, 20:27] = 255
    for factor in (0.5, 0.7, 1.5):
        after, (wider, higher) = parse_preprocess(f"resize:{factor}").apply(before)
        weights = after[..., 0] / after[..., 0].sum(dtype=np.float64)
        y, x = np.mgrid[: after.shape[0], : after.shape[1]]
        assert (weights * x).sum() == pytest.approx((23 + 0.5) * wider - 0.5, abs=0.05)
        assert (weights * y).sum() == pytest.approx((45 + 0.5) * higher - 0.5, abs=0.05)
    assert parse_preprocess("resize:0.05").apply(before[:4, :4])[0].shape == (1, 1, 3)


def test_blur_smooths_by_its_sigma() -> None:
    before = np.zeros((61, 61, 3), np.uint8)
    before[:, 30:] = 255
    spreads = []
    for sigma in (1, 3):
        after, scale = parse_preprocess(f"blur:{sigma}").apply(before)
        assert scale == (1.0, 1.0)
        slope = np.diff(after[30, :, 0].astype(np.float64))
        place = np.arange(60)
        mean = (slope * place).sum() / slope.sum()
        spreads.append(np.sqrt((slope * (place - mean) ** 2).sum() / slope.sum()))
    assert spreads == pytest.approx([1, 3], rel=0.1)
