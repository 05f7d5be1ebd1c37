"""Calibration of a detector: scores, thresholds of labels, named attacks, power; figures of unseen sources."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from detector_faces import example_of, network, picture, striped_people
from facetools.detector import scoring
from facetools.detector.calibration import (
    RATES,
    calibrate,
    calibrate_sources,
    choose_threshold,
    figures_by_source,
    fit,
    least_share,
    threshold_table,
)
from facetools.detector.decision import Calibration, Prediction
from facetools.detector.platt import fit_platt, scores_of
from facetools.detector.scoring import WEAKENED, UnseenScores
from facetools.detector.training.examples import Example
from facetools.metrics import share_interval
from facetools.transforms.augment import CHANGES, ODD, SURVIVED

Arrays = tuple[Any, Any]


def logits_of(first: Any, power: Any = None, attacks: Any = None) -> Any:
    """Logits as of a network, of which but the first are 0 unless they are given."""
    second = np.zeros(len(first)) if power is None else power
    return np.column_stack([first, second, np.zeros((len(first), 1)) if attacks is None else attacks])


class Faces:
    """Stands for a network: faces have the logits that they are given, as they are and after each change."""

    def __init__(
        self, monkeypatch: pytest.MonkeyPatch, plain: Arrays, changed: Arrays, odd: Any, weak: Any = (-9.0,)
    ) -> None:
        self.unseen = [example_of(picture(8, 8), cloak=cloak) for cloak in (-1, 0, -1, 0)]
        self.asked: list[Any] = []

        def score(_: Any, examples: list[Example]) -> Any:
            (label,) = {example.cloaked for example in examples}
            return logits_of(plain[label])

        def score_changed(_: Any, examples: list[Example], names: Any) -> Any:
            (label,) = {example.cloaked for example in examples}
            self.asked.append((label, names))
            parts = {}
            for kind, logits in (
                (SURVIVED, changed[label]),
                ([n for n in names if n not in SURVIVED], (odd, weak)[label]),
            ):
                parts |= dict(zip(kind, np.array_split(logits, len(kind)), strict=True))
            return (logits_of(parts[name]) for name in names)

        monkeypatch.setattr(scoring, "score", score)
        monkeypatch.setattr(scoring, "score_changed", score_changed)

    def calibrate(self, false_alarms: float) -> tuple[Calibration, dict[str, float]]:
        # As many numbers of attacks as there are cloaked faces.
        self.unseen[1:] = [self.unseen[1]] * len(scoring.score(network(), self.unseen[1:2]))
        return calibrate(network(), self.unseen, false_alarms=false_alarms, attacks=[0])


def draws(seed: int, *means_and_counts: tuple[float, int]) -> list[Any]:
    rng = np.random.default_rng(seed)
    return [rng.normal(size=count) + mean for mean, count in means_and_counts]


@pytest.mark.parametrize("false_alarms", [0.0, 0.003, 0.01, 0.1, 0.29, 0.5])
@pytest.mark.parametrize("odd_mean", [-3.0, -1.0, 1.5])
def test_the_threshold_is_the_lowest_that_few_clean_faces_reach(
    false_alarms: float, odd_mean: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    clean, cloaked, clean_2, cloaked_2, odd = draws(0, (-1, 200), (2, 150), (-0.5, 300), (1, 280), (odd_mean, 800))
    faces = Faces(monkeypatch, (clean, cloaked), (clean_2, cloaked_2), odd)
    found, figures = faces.calibrate(false_alarms)
    # Every change once: of clean faces all, of cloaked ones those that a cloak should survive.
    assert sorted(name for label, names in faces.asked for name in names if not label) == sorted({*ODD, *SURVIVED})
    # Once more for what power says of the clean copies; these are their own.
    assert [names for label, names in faces.asked if label] == [WEAKENED] * 2
    # Temperature and offset are those of all faces, as they are and changed, and not made to look odd.
    logits = np.r_[clean, clean_2, cloaked, cloaked_2]
    expected = fit_platt(logits, np.arange(930) >= 500)
    assert (found.temperature, found.offset) == pytest.approx(expected)

    after = np.r_[clean_2, odd]
    # Of what looks odd twice as many may reach it.
    parts = [
        (scores_of(part, found.temperature, found.offset), share)
        for part, share in ((clean, false_alarms), (after, min(2 * false_alarms, 0.5)))
    ]
    steps = np.arange(5000, 10_001) / 10_000
    few = (all((part >= step).mean() <= share + 1e-9 for part, share in parts) for step in steps)
    assert found.at().cloaked_from == pytest.approx(steps[list(few).index(True)], abs=1e-9)
    for name, part in (("recall", cloaked), ("false_alarms", clean), ("odd_false_alarms", after)):
        shown = scores_of(part, found.temperature, found.offset)
        assert figures[name] == pytest.approx((shown >= found.at().cloaked_from).mean())


def test_a_face_that_is_on_the_threshold_is_cloaked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Equal scores go together: where one more would be too many, none of them is cloaked."""
    clean, cloaked = np.r_[np.full(10, -3.0), np.full(10, 3.0)], np.full(20, 3.0)
    faces = Faces(monkeypatch, (clean, cloaked), (clean, cloaked), clean)
    some, figures = faces.calibrate(0.49)
    assert (figures["false_alarms"], figures["recall"]) == (0, 0)
    assert some.at().cloaked_from > scores_of(np.array([3.0]), some.temperature, some.offset)[0]
    _, figures = faces.calibrate(0.5)
    assert (figures["false_alarms"], figures["recall"]) == (0.5, 1)


def test_a_detector_that_is_always_right_has_the_threshold_in_the_middle(monkeypatch: pytest.MonkeyPatch) -> None:
    clean, cloaked = np.full(50, -9.0), np.full(50, 9.0)
    found, figures = Faces(monkeypatch, (clean, cloaked), (clean, cloaked), clean).calibrate(0.0)
    assert found.at().cloaked_from == 0.5
    assert figures == {"recall": 1, "false_alarms": 0, "odd_false_alarms": 0}


def test_real_faces_are_calibrated() -> None:
    net, unseen = network(), striped_people(3, side=40)
    found, figures = calibrate(net, unseen, false_alarms=0.0, attacks=[0, 1])
    assert 0.5 <= found.at().cloaked_from <= 1
    assert figures["false_alarms"] == figures["odd_false_alarms"] == 0
    assert {*ODD, *SURVIVED, *WEAKENED} <= set(CHANGES)
    assert np.isfinite([found.temperature, found.offset, *found.power]).all()


def test_the_threshold_is_that_of_the_worse_set_of_clean_faces() -> None:
    tame, wild = np.linspace(0, 0.6, 101), np.linspace(0, 0.9, 101)
    assert choose_threshold(tame, wild, false_alarms=0.0) == pytest.approx(0.9001)
    assert choose_threshold(wild, tame, false_alarms=0.1) == pytest.approx(0.8101)
    assert choose_threshold(tame / 2, false_alarms=0.0) == 0.5
    assert choose_threshold(np.ones(3), false_alarms=0.0) == 1.0


def test_a_row_for_each_rate_that_the_faces_can_hold() -> None:
    """By hand, over every threshold of four decimals."""
    groups = [np.random.default_rng(0).beta(1, 3, 400), np.random.default_rng(1).beta(2, 3, 90)]
    table = threshold_table(groups, false_alarms=0.004)
    assert [row.false_alarms for row in table] == [0.003, 0.004, 0.005, 0.01, 0.02, 0.05, 0.1]
    steps = np.arange(10_001) / 10_000

    def least(share: float) -> float:
        return float(next(step for step in steps if all((scores >= step).mean() <= share for scores in groups)))

    for rate, cloaked_from, clean_below in table:
        assert cloaked_from == pytest.approx(max(0.5, least(rate)), abs=1e-9)
        assert clean_below == pytest.approx(min(0.5, max(0.1, least(min(0.5, 10 * rate)))), abs=1e-9)
    assert [row.clean_below for row in table] == sorted((row.clean_below for row in table), reverse=True)
    assert 0.1 < table[-1].clean_below < 0.5, "both bounds and what lies between are seen"


def test_few_faces_have_the_default_rate_alone_and_many_have_all() -> None:
    (row,) = threshold_table([np.array([0.2, 0.7])], false_alarms=0.005)
    assert row == (0.005, pytest.approx(0.7001), 0.5)
    assert [row.false_alarms for row in threshold_table([np.linspace(0, 1, 1000)], false_alarms=0.02)] == list(RATES)


def test_clean_scores_that_are_low_keep_faces_clean() -> None:
    """Of a detector that parts all faces nothing is unclear for being in the upper half of low scores."""
    assert {row[1:] for row in threshold_table([np.full(2000, 0.01)], false_alarms=0.005)} == {(0.5, 0.1)}


def test_a_fit_takes_logits_by_source_and_heeds_the_worst() -> None:
    tame, wild, cloaked, odd = draws(3, (-6, 300), (-2, 200), (4, 250), (1, 400))
    found = fit({"tame": tame, "wild": wild}, cloaked)
    logits = np.r_[tame, wild, cloaked]
    assert (found.temperature, found.offset) == fit_platt(logits, np.arange(750) >= 500)
    scores = [scores_of(part, found.temperature, found.offset) for part in (tame, wild)]
    assert found.thresholds == threshold_table(scores, false_alarms=0.005)
    assert (found.false_alarms, found.attack_share) == (0.005, None)
    other = fit({"tame": tame, "wild": wild}, cloaked, odd=odd, false_alarms=0.01)
    assert (other.temperature, other.offset, other.false_alarms) == (found.temperature, found.offset, 0.01)
    odds = scores_of(odd, found.temperature, found.offset)
    assert other.thresholds == threshold_table(scores, odd=odds, false_alarms=0.01)
    assert other.at().cloaked_from > found.at(0.01).cloaked_from
    # What a cloak should survive is fitted to, and chosen nothing on.
    changed = fit({"tame": tame, "wild": wild}, cloaked, changed=odd)
    assert (changed.temperature, changed.offset) == fit_platt(np.r_[tame, wild, odd, cloaked], np.arange(1150) >= 900)
    scores = [scores_of(part, changed.temperature, changed.offset) for part in (tame, wild)]
    assert changed.thresholds == threshold_table(scores, false_alarms=0.005)


def test_of_faces_that_look_odd_twice_the_share_may_be_cloaked_and_none_decides_what_is_clean() -> None:
    rng = np.random.default_rng(0)
    clean, odd = rng.beta(1, 3, 2000), rng.beta(4, 2, 1000)
    steps = np.arange(5000, 10_001) / 10_000
    plain = threshold_table([clean], false_alarms=0.5)
    for row, without in zip(threshold_table([clean], odd=odd, false_alarms=0.5), plain, strict=True):
        share = min(2 * row.false_alarms, 0.5)
        least = float(steps[[(odd >= step).mean() <= share for step in steps].index(True)])
        assert row.cloaked_from == pytest.approx(max(least, without.cloaked_from), abs=1e-9)
        assert (row.false_alarms, row.clean_below) == (without.false_alarms, without.clean_below)


@pytest.mark.parametrize("seed", range(5))
def test_attacks_are_named_from_the_least_share_at_which_nine_of_ten_are_right(seed: int) -> None:
    rng = np.random.default_rng(seed)
    shares = rng.integers(20, 101, 600) / 100
    right = rng.random(600) < shares**0.2
    good = [
        share for share in sorted({*shares})
        if share_interval(int(right[shares >= share].sum()), int((shares >= share).sum()))[0] >= 0.9
    ]  # fmt: skip
    assert least_share(shares, right) == good[0]


def test_attacks_that_are_right_too_seldom_or_too_few_are_not_named() -> None:
    assert least_share(np.linspace(0.5, 1, 34), np.ones(34, bool)) is None
    assert least_share(np.linspace(0.5, 1, 35), np.ones(35, bool)) == 0.5
    assert least_share(np.linspace(0.5, 1, 500), np.arange(500) % 5 > 0) is None
    assert least_share(np.empty(0), np.empty(0, bool)) is None


def test_calibration_knows_which_attacks_are_right(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of two folders of one attack and one of another; the attacks' logits are the last."""
    unseen = [example_of(picture(8, 8), cloak=cloak) for cloak in (-1, *[0, 1, 2] * 40)]
    attacks = [0, 0, 1]

    def score(_: Any, examples: list[Example]) -> Any:
        chosen = [attacks[example.cloak] for example in examples]
        # Every third is taken for the other attack, with less confidence.
        wrong = np.arange(len(chosen)) % 3 == 0
        first = (np.array(chosen) == 0) ^ wrong
        sure = np.where(wrong, 1.0, 3.0)
        return np.stack([np.zeros(len(chosen)), np.full(len(chosen), 9.0), sure * first, sure * ~first], 1)

    def score_changed(_: Any, examples: list[Example], names: Any) -> Any:
        return (np.zeros((len(examples), 4)) for _ in names)

    monkeypatch.setattr(scoring, "score", score)
    monkeypatch.setattr(scoring, "score_changed", score_changed)
    found, _ = calibrate(network(), unseen, false_alarms=0.1, attacks=attacks)
    assert found.attack_share == pytest.approx(1 / (1 + np.exp(-3)))


# ---------------------------------------------------------------- sources


def scores_by(
    seed: int, *, clean: float = -4, cloaked: float = 4, odd: float = -3, survived: float = 3, weak: float = -2,
    count: int = 200, faces: tuple[bool, bool] = (True, True),
) -> UnseenScores:  # fmt: skip
    """Scores of a source around some means; a cloaked face's logit lies above them by that of its power."""
    rng = np.random.default_rng(seed)

    def drawn(mean: float, many: int, *, cloaks: bool = False) -> Any:
        powers, noise = rng.normal(size=many) * 2, rng.normal(size=many)
        return logits_of(mean + noise + cloaks * powers, powers, rng.normal(size=(many, 2)) * 5)

    def after(names: Any, usual: float, other: float, *, cloaks: bool = False) -> dict[str, Any]:
        return {name: drawn(usual if name in SURVIVED else other, 40, cloaks=cloaks) for name in names}

    first, second = (count if there else 0 for there in faces)
    return UnseenScores(
        drawn(clean, first),
        drawn(cloaked, second, cloaks=True),
        [0] * second,
        after(dict.fromkeys((*ODD, *SURVIVED)), clean, odd) if first else {},
        after(WEAKENED, survived, weak, cloaks=True) if second else {},
    )


def scores_in(calibration: Calibration, logits: Any) -> Any:
    return scores_of(logits[:, 0], calibration.temperature, calibration.offset)


@pytest.mark.parametrize("name", ["wild", "odd", "changed", ""])
def test_thresholds_hold_on_the_source_that_looks_most_cloaked(name: str) -> None:
    """Whatever it is called."""
    sources = {"tame": scores_by(0), name: scores_by(1, clean=1), "meek": scores_by(2, clean=-6)}
    found = calibrate_sources(sources, false_alarms=0.01)
    assert found.false_alarms == 0.01
    rates = [float((scores_in(found, each.clean) >= found.at().cloaked_from).mean()) for each in sources.values()]
    assert rates == [0, 0.01, 0]
    together = np.concatenate([logits for each in sources.values() for logits in each.clean_after.values()])
    assert (scores_in(found, together) >= found.at().cloaked_from).mean() <= 0.02
    # Temperature and offset are of all faces, as they are and after what a cloak should survive.
    clean = [each.clean for each in sources.values()] + [
        each.clean_after[change] for each in sources.values() for change in SURVIVED
    ]
    cloaked = [each.cloaked for each in sources.values()] + [
        each.cloaked_after[change] for each in sources.values() for change in SURVIVED
    ]
    logits, many = np.concatenate([*clean, *cloaked])[:, 0], sum(map(len, cloaked))
    expected = fit_platt(logits, np.arange(len(logits)) >= len(logits) - many)
    assert (found.temperature, found.offset) == pytest.approx(expected)


def test_changed_faces_of_all_sources_count_as_one_group() -> None:
    calm, rough = scores_by(0, odd=-3), scores_by(1, odd=0)
    one = calibrate_sources({"calm": calm, "rough": rough}, false_alarms=0.02)
    odd = np.concatenate([logits for each in (calm, rough) for logits in each.clean_after.values()])
    scores = [scores_in(one, logits) for logits in (calm.clean, rough.clean)]
    assert one.thresholds == threshold_table(scores, odd=scores_in(one, odd), false_alarms=0.02)
    assert (scores_in(one, odd) >= one.at().cloaked_from).mean() == pytest.approx(0.04, abs=0.002)


def test_sources_of_one_label_are_calibrated_with_others() -> None:
    sources = {
        "clean alone": scores_by(0, faces=(True, False)),
        "cloaked alone": scores_by(1, faces=(False, True)),
    }
    found = calibrate_sources(sources, false_alarms=0.005)
    clean, cloaked = sources["clean alone"], sources["cloaked alone"]
    both = UnseenScores(clean.clean, cloaked.cloaked, cloaked.attacks, clean.clean_after, cloaked.cloaked_after)
    assert found == calibrate_sources({"both": both}, false_alarms=0.005)


def test_power_is_the_chance_that_a_cloak_is_found() -> None:
    """Of cloaked faces as they are and after all that weakens a cloak, at the default rate."""
    rng = np.random.default_rng(0)

    def seen_at(chance: Any) -> Any:
        """Faces whose logits are high with a chance, of which the power's logit knows by another scale."""
        first = np.where(rng.random(len(chance)) < chance, 6.0, -6.0)
        return logits_of(first, 3 * np.log(chance / (1 - chance)) - 2, np.zeros((len(chance), 2)))

    source = scores_by(0, clean=-6, odd=-6)
    powers = {name: seen_at(rng.uniform(0.02, 0.98, 3000)) for name in ("as it is", *WEAKENED)}
    plain = powers.pop("as it is")
    known = UnseenScores(source.clean, plain, [0] * len(plain), source.clean_after, powers)
    found = calibrate_sources({"a": known}, false_alarms=0.005)
    assert found.power == pytest.approx((3, -2), abs=0.15)
    each = np.concatenate([plain, *powers.values()])
    seen = scores_in(found, each) >= found.at().cloaked_from
    assert scores_of(each[:, 1], *found.power).mean() == pytest.approx(seen.mean(), abs=0.001)
    means = []
    for rate in (0.005, 0.3):  # the detector's own
        source = scores_by(1, clean=2)
        found = calibrate_sources({"a": source}, false_alarms=rate)
        each = np.concatenate([source.cloaked, *source.cloaked_after.values()])
        means.append((scores_in(found, each) >= found.at().cloaked_from).mean())
        assert scores_of(each[:, 1], *found.power).mean() == pytest.approx(means[-1], abs=0.01)
    assert 0.1 < means[0] < means[1] - 0.1


@pytest.mark.parametrize("weak", [-30.0, 6.0])
def test_a_face_is_too_weak_below_a_half_or_what_one_in_twenty_clean_faces_has(weak: float) -> None:
    """Where most cloaks are too faint to be found, ordinary faces are no exception."""
    sources = {"a": scores_by(0, weak=weak), "b": scores_by(1, weak=weak, count=90)}
    found = calibrate_sources(sources, false_alarms=0.005)
    powers = scores_of(np.concatenate([each.clean[:, 1] for each in sources.values()]), *found.power)
    assert found.least_power == pytest.approx(min(0.5, np.quantile(powers, 0.05)))
    assert (powers < found.least_power).mean() <= 0.05
    eased = {name: replace(each, clean=each.clean + np.array([0, 30, 0, 0])) for name, each in sources.items()}
    assert calibrate_sources(eased, false_alarms=0.005).least_power == 0.5


@pytest.mark.parametrize("cloaked", [-9.0, 30.0])
def test_power_is_fitted_where_all_cloaks_or_none_are_found(cloaked: float) -> None:
    source = scores_by(0, cloaked=cloaked, survived=cloaked, weak=cloaked)
    found = calibrate_sources({"a": source}, false_alarms=0.005)
    chances = scores_of(source.cloaked[:, 1], *found.power)
    assert (chances > 0.99).all() if cloaked > 0 else (chances < 0.01).all()


def test_a_source_is_measured_by_what_its_own_faces_have_not_made() -> None:
    sources = {
        "tame": scores_by(0),
        "wild": scores_by(1, clean=2),
        "clean alone": scores_by(2, faces=(True, False), count=90),
        "cloaked alone": scores_by(3, cloaked=0, faces=(False, True), count=70),
    }
    figures = {each["source"]: each for each in figures_by_source(sources, false_alarms=0.01)}
    assert list(figures) == list(sources)
    for name, scores in sources.items():
        others = calibrate_sources({other: x for other, x in sources.items() if other != name}, false_alarms=0.01)
        decision, labels = others.decision(), []
        for logits in (scores.clean, scores.cloaked):
            shown, powers = scores_in(others, logits), scores_of(logits[:, 1], *others.power)
            labels.append(
                [
                    decision.label(Prediction(score, {"a": score}, power))
                    for score, power in zip(shown, powers, strict=True)
                ]
            )
        clean, cloaked = labels
        found = figures[name]
        assert list(found) == [*("auc", "source", "clean_faces", "false_alarms", "unclear", "cloaked_faces", "recall")]
        assert (found["clean_faces"], found["cloaked_faces"]) == (len(clean), len(cloaked))
        for key, each, label in (
            ("false_alarms", clean, "cloaked"), ("unclear", clean, "unclear"), ("recall", cloaked, "cloaked")
        ):  # fmt: skip
            assert found[key] == (pytest.approx(each.count(label) / len(each)) if each else None), (name, key)
        pairs = scores.clean[:, 0][:, None] < scores.cloaked[:, 0]
        assert found["auc"] == (pytest.approx(pairs.mean()) if pairs.size else None)
    # Together they hold the rate on each; without it the wild one is a surprise.
    assert figures["wild"]["false_alarms"] > 0.2
    assert figures["tame"]["false_alarms"] == 0
    assert 0 < figures["tame"]["unclear"] < 1
    assert 0 < figures["cloaked alone"]["recall"] < figures["tame"]["recall"]
