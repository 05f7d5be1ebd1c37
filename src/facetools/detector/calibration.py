"""Calibrate a detector on held-out faces: temperature and offset of its scores, thresholds of labels, named attacks.

`threshold_table` decides which scores are labelled cloaked, unclear and clean. All but `calibrate` are functions of
numbers alone, so that they take the scores of faces of any source that a network has not seen.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from facetools.detector.decision import (
    CLOAKED,
    FALSE_ALARMS,
    LEAST_POWER,
    UNCLEAR,
    UNCLEAR_TIMES,
    Calibration,
    Prediction,
    Thresholds,
)
from facetools.detector.network import ResidualNet
from facetools.detector.platt import Labels, Numbers, fit_platt, scores_of
from facetools.detector.scoring import UnseenScores, score_unseen
from facetools.detector.training.examples import Example
from facetools.metrics import area_under_roc, share_interval
from facetools.transforms.augment import ODD, SURVIVED

LOWEST_THRESHOLD = 0.5
"""Below it a face is more likely clean than cloaked."""

RATES = (0.001, 0.002, 0.003, 0.005, 0.01, 0.02, 0.05, 0.1)
"""Rates of false alarms that a detector's file has thresholds for, as far as there are faces enough."""

ODD_TIMES = 2
"""Of clean faces that look odd so many times as many may be cloaked."""

CLEAN_BELOW = (0.1, LOWEST_THRESHOLD)
"""Bounds of ``clean_below``: of a score below the first the odds are nine to one that the face is clean, and one above
the second says that it is likelier cloaked."""

WEAK_SHARE = 0.05
"""So many of ordinary clean faces may be called too weak to show a cloak."""

LEAST_ACCURACY = 0.9
"""Accuracy of named attacks."""


def calibrate(
    network: ResidualNet, unseen: Sequence[Example], *, false_alarms: float, attacks: Sequence[int]
) -> tuple[Calibration, dict[str, float]]:
    """Calibrate a network on faces without and with augmentation.

    As `calibrate_sources` does, with these faces as the one source.

    Parameters
    ----------
    network
        Trained.
    unseen
        Clean and cloaked faces of held-out people.
    false_alarms
        The detector's default false positive rate.
    attacks
        Number of the attack of each cloak.

    Returns
    -------
    Calibration, dict
        And rates at the default threshold on these same faces: ``recall`` and ``false_alarms``, and
        ``odd_false_alarms`` of clean ones after changes.
    """
    scores = score_unseen(network, unseen, attacks)
    calibration = calibrate_sources({"held-out people": scores}, false_alarms=false_alarms)
    threshold = calibration.at().cloaked_from
    odd = np.concatenate(list(scores.clean_after.values()))
    rates = {"recall": scores.cloaked, "false_alarms": scores.clean, "odd_false_alarms": odd}
    return calibration, {
        name: float((scores_of(logits[:, 0], calibration.temperature, calibration.offset) >= threshold).mean())
        for name, logits in rates.items()
    }


def calibrate_sources(sources: Mapping[str, UnseenScores], *, false_alarms: float) -> Calibration:
    """Calibrate on faces of people or sources that the networks which scored them had not seen.

    Temperature and offset are fitted as if half of the faces were cloaked, on faces as they are and after the changes
    that a cloak should survive. Thresholds are chosen on the clean faces of each source as they are, so that they hold
    on the one that looks most cloaked, and, at twice the rate, on those of all together after all that may happen to
    photos. Power is fitted to which cloaked faces are found at the default rate, as they are and after changes that
    weaken cloaks; a face is too weak below a half, or below what one in twenty clean faces as they are has, if that is
    less.

    Parameters
    ----------
    sources
        Scores by source; one at least has clean faces, and one cloaked ones.
    false_alarms
        The detector's default false positive rate.
    """
    each = list(sources.values())
    clean = {name: scores.clean[:, 0] for name, scores in sources.items() if len(scores.clean)}
    odd, usual = (
        np.concatenate([scores.clean_after[name][:, 0] for scores in each for name in names if scores.clean_after])
        for names in (dict.fromkeys((*ODD, *SURVIVED)), SURVIVED)
    )
    survived = [scores.cloaked_after[name][:, 0] for scores in each for name in SURVIVED if scores.cloaked_after]
    named = [_named(scores.cloaked, scores.attacks) for scores in each if len(scores.cloaked)]
    fitted = fit(
        clean,
        np.concatenate([*(scores.cloaked[:, 0] for scores in each), *survived]),
        changed=usual,
        odd=odd,
        named=(np.concatenate([shares for shares, _ in named]), np.concatenate([right for _, right in named])),
        false_alarms=false_alarms,
    )
    weakened = np.concatenate([x for scores in each for x in (scores.cloaked, *scores.cloaked_after.values())])
    found = scores_of(weakened[:, 0], fitted.temperature, fitted.offset) >= fitted.at().cloaked_from
    power = fit_platt(weakened[:, 1], found, balanced=False)
    usual_power = scores_of(np.concatenate([scores.clean[:, 1] for scores in each]), *power)
    # Where most cloaks that it was calibrated on are faint, ordinary faces are no exception.
    return replace(fitted, power=power, least_power=min(LEAST_POWER, float(np.quantile(usual_power, WEAK_SHARE))))


def figures_by_source(sources: Mapping[str, UnseenScores], *, false_alarms: float) -> Iterator[dict[str, Any]]:
    """Yield what a detector makes of each source that neither its network nor its thresholds have seen.

    Yields
    ------
    dict
        ``source``; ``auc``; ``clean_faces`` and the shares of them that are called cloaked, ``false_alarms``, and
        ``unclear``; ``cloaked_faces`` and the share of them that is found, ``recall``. None where there are no faces.
    """
    for name, scores in sources.items():
        others = {other: each for other, each in sources.items() if other != name}
        calibration = calibrate_sources(others, false_alarms=false_alarms)
        (clean, usual), (cloaked, found) = (_labelled(logits, calibration) for logits in (scores.clean, scores.cloaked))
        both = np.concatenate([clean, cloaked])
        yield {
            "auc": area_under_roc(both, np.arange(len(both)) >= len(clean)),
            "source": name,
            "clean_faces": len(clean),
            "false_alarms": _share(usual, CLOAKED),
            "unclear": _share(usual, UNCLEAR),
            "cloaked_faces": len(cloaked),
            "recall": _share(found, CLOAKED),
        }


def _labelled(logits: Numbers, calibration: Calibration) -> tuple[Numbers, list[str]]:
    """Return the scores and the labels of faces with logits [n, 2 + attacks]."""
    scores = scores_of(logits[:, 0], calibration.temperature, calibration.offset)
    powers, decision = scores_of(logits[:, 1], *calibration.power), calibration.decision()
    pairs = zip(scores.tolist(), powers.tolist(), strict=True)
    return scores, [decision.label(Prediction(score, {}, power)) for score, power in pairs]


def _share(labels: Sequence[str], label: str) -> float | None:
    """Return the share of faces with a label; None of no faces."""
    return labels.count(label) / len(labels) if labels else None


def _named(logits: Numbers, attacks: Sequence[int]) -> tuple[Numbers, Labels]:
    """Return the likeliest attack's share for faces with logits [n, 2 + attacks], and whether it is right."""
    logits = logits[:, 2:]
    shares = np.exp(logits - np.logaddexp.reduce(logits, 1, keepdims=True))
    return shares.max(1), shares.argmax(1) == np.array(attacks)


def fit(
    clean: Mapping[str, Numbers],
    cloaked: Numbers,
    *,
    changed: Numbers | None = None,
    odd: Numbers | None = None,
    named: tuple[Numbers, Labels] | None = None,
    false_alarms: float = FALSE_ALARMS,
) -> Calibration:
    """Fit a calibration to logits of faces that the network has not seen.

    Parameters
    ----------
    clean
        Logits of clean faces, float64 [n], by group, such as the source of the photos.
    cloaked
        Logits of cloaked faces, float64 [m].
    changed
        Logits of clean faces after changes that a cloak should survive, which temperature and offset are fitted to
        too.
    odd
        Logits of clean faces after changes that make them look odd, which thresholds are chosen on too.
    named
        For faces that are cloaked, the likeliest attack's share of the softmax over attacks, float64 [k], and whether
        it is the right one, bool [k]. Without it no attack is ever named.
    false_alarms
        The detector's default rate.
    """
    each = np.concatenate([*clean.values(), *([] if changed is None else [changed]), cloaked])
    temperature, offset = fit_platt(each, np.arange(len(each)) >= len(each) - len(cloaked))
    scores = [scores_of(logits, temperature, offset) for logits in clean.values()]
    table = threshold_table(
        scores, odd=None if odd is None else scores_of(odd, temperature, offset), false_alarms=false_alarms
    )
    share = None if named is None else least_share(*named)
    return Calibration(temperature, offset, table, false_alarms, attack_share=share)


def threshold_table(
    clean: Collection[Numbers], *, false_alarms: float, odd: Numbers | None = None
) -> tuple[Thresholds, ...]:
    """Choose the thresholds for rates of false alarms.

    A face is cloaked from the score on that at most this share of the clean faces of each group reaches (0.5 at
    least), clean below the score that at most ten times this share reaches (0.1 to 0.5), and unclear between.

    Parameters
    ----------
    clean
        Scores of each group of clean faces, 0 to 1.
    false_alarms
        The detector's default rate, which always has a row.
    odd
        Scores of clean faces that look odd, of which twice the share may reach a threshold.

    Returns
    -------
    tuple
        By rate, ascending: of ``RATES`` those at which at least one face of the largest group may be called cloaked.
    """
    most = max(map(len, clean))
    strange = [] if odd is None else [odd]
    rates = sorted({rate for rate in RATES if rate * most >= 1 - 1e-9} | {false_alarms})
    return tuple(
        Thresholds(
            rate,
            max(
                choose_threshold(*clean, false_alarms=rate),
                choose_threshold(*strange, false_alarms=min(ODD_TIMES * rate, 0.5)),
            ),
            _clip(_lowest(clean, min(UNCLEAR_TIMES * rate, 0.5)), CLEAN_BELOW),
        )
        for rate in rates
    )


def least_share(shares: Numbers, right: Labels) -> float | None:
    """Return the least share of the likeliest attack from which on 90% of attacks are named rightly.

    Parameters
    ----------
    shares
        The likeliest attack's share of the softmax over attacks, float64 [n].
    right
        Whether it is the attack of the face, bool [n].

    Returns
    -------
    float or None
        The least of the shares for which the lower end of Wilson's 95% interval of the accuracy, over the faces that
        reach it, is 0.9 or more. None if there is no such share.
    """
    order = np.argsort(-shares, kind="stable")
    ranked = shares[order]
    # Behind the last of equal shares only: faces with one share are named together or not.
    ends = np.flatnonzero(np.append(np.diff(ranked) != 0, True)[: len(ranked)])
    hits = np.cumsum(right[order])
    good = [ranked[end] for end in ends if share_interval(int(hits[end]), int(end) + 1)[0] >= LEAST_ACCURACY]
    return float(good[-1]) if good else None


def choose_threshold(*clean: Numbers, false_alarms: float) -> float:
    """Return the score from which on a face is labelled cloaked.

    It is the lowest from 0.5 on, of four decimals, at which the false positive rate on each set of faces is at most
    ``false_alarms``.

    Parameters
    ----------
    clean
        Sets of scores of clean faces, 0 to 1.
    false_alarms
        0 to 0.5.
    """
    return _clip(_lowest(clean, false_alarms), (LOWEST_THRESHOLD, 1.0))


def _lowest(groups: Collection[Numbers], share: float) -> float:
    return max((_least_above(scores, share) for scores in groups), default=0.0)


def _clip(value: float, bounds: tuple[float, float]) -> float:
    return float(np.clip(value, *bounds))


def _least_above(scores: Numbers, share: float) -> float:
    """Return the least threshold, of four decimals, that no more than a share of the scores reaches."""
    # What reaches the threshold is called cloaked: rounded up, it stays above the first face that may not.
    allowed = int(share * len(scores) + 1e-9)
    return float(np.ceil(np.sort(scores)[-1 - allowed] * 1e4 + 1e-6) / 1e4)
