"""Detect faces and five landmarks each with MTCNN.

Zhang, Zhang, Li and Qiao 2016, arXiv 1604.02878, section III: the photo is shrunk step by step, P-Net looks
at every 12x12 window of every step, and R-Net and O-Net look again, closer, at what it proposes.
"""

import math
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from itertools import chain, count
from typing import Any, Final, cast

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from numpy.typing import NDArray
from torch import Tensor, nn

from facetools.faces import mtcnn
from facetools.faces.face import Box, Face
from facetools.faces.pyramid import P_STEP, Level, cut_crops, join_tiles, lay_out, tiles_of
from facetools.faces.retry import quarter_turn, stretch_contrast, turn, turn_back
from facetools.faces.windows import (
    Windows,
    largest_first,
    moved,
    square,
    suppress,
    suppress_nested,
    with_others,
)

_P_SIDE: Final = 12  # the windows of the three networks, in pixels
_R_SIDE: Final = 24
_O_SIDE: Final = 48
_TILT: Final = math.radians(40)
_SURE: Final = 0.95  # a second and third look must not find what is not there
_SEEN: Final = 0.5  # of a box that somebody has drawn: more probably a face than not
_MARGIN: Final = 4  # of P-Net's window of 12: so much of it may lie beyond the photo
_MARGIN_SIDE: Final = 80  # shorter side of the largest level that gets one: faces from a seventh of the photo's
_MARGIN_PROPOSAL: Final = 0.7  # probability that P-Net must give; what is less probable takes a quarter of the time
_MARGIN_CONFIDENCE: Final = 0.8  # and O-Net: what is less sure is seldom a face
_FINER_STEPS: Final = 4  # kept above P-Net's first step: O-Net's window is four times as wide as P-Net's
_CROPS_PER_PASS: Final = 256  # bounds the memory of R-Net and O-Net: 256 crops of O-Net want about 140 MB
_PIXELS_PER_CPU_PASS: Final = 24_000  # of crops, likewise
_PIXELS_PER_STRIP: Final = 30_000  # of P-Net: larger maps are new memory each time, and a CPU takes twice as long
_PIXELS_PER_PASS: Final = 8_000_000  # of the photos that share a pass on an accelerator

THRESHOLDS: Final = (0.6, 0.7, 0.7)
"""The least probability of a face that P-Net, R-Net and O-Net let pass; the last is a face's confidence."""


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
        Search it again rotated by 40 degrees to either side, and by 90, 180 and 270, if there is still no detection:
        MTCNN itself misses one face in twelve that is rotated by 45 degrees, and most that are upside down. The
        rotation with the most probable face counts. Where no detection is more probable than 0.95, it is searched
        rotated by 90, 180 and 270 degrees too.
    rotations
        Search every photo rotated by 90, 180 and 270 degrees too, and not only one without a detection.

    Raises
    ------
    ToolError
        If the weights are missing or are not the known ones.
    """

    def __init__(
        self,
        device: torch.device | str = "cpu",
        *,
        thresholds: tuple[float, float, float] = THRESHOLDS,
        scale_factor: float = 0.709,
        overlaps: tuple[float, float, float, float] = (0.5, 0.7, 0.7, 0.7),
        stretch_retry: bool = True,
        tilt_retry: bool = True,
        rotations: bool = False,
    ) -> None:
        if not 0 < scale_factor < 1:
            raise ValueError(f"scale_factor must lie between 0 and 1, not {scale_factor}")
        self.device = torch.device(device)
        self.thresholds = thresholds
        self.scale_factor = scale_factor
        self.overlaps = overlaps
        self.stretch_retry = stretch_retry
        self.tilt_retry = tilt_retry
        self.rotations = rotations
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
            batch = _as_batch([photos[i] for i in group])
            least = min_face_px or default_min_face_px(*batch.shape[2:])
            for i, faces in zip(group, self._find_with_retry(batch.to(self.device), least), strict=True):
                found[i] = faces
        return found

    @torch.inference_mode()
    def place_landmarks(self, photo: NDArray[np.uint8], box: Box) -> NDArray[np.float64] | None:
        """Return the landmarks that O-Net sees in a box that somebody has drawn.

        Parameters
        ----------
        photo
            RGB, uint8 [H, W, 3].
        box
            (x0, y0, x1, y1) in photo pixels, about as the finder would draw it.

        Returns
        -------
        float64 [5, 2] or None
            None where O-Net sees no face there: its landmarks would be those of nothing.
        """
        side = max(box[2] - box[0], box[3] - box[1])
        left, top = (max(0, math.floor(low - side)) for low in box[:2])
        part = photo[top : math.ceil(box[3] + side), left : math.ceil(box[2] + side)]
        if not part.size:
            return None
        batch = torch.from_numpy(part.copy()).permute(2, 0, 1)[None].to(self.device)
        levels = list(self._pyramid(batch, 2 * _P_SIDE / side))
        if not levels:
            return None
        placed = np.array([box], np.float32) - np.array([left, top] * 2, np.float32)
        window = Windows(square(placed), np.zeros(1, np.int64), np.ones(1, np.float32))
        score, _, points = self._look(self._onet, levels, window, _O_SIDE)
        if not float(score[0]) > _SEEN:
            return None
        corner, sides = window.boxes[0, :2], window.boxes[0, 2:] - window.boxes[0, :2]
        landmarks: NDArray[np.float64] = (corner + sides * points[0].T).astype(np.float64)
        return np.add(landmarks, (left, top))

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
        found = self._in_tiles(batch, lambda tile: self._find_upright(tile, min_face_px))
        if self.rotations:
            found = self._find_in_rotations(batch, found, min_face_px)
        # Searching all tiles of a panorama again, in six ways, would take ten times as long as searching them once.
        again_px = min_face_px * (1 if len(tiles_of(*batch.shape[2:])) == 1 else 2)
        for i, faces in enumerate(found):
            if not faces:
                found[i] = self._in_tiles(batch[i : i + 1], lambda tile: [self._retry(tile[0], again_px)])[0]
            elif self.tilt_retry and not self.rotations and all(face.certainty <= _SURE for face in faces):
                # A third of the faces that are upside down are found as they stand, unsure and with landmarks astray.
                found[i] = self._find_in_rotations(batch[i : i + 1], [faces], min_face_px)[0]
        return found

    def _find_in_rotations(
        self, batch: Tensor, upright: Sequence[Sequence[Face]], min_face_px: float
    ) -> list[list[Face]]:
        """Search photos rotated by quarter turns too, beside what was found in them ``upright``."""
        turned = [self._find_quarter_turned(batch, min_face_px, quarters) for quarters in (1, 2, 3)]
        return [_upright_first(*looks) for looks in zip(upright, *turned, strict=True)]

    def _in_tiles(self, batch: Tensor, look: Callable[[Tensor], list[list[Face]]]) -> list[list[Face]]:
        """Search photos [B, 3, H, W] tile by tile: a panorama in several, any other in one."""
        tiles = tiles_of(*batch.shape[2:])
        if len(tiles) == 1:
            return look(batch)
        looks = [look(batch[:, :, tile.top : tile.bottom, tile.left : tile.right]) for tile in tiles]
        return [join_tiles(tiles, faces) for faces in zip(*looks, strict=True)]

    def _retry(self, photo: Tensor, min_face_px: float) -> list[Face]:
        """Search one photo, uint8 [3, H, W], again in which no face was found."""
        stretched = stretch_contrast(photo) if self.stretch_retry else None
        if stretched is not None:
            photo = stretched
            if faces := self._find_upright(photo[None], min_face_px)[0]:
                return faces
        if not self.tilt_retry or min(photo.shape[1:]) < min_face_px:
            return []
        # R-Net and O-Net take hardly a crop from anything finer, so nothing finer need be turned.
        scale = min(1.0, _O_SIDE / min_face_px)
        height, width = (max(1, round(side * scale)) for side in photo.shape[1:])
        if scale < 1:
            floats = photo if photo.device.type == "cpu" else photo.float()
            photo = F.interpolate(floats[None], (height, width), mode="bilinear", antialias=True)[0]
        looks = [self._find_turned(photo, min_face_px * scale, angle) for angle in (-_TILT, _TILT)]
        looks += [self._find_quarter_turned(photo[None], min_face_px * scale, quarters)[0] for quarters in (1, 2, 3)]
        faces = max(looks, key=lambda faces: max((face.certainty for face in faces), default=0.0))
        return [face.scaled((1 / scale, 1 / scale)) for face in faces]

    def _find_turned(self, photo: Tensor, min_face_px: float, angle: float) -> list[Face]:
        turned, matrix, shift = turn(photo, angle)
        faces = self._find_once(turned[None], min_face_px)[0]
        return [turn_back(face, matrix, shift) for face in faces if face.certainty > _SURE]

    def _find_quarter_turned(self, batch: Tensor, min_face_px: float, quarters: int) -> list[list[Face]]:
        turned, matrix, shift = quarter_turn(batch, quarters)
        found = self._in_tiles(turned, lambda tile: self._find_upright(tile, min_face_px))
        return [[turn_back(face, matrix, shift) for face in faces if face.certainty > _SURE] for faces in found]

    def _find_upright(self, batch: Tensor, min_face_px: float) -> list[list[Face]]:
        """Search photos [B, 3, H, W] at every size, and at the coarser ones beyond their borders too."""
        levels = list(self._pyramid(batch, _P_SIDE / min_face_px))
        found = self._accept(len(batch), levels, self._propose(levels))
        coarse = [level for level in levels if min(level.pixels.shape[2:]) <= _MARGIN_SIDE]
        cut = self._accept(len(batch), levels, self._propose(coarse, _MARGIN))
        # Those that the photo itself shows stay as they are.
        return [
            with_others(faces, [face for face in more if face.certainty > _MARGIN_CONFIDENCE])
            for faces, more in zip(found, cut, strict=True)
        ]

    def _find_once(self, batch: Tensor, min_face_px: float) -> list[list[Face]]:
        levels = list(self._pyramid(batch, _P_SIDE / min_face_px))
        return self._accept(len(batch), levels, self._propose(levels))

    def _accept(self, photos: int, levels: Sequence[Level], windows: Windows) -> list[list[Face]]:
        """Section III-A stages 2 and 3: the faces among P-Net's proposals, one list a photo."""
        windows = self._refine(levels, windows)
        if not len(windows.boxes):
            return [[] for _ in range(photos)]
        score, offsets, points = self._look(self._onet, levels, windows, _O_SIDE)
        sides = windows.boxes[:, None, 2:] - windows.boxes[:, None, :2]  # [N, 1, 2]
        # The networks learnt from landmarks given as pixel numbers, so the window's upper left corner plus
        # what they answer is a pixel number again: no half pixel is taken off.
        landmarks = windows.boxes[:, None, :2] + sides * points.swapaxes(1, 2)  # [N, 5, 2]
        boxes = moved(windows.boxes, offsets)
        arrays = [array.astype(np.float64) for array in (boxes, score, landmarks)]
        return [self._faces(*(a[windows.photo == i] for a in arrays)) for i in range(photos)]

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

    def _propose(self, levels: Sequence[Level], margin: int = 0) -> Windows:
        """Section III-A stage 1: P-Net's proposals, with non-maximum suppression within and between the levels.

        With a margin of grey pixels about each level: only the windows that reach into it.
        """
        levels = [level for level in levels if level.proposes]
        if not levels:
            return Windows(np.empty((0, 4), np.float32), np.empty(0, np.int64), np.empty(0, np.float32))
        sizes = [(level.pixels.shape[2], level.pixels.shape[3]) for level in levels]
        layout = lay_out(tuple((height + 2 * margin, width + 2 * margin) for height, width in sizes))
        batch, channels = levels[0].pixels.shape[:2]
        canvas = levels[0].pixels.new_full((batch, *layout.size, channels), round(mtcnn.GREY)).permute(0, 3, 1, 2)
        corners = [(top + margin, left + margin) for top, left in layout.corners]
        for level, (height, width), (top, left) in zip(levels, sizes, corners, strict=True):
            canvas[:, :, top : top + height, left : left + width] = level.pixels
        parts = self._look_everywhere(canvas, torch.from_numpy(layout.picture_of).to(self.device))
        photo, y, x, score, offsets = (np.concatenate(each) for each in zip(*parts, strict=True))
        which = layout.picture_of[y, x].astype(np.int64)
        starts = np.stack([x, y], 1) * P_STEP - np.array(corners)[which, ::-1]  # [N, 2], as (x, y)
        if margin:
            ends = np.array(sizes)[which, ::-1] - _P_SIDE
            outside = ((starts < 0) | (starts > ends)).any(1) & (score > np.float32(_MARGIN_PROPOSAL))
            which, photo, starts, score, offsets = (a[outside] for a in (which, photo, starts, score, offsets))
        boxes = moved(np.concatenate([starts, starts + _P_SIDE], 1).astype(np.float32), offsets)
        scale = np.array([level.scale for level in levels], np.float32)[which]
        windows, group = Windows(boxes / np.tile(scale, 2), photo, score), which * batch + photo
        windows = windows[suppress(windows, group, self.overlaps[0])]
        return windows[suppress(windows, windows.photo, self.overlaps[1])]

    def _look_everywhere(self, canvas: Tensor, picture_of: Tensor) -> Iterator[tuple[NDArray[Any], ...]]:
        """Apply P-Net to a picture [B, 3, H, W], strip by strip.

        Yields, for the windows above the threshold whose ``picture_of`` is not negative, photo, row, column,
        probability and offsets.
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
            found = (photo, y + start, x, score[photo, y, x], offsets[photo, :, y, x])
            yield tuple(each.cpu().numpy() for each in found)

    def _refine(self, levels: Sequence[Level], windows: Windows) -> Windows:
        """Section III-A stage 2: the windows that R-Net accepts, as squares for O-Net."""
        if not len(windows.boxes):
            return windows
        windows = Windows(square(windows.boxes), windows.photo, windows.score)
        score, offsets = self._look(self._rnet, levels, windows, _R_SIDE)
        kept = np.flatnonzero(score > np.float32(self.thresholds[1]))
        windows = Windows(windows.boxes[kept], windows.photo[kept], score[kept])
        distinct = suppress(windows, windows.photo, self.overlaps[2])
        windows, offsets = windows[distinct], offsets[kept][distinct]
        return Windows(square(moved(windows.boxes, offsets)), windows.photo, windows.score)

    def _look(self, net: nn.Module, levels: Sequence[Level], windows: Windows, side: int) -> list[NDArray[np.float32]]:
        """Crop every window to ``side`` x ``side`` pixels and apply a network."""
        most = _CROPS_PER_PASS if self.device.type != "cpu" else max(1, _PIXELS_PER_CPU_PASS // side**2)
        crops, order = cut_crops(levels, windows, side)
        parts = [net(part.contiguous(memory_format=torch.channels_last)) for part in torch.split(crops, most)]
        answers = [torch.cat(part).cpu().numpy() for part in zip(*parts, strict=True)]
        back = np.argsort(order)
        return [answer[back] for answer in answers]

    def _faces(
        self, boxes: NDArray[np.float64], score: NDArray[np.float64], landmarks: NDArray[np.float64]
    ) -> list[Face]:
        """Return one photo's faces from O-Net's outputs [N, 4], [N] and [N, 5, 2], largest first."""
        sides = boxes[:, 2:] - boxes[:, :2]
        usable = (score > self.thresholds[2]) & (sides > 0).all(1)
        boxes, score, landmarks = boxes[usable], score[usable], landmarks[usable]
        return largest_first(
            Face(cast(Box, tuple(boxes[i].tolist())), float(score[i]), landmarks[i])
            for i in suppress_nested(boxes, score, self.overlaps[3])
        )


def _as_batch(photos: Sequence[NDArray[np.uint8]]) -> Tensor:
    """Return photos of one size, uint8 [H, W, 3], as uint8 [B, 3, H, W]; of one photo a view, which is only read."""
    first = photos[0]
    if len(photos) == 1 and first.flags.c_contiguous and first.flags.writeable:  # torch warns of any other
        # NumPy would give the new dimension a stride of 0: torch takes that for a layout that it resizes slowly.
        return torch.from_numpy(first)[None].permute(0, 3, 1, 2)
    return torch.from_numpy(np.stack(photos)).permute(0, 3, 1, 2)


def _upright_first(upright: Sequence[Face], *turned: Sequence[Face]) -> list[Face]:
    """Join what was found in a photo and in its rotations: of faces in one place the most probable, if not upright."""
    sure = [face for face in upright if face.certainty > _SURE]
    return with_others(sure, [*(face for face in upright if face.certainty <= _SURE), *chain(*turned)])


def default_min_face_px(height: int, width: int) -> float:
    """Return the default side of the smallest face that is searched for, in pixels.

    A fortieth of the photo's longer side, which bounds the time of large photos, but at most a twenty-fourth of its
    shorter side (panoramas), and at least 20.
    """
    return max(20.0, min(max(height, width) / 40, min(height, width) / 24))
