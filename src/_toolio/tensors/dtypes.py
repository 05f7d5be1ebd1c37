"""Dtypes of safetensors files: their sizes, and their values as numpy has them."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

# Format name -> the numpy dtype that holds its bytes. numpy has no bfloat16 and no 8-bit float.
STORAGE = {
    "F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2",
    "I64": "<i8", "I32": "<i4", "I16": "<i2", "I8": "|i1",
    "U64": "<u8", "U32": "<u4", "U16": "<u2", "U8": "|u1",
    "BOOL": "|b1", "F8_E4M3": "|u1", "F8_E5M2": "|u1", "F8_E8M0": "|u1",
}  # fmt: skip
_FOREIGN_TO_NUMPY = {"BF16", "F8_E4M3", "F8_E5M2", "F8_E8M0"}
FORMAT_NAMES: Mapping[str, str] = {code: name for name, code in STORAGE.items() if name not in _FOREIGN_TO_NUMPY}
"""numpy's little-endian type code to the format's dtype name."""

DTYPE_BYTES: Mapping[str, int] = {name: int(code[-1]) for name, code in STORAGE.items()}
"""Bytes of one value for each dtype name that can be read."""


def decode(raw: NDArray[Any], dtype: str) -> NDArray[Any]:
    """Return the values of `raw`, an array of the bytes of format dtype `dtype`.

    bfloat16 is the upper half of a float32 and becomes one, exactly; 8-bit floats become float32 by table.
    Everything else is returned as it is. Shape unchanged.
    """
    import numpy as np

    if dtype == "BF16":
        wide: NDArray[Any] = np.left_shift(raw, 16, dtype=np.uint32).view(np.float32)
        return wide
    if dtype in _FOREIGN_TO_NUMPY:
        looked_up: NDArray[Any] = _float8_table(dtype)[raw]
        return looked_up
    return raw


@cache
def _float8_table(dtype: str) -> NDArray[np.float32]:
    """Return the 256 values of an 8-bit float, shape (256,). arXiv 2209.05433, table 1.

    E4M3 has no infinity: only all-ones exponent and mantissa is NaN. E5M2 is laid out as IEEE 754 is. E8M0 is an
    exponent alone, 2^(code - 127), and NaN for 255 (OCP Microscaling Formats v1.0, section 5.4.1).
    """
    import numpy as np

    if dtype == "F8_E8M0":
        powers = np.ldexp(np.ones(256), np.arange(256) - 127)
        powers[255] = np.nan
        return powers.astype(np.float32)
    mantissa_bits, bias = (3, 7) if dtype == "F8_E4M3" else (2, 15)
    code = np.arange(128)
    exponent, mantissa = code >> mantissa_bits, code & ((1 << mantissa_bits) - 1)
    fraction = mantissa / (1 << mantissa_bits)
    half = np.ldexp(np.where(exponent == 0, fraction, 1 + fraction), np.maximum(exponent, 1) - bias)
    if dtype == "F8_E4M3":
        half[127] = np.nan
    else:
        half[124:] = [np.inf, np.nan, np.nan, np.nan]
    return np.concatenate([half, -half]).astype(np.float32)
