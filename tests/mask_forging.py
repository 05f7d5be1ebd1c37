"""Mask files whose digests are right and whose contents are not what any command writes."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from numpy.typing import NDArray
from safetensors.numpy import load_file

from _toolio.tensors.reader import read_metadata
from _toolio.tensors.writer import write_safetensors
from berttools.masks.metadata import array_sha256, canonical_json, sha256_of


def forged(
    mask: Path,
    out: Path,
    change: Callable[[dict[str, Any]], Any] | None = None,
    tensors: Callable[[dict[str, NDArray[Any]]], Any] | None = None,
) -> Path:
    """Write a mask again after ``change`` of its metadata and ``tensors`` of its arrays, all digests made again."""
    about, stored = read_metadata(mask), load_file(mask)
    if tensors:
        tensors(stored)
    about["stored_sha256"] = {name: array_sha256(array) for name, array in stored.items()}
    if change:
        change(about)
    about.pop("sha256", None)
    about["sha256"] = sha256_of(canonical_json(about))
    write_safetensors(out, stored, about)
    return out


def set_config(**fields: Any) -> Callable[[dict[str, Any]], None]:
    """Change the mask's config.json."""

    def change(about: dict[str, Any]) -> None:
        about["config"] = json.dumps({**json.loads(about["config"]), **fields})

    return change
