"""Open extractors: built-in ones by name, others from files."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from _toolio.errors import ToolError, UsageError
from facetools.extractors.extractor import Extractor

if TYPE_CHECKING:
    import torch

DEFAULT = "dlib-resnet"

DEFAULT_ENSEMBLE = (DEFAULT,)
"""What attacks work against unless told otherwise."""

BUILT_IN = (DEFAULT,)
"""What ``open_extractor`` knows by name; anything else is a file."""


def check_name(name: str) -> str:
    """Refuse an extractor that is neither built in nor a file, before anything heavy is imported."""
    return check_named("--extractor", name)


def check_named(option: str, name: str) -> str:
    """Do so for another option, which the message names."""
    if name not in BUILT_IN and not Path(name).is_file():
        raise UsageError(
            f"{option} {name}: neither a file nor one of {', '.join(BUILT_IN)}; "
            "`facetools import-extractor` makes such files"
        )
    return name


def open_extractor(name: str, device: torch.device) -> Extractor:
    """Open an extractor.

    Parameters
    ----------
    name
        One of ``BUILT_IN``, or a file that ``save_extractor`` wrote.
    device
        Where it computes.

    Raises
    ------
    UsageError
        No extractor has this name.
    ToolError
        Its weights are missing, changed or damaged.
    """
    check_name(name)
    if name == DEFAULT:
        from facetools.extractors.architectures import dlib_resnet

        return dlib_resnet.open_default(device)
    from facetools.extractors.files import open_file

    return open_file(Path(name), device)


def open_extractors(names: list[str], device: torch.device) -> list[Extractor]:
    """Open several extractors; records and metadata tell them apart by name, so names must differ."""
    opened = [open_extractor(name, device) for name in dict.fromkeys(names)]
    for extractor in opened:
        if [each.name for each in opened].count(extractor.name) > 1:
            raise ToolError(f"two extractors are called {extractor.name}; rename one of the files", kind="extractor")
    return opened
