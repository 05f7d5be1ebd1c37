"""Functions shared by attacks: seeded noise, grey photos, Fawkes's change of variable, Adadelta."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

_TANH_SCALE = 2 - 1e-6
_WORD = 0xFFFFFFFF


class Grey:
    """Keep photos with three equal channels grey: a change of one channel is made in all.

    Parameters
    ----------
    photos
        float [B, 3, H, W].
    """

    def __init__(self, photos: Tensor) -> None:
        self._grey = (photos == photos[:, :1]).flatten(1).all(1)[:, None, None, None]
        self._any = bool(self._grey.any())

    def slope(self, slope: Tensor) -> Tensor:
        """Replace the gradient of a grey photo by its sum over channels, [B, 3, H, W]."""
        return torch.where(self._grey, slope.sum(1, keepdim=True), slope) if self._any else slope

    def level(self, values: Tensor) -> Tensor:
        """Copy a grey photo's first channel into the others, [B, 3, H, W]."""
        return torch.where(self._grey, values[:, :1], values) if self._any else values


def noise_like(photos: Tensor, seeds: Sequence[int]) -> Tensor:
    """Draw uniform noise in [-1, 1), float [B, C, H, W], one seed a photo.

    A value depends on its photo's seed and its place alone: neither on the device nor on the padding that a
    batch gives to smaller photos.
    """
    _, channels, height, width = photos.shape
    drawn = []
    for seed in seeds:
        state = _mix(_mix(torch.tensor(seed & _WORD)) ^ (seed >> 32 & _WORD))
        for side in (channels, height, width):
            state = _mix(state[..., None] ^ torch.arange(side))
        drawn.append(state)
    bits = torch.stack(drawn) if drawn else torch.zeros(photos.shape, dtype=torch.int64)
    return ((bits >> 8).float() * 2.0**-23 - 1).to(photos)


def _mix(words: Tensor) -> Tensor:
    """Mix 32-bit words, held in int64, so that each bit depends on all (a xorshift-multiply hash)."""
    words = ((words ^ (words >> 16)) * 0x7FEB352D) & _WORD
    words = ((words ^ (words >> 15)) * 0x846CA68B) & _WORD
    return words ^ (words >> 16)


class TanhSpace:
    """Fawkes's change of variable: x' = tanh(m + arctanh((x - 0.5) s)) / s + 0.5 with s = 2 - 1e-6.

    Whatever the modifier m, x' is in [0, 1]. Black and white move hardly at all.

    Parameters
    ----------
    clean
        x, float32 [B, 3, H, W] in [0, 1].
    """

    def __init__(self, clean: Tensor) -> None:
        # In float32, 1 would come so near to infinity that its last bits are lost.
        self._start = torch.atanh((clean.cpu().double() - 0.5) * _TANH_SCALE).to(clean)

    def __call__(self, modifier: Tensor) -> Tensor:
        """Return x' for a modifier of the same shape."""
        return (torch.tanh(modifier + self._start) / _TANH_SCALE + 0.5).clamp(0, 1)


class Adadelta:
    """Adadelta (Zeiler 2012), element by element.

    TensorFlow 1, Keras and PyTorch agree on the form and differ in the constants alone.

    Parameters
    ----------
    like
        A tensor of the variable's shape, dtype and device.
    epsilon
        1e-8 in TensorFlow 1, 1e-7 in Keras.
    decay
        Of both averages: 0.95 in TensorFlow 1 and Keras.
    """

    def __init__(self, like: Tensor, *, epsilon: float, decay: float = 0.95) -> None:
        self._slopes, self._changes = torch.zeros_like(like), torch.zeros_like(like)
        self._epsilon, self._decay = epsilon, decay

    def change(self, slope: Tensor) -> Tensor:
        """Return the step for a gradient, to be multiplied by the learning rate and subtracted."""
        decay = self._decay
        self._slopes = self._slopes * decay + slope * slope * (1 - decay)
        change = slope * ((self._changes + self._epsilon).sqrt() / (self._slopes + self._epsilon).sqrt())
        self._changes = self._changes * decay + change * change * (1 - decay)
        return change


def each(values: Tensor) -> Tensor:
    """Shape [B] so that it multiplies or selects photos, [B, 1, 1, 1]."""
    return values[:, None, None, None]
