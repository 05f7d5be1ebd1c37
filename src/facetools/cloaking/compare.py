"""Compare photos with cloaked copies made by any tool."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from _toolio.errors import InputError
from _toolio.streams.inputs import Item
from _toolio.streams.records import error_fields
from facetools.cloaking.change import describe_change, measure_change
from facetools.cloaking.regions import Region, locate_region
from facetools.extractors.extractor import Extractor
from facetools.faces.face import describe_face
from facetools.faces.search import FaceSearch
from facetools.intake import Finished, Intake, Refusal, take_in
from facetools.pairs import Copies, Pair
from facetools.photos.codec import decode_photo
from facetools.photos.photo import Pixels, is_turned, same_shape, scale_to
from facetools.pictures.columns import Columns, CopyCell
from facetools.pictures.grid import Grid

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from facetools.perceptual.distance import Distance
    from facetools.transforms.preprocess import Preprocess

_STRIP_ROWS = 256


@dataclass(slots=True)
class CleanSide:
    """What comparing a photo with its first copy computes of the photo itself, for the copies after it.

    Attributes
    ----------
    photos
        The photo after each preprocess, by its name, and the scales of its axes.
    embeddings
        Embeddings of each face, by preprocess and number of the face.
    """

    photos: dict[str, tuple[Pixels, tuple[float, float]]] = field(default_factory=dict)
    embeddings: dict[tuple[str, int], Sequence[Tensor]] = field(default_factory=dict)


class Comparer:
    """Measure what cloaks changed, photo by photo.

    Parameters
    ----------
    extractors
        Embed the faces. The regions compared are those that their chips are cut from.
    distance
        The perceptual distance.
    preprocesses
        Applied to both photos before a face is measured; one record a face and preprocess.
    grid
        Collects pictures of the photos: a `Grid` of one folder, `Columns` of several. None: nothing is drawn.
    """

    def __init__(
        self,
        extractors: Sequence[Extractor],
        distance: Distance,
        preprocesses: Sequence[Preprocess],
        grid: Grid | Columns | None = None,
    ) -> None:
        self._extractors, self._distance, self._preprocesses, self._grid = extractors, distance, preprocesses, grid

    def compare_all(
        self,
        photos: Iterable[Copies],
        device: torch.device,
        *,
        faces: FaceSearch | str,
    ) -> Iterator[dict[str, Any]]:
        """Yield the fields of every record of some photos and their copies; those without any counterpart last.

        A photo's faces are found once, and compared with each copy in the order of the folders. Records name a copy's
        folder, ``cloak``, unless its name is "". ``faces`` is as ``take_in`` takes it.
        """
        current, alone = list[Copies](), list[Copies]()

        def clean_items() -> Iterator[Item]:
            for copies in photos:
                if copies.clean:
                    current.append(copies)
                    yield copies.clean
                else:
                    alone.append(copies)

        for intake in take_in(clean_items(), device, faces=faces):
            row, known = self._grid.photo() if self._grid else None, CleanSide()
            for name, pair in current.pop().pairs.items():
                for fields in self._compare_pair(intake, pair, row.column(name) if row else None, known):
                    yield {**_named(name), **fields}
        for copies in alone:
            for name, pair in copies.pairs.items():
                yield {**_named(name), **_describe_alone(pair)}

    def _compare_pair(
        self, intake: Intake | Refusal | Finished, pair: Pair, cell: Grid | CopyCell | None, known: CleanSide
    ) -> Iterator[dict[str, Any]]:
        if pair.cloaked is None:
            if cell:
                cell.leave_empty(pair.reason or "")
            yield _describe_alone(pair)
            return
        try:
            if isinstance(intake, Intake):
                yield from self.compare(intake, pair.cloaked, cell, known)
            elif isinstance(intake, Refusal) and intake.error is not None:
                raise intake.error
        except InputError as error:
            if cell:
                cell.leave_empty("cannot be read")
            about = {"path": pair.cloaked.path, "relative": pair.cloaked.relative, "source": intake.item.path}
            yield {**about, **error_fields(error)}

    def compare(
        self, intake: Intake, cloaked: Item, cell: Grid | CopyCell | None = None, known: CleanSide | None = None
    ) -> list[dict[str, Any]]:
        """Compare a photo and its cloaked copy.

        Parameters
        ----------
        intake
            The clean photo and its faces.
        cloaked
            The copy. One of another size is scaled to the clean photo's.
        cell
            Where it is drawn.
        known
            The same for all copies of this photo, which is then preprocessed and embedded once.

        Returns
        -------
        list of dict
            The fields of one record a face and preprocess, or of one that says why there is none.

        Raises
        ------
        InputError
            The copy cannot be read.
        """
        clean, saved = intake.photo.pixels, decode_photo(cloaked.read(), cloaked.path).pixels
        scaled = saved.shape != clean.shape
        about: dict[str, Any] = {
            "path": cloaked.path,
            "relative": cloaked.relative,
            "source": intake.item.path,
            "clean_size": _size(clean),
            "cloaked_size": _size(saved),
            "scaled": scaled,
        }
        reason = None
        if scaled and not same_shape(clean, saved):
            reason = "the photos differ in shape: one is cropped or turned"
        saved = scale_to(saved, clean) if scaled and reason is None else saved
        if reason is None and is_turned(clean, saved):
            reason = "one of the photos is turned or mirrored, as where an EXIF orientation was lost; save both upright"
        if reason is not None:
            if cell:
                cell.leave_empty(reason)
            return [{**about, "face": None, "reason": reason}]
        located = [locate_region(clean, face, self._extractors) for face in intake.faces]
        regions = [region for region in located if region is not None]
        if not (scaled or any(face.is_crop for face in intake.faces)):
            about["outside_linf"] = largest_change_outside(clean, saved, regions)
        boxes = [_box(region) for region in regions]
        row = cell.add(clean, saved, boxes) if cell else None
        if not intake.faces:
            described = [{**about, "face": None, "reason": intake.no_face}]
        else:
            known = CleanSide() if known is None else known
            described = [
                fields for each in self._preprocesses for fields in self._faces(intake, saved, each, about, known)
            ]
        if cell and row is not None:
            moved, ssim = (described[0].get(key) for key in ("moved", "ssim"))
            cell.describe(row, intake.item.relative, moved, scaled=scaled, ssim=ssim)
            drawn = {"grid_row": row, **({} if cell.amplify is None else {"amplify": cell.amplify})}
            described = [{**fields, **drawn} for fields in described]
        return described

    def _faces(
        self, intake: Intake, saved: Pixels, preprocess: Preprocess, about: Mapping[str, Any], known: CleanSide
    ) -> Iterator[dict[str, Any]]:
        """Measure every face of two photos of one size after a preprocess."""
        name = preprocess.name
        if name not in known.photos:
            known.photos[name] = preprocess.apply(intake.photo.pixels)
        clean, scale = known.photos[name]
        after, _ = preprocess.apply(saved)
        for face, number in zip(intake.faces, intake.numbers, strict=True):
            fields = {**about, "preprocess": name, **describe_face(face, number)}
            change = measure_change(
                clean, after, face.scaled(scale), self._extractors, self._distance,
                embedded=known.embeddings.get((name, number)),
            )  # fmt: skip
            if change:
                known.embeddings[name, number] = change.clean
            yield {
                **fields,
                **(describe_change(change) if change else {"reason": "too little of the face is in the photo"}),
            }


def largest_change_outside(clean: Pixels, cloaked: Pixels, regions: Sequence[Region]) -> int:
    """Return the largest change of a channel, 0 to 255, of uint8 [H, W, 3] outside all regions."""
    largest = 0
    # A strip at a time: the difference of a whole 24-megapixel photo would take 140 MB.
    for top in range(0, clean.shape[0], _STRIP_ROWS):
        strip = slice(top, top + _STRIP_ROWS)
        change = np.abs(clean[strip].astype(np.int16) - cloaked[strip])
        for region in regions:
            rows, columns = region.slices
            change[max(0, rows.start - top) : max(0, rows.stop - top), columns] = 0
        largest = max(largest, int(change.max()))
    return largest


def _named(name: str) -> dict[str, Any]:
    return {"cloak": name} if name else {}


def _describe_alone(pair: Pair) -> dict[str, Any]:
    """Return the fields of a photo, or of a copy, without a counterpart."""
    item = pair.clean or pair.cloaked
    assert item is not None
    paths = {"path": pair.cloaked and pair.cloaked.path, "source": pair.clean and pair.clean.path}
    return {**paths, "relative": item.relative, "face": None, "reason": pair.reason}


def _size(pixels: Pixels) -> list[int]:
    return [pixels.shape[1], pixels.shape[0]]


def _box(region: Region) -> tuple[int, int, int, int]:
    return region.left, region.top, region.left + region.width, region.top + region.height
