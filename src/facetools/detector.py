"""Telling cloaked faces from clean ones: what is looked at, what is said of it, and the detector's file."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812

from _toolio.errors import InputError, ToolError
from _toolio.files.hashing import sha256_of
from _toolio.tensors.safetensors_files import open_safetensors, read_metadata, write_safetensors
from facetools.faces.finder import Face
from facetools.photos import Pixels, as_tensor
from facetools.residual_net import ResidualNet

SCHEMA = "facetools.detector/3"

SHIPPED = Path(__file__).parent / "weights" / "detector.safetensors"
"""The detector that is installed with the package; its card lies beside it."""

LARGEST_PX = 256
"""Of larger squares the middle is looked at, and a reduced copy besides."""

REDUCED_PX = 192
"""Side of that copy: attacks work at a recogniser's resolution, and enlarge the change to a larger face's."""

ROOM = 1.3
"""Side of the square that is looked at, in sides of the face's box."""

SMALLEST_PX = 8
"""Fewer pixels a side are not looked at."""

Box = tuple[float, float, float, float]
"""(x0, y0, x1, y1) in pixels, between which a face lies."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a detector says of a face.

    Attributes
    ----------
    score
        0 clean to 1 cloaked: the chance that it is, where half of the faces are; of six digits, as records have it, so
        that what is printed and what is decided agree.
    attacks
        How ``score`` is shared out among the attacks that the detector knows; only their order is measured.
    """

    score: float
    attacks: Mapping[str, float]

    @property
    def attack(self) -> str:
        """The likeliest attack."""
        return max(self.attacks, key=self.attacks.__getitem__)


Look = tuple[Verdict | None, Face]
"""What is said, and of what."""


def windows_of(shape: tuple[int, ...]) -> list[Box]:
    """Cover a photo of [H, W] with as few squares of ``LARGEST_PX`` as reach everywhere, evenly spread.

    Returns
    -------
    list
        Boxes (x0, y0, x1, y1), row by row; the photo itself where it is smaller.
    """

    def starts(length: int) -> list[int]:
        count = -(-length // LARGEST_PX)
        return [round(n * (length - LARGEST_PX) / (count - 1)) for n in range(count)] if count > 1 else [0]

    return [
        (float(x), float(y), float(min(x + LARGEST_PX, shape[1])), float(min(y + LARGEST_PX, shape[0])))
        for y in starts(shape[0])
        for x in starts(shape[1])
    ]


def describe_verdict(verdict: Verdict | None, threshold: float) -> dict[str, Any]:
    """Give a record's fields: score, label, the likeliest attack of a face labelled cloaked, each attack's score."""
    if verdict is None:
        return {"score": None, "label": None, "attack": None, "attacks": None}
    cloaked = verdict.score >= threshold
    label = "cloaked" if cloaked else "clean"
    attacks = {name: round(score, 6) for name, score in verdict.attacks.items()}
    return {"score": verdict.score, "label": label, "attack": verdict.attack if cloaked else None, "attacks": attacks}


@dataclass(frozen=True, slots=True)
class Calibration:
    """From a logit to a score: sigmoid((logit - offset) / temperature).

    Attributes
    ----------
    temperature, offset
        Fitted on held-out faces; ``temperature`` is positive.
    threshold
        Scores from here on are labelled ``cloaked``.
    """

    temperature: float
    offset: float
    threshold: float


def cut_square(pixels: Pixels, box: Box, room: float, largest: int) -> Pixels | None:
    """Cut the square around a face's box, at the photo's own resolution.

    Parameters
    ----------
    pixels
        uint8 [H, W, 3], RGB.
    box
        (x0, y0, x1, y1), pixels.
    room
        Side of the square, in longer sides of the box.
    largest
        Longest side in pixels; of a larger square the middle is cut.

    Returns
    -------
    uint8 [h, w, 3] or None
        A view, clipped to the photo; None if less than ``SMALLEST_PX`` a side are left.
    """
    left, top, right, bottom = square_of(box, room, largest, pixels.shape[:2])
    return None if min(right - left, bottom - top) < SMALLEST_PX else pixels[top:bottom, left:right]


def square_of(box: Box, room: float, largest: float, shape: tuple[int, ...]) -> tuple[int, int, int, int]:
    """Give the square around a box, (left, top, right, bottom), clipped to a photo of [H, W]."""
    x0, y0, x1, y1 = box
    half = min(room * max(x1 - x0, y1 - y0), largest) / 2
    middle_x, middle_y = (x0 + x1) / 2, (y0 + y1) / 2
    left, top = max(0, math.floor(middle_x - half)), max(0, math.floor(middle_y - half))
    return left, top, min(shape[1], math.ceil(middle_x + half)), min(shape[0], math.ceil(middle_y + half))


def looks_of(pixels: Pixels, box: Box) -> list[Pixels]:
    """Give what is looked at of a face, uint8 [h, w, 3] each.

    That is the square around its box at the photo's own resolution: scaling would hide a cloak. Of a square larger than
    ``LARGEST_PX`` it is the middle, and a copy reduced to ``REDUCED_PX``. None if too little is in the photo.
    """
    whole = cut_square(pixels, box, ROOM, 10**9)
    if whole is None or max(whole.shape[:2]) <= LARGEST_PX:
        return [] if whole is None else [whole]
    middle = cut_square(pixels, box, ROOM, LARGEST_PX)
    return [_reduced(whole)] + ([] if middle is None else [middle])


def _reduced(part: Pixels) -> Pixels:
    longest = max(part.shape[:2])
    size = [max(SMALLEST_PX, round(side * REDUCED_PX / longest)) for side in part.shape[:2]]
    tensor = torch.from_numpy(np.ascontiguousarray(part)).permute(2, 0, 1)[None].float()
    small = F.interpolate(tensor, size, mode="bilinear", antialias=True, align_corners=False)
    return small[0].permute(1, 2, 0).round().clamp(0, 255).to(torch.uint8).contiguous().numpy()


@torch.inference_mode()
def logits_of(network: ResidualNet, looks: list[Pixels]) -> torch.Tensor:
    """Give a face's logits, float32 [1 + attacks]: those of the look that seems cloaked most."""
    device = network.head.weight.device
    each = torch.cat([network(as_tensor(np.ascontiguousarray(look), device)) for look in looks])
    return each[int(each[:, 0].argmax())]


@dataclass(frozen=True, slots=True)
class Detector:
    """A detector that is ready to use.

    Attributes
    ----------
    name
        File name and the beginning of its sha256, for records.
    network
        Fused, on its device.
    attacks
        Names of the attacks that it tells apart.
    calibration
        What its logits mean.
    """

    name: str
    network: ResidualNet
    attacks: tuple[str, ...]
    calibration: Calibration

    @property
    def threshold(self) -> float:
        """Scores from here on are labelled ``cloaked``."""
        return self.calibration.threshold

    def judge(self, pixels: Pixels, face: Face) -> Verdict | None:
        """Judge one face of a photo, uint8 [H, W, 3] RGB; None if too little of it is in the photo."""
        looks = looks_of(pixels, face.box)
        return self._judge(looks) if looks else None

    def look(self, pixels: Pixels, faces: Sequence[Face], *, whole: bool = False) -> list[Look]:
        """Judge the faces of a photo, uint8 [H, W, 3] RGB, or all of it, whatever it shows.

        A ``whole`` photo is judged by that window of it which seems cloaked most.

        Returns
        -------
        list
            Verdicts, as ``judge`` gives them, and of what: the faces, or the window, as if it were an aligned crop.
        """
        if not whole:
            return [(self.judge(pixels, face), face) for face in faces]
        windows = [(cut_square(pixels, box, 1, LARGEST_PX), box) for box in windows_of(pixels.shape)]
        judged = [(self._judge([look]), Face(box, 1.0, np.empty((0, 2)))) for look, box in windows if look is not None]
        return [max(judged, key=lambda each: each[0].score)] if judged else [(None, faces[0])]

    def _judge(self, looks: list[Pixels]) -> Verdict:
        logits = logits_of(self.network, looks).double().cpu()
        score = round(float(torch.sigmoid((logits[0] - self.calibration.offset) / self.calibration.temperature)), 6)
        shares = torch.softmax(logits[1:], 0).tolist()
        return Verdict(score, {name: score * share for name, share in zip(self.attacks, shares, strict=True)})


def open_detector(path: Path, device: torch.device) -> Detector:
    """Open a detector's file.

    Raises
    ------
    ToolError
        There is no such file, or it is no detector.
    """
    made = read_metadata(path)
    if made.get("schema") != SCHEMA:
        old = "of an earlier version" if str(made.get("schema")).startswith("facetools.detector/") else "not a detector"
        raise ToolError(f"{path}: {old}; make one with facetools train-detector", kind="not-a-detector")
    file = open_safetensors(path)
    try:
        calibration = Calibration(*(float(made[key]) for key in ("temperature", "offset", "threshold")))
        attacks = tuple(dict.fromkeys(name for name in made["attacks"] if isinstance(name, str) and name))
        if not attacks or list(attacks) != made["attacks"]:
            raise KeyError("names of attacks")
        network = ResidualNet(len(attacks))
        state = {name: torch.from_numpy(np.array(file.tensor(name), np.float32)) for name in file.entries}
        network.load_state_dict(state, strict=False)
        wanted = [name for name in network.state_dict() if not name.endswith("num_batches_tracked")]
        missing = [name for name in wanted if name not in state]
    except (RuntimeError, KeyError, TypeError, ValueError, OverflowError, InputError):
        missing = ["names of attacks, numbers or tensors of the right shape"]
    if missing:
        raise ToolError(f"{path}: {missing[0]} missing; the file is of another version", kind="not-a-detector")
    numbers = [calibration.threshold, calibration.temperature, calibration.offset]
    if not all(map(math.isfinite, numbers + [float(v.sum()) for v in state.values()])):
        raise ToolError(f"{path}: holds NaN or infinity; train it again", kind="not-a-detector")
    variances = [value for name, value in state.items() if name.endswith("running_var")]
    if (
        calibration.temperature <= 0
        or not 0 <= calibration.threshold <= 1
        or any(bool((v < 0).any()) for v in variances)
    ):
        what = "a temperature, a threshold or a variance that cannot be"
        raise ToolError(f"{path}: holds {what}; train it again", kind="not-a-detector")
    network.fuse().to(device).to(memory_format=torch.channels_last)
    name = f"{path.stem}-{sha256_of(path.read_bytes())[:12]}"
    return Detector(name, network, attacks, calibration)


def save_detector(
    path: Path, network: ResidualNet, attacks: tuple[str, ...], calibration: Calibration, made: Mapping[str, Any]
) -> None:
    """Write a detector, not fused, as float16 safetensors; ``made`` says how."""
    tensors = {
        name: value.detach().cpu().numpy().astype(np.float16)
        for name, value in network.state_dict().items()
        if not name.endswith("num_batches_tracked")
    }
    numbers = {key: getattr(calibration, key) for key in ("temperature", "offset", "threshold")}
    write_safetensors(path, tensors, {"schema": SCHEMA, **made, **numbers, "attacks": list(attacks)})
