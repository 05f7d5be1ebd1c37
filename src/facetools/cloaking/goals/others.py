"""Other people to hide among: their embeddings, from files or from photos."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from _toolio.errors import InputError, UsageError, param, spelled
from _toolio.files.hashing import sha256_of, text_digest
from _toolio.streams.inputs import list_whole
from facetools.embeddings.chips import embed_face
from facetools.embeddings.files import check_finite, holds_embeddings, identity_of, read_embeddings
from facetools.extractors.extractor import Extractor
from facetools.intake import Intake, Refusal, take_in
from facetools.people import person_of
from facetools.photos.formats import photo_files

Warn = Callable[[str], object]
"""Called with a line about what is left out."""


class Others:
    """Embeddings of people in each extractor of an ensemble.

    Parameters
    ----------
    embeddings
        For each extractor float [N, D].
    people
        For each extractor the persons of its rows.
    sha256s
        For each extractor the digests of the photos of its rows, None where they are not known.
    digest
        Of what they were read from.
    """

    def __init__(
        self,
        embeddings: Sequence[Tensor],
        people: Sequence[Sequence[str]],
        sha256s: Sequence[Sequence[str | None]],
        digest: str,
    ) -> None:
        self._embeddings = [torch.nn.functional.normalize(rows.double()) for rows in embeddings]
        self._people, self._sha256s, self.digest = people, sha256s, digest

    def besides(self, path: str, person: str, sha256: str) -> list[Tensor]:
        """Return the embeddings of everybody but the person of a photo: for each extractor float64 [K, D].

        Raises
        ------
        InputError
            Kind ``others``: there is nobody else.
        """
        kept = []
        for rows, people, digests in zip(self._embeddings, self._people, self._sha256s, strict=True):
            wanted = [n for n, name in enumerate(people) if name != person and digests[n] != sha256]
            if not wanted:
                raise InputError(
                    f"{path}: {param('others')} has nobody besides {person}; name more people", kind="others"
                )
            kept.append(rows[wanted])
        return kept


def open_others(
    names: Sequence[str], extractors: Sequence[Extractor], *, all_files: bool = False, warn: Warn = warnings.warn
) -> Others:
    """Read other people's embeddings, or embed the largest faces of their photos.

    Parameters
    ----------
    names
        Files of embeddings, which need one for each extractor; or folders and .tar files of photos, in folders named
        after people.
    extractors
        The ensemble.
    all_files
        Try every file of folders and archives, and not only those that are photos by name.
    warn
        Called with each photo that cannot be read, and with how many files are no photos by name. A photo in which no
        face is found counts for nobody.

    Raises
    ------
    UsageError
        An extractor has no embeddings: no face was found, or a file is of another extractor.
    ToolError
        A file holds no embeddings, or one that is not finite; a folder or archive holds no photo by name.
    """
    files = [name for name in names if holds_embeddings(name)]
    read = [(name, read_embeddings(Path(name))) for name in files]
    photos = [name for name in names if name not in files]
    values: list[list[Tensor]] = [[] for _ in extractors]
    people: list[list[str]] = [[] for _ in extractors]
    sha256s: list[list[str | None]] = [[] for _ in extractors]
    digests = [sha256_of(identity_of(name)) for name in files]
    for number, extractor in enumerate(extractors):
        for name, file in read:
            if file.extractor["sha256"] != extractor.sha256:
                continue
            for row, about in enumerate(file.rows):
                check_finite(file.values[row], name, about["path"])
            values[number].append(torch.from_numpy(np.array(file.values)))
            people[number] += [person_of(about["relative"]) for about in file.rows]
            sha256s[number] += [about.get("sha256") for about in file.rows]
    for intake in _faces(photos, extractors, all_files=all_files, warn=warn):
        digests.append(text_digest(f"{intake.item.relative} {intake.digest}").hex())
        for number, rows in enumerate(embed_face(intake.photo.pixels, intake.faces[0], extractors)):
            check_finite(rows.numpy(), intake.item.path, intake.item.path)
            values[number].append(rows[None])
            people[number].append(person_of(intake.item.relative))
            sha256s[number].append(intake.digest)
    for number, extractor in enumerate(extractors):
        if not people[number] and not files:
            raise UsageError(f"{param('others')}: no face in {' and '.join(photos)}; name photos of other people")
        if not people[number]:
            raise UsageError(
                f"{param('others')}: no face of another person, embedded with {extractor.name} "
                f"({extractor.sha256[:12]}); name a folder of photos, or what `facetools embed` made of one with the "
                f"same {param('extractor')}"
            )
    return Others([torch.cat(rows) for rows in values], people, sha256s, sha256_of(" ".join(digests).encode()))


def _faces(names: Sequence[str], extractors: Sequence[Extractor], *, all_files: bool, warn: Warn) -> Iterator[Intake]:
    """Yield the photos that have a face; warn of what is left out."""
    if not names:
        return
    only = None if all_files else photo_files()
    items = list_whole(names, only=only)
    if only is not None and only.left_out:
        warn(spelled(f"{param('others')}: {only.note}"))
    for each in take_in(items, extractors[0].device, faces="largest"):
        if isinstance(each, Refusal) and each.error is not None:
            warn(spelled(f"{param('others')}: {each.error.message}; left out"))
        elif isinstance(each, Intake) and each.faces:
            yield each
