"""The mask file: which entries of a base's matrices a task sets to zero, and the task's own dense tensors.

One safetensors file. Each masked matrix is under its own name, its bits coded by `berttools.masks.coding` as a run of
bytes; the head, and whatever else was tuned, is there as it is. The metadata's one key says all else: for each matrix
its code, shape, how many entries are zeroed, the sha256 of the base's values and of the bits; what else the model uses
of the base by name, with one sha256, and that of the tokenizer (`berttools.masks.base`); config.json; how the mask was
made; and the sha256 of every stored tensor and of the metadata themselves, so that a damaged file is refused.

A zeroed entry is +0.0, whatever the weight's sign was.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from _toolio.errors import ToolError, of_the_whole_run
from _toolio.tensors.reader import ArrayTensor, FlatTensor, SafetensorsFile, is_count, open_safetensors, read_metadata
from _toolio.tensors.writer import write_safetensors
from berttools.checkpoints.digests import digest_of, tensor_digest, tokenizer_of
from berttools.checkpoints.files import Checkpoint
from berttools.checkpoints.model_folder import DELTA
from berttools.masks import coding
from berttools.masks.base import names_of, rest_of
from berttools.masks.code_names import Code
from berttools.masks.task_config import task_config

MASK = "berttools.mask/1"
CODES = tuple(code.value for code in Code)
_MOST = 1 << 33
"""Entries of a matrix: twice the largest embeddings that there are."""
_DEEPEST = 100
"""Levels of what a mask says of how it was made; a control says that of the mask it is one of."""

Bools = NDArray[np.bool_]


def write_mask(
    out: Path,
    keeps: Mapping[str, Bools],
    tensors: Mapping[str, NDArray[Any]],
    config: str,
    base: Checkpoint,
    made: Mapping[str, Any],
    *,
    code: str = "auto",
    others: Mapping[str, str] | None = None,
    tokenizer_sha256: str | None = None,
    digests: Mapping[str, str] = MappingProxyType({}),
) -> dict[str, Any]:
    """Write a mask file.

    Parameters
    ----------
    out
        The file.
    keeps
        By the names of the model's state dict: True where an entry stays.
    tensors
        What is stored as it is: the head, and all else that differs from the base.
    config
        The text of config.json.
    base
        What the mask is laid over.
    made
        How: anything that JSON can say.
    code
        One of `CODES`; ``auto`` takes the smallest, for each matrix.
    others
        What else the model uses of the base, as of `names_in_base`; else all that it has besides.
    tokenizer_sha256
        As of `deltas.tokenizer_digest`; else of the base's, where it has one.
    digests
        By the base's names: `tensor_digest` of what was looked at before, as `mask_bases.check_base` gives them.

    Returns
    -------
    dict
        ``path``, ``bytes`` (of the file), ``mask_bytes``, ``dense_bytes``, ``matrices``, ``weights`` (masked entries),
        ``zeroed``, ``sparsity``, ``code`` (those used, joined by +) and ``masked_sha256``
        (of the base's masked matrices).

    Raises
    ------
    ToolError
        The base lacks a matrix, or the file cannot be written.
    ValueError
        A name is in both, or the code is unknown.
    """
    if code not in CODES or keeps.keys() & tensors.keys():
        raise ValueError(f"code {code!r}, or a tensor that is masked and dense")
    names = names_of(base, {name: keep.shape for name, keep in keeps.items()}, base.path)
    coded, matrices = {}, {}
    for name, keep in keeps.items():
        chosen, coded[name] = _coded(keep, base, names[name], code)
        zeroed = keep.size - int(np.count_nonzero(keep))
        matrices[name] = {
            "code": chosen,
            "shape": list(keep.shape),
            "zeroed": zeroed,
            "base_sha256": digests.get(names[name]) or tensor_digest(base, names[name]),
            "bits_sha256": _bits_sha256(keep),
        }
    stored = {**tensors, **coded}
    about: dict[str, Any] = {"schema": MASK, "matrices": matrices, "config": config, "made": made}
    about["others"] = _about_others(base, rest_of(base, names, tensors) if others is None else others, digests)
    about["tokenizer_sha256"] = tokenizer_sha256 or tokenizer_of(base)
    about["stored_sha256"] = {name: _array_digest(array) for name, array in stored.items()}
    about = json.loads(_text(about))  # as it will be read: keys are text
    write_safetensors(out, stored, about | {"sha256": _sha256(_text(about))})
    return {"path": out} | _figures(matrices, coded, tensors) | {"bytes": out.stat().st_size}


def _about_others(base: Checkpoint, others: Mapping[str, str], digests: Mapping[str, str]) -> dict[str, Any]:
    """Say once what the tensors that are used besides are called, and one sha256 of them all."""
    found = {name: digests.get(stored) or tensor_digest(base, stored) for name, stored in others.items()}
    return {"names": sorted(others), "sha256": digest_of(found)}


def _coded(keep: Bools, base: Checkpoint, name: str, code: str) -> tuple[str, NDArray[np.uint8]]:
    """Code one matrix; of several codes the smallest, of equal ones the plainest."""
    flat = base.flat(name)
    wanted = CODES[1:] if code == "auto" else (code,)
    found = {}
    for each in wanted:
        if each == "bits":
            found[each] = coding.bits_of(keep)
        else:
            found[each] = coding.encode(keep, _keys(flat) if each == "conditional" else None)
    flat.release(0, keep.size)
    best = min(wanted, key=lambda each: found[each].size)
    return best, found[best]


def _keys(flat: FlatTensor) -> coding.Keys:
    def keys(start: int, stop: int) -> NDArray[np.uint16]:
        found = coding.weight_keys(flat.values(start, stop))
        flat.release(start, stop)
        return found

    return keys


def _figures(
    matrices: Mapping[str, Any], coded: Mapping[str, NDArray[Any]], dense: Mapping[str, NDArray[Any]]
) -> dict[str, Any]:
    weights = sum(math.prod(each["shape"]) for each in matrices.values())
    zeroed = sum(each["zeroed"] for each in matrices.values())
    return {
        "mask_bytes": sum(array.nbytes for array in coded.values()),
        "dense_bytes": sum(array.nbytes for array in dense.values()),
        "matrices": len(matrices),
        "weights": weights,
        "zeroed": zeroed,
        "sparsity": zeroed / max(1, weights),
        "code": "+".join(sorted({each["code"] for each in matrices.values()})),
        "masked_sha256": _digest_of(matrices, "base_sha256"),
    }


def _digest_of(matrices: Mapping[str, Any], key: str) -> str:
    """Give one sha256 of a digest that each matrix has, by the model's names."""
    return digest_of({name: each[key] for name, each in matrices.items()})


def _text(about: Mapping[str, Any]) -> bytes:
    return json.dumps(about, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _bits_sha256(keep: Bools) -> str:
    return _sha256(coding.bits_of(keep).tobytes())


def _array_digest(array: NDArray[Any]) -> str:
    little = np.ascontiguousarray(array.astype(array.dtype.newbyteorder("<"), copy=False))
    head = json.dumps([little.dtype.str, list(array.shape)]).encode()
    return _sha256(head + little.tobytes())


class Mask:
    """An open mask file; `open_mask` makes it.

    Attributes
    ----------
    path : Path
    config : str
        The text of config.json.
    task_config : dict
        What it says, of which only the keys of `mask_configs.TASK_KEYS` are the task's.
    made : dict
        How it was made.
    shapes : dict of str to tuple of int
        Of the masked matrices, sorted by name.
    sparsity : dict of str to float
        The share of each matrix's entries that are zeroed.
    zeroed : dict of str to int
        How many that is.
    codes : dict of str to str
        How each is coded.
    coded_bytes : dict of str to int
        How many bytes each takes.
    base_sha256s : dict of str to str
        As `tensor_digest` gives them of the base.
    others : list of str
        What else the model uses of the base, by its names.
    others_sha256 : str
        One digest of all these.
    tokenizer_sha256 : str or None
        As `deltas.tokenizer_digest` gives it; None where the base had no tokenizer.
    dense : dict of str to array
        What is stored as it is.
    """

    def __init__(self, file: SafetensorsFile, about: Mapping[str, Any]) -> None:
        self.path, self._file = file.path, file
        matrices: dict[str, Any] = {name: about["matrices"][name] for name in sorted(about["matrices"])}
        self._matrices = matrices
        self.config: str = about["config"]
        try:
            self.task_config = task_config(self.config)
        except ValueError as error:
            raise _damaged(self.path, f"its configuration ({error}) is") from error
        self.made: dict[str, Any] = about["made"]
        self.shapes = {name: tuple(each["shape"]) for name, each in matrices.items()}
        self.zeroed: dict[str, int] = {name: each["zeroed"] for name, each in matrices.items()}
        self.sparsity = {name: self.zeroed[name] / max(1, math.prod(shape)) for name, shape in self.shapes.items()}
        self.codes: dict[str, str] = {name: each["code"] for name, each in matrices.items()}
        others = about.get("others") or {"names": [], "sha256": ""}
        self.others: list[str] = others["names"]
        self.others_sha256: str = others["sha256"]
        self.tokenizer_sha256: str | None = about.get("tokenizer_sha256")
        self.base_sha256s: dict[str, str] = {name: each["base_sha256"] for name, each in matrices.items()}
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
        return _digest_of(self._matrices, "base_sha256")

    @property
    def bits_sha256(self) -> str:
        """One digest of all bits, however they are coded."""
        return _digest_of(self._matrices, "bits_sha256")

    @property
    def needs_base(self) -> bool:
        """Whether any matrix can only be read with the base's weights."""
        return "conditional" in self.codes.values()

    def figures(self) -> dict[str, Any]:
        """Give what `write_mask` returned, without the path."""
        coded = {name: self._file.tensor(name) for name in self._matrices}
        return _figures(self._matrices, coded, self.dense) | {"bytes": self.path.stat().st_size}

    def blocks(self, name: str, weights: NDArray[Any] | FlatTensor | None = None) -> Iterator[NDArray[np.uint8]]:
        """Read one matrix's mask, `coding.BLOCK` entries at a time, packed as by `coding.bits_of`.

        Whether they are those that were written is known when the last has been given, and said then.

        Parameters
        ----------
        name
            One of `names`.
        weights
            The base's values, for the conditional code; not looked at for the others.

        Raises
        ------
        ToolError
            Kind ``"needs-base"``: no weights were given and the code needs them; ``"bad-mask"``: the bits are not
            those that were written.
        """
        if self.codes[name] == "conditional" and weights is None:
            raise ToolError(
                f"{self.path}: {name} is coded given the base's weights; give the base with --base", kind="needs-base"
            )
        flat = ArrayTensor(weights) if isinstance(weights, np.ndarray) else weights
        digest, zeroed = hashlib.sha256(), math.prod(self.shapes[name])
        try:
            for packed in self._packed(name, flat):
                digest.update(packed.data)
                zeroed -= int.from_bytes(packed.data, "little").bit_count()
                yield packed
        except (ValueError, MemoryError) as error:
            raise self._bad(name) from error
        # With other weights the conditional code may well be read to its end: the bits tell.
        if digest.hexdigest() != self._matrices[name]["bits_sha256"] or zeroed != self.zeroed[name]:
            raise self._bad(name)

    def _packed(self, name: str, flat: FlatTensor | None) -> Iterator[NDArray[np.uint8]]:
        size, coded = math.prod(self.shapes[name]), self._file.tensor(name)
        if self.codes[name] != "bits":
            keys = _keys(flat) if self.codes[name] == "conditional" and flat else None
            yield from coding.decode_blocks(coded, size, keys)
            return
        for start in range(0, size, coding.BLOCK):
            stop = min(start + coding.BLOCK, size)
            yield coding.without_rest(coded[start // 8 : -(-stop // 8)].copy(), stop - start)

    def runs(self, name: str, weights: NDArray[Any] | FlatTensor | None = None) -> Iterator[tuple[int, Bools]]:
        """Give `blocks` as the number of the first entry and True where one stays."""
        first, size = 0, math.prod(self.shapes[name])
        for packed in self.blocks(name, weights):
            run = coding.unpack(packed, 0, min(8 * packed.size, size - first))
            yield first, run
            first += run.size

    def bits(self, name: str, weights: NDArray[Any] | FlatTensor | None = None) -> NDArray[np.uint8]:
        """Read one matrix's mask, eight entries to a byte: as `blocks`, whole."""
        return coding.joined(self.blocks(name, weights), math.prod(self.shapes[name]))

    def keep(self, name: str, weights: NDArray[Any] | FlatTensor | None = None) -> Bools:
        """Read one matrix's mask: True where an entry stays. Else as `blocks`."""
        shape = self.shapes[name]
        return coding.unpack(self.bits(name, weights), 0, math.prod(shape)).reshape(shape)

    def _bad(self, name: str) -> ToolError:
        why = (
            "the base is another one, or the file is damaged" if self.codes[name] == "conditional" else "copy it again"
        )
        return ToolError(f"{self.path}: the bits of {name} are not those that were written; {why}", kind="bad-mask")


def open_mask(path: Path) -> Mask:
    """Open a mask file and check all that it holds against its digests; bits are decoded when asked for.

    Raises
    ------
    ToolError
        It is no mask file, or damaged. Kinds: ``"not-a-mask"``, ``"bad-mask"``, and others of `open_safetensors`.
    """
    about = _read_about(path)
    rest = {key: value for key, value in about.items() if key != "sha256"}
    try:
        if about["sha256"] != _sha256(_text(rest)):
            raise _damaged(path, "its metadata are")
        file = open_safetensors(path)
        size = path.stat().st_size
        if size != max((entry.end for entry in file.entries.values()), default=size):
            raise _damaged(path, "what lies behind its tensors is")
        with of_the_whole_run():
            _check_stored(file, about)
            for name, entry in about["matrices"].items():
                _check_matrix(name, entry, file)
            _check_about(about)
            return Mask(file, about)
    except (KeyError, TypeError, AttributeError, ValueError, RecursionError) as error:
        raise _damaged(path, "its metadata are") from error


def _read_about(path: Path) -> dict[str, Any]:
    """Read what a mask's file says of itself; how to mend a file that never was a mask is of no use."""
    none = ToolError(f"{path}: is no mask; berttools mask-tune writes one", kind="not-a-mask")
    if path.is_dir():
        raise none
    try:
        about = read_metadata(path)
    except ToolError as error:
        if error.kind == "not-safetensors":
            raise none from error
        raise
    if about.get("schema") == DELTA:
        raise ToolError(f"{path}: is a delta, not a mask; use berttools apply-delta", kind="not-a-mask")
    if about.get("schema") != MASK:
        raise none
    return about


def is_mask(path: Path) -> bool:
    """Tell whether a file says that it is a mask; nothing but its header is read."""
    try:
        return path.is_file() and read_metadata(path).get("schema") == MASK
    except (ToolError, OSError):
        return False


def _damaged(path: Path, what: str) -> ToolError:
    return ToolError(f"{path}: damaged: {what} not what was written; copy it again", kind="bad-mask")


def _check_stored(file: SafetensorsFile, about: Mapping[str, Any]) -> None:
    """Refuse a file whose tensors are not those of its metadata."""
    if file.entries.keys() != about["stored_sha256"].keys() or not about["matrices"].keys() <= file.entries.keys():
        raise _damaged(file.path, "the names of its tensors are")
    for name, sha256 in about["stored_sha256"].items():
        if _array_digest(file.tensor(name)) != sha256:
            raise _damaged(file.path, f"{name} is")


def _check_matrix(name: str, entry: Mapping[str, Any], file: SafetensorsFile) -> None:
    """Refuse what no command writes of a matrix: digests may be right and say of nonsense that it is whole."""
    shape, zeroed, stored = entry["shape"], entry["zeroed"], file.entries[name]
    if not (
        isinstance(shape, list)
        and len(shape) >= 2
        and all(map(is_count, shape))
        and is_count(zeroed)
        and zeroed <= math.prod(shape) <= _MOST
        and entry["code"] in CODES[1:]
        and all(_is_digest(entry[key]) for key in ("base_sha256", "bits_sha256"))
        and stored.dtype == "U8"
        and len(stored.shape) == 1
    ):
        raise _damaged(file.path, f"what it says of {name} is")
    if not coding.can_hold(entry["code"], file.tensor(name), math.prod(shape), zeroed):
        raise _damaged(file.path, f"the code of {name} is")


def _check_about(about: Mapping[str, Any]) -> None:
    """Refuse what could not be written beside a model, or not be read back."""
    if not isinstance(about["config"], str) or not isinstance(about["made"], dict):
        raise TypeError("config is no text, or made is no object")
    json.dumps(about, ensure_ascii=False).encode()  # half a surrogate pair has no bytes
    others, tokenizer = about.get("others"), about.get("tokenizer_sha256")
    if others is not None and not (_are_names(others["names"], about) and _is_digest(others["sha256"])):
        raise ValueError("others are no tensors of the base")
    if tokenizer is not None and not _is_digest(tokenizer):
        raise ValueError("the tokenizer's digest is none")
    level: list[Any] = [about["made"]]
    for _ in range(_DEEPEST):
        level = [
            each for some in level if isinstance(some, dict | list)
            for each in (some.values() if isinstance(some, dict) else some)
        ]  # fmt: skip
    if level:
        raise ValueError("made is too deep")


def _are_names(names: object, about: Mapping[str, Any]) -> bool:
    """Tell whether these can be tensors that are not in the file."""
    return (
        isinstance(names, list)
        and all(isinstance(name, str) and name not in about["stored_sha256"] for name in names)
        and len(set(names)) == len(names)
    )


def _is_digest(value: object) -> bool:
    return isinstance(value, str) and re.fullmatch("[0-9a-f]{64}", value) is not None
