"""Measure the protection of cloaks: the experiment of arXiv 2106.14851, section 3, over many people.

For each protected person, all (or a part) of their training photos are replaced by cloaked copies, everybody else is
clean, and a recogniser is trained. Protection is its error rate on the person's clean test photos.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from _toolio.errors import InputError, param
from facetools.evaluation.classifiers.embedding_classifiers import (
    Classifier,
    Fallback,
    Rows,
    Scores,
    Task,
    make_classifier,
)
from facetools.evaluation.cloaks import Cloaks
from facetools.evaluation.config import ProtocolConfig
from facetools.evaluation.gallery import Gallery
from facetools.evaluation.splits import Numbers, by_place, generator_of, split_photos
from facetools.evaluation.verification import Verifier, rates


@dataclass(frozen=True, slots=True)
class _Training:
    """A protected person's training photos.

    Attributes
    ----------
    rows
        For each model [m, D], in the order of the gallery.
    clean
        The same photos not cloaked; None where these are all the training photos of the person.
    each
        Number of photos by each cloak.
    """

    rows: list[Rows]
    clean: list[Rows] | None
    each: list[int]


class _Counts:
    """Counts over the folds for one protected person.

    Parameters
    ----------
    cloaks
        Number of cloaks.
    answers
        Names that the classifier returns for a photo.
    limits
        Number of false accept rates at which verification is measured.
    """

    def __init__(self, cloaks: int, answers: int, limits: int) -> None:
        self._answers = answers
        self.tested = self.missed = self.missed_clean = self.in_five = self.others_tested = self.others_right = 0
        self.trained, self.each = 0, np.zeros(cloaks, np.int64)
        self.accepted, self.accepted_clean = np.zeros((2, 1 + limits), np.int64)
        self.limits: list[float] = []

    def add(self, training: _Training, places: Numbers, clean: Numbers, mine: npt.NDArray[np.bool_], most: int) -> None:
        """Count one fold.

        Parameters
        ----------
        training
            The person's training photos.
        places, clean
            int [tests], ranks of the true person with and without cloaks, from 0.
        mine
            bool [tests], the person's own tests.
        most
            Number of people.
        """
        self.tested += int(mine.sum())
        self.missed += int((places[mine] >= self._answers).sum())
        self.missed_clean += int((clean[mine] >= self._answers).sum())
        # A person without a score has the last place, which may be one of five.
        self.in_five += int((places[mine] < min(5, most)).sum())
        self.others_tested += int((~mine).sum())
        self.others_right += int((places[~mine] < self._answers).sum())
        self.trained += len(training.rows[0])
        self.each += training.each

    def fields(self) -> dict[str, Any]:
        """Return the figures of the person's record."""
        return {
            "protection": self.missed / self.tested,
            "floor": self.missed_clean / self.tested,
            "rank1": 1 - self.missed / self.tested,
            # Two names are no ranking.
            "rank5": self.in_five / self.tested if self._answers == 1 else None,
            "others_accuracy": self.others_right / self.others_tested if self.others_tested else None,
            "train_photos": self.trained,
            "cloaked_photos": int(self.each.sum()),
            "test_photos": self.tested,
            **({"photos_of_cloaks": self.each.tolist()} if len(self.each) > 1 else {}),
            **({"limit": float(np.mean(self.limits))} if self.limits else {}),
        }


class Evaluation:
    """Evaluate cloaks on one set of embeddings.

    Parameters
    ----------
    models
        For each model (one, or an accurate and a robust one) the clean gallery; photos in the same order.
    cloaked
        For each cloak, for each model, the cloaked gallery.
    cloaks
        The copies of each cloak. Several stand for someone who changed their cloak: a person's photos, in order, are
        divided into runs of equal length, oldest cloak first, of one photo at least.
    people
        Who is in each clean photo.
    protocol
        Splits, and which training photos are cloaked.
    distance
        ``cosine`` or ``euclidean``; None: the extractors' own.
    """

    def __init__(
        self,
        models: Sequence[Gallery],
        cloaked: Sequence[Sequence[Gallery]],
        cloaks: Sequence[Cloaks],
        people: Sequence[str],
        protocol: ProtocolConfig,
        distance: str | None = None,
    ) -> None:
        self._models, self._cloaked, self._cloaks, self._protocol = models, cloaked, cloaks, protocol
        self.names, self._labels = np.unique(np.array(people), return_inverse=True)
        self._distances = [distance or model.distance for model in models]
        self._places = [item.relative for item in models[0].items]
        self._folds = split_photos(people, protocol, self._places)
        self._tasks = [[self._task(number, tested) for number in range(len(models))] for tested in self._folds]

    def _task(self, number: int, tested: npt.NDArray[np.bool_]) -> Task:
        rows, labels = self._models[number].embeddings, self._labels
        distance = self._distances[number]
        return Task(rows[~tested], labels[~tested], rows[tested], labels[tested], len(self.names), distance)

    @property
    def protected(self) -> list[str]:
        """People who have cloaked photos."""
        has = np.any([cloaks.rows >= 0 for cloaks in self._cloaks], axis=0)
        return [str(self.names[number]) for number in np.unique(self._labels[has])]

    def run(
        self,
        classifier: str,
        people: Sequence[str],
        train: Callable[[Sequence[Task]], Classifier] | None = None,
    ) -> Iterator[tuple[str, dict[str, Any] | InputError]]:
        """Protect people one at a time; yield each name with the fields of its record, or with the reason for none.

        Parameters
        ----------
        classifier
            One of ``embedding_classifiers.NAMES``, or the name of what ``train`` makes. For ``nn`` verification is
            measured too: ``tar`` holds the true accept rate (TAR) between cloaked training photos and clean tests at
            each false accept rate (FAR), ``tar_clean`` that of clean training photos.
        people
            Names, out of ``protected``.
        train
            Makes a classifier of one split's tasks, one a model; None: ``make_classifier``.
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
        counts = _Counts(len(self._cloaks), trained[0].answers, len(verifier.limits) if verifier else 0)
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
            tars = (rates(each, verifier.limits) for each in (counts.accepted, counts.accepted_clean))
            fields |= dict(zip(("tar", "tar_clean"), tars, strict=True))
        return fields

    def _training(self, person: str, own: int, tested: npt.NDArray[np.bool_]) -> _Training:
        """Return a person's training photos, those drawn at random cloaked, by the cloaks in turn."""
        mine = np.flatnonzero((self._labels == own) & ~tested)
        many = max(1, math.floor(self._protocol.fraction * len(mine) + 0.5))
        drawn = np.sort(generator_of(self._protocol.seed, person, "cloaked").permutation(len(mine))[:many])
        parts = np.array_split(by_place(mine, self._places)[drawn], len(self._cloaks))
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
        """Refuse to evaluate a person too few of whose photos have copies."""
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
        if lacking and not self._protocol.drop_missing:
            unseen = [cloaks.faceless[row] for cloaks, row in lacking if row in cloaks.faceless]
            missing = [self._models[0].items[row].path for cloaks, row in lacking if row not in cloaks.faceless]
            what = (
                f"{len(missing)} of {many} photos to train on have no cloaked copy ({missing[0]} is one); cloak them"
                if missing
                else f"no face was found in the cloaked copies of {len(unseen)} of {many} photos to train on "
                f"({unseen[0]} is one); mend them"
            )
            raise InputError(
                f"{person}: {what}, or give {param('drop_missing')}", kind="no-cloak" if missing else "no-face"
            )
        for cloaks, copies in zip(self._cloaks, found, strict=True):
            if not (copies >= 0).any():
                of = f" in {cloaks.name}" if len(parts) > 1 else ""
                raise InputError(
                    f"{person}: no photo to train on has a cloaked copy{of}; cloak more photos", kind="no-cloak"
                )


def rank_of(scores: Scores, labels: Numbers) -> Numbers:
    """Return the rank of each test's true person among all, int [tests] from 0; ties go to the smaller number.

    Parameters
    ----------
    scores
        float64 [tests, people], the lower the likelier; a person without a score (infinity) has the last place.
    labels
        int [tests], the true people.
    """
    tests = np.arange(len(scores))
    own = scores[tests, labels][:, None]
    before = (scores == own) & (np.arange(scores.shape[1]) < labels[:, None])
    places: Numbers = (scores < own).sum(1) + before.sum(1)
    places[~np.isfinite(own[:, 0])] = scores.shape[1]
    return places
