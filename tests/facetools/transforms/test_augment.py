"""What happens to photos."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
from PIL import Image

from detector_faces import picture, smooth, striped
from facetools.transforms import augment as changes
from facetools.transforms.augment import AFTER, BEFORE, CHANGES, MISTAKEN, ODD, SURVIVED, save_as_jpeg, scale

SHAPES = [(8, 8), (16, 16), (9, 40), (61, 47), (300, 280)]


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def spread(pixels: Any) -> float:
    """How much neighbours differ."""
    return float(np.abs(np.diff(pixels.astype(int), axis=1)).mean())


def test_only_changes_that_exist_are_named() -> None:
    for names in (ODD, SURVIVED, BEFORE, AFTER, MISTAKEN):
        assert set(names) <= set(CHANGES)
        assert len(set(names)) == len(names)
    assert set(ODD) | set(SURVIVED) | set(BEFORE) | set(AFTER) == set(CHANGES)
    assert all(getattr(changes, name.replace("-", "_")) is change for name, change in CHANGES.items())


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("name", CHANGES)
def test_a_change_gives_a_photo_and_leaves_its_own_alone(name: str, shape: tuple[int, int]) -> None:
    pixels = picture(*shape)
    before = pixels.copy()
    for seed in range(2 if shape[0] == 300 else 5):
        changed = CHANGES[name](pixels, rng(seed))
        assert (changed.dtype, changed.ndim, changed.shape[2]) == (np.uint8, 3, 3)
        assert min(changed.shape[:2]) >= 8
        assert np.array_equal(CHANGES[name](pixels, rng(seed)), changed), "the generator decides"
        if name in BEFORE or name in ("rotate", "encoder-jpeg"):
            assert changed.shape == pixels.shape
        # A slice is as good as a photo of its own.
        wider = np.zeros((shape[0] + 5, shape[1] + 7, 3), np.uint8)
        wider[2:-3, 3:-4] = pixels
        assert np.array_equal(CHANGES[name](wider[2:-3, 3:-4], rng(seed)), changed)
    assert np.array_equal(pixels, before)


@pytest.mark.parametrize("name", sorted(set(CHANGES) - {"grey", "crop", "resize"}))
def test_a_change_changes(name: str) -> None:
    pixels = picture(48, 48)
    results = [CHANGES[name](pixels, rng(seed)) for seed in range(3)]
    assert not any(np.array_equal(result, pixels) for result in results)
    assert not np.array_equal(results[0], results[1]), "by lot"


@pytest.mark.parametrize(
    ("name", "low", "high", "saves"), [("jpeg", 30, 95, 1), ("mild-jpeg", 75, 95, 1), ("jpeg-twice", 50, 95, 2)]
)
def test_jpegs_are_of_all_qualities(
    name: str, low: int, high: int, saves: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[tuple[int, int]] = []

    def save(_: Image.Image, out: Any, kind: str, *, quality: int, subsampling: int) -> None:
        assert kind == "JPEG"
        drawn.append((quality, subsampling))
        out.write(photo)

    whole = io.BytesIO()
    Image.fromarray(picture(8, 8)).save(whole, "JPEG")
    photo = whole.getvalue()
    monkeypatch.setattr(Image.Image, "save", save)
    generator = rng()
    for _ in range(800):
        CHANGES[name](picture(8, 8), generator)
    assert len(drawn) == 800 * saves
    assert {quality for quality, _ in drawn} == set(range(low, high + 1))
    assert {subsampling for _, subsampling in drawn} == ({2} if saves == 2 else {0, 1, 2})


def test_a_jpeg_is_worse_the_lower_its_quality() -> None:
    pixels = picture(64, 64)
    apart = [np.abs(save_as_jpeg(pixels, quality).astype(int) - pixels).mean() for quality in (30, 60, 95)]
    assert apart[0] > apart[1] > apart[2] > 0
    full, halved = (np.abs(save_as_jpeg(pixels, 95, way).astype(int) - pixels).mean() for way in (0, 2))
    assert full < halved


def test_the_second_jpeg_lies_on_another_grid() -> None:
    shapes = {CHANGES["jpeg-twice"](picture(60, 60), rng(seed)).shape[:2] for seed in range(60)}
    assert {height for height, _ in shapes} == {width for _, width in shapes} == set(range(53, 61))
    assert {CHANGES["jpeg-twice"](picture(32, 33), rng(seed)).shape[0] for seed in range(20)} == {32}


@pytest.mark.parametrize(
    ("name", "low", "high"), [("enlarge", 1.2, 2.0), ("resize", 0.5, 1.5), ("screenshot", 0.7, 1.6)]
)
def test_how_much_photos_are_scaled(name: str, low: float, high: float) -> None:
    drawn = [CHANGES[name](picture(200, 100), rng(seed)).shape for seed in range(80)]
    for height, width, _ in drawn:
        assert low * 200 - 1 <= height <= high * 200 + 1
        assert abs(height - 2 * width) <= 2
    heights = [height / 200 for height, _, _ in drawn]
    assert min(heights) < low + 0.1
    assert max(heights) > high - 0.1


def test_scaling_leaves_some_of_a_photo() -> None:
    assert scale(picture(8, 100), 0.2, rng()).shape == (16, 20, 3)
    assert scale(picture(100, 8), 0.01, rng()).shape == (16, 16, 3)
    assert scale(picture(100, 50), 1.5, rng()).shape == (150, 75, 3)


def test_a_crop_takes_a_tenth_off_each_side_at_most() -> None:
    places = np.stack(np.meshgrid(np.arange(100), np.arange(200)), -1)
    pixels = np.concatenate([places, np.zeros((200, 100, 1))], 2).astype(np.uint8)
    cuts = set()
    for seed in range(300):
        part = CHANGES["crop"](pixels, rng(seed))
        (left, top, _), (right, bottom, _) = part[0, 0], part[-1, -1]
        cuts |= {("left", int(left)), ("top", int(top)), ("right", 99 - int(right)), ("bottom", 199 - int(bottom))}
        assert np.array_equal(part, pixels[top : top + part.shape[0], left : left + part.shape[1]])
    assert cuts == {
        *((side, n) for side in ("left", "right") for n in range(11)),
        *((side, n) for side in ("top", "bottom") for n in range(21)),
    }


def test_filters_do_what_they_are_called() -> None:
    pixels = (picture(64, 64) // 4 + 96).astype(np.uint8)
    for seed in range(6):
        assert spread(CHANGES["blur"](pixels, rng(seed))) < spread(pixels)
        assert spread(CHANGES["denoise"](pixels, rng(seed))) < spread(pixels)
        assert spread(CHANGES["soften"](pixels, rng(seed))) < spread(pixels)
        assert spread(CHANGES["sharpen"](pixels, rng(seed))) > spread(pixels)


def test_encoders_have_tables_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """Saved with the tables that are drawn, in their order; coarser in colour, and the coarser the finer the detail."""
    saved: list[Any] = []
    whole = Image.Image.save

    def save(image: Image.Image, out: Any, kind: str, **options: Any) -> None:
        whole(image, out, kind, **options)
        found = Image.open(io.BytesIO(out.getvalue()))
        assert found.format == "JPEG"
        assert [list(found.quantization[n]) for n in (0, 1)] == [list(table) for table in options["qtables"]]
        saved.append((options["subsampling"], *options["qtables"]))

    monkeypatch.setattr(Image.Image, "save", save)
    generator = rng()
    for _ in range(120):
        CHANGES["encoder-jpeg"](picture(16, 16), generator)
    assert {way for way, _, _ in saved} == {0, 1, 2}
    for _, luma, chroma in saved:
        assert luma == sorted(luma) or np.diff(np.reshape(luma, (8, 8)), axis=0).min() >= 0
        assert all(1 <= a <= b <= 255 for a, b in zip(luma, chroma, strict=True))
    first, last = (np.array([luma[place] for _, luma, _ in saved]) for place in (0, 63))
    assert first.min() == 1
    assert first.max() >= 7
    assert (last / first).min() < 3
    assert (last / first).max() > 25


def test_webp_is_of_all_qualities(monkeypatch: pytest.MonkeyPatch) -> None:
    pixels = picture(64, 64)
    drawn = []
    whole = Image.Image.save

    def save(image: Image.Image, out: Any, kind: str, **options: Any) -> None:
        assert kind == "WEBP"
        drawn.append(options["quality"])
        whole(image, out, kind, **options)

    monkeypatch.setattr(Image.Image, "save", save)
    apart = [np.abs(CHANGES["webp"](pixels, rng(seed)).astype(int) - pixels).mean() for seed in range(60)]
    assert 40 <= min(drawn) < 45
    assert 90 < max(drawn) <= 95
    assert np.corrcoef(drawn, apart)[0, 1] < -0.8
    generator = rng()
    for _ in range(900):
        CHANGES["webp"](picture(8, 8), generator)
    assert set(drawn) == set(range(40, 96))


def test_local_contrast_is_raised_and_tone_stays() -> None:
    pixels = (smooth(96).astype(int) // 3 + 85 + striped(np.full((96, 96, 3), 100, np.uint8), 0, 4) - 100).astype(
        np.uint8
    )
    for seed in range(8):
        raised = CHANGES["local-contrast"](pixels, rng(seed))
        assert (
            1.15
            < np.abs(np.diff(raised.astype(int), axis=0)).mean() / np.abs(np.diff(pixels.astype(int), axis=0)).mean()
            < 2
        )
        assert abs(float(raised.mean()) - float(pixels.mean())) < 2
    flat = np.full((40, 40, 3), 77, np.uint8)
    assert np.array_equal(CHANGES["local-contrast"](flat, rng()), flat)


@pytest.mark.parametrize("shape", [(8, 8), (61, 47), (60, 448), (700, 700)])
def test_a_rotated_photo_has_no_dark_corners(shape: tuple[int, int]) -> None:
    white = np.full((*shape, 3), 255, np.uint8)
    assert all(CHANGES["rotate"](white, rng(seed)).min() == 255 for seed in range(12))


def test_rotation_is_by_five_degrees_at_most() -> None:
    dot = np.zeros((201, 201, 3), np.uint8)
    dot[98:103, 178:183] = 255
    rows, columns = np.mgrid[:201, :201] - 100
    angles = []
    for seed in range(60):
        turned = CHANGES["rotate"](dot, rng(seed))[..., 0].astype(float)
        y, x = ((turned * axis).sum() / turned.sum() for axis in (rows, columns))
        assert np.hypot(x, y) == pytest.approx(80, abs=0.7)
        angles.append(np.degrees(np.arctan2(y, x)))
    assert -5.3 < min(angles) < -4
    assert 4 < max(angles) < 5.3


def test_scaling_is_by_every_filter() -> None:
    pixels = picture(64, 64)
    generator = rng()
    results = {scale(pixels, 0.6, generator).tobytes() for _ in range(80)}
    filters = ("BILINEAR", "BICUBIC", "LANCZOS", "BOX", "HAMMING")
    image = Image.fromarray(pixels)
    assert results == {np.array(image.resize((38, 38), Image.Resampling[name])).tobytes() for name in filters}


def test_a_real_photo_stays_what_it_is(face_photo: bytes) -> None:
    """Whatever happens to a photo, the eye knows it again: it correlates with itself at an eighth of its size."""
    photo = Image.open(io.BytesIO(face_photo)).convert("RGB")
    pixels = np.array(photo)
    small = np.array(photo.convert("L").resize((30, 30), Image.Resampling.BOX), float).ravel()
    for name, change in CHANGES.items():
        for seed in range(2):
            after = Image.fromarray(change(pixels, rng(seed))).convert("L").resize((30, 30), Image.Resampling.BOX)
            assert np.corrcoef(small, np.array(after, float).ravel())[0, 1] > (
                {"crop": 0.5, "rotate": 0.8}.get(name, 0.95)
            )


def test_beauty_smooths_skin_and_keeps_edges() -> None:
    step = np.full((60, 60, 3), 60, np.uint8)
    step[:, 30:] = 200
    noisy = (step + picture(60, 60) // 40).astype(np.uint8)
    for seed in range(6):
        smoothed = CHANGES["beauty"](noisy, rng(seed)).astype(int)
        assert spread(smoothed[:, :20]) < 0.8 * spread(noisy[:, :20])
        assert (smoothed[:, 30] - smoothed[:, 29]).mean() > 120


def test_grain_is_of_known_strength_in_colour_and_not() -> None:
    flat = np.full((64, 64, 3), 128, np.uint8)
    strengths, coloured = [], set()
    for seed in range(80):
        noise = CHANGES["grain"](flat, rng(seed)).astype(int) - 128
        strengths.append(noise.std())
        coloured.add(bool((noise[..., 0] != noise[..., 1]).any()))
    assert 0.95 < min(strengths) < 2
    assert 8 < max(strengths) < 9.3
    assert coloured == {True, False}


def test_grey_is_luma_whatever_is_drawn() -> None:
    pixels = picture(20, 20)
    one, other = (CHANGES["grey"](pixels, rng(seed)) for seed in (0, 1))
    assert np.array_equal(one, other)
    luma = pixels.astype(float) @ [0.299, 0.587, 0.114]
    assert np.abs(one - luma[..., None]).max() < 0.51


def test_tone_keeps_the_order_of_brightness() -> None:
    ramp = np.repeat(np.arange(256, dtype=np.uint8)[None, :, None], 3, 2)
    means = []
    for seed in range(40):
        values = CHANGES["tone"](ramp, rng(seed))[0, :, 0].astype(int)
        assert (np.diff(values) >= 0).all()
        assert values[-1] - values[0] > 120
        means.append(values.mean())
    assert max(means) - min(means) > 50


def test_a_smooth_photo_survives_what_a_cloak_survives() -> None:
    pixels = smooth(64)
    for name in SURVIVED:
        changed = CHANGES[name](pixels, rng())
        small, old = (np.array(Image.fromarray(x).resize((8, 8), Image.Resampling.BOX), int) for x in (changed, pixels))
        assert np.abs(small - old).mean() < 12, name
