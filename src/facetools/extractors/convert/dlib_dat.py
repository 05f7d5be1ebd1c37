"""Parse dlib's serialisation of networks (``.dat``), as its dlib/serialize.h and dlib/dnn write it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Layer:
    """A layer as the file has it.

    Attributes
    ----------
    name
        What dlib calls its kind, such as ``con_4``.
    params
        float32 [n], its parameters in one run; the settings say the shape.
    settings
        Its whole-number settings in the file's order; of ``input`` the mean colour, in units of 0 to 255.
    """

    name: str
    params: NDArray[np.float32] = field(default_factory=lambda: np.empty(0, np.float32))
    settings: tuple[float, ...] = ()


def read_layers(data: bytes, side: int) -> list[Layer]:
    """Parse a metric-learning network in dlib's serialisation.

    Parameters
    ----------
    data
        The file.
    side
        Height and width of its input, pixels.

    Returns
    -------
    list of Layer
        From ``input`` to the embedding layer ``fc_2``.

    Raises
    ------
    ValueError
        The data end early, hold another network, or a number in them is not finite.
    """
    return _Reader(data).network(side)


class _Reader:
    """Reads dlib's serialisation from bytes; every method consumes what it returns. Raises ValueError."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.at = 0

    def network(self, side: int) -> list[Layer]:
        """Read all layers, from picture to embedding; see `read_layers`."""
        self.expect(1, "version")
        self.expect_string("loss_metric_2")
        self.floats(2)  # margin and threshold, of use in training only
        # The layers are nested, each in the one that follows it, and each starts with its version.
        start = self.at
        while self.integer() in (1, 2, 3):
            start = self.at
        self.at = start
        self.expect_string("input_rgb_image_sized")
        mean = self.floats(3)
        if (self.integer(), self.integer()) != (side, side):
            raise ValueError(f"its chips are not {side}x{side}")
        layers = [Layer("input", settings=mean), self.layer()]
        self.integer()  # how many images the input makes of one; only the first layer writes it
        while layers[-1].name != "fc_2":
            layers.append(self.layer())
        return layers

    def layer(self) -> Layer:
        """Read one layer and skip what training left behind it: three flags and three tensors."""
        name = self.string()
        if name not in _LAYOUTS:
            raise ValueError(f"unknown layer {name!r}")
        params, settings = np.empty(0, np.float32), []
        for part in _LAYOUTS[name]:
            if part == "tensor":
                params = self.tensor()
            elif part == "alias":
                self.alias()
            elif part == "float":
                self.floats(1)
            else:
                settings.append(self.integer())
        self.take(3)
        for _ in range(3):
            self.tensor()
        return Layer(name, params, tuple(settings))

    def take(self, count: int) -> bytes:
        if count < 0 or self.at + count > len(self.data):
            raise ValueError("it is cut short")
        self.at += count
        return self.data[self.at - count : self.at]

    def integer(self) -> int:
        """Read a control byte (low four bits: how many follow; top bit: negative) and little-endian bytes."""
        control = self.take(1)[0]
        if not 1 <= control & 0x0F <= 8 or control & 0x70:
            raise ValueError(f"no integer at byte {self.at - 1}")
        value = int.from_bytes(self.take(control & 0x0F), "little")
        return -value if control & 0x80 else value

    def floats(self, count: int) -> tuple[float, ...]:
        """Read mantissas and exponents of 2; exponents of 32000 and above mean inf, -inf and nan."""
        pairs = [(self.integer(), self.integer()) for _ in range(count)]
        if any(abs(exponent) >= 32000 for _, exponent in pairs):
            raise ValueError("it holds a setting that is not finite")
        return tuple(math.ldexp(mantissa, exponent) for mantissa, exponent in pairs)

    def string(self) -> str:
        return self.take(self.integer()).decode("ascii", "backslashreplace")

    def tensor(self) -> NDArray[np.float32]:
        """Read version 2, four sizes, then little-endian float32, flat: the settings say the shape."""
        self.expect(2, "tensor version")
        count = math.prod(self.sizes())
        values = np.frombuffer(self.take(4 * count), dtype="<f4").astype(np.float32)
        if not np.isfinite(values).all():
            raise ValueError("it holds weights that are not finite")
        return values

    def alias(self) -> None:
        """Skip a view of a tensor, version 1 and four sizes, which follow from the settings."""
        self.expect(1, "view version")
        self.sizes()

    def sizes(self) -> list[int]:
        sizes = [self.integer() for _ in range(4)]
        if min(sizes) < 0:
            raise ValueError("it holds a negative size")
        return sizes

    def expect(self, value: int, what: str) -> None:
        if (found := self.integer()) != value:
            raise ValueError(f"{what} {found}, not {value}")

    def expect_string(self, value: str) -> None:
        if (found := self.string()) != value:
            raise ValueError(f"{found[:40]!r} where {value!r} belongs")


# What each kind of layer writes between its name and the flags: parameters, views of them, settings, and
# learning rates (floats, skipped). The pools' and convolutions' settings end in stride y, x and padding y, x.
_LAYOUTS: Final[Mapping[str, tuple[str, ...]]] = {
    "con_4": ("tensor", *("integer",) * 7, "alias", "alias", *("float",) * 4),
    "affine_": ("tensor", "alias", "alias", "integer"),
    "relu_": (),
    "max_pool_2": ("integer",) * 6,
    "avg_pool_2": ("integer",) * 6,
    "add_prev_": (),
    "fc_2": ("integer", "integer", "tensor", "alias", "alias", "integer", *("float",) * 4),
}
