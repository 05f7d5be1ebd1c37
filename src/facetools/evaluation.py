"""Does a cloak protect anybody: the experiment of arXiv 2106.14851, section 3, over many people.

For each protected person, all (or a part) of their training photos are replaced by cloaked copies, everybody else is
clean, and a recogniser is trained; it is asked who is in the person's clean test photos. Protection is its error.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from _toolio.errors import InputError
from facetools.classifiers import BLOCK, Classifier, Rows, Scores, Task, make_classifier
from facetools.galleries import Gallery
from facetools.matching import match_photos
from facetools.metrics import distances, mean_interval

FALSE_ACCEPT_RATES = (1e-3, 1e-4)

Numbers = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Plan:
    """How photos are dealt out.

    Attributes
    ----------
    share
        Of each person's photos to train on; at least one is trained on and one asked.
    folds
        1: one random split by ``share``. More: each photo is asked in one of so many splits.
    seed
        Draws the splits, and which photos are cloaked.
    fraction
        Of a person's training photos that are cloaked; at least one is.
    drop_missing
        Training photos without a cloaked copy are left out; otherwise their person cannot be evaluated.
    """

    share: float = 0.7
    folds: int = 1
    seed: int = 0
    fraction: float = 1.0
    drop_missing: bool = False


@dataclass(frozen=True, slots=True)
class Cloaks:
    """Which clean photo has which cloaked copies.

    Attributes
    ----------
    name
        The input that they came from.
    rows
        int [n], for each clean photo the row of its cloaked copy, -1 where it has none.
    unmatched
        Paths of cloaked photos without a clean one.
    """

    name: str
    rows: Numbers
    unmatched: tuple[str, ...]


def match_cloaks(name: str, clean: Gallery, cloaked: Gallery, *, suffix: str = "") -> Cloaks:
    """Match cloaked photos to clean ones, exactly, by where they lie below their inputs, without endings.

    Raises
    ------
    ToolError
        None belongs to any.
    """
    places = [{item.path: row for row, item in enumerate(each.items)} for each in (clean, cloaked)]
    rows, unmatched = np.full(len(clean.items), -1), []
    for pair in match_photos(clean.items, cloaked.items, suffix=suffix):
        if pair.clean and pair.cloaked:
            rows[places[0][pair.clean.path]] = places[1][pair.cloaked.path]
        elif pair.cloaked:
            unmatched.append(pair.cloaked.path)
    return Cloaks(name, rows, tuple(unmatched))


def split_photos(people: Sequence[str], plan: Plan) -> list[npt.NDArray[np.bool_]]:
    """Draw which photos are asked, bool [n] for each fold; the others are trained on.

    A person's draw depends on the seed, their name and the order of their photos, not on who else is there. Someone
    with one photo is only trained on.
    """
    names = np.array(people)
    asked = [np.zeros(len(names), bool) for _ in range(plan.folds)]
    for person in np.unique(names):
        rows = np.flatnonzero(names == person)
        order = rows[_draw(plan.seed, str(person)).permutation(len(rows))]
        if len(rows) < 2:
            continue
        if plan.folds == 1:
            few = math.floor((1 - plan.share) * len(rows) + 1e-9)
            asked[0][order[: min(max(1, few), len(rows) - 1)]] = True
        else:
            for fold, part in enumerate(np.array_split(order, plan.folds)):
                asked[fold][part] = True
    return asked


def _draw(seed: int, *words: str) -> np.random.Generator:
    return np.random.default_rng([seed, *" ".join(words).encode("utf-8", "surrogateescape")])


@dataclass(slots=True)
class _Counts:
    """What is counted over the folds for one protected person."""

    asked: int = 0
    missed: int = 0
    missed_clean: int = 0
    in_five: int = 0
    others_asked: int = 0
    others_right: int = 0
    trained: int = 0
    cloaked: int = 0

    def fields(self) -> dict[str, Any]:
        return {
            "protection": self.missed / self.asked,
            "floor": self.missed_clean / self.asked,
            "rank1": 1 - self.missed / self.asked,
            "rank5": self.in_five / self.asked,
            "others_accuracy": self.others_right / self.others_asked if self.others_asked else None,
            "train_photos": self.trained,
            "cloaked_photos": self.cloaked,
            "test_photos": self.asked,
        }


class Evaluation:
    """Evaluates cloaks on one set of embeddings.

    Parameters
    ----------
    models
        For each model (one, or an accurate and a robust one) the clean gallery; photos in the same order.
    cloaked
        For each cloak, for each model, the cloaked gallery.
    cloaks
        For each cloak which copies it has. With several, a person's photos, in order, are dealt out among them in
        runs of equal length, oldest cloak first: someone who changed their cloak.
    people
        Who is in each clean photo.
    plan
        How photos are dealt out.
    distance
        Overrides the extractors' own.
    """

    def __init__(
        self,
        models: Sequence[Gallery],
        cloaked: Sequence[Sequence[Gallery]],
        cloaks: Sequence[Cloaks],
        people: Sequence[str],
        plan: Plan,
        distance: str | None = None,
    ) -> None:
        self._models, self._cloaked, self._cloaks, self._plan = models, cloaked, cloaks, plan
        self.names, self._labels = np.unique(np.array(people), return_inverse=True)
        self._distances = [distance or model.distance for model in models]
        self._folds = split_photos(people, plan)
        self._tasks = [[self._task(number, asked) for number in range(len(models))] for asked in self._folds]

    def _task(self, number: int, asked: npt.NDArray[np.bool_]) -> Task:
        rows, labels = self._models[number].embeddings, self._labels
        distance = self._distances[number]
        return Task(rows[~asked], labels[~asked], rows[asked], labels[asked], len(self.names), distance)

    @property
    def protected(self) -> list[str]:
        """Who has cloaked photos."""
        has = np.any([cloaks.rows >= 0 for cloaks in self._cloaks], axis=0)
        return [str(self.names[number]) for number in np.unique(self._labels[has])]

    def run(
        self,
        classifier: str,
        people: Sequence[str],
        train: Callable[[Sequence[Task]], Classifier] | None = None,
    ) -> Iterator[tuple[str, dict[str, Any] | InputError]]:
        """Protect people one at a time: each name and the fields of its record, or why it has none.

        ``classifier`` is one of ``facetools.classifiers.NAMES``, or another's name, which ``train`` makes. Neighbours
        are verified too: ``tar`` holds the true accept rate of cloaked training photos and clean tests at each false
        accept rate, ``tar_clean`` that of clean ones.
        """
        trained = [train(tasks) if train else make_classifier(classifier, tasks) for tasks in self._tasks]
        before = [rank_of(each.clean(), tasks[0].test_labels) for each, tasks in zip(trained, self._tasks, strict=True)]
        verifiers = [Verifier(tasks[0]) for tasks in self._tasks] if classifier == "nn" else []
        for person in people:
            try:
                yield person, self._protect(person, trained, before, verifiers)
            except InputError as error:
                yield person, error

    def _protect(
        self, person: str, trained: Sequence[Classifier], before: Sequence[Numbers], verifiers: Sequence[Verifier]
    ) -> dict[str, Any]:
        own = int(np.flatnonzero(self.names == person)[0])
        if int((self._labels == own).sum()) < 2:
            raise InputError(f"{person}: one photo; a person needs one to train on and one to ask", kind="one-photo")
        counts = _Counts()
        accepted, accepted_clean = np.zeros((2, 1 + len(FALSE_ACCEPT_RATES)), np.int64)
        for fold, classifier in enumerate(trained):
            labels = self._tasks[fold][0].test_labels
            mine = labels == own
            if not mine.any():
                continue
            rows, cloaked = self._training_rows(person, own, self._folds[fold])
            places = rank_of(classifier.replaced(own, rows), labels)
            right = places < classifier.answers
            counts.asked += int(mine.sum())
            counts.missed += int((~right[mine]).sum())
            counts.missed_clean += int((before[fold][mine] >= classifier.answers).sum())
            counts.in_five += int((places[mine] < 5).sum())
            counts.others_asked += int((~mine).sum())
            counts.others_right += int(right[~mine].sum())
            counts.trained += len(rows[0])
            counts.cloaked += cloaked
            if verifiers:
                accepted += verifiers[fold].accepted(own, rows[0])
                accepted_clean += verifiers[fold].accepted(own)
        fields = counts.fields()
        if verifiers:
            limits = np.mean([each.limits for each in verifiers], 0)
            fields |= {"tar": _rates(accepted, limits), "tar_clean": _rates(accepted_clean, limits)}
        return fields

    def _training_rows(self, person: str, own: int, asked: npt.NDArray[np.bool_]) -> tuple[list[Rows], int]:
        """Give a person's training rows for each model, and how many of them are cloaked."""
        mine = np.flatnonzero((self._labels == own) & ~asked)
        mine = mine[np.argsort([self._models[0].items[row].relative for row in mine], kind="stable")]
        many = max(1, math.floor(self._plan.fraction * len(mine) + 0.5))
        drawn = np.sort(_draw(self._plan.seed, person, "cloaked").permutation(len(mine))[:many])
        chosen, clean = mine[drawn], np.setdiff1d(mine, mine[drawn])
        parts = np.array_split(chosen, len(self._cloaks))
        found = [cloaks.rows[part] for cloaks, part in zip(self._cloaks, parts, strict=True)]
        lacking = [row for part, copies in zip(parts, found, strict=True) for row in part[copies < 0]]
        if lacking and not self._plan.drop_missing:
            first = self._models[0].items[int(lacking[0])].path
            raise InputError(
                f"{person}: {len(lacking)} of {many} photos to train on have no cloaked copy ({first} is one); "
                "cloak them, or give --drop-missing",
                kind="no-cloak",
            )
        copies = sum(int((part >= 0).sum()) for part in found)
        if not copies:
            raise InputError(f"{person}: no photo to train on has a cloaked copy; cloak more photos", kind="no-cloak")
        rows = []
        for number, model in enumerate(self._models):
            new = [each[number].embeddings[part[part >= 0]] for each, part in zip(self._cloaked, found, strict=True)]
            rows.append(np.concatenate([*new, model.embeddings[clean]]))
        return rows, copies


def rank_of(scores: Scores, labels: Numbers) -> Numbers:
    """Give the place of each test's true person among all, int [tests] from 0; of equal scores the first counts.

    A person without a score (infinity) has the last place.
    """
    tests = np.arange(len(scores))
    own = scores[tests, labels][:, None]
    before = (scores == own) & (np.arange(scores.shape[1]) < labels[:, None])
    places: Numbers = (scores < own).sum(1) + before.sum(1)
    places[~np.isfinite(own[:, 0])] = scores.shape[1]
    return places


class Verifier:
    """Decides whether two photos show one person, at distances that few pairs of different people fall below.

    The limits are set on clean photos, nobody cloaked: tests against training photos of other people.

    Parameters
    ----------
    task
        One split.

    Attributes
    ----------
    limits
        For each of ``FALSE_ACCEPT_RATES`` the largest distance that is accepted; NaN where there are too few pairs
        for one of them to pass.
    """

    def __init__(self, task: Task) -> None:
        self._task = task
        # No more than the largest rate lets pass is needed: memory stays small however many pairs there are.
        most = math.ceil(FALSE_ACCEPT_RATES[0] * len(task.test) * len(task.train)) + 1
        nearest, pairs = np.empty(0), 0
        for first in range(0, len(task.test), BLOCK):
            part = slice(first, first + BLOCK)
            apart = distances(task.test[part], task.train, task.distance)
            others = apart[task.test_labels[part, None] != task.train_labels]
            pairs += len(others)
            nearest = np.sort(np.concatenate([nearest, others]))[:most]
        passing = [math.floor(rate * pairs) for rate in FALSE_ACCEPT_RATES]
        self.limits = np.array([np.nextafter(nearest[few], -np.inf) if few else np.nan for few in passing])

    def accepted(self, person: int, rows: Rows | None = None) -> Numbers:
        """Count a person's clean tests against ``rows`` (None: their clean training photos).

        Returns
        -------
        int [1 + rates]
            Pairs, and those accepted at each limit.
        """
        task = self._task
        own = task.train[task.train_labels == person] if rows is None else rows
        apart = distances(task.test[task.test_labels == person], own, task.distance)
        return np.array([apart.size, *(int((apart <= limit).sum()) for limit in self.limits)], np.int64)


def _rates(counts: Numbers, limits: npt.NDArray[np.float64]) -> dict[str, float | None]:
    """Give the true accept rate at each false accept rate, None where no limit could be set."""
    pairs, *hits = counts.tolist()
    known = zip(FALSE_ACCEPT_RATES, hits, limits, strict=True)
    return {f"{rate:g}": None if np.isnan(limit) else hit / pairs for rate, hit, limit in known}


def summarise(records: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Give the means over protected people, with 95% bootstrap intervals over them.

    Parameters
    ----------
    records
        What ``Evaluation.run`` gave of each; one at least.
    """
    mean, low, high = mean_interval([record["protection"] for record in records])
    floor, floor_low, floor_high = mean_interval([record["floor"] for record in records])
    others = [record["others_accuracy"] for record in records if record["others_accuracy"] is not None]
    fields: dict[str, Any] = {
        "protection": mean,
        "interval": [low, high],
        "floor": floor,
        "floor_interval": [floor_low, floor_high],
        "others_accuracy": float(np.mean(others)) if others else None,
        "people": len(records),
    }
    for key in ("rank1", "rank5"):
        fields[key] = float(np.mean([record[key] for record in records]))
    for key in ("train_photos", "cloaked_photos", "test_photos"):
        fields[key] = sum(record[key] for record in records)
    for key in (key for key in ("tar", "tar_clean") if key in records[0]):
        fields[key] = {rate: _mean([record[key][rate] for record in records]) for rate in records[0][key]}
    return fields


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None
