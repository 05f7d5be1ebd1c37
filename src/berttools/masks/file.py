"""Mask files, opened: which entries of a base's matrices a task sets to zero, and the task's own dense tensors.

One safetensors file. Each masked matrix is under its own name, its bits coded by `berttools.masks.coding` as a run of
bytes; the head, and whatever else was tuned, is there as it is. The metadata's one key says all else: for each matrix
its code, shape, how many entries are zeroed, the sha256 of the base's values and of the bits; what else the model uses
of the base by name, with one sha256, and that of the tokenizer (`berttools.masks.base`); config.json; how the mask was
made; and the sha256 of every stored tensor and of the metadata themselves, so that a damaged file is refused
(`berttools.masks.metadata`). `berttools.masks.writer` writes one.

A zeroed entry is +0.0, whatever the weight's sign was.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from _toolio.errors import ToolError, of_the_whole_run, param
from _toolio.files.hashing import sha256_of
from _toolio.tensors.reader import ArrayTensor, FlatTensor, SafetensorsFile, open_safetensors
from berttools.masks import coding
from berttools.masks.base import BaseFingerprint
from berttools.masks.coding import Bools
from berttools.masks.metadata import (
    canonical_json,
    check_metadata,
    damaged,
    figures_of,
    matrices_sha256,
    read_mask_metadata,
)
from berttools.masks.task_config import task_config


class Mask:
    """An open mask file; `open_mask` makes it.

    Attributes
    ----------
    path : Path
    config : str
        The text of config.json.
    task_config : dict
        What it says, of which only the keys of `berttools.masks.task_config.TASK_KEYS` are the task's.
    made : dict
        How it was made.
    shapes : dict of str to tuple of int
        Of the masked matrices, sorted by name.
    base_names : dict of str to str
        What the base's files call each, as `berttools.layerdiff` does; the model's name in older masks.
    zeroed : dict of str to int
        How many entries of each are zeroed.
    sparsity : dict of str to float
        The share that is, 0 to 1.
    codes : dict of str to str
        How each is coded.
    coded_bytes : dict of str to int
        How many bytes each takes.
    fingerprint : BaseFingerprint
        The base that it was made for.
    dense : dict of str to array
        What is stored as it is.
    """

    def __init__(self, file: SafetensorsFile, metadata: Mapping[str, Any]) -> None:
        self.path, self._file = file.path, file
        matrices: dict[str, Any] = {name: metadata["matrices"][name] for name in sorted(metadata["matrices"])}
        self._matrices = matrices
        self.config: str = metadata["config"]
        try:
            self.task_config = task_config(self.config)
        except ValueError as error:
            raise damaged(self.path, f"its configuration ({error}) is") from error
        self.made: dict[str, Any] = metadata["made"]
        self.shapes = {name: tuple(each["shape"]) for name, each in matrices.items()}
        self.base_names: dict[str, str] = {name: each.get("base_name", name) for name, each in matrices.items()}
        self.zeroed: dict[str, int] = {name: each["zeroed"] for name, each in matrices.items()}
        self.sparsity = {name: self.zeroed[name] / max(1, math.prod(shape)) for name, shape in self.shapes.items()}
        self.codes: dict[str, str] = {name: each["code"] for name, each in matrices.items()}
        others = metadata.get("others") or {"names": [], "sha256": ""}
        self.fingerprint = BaseFingerprint(
            mask=self.path,
            shapes=self.shapes,
            matrix_sha256s={name: each["base_sha256"] for name, each in matrices.items()},
            others=others["names"],
            others_sha256=others["sha256"],
            tokenizer_sha256=metadata.get("tokenizer_sha256"),
        )
        entries = file.entries
        self.coded_bytes = {name: entries[name].end - entries[name].begin for name in matrices}
        self.dense = {name: file.tensor(name) for name in sorted(entries.keys() - matrices.keys())}

    @property
    def names(self) -> list[str]:
        """The masked matrices, sorted."""
        return list(self.shapes)

    @property
    def masked_sha256(self) -> str:
        """One digest of all masked matrices of the base."""
        return matrices_sha256(self._matrices, "base_sha256")

    @property
    def bits_sha256(self) -> str:
        """One digest of all bits, however they are coded."""
        return matrices_sha256(self._matrices, "bits_sha256")

    @property
    def needs_base(self) -> bool:
        """Whether any matrix can only be read with the base's weights."""
        return "conditional" in self.codes.values()

    def figures(self) -> dict[str, Any]:
        """Return what `write_mask` returned, without the path."""
        coded = {name: self._file.tensor(name) for name in self._matrices}
        return figures_of(self._matrices, coded, self.dense) | {"bytes": self.path.stat().st_size}

    def blocks(self, name: str, weights: NDArray[Any] | FlatTensor | None = None) -> Iterator[NDArray[np.uint8]]:
        """Read one matrix's mask, `coding.BLOCK` entries at a time, packed as by `coding.bits_of`.

        Only after the last block is it known whether the bits are those that were written; it raises then if not.

        Parameters
        ----------
        name
            One of `names`.
        weights
            The base's values, for the conditional code; not read for the others.

        Raises
        ------
        ToolError
            Kind ``"needs-base"``: no weights were given and the code needs them; ``"bad-mask"``: the bits are not
            those that were written.
        """
        if self.codes[name] == "conditional" and weights is None:
            raise ToolError(
                f"{self.path}: {name} is coded given the base's weights; give the base with {param('base')}",
                kind="needs-base",
            )
        flat = ArrayTensor(weights) if isinstance(weights, np.ndarray) else weights
        digest, zeroed = hashlib.sha256(), math.prod(self.shapes[name])
        try:
            for packed in self._packed(name, flat):
                digest.update(packed.data)
                zeroed -= int.from_bytes(packed.data, "little").bit_count()
                yield packed
        except (ValueError, MemoryError) as error:
            raise self._bad_bits(name) from error
        # With other weights the conditional code may well be read to its end: the bits tell.
        if digest.hexdigest() != self._matrices[name]["bits_sha256"] or zeroed != self.zeroed[name]:
            raise self._bad_bits(name)

    def _packed(self, name: str, flat: FlatTensor | None) -> Iterator[NDArray[np.uint8]]:
        size, coded = math.prod(self.shapes[name]), self._file.tensor(name)
        if self.codes[name] != "bits":
            keys = coding.tensor_keys(flat) if self.codes[name] == "conditional" and flat else None
            yield from coding.decode_blocks(coded, size, keys)
            return
        for start in range(0, size, coding.BLOCK):
            stop = min(start + coding.BLOCK, size)
            yield coding.clear_padding(coded[start // 8 : -(-stop // 8)].copy(), stop - start)

    def runs(self, name: str, weights: NDArray[Any] | FlatTensor | None = None) -> Iterator[tuple[int, Bools]]:
        """Yield `blocks` as the number of the first entry and bool, True where one stays."""
        first, size = 0, math.prod(self.shapes[name])
        for packed in self.blocks(name, weights):
            run = coding.unpack(packed, 0, min(8 * packed.size, size - first))
            yield first, run
            first += run.size

    def bits(self, name: str, weights: NDArray[Any] | FlatTensor | None = None) -> NDArray[np.uint8]:
        """Read one matrix's mask, eight entries to a byte: as `blocks`, whole."""
        return coding.joined(self.blocks(name, weights), math.prod(self.shapes[name]))

    def keep(self, name: str, weights: NDArray[Any] | FlatTensor | None = None) -> Bools:
        """Read one matrix's mask in its shape: True where an entry stays. Otherwise as `blocks`."""
        shape = self.shapes[name]
        return coding.unpack(self.bits(name, weights), 0, math.prod(shape)).reshape(shape)

    def _bad_bits(self, name: str) -> ToolError:
        why = (
            "the base is another one, or the file is damaged" if self.codes[name] == "conditional" else "copy it again"
        )
        return ToolError(f"{self.path}: the bits of {name} are not those that were written; {why}", kind="bad-mask")


def open_mask(path: Path) -> Mask:
    """Open a mask file and check all that it holds against its digests; bits are decoded when they are read.

    Raises
    ------
    ToolError
        It is no mask file, or damaged. Kinds: ``"not-a-mask"``, ``"bad-mask"``, and others of `open_safetensors`.
    """
    metadata = read_mask_metadata(path)
    signed = {key: value for key, value in metadata.items() if key != "sha256"}
    try:
        if metadata["sha256"] != sha256_of(canonical_json(signed)):
            raise damaged(path, "its metadata are")
        file = open_safetensors(path)
        with of_the_whole_run():
            check_metadata(file, metadata)
            return Mask(file, metadata)
    except (KeyError, TypeError, AttributeError, ValueError, RecursionError) as error:
        raise damaged(path, "its metadata are") from error
