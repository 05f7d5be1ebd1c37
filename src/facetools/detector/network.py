"""The detector's network: convolutions on high-pass residuals of a face at three scales; and its loss."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

GAINS, CLIP = (32.0, 256.0), 3.0
"""Residuals are multiplied and clipped, as in steganalysis: texture stays, and the face's edges do not. The ranges left
are of 24 grey levels, where strong cloaks lie, and of 3, where faint ones do."""

CHANNELS = 3 * (len(GAINS) + 1)
"""Of an image's residuals."""

SEEN = math.log(9)
"""Logit of a probability of nine tenths."""

LEAST_NOISE = 1 / 1024
"""Noise level of a photo that is flat, a quarter of a grey level."""


_CANVAS_STEP = 16
"""Sides of the maps that a fused network computes on are multiples of it, and of its stride of 8.

Faces have all sizes, and oneDNN generates code for each size of a convolution, which takes time, and the memory of a
long run grows with it.
"""

Size = tuple[int, int]
"""Height and width."""


class Block(nn.Sequential):
    """A 3x3 convolution, batch normalisation, ReLU."""

    def __init__(self, inputs: int, outputs: int, stride: int = 1) -> None:
        super().__init__(
            nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=False),
            nn.BatchNorm2d(outputs),
            nn.ReLU(inplace=True),
        )

    def within(self, maps: Tensor, size: Size) -> tuple[Tensor, Size]:
        """Apply it to what lies in the upper left ``size`` of maps that are zero beyond; return the same of its own.

        Zeros are what a convolution pads maps of that size with: each value is what it would be without the rest.
        """
        convolution = self[0]
        assert isinstance(convolution, nn.Conv2d)
        height, width = (-(-side // convolution.stride[0]) for side in size)
        maps = self(maps)
        if (height, width) != maps.shape[2:]:
            maps[..., height:, :] = 0
            maps[..., width:] = 0
        return maps, (height, width)

    def fuse(self) -> None:
        """Fold the normalisation into the convolution, for inference only: two passes over the map fewer."""
        convolution, normalisation = self[0], self[1]
        assert isinstance(convolution, nn.Conv2d)
        assert isinstance(normalisation, nn.BatchNorm2d)
        self[0] = fuse_conv_bn_eval(convolution, normalisation)
        self[1] = nn.Identity()


def residuals_of(faces: Tensor) -> Tensor:
    """Return high-pass residuals, the image less its 3x3 binomial blur, times each gain, clipped.

    The last is divided by its root mean square instead, which is an estimate of the photo's own noise level: what
    stands out from it looks alike in a grainy photo and in a smooth one.

    Parameters
    ----------
    faces
        float32 [B, 3, H, W] in [0, 1].

    Returns
    -------
    float32 [B, CHANNELS, H, W]
        In -CLIP to CLIP; edges are padded by replication.
    """
    padded = F.pad(faces, (1, 1, 1, 1), mode="replicate")
    rows = padded[..., :-2, :] + padded[..., 2:, :] + 2 * padded[..., 1:-1, :]
    residual = faces - (rows[..., :-2] + rows[..., 2:] + 2 * rows[..., 1:-1]) / 16
    level = (residual.square().mean((1, 2, 3), keepdim=True) + LEAST_NOISE**2).sqrt()
    return torch.cat([(residual * gain).clamp(-CLIP, CLIP) for gain in (*GAINS, 1 / level)], 1)


class ResidualNet(nn.Module):
    """A small convolutional network on the high-pass residuals of a face at full, half and quarter resolution.

    A residual is the image less its 3x3 binomial blur, scaled by each of two gains and by the photo's own noise level,
    and clipped (Fridrich and Kodovsky 2012). The first scale shows a cloak as it was made; the coarser ones show what
    JPEG or scaling has left of it. Each joins where the map has its resolution. Pooling over the whole map (mean and
    standard deviation) takes faces of any size.

    Parameters
    ----------
    attacks
        Number of attacks that it classifies.

    Attributes
    ----------
    canvas_step
        What the sides of maps are filled up to multiples of; 1 until it is fused.
    """

    def __init__(self, attacks: int) -> None:
        super().__init__()
        self.full = nn.Sequential(Block(CHANNELS, 16), Block(16, 24, 2))
        self.at_half, self.at_quarter = Block(CHANNELS, 12), Block(CHANNELS, 12)
        self.middle = Block(24 + 12, 48, 2)
        self.deep = nn.Sequential(Block(48 + 12, 64), Block(64, 96, 2), Block(96, 128))
        self.hidden, self.head = nn.Linear(2 * 128, 64), nn.Linear(64, 1 + attacks)
        self.power = nn.Linear(2 * 128, 1)
        self.canvas_step = 1

    def forward(self, faces: Tensor) -> Tensor:
        """Return the logits of faces.

        Parameters
        ----------
        faces
            float32 [B, 3, H, W] in [0, 1], RGB.

        Returns
        -------
        float32 [B, 2 + attacks]
            The logit of cloaked; that of power, the probability that a cloak would be seen in such a face, which
            trains nothing else; and one for each attack, to be compared with each other.
        """
        faces = faces.contiguous()  # with three channels that is the faster layout
        half = F.avg_pool2d(faces, 2, ceil_mode=True)
        quarter = F.avg_pool2d(half, 2, ceil_mode=True)
        step = self.canvas_step
        maps, size = _through(self.full, *_residuals_on_canvas(faces, step))
        at_half, _ = _through([self.at_half], *_residuals_on_canvas(half, step // 2))
        maps, size = _through([self.middle], torch.cat([maps, at_half], 1), size)
        at_quarter, _ = _through([self.at_quarter], *_residuals_on_canvas(quarter, step // 4))
        maps, size = _through(self.deep, torch.cat([maps, at_quarter], 1), size)
        if size != maps.shape[2:]:
            maps = maps[..., : size[0], : size[1]].contiguous(memory_format=torch.channels_last)
        maps = maps.float()  # the moments of a map in bfloat16 would be as coarse as it is
        mean = maps.mean((2, 3))
        # By moments: torch's own variance takes ten times as long. The root of zero has no slope: a map that is flat
        # would train to NaN.
        spread = ((maps.square().mean((2, 3)) - mean.square()).clamp_min(0) + 1e-5).sqrt()
        pooled = torch.cat([mean, spread], 1)
        logits: Tensor = self.head(F.relu(self.hidden(pooled)))
        return torch.cat([logits[:, :1], self.power(pooled.detach()), logits[:, 1:]], 1)

    def fuse(self) -> ResidualNet:
        """Prepare the network for inference; it cannot be trained any more."""
        self.eval().requires_grad_(False)
        self.canvas_step = _CANVAS_STEP
        for block in list(self.modules()):
            if isinstance(block, Block):
                block.fuse()
        return self


def _residuals_on_canvas(faces: Tensor, step: int) -> tuple[Tensor, Size]:
    """Return residuals with zeros to the right and below, sides multiples of ``step``; and their size without these."""
    height, width = faces.shape[2:]
    residuals = residuals_of(faces)
    if step > 1:
        residuals = F.pad(residuals, (0, -width % step, 0, -height % step))
    return residuals, (height, width)


def _through(blocks: Iterable[nn.Module], maps: Tensor, size: Size) -> tuple[Tensor, Size]:
    for block in blocks:
        assert isinstance(block, Block)
        maps, size = block.within(maps, size)
    return maps, size


class Counts(NamedTuple):
    """How many faces each of the four means of `loss_of` is over."""

    faces: int
    cloaked: int
    pairs: int
    clean_of_pairs: int

    @classmethod
    def of(cls, attacks: Sequence[int], twins: Sequence[int]) -> Counts:
        """Count faces as `loss_of` takes them."""
        cloaked = [attack >= 0 for attack in attacks]
        paired = [each for each, twin in zip(cloaked, twins, strict=True) if twin >= 0]
        return cls(len(cloaked), sum(cloaked), sum(paired), len(paired) - sum(paired))


def loss_of(
    logits: Tensor,
    attacks: Sequence[int],
    twins: Sequence[int],
    attack_weight: float = 0.2,
    *,
    counts: Counts | None = None,
) -> Tensor:
    """Return the training loss, a sum of four means.

    They are the cross-entropy of cloaked or not; that of the attack over the cloaked faces; over pairs softplus of the
    clean face's logit less the cloaked one's; and the cross-entropy of power over their clean faces.

    Parameters
    ----------
    logits
        The network's output, [B, 2 + attacks].
    attacks
        Number of each face's attack, -1 for a clean one.
    twins
        For each face the place of the cloaked face of its pair in the batch, which is to be seen with a probability of
        nine tenths or more for power to be one; -1 where it is in no pair. The clean face of a pair comes right before
        the cloaked one.
    attack_weight
        Weight of the second part, and of the last.
    counts
        Of the whole step, where these faces are a part of it: the sum of the parts' losses is the step's.
    """
    which, twin = (torch.tensor(each, device=logits.device) for each in (attacks, twins))
    cloaked, paired = which >= 0, twin >= 0
    counts = counts or Counts.of(attacks, twins)
    loss = F.binary_cross_entropy_with_logits(logits[:, 0], cloaked.float(), reduction="sum") / counts.faces
    if attack_weight and bool(cloaked.any()):
        attack = F.cross_entropy(logits[cloaked, 2:], which[cloaked], reduction="sum")
        loss = loss + attack_weight * attack / counts.cloaked
    if bool(paired.any()):
        # What a clean face and its cloaked copy differ in is the cloak alone: the order of their logits is easier to
        # learn than their place, and leads to it.
        pairs = cloaked & paired
        loss = loss + F.softplus(logits[pairs.roll(-1), 0] - logits[pairs, 0]).sum() / counts.pairs
        # Of clean faces alone: a cloaked one shows whether its cloak is seen.
        asked = paired & ~cloaked
        seen = (logits[twin[asked], 0].detach() > SEEN).float()
        power = F.binary_cross_entropy_with_logits(logits[asked, 1], seen, reduction="sum")
        loss = loss + attack_weight * power / counts.clean_of_pairs
    return loss
