"""Compare checkpoints tensor by tensor: distances, sums by layer and group, a random-initialisation baseline."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from _toolio.errors import UsageError, param
from _toolio.streams.records import Record
from berttools.checkpoints.groups import By
from berttools.layerdiff.config import LayerdiffConfig, Selection

if TYPE_CHECKING:
    from berttools.checkpoints.files import Checkpoint
    from berttools.layerdiff.diffs import TensorDiff

    Observe = Callable[[Checkpoint, Checkpoint, Iterator[TensorDiff]], Iterator[TensorDiff]]

__all__ = ["By", "LayerdiffConfig", "Selection", "compare"]


def compare(
    base: Path | str,
    tuned: Sequence[Path | str] | Path | str,
    config: LayerdiffConfig | None = None,
    *,
    observe: Observe | None = None,
) -> Iterator[Record]:
    """Measure how far fine-tuned models are from their base, and from each other if the configuration says so.

    Parameters
    ----------
    base, tuned
        Folders or files, as of `berttools.checkpoints.files.open_checkpoint`; fine-tuned ones may be LoRA adapters of
        the base. Quantized weights are read as weights.
    config
        By default all tensors, one record each.
    observe
        Called with both models and the tensors' differences, to pass these on as they come: for progress or a picture.

    Yields
    ------
    dict
        The record of a tensor, layer, group or model, without ``schema``: ``angle`` (over pi, 0 to 1, or None), and
        the fields that ``berttools layerdiff`` describes.

    Raises
    ------
    UsageError
        There are no two fine-tuned models to compare with each other.
    ToolError
        As of `open_checkpoint`, `open_tuned`, `diff_checkpoints` and `random_init`, when the first record is read.
    """
    config = config or LayerdiffConfig()
    tuned = [tuned] if isinstance(tuned, Path | str) else tuned
    refuse_no_pairs(tuned, config)
    # Behind the refusals, which need no numpy.
    from berttools.layerdiff.records import PairWorker

    return PairWorker(base, tuned, config, config.device, observe=observe).compare_all()


def refuse_no_pairs(tuned: Sequence[Path | str], config: LayerdiffConfig) -> None:
    """Raise a UsageError if fine-tuned models are to be compared with each other, and there are no two."""
    if config.pairs and len(tuned) < 2:
        raise UsageError(f"{param('pairs')} compares fine-tuned checkpoints with each other: name two or more")
