"""Targets of attacks that pull a face to another person: mean embeddings of people, from files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from _toolio.errors import InputError, UsageError, param
from _toolio.files.hashing import sha256_of, text_digest
from facetools.embeddings.files import check_finite, read_embeddings
from facetools.extractors.extractor import Extractor
from facetools.people import person_of

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
        read = [mean_embeddings(path) for path in files]
        self.digest = sha256_of(b"".join(path.read_bytes() for path in files))
        means = []
        for extractor in extractors:
            fitting = [people for digest, people in read if digest == extractor.sha256]
            if not fitting:
                raise UsageError(
                    f"{param('targets')}: no file was embedded with {extractor.name} ({extractor.sha256[:12]}); it is "
                    f"made by `facetools embed` with the same {param('extractor')}"
                )
            means.append(fitting[0])
        shared = set(means[0]).intersection(*means[1:])
        self.people = sorted(shared)
        self._means = [np.stack([people[name] for name in self.people]) for people in means] if shared else []

    def check(self, path: str, person: str, count: int) -> None:
        """Raise InputError for a photo if ``count`` targets besides its person are more than there are."""
        others = len(self.people) - (person in self.people)
        if others < count:
            raise InputError(
                f"{path}: {param('targets')} has {others} people besides {person}, {count} needed; embed more people",
                kind="targets",
            )

    def draw(
        self, embeddings: Sequence[npt.NDArray[np.float32]], person: str, seed: int, count: int
    ) -> tuple[list[str], list[npt.NDArray[np.float32]]]:
        """Draw targets for one face at random from the ``FARTHEST`` people farthest from it (Fawkes v0.3).

        Those with the smallest hash of seed, person and their own name are taken: photos of one person, whose
        farthest people are mostly the same, get mostly the same targets, in any order. The released Fawkes decides
        once for all photos of a run, which needs them all at once.

        Parameters
        ----------
        embeddings
            Of the face, for each extractor float32 [D].
        person
            The person of the face; never a target.
        seed
            Of the run.
        count
            Number of targets, which ``check`` allows.

        Returns
        -------
        names, means
            Their names, and for each extractor float32 [count, D].
        """
        others = [number for number, name in enumerate(self.people) if name != person]
        # Distances of different extractors have different scales.
        far = np.zeros(len(others))
        for mean, own in zip(self._means, embeddings, strict=True):
            distance = np.linalg.norm(mean[others].astype(np.float64) - own, axis=1)
            far += distance / max(float(distance.mean()), 1e-12)
        farthest = [others[index] for index in np.argsort(-far, kind="stable")[: max(FARTHEST, count)]]

        def hash_of(number: int) -> bytes:
            text = f"{seed} {person} {self.people[number]}"
            return text_digest(text)

        drawn = sorted(farthest, key=hash_of)[:count]
        return [self.people[number] for number in drawn], [mean[drawn] for mean in self._means]


def mean_embeddings(path: Path) -> tuple[str, dict[str, npt.NDArray[np.float32]]]:
    """Read a file of embeddings: the extractor's sha256, and each person's mean embedding, float32 [D].

    Raises
    ------
    ToolError
        It is not a file of embeddings, or an embedding is not finite.
    """
    file = read_embeddings(path)
    rows: dict[str, list[int]] = {}
    for number, row in enumerate(file.rows):
        check_finite(file.values[number], str(path), row["path"])
        rows.setdefault(person_of(row["relative"]), []).append(number)
    return file.extractor["sha256"], {name: file.values[numbers].mean(0) for name, numbers in rows.items()}
