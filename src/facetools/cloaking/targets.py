"""Targets of attacks that pull a face to another person: mean embeddings of people, from files."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from _toolio.errors import InputError, UsageError, param
from _toolio.files.hashing import sha256_of
from facetools.embeddings.files import read_targets
from facetools.extractors.extractor import Extractor

FARTHEST = 20
"""Targets are drawn from this many farthest people."""


class Targets:
    """People with mean embeddings in each extractor of an ensemble.

    Parameters
    ----------
    files
        Files of embeddings, one for each extractor in any order, of photos in folders named after people.
    extractors
        The ensemble.

    Raises
    ------
    UsageError
        An extractor of the ensemble has no file.
    ToolError
        A file holds no embeddings of photos.
    """

    def __init__(self, files: Sequence[Path], extractors: Sequence[Extractor]) -> None:
        read = [read_targets(path) for path in files]
        self.digest = sha256_of(b"".join(path.read_bytes() for path in files))
        means = []
        for extractor in extractors:
            fitting = [people for digest, people in read if digest == extractor.sha256]
            if not fitting:
                raise UsageError(
                    f"{param('targets')}: no file was embedded with {extractor.name} ({extractor.sha256[:12]}); make "
                    f"one with `facetools embed {param('inputs')} people/ {param('out')} FILE` and the "
                    f"{param('extractor')} given here"
                )
            means.append(fitting[0])
        shared = set(means[0]).intersection(*means[1:])
        self.people = sorted(shared)
        self._means = [np.stack([people[name] for name in self.people]) for people in means] if shared else []

    def check(self, path: str, person: str, count: int) -> None:
        """Refuse a photo of a person who has fewer than ``count`` others to be pulled to: InputError."""
        others = len(self.people) - (person in self.people)
        if others < count:
            raise InputError(
                f"{path}: {param('targets')} has {others} people besides {person}, {count} needed; embed more people",
                kind="targets",
            )

    def draw(
        self, embeddings: Sequence[npt.NDArray[np.float32]], person: str, seed: int, count: int
    ) -> tuple[list[str], list[npt.NDArray[np.float32]]]:
        """Draw targets for one face from the ``FARTHEST`` people that are farthest from it (Fawkes v0.3).

        Among them, those with the smallest hash of seed, person and their own name are taken: photos of one
        person, whose farthest people are mostly the same, get mostly the same targets, whatever their order.
        The released Fawkes decides once for all photos of a run, which needs them all at once.

        Parameters
        ----------
        embeddings
            Of the face, for each extractor float32 [D].
        person
            The person of the face; never a target.
        seed
            Of the run.
        count
            How many; ``check`` says whether there are so many.

        Returns
        -------
        Names, and for each extractor float32 [count, D].
        """
        others = [number for number, name in enumerate(self.people) if name != person]
        # Distances of different extractors have different scales.
        far = np.zeros(len(others))
        for mean, own in zip(self._means, embeddings, strict=True):
            distance = np.linalg.norm(mean[others].astype(np.float64) - own, axis=1)
            far += distance / max(float(distance.mean()), 1e-12)
        farthest = [others[index] for index in np.argsort(-far, kind="stable")[: max(FARTHEST, count)]]

        def lot(number: int) -> bytes:
            text = f"{seed} {person} {self.people[number]}"
            return hashlib.sha256(text.encode("utf-8", "surrogateescape")).digest()

        drawn = sorted(farthest, key=lot)[:count]
        return [self.people[number] for number in drawn], [mean[drawn] for mean in self._means]
