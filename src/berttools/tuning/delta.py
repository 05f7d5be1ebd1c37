"""Deltas: the tensors that fine-tuning changed, in one file that restores the model bit for bit."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from _toolio.errors import ToolError
from _toolio.files.hashing import sha256_of
from _toolio.json_text import parse_json
from _toolio.tensors.reader import open_safetensors, read_metadata
from _toolio.tensors.writer import write_safetensors
from berttools.checkpoints.digests import base_digest, tokenizer_digest
from berttools.checkpoints.files import Checkpoint, open_checkpoint
from berttools.checkpoints.model_folder import DELTA, write_model
from berttools.checkpoints.names import base_names
from berttools.masks.metadata import array_sha256, canonical_json

if TYPE_CHECKING:
    from numpy.typing import NDArray


def _as_opened(base: Checkpoint, name: str) -> NDArray[Any]:
    """Return a tensor as a model to fine-tune has it: float32 if it is of any float dtype."""
    import numpy as np

    values = base.flat(name).values(0, base.tensors[name].size)
    values = values.astype(np.float32) if values.dtype.kind == "f" else values
    return values.reshape(base.tensors[name].shape)


def changed_of(tensors: Mapping[str, NDArray[Any]], base: Checkpoint) -> tuple[dict[str, NDArray[Any]], dict[str, str]]:
    """Return a model's tensors that differ from the base, and of the others the base's names."""
    import numpy as np

    same = {}
    for name, stored in base_names(base, {name: array.shape for name, array in tensors.items()}).items():
        before = _as_opened(base, stored)
        # Compared as bytes: -0.0 equals 0.0, and NaN nothing.
        if before.dtype == tensors[name].dtype and before.tobytes() == np.ascontiguousarray(tensors[name]).tobytes():
            same[name] = stored
    return {name: array for name, array in tensors.items() if name not in same}, same


def write_delta(
    out: Path, tensors: Mapping[str, NDArray[Any]], config: str, base: Checkpoint, made: Mapping[str, Any]
) -> None:
    """Write the tensors that differ from the base as one safetensors file.

    Parameters
    ----------
    out
        The file.
    tensors
        All tensors of the model, by the names of its state dict.
    config
        The text of its config.json.
    base
        The base that the other tensors are restored from.
    made
        How the model was made, for its ``berttools.json``; ``base_sha256`` in it is ``base_digest(base)``.

    Raises
    ------
    ToolError
        If it cannot be written.
    """
    changed, same = changed_of(tensors, base)
    about = {
        "schema": DELTA,
        "base_sha256": made["base_sha256"],
        "tokenizer_sha256": tokenizer_digest(base.path),
        "config": config,
        "from_base": same,
        "stored_sha256": {name: array_sha256(array) for name, array in changed.items()},
        "made": made,
    }
    about = json.loads(json.dumps(about))  # as it will be read
    write_safetensors(out, changed, {**about, "sha256": sha256_of(canonical_json(about))})


def apply_delta(base: Path, delta: Path, out: Path) -> dict[str, Any]:
    """Write the model that a delta restores over its base, bit for bit, as a folder.

    Returns
    -------
    dict
        ``from_delta``, ``from_base``: number of values from either; ``tensors``: number of tensors from the delta;
        ``base_sha256``.

    Raises
    ------
    ToolError
        If ``delta`` is no delta, is damaged, or is one of another base.
    """
    about = _about(delta)
    checkpoint = open_checkpoint(base)
    _check_base(base, checkpoint, delta, about)
    with open_safetensors(delta) as file:
        changed = {name: file.tensor(name) for name in file.entries}
        for name in changed.keys() | about["stored_sha256"].keys():
            if name not in changed or array_sha256(changed[name]) != about["stored_sha256"].get(name):
                raise _damaged(delta, f"{name} is")
        same = {name: _as_opened(checkpoint, stored) for name, stored in about["from_base"].items()}
        write_model(out, changed | same, about["config"], base, about["made"])
        return {
            "from_delta": sum(array.size for array in changed.values()),
            "from_base": sum(array.size for array in same.values()),
            "tensors": len(changed),
            "base_sha256": about["base_sha256"],
        }


def _about(delta: Path) -> dict[str, Any]:
    found = read_metadata(delta)
    if found.get("schema") != DELTA:
        raise ToolError(f"{delta}: is no delta", kind="not-a-delta")
    kinds = {"base_sha256": str, "tokenizer_sha256": str, "config": str, "from_base": dict, "made": dict}
    kinds |= {"stored_sha256": dict, "sha256": str}
    if wrong := next((key for key, kind in kinds.items() if not isinstance(found.get(key), kind)), None):
        raise ToolError(f"{delta}: its {wrong} is missing; copy it again", kind="bad-delta")
    try:
        json.dumps(found["made"], allow_nan=False, ensure_ascii=False).encode()  # it will be written beside the model
        whole = isinstance(parse_json(found["config"]), dict) and bool(found["config"].encode())
        said = {key: value for key, value in found.items() if key != "sha256"}
        whole = whole and sha256_of(canonical_json(said)) == found["sha256"]
    except ValueError:
        whole = False
    if not whole or not all(isinstance(name, str) for name in found["from_base"].values()):
        raise _damaged(delta, "what it says of its model is")
    return found


def _damaged(delta: Path, what: str) -> ToolError:
    return ToolError(f"{delta}: damaged: {what} not what was written; copy it again", kind="bad-delta")


def _check_base(base: Path, checkpoint: Checkpoint, delta: Path, about: Mapping[str, Any]) -> None:
    if (sha256 := base_digest(checkpoint)) != about["base_sha256"]:
        raise ToolError(
            f"{delta}: was made from another base: its sha256 is {about['base_sha256'][:12]}, and that of {base} is"
            f" {sha256[:12]}; give that one",
            kind="other-base",
        )
    if tokenizer_digest(base) != about["tokenizer_sha256"]:
        raise ToolError(
            f"{delta}: was made from this base with another tokenizer; give {base} the files that it had then",
            kind="other-base",
        )
    if unknown := next((name for name in about["from_base"].values() if name not in checkpoint.tensors), None):
        raise ToolError(f"{delta}: names {unknown!r}, which {base} lacks; copy it again", kind="bad-delta")
