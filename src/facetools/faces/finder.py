"""Detect faces and five landmarks each with MTCNN.

Zhang, Zhang, Li and Qiao 2016, arXiv 1604.02878, section III: the photo is shrunk step by step, P-Net looks
at every 12x12 window of every step, and R-Net and O-Net look again, closer, at what it proposes.
"""

import math
from collections import defaultdict
from collections.abc import Iterator, Sequence
from itertools import count
from typing import Final, cast

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from numpy.typing import NDArray
from torch import Tensor, nn

from facetools.faces import mtcnn
from facetools.faces.face import Box, Face
from facetools.faces.pyramid import P_STEP, Level, cut_crops, lay_out
from facetools.faces.retry import stretch_contrast, turn, turn_back
from facetools.faces.windows import Windows, moved, square, suppress, suppress_nested

_P_SIDE: Final = 12  # the windows of the three networks, in pixels
_R_SIDE: Final = 24
_O_SIDE: Final = 48
_TILT: Final = math.radians(40)
_TILT_CONFIDENCE: Final = 0.95  # a second and third look must not find what is not there
_FINER_STEPS: Final = 4  # kept above P-Net's first step: O-Net's window is four times as wide as P-Net's
_CROPS_PER_PASS: Final = 256  # bounds the memory of R-Net and O-Net: 256 crops of O-Net want about 140 MB
_PIXELS_PER_CPU_PASS: Final = 24_000  # of crops, likewise
_PIXELS_PER_STRIP: Final = 30_000  # of P-Net: larger maps are new memory each time, and a CPU takes twice as long
_PIXELS_PER_PASS: Final = 8_000_000  # of the photos that share a pass on an accelerator


class Finder:
    """MTCNN with the weights that the ``mtcnn`` package installs.

    Parameters
    ----------
    device
        Where the networks run. On a CPU each photo is looked at by itself, so its faces are the same bit for
        bit whatever else is in the list. On an accelerator photos of one size share a pass; their last bits
        may then depend on how many they are.
    thresholds
        The least probability of a face, 0 to 1, that P-Net, R-Net and O-Net let pass.
    scale_factor
        Each step of the pyramid is this many times as large as the one before; between 0 and 1.
    overlaps
        Of two windows that overlap by more than this, 0 to 1, the less probable is dropped: within a step of
        the pyramid, between the steps, after R-Net (all intersection over union), and after O-Net
        (intersection over the smaller one).
    stretch_retry
        Search a photo without a detection again with stretched contrast, which finds faces in photos at an eighth of
        their brightness.
    tilt_retry
        Search it again rotated by 40 degrees to either side if there is still no detection: MTCNN itself misses one
        face in twelve that is rotated by 45 degrees.

    Raises
    ------
    ToolError
        If the weights are missing or are not the known ones.
    """

    def __init__(
        self,
        device: torch.device | str = "cpu",
        *,
        thresholds: tuple[float, float, float] = (0.6, 0.7, 0.7),
        scale_factor: float = 0.709,
        overlaps: tuple[float, float, float, float] = (0.5, 0.7, 0.7, 0.7),
        stretch_retry: bool = True,
        tilt_retry: bool = True,
    ) -> None:
        if not 0 < scale_factor < 1:
            raise ValueError(f"scale_factor must lie between 0 and 1, not {scale_factor}")
        self.device = torch.device(device)
        self.thresholds = thresholds
        self.scale_factor = scale_factor
        self.overlaps = overlaps
        self.stretch_retry = stretch_retry
        self.tilt_retry = tilt_retry
        self._pnet, self._rnet, self._onet = mtcnn.load(self.device)

    @torch.inference_mode()
    def find(self, photos: Sequence[NDArray[np.uint8]], *, min_face_px: float | None = None) -> list[list[Face]]:
        """Detect the faces in each photo.

        Parameters
        ----------
        photos
            RGB photos, uint8 [H, W, 3], of any sizes from 1x1 up. A grey photo is its one channel stacked
            three times.
        min_face_px
            Side of the smallest face looked for, in photo pixels; time goes with its inverse square. None
            means :func:`default_min_face_px` of each photo.

        Returns
        -------
        list of list of Face
            One list a photo, in their order, the face with the largest box first; empty if there is none.

        Raises
        ------
        ValueError
            If a photo has another shape or type, or ``min_face_px`` is not positive.
        """
        if min_face_px is not None and not min_face_px > 0:
            raise ValueError(f"min_face_px must be positive, not {min_face_px}")
        found: list[list[Face]] = [[] for _ in photos]
        for group in self._groups(photos):
            batch = torch.from_numpy(np.stack([photos[i] for i in group])).permute(0, 3, 1, 2)
            least = min_face_px or default_min_face_px(*batch.shape[2:])
            for i, faces in zip(group, self._find_with_retry(batch.to(self.device), least), strict=True):
                found[i] = faces
        return found

    def _groups(self, photos: Sequence[NDArray[np.uint8]]) -> Iterator[list[int]]:
        """Yield indices of photos that share a pass; all of one size, few enough to fit the memory."""
        sizes: defaultdict[tuple[int, ...], list[int]] = defaultdict(list)
        for i, photo in enumerate(photos):
            if photo.dtype != np.uint8 or photo.ndim != 3 or photo.shape[2] != 3 or not photo.size:
                raise ValueError(f"photo {i} is {photo.dtype} {photo.shape}, not uint8 [H, W, 3]")
            sizes[photo.shape].append(i)
        for (height, width, _), indices in sizes.items():
            # On a CPU a batch saves no time, and one by one the rest of it cannot change a result.
            most = 1 if self.device.type == "cpu" else max(1, _PIXELS_PER_PASS // (height * width))
            for start in range(0, len(indices), most):
                yield indices[start : start + most]

    def _find_with_retry(self, batch: Tensor, min_face_px: float) -> list[list[Face]]:
        found = self._find_once(batch, min_face_px)
        return [faces or self._retry(batch[i], min_face_px) for i, faces in enumerate(found)]

    def _retry(self, photo: Tensor, min_face_px: float) -> list[Face]:
        """Search one photo, uint8 [3, H, W], again in which no face was found."""
        stretched = stretch_contrast(photo) if self.stretch_retry else None
        if stretched is not None:
            photo = stretched
            if faces := self._find_once(photo[None], min_face_px)[0]:
                return faces
        if not self.tilt_retry or min(photo.shape[1:]) < min_face_px:
            return []
        # R-Net and O-Net take hardly a crop from anything finer, so nothing finer need be turned.
        scale = min(1.0, _O_SIDE / min_face_px)
        height, width = (max(1, round(side * scale)) for side in photo.shape[1:])
        if scale < 1:
            floats = photo if photo.device.type == "cpu" else photo.float()
            photo = F.interpolate(floats[None], (height, width), mode="bilinear", antialias=True)[0]
        looks = (self._find_turned(photo, min_face_px * scale, angle) for angle in (-_TILT, _TILT))
        faces = max(looks, key=lambda faces: max((face.confidence for face in faces), default=0.0))
        return [face.scaled((1 / scale, 1 / scale)) for face in faces]

    def _find_turned(self, photo: Tensor, min_face_px: float, angle: float) -> list[Face]:
        turned, matrix, shift = turn(photo, angle)
        faces = self._find_once(turned[None], min_face_px)[0]
        return [turn_back(face, matrix, shift) for face in faces if face.confidence > _TILT_CONFIDENCE]

    def _find_once(self, batch: Tensor, min_face_px: float) -> list[list[Face]]:
        levels = list(self._pyramid(batch, _P_SIDE / min_face_px))
        windows = self._refine(levels, self._propose(levels))
        if not len(windows.boxes):
            return [[] for _ in batch]
        score, offsets, points = self._look(self._onet, levels, windows, _O_SIDE)
        sides = windows.boxes[:, None, 2:] - windows.boxes[:, None, :2]  # [N, 1, 2]
        # The networks learnt from landmarks given as pixel numbers, so the window's upper left corner plus
        # what they answer is a pixel number again: no half pixel is taken off.
        landmarks = windows.boxes[:, None, :2] + sides * points.transpose(1, 2)  # [N, 5, 2]
        boxes = moved(windows.boxes, offsets)
        arrays = [t.double().cpu().numpy() for t in (boxes, score, landmarks)]
        photo = windows.photo.cpu().numpy()
        return [self._faces(*(a[photo == i] for a in arrays)) for i in range(len(batch))]

    def _pyramid(self, batch: Tensor, first: float) -> Iterator[Level]:
        """Yield the photos [B, 3, H, W] smaller and smaller; ``first`` is the scale where P-Net begins."""
        height, width = batch.shape[2:]
        # Resizing works on bytes on a CPU, five times as fast as on floats; elsewhere on floats only.
        current = batch if batch.device.type == "cpu" else batch.float()
        for step in count(-_FINER_STEPS):
            scale = first * self.scale_factor**step
            if step < 0 and scale >= 1:
                if step == -1 or scale * self.scale_factor < 1:
                    yield Level(batch, (1.0, 1.0), proposes=False)
                continue
            h, w = round(height * scale), round(width * scale)
            if min(h, w) < _P_SIDE:
                return
            # Each step from the one before: from the original it would cost far more on large photos.
            current = F.interpolate(current, (h, w), mode="bilinear", antialias=True)
            yield Level(current, (w / width, h / height), proposes=step >= 0)

    def _propose(self, levels: Sequence[Level]) -> Windows:
        """Section III-A stage 1: P-Net's proposals, with non-maximum suppression within and between the levels."""
        levels = [level for level in levels if level.proposes]
        if not levels:
            nothing = torch.empty(0, device=self.device)
            return Windows(nothing.view(0, 4), nothing.long(), nothing)
        layout = lay_out(tuple((level.pixels.shape[2], level.pixels.shape[3]) for level in levels))
        batch, channels = levels[0].pixels.shape[:2]
        canvas = levels[0].pixels.new_full((batch, *layout.size, channels), round(mtcnn.GREY)).permute(0, 3, 1, 2)
        for level, (top, left) in zip(levels, layout.corners, strict=True):
            height, width = level.pixels.shape[2:]
            canvas[:, :, top : top + height, left : left + width] = level.pixels
        parts = list(self._look_everywhere(canvas, torch.from_numpy(layout.picture_of).to(self.device)))
        which, photo, y, x, score, offsets = (torch.cat(each) for each in zip(*parts, strict=True))
        corner, scale = score.new_tensor(
            [layout.corners, [level.scale[::-1] for level in levels]], dtype=torch.float64
        ).flip(2)[:, which]  # [2, N, 2], both as (x, y)
        corners = torch.stack([x, y], 1) * P_STEP - corner  # [N, 2]
        boxes = moved(torch.cat([corners, corners + _P_SIDE], 1).float(), offsets)
        windows = Windows(boxes / scale.repeat(1, 2).float(), photo, score)
        windows = windows[suppress(windows, which * batch + photo, self.overlaps[0])]
        return windows[suppress(windows, windows.photo, self.overlaps[1])]

    def _look_everywhere(self, canvas: Tensor, picture_of: Tensor) -> Iterator[tuple[Tensor, ...]]:
        """Apply P-Net to a picture [B, 3, H, W], strip by strip.

        Yields, for the windows above the threshold, their value of ``picture_of``, photo, row, column, probability and
        offsets.
        """
        batch, width = canvas.shape[0], canvas.shape[3]
        rows = max(1, _PIXELS_PER_STRIP // (P_STEP * width * batch))  # rows of windows in a strip
        for start in range(0, len(picture_of), rows):
            top = P_STEP * start
            # A strip reaches down to where its last windows end, so strips change no answer.
            strip = canvas[:, :, top : top + P_STEP * (rows - 1) + _P_SIDE] - mtcnn.GREY
            score, offsets = self._pnet(strip.contiguous(memory_format=torch.channels_last))
            here = picture_of[start : start + rows]
            photo, y, x = ((score > self.thresholds[0]) & (here >= 0)).nonzero(as_tuple=True)
            yield here[y, x].long(), photo, y + start, x, score[photo, y, x], offsets[photo, :, y, x]

    def _refine(self, levels: Sequence[Level], windows: Windows) -> Windows:
        """Section III-A stage 2: the windows that R-Net accepts, as squares for O-Net."""
        if not len(windows.boxes):
            return windows
        windows = Windows(square(windows.boxes), windows.photo, windows.score)
        score, offsets = self._look(self._rnet, levels, windows, _R_SIDE)
        kept = (score > self.thresholds[1]).nonzero()[:, 0]
        windows = Windows(windows.boxes[kept], windows.photo[kept], score[kept])
        distinct = suppress(windows, windows.photo, self.overlaps[2])
        windows, offsets = windows[distinct], offsets[kept][distinct]
        return Windows(square(moved(windows.boxes, offsets)), windows.photo, windows.score)

    def _look(self, net: nn.Module, levels: Sequence[Level], windows: Windows, side: int) -> list[Tensor]:
        """Crop every window to ``side`` x ``side`` pixels and apply a network."""
        most = _CROPS_PER_PASS if self.device.type != "cpu" else max(1, _PIXELS_PER_CPU_PASS // side**2)
        crops, order = cut_crops(levels, windows, side)
        parts = [net(part.contiguous(memory_format=torch.channels_last)) for part in torch.split(crops, most)]
        back = order.argsort()
        return [torch.cat(part)[back] for part in zip(*parts, strict=True)]

    def _faces(
        self, boxes: NDArray[np.float64], score: NDArray[np.float64], landmarks: NDArray[np.float64]
    ) -> list[Face]:
        """Return one photo's faces from O-Net's outputs [N, 4], [N] and [N, 5, 2], largest first."""
        sides = boxes[:, 2:] - boxes[:, :2]
        usable = (score > self.thresholds[2]) & (sides > 0).all(1)
        boxes, score, landmarks = boxes[usable], score[usable], landmarks[usable]
        faces = [
            Face(cast(Box, tuple(boxes[i].tolist())), float(score[i]), landmarks[i])
            for i in suppress_nested(boxes, score, self.overlaps[3])
        ]
        return sorted(faces, key=lambda face: (-face.area, -face.confidence))


def default_min_face_px(height: int, width: int) -> float:
    """Return the default side of the smallest face that is searched for, in pixels.

    A fortieth of the photo's longer side, which bounds the time of large photos, but at most a quarter of its
    shorter side (panoramas), and at least 20.
    """
    return max(20.0, min(max(height, width) / 40, min(height, width) / 4))
