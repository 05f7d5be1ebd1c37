"""Inception-ResNet-v1, FaceNet's network: 512 numbers for a 160x160 chip.

Szegedy et al. 2016 (arXiv 1602.07261, sections 3.2 and 3.3), as the best known public trainings after FaceNet
(Schroff et al. 2015, arXiv 1503.03832) have it: residuals scaled by 0.17, 0.10 and 0.20, normalisation in every
filter, a linear layer and one more normalisation at the end. Names are facenet-pytorch's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from facetools.extractors.settings import Settings
from facetools.extractors.state_dicts import beneath, load_exactly, shape_of

SETTINGS = Settings((160, 160), "mtcnn-160", std=(128.0, 128.0, 128.0))

# Of every batch normalisation; TensorFlow's default, with which the weights were trained.
_EPS = 1e-3

# A convolution: its output channels, height and width, its stride. Odd kernels in single steps keep the map's size.
_Filter = tuple[int, int | tuple[int, int], int]


class _Convolution(nn.Module):
    """Convolution without bias, batch normalisation, ReLU."""

    def __init__(self, inputs: int, outputs: int, kernel: int | tuple[int, int], stride: int = 1, pad: bool = False):
        super().__init__()
        height, width = (kernel, kernel) if isinstance(kernel, int) else kernel
        padding = (height // 2, width // 2) if pad else 0
        self.conv = nn.Conv2d(inputs, outputs, (height, width), stride, padding, bias=False)
        self.bn = nn.BatchNorm2d(outputs, _EPS)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.bn(self.conv(x)))


def _branch(inputs: int, filters: Sequence[_Filter]) -> nn.Module:
    """Build a branch of an inception: one convolution, or several in a row."""
    made = []
    for outputs, kernel, stride in filters:
        made.append(_Convolution(inputs, outputs, kernel, stride, pad=stride == 1))
        inputs = outputs
    return made[0] if len(made) == 1 else nn.Sequential(*made)


class _Branches(nn.Module):
    """Branches over one map, concatenated by channel: ``branch0``, ``branch1``, ..."""

    def __init__(self, inputs: int, branches: Sequence[Sequence[_Filter]]) -> None:
        super().__init__()
        for number, filters in enumerate(branches):
            self.add_module(f"branch{number}", _branch(inputs, filters))
        self.count = len(branches)

    def side_by_side(self, x: Tensor) -> list[Tensor]:
        return [getattr(self, f"branch{number}")(x) for number in range(self.count)]


class _Residual(_Branches):
    """A residual inception."""

    def __init__(
        self, inputs: int, scale: float, branches: Sequence[Sequence[_Filter]], *, linear: bool = False
    ) -> None:
        super().__init__(inputs, branches)
        self.conv2d = nn.Conv2d(sum(filters[-1][0] for filters in branches), inputs, 1)
        self.scale, self.linear = scale, linear

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = x + self.scale * self.conv2d(torch.cat(self.side_by_side(x), 1))
        return y if self.linear else F.relu(y)


class _Reduction(_Branches):
    """An inception that halves the map, with a 3x3 max-pooling branch."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([*self.side_by_side(x), F.max_pool2d(x, 3, 2)], 1)


# Figures 7 and 10 to 13 of the paper, and the numbers k, l, m and n of its table 1.
_BLOCK_35 = (((32, 1, 1),), ((32, 1, 1), (32, 3, 1)), ((32, 1, 1), (32, 3, 1), (32, 3, 1)))
_BLOCK_17 = (((128, 1, 1),), ((128, 1, 1), (128, (1, 7), 1), (128, (7, 1), 1)))
_BLOCK_8 = (((192, 1, 1),), ((192, 1, 1), (192, (1, 3), 1), (192, (3, 1), 1)))
_REDUCTION_A = (((384, 3, 2),), ((192, 1, 1), (192, 3, 1), (256, 3, 2)))
_REDUCTION_B = (((256, 1, 1), (384, 3, 2)), ((256, 1, 1), (256, 3, 2)), ((256, 1, 1), (256, 3, 1), (256, 3, 2)))


class InceptionResnetV1(nn.Module):
    """The network; chips of other sizes work too, as it ends in global average pooling.

    Parameters
    ----------
    dimensions
        Length of an embedding.
    """

    def __init__(self, dimensions: int = 512) -> None:
        super().__init__()
        self.conv2d_1a = _Convolution(3, 32, 3, 2)
        self.conv2d_2a = _Convolution(32, 32, 3)
        self.conv2d_2b = _Convolution(32, 64, 3, pad=True)
        self.conv2d_3b = _Convolution(64, 80, 1)
        self.conv2d_4a = _Convolution(80, 192, 3)
        self.conv2d_4b = _Convolution(192, 256, 3, 2)
        self.repeat_1 = nn.Sequential(*(_Residual(256, 0.17, _BLOCK_35) for _ in range(5)))
        self.mixed_6a = _Reduction(256, _REDUCTION_A)
        self.repeat_2 = nn.Sequential(*(_Residual(896, 0.10, _BLOCK_17) for _ in range(10)))
        self.mixed_7a = _Reduction(896, _REDUCTION_B)
        self.repeat_3 = nn.Sequential(*(_Residual(1792, 0.20, _BLOCK_8) for _ in range(5)))
        self.block8 = _Residual(1792, 1.0, _BLOCK_8, linear=True)
        self.last_linear = nn.Linear(1792, dimensions, bias=False)
        self.last_bn = nn.BatchNorm1d(dimensions, _EPS)

    def forward(self, x: Tensor) -> Tensor:
        """Embed prepared chips, float32 [B, 3, 160, 160]: float32 [B, dimensions], not normalised."""
        x = self.conv2d_2b(self.conv2d_2a(self.conv2d_1a(x)))
        x = self.conv2d_3b(F.max_pool2d(x, 3, 2))
        x = self.repeat_1(self.conv2d_4b(self.conv2d_4a(x)))
        x = self.repeat_2(self.mixed_6a(x))
        x = self.block8(self.repeat_3(self.mixed_7a(x)))
        # Dropout, which belongs before the linear layer, does nothing outside training.
        out: Tensor = self.last_bn(self.last_linear(x.mean((2, 3))))
        return out


def network(state: Mapping[str, Tensor], options: Mapping[str, Any]) -> nn.Module:  # noqa: ARG001
    """Build the network from its tensors; ValueError for tensors of another network."""
    dimensions, _ = shape_of(state, "last_linear.weight", 2)
    with torch.device("meta"):
        net = InceptionResnetV1(dimensions)
    return load_exactly(net, state)


def canonical(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Remove prefixes of facenet-pytorch's names, and the classifier ``logits``."""
    own = beneath(state, "conv2d_1a.conv.weight")
    return {key: value for key, value in own.items() if not key.startswith("logits.")}
