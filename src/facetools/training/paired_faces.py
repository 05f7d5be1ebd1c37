"""Faces with their clean and cloaked copies, and the people that are held out."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from _toolio.errors import ToolError
from _toolio.files.hashing import sha256_of
from facetools.people import is_held_out
from facetools.training.samples import Sample, split


@dataclass(frozen=True, slots=True)
class Faces:
    """Clean faces and their cloaked copies.

    Attributes
    ----------
    samples
        One a face.
    original
        int [n], the place of the clean face that each is a copy of; its own for a clean one.
    cloak
        int [n], -1 for clean faces, else the number of the cloak in ``cloaks``.
    cloaks
        Names of the cloaks.
    """

    samples: tuple[Sample, ...]
    original: npt.NDArray[np.int64]
    cloak: npt.NDArray[np.int64]
    cloaks: tuple[str, ...]

    @property
    def people(self) -> npt.NDArray[np.str_]:
        """Who each face is: that of its original, [n]."""
        return np.array([self.samples[place].person for place in self.original])

    def part(self, people: set[str]) -> Faces:
        """Keep some people's faces."""
        kept = np.flatnonzero([person in people for person in self.people])
        places = np.full(len(self.samples), -1)
        places[kept] = np.arange(len(kept))
        samples = tuple(self.samples[place] for place in kept)
        return Faces(samples, places[self.original[kept]], self.cloak[kept], self.cloaks)


def digest_of(faces: Faces) -> str:
    """Hash all faces, which of them are whose copies, and the order, which decides what is drawn."""
    lines = [
        f"{cloak} {original} {sample.source}"
        for sample, original, cloak in zip(faces.samples, faces.original, faces.cloak, strict=True)
    ]
    return sha256_of("\n".join(lines).encode("utf-8", "surrogateescape"))


def choose_held_out(faces: Faces, *, share: float, seed: int) -> tuple[Faces, Faces]:
    """Split faces by person into those to train on and those to watch; both have cloaked ones.

    Raises
    ------
    ToolError
        Fewer than four people have cloaked photos.
    """
    cloaked = [faces.samples[place] for place in np.unique(faces.original[faces.cloak >= 0])]
    if len({sample.person for sample in cloaked}) < 4:
        raise ToolError(
            f"{len({s.person for s in cloaked})} people have cloaked photos; two to train on and two to watch are the "
            "least",
            kind="few-people",
        )
    held = {sample.person for sample in split(cloaked, seed=seed, share=share)[1]}
    # Who has no cloaked photo is drawn by the same lot, so that the share holds for them too.
    rest = [sample for sample in faces.samples if sample.person not in {s.person for s in cloaked}]
    held |= {sample.person for sample in rest if is_held_out(sample.person, seed, share)}
    everybody = set(faces.people.tolist())
    return faces.part(everybody - held), faces.part(held)
