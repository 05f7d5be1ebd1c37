"""From an attack on face regions to a cloaked photo: cutting regions, adding the change back, measuring it."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from _toolio.errors import InputError
from _toolio.records import error_fields
from facetools import perceptual
from facetools.attacks import Attack
from facetools.embedding import chip_of
from facetools.extractors import Extractor
from facetools.faces.alignment import ChipCutter, Points, similarity_to
from facetools.faces.finder import Face
from facetools.intake import Intake, describe_face
from facetools.outputs import Output
from facetools.photos import KEEP_ALPHA, Pixels, decode_photo, encode_photo, fitting_name

if TYPE_CHECKING:
    import torch

MARGIN_PX = 4
"""Room around a chip's footprint for the attack's blur."""

LARGEST_SCALE = 1.2
"""Photo pixels per chip pixel up to which an attack works on the photo's own pixels. Larger faces are
reduced to this scale, and the change is enlarged: the recogniser sees no more detail than that. A little
below the scale from which on a chip takes four samples a pixel, so that rounding never decides."""


@dataclass(frozen=True, slots=True)
class Region:
    """The part of a photo that an attack on one face may change.

    Attributes
    ----------
    top, left, height, width
        In photo pixels, inside the photo.
    scale
        Photo pixels per pixel that the attack works on, 1 or more.
    matrices
        For each extractor [2, 3], chip pixels to the attack's pixels.
    """

    top: int
    left: int
    height: int
    width: int
    scale: float
    matrices: tuple[Points, ...]

    @property
    def work_size(self) -> tuple[int, int]:
        """Height and width that the attack works on."""
        return max(1, round(self.height / self.scale)), max(1, round(self.width / self.scale))


class RegionView:
    """Aligns and embeds a batch of copies of one region for all extractors; an attack's ``View``."""

    def __init__(self, extractors: Sequence[Extractor], region: Region) -> None:
        self._networks = [extractor.network for extractor in extractors]
        self._cutters = [
            ChipCutter(matrix, extractor.size, region.work_size, extractor.device)
            for extractor, matrix in zip(extractors, region.matrices, strict=True)
        ]

    def features(self, photos: torch.Tensor) -> list[torch.Tensor]:
        """Embed: float32 [B, 3, H, W] in [0, 1] -> for each extractor float32 [B, D]."""
        return [network(cut(photos)) for network, cut in zip(self._networks, self._cutters, strict=True)]

    def perceptual(self, photos: torch.Tensor, clean: torch.Tensor) -> torch.Tensor:
        """Give half the distance of the regions plus half that of the first extractor's chips, float32 [B]."""
        cut = self._cutters[0]
        chips = perceptual.multiscale_dssim(cut(photos), cut(clean))
        return (perceptual.multiscale_dssim(photos, clean) + chips) / 2


def seed_of(seed: int, digest: str, face: int) -> int:
    """Draw the seed of one face from the run's seed and the photo's bytes, so that order and batch do not matter."""
    drawn = hashlib.sha256(f"{seed} {digest} {face}".encode()).digest()
    return int.from_bytes(drawn[:8], "little") >> 1


def locate_region(pixels: Pixels, landmarks: npt.ArrayLike, extractors: Sequence[Extractor]) -> Region | None:
    """Find the part of the photo that the extractors' chips are cut from; None if it lies outside the photo."""
    matrices = [similarity_to(np.asarray(landmarks, np.float64), extractor.template) for extractor in extractors]
    corners = np.concatenate(
        [
            np.array([[x, y, 1.0] for x in (0, e.size - 1) for y in (0, e.size - 1)]) @ matrix.T
            for e, matrix in zip(extractors, matrices, strict=True)
        ]
    )
    height, width = pixels.shape[:2]
    left, top = (max(0, math.floor(low) - MARGIN_PX) for low in corners.min(0))
    right, bottom = (
        min(size, math.ceil(high) + MARGIN_PX + 1) for high, size in zip(corners.max(0), (width, height), strict=True)
    )
    if right - left < 8 or bottom - top < 8:
        return None
    finest = min(math.sqrt(abs(float(np.linalg.det(matrix[:, :2])))) for matrix in matrices)
    scale = finest / LARGEST_SCALE if finest > LARGEST_SCALE else 1.0
    region = Region(top, left, bottom - top, right - left, scale, ())
    work_height, work_width = region.work_size
    # Pixel centres: photo x is (work x + 0.5) * ratio - 0.5 + left.
    ratio = np.array([(right - left) / work_width, (bottom - top) / work_height])
    work = []
    for matrix in matrices:
        moved = matrix.copy()
        moved[:, 2] = (moved[:, 2] - (left, top) + 0.5) / ratio - 0.5
        moved[:, :2] /= ratio[:, None]
        work.append(moved)
    return Region(top, left, bottom - top, right - left, scale, tuple(work))


def _to_work(pixels: Pixels, region: Region, device: torch.device) -> torch.Tensor:
    import torch
    import torch.nn.functional as F  # noqa: N812

    part = pixels[region.top : region.top + region.height, region.left : region.left + region.width]
    tensor = torch.from_numpy(np.ascontiguousarray(part)).to(device).permute(2, 0, 1)[None].float() / 255
    if region.scale == 1:
        return tensor
    return F.interpolate(tensor, region.work_size, mode="bilinear", antialias=True, align_corners=False).clamp(0, 1)


def _from_work(change: torch.Tensor, region: Region) -> npt.NDArray[np.float32]:
    import torch.nn.functional as F  # noqa: N812

    if region.scale != 1:
        low, high = change.amin(), change.amax()
        change = F.interpolate(change, (region.height, region.width), mode="bicubic", align_corners=False)
        # Bicubic enlargement overshoots; an attack's bound must hold in the photo too.
        change = change.clamp(low, high)
    array: npt.NDArray[np.float32] = change[0].permute(1, 2, 0).cpu().numpy() * 255
    return array


def cloak_photo(
    pixels: Pixels,
    faces: Sequence[Face],
    extractors: Sequence[Extractor],
    attack: Attack,
    knobs: Mapping[str, Any],
    seeds: Sequence[int],
) -> Pixels:
    """Cloak every face of a photo.

    Parameters
    ----------
    pixels
        uint8 [H, W, 3], RGB; not changed.
    faces
        The faces to cloak. Each is cloaked for itself; where regions overlap, the changes add up.
    extractors
        The ensemble that the attack is made against.
    attack, knobs
        From ``facetools.attacks``.
    seeds
        One a face.

    Returns
    -------
    uint8 [H, W, 3]
        Equal to ``pixels`` outside the faces' regions.
    """
    located = [locate_region(pixels, face.landmarks, extractors) for face in faces]
    regions = [region for region in located if region is not None]
    out = pixels.copy()
    if not regions:
        return out
    # Changes are summed before they are rounded, in the rectangle that holds all regions: a float copy of a
    # whole 24-megapixel photo would take 290 MB.
    top, left = min(region.top for region in regions), min(region.left for region in regions)
    bottom = max(region.top + region.height for region in regions)
    right = max(region.left + region.width for region in regions)
    total = np.zeros((bottom - top, right - left, 3), np.float32)
    for region, seed in zip(located, seeds, strict=True):
        if region is None:
            continue
        clean = _to_work(pixels, region, extractors[0].device)
        cloaked = attack(RegionView(extractors, region), clean, seeds=[seed], **knobs)
        row, column = region.top - top, region.left - left
        total[row : row + region.height, column : column + region.width] += _from_work(cloaked - clean, region)
    total += pixels[top:bottom, left:right]
    out[top:bottom, left:right] = np.clip(np.rint(total), 0, 255)
    return out


@dataclass(frozen=True, slots=True)
class Change:
    """What a cloak did to one face, measured on what was saved.

    Attributes
    ----------
    moved
        Cosine distance between clean and cloaked embedding, mean over extractors, 0 to 2.
    distances
        The same for each extractor.
    ssim, psnr
        Of the face's region; ``psnr`` in dB, infinity where nothing changed.
    linf
        Largest change of a channel in the region, 0 to 255.
    """

    moved: float
    distances: Mapping[str, float]
    ssim: float
    psnr: float
    linf: int


def measure_change(clean: Pixels, cloaked: Pixels, face: Face, extractors: Sequence[Extractor]) -> Change | None:
    """Compare one face in two photos of the same size, uint8 [H, W, 3], both aligned by the same landmarks.

    None if the face's chips lie outside the photo, so that it cannot be cloaked either.
    """
    import torch
    import torch.nn.functional as F  # noqa: N812

    region = locate_region(clean, face.landmarks, extractors)
    if region is None:
        return None
    with torch.inference_mode():
        distances = {}
        for extractor in extractors:
            # The chips that embed would cut, from the photo's own pixels.
            f, g = (extractor.network(chip_of(p, face, extractor))[0].double() for p in (clean, cloaked))
            distances[extractor.name] = max(0.0, float(1 - F.cosine_similarity(f, g, dim=0)))
        rows, columns = (
            slice(region.top, region.top + region.height),
            slice(region.left, region.left + region.width),
        )
        before, after = (
            torch.from_numpy(np.ascontiguousarray(p[rows, columns])).permute(2, 0, 1)[None].float() / 255
            for p in (clean, cloaked)
        )
        linf = int(np.abs(clean[rows, columns].astype(np.int16) - cloaked[rows, columns]).max())
        quality, noise = float(perceptual.ssim(before, after)), float(perceptual.psnr(before, after))
    return Change(sum(distances.values()) / len(distances), distances, quality, noise, linf)


class Cloaker:
    """Cloaks one photo after the other with the same attack.

    Parameters
    ----------
    name, attack, knobs
        From ``facetools.attacks``.
    extractors
        The ensemble.
    seed
        Of the run.
    file_format, quality
        As ``encode_photo`` takes them.
    """

    def __init__(
        self,
        name: str,
        attack: Attack,
        knobs: Mapping[str, Any],
        extractors: Sequence[Extractor],
        *,
        seed: int,
        file_format: str | None,
        quality: int | None,
    ) -> None:
        self._attack, self._knobs, self._extractors = attack, knobs, extractors
        self._name, self._seed, self._format, self._quality = name, seed, file_format, quality

    @property
    def arguments(self) -> dict[str, Any]:
        """What the cloaked bytes depend on besides the photo."""
        return {
            "attack": self._name,
            "knobs": dict(self._knobs),
            "extractors": {extractor.name: extractor.sha256 for extractor in self._extractors},
            "perceptual": perceptual.SUBSTITUTE,
            "seed": self._seed,
            "format": self._format,
            "quality": self._quality,
        }

    def cloak(self, intake: Intake) -> Output:
        """Cloak a photo's faces; one record a face, or one that says that there is none and nothing is written."""
        photo, item = intake.photo, intake.item
        name = fitting_name(item.relative, self._format or photo.format)
        about = {
            "attack": self._name,
            "extractors": [extractor.name for extractor in self._extractors],
            "perceptual": perceptual.SUBSTITUTE,
            "knobs": dict(self._knobs),
            "seed": self._seed,
            "source_sha256": intake.digest,
        }
        lost = list(photo.notes)
        if photo.alpha is not None and (self._format or photo.format) not in KEEP_ALPHA:
            lost.append("transparency removed")
        notes = {"notes": lost} if lost else {}
        if not any(locate_region(photo.pixels, face.landmarks, self._extractors) for face in intake.faces):
            why = "too little of the face is in the photo" if intake.faces else "no face found"
            reason = {"source": item.path, "face": None, "reason": f"{why}; nothing written"}
            return Output(name, None, [{"relative": name, **reason, **notes}])
        seeds = [seed_of(self._seed, intake.digest, number) for number in intake.numbers]
        pixels = cloak_photo(photo.pixels, intake.faces, self._extractors, self._attack, self._knobs, seeds)
        try:
            data = encode_photo(photo, pixels, file_format=self._format, quality=self._quality)
        except InputError as error:
            refused = InputError(f"{item.path}: {error.message}", kind=error.kind)
            return Output(name, None, [{"source": item.path, **error_fields(refused)}])
        saved = decode_photo(data, name).pixels
        described = []
        for face, number in zip(intake.faces, intake.numbers, strict=True):
            fields: dict[str, Any] = {"relative": name, "source": item.path, **describe_face(face, number)}
            change = measure_change(photo.pixels, saved, face, self._extractors)
            if change is None:
                fields["reason"] = "too little of the face is in the photo"
            else:
                fields |= asdict(change)
            described.append({**fields, **about, **notes})
        return Output(name, data, described)
