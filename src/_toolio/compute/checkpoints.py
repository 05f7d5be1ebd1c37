"""Training checkpoints: all that the next epoch depends on, in one file."""

from __future__ import annotations

import json
import warnings
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from _toolio.compute.distributed import Processes
from _toolio.errors import ToolError, UsageError, param
from _toolio.files.checkpoint_names import fold_checkpoints
from _toolio.tensors.reader import read_metadata
from _toolio.tensors.torch_files import read_tensors
from _toolio.tensors.writer import write_safetensors

if TYPE_CHECKING:
    import numpy.typing as npt
    from torch import Tensor, nn, optim


def save_training(
    path: Path, parts: Mapping[str, nn.Module], optimizer: optim.Optimizer, about: Mapping[str, Any]
) -> None:
    """Write modules and an optimizer's moments to a file that is whole or absent.

    Parameters
    ----------
    path
        The file to make or to replace.
    parts
        Name to module; all of its state dict is kept.
    optimizer
        Its moments are kept; learning rates and momentum come from the schedule.
    about
        What `load_training` compares and returns: anything JSON can say.
    """
    tensors: dict[str, npt.NDArray[Any]] = {}
    for name, part in parts.items():
        tensors |= {f"{name}.{key}": value.cpu().numpy() for key, value in part.state_dict().items()}
    for number, slots in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{number}.{key}": value.cpu().numpy() for key, value in slots.items()}
    # As it will be read: keys that are numbers become text, and sort otherwise.
    about = json.loads(json.dumps(about))
    write_safetensors(path, tensors, {**about, _CHECKSUM: _checksum(tensors, about)})


_CHECKSUM = "crc32"


def _checksum(tensors: Mapping[str, npt.NDArray[Any]], about: Mapping[str, Any]) -> int:
    """Return the CRC-32 of all that a checkpoint holds: it is to tell damage, and no forgery."""
    import numpy as np

    found = zlib.crc32(json.dumps(about, sort_keys=True).encode())
    for name in sorted(tensors):
        array = tensors[name]
        found = zlib.crc32(f"{name} {array.dtype} {array.shape}".encode(), found)
        found = zlib.crc32(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data, found)
    return found


def load_training(
    path: Path,
    parts: Mapping[str, nn.Module],
    optimizer: optim.Optimizer,
    schedule: optim.lr_scheduler.LRScheduler,
    about: Mapping[str, Any],
    processes: Processes = Processes(),  # noqa: B008 - it is frozen
) -> dict[str, Any]:
    """Restore a checkpoint: load modules and moments, and advance the schedule to its ``step``.

    Of several processes rank 0 reads the file, which the hosts of others need not see.

    Parameters
    ----------
    path
        What ``save_training`` wrote, with the schedule's ``last_epoch`` as ``step``.
    parts, optimizer, schedule
        As constructed, without a step. The schedule's rates follow from the number of the step alone.
    about
        What must be the same; keys that may differ are left out.
    processes
        Which of several processes this is; all of them call this.

    Returns
    -------
    dict
        The file's metadata: ``about`` and what else was kept with it.

    Raises
    ------
    UsageError
        It was made with other arguments or inputs.
    ToolError
        It is damaged or cannot be read.
    """
    found: dict[str, Any] = processes.agree(read_checkpoint(path, about) if processes.leads else None)
    tensors = processes.broadcast(_whole_tensors(path, found) if processes.leads else None)
    try:
        _restore(parts, optimizer, schedule, tensors, found)
    except (KeyError, ValueError, TypeError, IndexError, OverflowError, RuntimeError) as error:
        if "out of memory" in str(error):
            raise
        raise _damaged(path) from error  # by somebody who made the checksum again
    processes.agree(None)
    return {key: value for key, value in found.items() if key != _CHECKSUM}


def _restore(
    parts: Mapping[str, nn.Module],
    optimizer: optim.Optimizer,
    schedule: optim.lr_scheduler.LRScheduler,
    tensors: Mapping[str, Tensor],
    found: Mapping[str, Any],
) -> None:
    for name, part in parts.items():
        part.load_state_dict({k.removeprefix(f"{name}."): v for k, v in tensors.items() if k.startswith(f"{name}.")})
    state = optimizer.state_dict()
    for key, value in tensors.items():
        if key.startswith("optimizer."):
            _, number, slot = key.split(".")
            state["state"].setdefault(int(number), {})[slot] = value
    with warnings.catch_warnings(action="ignore"):  # that the optimizer has made no step: it has, in another run
        if found["step"]:
            schedule.last_epoch = found["step"] - 1
            schedule.step()
    # The schedule has set the learning rate and momentum; only the moments come from the file.
    state["param_groups"] = optimizer.state_dict()["param_groups"]
    optimizer.load_state_dict(state)


def _whole_tensors(path: Path, found: Mapping[str, Any]) -> dict[str, Tensor]:
    """Return a checkpoint's tensors, if they and its metadata are what was written."""
    if _CHECKSUM not in found:
        raise ToolError(f"{path}: a checkpoint of another version; remove it to start again", kind="bad-checkpoint")
    try:
        tensors = read_tensors(path)
    except ToolError as error:
        if error.kind not in _DAMAGE:
            raise
        raise _damaged(path, error.kind) from error
    about = {key: value for key, value in found.items() if key != _CHECKSUM}
    if found[_CHECKSUM] != _checksum({key: value.numpy() for key, value in tensors.items()}, about):
        raise _damaged(path)
    return tensors


_DAMAGE = ("truncated", "not-safetensors", "bad-header", "unknown-dtype")
"""Kinds of errors that damage to a file of tensors leads to."""


def _damaged(path: Path, kind: str = "bad-checkpoint") -> ToolError:
    return ToolError(f"{path}: the checkpoint is empty, cut short or damaged; remove it to start again", kind=kind)


def read_checkpoint(path: Path, about: Mapping[str, Any]) -> dict[str, Any]:
    """Return the metadata of a checkpoint whose training can go on; see `load_training`."""
    found = _read_about(path)
    for key, value in about.items():
        if found.get(key) != value:
            if key == "schema":
                raise UsageError(f"{path}: not a checkpoint of this command; remove it to start again")
            raise UsageError(
                f"{path}: made with other {key}{_difference(found.get(key), value)}; remove it to start again"
            )
    return found


def _read_about(path: Path) -> dict[str, Any]:
    """Read a checkpoint's metadata; of a damaged checkpoint there is no copy, so the message advises to remove it."""
    try:
        return read_metadata(path)
    except ToolError as error:
        if error.kind not in _DAMAGE:
            raise
        raise _damaged(path, error.kind) from error


def how_far(path: Path) -> tuple[int, int, str] | None:
    """Return how far a training came that was cut off.

    Its checkpoint says so: ``epoch``, or else ``step``, and among its ``arguments`` how many ``epochs`` or ``steps``
    there will be. With ``folds`` as many trainings come before the last one, whose checkpoints lie beside it.

    Returns
    -------
    done, total, unit
        Epochs, or steps where these alone are counted, and the word for one. None: nothing is kept, or it is damaged.
    """
    try:
        found = [_read_about(each) for each in (path, *fold_checkpoints(path)) if each.exists()]
        if not found:
            return None
        unit, arguments = "epoch" if "epoch" in found[0] else "step", found[0]["arguments"]
        each, folds, done = arguments[f"{unit}s"], arguments.get("folds", 0), [about[unit] for about in found]
        if not all(type(number) is int for number in (each, folds, *done)):
            return None
        return sum(done), each * (1 + folds), unit
    except (ToolError, KeyError, TypeError, AttributeError):
        return None  # another's, or cut short: going on from it would be refused


def figures_of(out: Path, about: Mapping[str, Any]) -> dict[str, Any]:
    """Return the figures of a training that is done, if it was made with these arguments.

    Raises
    ------
    UsageError
        The file was made with other arguments or inputs.
    """
    return figures_in(read_metadata(out), out, about)


def figures_in(found: Mapping[str, Any], out: Path, about: Mapping[str, Any]) -> dict[str, Any]:
    """Return the figures in the metadata of a file or folder, as `figures_of` does."""
    for key, value in about.items():
        if found.get(key) != value:
            raise UsageError(
                f"{param('out')} {out}: made with other {key}{_difference(found.get(key), value)}; give another file,"
                f" or {param('force')}"
            )
    figures: dict[str, Any] = found["figures"]
    return figures


def _difference(was: Any, now: Any) -> str:
    """Name the first of several arguments that differs."""
    if not isinstance(was, dict) or not isinstance(now, dict):
        return ""
    name = next(name for name in {**was, **now} if was.get(name) != now.get(name))
    return f" ({name} was {was.get(name)!a}, and is {now.get(name)!a})"
