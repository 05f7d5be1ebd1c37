"""Read files of tensors as PyTorch's; nothing in them is run."""

from __future__ import annotations

import pickle
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from _toolio.errors import ToolError, of_the_whole_run
from _toolio.tensors.foreign import advice_about, first_bytes
from _toolio.tensors.torch_zip import check_members, refuse_byte_arrays

if TYPE_CHECKING:
    from torch import Tensor

_PICKLES = 5
"""A file before torch 1.6 begins with so many: a number, a version, a system, what was saved, and storages' names."""


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

    mapped = _is_zip(path)  # files from before torch 1.6 are none and cannot be mapped
    if mapped:
        check_members(path)
    else:
        _refuse_byte_arrays(path)
    try:
        with warnings.catch_warnings(action="ignore"):  # torch's, about how the file was pickled
            found = torch.load(path, map_location="cpu", weights_only=True, mmap=mapped)
    except pickle.UnpicklingError as error:
        raise ToolError(
            f"{path}: holds Python objects besides tensors, or is no torch file; it is not opened: where you trust it,"
            " save the weights as safetensors",
            kind="unsafe-pickle",
        ) from error
    except OSError as error:
        raise ToolError(f"{path}: cannot be read: {error.strerror or error}", kind="unreadable") from error
    except Exception as error:
        # Of a damaged file torch raises whatever the bytes lead it to: struct.error, AssertionError and a dozen others.
        raise ToolError(f"{path}: not a whole torch file; copy it again", kind="bad-torch-file") from error
    _refuse_tensors_without_values(found, path)
    return found


def _is_zip(path: Path) -> bool:
    return first_bytes(path).startswith(b"PK\x03\x04")


def _refuse_byte_arrays(path: Path) -> None:
    """Refuse a file before torch 1.6 that names ``bytearray``: a few bytes would make one of many gigabytes."""
    try:
        with path.open("rb") as file:
            for _ in range(_PICKLES):
                refuse_byte_arrays(file, path)
    except OSError as error:
        raise ToolError(f"{path}: cannot be read: {error.strerror or error}", kind="unreadable") from error


def _refuse_tensors_without_values(saved: Any, path: Path) -> None:
    """Refuse tensors that would take more memory than the file: one value for many places, or none at all."""
    import torch

    most, seen, waiting = path.stat().st_size, set[int](), [saved]
    while waiting:
        each = waiting.pop()
        if isinstance(each, torch.Tensor):
            size = each.numel() * each.element_size() if each.layout == torch.strided else 0
            if each.device.type != "cpu" or size > most:
                raise ToolError(
                    f"{path}: a tensor of shape {tuple(each.shape)} in it has no values of its own, or one for many"
                    " places; save the weights as safetensors",
                    kind="bad-torch-file",
                )
        elif isinstance(each, dict | list | tuple | set) and id(each) not in seen:
            seen.add(id(each))
            waiting += each.values() if isinstance(each, dict) else each


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
    except SafetensorError as error:  # by a rule that the library alone has
        why = str(error).rpartition(": ")[2]
        raise ToolError(f"{path}: bad header: {why}; save the file again", kind="bad-header") from error
    return found
