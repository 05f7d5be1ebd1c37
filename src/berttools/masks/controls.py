"""Control masks: as many zeros in each matrix as a learned mask has, at random or by magnitude.

A learned mask's score shows that its choice of entries matters only beside the scores of these.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from _toolio.errors import ToolError, of_the_whole_run, param
from _toolio.files.hashing import sha256_of_files
from _toolio.files.overwriting import refuse_inside
from _toolio.version import tool_version
from berttools.checkpoints.files import open_checkpoint
from berttools.masks.base import check_base, others_in_base
from berttools.masks.coding import Bools
from berttools.masks.file import Mask, open_mask
from berttools.masks.writer import write_mask


def random_mask(values: NDArray[Any], zeroed: int, rng: np.random.Generator) -> Bools:
    """Return a mask, True where an entry stays, that zeroes `zeroed` entries at random."""
    keep = np.ones(values.size, np.bool_)
    keep[:zeroed] = False
    rng.shuffle(keep)
    return keep.reshape(values.shape)


def _ranks(values: NDArray[Any]) -> NDArray[Any]:
    """Return whole numbers that rank as absolute values do, and NaN above them all: as torch ranks."""
    sizes = np.abs(values)
    bits: NDArray[Any] = sizes.view(f"u{sizes.dtype.itemsize}")
    bits[np.isnan(sizes)] = np.iinfo(bits.dtype).max  # one rank for all kinds of NaN
    return bits


def magnitude_mask(values: NDArray[Any], zeroed: int, rng: np.random.Generator) -> Bools:
    """Return a mask that zeroes the `zeroed` smallest absolute values; of equal ones the first."""
    del rng
    return drop_smallest(_ranks(values).reshape(-1), zeroed).reshape(values.shape)


def drop_smallest(values: NDArray[Any], dropped: int) -> Bools:
    """Return a mask [n], False for the `dropped` smallest of values [n]: of equal ones the first, NaN the largest."""
    if not dropped:
        return np.ones(len(values), np.bool_)
    limit = np.partition(values, dropped - 1)[dropped - 1]
    only_nan = bool(limit != limit)  # no number stays
    keep: Bools = np.zeros(len(values), np.bool_) if only_nan else np.logical_not(values <= limit)
    if spare := len(values) - dropped - int(np.count_nonzero(keep)):
        keep[np.flatnonzero(np.isnan(values) if only_nan else values == limit)[-spare:]] = True
    return keep


KINDS: dict[str, Callable[[NDArray[Any], int, np.random.Generator], Bools]] = {
    "random": random_mask,
    "magnitude": magnitude_mask,
}


def control_mask(values: NDArray[Any], zeroed: int, kind: str, pattern: str, rng: np.random.Generator) -> Bools:
    """Return a mask of one of `KINDS` for a matrix, its zeros grouped as the pattern of the learned mask has them."""
    if pattern == "row":
        sizes = np.abs(values.astype(np.float64)).sum(1)
        return np.repeat(KINDS[kind](sizes, zeroed // values.shape[1], rng)[:, None], values.shape[1], 1)
    if pattern == "2:4":
        ranks = _ranks(rng.random(values.shape) if kind == "random" else values)
        order = np.argsort(~ranks.reshape(-1, 4), axis=1, kind="stable")
        keep = np.zeros_like(order, np.bool_)
        np.put_along_axis(keep, order[:, :2], values=True, axis=1)
        return keep.reshape(values.shape)
    return KINDS[kind](values, zeroed, rng)


def _pattern_of(learned: Mask) -> tuple[str, set[str]]:
    """Return the pattern of a learned mask, and which matrices are stored as [inputs, outputs]."""
    made = learned.made
    while "recipe" not in made and isinstance(made.get("of"), dict):  # a control keeps the pattern of what it is of
        made = made["of"]
    recipe = made.get("recipe")
    pattern = recipe.get("pattern") if isinstance(recipe, dict) else None
    if pattern == "head":
        raise ToolError(
            f"{learned.path}: zeroes whole attention heads, and there is no control of those: single weights, or rows,"
            " would be no measure of them",
            kind="bad-pattern",
        )
    transposed = made.get("transposed")
    if pattern in ("row", "2:4") and isinstance(transposed, list):
        return pattern, {*map(str, transposed)}
    return str(pattern), set()


def write_control(base: Path, mask: Path, out: Path, kind: str, seed: int) -> dict[str, Any]:
    """Write a mask with the sparsity, the pattern and the head of another.

    Parameters
    ----------
    base, mask
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
        As of `berttools.masks.writer.write_mask`.

    Raises
    ------
    ToolError
        ``mask`` is no mask, or of another base, or the file cannot be written, or is one of those that are read.
    """
    checkpoint, learned = open_checkpoint(base), open_mask(mask)
    made_for = learned.fingerprint
    for file in checkpoint.files:  # of an index, the files beside it
        refuse_inside(out, file, param("base"))
    digests: dict[str, str] = {}
    keeps, source = {}, bytes.fromhex(learned.bits_sha256)
    with of_the_whole_run():
        pattern, stored_transposed = _pattern_of(learned)
        for name, stored in check_base(made_for, checkpoint, digests).items():
            flat, shape = checkpoint.flat(stored), learned.shapes[name]
            values = flat.values(0, int(np.prod(shape))).reshape(shape)
            rng = np.random.default_rng([seed, *source, *name.encode()])
            transposed = name in stored_transposed
            keep = control_mask(values.T if transposed else values, learned.zeroed[name], kind, pattern, rng)
            keeps[name] = keep.T if transposed else keep
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
            others=others_in_base(made_for, checkpoint) if made_for.others_sha256 else None,
            tokenizer_sha256=made_for.tokenizer_sha256, digests=digests,
        )  # fmt: skip
