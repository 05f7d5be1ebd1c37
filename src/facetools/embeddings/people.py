"""Embed photos of known people, one face a photo."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from _toolio.compute.memory import Batch
from _toolio.errors import ToolError
from _toolio.progress import Progress, no_progress
from _toolio.streams.inputs import Item, count, open_items
from facetools.embeddings.matching import Faces, read_embedded
from facetools.embeddings.parts.manifest import is_folder_of_parts
from facetools.embeddings.records import EmbeddedFace
from facetools.people import person_in
from facetools.photos.formats import photo_files

if TYPE_CHECKING:
    from facetools.extractors.extractor import Extractor


def read_people(name: str, extractor: str, *, device: str = "auto", progress: Progress = no_progress) -> Faces:
    """Read or embed the largest face of each photo of people.

    Parameters
    ----------
    name
        Embeddings, as ``facetools.embeddings.matching.read_embedded`` reads them, or a folder or tar of photos.
    extractor
        A built-in extractor or a file, which embeds photos.
    device
        Where it does.
    progress
        Shows the progress over photos.

    Raises
    ------
    ToolError
        A photo cannot be read, there is no face in any, or as ``read_embedded`` says.
    """
    if (Path(name).is_dir() and not is_folder_of_parts(name)) or name.endswith(".tar"):
        from _toolio.compute.device import pick_device
        from facetools.extractors.factory import open_extractor

        return embed_people(name, open_extractor(extractor, pick_device(device)), progress=progress)
    faces = read_embedded([name])[0]
    first: dict[str, int] = {}
    for number, face in enumerate(faces.faces):
        known = first.setdefault(face.item.path, number)
        first[face.item.path] = number if face.face < faces.faces[known].face else known
    chosen = sorted(first.values())
    return Faces(name, [faces.faces[number] for number in chosen], faces.values[chosen])


def embed_people(name: str, extractor: Extractor, *, progress: Progress = no_progress) -> Faces:
    """Embed the largest face of each photo of a folder or tar; photos without one are left out.

    Raises
    ------
    ToolError
        A photo cannot be read, or there is no face in any.
    """
    from facetools.embeddings.embedder import Embedder
    from facetools.intake import Intake, Refusal, take_in

    items = open_items([name], only=photo_files())
    embedder = Embedder(extractor, batch=Batch(8), file=Path(name))
    tracked = progress(items, "embedding", count(items))
    for intake in take_in(tracked, extractor.device, faces="largest"):
        if isinstance(intake, Refusal) and intake.error is not None:
            raise ToolError(intake.error.message, kind=intake.error.kind)
        if isinstance(intake, Intake):
            embedder.add(intake)
    values, about = embedder.finish()
    if not len(values):
        raise ToolError(f"{name}: no face in any of its photos", kind="empty")
    faces = [
        EmbeddedFace(Item(row["path"], row["relative"]), row["face"], row["sha256"], each, about["extractor"])
        for row, each in zip(about["rows"], values, strict=True)
    ]
    return Faces(name, faces, values)


def people_of(faces: Faces) -> list[str]:
    """Return the person of each face: the name of the folder that its photo lies in."""
    return [person_in(face.item.path, face.item.relative) for face in faces.faces]
