"""Telling cloaked faces from clean ones: the network, what it looks at, and its file."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from _toolio.errors import InputError, ToolError
from _toolio.journal import sha256_of
from _toolio.tensors import open_safetensors, read_metadata, write_safetensors
from facetools.faces.finder import Face
from facetools.photos import Pixels, as_tensor

SCHEMA = "facetools.detector/1"

SHIPPED = Path(__file__).parent / "weights" / "detector.safetensors"
"""The detector that is installed with the package; its card lies beside it."""

LARGEST_PX = 192
"""Larger faces are reduced to this: an attack sees no more detail than a recogniser's chip holds."""

ROOM = 1.3
"""Side of the square that is looked at, in sides of the face's box."""


class ResidualNet(nn.Module):
    """A small convolutional network on a face's high-pass residual.

    The residual is what a 3x3 binomial blur takes away; it is scaled and clipped as steganalysis does
    (Fridrich and Kodovsky 2012), so that the network sees texture and not the face. Pooling over the whole
    map (mean and standard deviation) takes faces of any size.
    """

    def __init__(self, width: int = 24) -> None:
        super().__init__()
        binomial = torch.tensor([1.0, 2.0, 1.0])
        self.register_buffer("blur", (binomial[:, None] * binomial / 16).expand(3, 1, 3, 3).clone(), persistent=False)
        sizes = [3, width, width, 2 * width, 2 * width, 3 * width]
        strides = [1, 2, 1, 2, 2]
        self.layers = nn.Sequential(
            *(
                nn.Sequential(
                    nn.Conv2d(a, b, 3, stride=stride, padding=1, bias=False),
                    nn.BatchNorm2d(b),
                    nn.ReLU(inplace=True),
                )
                for a, b, stride in zip(sizes, sizes[1:], strides, strict=False)
            )
        )
        self.head = nn.Linear(6 * width, 1)

    def forward(self, faces: Tensor) -> Tensor:
        """Score faces: float32 [B, 3, H, W] in [0, 1] -> logits float32 [B], positive for cloaked."""
        padded = F.pad(faces, (1, 1, 1, 1), mode="replicate")
        assert isinstance(self.blur, Tensor)
        residual = ((faces - F.conv2d(padded, self.blur, groups=3)) * 32).clamp(-3, 3)
        maps = self.layers(residual)
        # The root of a variance of zero has no slope: a map that is flat would train to NaN.
        spread = (maps.var((2, 3), correction=0) + 1e-5).sqrt()
        pooled = torch.cat([maps.mean((2, 3)), spread], 1)
        logits: Tensor = self.head(pooled)[:, 0]
        return logits


def cut_face(pixels: Pixels, face: Face, *, room: float = ROOM) -> Pixels | None:
    """Cut the square around a face, at the photo's own resolution unless it is larger than ``LARGEST_PX``.

    Parameters
    ----------
    pixels
        uint8 [H, W, 3], RGB.
    face
        Its box says where.
    room
        Side of the square, in longer sides of the box.

    Returns
    -------
    uint8 [h, w, 3] or None
        Clipped to the photo; None if less than 8 pixels a side are left.
    """
    x0, y0, x1, y1 = face.box
    half = room * max(x1 - x0, y1 - y0) / 2
    middle_x, middle_y = (x0 + x1) / 2, (y0 + y1) / 2
    height, width = pixels.shape[:2]
    left, top = max(0, math.floor(middle_x - half)), max(0, math.floor(middle_y - half))
    right, bottom = min(width, math.ceil(middle_x + half)), min(height, math.ceil(middle_y + half))
    if right - left < 8 or bottom - top < 8:
        return None
    part = pixels[top:bottom, left:right]
    longest = max(part.shape[:2])
    if longest <= LARGEST_PX:
        return np.ascontiguousarray(part)
    size = [max(8, round(side * LARGEST_PX / longest)) for side in part.shape[:2]]
    tensor = torch.from_numpy(np.ascontiguousarray(part)).permute(2, 0, 1)[None].float()
    small = F.interpolate(tensor, size, mode="bilinear", antialias=True, align_corners=False)
    return small[0].permute(1, 2, 0).round().clamp(0, 255).to(torch.uint8).contiguous().numpy()


@dataclass(frozen=True, slots=True)
class Detector:
    """A detector that is ready to use.

    Attributes
    ----------
    name
        File name and the beginning of its sha256, for records.
    threshold
        Scores from here on are labelled ``cloaked``.
    temperature
        Divides logits before the sigmoid.
    """

    name: str
    network: ResidualNet
    threshold: float
    temperature: float

    @torch.inference_mode()
    def score(self, pixels: Pixels, face: Face) -> float | None:
        """Score one face of a photo, uint8 [H, W, 3] RGB: 0 clean to 1 cloaked; None if it is not in the photo."""
        part = cut_face(pixels, face)
        if part is None:
            return None
        device = self.network.head.weight.device
        return float(torch.sigmoid(self.network(as_tensor(part, device))[0] / self.temperature))


def open_detector(path: Path, device: torch.device) -> Detector:
    """Open a detector's file.

    Raises
    ------
    ToolError
        There is no such file, or it is no detector.
    """
    made = read_metadata(path)
    if made.get("schema") != SCHEMA:
        raise ToolError(f"{path}: not a detector; make one with facetools train-detector", kind="not-a-detector")
    file = open_safetensors(path)
    try:
        threshold, temperature = float(made["threshold"]), float(made["temperature"])
        network = ResidualNet(int(made["width"]))
        state = {name: torch.from_numpy(np.array(file.tensor(name), np.float32)) for name in file.entries}
        network.load_state_dict(state, strict=False)
        missing = [
            name for name in network.state_dict() if name not in state and not name.endswith("num_batches_tracked")
        ]
    except (RuntimeError, KeyError, TypeError, ValueError, InputError):
        missing = ["numbers or tensors of the right shape"]
    numbers = [threshold, temperature, *(float(value.sum()) for value in state.values())] if not missing else []
    if not all(map(math.isfinite, numbers)) or (numbers and temperature <= 0):
        raise ToolError(f"{path}: holds NaN or infinity; train it again", kind="not-a-detector")
    if missing:
        raise ToolError(f"{path}: {missing[0]} missing; the file is of another version", kind="not-a-detector")
    network.eval().requires_grad_(False).to(device).to(memory_format=torch.channels_last)
    name = f"{path.stem}-{sha256_of(path.read_bytes())[:12]}"
    return Detector(name, network, threshold, temperature)


def save_detector(path: Path, network: ResidualNet, made: dict[str, Any]) -> None:
    """Write a detector as float16 safetensors; ``made`` says how, and holds threshold and temperature."""
    tensors = {
        name: value.detach().cpu().numpy().astype(np.float16)
        for name, value in network.state_dict().items()
        if not name.endswith("num_batches_tracked")
    }
    write_safetensors(path, tensors, {"schema": SCHEMA, **made})
