"""Windows that the detector is trained on: the same happens to clean and to cloaked faces."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detector_faces import example_of, face_at, intake_of, picture, smooth, striped
from facetools.detector.crops import CROP_SCALE, LARGEST_PX
from facetools.detector.training import windows
from facetools.detector.training.examples import Example, ExampleReader
from facetools.detector.training.windows import (
    AFTERWARDS,
    GREY,
    MARGIN_PX,
    SIDES_PX,
    SMALLEST_FACE_PX,
    STRENGTHS,
    Draw,
    draw_pair,
    draw_unpaired,
)
from facetools.photos.photo import Pixels

SIZES = [(8, 8), (8, 70), (30, 20), (96, 96), (113, 240), (300, 280)]
SIDES = st.sampled_from(SIDES_PX)
ODD = st.sampled_from([0.0, 0.5, 1.0])
SEEDS = st.integers(0, 2**62)


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


@given(seed=SEEDS, size=st.sampled_from(SIZES), other_size=st.sampled_from(SIZES), side=SIDES, odd=ODD)
@settings(deadline=None, max_examples=40)
def test_copies_that_are_equal_give_windows_that_are_equal(
    seed: int, size: tuple[int, int], other_size: tuple[int, int], side: int, odd: float
) -> None:
    """Nothing is drawn for one label alone: it would stand for the label."""
    clean = example_of(picture(*size), rim=0)
    one, other = draw_pair(clean, replace(clean, cloak=0, partner=clean.source), side, rng(seed), odd=odd)
    assert np.array_equal(one, other)
    # Of one photo found in two places too: pixels are no longer the same ones, but draws are.
    found = replace(clean, cloak=0, origin=(1, 0, size[1] + 1, *size, size[1] + 1))
    one, other = draw_pair(clean, found, side, rng(seed), odd=odd)
    assert np.array_equal(one, other)
    # And of a cloak that is none, on another's photo.
    onto = replace(example_of(picture(*other_size, 3), rim=1), elsewhere=picture(*other_size, 4))
    copy = replace(clean, cloak=0, partner=clean.source)
    one, other = draw_pair(clean, copy, side, rng(seed), onto=onto, odd=odd)
    assert np.array_equal(one, other)
    assert one.shape == (side, side, 3)


@given(seed=SEEDS, side=SIDES, odd=ODD)
@settings(deadline=None, max_examples=20)
def test_the_two_of_a_pair_are_treated_alike(seed: int, side: int, odd: float) -> None:
    """Photos of which neither is a copy of the other give the same windows in either role."""
    first, second = example_of(picture(130, 120, 1)), example_of(picture(130, 120, 2), person="bob")
    as_clean = draw_pair(first, replace(second, cloak=0), side, rng(seed), odd=odd)
    as_cloaked = draw_pair(second, replace(first, cloak=0), side, rng(seed), odd=odd)
    assert np.array_equal(as_clean[0], as_cloaked[1])
    assert np.array_equal(as_clean[1], as_cloaked[0])


@pytest.mark.parametrize("size", SIZES)
def test_windows_have_their_side_and_photos_stay(size: tuple[int, int]) -> None:
    clean = replace(example_of(picture(*size), rim=size[0] // 6), elsewhere=picture(*size, 7))
    cloaked = replace(clean, cloak=0, partner=clean.source, pixels=striped(clean.pixels, 0))
    onto = example_of(picture(90, 70, 8), person="bob")
    before = clean.pixels.copy(), cloaked.pixels.copy(), onto.pixels.copy()

    def draw(seed: int) -> list[windows.Window]:
        side, odd = SIDES_PX[seed % 3], (0.0, 1.0)[seed % 2]
        drawn = draw_pair(clean, cloaked, side, rng(seed), odd=odd)
        drawn += draw_pair(clean, cloaked, side, rng(seed), onto=onto, odd=odd)
        drawn.append(draw_unpaired(clean, side, rng(seed), odd=odd))
        for window in drawn:
            assert (window.shape, window.dtype) == ((side, side, 3), np.float32)
            assert window.flags.c_contiguous
            assert 0 <= window.min() <= window.max() <= 255
        return drawn

    for seed in range(12):
        assert all(np.array_equal(a, b) for a, b in zip(draw(seed), draw(seed), strict=True)), "the generator decides"
    for example, pixels in zip((clean, cloaked, onto), before, strict=True):
        assert np.array_equal(example.pixels, pixels)


@pytest.mark.parametrize("face", [12, 20, 37, 100, 300, 700, 1500])
@pytest.mark.parametrize("place", ["middle", "corner"])
def test_windows_of_faces_of_every_size_and_at_every_edge(face: int, place: str) -> None:
    """As they are read from photos; a face at the corner is a third outside."""
    pixels = picture(2 * face, 2 * face, face)
    x = face / 2 if place == "middle" else -face / 3
    read = ExampleReader()
    found = face_at(x, x, x + face, x + face)
    clean = read.read(intake_of("ann/0.jpg", pixels, found), -1)
    stripes = np.where(np.arange(2 * face) // max(2, face // 24) % 2, 12, -12)
    changed = np.clip(pixels + stripes[:, None, None], 0, 255).astype(np.uint8)
    cloaked = read.read(intake_of("ann/0.png", changed, data=b"y"), 0)
    assert cloaked.partner == clean.source
    onto = example_of(picture(200, 150, 1), person="bob", rim=20)
    for seed, side in enumerate(SIDES_PX * 2):
        odd = float(seed > 2)
        drawn = [*draw_pair(clean, cloaked, side, rng(seed), odd=odd), draw_unpaired(clean, side, rng(seed), odd=odd)]
        drawn += draw_pair(clean, cloaked, side, rng(seed), onto=onto, odd=odd)
        drawn += draw_pair(onto, replace(onto, cloak=0, partner=onto.source), side, rng(seed), onto=clean, odd=odd)
        assert {window.shape for window in drawn} == {(side, side, 3)}
        # Of a cloak that is everywhere every window shows something, unless what happens afterwards takes it away.
        assert odd or np.abs(drawn[1] - drawn[0]).mean() > 4


def test_a_face_that_was_cut_otherwise_is_shown_at_its_own_place(only_cut: Any) -> None:
    """A cloaked copy of another size has a place of its own, which may lie outside the clean one's photo."""
    clean = example_of(np.full((300, 300, 3), 50, np.uint8))
    for shape, box in (((60, 50), (5.0, 5.0, 45.0, 55.0)), ((400, 420), (300.0, 300.0, 400.0, 390.0))):
        pixels = np.full((*shape, 3), 10, np.uint8)
        x0, y0, x1, y1 = map(int, box)
        pixels[max(0, y0 - 30) : y1 + 30, max(0, x0 - 30) : x1 + 30] = 200
        cloaked = Example("bob 0", "bob", "bob/0", 0, pixels, box, (0, 0, shape[1], shape[0], *shape))
        for seed in range(6):
            one, other = draw_pair(clean, cloaked, 64, rng(seed))
            assert (one == 50).all()
            assert (other == 200).all()
        # Reduced as the detector reduces each, however large both are.
    only_cut.undo()
    for seed in range(12):
        large = Example("bob 0", "bob", "bob/0", 0, picture(900, 900), (100.0, 100.0, 800.0, 800.0), (0, 0, *[900] * 4))
        for clean_size in (40, 500):
            clean = example_of(picture(clean_size, clean_size))
            assert [each.shape for each in draw_pair(clean, large, 48, rng(seed))] == [(48, 48, 3)] * 2


@pytest.fixture
def only_cut(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """Nothing is drawn but where a window lies and whether it is mirrored."""
    monkeypatch.setattr(windows, "RECLOAKED", 0.0)
    monkeypatch.setattr(windows, "GREY", 0.0)
    monkeypatch.setattr(windows, "AFTERWARDS", (1.0,))
    set_factors(monkeypatch, 1.0, 1.0)
    monkeypatch.setattr(windows, "_change", lambda pixels, *_: pixels)
    monkeypatch.setattr(windows, "save_as_jpeg", lambda pixels, *_: pixels)
    return monkeypatch


def set_factors(monkeypatch: pytest.MonkeyPatch, factor: float, shown: float) -> None:
    """Scale all photos by one factor after the cloak, and by another as the detector does."""

    def draw(_: Example, side: int, generator: np.random.Generator, __: bool) -> Draw:
        return Draw(side, factor, shown, int(generator.integers(2**62)))

    monkeypatch.setattr(windows, "_draw", draw)
    monkeypatch.setattr(windows, "_shown", lambda *_: shown)


def places(height: int, width: int) -> Pixels:
    """A photo whose red and green tell where a pixel lies."""
    rows, columns = np.mgrid[:height, :width]
    return np.stack([columns, rows, np.full_like(rows, 90)], 2).astype(np.uint8)


@pytest.mark.parametrize("size", [(200, 190), (60, 150)])
def test_a_pair_differs_where_the_cloak_is_and_nowhere_else(size: tuple[int, int], only_cut: Any) -> None:
    clean = example_of(places(*size), rim=30)
    cloak = rng().integers(0, 2, size, dtype=np.uint8)
    pixels = clean.pixels.copy()
    pixels[..., 2] += cloak
    cloaked = replace(clean, cloak=0, partner=clean.source, pixels=pixels)
    corners = set()
    for seed in range(40):
        one, other = draw_pair(clean, cloaked, 96, rng(seed))
        columns, rows = one[..., 0].astype(int), one[..., 1].astype(int)
        assert np.array_equal(other[..., :2], one[..., :2])
        assert (one[..., 2] == 90).all()
        assert np.array_equal(other[..., 2] - 90, cloak[rows, columns])
        corners.add((int(columns.min()), bool(columns[0, 0] > columns[0, 1]), int(rows[0, 0])))
    assert len(corners) > 20
    assert {mirrored for _, mirrored, _ in corners} == {False, True}


def test_windows_lie_around_the_face(only_cut: Any) -> None:
    """In the square 1.5 times as large as the box, and in all of it."""
    pixels = places(250, 250)
    clean = replace(example_of(pixels), box=(75.0, 75.0, 195.0, 195.0))
    low, high = 255, 0
    for seed in range(200):
        window = draw_unpaired(clean, 96, rng(seed))
        low, high = min(low, int(window[..., :2].min())), max(high, int(window[..., :2].max()))
    assert 45 <= low < 55
    assert 215 < high <= 224


def test_a_small_face_is_continued_by_its_mirror_image(only_cut: Any) -> None:
    clean = example_of(places(40, 50), rim=0)
    window = draw_unpaired(clean, 96, rng(0))
    columns = np.pad(np.arange(50), (0, 46), mode="symmetric")
    rows = np.pad(np.arange(40), (0, 56), mode="symmetric")
    shown = window if window[0, 0, 0] == 0 else window[:, ::-1]
    assert np.array_equal(shown[..., 0], np.tile(columns, (96, 1)))
    assert np.array_equal(shown[..., 1], np.tile(rows[:, None], (1, 96)))


def test_a_cloak_is_shown_weaker_and_stronger(only_cut: pytest.MonkeyPatch) -> None:
    only_cut.setattr(windows, "RECLOAKED", 1.0)
    clean = example_of(np.full((150, 150, 3), 100, np.uint8))
    cloaked = replace(clean, cloak=0, partner=clean.source, pixels=np.full((150, 150, 3), 140, np.uint8))
    shown = []
    for seed in range(300):
        one, other = draw_pair(clean, cloaked, 48, rng(seed))
        assert (one == 100).all()
        assert len(np.unique(other)) == 1
        shown.append((int(other[0, 0, 0]) - 100) / 40)
    low, high = STRENGTHS
    assert low <= min(shown) < low + 0.05
    assert high - 0.05 < max(shown) <= high
    # As likely below the middle of the logarithms as above.
    assert 0.4 < np.mean(np.array(shown) < np.sqrt(low * high)) < 0.6
    # Where one is not a copy of the other there is no difference to lay on.
    other = replace(cloaked, partner=None)
    assert {int(draw_pair(clean, other, 48, rng(seed))[1][0, 0, 0]) for seed in range(20)} == {140}
    # Nor is a cloak that is not augmented another than it is; on another's photo it may be a little stronger.
    plain = {int(draw_pair(clean, cloaked, 48, rng(seed), odd=0)[1][0, 0, 0]) for seed in range(20)}
    assert plain == {140}
    onto = replace(clean, source="bob -1", pixels=np.full((150, 150, 3), 60, np.uint8))
    shown = [(float(draw_pair(clean, cloaked, 48, rng(n), onto=onto, odd=0)[1][9, 9, 0]) - 60) / 40 for n in range(100)]
    assert 1 <= min(shown) < 1.03
    assert 1.2 < max(shown) <= high


def test_a_cloak_is_laid_on_a_changed_photo(only_cut: pytest.MonkeyPatch) -> None:
    """What happens to a photo before a cloak does not happen to the cloak."""
    only_cut.setattr(windows, "RECLOAKED", 1.0)
    only_cut.setattr(windows, "STRENGTHS", (1.0, 1.0))
    used = []

    def flatten(pixels: Pixels, names: Any, _: Any) -> Pixels:
        used.append(names)
        return np.full_like(pixels, 128) if names is windows.BEFORE else pixels

    only_cut.setattr(windows, "_change", flatten)
    base = smooth(150)
    clean = example_of((base // 2 + 60).astype(np.uint8))
    cloaked = replace(clean, cloak=0, partner=clean.source, pixels=striped(clean.pixels, 1))
    seen = set()
    for seed in range(20):
        one, other = draw_pair(clean, cloaked, 64, rng(seed))
        assert set(np.unique(np.abs(other.astype(int) - one))) == {12}
        seen.add(bool((one == 128).all()))
    assert seen == {False, True}
    assert windows.BEFORE in used


@pytest.mark.parametrize(("factor", "shown"), [(0.5, 1.0), (1.5, 1.0), (1.0, 0.4), (0.8, 0.6)])
@pytest.mark.parametrize("side", SIDES_PX)
def test_scaled_windows_are_full(factor: float, shown: float, side: int, only_cut: pytest.MonkeyPatch) -> None:
    """Before it is scaled a part is cut that is large enough: a window has no mirrored rim."""
    cut, reduced = [], []
    whole, resized = windows.scale, windows.resized

    def scale(pixels: Pixels, by: float, generator: np.random.Generator) -> Pixels:
        cut.append((pixels.shape, by))
        return whole(pixels, by, generator)

    def reduce(pixels: Pixels, by: float) -> Any:
        reduced.append((pixels.shape, by))
        return resized(pixels, by)

    only_cut.setattr(windows, "scale", scale)
    only_cut.setattr(windows, "resized", reduce)
    set_factors(only_cut, factor, shown)
    window = draw_unpaired(example_of(picture(400, 400)), side, rng())
    before = round((side + 2 * MARGIN_PX) / (factor * shown))
    after = round(before * factor)
    assert cut == ([] if factor == 1 else [((before, before, 3), factor)])
    assert reduced == ([] if shown == 1 else [((after, after, 3), shown)])
    assert after * shown >= side
    # What is reduced last is not rounded.
    assert bool((window % 1 != 0).any()) is (shown < 1)


def test_more_than_half_of_photos_are_scaled_after_the_cloak() -> None:
    """To any smaller size of the face, all as likely by the logarithm, or larger; and reduced as the detector does."""
    for face in (280, 100):
        example = example_of(picture(face, face - 30), rim=0)
        drawn = [windows._draw(example, 64, rng(seed), True) for seed in range(2000)]
        factors = np.array([each.factor for each in drawn])
        least = SMALLEST_FACE_PX / face
        assert (factors < 1).mean() == pytest.approx(0.45, abs=0.04)
        assert (factors > 1).mean() == pytest.approx(0.1, abs=0.03)
        assert least <= factors.min() < 1.05 * least
        assert 1.45 < factors.max() <= 1.5
        assert (factors < least**0.5).sum() / (factors < 1).sum() == pytest.approx(0.5, abs=0.06)
        for each in drawn:
            assert each.side == 64
            assert each.shown == pytest.approx(min(1, LARGEST_PX / (CROP_SCALE * each.factor * face)))
            assert each.before == round(80 / each.factor / each.shown)
        assert len({each.seed for each in drawn}) == 2000
        plain = [windows._draw(example, 64, rng(seed), False) for seed in range(20)]
        assert {each.factor for each in plain} == {1.0}
        assert {each.shown for each in plain} == {min(1, LARGEST_PX / (CROP_SCALE * face))}
    # A small face is not made smaller.
    small = example_of(picture(30, 30), rim=0)
    assert min(windows._draw(small, 64, rng(seed), True).factor for seed in range(300)) == 1


# ---------------------------------------------------------------- on another's photo


def pair_of(change: Any, box: tuple[float, float, float, float]) -> tuple[Example, Example]:
    """A flat grey photo and its cloaked copy."""
    height, width = change.shape[:2]
    clean = replace(example_of(np.full((height, width, 3), 100, np.uint8)), box=box)
    pixels = np.rint(100 + change).astype(np.uint8)
    return clean, replace(clean, cloak=0, partner=clean.source, source="ann 0", pixels=pixels)


def flat(height: int, width: int, box: tuple[float, float, float, float]) -> Example:
    return replace(example_of(np.full((height, width, 3), 60, np.uint8), person="bob"), box=box)


ONTO = [
    flat(300, 280, (40.0, 60.0, 240.0, 260.0)),
    flat(90, 80, (20.0, 24.0, 60.0, 64.0)),
    flat(160, 160, (30.0, 30.0, 130.0, 130.0)),
    flat(160, 200, (-40.0, 20.5, 80.0, 140.5)),
    flat(300, 280, (40.0, 60.0, 200.0, 260.0)),
]


@pytest.mark.parametrize("onto", ONTO)
def test_a_transplanted_change_lies_where_the_others_face_has_it(onto: Example) -> None:
    """At its place in the box, and at the scale of the box."""
    rows, columns = np.mgrid[:160, :160] + 0.5
    # In the box from (30, 30) to (130, 130): three quarters across, a third down.
    spot = 90 * np.exp(-((columns - 105) ** 2 + (rows - 63) ** 2) / (2 * 8**2))
    clean, cloaked = pair_of(spot[..., None], (30.0, 30.0, 130.0, 130.0))
    height, width = onto.pixels.shape[:2]
    moved = windows._moved_change(clean, cloaked, onto, (0, 0, height, width))
    assert (moved.shape, moved.dtype) == ((height, width, 3), np.float32)
    x0, y0, x1, y1 = onto.box
    weights, (down, across) = moved[..., 0].astype(float), np.mgrid[:height, :width] + 0.5
    total = weights.sum()
    at_x, at_y = (weights * across).sum() / total, (weights * down).sum() / total
    assert (at_x - x0) / (x1 - x0) == pytest.approx(0.75, abs=0.01)
    assert (at_y - y0) / (y1 - y0) == pytest.approx(0.33, abs=0.01)
    scales = (x1 - x0) / 100, (y1 - y0) / 100
    spread = [((weights * (axis - at) ** 2).sum() / total) ** 0.5 for axis, at in ((across, at_x), (down, at_y))]
    assert spread == pytest.approx([8 * scales[0], 8 * scales[1]], rel=0.1)
    assert moved.max() == pytest.approx(90, rel=0.1)


@pytest.mark.parametrize("onto", ONTO[:3])
@pytest.mark.parametrize("period", [4, 10, 30])
def test_a_transplanted_change_is_about_as_strong(onto: Example, period: int) -> None:
    """What the size of the other face can show of it is; what is too fine for a smaller one is not made up."""
    rows, columns = np.mgrid[:160, :160] + 0.5
    waves = 20 * np.sin(2 * np.pi * columns / period) * np.sin(2 * np.pi * rows / period)
    clean, cloaked = pair_of(waves[..., None], (30.0, 30.0, 130.0, 130.0))
    x0, y0, x1, y1 = map(int, onto.box)
    moved = windows._moved_change(clean, cloaked, onto, (y0, x0, y1, x1))
    scale = (x1 - x0) / 100
    kept = float(moved.std() / (cloaked.pixels[30:130, 30:130].astype(float) - 100).std())
    if period * scale >= 8:
        assert 0.8 < kept < 1.1
    elif period * scale >= 4:
        assert 0.35 < kept < 1.1
    else:
        assert kept < 0.35


def test_a_part_of_a_transplanted_change_is_cut_from_it() -> None:
    clean, cloaked = pair_of(
        np.full((160, 160, 1), 30) * (picture(160, 160)[..., :1] > 128), (30.0, 30.0, 130.0, 130.0)
    )
    for onto in (ONTO[0], ONTO[2]):
        height, width = onto.pixels.shape[:2]
        whole = windows._moved_change(clean, cloaked, onto, (0, 0, height, width))
        for top, left, bottom, right in ((40, 50, 104, 114), (0, 0, 64, 64), (height - 20, 3, height, width)):
            part = windows._moved_change(clean, cloaked, onto, (top, left, bottom, right))
            assert np.abs(part - whole[top:bottom, left:right]).max() < 0.02


def test_beyond_the_photo_that_a_cloak_was_made_for_there_is_none() -> None:
    clean, cloaked = pair_of(np.full((100, 100, 1), 30), (0.0, 0.0, 100.0, 100.0))
    onto = flat(200, 200, (80.0, 80.0, 120.0, 120.0))
    moved = windows._moved_change(clean, cloaked, onto, (0, 0, 200, 200))
    assert moved[85:115, 85:115] == pytest.approx(30, abs=1e-3)
    moved[77:123, 77:123] = 0
    assert not moved.any()
    # And of a part that has nothing of it, on any side.
    for top, left in ((0, 0), (0, 80), (80, 0), (150, 80), (80, 150), (136, 136), (40, 90), (90, 40)):
        assert not windows._moved_change(clean, cloaked, onto, (top, left, top + 36, left + 36)).any()


def test_a_pair_on_anothers_photo_shows_that_photo(only_cut: pytest.MonkeyPatch) -> None:
    clean, cloaked = pair_of(np.full((160, 160, 1), 30), (30.0, 30.0, 130.0, 130.0))
    for seed in range(30):
        one, other = draw_pair(clean, cloaked, 64, rng(seed), onto=ONTO[2])
        assert (one == 60).all()
        assert 60 + 30 * STRENGTHS[0] - 1 < other.min() <= other.max() < 60 + 30 * STRENGTHS[1] + 1
    # Where there is no change to lay on the photo stays its own.
    one, other = draw_pair(clean, replace(cloaked, partner=None), 64, rng(), onto=ONTO[2])
    assert [np.unique(each).tolist() for each in (one, other)] == [[100], [130]]


def test_some_cloaks_lie_elsewhere_than_on_a_face_and_clean_windows_too(only_cut: pytest.MonkeyPatch) -> None:
    clean, cloaked = pair_of(np.full((160, 160, 1), 30), (30.0, 30.0, 130.0, 130.0))
    onto = replace(ONTO[2], elsewhere=np.full((160, 160, 3), 200, np.uint8))
    shown = Counter(float(draw_pair(clean, cloaked, 48, rng(seed), onto=onto)[0].mean()) for seed in range(400))
    assert set(shown) == {60.0, 200.0}
    assert shown[200.0] / 400 == pytest.approx(0.2, abs=0.06)
    alone = Counter(float(draw_unpaired(onto, 48, rng(seed)).mean()) for seed in range(400))
    assert set(alone) == {60.0, 200.0}
    assert alone[200.0] / 400 == pytest.approx(0.4, abs=0.08)
    pixels = [draw_pair(clean, cloaked, 48, rng(seed), onto=onto)[1] for seed in range(40)]
    assert all(each.max() - each.min() < 2 for each in pixels), "the cloak is on it, wherever it is"
    assert any(each.min() > 205 for each in pixels)


# ---------------------------------------------------------------- how often


class Draws:
    """Notes what happens to a photo, in order; ``~name`` is a change before the cloak, ``=name`` one after it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.events: list[str] = []
        # Quality and subsampling.
        self.savings: list[tuple[int, int]] = []
        change = windows._change

        def changed(pixels: Pixels, names: Any, generator: np.random.Generator) -> Pixels:
            assert names is windows.BEFORE
            self.events.append("before")
            start = len(self.events)
            pixels = change(pixels, names, generator)
            self.events[start:] = [event.replace("=", "~") for event in self.events[start:]]
            return pixels

        def applied(name: str) -> Any:
            def apply(pixels: Pixels, _: Any) -> Pixels:
                self.events.append(name)
                return pixels

            return apply

        def save(pixels: Pixels, *how: int) -> Pixels:
            self.events.append("jpeg")
            self.savings.append((how[0], how[1]))
            return pixels

        def scale(pixels: Pixels, *_: Any) -> Pixels:
            self.events.append("scale")
            return pixels

        monkeypatch.setattr(windows, "GREY", 0.0)
        monkeypatch.setattr(windows, "_change", changed)
        monkeypatch.setattr(windows, "save_as_jpeg", save)
        monkeypatch.setattr(windows, "scale", scale)
        monkeypatch.setattr(windows, "CHANGES", {name: applied(f"={name}") for name in windows.CHANGES})

    def of(self, draw: Any, times: int = 2000) -> list[list[str]]:
        """What happens in each of many draws."""
        each = []
        for seed in range(times):
            self.events.clear()
            draw(rng(seed))
            each.append(list(self.events))
        return each


@pytest.fixture
def draws(monkeypatch: pytest.MonkeyPatch) -> Draws:
    return Draws(monkeypatch)


def shares(each: list[list[str]], *names: str) -> list[float]:
    return [float(np.mean([name in events for events in each])) for name in names]


def test_clean_faces_alone_are_changed_and_saved_in_their_shares(draws: Draws) -> None:
    clean, order = example_of(picture(96, 96), rim=0), ["before", "scale", "jpeg"]
    each = draws.of(lambda generator: draw_unpaired(clean, 96, generator))
    assert shares(each, *order) == pytest.approx([0.35, 0.55, 0.45], abs=0.04)
    # One after the other, and independently: all three happen to one photo in 12.
    kept = [[event for event in events if event[0] not in "=~"] for events in each]
    assert all(events == [event for event in order if event in events] for events in kept)
    assert kept.count(order) / 2000 == pytest.approx(0.35 * 0.55 * 0.45, abs=0.02)
    # Changes after the cloak: none to three of them, of their own list, after scaling and before the last save.
    after = [[event[1:] for event in events if event[0] == "="] for events in each]
    numbers = np.bincount([len(names) for names in after], minlength=4) / 2000
    assert numbers == pytest.approx(AFTERWARDS, abs=0.04)
    counts = Counter(name for names in after for name in names)
    assert set(counts) == set(windows.AFTER)
    # Those that are drawn twice as often, halved.
    drawn = [count / (1 + (name in windows.MISTAKEN)) for name, count in counts.items()]
    assert min(drawn) > 0.55 * max(drawn)
    assert min(counts[name] for name in windows.MISTAKEN) > 1.4 * np.median(drawn)
    qualities, subsamplings = (np.array(values) for values in zip(*draws.savings, strict=True))
    assert (qualities.min(), qualities.max()) == (50, 98)
    assert 70 < qualities.mean() < 78
    assert np.bincount(subsamplings) / len(subsamplings) == pytest.approx([1 / 3] * 3, abs=0.06)


def test_a_change_before_the_cloak_is_sometimes_two(draws: Draws) -> None:
    pixels = picture(96, 96)
    each = draws.of(lambda generator: windows._change(pixels, windows.BEFORE, generator))
    used = [[event[1:] for event in events[1:]] for events in each]
    assert {len(changes) for changes in used} == {1, 2}
    assert np.mean([len(changes) == 2 for changes in used]) == pytest.approx(0.35, abs=0.04)
    counts = Counter(name for changes in used for name in changes)
    assert set(counts) == set(windows.BEFORE)
    assert min(counts.values()) > 0.7 * max(counts.values())


def test_a_pair_is_saved_and_changed_in_the_same_shares(draws: Draws) -> None:
    clean = example_of(picture(96, 96), rim=0)
    copy = replace(clean, cloak=0, partner=clean.source)
    onto = example_of(picture(96, 96, 1), rim=0, person="bob")
    for other, recloaked in ((None, 0.35), (onto, 1)):
        each = draws.of(lambda generator, other=other: draw_pair(clean, copy, 64, generator, onto=other))
        for events in each:
            ends = [event for event in events if event in ("scale", "jpeg") or event[0] == "="]
            assert ends[: len(ends) // 2] == ends[len(ends) // 2 :]
        # Of those that are cloaked otherwise, 35 of 100 or all, six in ten had something happen before.
        expected = [0.55, 0.45, recloaked * 0.6]
        assert shares(each, "scale", "jpeg", "before") == pytest.approx(expected, abs=0.04)
        assert np.mean([any(event[0] == "=" for event in events) for events in each]) == pytest.approx(0.6, abs=0.04)
    # Of a photo of which there is no clean copy nothing is known before the cloak.
    alone = draws.of(lambda generator: draw_pair(clean, replace(clean, cloak=0), 64, generator))
    assert not any("before" in events for events in alone)


@pytest.mark.parametrize("odd", [0.0, 0.3, 1.0])
def test_so_many_windows_are_augmented_as_it_says(odd: float, draws: Draws) -> None:
    clean = example_of(picture(96, 96), rim=0)
    copy = replace(clean, cloak=0, partner=clean.source)
    for draw in (
        lambda generator: draw_pair(clean, copy, 64, generator, odd=odd),
        lambda generator: draw_pair(clean, copy, 64, generator, onto=clean, odd=odd),
        lambda generator: draw_unpaired(clean, 64, generator, odd=odd),
    ):
        each = draws.of(draw, 600)
        assert shares(each, "scale", "jpeg") == pytest.approx([0.55 * odd, 0.45 * odd], abs=0.06)
        if not odd:
            assert not any(each)


def test_a_fifth_of_windows_is_grey(only_cut: pytest.MonkeyPatch) -> None:
    """Both of a pair, augmented or not."""
    only_cut.setattr(windows, "GREY", GREY)
    clean = example_of(picture(96, 96), rim=0)
    copy = replace(clean, cloak=0, partner=clean.source, pixels=striped(clean.pixels, 0))
    for odd in (0.0, 1.0):
        pairs = [draw_pair(clean, copy, 48, rng(seed), odd=odd) for seed in range(600)]
        grey = np.array([[bool((each == each[..., :1]).all()) for each in pair] for pair in pairs])
        assert np.array_equal(grey[:, 0], grey[:, 1])
        assert grey.mean() == pytest.approx(0.2, abs=0.05)
        lone = [draw_unpaired(clean, 48, rng(seed), odd=odd) for seed in range(600)]
        assert np.mean([bool((each == each[..., :1]).all()) for each in lone]) == pytest.approx(0.2, abs=0.05)


def test_a_window_lies_anywhere_on_the_grid_of_its_jpeg(only_cut: pytest.MonkeyPatch) -> None:
    """Saved with eight pixels more on each side: were it saved as it is, blocks would begin at its corner."""
    only_cut.setattr(windows, "save_as_jpeg", lambda pixels, *_: places(*pixels.shape[:2]))
    corners = set()
    for seed in range(1500):
        window = draw_unpaired(example_of(np.zeros((300, 300, 3), np.uint8), rim=0), 48, rng(seed))
        if window.any():
            corners.add((int(window[..., 0].min()), int(window[..., 1].min())))
    assert [{corner[axis] for corner in corners} for axis in (0, 1)] == [set(range(17))] * 2
