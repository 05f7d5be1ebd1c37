"""Galleries: embeddings of known people's faces, and who the people are."""

from __future__ import annotations

import json
import os
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from _toolio.errors import ToolError, of_the_whole_run, param
from _toolio.streams.inputs import Item
from _toolio.streams.reading import open_input
from _toolio.streams.records import read_records
from facetools.attacks.origins import Origin
from facetools.pairs import without_suffix
from facetools.people import composed, folded, folders_of, person_of


@dataclass(frozen=True, slots=True)
class Gallery:
    """Embeddings of people's photos by one extractor, one face a photo.

    Attributes
    ----------
    extractor, digest
        Its name and the sha256 of its weights.
    distance
        What its embeddings are compared with: ``cosine`` or ``euclidean``.
    items
        The photos: their paths, and where they lie below their input.
    embeddings
        float32 [n, D]; after ``of_chips`` the chips.
    people
        People that the extractor was trained on, where its file names them.
    chips
        uint8 [n, height, width, 3], RGB: the aligned faces as the extractor sees them; None where they are not kept.
    sha256s
        Of the photos' bytes; empty where those of some are not known.
    faceless
        Photos in which no face was found.
    origins
        What each photo was cloaked against, None where that is not known; empty where it is of none.
    """

    extractor: str
    digest: str
    distance: str
    items: tuple[Item, ...]
    embeddings: npt.NDArray[Any]
    people: tuple[str, ...] = ()
    chips: npt.NDArray[np.uint8] | None = None
    sha256s: tuple[str, ...] = ()
    faceless: tuple[Item, ...] = ()
    origins: tuple[Origin | None, ...] = ()

    def part(self, wanted: Callable[[Item], bool]) -> Gallery:
        """Return the gallery of some of the photos."""
        kept = [n for n, item in enumerate(self.items) if wanted(item)]
        return replace(
            self,
            items=tuple(self.items[n] for n in kept),
            embeddings=self.embeddings[kept],
            chips=None if self.chips is None else self.chips[kept],
            sha256s=tuple(self.sha256s[n] for n in kept) if self.sha256s else (),
            faceless=tuple(filter(wanted, self.faceless)),
            origins=tuple(self.origins[n] for n in kept) if self.origins else (),
        )

    def of_chips(self) -> Gallery:
        """Return a gallery with the chips in place of the embeddings, for a classifier that learns from them."""
        assert self.chips is not None
        return replace(self, embeddings=self.chips)


def without_others(gallery: Gallery, others: Iterable[Gallery], *, suffix: str, cloaked: bool) -> Gallery:
    """Leave out the other side's photos, where clean and cloaked photos lie in one folder.

    A photo on both sides belongs to the cloaked ones if its name ends in the suffix; a photo on one side stays.
    """
    if not suffix:
        return gallery
    shared = {os.path.realpath(item.path) for other in others for item in (*other.items, *other.faceless)}

    def belongs(item: Item) -> bool:
        ends = without_suffix(item.relative, suffix) is not None
        return ends == cloaked or os.path.realpath(item.path) not in shared

    return gallery.part(belongs)


def refuse_same_place(items: Iterable[Item], name: str) -> None:
    """Refuse two photos at one path below their inputs: a copy could be of either.

    Raises
    ------
    ToolError
        The message names both.
    """
    seen: dict[str, str] = {}
    for item in items:
        if seen.setdefault(item.relative, item.path) != item.path:
            raise ToolError(
                f"{name}: {seen[item.relative]} and {item.path} both lie at {item.relative} below their folders; "
                "embed the folder above them, or each into a file of its own",
                kind="twice",
            )


def refuse_zeros(gallery: Gallery, distance: str, name: str) -> None:
    """Refuse embeddings of length 0 where the distance is cosine: they have none.

    Raises
    ------
    ToolError
        The message names a photo.
    """
    if distance == "cosine" and len(zero := np.flatnonzero(~gallery.embeddings.any(1))):
        raise ToolError(
            f"{name}: the embedding of {gallery.items[int(zero[0])].path} is all zeros, which has no cosine; embed it "
            f"again or leave it out, or give {param('distance')} euclidean",
            kind="nan",
        )


def refuse_copies(gallery: Gallery, people: Sequence[str]) -> None:
    """Refuse a photo that is in a gallery twice: it would be tested on what was trained on, or be of two people.

    Parameters
    ----------
    gallery
        Copies are known by the photos' sha256; where those are not known, none is.
    people
        Who is in each photo.

    Raises
    ------
    ToolError
        The message names the first two.
    """
    first: dict[str, int] = {}
    copies = [
        (before, row) for row, digest in enumerate(gallery.sha256s) if (before := first.setdefault(digest, row)) != row
    ]
    if not copies:
        return
    one, other = next((pair for pair in copies if people[pair[0]] != people[pair[1]]), copies[0])
    what = f"{gallery.items[one].path} and {gallery.items[other].path} are one photo"
    if people[one] != people[other]:
        raise ToolError(f"{what}, of two people, {people[one]} and {people[other]}; keep one of them", kind="copies")
    more = f", as are {len(copies) - 1} more" if copies[1:] else ""
    raise ToolError(
        f"{what}{more}: a recogniser would be tested on photos that it was trained on; keep one of each", kind="copies"
    )


def name_people(gallery: Gallery, labels: Mapping[str, str] | None = None) -> list[str]:
    """Return the person in each photo: from ``labels`` by its path below the input, or the name of its folder.

    Raises
    ------
    ToolError
        Two names differ only in case or Unicode form, folders of one name lie in different folders, a photo has no
        label, or there are fewer than two people.
    """
    if labels is None:
        _refuse_several_places(gallery)
    forms = Counter(composed(name) for name in labels or ())
    forms += Counter(composed(item.relative) for item in gallery.items)
    # In another form a name counts where it is one label's and one photo's alone: two may differ in their forms.
    known = {composed(name): person for name, person in (labels or {}).items() if forms[composed(name)] == 2}
    known |= labels or {}
    people = []
    for item in gallery.items:
        named = known.get(item.relative, known.get(composed(item.relative)))
        if labels is not None and named is None:
            raise ToolError(
                f"{item.path}: {param('labels')} names no person for {item.relative}; add it", kind="labels"
            )
        people.append(person_of(item.relative) if named is None else named)
    alike: dict[str, str] = {}
    for name in dict.fromkeys(people):
        plain = folded(name)
        if other := alike.get(plain):
            raise ToolError(
                f"people {other!a} and {name!a} differ only in case or Unicode form; rename a folder, or give "
                f"{param('labels')}",
                kind="labels",
            )
        alike[plain] = name
    if len(alike) < 2:
        only = f" ({people[0]})" if people else ""
        raise ToolError(
            f"one person{only} is in the gallery, and a recogniser needs two; name people by folders, or give "
            f"{param('labels')}",
            kind="labels",
        )
    return people


def _refuse_several_places(gallery: Gallery) -> None:
    """Refuse equal folder names in different folders: they are albums or years, not people."""
    places: dict[str, tuple[str, ...]] = {}
    for item in gallery.items:
        person, place = person_of(item.relative), folders_of(item.relative)
        if (first := places.setdefault(person, place)) != place:
            one, other = ("/".join(each) or "the top" for each in (first, place))
            raise ToolError(
                f"the nearest folder names the person, and {one} and {other} would be one person, {person}; say who "
                f"is where with {param('labels')}",
                kind="labels",
            )


def refuse_known(gallery: Gallery, people: Iterable[str]) -> None:
    """Refuse people that an extractor was trained on: results for them do not generalise to others.

    Raises
    ------
    ToolError
        The message names one of them.
    """
    trained = {folded(name) for name in gallery.people}
    if known := sorted(name for name in set(people) if folded(name) in trained):
        more = f" and {len(known) - 1} more" if known[1:] else ""
        raise ToolError(
            f"{gallery.extractor} was trained on photos of {known[0]}{more}, who must not be in the gallery; evaluate "
            "other people, or train without them (train-robust can hold people out)",
            kind="people-known",
        )


def read_labels(path: Path) -> dict[str, str]:
    """Read people's names by photo: JSONL with ``relative`` and ``person``.

    Raises
    ------
    ToolError
        A record is none of these, a name has blanks around it or control characters in it, or a photo has two.
    """
    labels: dict[str, str] = {}
    try:
        with of_the_whole_run(), open_input(path) as stream:
            for number, record in enumerate(read_records(stream, name=str(path)), 1):
                relative, person = record.get("relative"), record.get("person")
                if not (isinstance(relative, str) and isinstance(person, str) and person):
                    example = json.dumps({"relative": "a/1.jpg", "person": "a"})
                    raise ToolError(f"{path}, record {number}: give each photo as {example}", kind="labels")
                if person != person.strip() or any(unicodedata.category(char) == "Cc" for char in person):
                    what = f"person {person!a} has blanks around it or control characters in it"
                    raise ToolError(f"{path}, record {number}: {what}; write the name alone", kind="labels")
                if (other := labels.setdefault(relative, person)) != person:
                    what = f"{relative} is {person!a}, and {other!a} in an earlier record"
                    raise ToolError(f"{path}, record {number}: {what}; keep one of them", kind="labels")
    except OSError as error:
        raise ToolError(f"{path}: {error.strerror}", kind="labels") from None
    return labels
