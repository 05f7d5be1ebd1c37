"""IR and IR-SE networks of 18 to 200 layers, as face.evoLVe, LowKey and AdaFace use them.

ArcFace's blocks (arXiv 1801.07698, section 3.1) in three forms, which differ in their tensors:

- face.evoLVe's and LowKey's, without a normalisation between the two filters;
- AdaFace's, with one (Kim et al. 2022, arXiv 2204.00964);
- the same of three filters, 1x1, 3x3 and 1x1, which AdaFace's 152 and 200 layers have.

Each may end in squeeze and excitation (Hu et al. 2018, arXiv 1709.01507). They differ from ``iresnet`` in the short
cut of a block that keeps its channels, which here is the input itself, each second pixel where the map halves.

``SETTINGS`` are LowKey's (Cherepanova et al. 2021, arXiv 2101.07922), which adds the mirrored chip's embedding. The
other two forms are taken for AdaFace's, which want BGR and no mirroring; there are networks of these forms, CVLface's
among them, that want RGB: import them with ``channel_order`` rgb.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from facetools.extractors.settings import Settings
from facetools.extractors.state_dicts import beneath, count_of, flat, load_exactly, shape_of, with_identity

SETTINGS = Settings((112, 112), "arcface-112", mirrored=True)

FORMS = {"plain": "NCPCN", "normalised": "NCNPCN", "bottleneck": "NcNPCNPcN"}
"""Layers of a block: N normalisation, C 3x3 and c 1x1 convolution, P PReLU. The last convolution has the stride."""


@dataclass(frozen=True, slots=True)
class Plan:
    """Size of a network, as its tensors show it.

    Attributes
    ----------
    form
        A key of ``FORMS``.
    stem
        Channels of the first filter.
    blocks
        Output channels of each block; where they change, and in the first block, the map halves.
    squeezed
        Channels inside each block's squeeze and excitation; None where there is none.
    places
        Height times width of the last map; 49 for 112x112 chips.
    dimensions
        Length of an embedding.
    """

    form: str
    stem: int
    blocks: Sequence[int]
    squeezed: Sequence[int | None]
    places: int = 49
    dimensions: int = 512


class _Squeeze(nn.Module):
    """Squeeze-and-excitation: scale each channel by a two-layer function of all channels' means."""

    def __init__(self, channels: int, inside: int) -> None:
        super().__init__()
        self.fc1 = nn.Conv2d(channels, inside, 1, bias=False)
        self.fc2 = nn.Conv2d(inside, channels, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        means = x.mean((2, 3), keepdim=True)
        out: Tensor = x * torch.sigmoid(self.fc2(torch.relu(self.fc1(means))))
        return out


def _layers(form: str, inputs: int, outputs: int, stride: int) -> Iterator[nn.Module]:
    """Build the layers of a block."""
    inside = outputs // 4 if "c" in form else outputs
    channels, last = inputs, max(form.rfind("c"), form.rfind("C"))
    for place, kind in enumerate(form):
        if kind in "Cc":
            after, side = outputs if place == last else inside, 3 if kind == "C" else 1
            step = stride if place == last else 1
            yield nn.Conv2d(channels, after, side, step, side // 2, bias=False)
            channels = after
        else:
            yield nn.BatchNorm2d(channels) if kind == "N" else nn.PReLU(channels)


class _Block(nn.Module):
    def __init__(self, form: str, inputs: int, outputs: int, stride: int, squeezed: int | None) -> None:
        super().__init__()
        self.res_layer = nn.Sequential(*_layers(form, inputs, outputs, stride))
        self.se = nn.Identity() if squeezed is None else _Squeeze(outputs, squeezed)
        self.stride = stride
        self.shortcut_layer: nn.Module | None = None
        if inputs != outputs:
            convolution = nn.Conv2d(inputs, outputs, 1, stride, bias=False)
            self.shortcut_layer = nn.Sequential(convolution, nn.BatchNorm2d(outputs))

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.se(self.res_layer(x))
        return y + (x[:, :, :: self.stride, :: self.stride] if self.shortcut_layer is None else self.shortcut_layer(x))


class IrSe(nn.Module):
    """A stem at full size, blocks, and one linear layer over the whole last map."""

    def __init__(self, plan: Plan) -> None:
        super().__init__()
        self.input_layer = nn.Sequential(
            nn.Conv2d(3, plan.stem, 3, padding=1, bias=False), nn.BatchNorm2d(plan.stem), nn.PReLU(plan.stem)
        )
        blocks, inputs = [], plan.stem
        for place, (outputs, squeezed) in enumerate(zip(plan.blocks, plan.squeezed, strict=True)):
            stride = 2 if place == 0 or outputs != inputs else 1
            blocks.append(_Block(FORMS[plan.form], inputs, outputs, stride, squeezed))
            inputs = outputs
        self.body = nn.Sequential(*blocks)
        # Dropout and the flattening, 1 and 2 in others' layout, hold no tensors.
        self.output_layer = nn.ModuleDict(
            {
                "0": nn.BatchNorm2d(inputs),
                "3": nn.Linear(inputs * plan.places, plan.dimensions),
                "4": nn.BatchNorm1d(plan.dimensions),
            }
        )

    def forward(self, x: Tensor) -> Tensor:
        """Embed prepared chips, float32 [B, 3, 112, 112]: float32 [B, dimensions], not normalised."""
        x = self.output_layer["0"](self.body(self.input_layer(x)))
        linear = self.output_layer["3"]
        assert isinstance(linear, nn.Linear)
        out: Tensor = self.output_layer["4"](linear(flat(x, linear)))
        return out


def read_plan(state: Mapping[str, Tensor]) -> Plan:
    """Read a network's plan from its tensors, under our names; ValueError names what is missing."""
    form = "plain"
    if "body.0.res_layer.8.weight" in state:
        form = "bottleneck"
    elif "body.0.res_layer.5.weight" in state:
        form = "normalised"
    last = len(FORMS[form]) - 1
    count = count_of(state, "body.")
    blocks = [shape_of(state, f"body.{block}.res_layer.{last}.weight", 1)[0] for block in range(count)]
    inside = [f"body.{block}.se.fc1.weight" for block in range(count)]
    squeezed = [shape_of(state, key, 4)[0] if key in state else None for key in inside]
    dimensions, inputs = shape_of(state, "output_layer.3.weight", 2)
    stem = shape_of(state, "input_layer.0.weight", 4)[0]
    return Plan(form, stem, blocks, squeezed, inputs // max(blocks[-1], 1), dimensions)


def settings_of(state: Mapping[str, Tensor], options: Mapping[str, Any]) -> Settings:  # noqa: ARG001
    """Return the usual settings of a network's form: LowKey's for the plain one, else AdaFace's."""
    plain = read_plan(state).form == "plain"
    return SETTINGS if plain else replace(SETTINGS, channel_order="bgr", mirrored=False)


def network(state: Mapping[str, Tensor], options: Mapping[str, Any]) -> nn.Module:  # noqa: ARG001
    """Build the network from its tensors; ValueError for tensors of another network."""
    plan = read_plan(state)
    with torch.device("meta"):
        net = IrSe(plan)
    return load_exactly(net, state)


def canonical(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename face.evoLVe's, LowKey's and AdaFace's tensors to our names.

    AdaFace's last normalisation has neither scale nor shift: 1 and 0 are added. The margin's ``head`` is dropped.
    """
    named = {
        # ``res_layer.5`` with face.evoLVe, ``res_layer.se_block`` with AdaFace.
        re.sub(r"^(body\.\d+\.)res_layer\.\w+\.(fc[12]\.)", r"\1se.\2", key): value
        for key, value in beneath(state, "input_layer.0.weight").items()
        if not key.startswith("head.")
    }
    return with_identity(named, "output_layer.4")
