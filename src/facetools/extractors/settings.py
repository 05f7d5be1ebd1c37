"""Settings of an extractor: chips, input normalisation, output and distance."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

from facetools.faces.templates import ALIGNMENTS


@dataclass(frozen=True, slots=True)
class Settings:
    """Input preparation, output normalisation and distance of an extractor.

    Attributes
    ----------
    input_size
        Height and width of a chip, pixels.
    alignment
        One of ``facetools.faces.templates.ALIGNMENTS``.
    channel_order
        ``rgb`` or ``bgr``.
    mean, std
        Of channels in that order, in units of 0 to 255: the input is (value - mean) / std.
    normalisation
        ``l2``: embeddings are divided by their length; ``none``.
    distance
        ``cosine`` or ``euclidean``, between embeddings.
    mirrored
        The embedding of the mirrored chip is added before normalisation, as LowKey's extractors do.
    """

    input_size: tuple[int, int]
    alignment: str
    channel_order: str = "rgb"
    mean: tuple[float, float, float] = (127.5, 127.5, 127.5)
    std: tuple[float, float, float] = (127.5, 127.5, 127.5)
    normalisation: str = "l2"
    distance: str = "cosine"
    mirrored: bool = False

    @classmethod
    def read(cls, fields: Mapping[str, Any]) -> Settings:
        """Build settings from ``asdict`` through JSON; KeyError, TypeError or ValueError for anything else."""
        try:
            height, width = (int(side) for side in fields["input_size"])
            mean, std = (cast("tuple[float, float, float]", tuple(map(float, fields[key]))) for key in ("mean", "std"))
        except OverflowError as error:
            raise ValueError(f"sizes, mean or std: {error}") from None
        words = {key: str(fields[key]) for key in ("alignment", "channel_order", "normalisation", "distance")}
        settings = cls((height, width), mean=mean, std=std, mirrored=bool(fields["mirrored"]), **words)
        settings.check()
        return settings

    def check(self) -> None:
        """Raise ValueError that says what is wrong with unusable settings."""
        known = {
            "alignment": ALIGNMENTS,
            "channel_order": ("rgb", "bgr"),
            "normalisation": ("l2", "none"),
            "distance": ("cosine", "euclidean"),
        }
        for name, values in known.items():
            if (value := getattr(self, name)) not in values:
                raise ValueError(f"{name} {value!r} is none of {', '.join(values)}")
        if not all(16 <= side <= 1024 for side in self.input_size):
            raise ValueError(f"input_size {self.input_size} is not between 16 and 1024")
        numbers = [*self.mean, *self.std]
        if len(self.mean) != 3 or len(self.std) != 3 or not all(map(math.isfinite, numbers)) or min(self.std) <= 0:
            raise ValueError("mean and std are not three numbers each, std above 0")
