"""Extractors: networks that turn an aligned face chip into an embedding. One file an architecture."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from _toolio.errors import UsageError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import torch

DEFAULT = "dlib-resnet"

NAMES = (DEFAULT,)
"""What ``open_extractor`` knows."""


def check_name(name: str) -> str:
    """Refuse a name that no extractor has, before anything heavy is imported."""
    if name not in NAMES:
        raise UsageError(f"--extractor {name}: not known; choose from {', '.join(NAMES)}")
    return name


@dataclass(frozen=True, slots=True)
class Extractor:
    """An extractor that is ready to use.

    Attributes
    ----------
    name
        What ``--extractor`` calls it.
    network
        float32 [B, 3, size, size] chips, RGB in [0, 1] -> float32 [B, dimensions]; frozen, differentiable
        with respect to the chips.
    size
        Side of a chip, pixels.
    template
        [5, 2], where the landmarks belong in a chip, pixels.
    alignment
        Name of the template.
    dimensions
        Length of an embedding.
    distance
        ``euclidean`` or ``cosine``: what its embeddings are compared with.
    sha256
        Of the file that the weights were read from.
    """

    name: str
    network: torch.nn.Module
    size: int
    template: npt.NDArray[np.float64]
    alignment: str
    dimensions: int
    distance: str
    sha256: str

    @property
    def device(self) -> torch.device:
        """The device that the weights are on."""
        weights: torch.Tensor = next(iter(self.network.state_dict().values()))
        return weights.device


def open_extractor(name: str, device: torch.device) -> Extractor:
    """Open an extractor by name.

    Parameters
    ----------
    name
        One of ``NAMES``.
    device
        Where it computes.

    Raises
    ------
    UsageError
        No extractor has this name.
    ToolError
        Its weights are missing or changed.
    """
    check_name(name)
    from facetools.extractors import dlib_resnet

    return dlib_resnet.open_default(device)
