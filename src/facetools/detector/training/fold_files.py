"""Names of the detectors that a training with folds keeps."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from _toolio.errors import ToolError, param

LONGEST = 200
"""Bytes of a file's name; file systems take 255, and a file that is being written has a longer one."""


def detector_without(out: Path, left_out: Sequence[str]) -> Path:
    """Return the file of a fold's detector, ``NAME.without-SOURCE+SOURCE.safetensors``.

    Parameters
    ----------
    out
        That of the detector which is trained on all sources.
    left_out
        The fold's sources.

    Raises
    ------
    ToolError
        The name is too long for a file.
    """
    name = f"{out.stem}.without-{'+'.join(left_out)}{out.suffix}"
    if len(os.fsencode(name)) > LONGEST:
        raise ToolError(
            f"{param('keep_folds')}: the name of a detector without {len(left_out)} sources, {left_out[0]} and others, "
            "is too long for a file; give fewer sources"
        )
    return out.with_name(name)
