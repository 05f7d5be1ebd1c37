"""VGG-Face: the 16-layer VGG network that Parkhi et al. 2015 (Deep Face Recognition, BMVC) trained on faces.

The embedding is what follows the second of the three linear layers, ``fc7``, with its ReLU: 4096 numbers, none below
0, as deepface and most users have it. ``fc8``, the classifier of 2622 people, is dropped.

``SETTINGS`` fit the PyTorch conversions of the authors' MatConvNet file (``vgg_face_dag``), RGB. Those of their Caffe
and Torch files want BGR: import them with ``channel_order`` bgr and ``mean`` 93.594,104.7624,129.1863.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from facetools.extractors.settings import Settings
from facetools.extractors.state_dicts import flat, load_exactly, shape_of

SETTINGS = Settings((224, 224), "mtcnn-160", mean=(129.1863, 104.7624, 93.5940), std=(1.0, 1.0, 1.0))

# Channels of the filters, by stage; the map halves behind each stage. Simonyan and Zisserman 2015, configuration D.
_STAGES = ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512))
_NAMES = tuple(f"conv{stage}_{place}" for stage, widths in enumerate(_STAGES, 1) for place in range(1, len(widths) + 1))


class Vgg16Face(nn.Module):
    """Thirteen 3x3 convolutions in five stages, and two linear layers.

    Parameters
    ----------
    places
        Height times width of the last map: 49 for 224x224 chips, a thirty-second each way.
    hidden, dimensions
        Outputs of ``fc6`` and ``fc7``; 4096 both in the paper.
    """

    def __init__(self, places: int = 49, hidden: int = 4096, dimensions: int = 4096) -> None:
        super().__init__()
        channels = 3
        for name, width in zip(_NAMES, (width for widths in _STAGES for width in widths), strict=True):
            self.add_module(name, nn.Conv2d(channels, width, 3, padding=1))
            channels = width
        self.fc6 = nn.Linear(channels * places, hidden)
        self.fc7 = nn.Linear(hidden, dimensions)

    def forward(self, x: Tensor) -> Tensor:
        """Embed prepared chips, float32 [B, 3, 224, 224]: float32 [B, dimensions], at least 0, not normalised."""
        for stage, widths in enumerate(_STAGES, 1):
            for place in range(1, len(widths) + 1):
                x = F.relu(getattr(self, f"conv{stage}_{place}")(x))
            x = F.max_pool2d(x, 2)
        # Dropout, which belongs behind both, does nothing outside training.
        return F.relu(self.fc7(F.relu(self.fc6(flat(x, self.fc6)))))


def network(state: Mapping[str, Tensor], options: Mapping[str, Any]) -> nn.Module:  # noqa: ARG001
    """Build the network from its tensors; ValueError for tensors of another network."""
    hidden, inputs = shape_of(state, "fc6.weight", 2)
    dimensions, _ = shape_of(state, "fc7.weight", 2)
    with torch.device("meta"):
        net = Vgg16Face(inputs // _STAGES[-1][-1], hidden, dimensions)
    return load_exactly(net, state)


# Places of the layers in torchvision's ``features``, where ReLUs and poolings count too, and ``classifier``.
_TORCHVISION = dict(zip((0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28), _NAMES, strict=True))
_CLASSIFIER = {0: "fc6", 3: "fc7", 6: "fc8"}


def _name_of(key: str) -> str:
    """Return our name for a tensor of others: torchvision's, ``features.conv_1_1.weight``, ``fc.fc6.weight``."""
    if found := re.search(r"(?:^|\.)conv_?([1-5])_([1-3])\.(weight|bias)$", key):
        return f"conv{found[1]}_{found[2]}.{found[3]}"
    if found := re.search(r"(?:^|\.)(fc[678])\.(weight|bias)$", key):
        return f"{found[1]}.{found[2]}"
    if found := re.search(r"(?:^|\.)(features|classifier)\.(\d{1,3})\.(weight|bias)$", key):
        names = _TORCHVISION if found[1] == "features" else _CLASSIFIER
        return f"{names[int(found[2])]}.{found[3]}" if int(found[2]) in names else key
    return key


def canonical(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename other conversions' tensors to ours; drop ``fc8``, and flatten linear layers stored as convolutions."""
    named = {_name_of(key): value for key, value in state.items()}
    return {
        key: value.flatten(1) if key in ("fc6.weight", "fc7.weight") and value.ndim == 4 else value
        for key, value in named.items()
        if not key.startswith("fc8.")
    }
