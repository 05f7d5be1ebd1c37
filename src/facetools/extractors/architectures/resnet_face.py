"""ResNet-50/101/152 as face.evoLVe and LowKey train them on faces.

He et al. 2016 (arXiv 1512.03385), with ArcFace's ending (arXiv 1801.07698): instead of a mean over the last map, one
linear layer over all of it, between two normalisations. ``SETTINGS`` are LowKey's (Cherepanova et al. 2021,
arXiv 2101.07922), which adds the mirrored chip's embedding.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from facetools.extractors.settings import Settings
from facetools.extractors.state_dicts import beneath, flat, load_exactly, shape_of, stages_of

SETTINGS = Settings((112, 112), "arcface-112", mirrored=True)

DEPTHS = {50: (3, 4, 6, 3), 101: (3, 4, 23, 3), 152: (3, 8, 36, 3)}
"""Blocks of the four stages, by the network's usual name."""


class _Bottleneck(nn.Module):
    """Bottleneck block: 1x1, 3x3 with the stride, and 1x1 convolution to four times the channels."""

    def __init__(self, inputs: int, width: int, stride: int) -> None:
        super().__init__()
        outputs = 4 * width
        self.conv1 = nn.Conv2d(inputs, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, outputs, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(outputs)
        self.downsample: nn.Module = nn.Identity()
        if stride != 1 or inputs != outputs:
            convolution = nn.Conv2d(inputs, outputs, 1, stride, bias=False)
            self.downsample = nn.Sequential(convolution, nn.BatchNorm2d(outputs))

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.bn1(self.conv1(x)))
        y = F.relu(self.bn2(self.conv2(y)))
        return F.relu(self.bn3(self.conv3(y)) + self.downsample(x))


class ResNetFace(nn.Module):
    """A stem that quarters the chip, four stages, and one linear layer over the whole last map.

    Parameters
    ----------
    depths
        Blocks of each stage, as in ``DEPTHS``.
    widths
        Channels of the stem, then those inside each stage's blocks, whose outputs have four times as many.
    places
        Height times width of the last map: 16 for 112x112 chips, a thirty-second each way and rounded up.
    dimensions
        Length of an embedding.
    """

    layer1: nn.Sequential
    layer2: nn.Sequential
    layer3: nn.Sequential
    layer4: nn.Sequential

    def __init__(
        self,
        depths: Sequence[int],
        widths: Sequence[int] = (64, 64, 128, 256, 512),
        places: int = 16,
        dimensions: int = 512,
    ) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, widths[0], 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(widths[0])
        inputs = widths[0]
        for stage, (depth, width) in enumerate(zip(depths, widths[1:], strict=True), 1):
            first = _Bottleneck(inputs, width, 1 if stage == 1 else 2)
            inputs = 4 * width
            later = (_Bottleneck(inputs, width, 1) for _ in range(depth - 1))
            self.add_module(f"layer{stage}", nn.Sequential(first, *later))
        self.bn_o1 = nn.BatchNorm2d(inputs)
        self.fc = nn.Linear(inputs * places, dimensions)
        self.bn_o2 = nn.BatchNorm1d(dimensions)

    def forward(self, x: Tensor) -> Tensor:
        """Embed prepared chips, float32 [B, 3, 112, 112]: float32 [B, dimensions], not normalised."""
        x = F.max_pool2d(F.relu(self.bn1(self.conv1(x))), 3, 2, 1)
        for stage in (self.layer1, self.layer2, self.layer3, self.layer4):
            x = stage(x)
        # Dropout, which belongs here, does nothing outside training.
        out: Tensor = self.bn_o2(self.fc(flat(self.bn_o1(x), self.fc)))
        return out


def network(state: Mapping[str, Tensor], options: Mapping[str, Any]) -> nn.Module:  # noqa: ARG001
    """Build the network from its tensors; ValueError for tensors of another network."""
    depths, widths = stages_of(state)
    dimensions, inputs = shape_of(state, "fc.weight", 2)
    with torch.device("meta"):
        net = ResNetFace(depths, widths, inputs // max(4 * widths[-1], 1), dimensions)
    return load_exactly(net, state)


def canonical(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Remove prefixes of face.evoLVe's names, and tensors that no embedding needs."""
    return beneath(state, "bn_o1.weight")
