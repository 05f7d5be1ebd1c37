"""dlib's serialisation, value by value."""

from __future__ import annotations

import math

import numpy as np
import pytest

from facetools.extractors.architectures.dlib_resnet import packaged_path
from facetools.extractors.convert.dlib_dat import _Reader, read_layers


def written(value: int) -> bytes:
    """An integer as dlib writes it: a control byte, then the magnitude, little-endian."""
    size = max(1, (abs(value).bit_length() + 7) // 8)
    return bytes([size | (0x80 if value < 0 else 0)]) + abs(value).to_bytes(size, "little")


@pytest.mark.parametrize("value", [0, 1, -1, 255, 256, -70000, 2**63 - 1])
def test_integers(value: int) -> None:
    assert _Reader(written(value)).integer() == value


@pytest.mark.parametrize("value", [0.0, 0.5, -122.782, 1e-30, 3e8])
def test_floats_are_mantissas_and_exponents(value: float) -> None:
    fraction, exponent = math.frexp(value)
    data = written(int(fraction * 2**53)) + written(exponent - 53)
    assert _Reader(data).floats(1) == (value,)


def test_tensors_are_flat_float32() -> None:
    values = np.arange(6, dtype="<f4")
    data = written(2) + b"".join(map(written, (1, 2, 3, 1))) + values.tobytes()
    assert _Reader(data).tensor().tolist() == values.tolist()
    with pytest.raises(ValueError, match="cut short"):
        _Reader(data[:-1]).tensor()
    with pytest.raises(ValueError, match="negative size"):
        _Reader(written(2) + b"".join(map(written, (1, -2, 3, 1)))).tensor()


@pytest.mark.parametrize("data", [b"\x00", b"\x09" + bytes(9), b"\x41\x01"])
def test_control_bytes_that_are_none(data: bytes) -> None:
    with pytest.raises(ValueError, match="no integer at byte 0"):
        _Reader(data).integer()


def test_the_installed_network_has_29_convolutions_and_chips_of_one_size() -> None:
    data = packaged_path().read_bytes()
    layers = read_layers(data, 150)
    assert [layers[0].name, layers[-1].name] == ["input", "fc_2"]
    assert sum(layer.name == "con_4" for layer in layers) == 29
    assert layers[0].settings == pytest.approx((122.782, 117.001, 104.298))
    with pytest.raises(ValueError, match="its chips are not 112x112"):
        read_layers(data, 112)
