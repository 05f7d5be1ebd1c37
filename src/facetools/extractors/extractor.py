"""The extractor: a network with its settings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from facetools.extractors.settings import Settings

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import torch


@dataclass(frozen=True, slots=True)
class Extractor:
    """A face recognition network with its settings, ready to embed.

    Attributes
    ----------
    name
        Its name in records: a built-in name, or the file's name without its ending.
    architecture
        Name of the architecture.
    network
        float32 [B, 3, height, width] chips, RGB in [0, 1] -> float32 [B, dimensions]; frozen, differentiable
        with respect to the chips. Preparation and normalisation are part of it.
    settings
        How chips are cut and compared.
    dimensions
        Length of an embedding.
    sha256
        Of the file of the weights.
    options
        What its architecture needs besides the tensors.
    people
        People that it was trained on, where its file names them.
    """

    name: str
    architecture: str
    network: torch.nn.Module
    settings: Settings
    dimensions: int
    sha256: str
    options: Mapping[str, Any] = field(default_factory=dict)
    people: tuple[str, ...] = ()

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of a chip, pixels."""
        return self.settings.input_size

    @property
    def alignment(self) -> str:
        """Alignment of its chips, one of ``facetools.faces.templates.ALIGNMENTS``."""
        return self.settings.alignment

    @property
    def distance(self) -> str:
        """``cosine`` or ``euclidean``."""
        return self.settings.distance

    @property
    def template(self) -> npt.NDArray[np.float64] | None:
        """Template of the landmarks in a chip, float64 [5, 2], x and y in pixels; None where alignment has none."""
        from facetools.faces.alignment import template_of

        return template_of(self.alignment, self.size)

    @property
    def device(self) -> torch.device:
        """The device of the weights."""
        weights: torch.Tensor = next(iter(self.network.state_dict().values()))
        return weights.device
