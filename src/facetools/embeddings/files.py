"""Read and write files of embeddings: one tensor, and metadata that names the extractor and each row's face."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from _toolio.errors import ToolError, param
from _toolio.streams.inputs import STDIN
from _toolio.tensors.header import MAX_HEADER_BYTES
from _toolio.tensors.reader import open_safetensors, read_metadata
from _toolio.tensors.writer import stream_safetensors
from facetools.attacks.origins import is_origin
from facetools.embeddings.parts import manifest
from facetools.embeddings.parts.manifest import is_folder_of_parts
from facetools.extractors.tensor_files import load_array, save_tensors

SCHEMA = "facetools.embed/1"
"""Of the files that are written; files of ``facetools.embed/`` and any number are read."""

TENSOR = "embeddings"


@dataclass(frozen=True, slots=True)
class Embeddings:
    """Embeddings of faces by one extractor.

    Attributes
    ----------
    values
        float32 [faces, dimensions].
    rows
        For each row ``path``, ``relative`` (below the input), ``face`` (its number in the photo, from 0, largest
        first) and, where they are known, the photo's ``sha256`` and what it was cloaked against, ``made_against``.
    extractor
        ``name``, ``sha256`` of the weights, ``distance``, and ``people`` that it was trained on, where it names them.
    """

    values: npt.NDArray[np.float32]
    rows: Sequence[Mapping[str, Any]]
    extractor: Mapping[str, Any]


def is_safetensors(name: str) -> bool:
    """Test whether an input is a safetensors file rather than records."""
    # A pipe can be read once, and only records come through one.
    if name == STDIN or not Path(name).is_file():
        return False
    with Path(name).open("rb") as stream:
        return stream.read(9)[8:] == b"{"


def holds_embeddings(name: str) -> bool:
    """Test whether an input is a file of embeddings, or a folder of them in parts, rather than records or photos."""
    return is_safetensors(name) or (name != STDIN and is_folder_of_parts(name))


def identity_of(name: str) -> bytes:
    """Return bytes that tell one input of embeddings from others: a file's own, or the manifest of parts."""
    path = Path(name)
    return (path / manifest.NAME if path.is_dir() else path).read_bytes()


def write_embeddings(path: Path, values: npt.NDArray[np.float32], about: Mapping[str, Any]) -> None:
    """Write a file of embeddings, complete or absent.

    Parameters
    ----------
    path
        The file.
    values
        float32 [faces, dimensions].
    about
        Metadata, with ``extractor`` and ``rows`` as in ``Embeddings``.

    Raises
    ------
    ToolError
        The file cannot be written.
    """
    save_tensors(path, {TENSOR: values}, {**about, "schema": SCHEMA})


def join_embeddings(out: Path, parts: Sequence[Path]) -> list[int]:
    """Write the rows of several files as one: the bytes that embedding all photos together would have written.

    Numbers are copied part by part. The names of all rows are in memory, as they are in the one header that holds them.

    Parameters
    ----------
    out
        The file, complete or absent.
    parts
        Files of one extractor, in order.

    Returns
    -------
    list of int
        The row of each part's first face.

    Raises
    ------
    ToolError
        A part is no file of embeddings, or was made otherwise; there are more faces than a header can name; the file
        cannot be written.
    """
    abouts, shapes = [read_metadata(part) for part in parts], [_shape_of(part) for part in parts]
    for part, about, shape in zip(parts, abouts, shapes, strict=True):
        same = {**about, "rows": None} == {**abouts[0], "rows": None} and shape[1:] == shapes[0][1:]
        if not same or not isinstance(about.get("rows"), list) or len(about["rows"]) != shape[0]:
            raise ToolError(f"{part}: was not made as {parts[0]} was; embed again", kind="embeddings")
    joined = {**abouts[0], "rows": [row for about in abouts for row in about["rows"]]}
    try:
        text = json.dumps(joined, separators=(",", ":"), allow_nan=False)
    except ValueError:
        raise ToolError(f"{out}: metadata of its parts hold NaN or infinity; embed again", kind="embeddings") from None
    # In the header the text is a string of JSON in JSON.
    if len(json.dumps(text)) > MAX_HEADER_BYTES - 1000:
        raise ToolError(
            f"{out}: a file's header cannot name {len(joined['rows']):,} faces; leave out {param('out')}: records name"
            " the files as they are",
            kind="too-large",
        )
    plan = {TENSOR: ("F32", (len(joined["rows"]), *shapes[0][1:]))}
    stream_safetensors(out, plan, lambda name: (load_array(part, name) for part in parts), joined)
    return [0, *accumulate(shape[0] for shape in shapes[:-1])]


def count_faces(path: Path) -> int:
    """Return how many faces a file of embeddings has; raises as `join_embeddings` does."""
    return _shape_of(path)[0]


def _shape_of(path: Path) -> tuple[int, ...]:
    """Return the shape of a file's embeddings, [faces, dimensions]."""
    with open_safetensors(path) as file:
        entry = file.entries.get(TENSOR)
    if entry is None or entry.dtype != "F32" or len(entry.shape) != 2:
        raise ToolError(f"{path}: not a file of embeddings; make one with `facetools embed`", kind="embeddings")
    return entry.shape


def read_embeddings(path: Path) -> Embeddings:
    """Read a file of embeddings, or all parts of a folder as one.

    Raises
    ------
    ToolError
        The file is missing, damaged or of another kind, or its metadata do not fit its rows; a part is not what the
        folder's manifest names.
    """
    if not is_folder_of_parts(path):
        return _read_file(path)
    listed = manifest.read_manifest(path)
    files = [path / part.file for part in listed.parts]
    if 4 * listed.rows * listed.dimensions > sum(file.stat().st_size for file in files if file.is_file()):
        for _ in _parts_of(path, listed):  # raises for the part that is not what the manifest says
            pass
    values, rows = np.empty((listed.rows, listed.dimensions), np.float32), list[Mapping[str, Any]]()
    for embeddings in _parts_of(path, listed):
        values[len(rows) : len(rows) + len(embeddings.rows)] = embeddings.values
        rows += embeddings.rows
    return Embeddings(values, rows, listed.extractor)


def read_part(path: Path) -> Embeddings:
    """Read a file of embeddings that records name, or a folder. Raises as `read_embeddings`.

    One that lies in a folder of parts must be what the folder's manifest names.
    """
    folder = path.parent
    if manifest.is_part(path.name) and (folder / manifest.NAME).is_file():
        listed = manifest.read_manifest(folder)
        own = [part for part in listed.parts if part.file == path.name]
        for part in _parts_of(folder, replace(listed, parts=own)):
            return part
        raise ToolError(f"{path}: {manifest.NAME} names no such part; embed again", kind="embeddings")
    return read_embeddings(path)


def read_each(path: Path) -> Iterator[Embeddings]:
    """Read a file of embeddings, or the parts of a folder one after the other. Raises as `read_embeddings`."""
    if is_folder_of_parts(path):
        yield from _parts_of(path, manifest.read_manifest(path))
    else:
        yield _read_file(path)


def _parts_of(folder: Path, listed: manifest.Manifest) -> Iterator[Embeddings]:
    for path, part in manifest.checked_parts(folder, listed):
        file = _read_file(path)
        if file.values.shape != (part.rows, listed.dimensions) or file.extractor != listed.extractor:
            raise ToolError(
                f"{path}: has other rows, or another extractor, than {manifest.NAME} says; embed again",
                kind="embeddings",
            )
        yield file


def _read_file(path: Path) -> Embeddings:
    about = read_metadata(path)
    if not str(about.get("schema", "")).startswith(SCHEMA.rpartition("/")[0] + "/"):
        raise ToolError(f"{path}: not a file of embeddings; make one with `facetools embed`", kind="embeddings")
    values = load_array(path, TENSOR).astype(np.float32)
    extractor, rows = about.get("extractor"), about.get("rows")
    if wrong := _fault_of(extractor) or _mismatch_of(values, rows):
        raise ToolError(f"{path}: {wrong}; embed again", kind="embeddings")
    assert isinstance(rows, list)
    assert isinstance(extractor, dict)
    return Embeddings(values, rows, extractor)


def check_finite(values: npt.NDArray[Any], name: str, photo: str) -> None:
    """Refuse an embedding with NaN or infinity in it.

    Parameters
    ----------
    values
        float [D].
    name, photo
        The input and the photo, for the message.

    Raises
    ------
    ToolError
        It is not finite.
    """
    if not np.isfinite(values).all():
        raise ToolError(f"{name}: the embedding of {photo} is not finite; embed it again or leave it out", kind="nan")


def _fault_of(extractor: object) -> str | None:
    """Return what is wrong with what metadata say of the extractor."""
    if not (isinstance(extractor, dict) and all(isinstance(extractor.get(key), str) for key in ("name", "sha256"))):
        return "its metadata does not name the extractor"
    if extractor.get("distance") not in ("cosine", "euclidean"):
        return f"its metadata has distance {extractor.get('distance')!a}, which is neither cosine nor euclidean"
    people = extractor.get("people", [])
    if not (isinstance(people, list) and all(isinstance(person, str) for person in people)):
        return "the people in its metadata are no list of names"
    return None


def _mismatch_of(values: npt.NDArray[np.float32], rows: object) -> str | None:
    """Return how the tensor and the rows in the metadata contradict each other."""
    if values.ndim != 2 or not values.shape[1]:
        return f"its embeddings are of shape {values.shape}, and not one row a face"
    if not (isinstance(rows, list) and all(map(_is_row, rows))):
        return "its metadata does not list a path, relative and face for each row"
    if len(rows) != len(values):
        return f"{len(values)} embeddings, but its metadata names {len(rows)} faces"
    return None


def _is_row(row: Any) -> bool:
    return (
        isinstance(row, dict)
        and all(isinstance(row.get(key), str) and row[key] for key in ("path", "relative"))
        and type(row.get("face")) is int
        and isinstance(row.get("sha256"), str | None)
        and (row.get("made_against") is None or is_origin(row["made_against"]))
    )
