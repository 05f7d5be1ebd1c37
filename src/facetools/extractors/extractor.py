"""An extractor that is ready to use."""

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
    """An extractor that is ready to use.

    Attributes
    ----------
    name
        What records call it: a built-in name, or the file's name without its ending.
    architecture
        The module that built it.
    network
        float32 [B, 3, height, width] chips, RGB in [0, 1] -> float32 [B, dimensions]; frozen, differentiable
        with respect to the chips. Preparation and normalisation are part of it.
    settings
        How chips are cut and compared.
    dimensions
        Length of an embedding.
    sha256
        Of the file that the weights were read from.
    options
        What its architecture needs to know besides the tensors.
    people
        Whose photos it was trained on, where its file says so.
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
        """How its chips are cut."""
        return self.settings.alignment

    @property
    def distance(self) -> str:
        """``cosine`` or ``euclidean``."""
        return self.settings.distance

    @property
    def template(self) -> npt.NDArray[np.float64] | None:
        """Where the landmarks belong in a chip, [5, 2], pixels; None where they play no part."""
        from facetools.faces.alignment import template_of

        return template_of(self.alignment, self.size)

    @property
    def device(self) -> torch.device:
        """The device that the weights are on."""
        weights: torch.Tensor = next(iter(self.network.state_dict().values()))
        return weights.device
