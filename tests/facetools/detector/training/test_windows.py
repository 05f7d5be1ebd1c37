"""Windows that the detector is trained on: the same happens to clean and to cloaked faces."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detector_faces import example_of, picture, smooth, striped
from facetools.detector.training import windows
from facetools.detector.training.windows import MARGIN_PX, STRENGTHS, WINDOW_PX, draw_pair, draw_unpaired
from facetools.photos.photo import Pixels

SIZES = [(8, 8), (8, 70), (30, 20), (96, 96), (113, 240), (300, 280)]
SEEDS = st.integers(0, 2**62)


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


@given(seed=SEEDS, size=st.sampled_from(SIZES))
@settings(deadline=None, max_examples=40)
def test_copies_that_are_equal_give_windows_that_are_equal(seed: int, size: tuple[int, int]) -> None:
    """Nothing is drawn for one label alone: it would stand for the label."""
    clean = example_of(picture(*size), rim=0)
    one, other = draw_pair(clean, replace(clean, cloak=0, partner=clean.source), rng(seed))
    assert np.array_equal(one, other)
    # Of one photo found in two places too: pixels are no longer the same ones, but draws are.
    elsewhere = replace(clean, cloak=0, origin=(1, 0, *size))
    one, other = draw_pair(clean, elsewhere, rng(seed))
    assert np.array_equal(one, other)


@given(seed=SEEDS)
@settings(deadline=None, max_examples=20)
def test_the_two_of_a_pair_are_treated_alike(seed: int) -> None:
    """Photos of which neither is a copy of the other give the same windows in either role."""
    first, second = example_of(picture(130, 120, 1)), example_of(picture(130, 120, 2), person="bob")
    as_clean = draw_pair(first, replace(second, cloak=0), rng(seed))
    as_cloaked = draw_pair(second, replace(first, cloak=0), rng(seed))
    assert np.array_equal(as_clean[0], as_cloaked[1])
    assert np.array_equal(as_clean[1], as_cloaked[0])


@pytest.mark.parametrize("size", SIZES)
def test_windows_have_one_size_and_photos_stay(size: tuple[int, int]) -> None:
    clean = example_of(picture(*size), rim=size[0] // 6)
    cloaked = replace(clean, cloak=0, partner=clean.source, pixels=striped(clean.pixels, 0))
    before = clean.pixels.copy(), cloaked.pixels.copy()
    for seed in range(12):
        drawn = [*draw_pair(clean, cloaked, rng(seed)), draw_unpaired(clean, rng(seed))]
        for window in drawn:
            assert (window.shape, window.dtype) == ((WINDOW_PX, WINDOW_PX, 3), np.uint8)
            assert window.flags.c_contiguous
        again = [*draw_pair(clean, cloaked, rng(seed)), draw_unpaired(clean, rng(seed))]
        assert all(np.array_equal(a, b) for a, b in zip(drawn, again, strict=True)), "the generator decides"
    assert np.array_equal(clean.pixels, before[0])
    assert np.array_equal(cloaked.pixels, before[1])


@pytest.fixture
def only_cut(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """Nothing is drawn but where a window lies and whether it is mirrored."""
    monkeypatch.setattr(windows, "RECLOAKED", 0.0)
    monkeypatch.setattr(windows, "_draw_factor", lambda _: 1.0)
    monkeypatch.setattr(windows, "_change", lambda pixels, *_: pixels)
    monkeypatch.setattr(windows, "save_as_jpeg", lambda pixels, *_: pixels)
    return monkeypatch


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
        one, other = draw_pair(clean, cloaked, rng(seed))
        columns, rows = one[..., 0], one[..., 1]
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
        window = draw_unpaired(clean, rng(seed))
        low, high = min(low, int(window[..., :2].min())), max(high, int(window[..., :2].max()))
    assert 45 <= low < 55
    assert 215 < high <= 224


def test_a_small_face_is_continued_by_its_mirror_image(only_cut: Any) -> None:
    clean = example_of(places(40, 50), rim=0)
    window = draw_unpaired(clean, rng(0))
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
        one, other = draw_pair(clean, cloaked, rng(seed))
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
    assert {int(draw_pair(clean, other, rng(seed))[1][0, 0, 0]) for seed in range(20)} == {140}


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
        one, other = draw_pair(clean, cloaked, rng(seed))
        assert set(np.unique(np.abs(other.astype(int) - one))) == {12}
        seen.add(bool((one == 128).all()))
    assert seen == {False, True}
    assert windows.BEFORE in used


@pytest.mark.parametrize("factor", [0.5, 1.5])
def test_scaled_windows_are_full(factor: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before it is scaled a part is cut that is large enough: a window has no mirrored rim."""
    cut = []
    whole = windows.scale

    def scale(pixels: Pixels, by: float, generator: np.random.Generator) -> Pixels:
        cut.append(pixels.shape)
        return whole(pixels, by, generator)

    monkeypatch.setattr(windows, "scale", scale)
    monkeypatch.setattr(windows, "_draw_factor", lambda _: factor)
    draw_unpaired(example_of(picture(400, 400)), rng())
    side = round((WINDOW_PX + 2 * MARGIN_PX) / factor)
    assert cut == [(side, side, 3)]


def test_most_photos_are_not_scaled_and_others_by_half_to_one_and_a_half() -> None:
    factors = np.array([windows._draw_factor(rng(seed)) for seed in range(2000)])
    assert 0.66 < (factors == 1).mean() < 0.74
    assert 0.5 <= factors.min() < 0.52
    assert 1.47 < factors.max() <= 1.5


# ---------------------------------------------------------------- how often


class Draws:
    """Notes what happens to a photo, in order: ``before``, ``scale``, ``after``, ``jpeg``, and changes as ``=name``."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.events: list[str] = []
        # Quality and subsampling.
        self.savings: list[tuple[int, int]] = []
        change = windows._change

        def changed(pixels: Pixels, names: Any, generator: np.random.Generator) -> Pixels:
            self.events.append({windows.BEFORE: "before", windows.AFTER: "after"}[names])
            return change(pixels, names, generator)

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

        monkeypatch.setattr(windows, "_change", changed)
        monkeypatch.setattr(windows, "save_as_jpeg", save)
        monkeypatch.setattr(windows, "scale", scale)
        monkeypatch.setattr(windows, "CHANGES", {name: applied(f"={name}") for name in windows.CHANGES})

    def of(self, draw: Any) -> list[list[str]]:
        """What happens in each of many draws."""
        each = []
        for seed in range(2000):
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
    clean, order = example_of(picture(96, 96), rim=0), ["before", "scale", "after", "jpeg"]
    each = draws.of(lambda generator: draw_unpaired(clean, generator))
    assert shares(each, *order) == pytest.approx([0.35, 0.3, 0.35, 0.35], abs=0.04)
    # One after the other, and independently: all four happen to one photo in 78.
    kept = [[event for event in events if event[0] != "="] for events in each]
    assert all(events == [event for event in order if event in events] for events in kept)
    assert 10 < kept.count(order) < 45
    qualities, subsamplings = (np.array(values) for values in zip(*draws.savings, strict=True))
    assert (qualities.min(), qualities.max()) == (50, 98)
    assert 70 < qualities.mean() < 78
    assert np.bincount(subsamplings) / len(subsamplings) == pytest.approx([1 / 3] * 3, abs=0.06)


def test_a_change_is_sometimes_two_of_its_own_list(draws: Draws) -> None:
    pixels = picture(96, 96)
    for names in (windows.BEFORE, windows.AFTER):
        each = draws.of(lambda generator, names=names: windows._change(pixels, names, generator))
        used = [[event[1:] for event in events[1:]] for events in each]
        assert {len(changes) for changes in used} == {1, 2}
        assert np.mean([len(changes) == 2 for changes in used]) == pytest.approx(0.35, abs=0.04)
        counts = Counter(name for changes in used for name in changes)
        assert set(counts) == set(names)
        assert min(counts.values()) > 0.7 * max(counts.values())


def test_a_pair_is_saved_and_changed_in_the_same_shares(draws: Draws) -> None:
    clean = example_of(picture(96, 96), rim=0)
    each = draws.of(lambda generator: draw_pair(clean, replace(clean, cloak=0, partner=clean.source), generator))
    for events in each:
        ends = [event for event in events if event in ("scale", "after", "jpeg")]
        assert ends[: len(ends) // 2] == ends[len(ends) // 2 :]
    # Of those that are cloaked otherwise, 35 of 100, six in ten had something happen before.
    expected = [0.3, 0.35, 0.35, 0.35 * 0.6]
    assert shares(each, "scale", "after", "jpeg", "before") == pytest.approx(expected, abs=0.04)
    # Of a photo of which there is no clean copy nothing is known before the cloak.
    alone = draws.of(lambda generator: draw_pair(clean, replace(clean, cloak=0), generator))
    assert not any("before" in events for events in alone)


def test_a_window_lies_anywhere_on_the_grid_of_its_jpeg(only_cut: pytest.MonkeyPatch) -> None:
    """Saved with eight pixels more on each side: were it saved as it is, blocks would begin at its corner."""
    only_cut.setattr(windows, "save_as_jpeg", lambda pixels, *_: places(*pixels.shape[:2]))
    corners = set()
    for seed in range(1500):
        window = draw_unpaired(example_of(np.zeros((300, 300, 3), np.uint8), rim=0), rng(seed))
        if window.any():
            corners.add((int(window[..., 0].min()), int(window[..., 1].min())))
    assert [{corner[axis] for corner in corners} for axis in (0, 1)] == [set(range(17))] * 2
