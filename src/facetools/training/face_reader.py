"""Read photos of people, with their cloaked copies, as faces to train on."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from _toolio.errors import InputError, ToolError, param
from _toolio.progress import Progress, no_progress
from _toolio.streams.inputs import Item, list_whole
from facetools.extractors.settings import Settings
from facetools.faces.face import Face, describe_face
from facetools.faces.search import FaceSearch
from facetools.intake import Finished, Intake, Refusal, take_in
from facetools.pairs import match_photos, without_suffix
from facetools.people import folded, person_of
from facetools.training.excluded_people import ExcludedPeople
from facetools.training.paired_faces import PairedFaces
from facetools.training.samples import Sample, make_sample

Copies = Mapping[str, Sequence[Item]]
"""The cloaked photos of each input."""

NO_FACE = "no face found"


@dataclass(frozen=True, slots=True)
class Unused:
    """A photo that could be read and is not trained on.

    Attributes
    ----------
    path
        The photo.
    reason
        Why, in a few words.
    """

    path: str
    reason: str


Report = Callable[[Refusal | Finished | Unused], None]
"""Called with each photo that is not used, in the order in which photos are read."""


def _report_nothing(_: Refusal | Finished | Unused) -> None: ...


@dataclass(frozen=True, slots=True)
class CutFace:
    """A photo's face.

    Attributes
    ----------
    path
        The photo.
    sample, face
        What was cut, and where it is in the photo.
    shape
        Of the photo, (height, width, 3).
    """

    path: str
    sample: Sample
    face: Face
    shape: tuple[int, ...]


class FaceReader:
    """Find faces in photos of people, and pair cloaked copies with their clean originals.

    Parameters
    ----------
    networks
        How each network that will be shown the faces has them cut.
    device
        Where faces are found.
    faces
        How faces are searched for, and which of a photo is the person's: a `FaceSearch`, or the name of its ``faces``
        alone: ``largest``, ``central``, or ``crop`` for aligned crops.
    excluded
        People that nothing is learned from: their photos are not read.
    report
        Called for each photo that is not used.
    progress
        Shows how far reading is.

    Examples
    --------
    Read clean photos and a tool's cloaked copies of them::

        reader = FaceReader(extractor.settings, device=torch.device("cpu"))
        photos = reader.list_photos("people/")
        faces = reader.read_pairs(photos, reader.list_copies(["cloaked/"]))
    """

    def __init__(
        self,
        *networks: Settings,
        device: torch.device,
        faces: FaceSearch | str = "largest",
        excluded: ExcludedPeople = ExcludedPeople(),  # noqa: B008 - it is frozen
        report: Report = _report_nothing,
        progress: Progress = no_progress,
    ) -> None:
        self._networks, self._device, self._faces = networks, device, FaceSearch.of(faces)
        self._excluded, self._report, self._progress = excluded, report, progress
        self.excluded_photos: dict[str, int] = {}
        """Photos listed so far of each excluded person."""

    def list_photos(self, source: str, suffix: str = "") -> list[Item]:
        """List the photos in a folder or archive, without those of excluded people.

        Parameters
        ----------
        source
            The folder or archive.
        suffix
            What a tool has added to the names of cloaked photos.

        Raises
        ------
        ToolError
            There are no others.
        """
        kept = []
        for item in list_whole([source]):
            person = person_of(without_suffix(item.relative, suffix) or item.relative)
            if folded(person) in self._excluded.names:
                self.excluded_photos[person] = self.excluded_photos.get(person, 0) + 1
            else:
                kept.append(item)
        if not kept:
            raise ToolError(
                f"{source}: all its photos are of people that are held out; give other people", kind="empty"
            )
        return kept

    def check_excluded(self) -> None:
        """Raise a ToolError if a name that was given by itself is of nobody in the photos listed so far."""
        met = {folded(person) for person in self.excluded_photos}
        for word in self._excluded.words:
            if folded(word) not in met:
                raise ToolError(
                    f"{param('hold_out')} {word}: no photo is of this person; check the name, or leave it out"
                )

    def list_copies(
        self, cloaked: Sequence[str], made: Sequence[Path] = (), photos: Sequence[Item] = (), suffix: str = ""
    ) -> Copies:
        """List the cloaked photos of each input, and of each folder that was ``made`` by cloaking ``photos``."""
        copies = {name: self.list_photos(name, suffix) for name in cloaked}
        for folder in made:
            # Of an earlier run with other photos more may be there.
            pairs = match_photos(photos, self.list_photos(str(folder)))
            copies[str(folder)] = [pair.cloaked for pair in pairs if pair.clean and pair.cloaked]
        return copies

    def read(self, items: Iterable[Item], what: str = "reading faces", total: int | None = None) -> Iterator[CutFace]:
        """Yield the face of each photo that has one; the others are reported."""
        return self._read(items, what, total, quiet=False)

    def _read(self, items: Iterable[Item], what: str, total: int | None, *, quiet: bool) -> Iterator[CutFace]:
        tracked = self._progress(items, what, total)
        for intake in take_in(tracked, self._device, faces=self._faces):
            if not isinstance(intake, Intake):
                self._report(intake)
            elif sample := make_sample(intake, *self._networks):
                yield CutFace(intake.item.path, sample, intake.faces[0], intake.photo.pixels.shape)
            elif not quiet:
                self._report(Unused(intake.item.path, intake.no_face if not intake.faces else NO_FACE))

    def _by_path(self, items: Sequence[Item], what: str, *, quiet: bool = False) -> dict[str, CutFace]:
        return {cut.path: cut for cut in self._read(items, what, len(items), quiet=quiet)}

    def read_pairs(self, clean: Sequence[Item], cloaked: Copies, suffix: str = "") -> PairedFaces:
        """Read all photos and pair cloaked ones with clean ones by their paths below the inputs.

        Parameters
        ----------
        clean
            From `list_photos`.
        cloaked
            From `list_copies`.
        suffix
            What a tool has added to the names of cloaked photos.

        Raises
        ------
        ToolError
            No clean photo has a face.
        """
        originals = self._by_path(clean, "reading clean faces")
        if not originals:
            raise ToolError("no face in any clean photo", kind="empty")
        place = {path: number for number, path in enumerate(originals)}
        samples = [each.sample for each in originals.values()]
        original, cloak = list(range(len(samples))), [-1] * len(samples)
        for number, (name, items) in enumerate(cloaked.items()):
            partners = self._match(clean, items, suffix)
            matched = [item for item in items if partners.get(item.path) in place]
            for path, cut in self._read_copies(matched, name, partners, originals).items():
                samples.append(cut.sample)
                original.append(place[partners[path]])
                cloak.append(number)
        return PairedFaces(tuple(samples), np.array(original), np.array(cloak), tuple(cloaked))

    def _match(self, clean: Sequence[Item], cloaked: Sequence[Item], suffix: str) -> dict[str, str]:
        """Return the path of each cloaked photo's clean original; those without one are reported."""
        partners = {}
        for pair in match_photos(clean, cloaked, suffix=suffix):
            if pair.clean and pair.cloaked:
                partners[pair.cloaked.path] = pair.clean.path
            elif pair.cloaked:
                message = f"{pair.cloaked.path}: no clean photo of this name; add it, or give {param('suffix')}"
                self._report(Refusal(pair.cloaked, InputError(message, kind="no-match")))
        return partners

    def _read_copies(
        self, items: Sequence[Item], name: str, partners: Mapping[str, str], originals: Mapping[str, CutFace]
    ) -> dict[str, CutFace]:
        """Cut cloaked faces where they are in the clean photos; in photos of another size, faces are searched for."""
        if not self._faces.is_needed:
            return self._by_path(items, f"reading {name}")
        placed = [
            replace(item, record={"path": item.path, **describe_face(originals[partners[item.path]].face, 0)})
            for item in items
        ]
        found = self._by_path(placed, f"reading {name}", quiet=True)
        as_large = {path for path, cut in found.items() if cut.shape == originals[partners[path]].shape}
        other = [item for item in items if item.path not in as_large]
        again = self._by_path(other, f"finding faces in {name}") if other else {}
        return {path: cut for path, cut in found.items() if path in as_large} | again
