"""Read photos of people for training, with their cloaked copies."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from _toolio.cli.progress import track
from _toolio.errors import InputError, ToolError, UsageError, of_the_whole_run
from _toolio.streams.inputs import Item, open_items
from _toolio.streams.records import RecordWriter, parse_record
from facetools.intake_records import needing_work
from facetools.pairs import match_photos, without_suffix
from facetools.people import folded, person_in, person_of

if TYPE_CHECKING:
    import torch

    from facetools.faces.face import Face
    from facetools.training.paired_faces import Faces
    from facetools.training.samples import Sample

Copies = Mapping[str, Sequence[Item]]
"""The cloaked photos of each input."""


@dataclass(frozen=True, slots=True)
class Names:
    """Whom ``--hold-out`` names.

    Attributes
    ----------
    all
        In the form that ``people.folded`` gives names.
    words
        Those that were given one by one: a slip of the keys there would train on somebody.
    """

    all: frozenset[str]
    words: tuple[str, ...]


def read_names(given: Iterable[str]) -> Names:
    """Read whom ``--hold-out`` names: people, or folders, archives and files that name them."""
    names, words = set(), []
    for name in given:
        path = Path(name)
        if path.is_dir() or path.suffix == ".tar":
            names |= {folded(person_in(item.path, item.relative)) for item in open_items([name])}
        elif path.is_file():
            names |= {folded(each) for each in _names_in(path)}
        elif "/" in name or path.suffix in (".txt", ".jsonl"):
            raise UsageError(f"--hold-out {name}: no such file or folder")
        else:
            names.add(folded(name))
            words.append(name)
    return Names(frozenset(names), tuple(words))


def _names_in(path: Path) -> Iterator[str]:
    try:
        lines = path.read_text("utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ToolError(f"--hold-out {path}: cannot be read as text: {error}", kind="unreadable") from None
    for number, line in enumerate(lines, 1):
        if line.startswith("{"):
            with of_the_whole_run():
                person = parse_record(line, where=f"{path}, line {number}").get("person")
            if isinstance(person, str):
                yield person
        elif line.strip():
            yield line.strip()


@dataclass(slots=True)
class Pantry:
    """Where photos become faces to train on.

    Attributes
    ----------
    writer
        Gets a record for each photo that cannot be used.
    device, faces, min_face_px
        How faces are found.
    held
        Whom nothing is learned of, as ``read_names`` gives them.
    left_out
        How many photos of each of them were met.
    """

    writer: RecordWriter
    device: torch.device
    faces: str
    min_face_px: float | None
    held: Names
    left_out: dict[str, int] = field(default_factory=dict)

    def wanted(self, name: str, suffix: str = "") -> list[Item]:
        """List an input's photos, without those of people that are held out."""
        kept = []
        for item in open_items([name]):
            person = person_of(without_suffix(item.relative, suffix) or item.relative)
            if folded(person) in self.held.all:
                self.left_out[person] = self.left_out.get(person, 0) + 1
            else:
                kept.append(item)
        if not kept:
            raise ToolError(f"{name}: all its photos are of people that are held out; give other people", kind="empty")
        return kept

    def check_names(self) -> None:
        """Refuse a name that was given and that nobody in the photos has."""
        met = {folded(person) for person in self.left_out}
        for word in self.held.words:
            if folded(word) not in met:
                raise ToolError(f"--hold-out {word}: no photo is of this person; check the name, or leave it out")

    def copies(self, cloaked: Sequence[str], made: Sequence[Path], photos: Sequence[Item], suffix: str) -> Copies:
        """List the cloaked photos of each input, and of each folder that was made here of ``photos``."""
        copies = {name: self.wanted(name, suffix) for name in cloaked}
        for folder in made:
            # Of an earlier run with other photos more may be there.
            pairs = match_photos(photos, self.wanted(str(folder)))
            copies[str(folder)] = [pair.cloaked for pair in pairs if pair.clean and pair.cloaked]
        return copies

    def cut(self, items: Sequence[Item], what: str, settings: Any, *, quiet: bool = False) -> dict[str, Cut]:
        """Cut the faces of photos, by path; those without one become records, unless ``quiet``."""
        from facetools.intake import take_in
        from facetools.training.samples import make_sample

        found = {}
        tracked = track(items, what, len(items))
        taken = take_in(tracked, self.device, faces=self.faces, min_face_px=self.min_face_px)
        for intake in needing_work(self.writer, taken):
            if sample := make_sample(intake, settings):
                found[intake.item.path] = Cut(sample, intake.faces[0], intake.photo.pixels.shape)
            elif not quiet:
                self.writer.emit({"path": intake.item.path, "reason": "no face found: not used"})
        return found

    def gather(self, clean: Sequence[Item], cloaked: Copies, suffix: str, settings: Any) -> Faces:
        """Read all photos and match cloaked ones to clean ones."""
        import numpy as np

        from facetools.training.paired_faces import Faces

        originals = self.cut(clean, "reading clean faces", settings)
        if not originals:
            raise ToolError("no face in any clean photo", kind="empty")
        place = {path: number for number, path in enumerate(originals)}
        samples = [each.sample for each in originals.values()]
        original, cloak = list(range(len(samples))), [-1] * len(samples)
        for number, (name, items) in enumerate(cloaked.items()):
            partners = self._match(clean, items, suffix)
            matched = [item for item in items if partners.get(item.path) in place]
            for path, cut in self._cut_copies(matched, name, partners, originals, settings).items():
                samples.append(cut.sample)
                original.append(place[partners[path]])
                cloak.append(number)
        return Faces(tuple(samples), np.array(original), np.array(cloak), tuple(cloaked))

    def _match(self, clean: Sequence[Item], cloaked: Sequence[Item], suffix: str) -> dict[str, str]:
        """Give the path of each cloaked photo's clean one; those without one become records."""
        partners = {}
        for pair in match_photos(clean, cloaked, suffix=suffix):
            if pair.clean and pair.cloaked:
                partners[pair.cloaked.path] = pair.clean.path
            elif pair.cloaked:
                message = f"{pair.cloaked.path}: no clean photo of this name; add it, or give --suffix"
                self.writer.fail(InputError(message, kind="no-match"), {"path": pair.cloaked.path})
        return partners

    def _cut_copies(
        self, items: Sequence[Item], name: str, partners: Mapping[str, str], originals: Mapping[str, Cut], settings: Any
    ) -> dict[str, Cut]:
        """Cut cloaked faces where they are in the clean photos; those in photos of another size are searched for."""
        from facetools.faces.face import describe_face

        if self.faces == "crop":
            return self.cut(items, f"reading {name}", settings)
        placed = [
            replace(item, record={"path": item.path, **describe_face(originals[partners[item.path]].face, 0)})
            for item in items
        ]
        found = self.cut(placed, f"reading {name}", settings, quiet=True)
        as_large = {path for path, cut in found.items() if cut.shape == originals[partners[path]].shape}
        other = [item for item in items if item.path not in as_large]
        again = self.cut(other, f"finding faces in {name}", settings) if other else {}
        return {path: cut for path, cut in found.items() if path in as_large} | again


@dataclass(frozen=True, slots=True)
class Cut:
    """A photo's face.

    Attributes
    ----------
    sample, face
        What was cut, and where it is in its photo.
    shape
        Of the photo.
    """

    sample: Sample
    face: Face
    shape: tuple[int, ...]
