"""How far a run came that is interrupted, and how to go on."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from _toolio.errors import param, spelled
from _toolio.files.checkpoint_names import checkpoint_beside, fold_checkpoints
from _toolio.progress import counting_kept
from _toolio.words import many


@contextmanager
def resumable(tool: str, out: Path | str, *, resume: bool) -> Iterator[None]:
    """Print how far the block came where it is interrupted, and something of it is kept, in one line.

    Parameters
    ----------
    tool
        What prints it.
    out
        What the block writes; a training keeps its checkpoint beside it, which says how far that is.
    resume
        The block goes on from a checkpoint that is there. Otherwise that is another run's.
    """
    checkpoint = checkpoint_beside(out)
    others = [] if resume else _states(checkpoint)
    with counting_kept() as kept:
        try:
            yield
        except (KeyboardInterrupt, SystemExit):
            if kept.done:
                _say(tool, f"{kept.done:,}" + ("" if kept.total is None else f" of {kept.total:,}"))
            elif _states(checkpoint) != others and (far := _trained(checkpoint)):
                _say(tool, far)
            raise


def _say(tool: str, far: str) -> None:
    if sys.stderr is not None:
        sys.stderr.write(spelled(f"{tool}: stopped after {far}; go on with {param('resume')}\n"))


def _states(checkpoint: Path) -> list[tuple[str, int, int]]:
    """Return what tells whether checkpoints have been written since."""
    with suppress(OSError):  # where it cannot be, the command says so itself
        found = [path for path in (checkpoint, *fold_checkpoints(checkpoint)) if path.exists()]
        return [(path.name, path.stat().st_mtime_ns, path.stat().st_ino) for path in found]
    return []


def _trained(checkpoint: Path) -> str:
    """Return how far a training came; "" where no checkpoint says so, or another process is to say it."""
    from _toolio.compute.checkpoints import how_far

    # Of the processes of one training, as of torchrun, the leading one speaks; their rank has been checked before.
    if (os.environ.get("RANK") or "0") != "0" or (far := how_far(checkpoint)) is None:
        return ""
    done, total, unit = far
    return f"{done:,} of {many(total, unit)}"
