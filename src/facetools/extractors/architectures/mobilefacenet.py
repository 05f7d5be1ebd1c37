"""MobileFaceNet: about a million weights, for phones (Chen et al. 2018, arXiv 1804.07573)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from facetools.extractors.settings import Settings
from facetools.extractors.state_dicts import beneath, load_exactly, shape_of, with_identity

SETTINGS = Settings((112, 112), "arcface-112", std=(128.0, 128.0, 128.0))

# (expansion, channels, repeats, stride of the first) of the bottlenecks; table 1 of the paper.
_STAGES = ((2, 64, 5, 2), (4, 128, 1, 2), (2, 128, 6, 1), (4, 128, 1, 2), (2, 128, 2, 1))


class _Convolution(nn.Sequential):
    """Convolution, batch normalisation and, unless it is linear, PReLU by channel."""

    def __init__(self, inputs: int, outputs: int, kernel: int | tuple[int, int], **how: Any) -> None:
        linear = how.pop("linear", False)
        parts: list[nn.Module] = [nn.Conv2d(inputs, outputs, kernel, bias=False, **how), nn.BatchNorm2d(outputs)]
        super().__init__(*parts, *([] if linear else [nn.PReLU(outputs)]))


class _Bottleneck(nn.Module):
    """Inverted residual: expand, depthwise convolution, project; a shortcut where the shape stays."""

    def __init__(self, inputs: int, outputs: int, expansion: int, stride: int) -> None:
        super().__init__()
        wide = inputs * expansion
        self.expand = _Convolution(inputs, wide, 1)
        self.depthwise = _Convolution(wide, wide, 3, stride=stride, padding=1, groups=wide)
        self.project = _Convolution(wide, outputs, 1, linear=True)
        self.shortcut = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.project(self.depthwise(self.expand(x)))
        return x + y if self.shortcut else y


class MobileFaceNet(nn.Module):
    """The network of the paper's table 1.

    Parameters
    ----------
    dimensions
        Length of an embedding; 128 in the paper.
    map_size
        Height and width of the last map: a sixteenth of the chip's, 7x7 for 112x112, 7x6 for 112x96.
    """

    def __init__(self, dimensions: int = 128, map_size: tuple[int, int] = (7, 7)) -> None:
        super().__init__()
        self.stem = _Convolution(3, 64, 3, stride=2, padding=1)
        self.stem_depthwise = _Convolution(64, 64, 3, padding=1, groups=64)
        blocks, channels = [], 64
        for expansion, outputs, repeats, stride in _STAGES:
            for place in range(repeats):
                blocks.append(_Bottleneck(channels, outputs, expansion, stride if place == 0 else 1))
                channels = outputs
        self.blocks = nn.Sequential(*blocks)
        self.widen = _Convolution(channels, 512, 1)
        # "Global depthwise convolution": each place of the map has a weight of its own.
        self.pool = _Convolution(512, 512, map_size, groups=512, linear=True)
        self.embed = _Convolution(512, dimensions, 1, linear=True)

    def forward(self, x: Tensor) -> Tensor:
        """Embed prepared chips, float32 [B, 3, 112, 112]: float32 [B, dimensions], not normalised."""
        x = self.widen(self.blocks(self.stem_depthwise(self.stem(x))))
        x = self.pool(x)
        if x.shape[2:] != (1, 1):
            raise ValueError("the chips are larger than those the network was trained on")
        out: Tensor = self.embed(x).flatten(1)
        return out


def settings_of(state: Mapping[str, Tensor], options: Mapping[str, Any]) -> Settings:  # noqa: ARG001
    """Return the chips' size from the last map's, a sixteenth of it; ValueError for tensors of another network."""
    height, width = shape_of(state, "pool.0.weight", 4)[2:]
    return replace(SETTINGS, input_size=(16 * height, 16 * width))


def network(state: Mapping[str, Tensor], options: Mapping[str, Any]) -> nn.Module:  # noqa: ARG001
    """Build the network from its tensors; ValueError for tensors of another network."""
    dimensions = shape_of(state, "embed.0.weight", 4)[0]
    height, width = shape_of(state, "pool.0.weight", 4)[2:]
    with torch.device("meta"):
        net = MobileFaceNet(dimensions, (height, width))
    return load_exactly(net, state)


# What two families of implementations call the layers: a pattern, and our name for what it matches. The first has all
# bottlenecks in a row, ``blocks.N.conv.0`` to ``.7``; the second (InsightFace_Pytorch, face.evoLVe) has four that
# change the map, ``conv_23`` and so on, and rows of equal ones between them, ``conv_3.model.N``.
_PLACES = (
    (r"conv1\.", "stem"), (r"(?:dw_conv1|conv2_dw)\.", "stem_depthwise"), (r"(?:conv2|conv_6_sep)\.", "widen"),
    (r"(?:linear7|(?:output_layer\.)?conv_6_dw)\.", "pool"), (r"linear1\.", "embed"),
)  # fmt: skip
_KINDS = {"conv": 0, "bn": 1, "prelu": 2}
_IN_A_ROW = ("expand.0", "expand.1", "expand.2", "depthwise.0", "depthwise.1", "depthwise.2", "project.0", "project.1")
_PARTS = {"conv": "expand", "conv_dw": "depthwise", "project": "project"}
_FIRST_BLOCK = {"23": 0, "3": 1, "34": 5, "4": 6, "45": 12, "5": 13}


def _name_of(key: str) -> str:
    """Return our name for a tensor of another implementation."""
    if found := re.fullmatch(r"blocks\.(\d+)\.conv\.([0-7])\.(\w+)", key):
        return f"blocks.{found[1]}.{_IN_A_ROW[int(found[2])]}.{found[3]}"
    block = r"conv_(?:(23|34|45)|([345])\.model\.(\d{1,3}))\.(conv|conv_dw|project)\.(conv|bn|prelu)\.(\w+)"
    if found := re.fullmatch(block, key):
        place = _FIRST_BLOCK[found[1] or found[2]] + int(found[3] or 0)
        return f"blocks.{place}.{_PARTS[found[4]]}.{_KINDS[found[5]]}.{found[6]}"
    for pattern, name in _PLACES:
        if found := re.fullmatch(rf"{pattern}(conv|bn|prelu)\.(\w+)", key):
            return f"{name}.{_KINDS[found[1]]}.{found[2]}"
    if found := re.fullmatch(r"(?:output_layer\.)?(linear|bn)\.(\w+)", key):
        return f"embed.{int(found[1] == 'bn')}.{found[2]}"
    return key


def canonical(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename other implementations' tensors to our names; batch counters are dropped.

    A last layer that is linear becomes the filter of 1x1 that it equals, and a last normalisation without scale and
    shift gets 1 and 0.
    """
    named = {_name_of(key): value for key, value in beneath(state, "conv1.conv.weight").items()}
    last = named.get("embed.0.weight")
    if last is not None and last.ndim == 2:
        named["embed.0.weight"] = last[:, :, None, None]
    return with_identity(named, "embed.1")
