"""The package onnx, imported where it is needed."""

from __future__ import annotations

from typing import Any

from _toolio.errors import ToolError


def import_onnx() -> Any:
    """Return the package ``onnx``.

    Raises
    ------
    ToolError
        It is not installed.
    """
    try:
        import onnx
    except ImportError as error:
        what = f"ONNX files need the package {error.name}"
        raise ToolError(f"{what}; try pip install 'epsilon-tools[onnx]'", kind="missing-package") from None
    return onnx
