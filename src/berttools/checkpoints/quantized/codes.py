"""Codes of fewer than eight bits: how they lie in bytes, and what they mean."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from _toolio.tensors.reader import FlatTensor, stored_bits

_MAGNITUDES = np.array([0, 0.5, 1, 1.5, 2, 3, 4, 6])
E2M1 = np.concatenate([_MAGNITUDES, -_MAGNITUDES])
"""The 16 values of a 4-bit float. OCP Microscaling Formats v1.0, section 5.3.3."""

_SIXTY_FOURTHS = np.concatenate([np.arange(8) / 8, *((1 + np.arange(8) / 8) * 2**power for power in range(3))])
E2M3 = np.concatenate([_SIXTY_FOURTHS, -_SIXTY_FOURTHS])
"""The 64 values of a 6-bit float with three bits of mantissa. OCP Microscaling Formats v1.0, section 5.3.2."""

AWQ_NIBBLES = (0, 4, 1, 5, 2, 6, 3, 7)
"""Which nibble of its 32-bit word holds each of AWQ's eight columns."""


class StoredBytes:
    """A file's tensor of any dtype as the bytes that the file holds."""

    def __init__(self, flat: FlatTensor, item: int) -> None:
        self._flat, self._item = flat, item

    def values(self, start: int, stop: int) -> NDArray[Any]:
        """Return bytes `start` to `stop`, uint8."""
        first = start // self._item
        held = stored_bits(self._flat, first, -(-stop // self._item)).view(np.uint8)
        return held[start - first * self._item : stop - first * self._item]

    def release(self, start: int, stop: int) -> None:
        """Release the memory of these bytes."""
        self._flat.release(start // self._item, -(-stop // self._item))


def unpack(packed: NDArray[np.uint8], bits: int) -> NDArray[np.uint8]:
    """Return the codes of `bits` bits, 1 to 8, that lie one after another from the lowest bit of the first byte on.

    32-bit words of a little-endian file that are filled from their lowest bit on are such bytes too.

    Parameters
    ----------
    packed
        Shape (..., n).

    Returns
    -------
    ndarray of uint8
        Shape (..., 8 n // bits).
    """
    if bits == 8:
        return packed
    if bits == 4:
        return np.stack([packed & 15, packed >> 4], axis=-1).reshape(*packed.shape[:-1], -1)
    single = np.unpackbits(packed, axis=-1, bitorder="little")
    codes = single[..., : single.shape[-1] // bits * bits].reshape(*packed.shape[:-1], -1, bits)
    weights = (1 << np.arange(bits)).astype(np.uint8)
    found: NDArray[np.uint8] = (codes * weights).sum(axis=-1, dtype=np.uint8)
    return found


def unpack_awq(words: NDArray[Any]) -> NDArray[np.uint8]:
    """Return AWQ's 4-bit codes, shape (rows, 8 n), of 32-bit words of shape (rows, n)."""
    shifts = 4 * np.array(AWQ_NIBBLES, np.uint32)
    codes = (words.view(np.uint32)[:, :, None] >> shifts) & 15
    return codes.astype(np.uint8).reshape(len(words), -1)
