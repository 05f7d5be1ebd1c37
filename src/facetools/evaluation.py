"""Does a cloak protect anybody: the experiment of arXiv 2106.14851, section 3, over many people.

For each protected person, all (or a part) of their training photos are replaced by cloaked copies, everybody else is
clean, and a recogniser is trained; it is asked who is in the person's clean test photos. Protection is its error.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from _toolio.errors import InputError, ToolError
from facetools.classifiers import BLOCK, Classifier, Fallback, Rows, Scores, Task, make_classifier
from facetools.galleries import Gallery
from facetools.matching import match_photos, without_suffix
from facetools.metrics import distances, mean_interval

FALSE_ACCEPT_RATES = (1e-3, 1e-4)

Numbers = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Plan:
    """How photos are dealt out.

    Attributes
    ----------
    share
        Of each person's n photos to train on: floor((1 - share) n) are asked, but one at least, and one at least is
        trained on.
    folds
        1: one random split by ``share``. More: each photo is asked in one of so many splits.
    seed
        Draws the splits, and which photos are cloaked.
    fraction
        Of a person's training photos that are cloaked, rounded; at least one is.
    drop_missing
        Training photos without a cloaked copy are left out, of the floor too; otherwise their person cannot be
        evaluated.
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
        Paths of cloaked photos with a face and without a clean one.
    faceless
        For the row of a clean photo the path of its cloaked copy, where no face was found in the copy.
    orphans
        Path of a cloaked photo and of its clean one, where no face was found in the clean one.
    """

    name: str
    rows: Numbers
    unmatched: tuple[str, ...]
    faceless: Mapping[int, str] = field(default_factory=dict)
    orphans: tuple[tuple[str, str], ...] = ()


def match_cloaks(name: str, clean: Gallery, cloaked: Gallery, *, suffix: str = "") -> Cloaks:
    """Match cloaked photos to clean ones, exactly, by where they lie below their inputs, without endings.

    Raises
    ------
    ToolError
        None belongs to any.
    """
    originals, copies = (*clean.items, *clean.faceless), (*cloaked.items, *cloaked.faceless)
    if suffix and not any(without_suffix(item.relative, suffix) for item in copies):
        raise ToolError(
            f"--suffix {suffix}: no cloaked photo's name in {name} ends in {suffix}; give what the names of cloaked "
            "photos add, or leave it out",
            kind="no-match",
        )
    places = [{item.path: row for row, item in enumerate(each.items)} for each in (clean, cloaked)]
    rows, unmatched, faceless, orphans = np.full(len(clean.items), -1), [], {}, []
    for pair in match_photos(originals, copies, suffix=suffix):
        if not pair.cloaked:
            continue
        here, there = places[0].get(pair.clean.path) if pair.clean else None, places[1].get(pair.cloaked.path)
        if not pair.clean:
            unmatched += [pair.cloaked.path] if there is not None else []
        elif here is not None and there is not None:
            rows[here] = there
        elif here is not None:
            faceless[here] = pair.cloaked.path
        elif there is not None:
            orphans.append((pair.cloaked.path, pair.clean.path))
    if not (rows >= 0).any():
        raise ToolError(f"{name}: no face was found both in a photo and in its cloaked copy", kind="no-match")
    return Cloaks(name, rows, tuple(unmatched), faceless, tuple(orphans))


def refuse_equal(cloaks: Cloaks, clean: Sequence[Gallery], cloaked: Sequence[Gallery]) -> None:
    """Refuse cloaked photos that are the clean ones: the protection of nothing would be taken for a cloak's.

    Parameters
    ----------
    cloaks
        Which copy belongs to which photo.
    clean, cloaked
        The galleries as each model sees them.

    Raises
    ------
    ToolError
        Every copy has the same embeddings, or the same bytes, as its photo.
    """
    has = np.flatnonzero(cloaks.rows >= 0)
    equal = np.ones(len(has), bool)
    for one, other in zip(clean, cloaked, strict=True):
        equal &= (one.embeddings[has] == other.embeddings[cloaks.rows[has]]).all(1)
    if clean[0].sha256s and cloaked[0].sha256s:
        equal |= np.array(clean[0].sha256s)[has] == np.array(cloaked[0].sha256s)[cloaks.rows[has]]
    if equal.all():
        raise ToolError(
            f"{cloaks.name}: the cloaked photos are the clean ones, all {len(has)} that match; name the folder with "
            "the cloaked copies",
            kind="not-cloaked",
        )


def refuse_few(people: Sequence[str], folds: int) -> None:
    """Refuse galleries in which nobody can be asked.

    Raises
    ------
    ToolError
        Nobody has two photos, or as many as there are folds.
    """
    most = max(Counter(people).values())
    if most < 2:
        raise ToolError(
            f"nobody of {len(people)} people has two photos, one to train on and one to ask; if folders do not name "
            "people, give --labels",
            kind="one-photo",
        )
    if folds > most:
        raise ToolError(f"--folds {folds}: nobody has more than {most} photos; give {most} or fewer", kind="folds")


def split_photos(people: Sequence[str], plan: Plan, places: Sequence[str] | None = None) -> list[npt.NDArray[np.bool_]]:
    """Draw which photos are asked, bool [n] for each fold; the others are trained on.

    A person's draw depends on the seed, their name and the order of their photos, which is that of ``places``, where
    each photo lies below its input, and not that of the records (None: as they come). It does not depend on who else
    is there. Someone with one photo is only trained on.
    """
    names = np.array(people)
    asked = [np.zeros(len(names), bool) for _ in range(plan.folds)]
    for person in np.unique(names):
        rows = np.flatnonzero(names == person)
        if len(rows) < 2:
            continue
        order = _by_place(rows, places)[_draw(plan.seed, str(person)).permutation(len(rows))]
        if plan.folds == 1:
            few = math.floor((1 - plan.share) * len(rows) + 1e-9)
            asked[0][order[: min(max(1, few), len(rows) - 1)]] = True
        else:
            for fold, part in enumerate(np.array_split(order, plan.folds)):
                asked[fold][part] = True
    return asked


def _by_place(rows: Numbers, places: Sequence[str] | None) -> Numbers:
    return rows if places is None else rows[np.argsort([places[row] for row in rows], kind="stable")]


def _draw(seed: int, *words: str) -> np.random.Generator:
    return np.random.default_rng([seed, *"\0".join(words).encode("utf-8", "surrogatepass")])


@dataclass(frozen=True, slots=True)
class _Training:
    """A protected person's training photos.

    Attributes
    ----------
    rows
        For each model, in the order of the gallery.
    clean
        The same photos not cloaked; None where they are all that the person has to train on.
    each
        How many photos each cloak has cloaked.
    """

    rows: list[Rows]
    clean: list[Rows] | None
    each: list[int]


class _Counts:
    """What is counted over the folds for one protected person.

    Parameters
    ----------
    cloaks
        How many there are.
    answers
        Names that the classifier gives for a photo.
    """

    def __init__(self, cloaks: int, answers: int) -> None:
        self._answers = answers
        self.asked = self.missed = self.missed_clean = self.in_five = self.others_asked = self.others_right = 0
        self.trained, self.each = 0, np.zeros(cloaks, np.int64)
        self.accepted, self.accepted_clean = np.zeros((2, 1 + len(FALSE_ACCEPT_RATES)), np.int64)
        self.limits: list[float] = []

    def add(self, training: _Training, places: Numbers, clean: Numbers, mine: npt.NDArray[np.bool_], most: int) -> None:
        """Count one fold: places of the true person with and without cloaks, which tests are theirs, people."""
        self.asked += int(mine.sum())
        self.missed += int((places[mine] >= self._answers).sum())
        self.missed_clean += int((clean[mine] >= self._answers).sum())
        # Who has no score has the last place, which may be one of five.
        self.in_five += int((places[mine] < min(5, most)).sum())
        self.others_asked += int((~mine).sum())
        self.others_right += int((places[~mine] < self._answers).sum())
        self.trained += len(training.rows[0])
        self.each += training.each

    def fields(self) -> dict[str, Any]:
        return {
            "protection": self.missed / self.asked,
            "floor": self.missed_clean / self.asked,
            "rank1": 1 - self.missed / self.asked,
            # Two names are no ranking.
            "rank5": self.in_five / self.asked if self._answers == 1 else None,
            "others_accuracy": self.others_right / self.others_asked if self.others_asked else None,
            "train_photos": self.trained,
            "cloaked_photos": int(self.each.sum()),
            "test_photos": self.asked,
            **({"photos_of_cloaks": self.each.tolist()} if len(self.each) > 1 else {}),
            **({"limit": float(np.mean(self.limits))} if self.limits else {}),
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
        runs of equal length, oldest cloak first: someone who changed their cloak. Each cloaks one photo at least.
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
        self._places = [item.relative for item in models[0].items]
        self._folds = split_photos(people, plan, self._places)
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
        verifier = Verifier([tasks[0] for tasks in self._tasks]) if classifier == "nn" else None
        for person in people:
            try:
                yield person, self._protect(person, trained, before, verifier)
            except InputError as error:
                yield person, error

    def _protect(
        self, person: str, trained: Sequence[Classifier], before: Sequence[Numbers], verifier: Verifier | None
    ) -> dict[str, Any]:
        own = int(np.flatnonzero(self.names == person)[0])
        if int((self._labels == own).sum()) < 2:
            raise InputError(f"{person}: one photo; a person needs one to train on and one to ask", kind="one-photo")
        counts = _Counts(len(self._cloaks), trained[0].answers)
        for fold, classifier in enumerate(trained):
            labels = self._tasks[fold][0].test_labels
            if not (mine := labels == own).any():
                continue
            training = self._training(person, own, self._folds[fold])
            rows, clean = training.rows, training.clean
            places = rank_of(classifier.replaced(own, rows), labels)
            untouched = before[fold] if clean is None else rank_of(classifier.replaced(own, clean), labels)
            counts.add(training, places, untouched, mine, len(self.names))
            if verifier:
                counts.accepted += verifier.accepted(fold, own, rows[0])
                counts.accepted_clean += verifier.accepted(fold, own, None if clean is None else clean[0])
            if isinstance(classifier, Fallback):
                counts.limits.append(classifier.limit_with(own, rows))
        fields = counts.fields()
        if verifier:
            tars = (_rates(each, verifier.limits) for each in (counts.accepted, counts.accepted_clean))
            fields |= dict(zip(("tar", "tar_clean"), tars, strict=True))
        return fields

    def _training(self, person: str, own: int, asked: npt.NDArray[np.bool_]) -> _Training:
        """Give a person's training photos: those that are drawn cloaked, dealt out among the cloaks by place."""
        mine = np.flatnonzero((self._labels == own) & ~asked)
        many = max(1, math.floor(self._plan.fraction * len(mine) + 0.5))
        drawn = np.sort(_draw(self._plan.seed, person, "cloaked").permutation(len(mine))[:many])
        parts = np.array_split(_by_place(mine, self._places)[drawn], len(self._cloaks))
        found = [cloaks.rows[part] for cloaks, part in zip(self._cloaks, parts, strict=True)]
        self._refuse_missing(person, parts, found)
        dropped = np.concatenate([part[copies < 0] for part, copies in zip(parts, found, strict=True)])
        kept = np.setdiff1d(mine, dropped)
        clean = [model.embeddings[kept] for model in self._models]
        rows = [values.copy() for values in clean]
        for part, copies, galleries in zip(parts, found, self._cloaked, strict=True):
            places = np.searchsorted(kept, part[copies >= 0])
            for number, values in enumerate(rows):
                values[places] = galleries[number].embeddings[copies[copies >= 0]]
        return _Training(rows, clean if len(dropped) else None, [int((copies >= 0).sum()) for copies in found])

    def _refuse_missing(self, person: str, parts: Sequence[Numbers], found: Sequence[Numbers]) -> None:
        """Refuse to evaluate a person of whose photos too few have copies."""
        many = sum(map(len, parts))
        if many < len(parts):
            raise InputError(
                f"{person}: {many} of the photos to train on are cloaked, and each of {len(parts)} cloaks needs one",
                kind="few-photos",
            )
        lacking = [
            (cloaks, int(row))
            for cloaks, part, copies in zip(self._cloaks, parts, found, strict=True)
            for row in part[copies < 0]
        ]
        if lacking and not self._plan.drop_missing:
            unseen = [cloaks.faceless[row] for cloaks, row in lacking if row in cloaks.faceless]
            missing = [self._models[0].items[row].path for cloaks, row in lacking if row not in cloaks.faceless]
            what = (
                f"{len(missing)} of {many} photos to train on have no cloaked copy ({missing[0]} is one); cloak them"
                if missing
                else f"no face was found in the cloaked copies of {len(unseen)} of {many} photos to train on "
                f"({unseen[0]} is one); mend them"
            )
            raise InputError(f"{person}: {what}, or give --drop-missing", kind="no-cloak" if missing else "no-face")
        for cloaks, copies in zip(self._cloaks, found, strict=True):
            if not (copies >= 0).any():
                of = f" in {cloaks.name}" if len(parts) > 1 else ""
                raise InputError(
                    f"{person}: no photo to train on has a cloaked copy{of}; cloak more photos", kind="no-cloak"
                )


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

    The limits are set on clean photos, nobody cloaked: tests against training photos of other people, of all folds.

    Parameters
    ----------
    tasks
        The folds.

    Attributes
    ----------
    limits
        For each of ``FALSE_ACCEPT_RATES`` the largest distance that is accepted; NaN where there are too few pairs
        for one of them to pass.
    """

    def __init__(self, tasks: Sequence[Task]) -> None:
        self._tasks = tasks
        # No more than the largest rate lets pass is needed: memory stays small however many pairs there are.
        most = math.ceil(FALSE_ACCEPT_RATES[0] * sum(len(task.test) * len(task.train) for task in tasks)) + 1
        nearest, pairs = np.empty(0), 0
        for task in tasks:
            for first in range(0, len(task.test), BLOCK):
                part = slice(first, first + BLOCK)
                apart = distances(task.test[part], task.train, task.distance)
                others = apart[task.test_labels[part, None] != task.train_labels]
                pairs += len(others)
                nearest = np.sort(np.concatenate([nearest, others]))[:most]
        passing = [math.floor(rate * pairs) for rate in FALSE_ACCEPT_RATES]
        self.limits = np.array([np.nextafter(nearest[few], -np.inf) if few else np.nan for few in passing])

    def accepted(self, fold: int, person: int, rows: Rows | None = None) -> Numbers:
        """Count a person's clean tests in one fold against ``rows`` (None: their clean training photos).

        Returns
        -------
        int [1 + rates]
            Pairs, and those accepted at each limit.
        """
        task = self._tasks[fold]
        own = task.train[task.train_labels == person] if rows is None else rows
        apart = distances(task.test[task.test_labels == person], own, task.distance)
        return np.array([apart.size, *(int((apart <= limit).sum()) for limit in self.limits)], np.int64)


def _rates(counts: Numbers, limits: npt.NDArray[np.float64]) -> dict[str, float | None]:
    """Give the true accept rate at each false accept rate, None where no limit could be set."""
    pairs, *hits = counts.tolist()
    known = zip(FALSE_ACCEPT_RATES, hits, limits, strict=True)
    return {f"{rate:g}": None if np.isnan(limit) else hit / pairs for rate, hit, limit in known}


def summarise(records: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Give the means over protected people, with 95% bootstrap intervals over them; one person has none.

    Parameters
    ----------
    records
        What ``Evaluation.run`` gave of each; one at least.
    """
    fields: dict[str, Any] = {}
    for key, name in (("protection", "interval"), ("floor", "floor_interval")):
        fields[key], *ends = mean_interval([record[key] for record in records])
        fields[name] = ends if len(records) > 1 else None
    for key in ("others_accuracy", "rank1", "rank5"):
        fields[key] = _mean([record[key] for record in records])
    fields["people"] = len(records)
    for key in ("train_photos", "cloaked_photos", "test_photos"):
        fields[key] = sum(record[key] for record in records)
    if all("photos_of_cloaks" in record for record in records):
        fields["photos_of_cloaks"] = np.sum([record["photos_of_cloaks"] for record in records], 0).tolist()
    if "limit" in records[0]:
        fields["limit"] = _mean([record["limit"] for record in records])
    for key in (key for key in ("tar", "tar_clean") if key in records[0]):
        fields[key] = {rate: _mean([record[key][rate] for record in records]) for rate in records[0][key]}
    return fields


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None
