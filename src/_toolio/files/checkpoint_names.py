"""Where a training keeps its checkpoint, and those of its folds."""

from __future__ import annotations

from pathlib import Path


def checkpoint_beside(out: Path | str) -> Path:
    """Return the checkpoint of a training that writes ``out``."""
    return Path(f"{out}.checkpoint")


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
