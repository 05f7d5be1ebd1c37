"""Figures of scores: each curve, bar and word against counting by hand."""

from __future__ import annotations

import io
import logging
from typing import Any

import numpy as np
import pytest
from PIL import Image

from _toolio.charts import FORMATS, WIDTH_IN, style
from _toolio.errors import ToolError, spell_parameters
from facetools.metrics import share_interval
from facetools.reporting.detector_figures import BARS, KINDS, draw
from facetools.reporting.detector_scores import Scores

CLEAN, CLOAKED = (0.1, 0.2, 0.7), (0.9, 0.8, 0.6)


def scores_of(*kinds: Any, threshold: float | None = 0.5, over: str = "people") -> Scores:
    """Scores of clean faces and of each cloak; the n-th of each is of the n-th person."""
    return Scores(
        np.concatenate(kinds),
        np.repeat(np.arange(len(kinds)), [len(each) for each in kinds]),
        ("out/lowkey", "opom", "tip-im")[: len(kinds) - 1],
        np.concatenate([np.arange(len(each)) for each in kinds]),
        over,
        threshold,
        {"failed": 1, "without_score": 2, "without_truth": 3, "repeated": 4},
    )


def drawn(kind: str, scores: Scores) -> tuple[Any, list[dict[str, Any]]]:
    with style():
        return KINDS[kind](scores)


def test_drawing_leaves_the_level_of_matplotlibs_log_as_it_was() -> None:
    logger = logging.getLogger("matplotlib")
    level = logger.level
    logger.setLevel(logging.INFO)
    try:
        with style():
            assert logger.level == logging.ERROR
        assert logger.level == logging.INFO
    finally:
        logger.setLevel(level)


def legend(figure: Any) -> list[str]:
    (found,) = figure.legends
    return [text.get_text() for text in found.get_texts()]


def points(line: Any) -> list[tuple[float, float]]:
    return [(float(x), float(y)) for x, y in zip(line.get_xdata(), line.get_ydata(), strict=True)]


def test_a_curve_and_its_numbers() -> None:
    figure, (fields,) = drawn("roc", scores_of(CLEAN, CLOAKED))
    third = 1 / 3
    assert fields["auc"] == pytest.approx(8 / 9)
    assert fields["eer"] == pytest.approx(third)
    assert [fields[key] for key in ("recall", "precision", "false_alarms")] == pytest.approx([1, 0.75, third])
    assert (fields["name"], fields["clean"], fields["cloaked"], fields["groups"]) == ("out/lowkey", 3, 3, 3)
    _, curve, equal, working, *_ = figure.axes[0].get_lines()
    wanted = [(0, 0), (0, third), (0, 2 * third), (third, 2 * third), (third, 1), (2 * third, 1), (1, 1)]
    assert np.array(points(curve)) == pytest.approx(np.array(wanted))
    assert points(equal) == [pytest.approx((third, 2 * third))]
    assert points(working) == [pytest.approx((third, 1))]
    low, high = fields["auc_interval"]
    assert legend(figure) == [
        f"lowkey: AUC 0.8889 ({low:.4f}-{high:.4f})\nequal error rate 33.3%; recall 100.0%, false alarms 33.3%",
        "at the threshold of 0.5",
        "where both errors are equal",
        "in brackets: 95% bootstrap interval over people",
    ]


def test_each_cloak_has_a_curve_against_the_same_clean_faces() -> None:
    figure, (first, second) = drawn("roc", scores_of(CLEAN, CLOAKED, (0.05, 0.15)))
    assert (first["auc"], second["auc"]) == (pytest.approx(8 / 9), pytest.approx(1 / 6))
    assert (first["clean"], second["clean"], second["cloaked"]) == (3, 3, 2)
    curves = [line for line in figure.axes[0].get_lines() if len(line.get_xdata()) > 2]
    assert len(curves) == 2
    looks = {(line.get_color(), line.get_linestyle()) for line in curves}
    assert len({colour for colour, _ in looks}) == len({dash for _, dash in looks}) == 2
    assert [text.split(":")[0] for text in legend(figure)[:2]] == ["lowkey", "opom"]


def test_without_a_threshold_no_working_point() -> None:
    figure, (fields,) = drawn("roc", scores_of(CLEAN, CLOAKED, threshold=None))
    assert [fields[key] for key in ("threshold", "recall", "precision", "false_alarms")] == [None] * 4
    assert fields["reason"].endswith("; give threshold"), "as a caller from Python knows it"
    assert not any("recall" in text or "threshold" in text for text in legend(figure))


def test_a_command_s_user_reads_options_in_reasons() -> None:
    spell_parameters({"threshold": "--threshold"})
    try:
        for kind in ("roc", "histogram", "false-alarms"):
            for fields in drawn(kind, scores_of(CLEAN, CLOAKED, threshold=None))[1]:
                assert fields["reason"].endswith("; give --threshold")
    finally:
        spell_parameters({})


def test_nothing_found_has_no_precision() -> None:
    fields = drawn("roc", scores_of(CLEAN, CLOAKED, threshold=1.0))[1][0]
    assert (fields["recall"], fields["precision"], fields["false_alarms"]) == (0, None, 0)


def test_a_curve_of_many_points_stays_small_and_true() -> None:
    rng = np.random.default_rng(0)
    figure, (fields,) = drawn("roc", scores_of(rng.beta(2, 4, 30_000), rng.beta(4, 2, 30_000)))
    curve = figure.axes[0].get_lines()[1]
    x, y = np.array(points(curve)).T
    assert len(x) < 5000
    assert np.trapezoid(y, x) == pytest.approx(fields["auc"], abs=2e-4)


def test_bars_are_shares_of_faces() -> None:
    figure, (clean, cloaked) = drawn("histogram", scores_of(CLEAN, (0.9, 0.91, 1.0, 0.2)))
    upper, lower = figure.axes
    heights = [bar.get_height() for bar in lower.patches]
    assert len(heights) == BARS
    assert {place / BARS: height for place, height in enumerate(heights) if height} == {
        0.2: 0.25,
        0.9: 0.5,
        0.975: 0.25,
    }
    assert lower.patches[36].get_x() == pytest.approx(0.9)
    assert upper.get_title("left") == "clean\n3 faces, 33.3% labelled cloaked"
    assert lower.get_title("left") == "lowkey\n4 faces, 75.0% labelled cloaked"
    assert (clean["name"], clean["detected"], cloaked["detected"]) == ("clean", pytest.approx(1 / 3), 0.75)
    assert cloaked["quartiles"] == pytest.approx([0.725, 0.905, 0.9325])
    assert (sum(cloaked["counts"]), cloaked["faces"]) == (4, 4)
    assert [points(line)[0][0] for axes in figure.axes for line in axes.get_lines()] == [0.5, 0.5]
    assert upper.patches[0].get_hatch() != lower.patches[0].get_hatch(), "told apart without colours"


def test_a_histogram_needs_no_truth() -> None:
    alone = scores_of(CLEAN)
    untold = Scores(alone.values, alone.kinds - 1, (), alone.groups, "photos", None, {})
    figure, (fields,) = drawn("histogram", untold)
    assert (fields["name"], fields["detected"], fields["faces"]) == (None, None, 3)
    assert [axes.get_title("left") for axes in figure.axes] == ["3 faces"]
    assert not figure.axes[0].get_lines()


@pytest.mark.parametrize("kind", ["roc", "calibration"])
def test_names_stay_apart_in_a_legend(kind: str) -> None:
    names = ("_lowkey", "x fawkes-v1.0-ensemble-jpeg75", "x fawkes-v1.0-ensemble-jpeg90")
    scores = scores_of(CLEAN, CLOAKED, CLOAKED, CLOAKED)
    figure, _ = drawn(kind, Scores(scores.values, scores.kinds, names, scores.groups, "photos", 0.5, {}))
    shown = [text.partition(":")[0].strip() for text in legend(figure) if "\n" in text]
    assert shown == ["_lowkey", "x fawkes-v1…emble-jpeg75", "x fawkes-v1…emble-jpeg90"]


def test_looks_of_curves_repeat_late() -> None:
    kinds = np.arange(31)
    names = tuple(map(str, range(30)))
    figure, _ = drawn("roc", Scores(kinds / 31, kinds, names, kinds, "photos", 0.5, {}))
    curves = [line for line in figure.axes[0].get_lines() if line.get_linewidth() == 1.6]
    assert len(curves) == 30
    assert len({(curve.get_color(), curve.get_linestyle()) for curve in curves}) == 30


def test_calibration_by_hand() -> None:
    figure, (fields,) = drawn("calibration", scores_of([0.3] * 10 + [0.7], [0.7] * 9))
    # Both kinds weigh the same: 9 cloaked faces as much as 11 clean ones.
    share = (11 * 9) / (11 * 9 + 9 * 1)
    low, high = (11 * p / (11 * p + 9 * (1 - p)) for p in share_interval(9, 10))
    assert fields["bins"] == [
        {
            "score": pytest.approx(0.3),
            "share": 0,
            "interval": pytest.approx((0, 11 * 0.2775 / (11 * 0.2775 + 9 * 0.7225)), abs=1e-4),
            "faces": 10,
        },
        {
            "score": pytest.approx(0.7),
            "share": pytest.approx(share),
            "interval": pytest.approx((low, high)),
            "faces": 10,
        },
    ]
    assert fields["ece"] == pytest.approx(10 / 22 * 0.3 + 12 / 22 * (share - 0.7))
    upper, lower = figure.axes
    assert np.array(points(upper.get_lines()[1])) == pytest.approx(np.array([(0.3, 0), (0.7, share)]))
    assert legend(figure) == [
        "score and share agree",
        f"lowkey: calibration error {fields['ece']:.3f},\n20 faces, 9 cloaked",
    ]
    bars = {(bar.get_x(), bar.get_y(), bar.get_height()) for bar in lower.patches if bar.get_height()}
    assert bars == {(0.3, 0, 10), (0.7, 0, 1), (0.7, 1, 9)}


@pytest.mark.parametrize("kind", ["roc", "calibration"])
@pytest.mark.parametrize(("parts", "counts"), [((CLEAN,), "3 and 0"), (((), CLOAKED), "0 and 3")])
def test_one_kind_of_faces_is_not_enough(kind: str, parts: Any, counts: str) -> None:
    with pytest.raises(ToolError, match=f"kind {kind} needs clean and cloaked faces.* there are {counts}; say what"):
        drawn(kind, scores_of(*parts))


def assert_whole(photo: Image.Image) -> None:
    """Check that nothing reaches an edge, where it would be cut off."""
    pixels = np.asarray(photo.convert("L"))
    for edge in (pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]):
        assert (edge == 255).all()


@pytest.mark.parametrize("kind", KINDS)
def test_a_png_of_a_phones_width_in_which_nothing_is_cut_off(kind: str) -> None:
    scores = scores_of(CLEAN * 20, CLOAKED * 20, (0.4, 0.5, 0.6) * 20, (0.0, 1.0))
    data, figures = draw(kind, scores, "png")
    assert all(each["left_out"] == scores.left_out for each in figures)
    photo = Image.open(io.BytesIO(data)).convert("L")
    assert photo.width == WIDTH_IN * 240
    assert 600 < photo.height < 2200
    assert_whole(photo)


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("kind", KINDS)
def test_the_same_scores_give_the_same_bytes(kind: str, form: str) -> None:
    first, second = (draw(kind, scores_of(CLEAN, CLOAKED), form) for _ in range(2))
    assert first == second
    assert first[0].startswith({"png": b"\x89PNG", "svg": b"<?xml", "pdf": b"%PDF"}[form])
    assert b"atplotlib v" not in first[0]
    assert b"CreationDate" not in first[0]


def test_names_may_be_long_odd_and_many() -> None:
    odd = ("$\\frac{" + "x" * 200, "\u4eba\udcff\x1b[31m", "c")
    scores = scores_of(CLEAN, CLOAKED, CLOAKED, CLOAKED)
    for kind in KINDS:
        data, _ = draw(kind, Scores(scores.values, scores.kinds, odd, scores.groups, "photos", 0.5, {}), "png")
        assert_whole(Image.open(io.BytesIO(data)))
