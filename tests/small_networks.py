"""A network of a few thousand values that embeds faces, for tests of what trains any network."""

from __future__ import annotations

from collections import OrderedDict

import torch
from torch import nn

from facetools.extractors.files import Prepared
from facetools.extractors.settings import Settings


def small_network(dimensions: int, settings: Settings, *, seed: int = 0) -> Prepared:
    """Make a network with all that trainers meet: convolutions, batch normalisation, PReLU and a linear layer."""
    torch.manual_seed(seed)
    parts = {
        "stem": _layer(3, 8, 5, stride=4),
        "body": _layer(8, 16, 3, stride=2),
        "pool": nn.AdaptiveAvgPool2d(4),
        "flat": nn.Flatten(),
        "embed": nn.Linear(16 * 4 * 4, dimensions),
    }
    return Prepared(nn.Sequential(OrderedDict(parts)), settings)


def _layer(inputs: int, outputs: int, kernel: int, *, stride: int) -> nn.Sequential:
    convolution = nn.Conv2d(inputs, outputs, kernel, stride=stride, padding=kernel // 2, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(outputs), nn.PReLU(outputs))
