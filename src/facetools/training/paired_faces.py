"""Clean faces paired with their cloaked copies, and their split into training and held-out people."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from _toolio.errors import ToolError
from _toolio.files.hashing import sha256_of
from facetools.people import is_held_out
from facetools.training.samples import Sample, split


@dataclass(frozen=True, slots=True)
class PairedFaces:
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
        """The person of each face, that of its original, [n]."""
        return np.array([self.samples[place].person for place in self.original])

    def part(self, people: set[str]) -> PairedFaces:
        """Return the faces of some people."""
        kept = np.flatnonzero([person in people for person in self.people])
        places = np.full(len(self.samples), -1)
        places[kept] = np.arange(len(kept))
        samples = tuple(self.samples[place] for place in kept)
        return PairedFaces(samples, places[self.original[kept]], self.cloak[kept], self.cloaks)

    @property
    def sha256(self) -> str:
        """Hash of all faces, of which are whose copies, and of their order, which decides what is drawn."""
        lines = [
            f"{cloak} {original} {sample.source}"
            for sample, original, cloak in zip(self.samples, self.original, self.cloak, strict=True)
        ]
        return sha256_of("\n".join(lines).encode("utf-8", "surrogateescape"))


def split_pairs(faces: PairedFaces, *, share: float, seed: int) -> tuple[PairedFaces, PairedFaces]:
    """Split faces by person into training and held-out ones; both parts have cloaked faces.

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
    # People without a cloaked photo are drawn at random by the same hash, so that the share holds for them too.
    rest = [sample for sample in faces.samples if sample.person not in {s.person for s in cloaked}]
    held |= {sample.person for sample in rest if is_held_out(sample.person, seed, share)}
    everybody = set(faces.people.tolist())
    return faces.part(everybody - held), faces.part(held)
