"""Describe built-in extractors, architectures and extractor files."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from _toolio.errors import ToolError
from _toolio.files.hashing import sha256_of_files
from facetools.extractors.factory import BUILT_IN, open_extractor
from facetools.extractors.files import read_about
from facetools.extractors.registry import architectures, find_architecture


def built_in() -> Iterator[dict[str, Any]]:
    """Yield the fields of a record for each built-in extractor, after opening it; where that fails, the reason."""
    for name in BUILT_IN:
        about: dict[str, Any] = {"dimensions": None, "kind": "built-in", "name": name}
        try:
            found = open_extractor(name, torch.device("cpu"))
        except ToolError as error:
            yield {**about, "installed": False, "reason": error.message}
            continue
        about |= {"dimensions": found.dimensions, "architecture": found.architecture, "installed": True}
        yield {**about, "settings": asdict(found.settings), "sha256": found.sha256}


def known_architectures() -> Iterator[dict[str, Any]]:
    """Yield the fields of a record for each architecture; one is installed if the packages that it needs are."""
    for name in architectures():
        module: Any = find_architecture(name)
        missing = [package for package in getattr(module, "REQUIRES", ()) if not importlib.util.find_spec(package)]
        about: dict[str, Any] = {"dimensions": None, "kind": "architecture", "name": name, "architecture": name}
        about |= {"installed": not missing, "summary": (module.__doc__ or "").strip().splitlines()[0].rstrip(".")}
        about["settings"] = asdict(module.SETTINGS)
        yield about if not missing else {**about, "reason": f"needs the packages {', '.join(missing)}"}


def describe_file(path: Path) -> dict[str, Any]:
    """Return the fields of an extractor file's record from its metadata; its tensors are not read.

    Raises
    ------
    ToolError
        It is not an extractor file.
    """
    about = read_about(path)
    fields = {"dimensions": about.get("dimensions"), "kind": "file", "name": path.stem, "file": str(path)}
    fields |= {key: about.get(key) for key in ("architecture", "settings", "source", "version")}
    return fields | {"sha256": sha256_of_files(path), "bytes": path.stat().st_size}
