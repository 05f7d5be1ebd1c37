"""Differentiable view of face regions passed to attacks: faded edges, random views, alignment, embedding, distances."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from facetools.cloaking.goals.stopping import FaceGoal, Stopping
from facetools.cloaking.regions import Region, fade_mask
from facetools.extractors.extractor import Extractor
from facetools.faces.alignment import ChipCutter, Points
from facetools.perceptual.blur import smooth
from facetools.perceptual.distance import Distance, DistanceTo
from facetools.perceptual.ssim import Reference
from facetools.transforms.differentiable import RandomViews


class _BatchCutter:
    """Cut one chip out of each of B photos that are padded to one size."""

    def __init__(
        self,
        matrices: Sequence[Points],
        size: tuple[int, int],
        sizes: Sequence[tuple[int, int]],
        padded: tuple[int, int],
        device: torch.device,
    ) -> None:
        self._cutters = [
            ChipCutter(matrix, size, padded, device, inside=own) for matrix, own in zip(matrices, sizes, strict=True)
        ]

    def __call__(self, photos: Tensor) -> Tensor:
        if len(self._cutters) == 1:
            return self._cutters[0](photos)
        parts = [cut(photos[number :: len(self._cutters)]) for number, cut in enumerate(self._cutters)]
        return torch.stack(parts, 1).flatten(0, 1)


class RegionView:
    """The ``View`` of ``facetools.attacks``, and its ``MaskView``, on regions of photos.

    Parameters
    ----------
    extractors
        The ensemble.
    regions, clean
        B regions, and what ``cut_out`` returned for each.
    distance
        The perceptual distance.
    seeds
        One a region, for the random views.
    views
        Names of random views; none: ``features`` is ``embed``.
    targets
        For each extractor [B, K, D].
    mask_matrices
        For each region [2, 3], pixels of a person's mask to the attack's pixels.
    goals
        For each region what it must reach; none: ``enough`` is never true.
    together
        All of them must have reached it at once, as those that share a mask.

    Attributes
    ----------
    reduced
        For each region whether its face is larger than its chip.
    stopping
        Where the faces have stopped; None without goals.
    """

    def __init__(
        self,
        extractors: Sequence[Extractor],
        regions: Sequence[Region],
        clean: Sequence[Tensor],
        *,
        distance: Distance,
        seeds: Sequence[int],
        views: Sequence[str] = (),
        targets: Sequence[Tensor] = (),
        mask_matrices: Sequence[Points] = (),
        goals: Sequence[FaceGoal] = (),
        together: bool = False,
    ) -> None:
        device = extractors[0].device
        self._sizes = [region.work_size for region in regions]
        self.padded_size = (max(h for h, _ in self._sizes), max(w for _, w in self._sizes))
        self.clean = torch.cat([self._pad(each) for each in clean])  # [B, 3, H, W]
        self._fade = torch.cat([self._pad(fade_mask(region, device)) for region in regions])  # [B, 1, H, W]
        self._networks = [extractor.network for extractor in extractors]
        self._cutters = [
            _BatchCutter([r.matrices[n] for r in regions], e.size, self._sizes, self.padded_size, device)
            for n, e in enumerate(extractors)
        ]
        self.targets = list(targets)
        self.reduced = [region.scale > 1 for region in regions]
        self._views = RandomViews(views, seeds, self._given_sizes) if views else None
        self._mask_matrices = mask_matrices
        self._distance = distance
        self.stopping = Stopping(self.embed, self.clean, goals) if goals else None
        self._together = together

    def _pad(self, part: Tensor) -> Tensor:
        height, width = self.padded_size
        return F.pad(part, (0, width - part.shape[3], 0, height - part.shape[2]))

    @property
    def _given_sizes(self) -> list[tuple[int, int]] | None:
        return None if all(size == self.padded_size for size in self._sizes) else self._sizes

    # Computed when first used: an attack that bounds the change by pixels uses none of them.
    @cached_property
    def _whole(self) -> DistanceTo:
        return self._distance.to(self.clean, self._given_sizes)

    @cached_property
    def _chips(self) -> DistanceTo:
        return self._distance.to(self._cutters[0](self.clean))

    @cached_property
    def _dssim_to(self) -> Reference:
        return Reference(self.clean, self._given_sizes)

    def faded(self, photos: Tensor) -> Tensor:
        """Fade the change out towards the region's edges, as it would be saved, [m * B, 3, H, W]."""
        clean, fade = self._repeat(self.clean, photos), self._repeat(self._fade, photos)
        return torch.lerp(clean, photos, fade)

    @staticmethod
    def _repeat(each: Tensor, photos: Tensor) -> Tensor:
        times = len(photos) // len(each)
        return each if times == 1 else each.repeat(times, 1, 1, 1)

    def embed(self, photos: Tensor) -> list[Tensor]:
        """Align and embed: float32 [m * B, 3, H, W] in [0, 1] -> for each extractor float32 [m * B, D]."""
        return self._embed(self.faded(photos))

    def features(self, photos: Tensor) -> list[Tensor]:
        """Embed as ``embed`` does, through random views if there are any."""
        shown = self.faded(photos)
        return self._embed(shown if self._views is None else self._views(shown))

    def _embed(self, shown: Tensor) -> list[Tensor]:
        return [network(cut(shown)) for network, cut in zip(self._networks, self._cutters, strict=True)]

    def smooth(self, photos: Tensor, size: int, sigma: float) -> Tensor:
        """Blur each region within its own edges, [m * B, 3, H, W]: padding must not leak in."""
        sizes = self._given_sizes
        if sizes is None:
            return smooth(photos, size, sigma)
        blurred = []
        for number, photo in enumerate(photos):
            height, width = sizes[number % len(sizes)]
            blurred.append(self._pad(smooth(photo[None, :, :height, :width], size, sigma)))
        return torch.cat(blurred)

    def perceptual(self, photos: Tensor) -> Tensor:
        """Return the mean perceptual distance of the regions and of the first extractor's chips, float32 [m * B]."""
        shown = self.faded(photos)
        return (self._whole(shown) + self._chips(self._cutters[0](shown))) / 2

    def dssim(self, photos: Tensor) -> Tensor:
        """Return (1 - SSIM) / 2 of the regions, 0 to 1, float32 [m * B]."""
        return self._dssim_to.dssim(self.faded(photos))

    def enough(self, cloaked: Tensor) -> bool:
        """Test whether all regions, [B, 3, H, W], have reached their goals; see ``Stopping``."""
        if self.stopping is None:
            return False
        return self.stopping.all_reached(cloaked) if self._together else self.stopping.enough(cloaked)

    def lay(self, mask: Tensor | Sequence[Tensor]) -> Tensor:
        """Add a person's mask, float32 [3, S, S], or one for each region: [B, 3, H, W] in [0, 1].

        On a grey region the mean of the mask's channels counts, so that it stays grey.
        """
        device, masks = self.clean.device, [mask] * len(self.clean) if isinstance(mask, Tensor) else mask
        laid = [
            _spread(each.to(device), matrix, self.padded_size)
            for each, matrix in zip(masks, self._mask_matrices, strict=True)
        ]
        change = torch.cat(laid)
        grey = (self.clean == self.clean[:, :1]).flatten(1).all(1)[:, None, None, None]
        change = torch.where(grey, change.mean(1, keepdim=True), change)
        return (self.clean + change).clamp(0, 1)


def _spread(mask: Tensor, matrix: Points, size: tuple[int, int]) -> Tensor:
    """Sample a mask, which is 0 beyond its edges, at every pixel of a region: [1, 3, H, W]."""
    linear = torch.from_numpy(matrix[:, :2].copy()).inverse()
    y, x = torch.meshgrid(*(torch.arange(length, dtype=torch.float64) for length in size), indexing="ij")
    spot = (torch.stack([x, y], -1) - torch.from_numpy(matrix[:, 2].copy())) @ linear.T
    grid = ((2 * spot + 1) / mask.shape[-1] - 1)[None].to(mask)
    return F.grid_sample(mask[None], grid, mode="bilinear", padding_mode="zeros", align_corners=False)
