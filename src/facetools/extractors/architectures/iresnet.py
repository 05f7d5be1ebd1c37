"""iResNet-18/34/50/100/200, the backbone of ArcFace, CosFace, MagFace and their successors.

ResNets whose blocks begin with a batch normalisation and hold no activation behind the sum: "improved ResNet" in
Deng et al. 2019 (ArcFace, arXiv 1801.07698, section 3.1), here as InsightFace releases it for PyTorch.

``SETTINGS`` are InsightFace's. MagFace (Meng et al. 2021, arXiv 2103.06627) wants BGR in [0, 1]:
import with ``channel_order`` bgr, ``mean`` 0 and ``std`` 255.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from facetools.extractors.settings import Settings
from facetools.extractors.state_dicts import beneath, flat, load_exactly, prefix_of, shape_of, stages_of

SETTINGS = Settings((112, 112), "arcface-112")

DEPTHS = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 14, 3), 100: (3, 13, 30, 3), 200: (6, 26, 60, 6)}
"""Blocks of the four stages, by the network's usual name."""

_ANCHOR = "layer1.0.bn1.weight"

# MagFace's batch normalisations add this much more to the variance than InsightFace's and PyTorch's 1e-5.
_MAGFACE_EPS = 1e-5


class _Block(nn.Module):
    """Normalisation, convolution, PReLU, convolution; the second one has the stride."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(inputs)
        self.conv1 = nn.Conv2d(inputs, outputs, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.prelu = nn.PReLU(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, stride, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(outputs)
        self.downsample: nn.Module = nn.Identity()
        if stride != 1:
            convolution = nn.Conv2d(inputs, outputs, 1, stride, bias=False)
            self.downsample = nn.Sequential(convolution, nn.BatchNorm2d(outputs))

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv1(self.bn1(x))
        y = self.conv2(self.prelu(self.bn2(y)))
        out: Tensor = self.bn3(y) + self.downsample(x)
        return out


class IResNet(nn.Module):
    """A stem at full size, four stages that halve the map, and one linear layer over all of it.

    Parameters
    ----------
    depths
        Blocks of each stage, as in ``DEPTHS``.
    widths
        Channels of the stem and of each stage.
    places
        Height times width of the last map: 49 for 112x112 chips, a sixteenth each way and rounded up.
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
        places: int = 49,
        dimensions: int = 512,
    ) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, widths[0], 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(widths[0])
        self.prelu = nn.PReLU(widths[0])
        for stage, depth in enumerate(depths, 1):
            inputs, outputs = widths[stage - 1 : stage + 1]
            later = (_Block(outputs, outputs, 1) for _ in range(depth - 1))
            self.add_module(f"layer{stage}", nn.Sequential(_Block(inputs, outputs, 2), *later))
        self.bn2 = nn.BatchNorm2d(widths[-1])
        self.fc = nn.Linear(widths[-1] * places, dimensions)
        self.features = nn.BatchNorm1d(dimensions)

    def forward(self, x: Tensor) -> Tensor:
        """Embed prepared chips, float32 [B, 3, 112, 112]: float32 [B, dimensions], not normalised."""
        x = self.prelu(self.bn1(self.conv1(x)))
        for stage in (self.layer1, self.layer2, self.layer3, self.layer4):
            x = stage(x)
        # Dropout, which belongs here, does nothing outside training.
        out: Tensor = self.features(self.fc(flat(self.bn2(x), self.fc)))
        return out


def network(state: Mapping[str, Tensor], options: Mapping[str, Any]) -> nn.Module:  # noqa: ARG001
    """Build the network from its tensors; ValueError for tensors of another network."""
    depths, widths = stages_of(state)
    dimensions, inputs = shape_of(state, "fc.weight", 2)
    with torch.device("meta"):
        net = IResNet(depths, widths, inputs // max(widths[-1], 1), dimensions)
    return load_exactly(net, state)


def canonical(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Remove prefixes of InsightFace's names, and tensors that no embedding needs.

    MagFace's checkpoints hold the network beneath ``features.module.`` and their classifier as ``fc.weight``, so
    they come whole, prefixes and all. Their batch normalisations have an epsilon of 2e-5, not 1e-5; what lacks is
    added to the variances, which comes to the same.
    """
    own = beneath(state, _ANCHOR)
    if prefix_of(state, _ANCHOR) in ("features.module.", "module.features."):
        shift = {key: value.float() + _MAGFACE_EPS for key, value in own.items() if key.endswith(".running_var")}
        own |= shift
    return own
