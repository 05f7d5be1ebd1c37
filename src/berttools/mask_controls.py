"""Masks that nothing was learned for: as many zeros in each matrix as a learned one has, by lot or by magnitude.

What a learned mask scores says that its places matter only beside what these score.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from _toolio.app import tool_version
from _toolio.errors import of_the_whole_run
from _toolio.journal import sha256_of_files
from _toolio.paths import refuse_inside
from berttools.checkpoints import open_checkpoint
from berttools.mask_bases import check_base, others_in_base
from berttools.masks import open_mask, write_mask

__all__ = ["KINDS", "by_lot", "smallest", "write_control"]

Bools = NDArray[np.bool_]


def by_lot(values: NDArray[Any], zeroed: int, rng: np.random.Generator) -> Bools:
    """Keep all but `zeroed` entries, drawn at random."""
    keep = np.ones(values.size, np.bool_)
    keep[:zeroed] = False
    rng.shuffle(keep)
    return keep.reshape(values.shape)


def smallest(values: NDArray[Any], zeroed: int, rng: np.random.Generator) -> Bools:
    """Keep all but the `zeroed` smallest absolute values; of equal ones the first go."""
    del rng
    # The bits of absolute values rank as these do, and NaN has a place too.
    sizes = np.abs(values).reshape(-1).view(f"u{values.dtype.itemsize}")
    if not zeroed:
        return np.ones(values.shape, np.bool_)
    last = np.partition(sizes, zeroed - 1)[zeroed - 1]
    keep: Bools = sizes >= last
    ties = np.flatnonzero(sizes == last)
    keep[ties[: zeroed - (keep.size - int(np.count_nonzero(keep)))]] = False
    return keep.reshape(values.shape)


KINDS: dict[str, Callable[[NDArray[Any], int, np.random.Generator], Bools]] = {"random": by_lot, "magnitude": smallest}


def write_control(mask: Path, base: Path, out: Path, kind: str, seed: int) -> dict[str, Any]:
    """Write a mask with the sparsity and the head of another.

    Parameters
    ----------
    mask, base
        The learned mask, and what it was made for.
    out
        The file.
    kind
        One of `KINDS`.
    seed
        What is drawn in a matrix follows from this, the bits of ``mask`` and the matrix's name.

    Returns
    -------
    dict
        As of `berttools.masks.write_mask`.

    Raises
    ------
    ToolError
        ``mask`` is no mask, or of another base, or the file cannot be written, or is one of those that are read.
    """
    checkpoint, learned = open_checkpoint(base), open_mask(mask)
    for file in checkpoint.files:  # of an index, the files beside it
        refuse_inside(out, file, "BASE")
    keeps, source = {}, bytes.fromhex(learned.bits_sha256)
    with of_the_whole_run():
        for name, stored in check_base(learned, checkpoint).items():
            flat, shape = checkpoint.flat(stored), learned.shapes[name]
            values = flat.values(0, int(np.prod(shape))).reshape(shape)
            keeps[name] = KINDS[kind](
                values, learned.zeroed[name], np.random.default_rng([seed, *source, *name.encode()])
            )
            flat.release(0, values.size)
        made = {
            "version": tool_version(),
            "control": kind,
            "seed": seed if kind == "random" else None,
            "labels": learned.made.get("labels"),
            "of_sha256": sha256_of_files(mask),
            "of": learned.made,
        }
        return write_mask(
            out, keeps, learned.dense, learned.config, checkpoint, made,
            others=others_in_base(learned, checkpoint) if learned.others_sha256 else None,
            tokenizer_sha256=learned.tokenizer_sha256,
        )  # fmt: skip
