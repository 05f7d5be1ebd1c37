"""Names of the files that a training with folds makes: checkpoints of its parts, and detectors that are kept."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from _toolio.errors import ToolError, param

LONGEST = 200
"""Bytes of a file's name; file systems take 255, and a file that is being written has a longer one."""


def fold_checkpoint(checkpoint: Path, number: int) -> Path:
    """Return where the checkpoint of a fold that is done is kept, of folds numbered from 1."""
    return checkpoint.with_name(f"{checkpoint.name}.fold-{number}")


def fold_checkpoints(checkpoint: Path) -> list[Path]:
    """Return those that exist."""
    start = f"{checkpoint.name}.fold-"
    if not checkpoint.parent.is_dir():
        return []
    return sorted(
        path
        for path in checkpoint.parent.iterdir()
        if path.name.startswith(start) and path.name.removeprefix(start).isdecimal()
    )


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
