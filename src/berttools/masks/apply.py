"""Apply a mask to its base: write the model of one task as a folder that transformers opens, tensor by tensor."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from _toolio.compute.cores import usable_cores
from _toolio.compute.threads import ordered
from _toolio.errors import of_the_whole_run
from _toolio.files.atomic import atomic_folder
from _toolio.tensors.dtypes import FORMAT_NAMES
from _toolio.tensors.reader import stored_bits
from _toolio.tensors.writer import stream_safetensors, write_order
from berttools.checkpoints.digests import DigestCache
from berttools.checkpoints.files import Checkpoint, open_checkpoint
from berttools.checkpoints.matrix_parts import matrix_parts
from berttools.checkpoints.model_folder import CARD, MADE, write_beside
from berttools.masks.base import (
    check_matrix,
    check_others,
    check_tokenizer,
    names_in_base,
    names_in_model,
    others_in_base,
)
from berttools.masks.coding import unpack
from berttools.masks.file import Mask, open_mask
from berttools.masks.task_config import label_fields, model_config, unfit_tensor

# Entries; whole bytes of bits. Short enough for a processor's cache, and for memory that malloc need not ask for anew.
_CHUNK = 1 << 16
_COPIED = 1 << 20  # entries
_MOST_AHEAD = 1 << 25
"""Entries of a matrix whose mask is decoded ahead of its turn, when up to twelve of 4 MB are held on four cores."""

# What transformers' models for sequence classification call the parts of a head, and the last of them.
_HEADS = (
    "classifier", "pre_classifier", "score", "head", "classification_head", "sequence_summary", "logits_proj", "dense",
    "projector", "layer_weights", "pooler",
)  # fmt: skip
_OUTPUTS = ("classifier", "score", "out_proj", "logits_proj")


def apply_mask(
    base: Path | str, mask: Path | str, out: Path | str, *, digest_cache: Path | str | None = None
) -> dict[str, Any]:
    """Write the model of a mask as a folder.

    A masked entry becomes +0.0, every other value of the base keeps its dtype and its bits, and what the mask file
    holds dense comes from there. config.json is the base's, but for what a task changes of it.

    Parameters
    ----------
    base
        A model's folder.
    mask
        The mask file.
    out
        The folder; whole or absent.
    digest_cache
        A file of digests of bases, which this run reads and adds to: a `DigestCache`. What is known there of a base
        that has not changed since is not computed again.

    Returns
    -------
    dict
        As of `Mask.figures`, without what the file alone decides; ``tensors``: how many were written.

    Raises
    ------
    ToolError
        ``mask`` is no mask, or of another base, or ``digest_cache`` another file, or it cannot be written; no folder is
        written then.
    """
    base, mask, out = Path(base), Path(mask), Path(out)
    checkpoint, opened = open_checkpoint(base), open_mask(mask)
    digests = DigestCache(None if digest_cache is None else Path(digest_cache), checkpoint)
    with of_the_whole_run():
        stored = names_in_base(checkpoint, opened.shapes, opened.path)
        check_tokenizer(opened.fingerprint, checkpoint)
        config = model_config(checkpoint.config, opened.task_config, mask=mask, folder=base)
        written = _MaskedModel(checkpoint, opened, stored, digests)
        written.check_dense(len(label_fields(config)["id2label"]))
        with atomic_folder(out) as folder:
            written.write(folder / "model.safetensors")
            made = {**opened.made, "mask": {"masked_sha256": opened.masked_sha256, "sparsity": opened.sparsity}}
            write_beside(folder, json.dumps(config, indent=2, sort_keys=True) + "\n", base, made)
            (folder / CARD).write_text(_card(opened, base, written.groups), encoding="utf-8")
            digests.write()  # a run that fails leaves no folder
    return {"tensors": len(written.plan), **opened.figures()}


class _MaskedModel:
    """One mask over one base: which tensors are written, and where each comes from.

    Threads take the sha256 of the base's matrices and, if it is the right one, decode their masks, some matrices ahead
    of the one that is masked and written.
    """

    def __init__(self, base: Checkpoint, mask: Mask, stored: Mapping[str, str], digests: DigestCache) -> None:
        self._base, self._mask, self._known = base, mask, digests
        ours = {name: each for each, name in names_in_model(base, stored).items()}
        self._shapes = {name: base.tensors[each].shape for name, each in ours.items()}
        self._sources = {name: each for name, each in ours.items() if name not in mask.dense}
        self._others = others_in_base(mask.fingerprint, base)
        self.groups: dict[str, tuple[int, int]] = {}
        """Entries of each group, and how many of them are zeroed: of what is written."""
        self.plan = {name: (base.tensors[each].dtype, base.tensors[each].shape) for name, each in self._sources.items()}
        for name, array in mask.dense.items():
            self.plan[name] = FORMAT_NAMES[array.dtype.newbyteorder("<").str], array.shape
        for each in self._sources.values():
            base.flat(each)  # an unknown dtype is refused before anything is written

    def check_dense(self, labels: int) -> None:
        """Refuse a dense tensor that no model of so many labels over this base has.

        As far as names and shapes show it: what a head is made of, only transformers knows.
        """
        encoder = {name.split(".")[0] for name in self._mask.names}
        widths = {size for shape in self._shapes.values() for size in shape}
        for name, array in self._mask.dense.items():
            *parts, kind = name.split(".")
            is_head = bool(parts) and parts[0] in _HEADS and parts[0] not in encoder
            if is_head and parts[-1] in _OUTPUTS:
                fits = array.shape[:1] == (labels,) and widths.issuperset(array.shape[1:])
                fits = fits and array.ndim == 1 + (kind == "weight")
            else:
                known = self._shapes.get(name)
                fits = is_head or ("pooler" in parts if known is None else array.shape == known)
            if not fits:
                raise unfit_tensor(self._mask.path, self._base.path, labels, name, array.shape)

    def write(self, path: Path) -> None:
        masked = [name for name in write_order(self.plan) if name in self._mask.shapes]
        jobs: list[Callable[[], Any]] = [partial(self._known.tensor_digest, each) for each in self._others.values()]
        jobs += [partial(self._packed, name) for name in masked]
        with closing(ordered(lambda job: job(), jobs, workers=usable_cores())) as results:
            others = {name: next(results) for name in self._others}
            stream_safetensors(
                path, self.plan, lambda name: self._pieces(name, results), {"schema": "berttools.model/1"}, format="pt"
            )
        # Last, as a matrix that differs says more.
        check_others(self._mask.fingerprint, self._base, others)

    def _packed(self, name: str) -> NDArray[np.uint8] | None:
        """Return a matrix's mask, eight entries to a byte, if the base has the matrix that it was made for.

        None for a large one, which is decoded when it is its turn.
        """
        source = self._sources[name]
        check_matrix(self._mask.fingerprint, self._base, name, self._known.tensor_digest(source))
        return (
            self._mask.bits(name, self._base.flat(source)) if self._base.tensors[source].size <= _MOST_AHEAD else None
        )

    def _pieces(self, name: str, packed_masks: Iterator[NDArray[np.uint8] | None]) -> Iterator[NDArray[Any]]:
        if name not in self._sources:
            yield self._mask.dense[name]
            return
        source = self._sources[name]
        flat, size = self._base.flat(source), self._base.tensors[source].size
        packed = None
        if name in self._mask.shapes and (packed := next(packed_masks)) is None:
            packed = self._mask.bits(name, flat)
        if packed is None:
            for start in range(0, size, _COPIED):
                stop = min(start + _COPIED, size)
                yield stored_bits(flat, start, stop)
                flat.release(start, stop)
            return
        masked = np.empty_like(stored_bits(flat, 0, min(_CHUNK, size)))
        for start in range(0, size, _CHUNK):
            stop = min(start + _CHUNK, size)
            keep = unpack(packed, start, stop)
            self._count(name, start, keep)
            yield masked_bits(stored_bits(flat, start, stop), keep, masked[: stop - start])
            flat.release(start, stop)

    def _count(self, name: str, start: int, keep: NDArray[np.bool_]) -> None:
        shape = self._mask.shapes[name]
        for part in matrix_parts(name, shape):
            group, kept = part.group or "others", part.select(keep, start, shape)
            weights, zeroed = self.groups.get(group, (0, 0))
            self.groups[group] = weights + kept.size, zeroed + kept.size - int(np.count_nonzero(kept))


def masked_bits(bits: NDArray[Any], keep: NDArray[np.bool_], out: NDArray[Any] | None = None) -> NDArray[Any]:
    """Return the bits of floats of any kind, as unsigned integers, +0.0 where an entry is not kept."""
    masked: NDArray[Any] = np.multiply(bits, keep, out=out)
    return masked


def _card(mask: Mask, base: Path, groups: Mapping[str, tuple[int, int]]) -> str:
    """Write the model card: where the weights come from, and how many of them, of each group too, are zero."""
    figures, made = mask.figures(), mask.made
    lines = ["---", *_license(base), "library_name: transformers", "pipeline_tag: text-classification", "---", ""]
    lines += [f"# {base.resolve().name}, masked", ""]
    control = made.get("control")
    head = (
        f"nothing was learned (control: {control}), and the head is another mask's."
        if control
        else f"the head was trained{_beside(made)}."
    )
    lines += [
        f"{figures['zeroed']:,} of {figures['weights']:,} weights in {figures['matrices']} matrices"
        f" ({figures['sparsity']:.2%}) of the base are set to zero, and none is changed otherwise; {head}",
        "",
        f"- base: sha256 of the masked matrices `{mask.masked_sha256}`",
        f"- mask file: {figures['bytes']:,} bytes, of which the mask {figures['mask_bytes']:,} ({figures['code']})",
        *_score_and_labels(made),
        "",
        "| group | weights | zero |",
        "|---|---:|---:|",
    ]
    for group, (weights, zeroed) in sorted(groups.items()):
        lines.append(f"| {group} | {weights:,} | {zeroed / max(1, weights):.2%} |")
    return "\n".join([*lines, "", f"`{MADE}` says how it was made.", ""])


def _beside(made: Mapping[str, Any]) -> str:
    """Name what was tuned as it is besides the head."""
    patterns = [f"`{each}`" for each in (made.get("recipe") or {}).get("beside") or ()]
    return f", and so were tensors whose names match {' or '.join(patterns)}" if patterns else ""


def _license(base: Path) -> list[str]:
    """Return the line of a base's card that names its licence."""
    try:
        card = (base / CARD).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return []
    head = re.match(r"---\n(.*?\n)---\s*(?:\n|$)", card, re.S)
    return re.findall(r"^license: *\S.*$", head[1], re.M)[:1] if head else []


def _score_and_labels(made: Mapping[str, Any]) -> list[str]:
    figures = made.get("figures") if isinstance(made.get("figures"), dict) else made
    score, metric = (figures or {}).get("score"), made.get("metric")
    labels = made.get("labels")
    return [
        *([f"- {metric} on the texts that it was measured on: {score:.4f}"] if isinstance(score, float) else []),
        *([f"- labels: {', '.join(map(str, labels))}"] if isinstance(labels, list) and labels else []),
    ]
