"""Open extractors: built-in ones by name, others from files."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from _toolio.errors import ToolError, UsageError, param
from facetools.extractors.extractor import Extractor

if TYPE_CHECKING:
    import torch

DEFAULT = "dlib-resnet"

DEFAULT_ENSEMBLE = (DEFAULT,)
"""The ensemble that attacks work against by default."""

BUILT_IN = (DEFAULT,)
"""Names that ``open_extractor`` knows; anything else is a file."""


def check_extractor(name: str, parameter: str = "extractor") -> None:
    """Check that an extractor is built in or a file, before anything heavy is imported.

    Raises
    ------
    UsageError
        It is neither; the message names ``parameter``.
    """
    if name not in BUILT_IN and not Path(name).is_file():
        raise UsageError(
            f"{param(parameter)} {name}: neither a file nor one of {', '.join(BUILT_IN)}; "
            "`facetools import-extractor` makes such files"
        )


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
    check_extractor(name)
    if name == DEFAULT:
        from facetools.extractors.architectures import dlib_resnet

        return dlib_resnet.open_default(device)
    from facetools.extractors.files import open_file

    return open_file(Path(name), device)


def open_extractors(names: list[str], device: torch.device) -> list[Extractor]:
    """Open several extractors, each once.

    Raises
    ------
    ToolError
        Two have one name, which distinguishes extractors in records and metadata; and as ``open_extractor``.
    """
    opened = [open_extractor(name, device) for name in dict.fromkeys(names)]
    for extractor in opened:
        if [each.name for each in opened].count(extractor.name) > 1:
            raise ToolError(f"two extractors are called {extractor.name}; rename one of the files", kind="extractor")
    return opened
