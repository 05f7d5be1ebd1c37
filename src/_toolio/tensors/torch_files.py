"""Read files of tensors as PyTorch's; nothing in them is run."""

from __future__ import annotations

import pickle
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from _toolio.errors import ToolError, of_the_whole_run
from _toolio.tensors.foreign import advice_about, first_bytes

if TYPE_CHECKING:
    from torch import Tensor


def load_torch(path: Path) -> Any:
    """Read a file that ``torch.save`` wrote, mapped into memory where its kind allows.

    Parameters
    ----------
    path
        ``.pth``, ``.pt``, ``.ckpt``, ``.bin`` or ``.tar``; a zip, or the older kind from before torch 1.6.

    Returns
    -------
    object
        What was saved: tensors on the CPU in dicts and lists.

    Raises
    ------
    ToolError
        Kind ``unsafe-pickle`` or ``unsafe``: only running code from the file could read it. ``unreadable``,
        ``bad-torch-file``: it is damaged or something else.
    """
    if advice := advice_about(first_bytes(path), torchs=True):
        raise ToolError(f"{path}: not a torch file: {advice}", kind="bad-torch-file")
    import torch

    try:
        with warnings.catch_warnings(action="ignore"):  # torch's, about how the file was pickled
            try:
                return torch.load(path, map_location="cpu", weights_only=True, mmap=True)
            except RuntimeError:  # files from before torch 1.6 are no zip and cannot be mapped
                return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise ToolError(
            f"{path}: holds Python objects besides tensors, or is no torch file; it is not opened: where you trust it,"
            " save the weights as safetensors",
            kind="unsafe-pickle",
        ) from error
    except OSError as error:
        raise ToolError(f"{path}: cannot be read: {error.strerror or error}", kind="unreadable") from error
    except (RuntimeError, ValueError, EOFError, KeyError, TypeError, AttributeError, IndexError) as error:
        if "TorchScript" in str(error):
            raise ToolError(f"{path}: a TorchScript archive is code; save its state dict", kind="unsafe") from error
        raise ToolError(f"{path}: not a whole torch file; copy it again", kind="bad-torch-file") from error


def read_tensors(path: Path, wanted: Callable[[str], object] | None = None) -> dict[str, Tensor]:
    """Read the tensors of a safetensors file into memory, with the safetensors library.

    Parameters
    ----------
    path
        The file.
    wanted
        Takes a name, and returns whether to read that tensor; None reads all.

    Returns
    -------
    dict of str to Tensor
        On the CPU, in the order of the file's header. bfloat16 and 8-bit floats as float32, all else as stored.

    Raises
    ------
    ToolError
        It is damaged, or a dtype in it is not known here.
    """
    import torch
    from safetensors import SafetensorError, safe_open

    from _toolio.tensors.reader import open_safetensors

    # Opened here first, where each fault of a header is one line that names the file.
    with open_safetensors(path) as ours, of_the_whole_run():
        names = [name for name in ours.entries if not wanted or wanted(name)]
        for name in names:
            ours.entry(name)
    narrow = (torch.bfloat16, torch.float8_e4m3fn, torch.float8_e5m2, torch.float8_e8m0fnu)
    found = {}
    try:
        with safe_open(path, framework="pt") as file:
            for name in names:
                tensor = file.get_tensor(name)  # a view of the mapped file: what is kept must not change with it
                found[name] = tensor.float() if tensor.dtype in narrow else tensor.clone()
    except SafetensorError as error:  # bytes that belong to no tensor, which the reader here passes over
        why = str(error).rpartition(": ")[2]
        raise ToolError(f"{path}: bad header: {why}; save the file again", kind="bad-header") from error
    return found
